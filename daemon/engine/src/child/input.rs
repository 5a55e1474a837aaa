//! The pipe into a child, and how much it holds.
//!
//! A batch of 10 MB goes through a pipe of 64 KB in two hundred turns, and daemon and child wait for each other in each
//! of them. Owns the decision which pipes are larger, for how long: the kernel allows a user so much in all
//! (`pipe-user-pages-soft`, 64 MB), and makes the pipes of who has taken it no larger than 8 KB.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, DuplexStream};
use tokio::process::ChildStdin;
use tokio::sync::{Semaphore, SemaphorePermit};

/// So much does the pipe of a child hold that gets long lines. More does not help.
const WIDE_BYTES: usize = 512 * 1024;
/// A longer line is worth it.
const LONG_BYTES: usize = WIDE_BYTES;
/// A pipe stays wide while no line is shorter: as much as any pipe holds.
const SHORT_BYTES: usize = 64 * 1024;
/// Wide pipes at a time, in this process: an eighth of what the kernel allows a user.
static WIDE_PIPES: Semaphore = Semaphore::const_new(16);

/// A child's standard input.
pub trait ChildInput: AsyncWrite + Send + Unpin {
    /// A batch of about so many bytes is what is written next.
    fn announce(&mut self, bytes: usize);
}

impl ChildInput for DuplexStream {
    fn announce(&mut self, _: usize) {}
}

/// A pipe that is wide while long lines go through it.
pub(super) struct InputPipe {
    pipe: ChildStdin,
    wide_pipes: &'static Semaphore,
    wide: Option<Wide>,
}

struct Wide {
    /// What the pipe held before.
    before: usize,
    _permit: SemaphorePermit<'static>,
}

impl InputPipe {
    pub(super) fn new(pipe: ChildStdin) -> Self {
        Self {
            pipe,
            wide_pipes: &WIDE_PIPES,
            wide: None,
        }
    }

    /// `None`: the kernel, or the others that are wide, leave no room for it. Then it stays as it is.
    fn widen(&self) -> Option<Wide> {
        let permit = self.wide_pipes.try_acquire().ok()?;
        let before = size::of(&self.pipe).ok().filter(|bytes| *bytes < WIDE_BYTES)?;
        size::set(&self.pipe, WIDE_BYTES).ok()?;
        Some(Wide {
            before,
            _permit: permit,
        })
    }
}

impl ChildInput for InputPipe {
    fn announce(&mut self, bytes: usize) {
        match &self.wide {
            None if bytes > LONG_BYTES => self.wide = self.widen(),
            // One with something in it stays wide: its child has answered without reading everything.
            Some(wide) if bytes <= SHORT_BYTES && size::set(&self.pipe, wide.before).is_ok() => {
                self.wide = None
            }
            None | Some(_) => {}
        }
    }
}

impl AsyncWrite for InputPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(context)
    }
}

/// What a pipe holds, in bytes.
#[cfg(target_os = "linux")]
mod size {
    use rustix::io::Result;
    use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
    use tokio::process::ChildStdin;

    pub(super) fn of(pipe: &ChildStdin) -> Result<usize> {
        fcntl_getpipe_size(pipe)
    }

    pub(super) fn set(pipe: &ChildStdin, bytes: usize) -> Result<usize> {
        fcntl_setpipe_size(pipe, bytes)
    }
}

/// Other systems choose by themselves.
#[cfg(not(target_os = "linux"))]
mod size {
    use rustix::io::{Errno, Result};
    use tokio::process::ChildStdin;

    pub(super) fn of(_: &ChildStdin) -> Result<usize> {
        Err(Errno::NOTSUP)
    }

    pub(super) fn set(_: &ChildStdin, _: usize) -> Result<usize> {
        Err(Errno::NOTSUP)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Stdio;

    use tokio::io::AsyncWriteExt;
    use tokio::process::{Child, Command};

    use super::*;

    const LONG: usize = LONG_BYTES + 1;

    /// A child that reads nothing, and a pipe into it that shares `wide_pipes`.
    fn reads_nothing(wide_pipes: &'static Semaphore) -> (InputPipe, Child) {
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pipe = InputPipe {
            wide_pipes,
            ..InputPipe::new(child.stdin.take().unwrap())
        };
        (pipe, child)
    }

    fn holds(input: &InputPipe) -> usize {
        size::of(&input.pipe).unwrap()
    }

    #[tokio::test]
    async fn a_pipe_is_wide_from_a_long_line_to_a_short_one() {
        static WIDE: Semaphore = Semaphore::const_new(1);
        let (mut input, _child) = reads_nothing(&WIDE);
        let usual = holds(&input);
        assert!(usual < WIDE_BYTES);
        for (bytes, expected) in [
            (0, usual),
            (LONG_BYTES, usual),
            (LONG, WIDE_BYTES),
            (SHORT_BYTES + 1, WIDE_BYTES),
            (20 * LONG, WIDE_BYTES),
            (SHORT_BYTES, usual),
            (LONG, WIDE_BYTES),
        ] {
            input.announce(bytes);
            assert_eq!(holds(&input), expected, "before a line of {bytes} bytes");
        }
    }

    #[tokio::test]
    async fn only_some_pipes_are_wide_at_a_time() {
        static WIDE: Semaphore = Semaphore::const_new(1);
        let (mut first, _child) = reads_nothing(&WIDE);
        let (mut second, _other_child) = reads_nothing(&WIDE);
        let usual = holds(&first);
        first.announce(LONG);
        second.announce(LONG);
        assert_eq!((holds(&first), holds(&second)), (WIDE_BYTES, usual));
        first.announce(0);
        second.announce(LONG);
        assert_eq!((holds(&first), holds(&second)), (usual, WIDE_BYTES));
        drop(second);
        first.announce(LONG);
        assert_eq!(holds(&first), WIDE_BYTES);
    }

    #[tokio::test]
    async fn a_pipe_with_something_in_it_stays_wide_and_loses_nothing() {
        static WIDE: Semaphore = Semaphore::const_new(1);
        let (mut input, _child) = reads_nothing(&WIDE);
        let usual = holds(&input);
        input.announce(LONG);
        input.write_all(&vec![b'x'; 2 * usual]).await.unwrap();
        input.announce(0);
        assert_eq!((holds(&input), WIDE.available_permits()), (WIDE_BYTES, 0));
    }
}
