//! Real processes: started from one long-lived thread, each in a process group of its own, and never left behind.
//!
//! Owns starting, signalling and reaping. An ended child stays a zombie until its [`Process`] is dropped, so that its
//! process group's number cannot come to mean somebody else while it may still be signalled.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use multilangd_core::ids::ShardId;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::input::InputPipe;
use super::launch::{Launched, launch};
use super::{Process, Spawn, Spawned, groups};

/// Starts the program of `executableName`. Environment and working directory are the daemon's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildCommand {
    argv: Vec<String>,
}

impl ChildCommand {
    /// The program and its arguments, as split from `executableName`.
    pub fn new(argv: Vec<String>) -> Self {
        Self { argv }
    }

    /// Where the program is, as `exec` would find it: a name with a `/` as it stands, another one on `PATH`. The error
    /// says what was looked for, and where.
    pub fn program_path(&self) -> io::Result<PathBuf> {
        let program = self.argv.first().map_or("", String::as_str);
        let path = std::env::var_os("PATH").unwrap_or_else(|| ":/bin:/usr/bin".into());
        find(program, &path)
    }

    fn launch(&self, program: &OsStr, first_argument: Option<&OsStr>) -> io::Result<Launched> {
        let arguments = self.argv.iter().skip(1).map(OsStr::new);
        launch(program, first_argument.into_iter().chain(arguments))
    }

    /// Runs on the spawning thread.
    fn start(&self) -> io::Result<Started> {
        let program = self.argv.first().map_or("", String::as_str);
        let started = match self.launch(program.as_ref(), None) {
            // A script without `#!`. Some C libraries do this themselves, as the JDK does; some do not.
            Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => self
                .program_path()
                .and_then(|script| self.launch("/bin/sh".as_ref(), Some(script.as_os_str()))),
            other => other,
        };
        match started {
            Ok(launched) => Ok(Started {
                process: RealProcess::new(launched.pid),
                stdin: launched.stdin.into(),
                stdout: launched.stdout.into(),
                stderr: launched.stderr.into(),
            }),
            Err(error) => {
                let reason = match self.program_path() {
                    Ok(path) => format!("cannot run {}: {error}", path.display()),
                    Err(not_found) => not_found.to_string(),
                };
                Err(io::Error::new(error.kind(), reason))
            }
        }
    }
}

fn find(program: &str, path: &OsStr) -> io::Result<PathBuf> {
    let is_program = |path: &Path| {
        path.metadata()
            .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    if program.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "cannot run a program with an empty name",
        ));
    }
    if program.contains('/') {
        let found = PathBuf::from(program);
        return if is_program(&found) {
            Ok(found)
        } else if found.exists() {
            let reason = format!("'{program}' is not an executable file (chmod +x?)");
            Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
        } else {
            let here = std::env::current_dir().unwrap_or_default();
            let reason = format!("there is no file '{program}' (seen from {})", here.display());
            Err(io::Error::new(io::ErrorKind::NotFound, reason))
        };
    }
    let candidates = path.as_bytes().split(|byte| *byte == b':').map(|directory| {
        let directory = if directory.is_empty() {
            b".".as_slice()
        } else {
            directory
        };
        Path::new(OsStr::from_bytes(directory)).join(program)
    });
    for candidate in candidates {
        if is_program(&candidate) {
            return Ok(candidate);
        }
    }
    let reason = format!("there is no program '{program}' on PATH ({})", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, reason))
}

#[async_trait]
impl Spawn for ChildCommand {
    async fn spawn(&self, _shard: &ShardId) -> io::Result<Spawned> {
        // Before it starts: if the daemon was made to ignore this signal, the kernel would reap the child in its place.
        drop(signal(SignalKind::child())?);
        let (reply, answer) = oneshot::channel();
        let request = Request {
            command: self.clone(),
            reply,
        };
        let gone = || io::Error::other("the thread that starts children is gone");
        spawner()?.send(request).await.map_err(|_| gone())?;
        let started = answer.await.map_err(|_| gone())??;
        Ok(Spawned {
            stdin: Box::new(InputPipe::new(ChildStdin::from_std(started.stdin)?)),
            stdout: Box::new(ChildStdout::from_std(started.stdout)?),
            stderr: Box::new(ChildStderr::from_std(started.stderr)?),
            process: Box::new(started.process),
        })
    }
}

struct Request {
    command: ChildCommand,
    /// If nobody waits any more, the process comes back, is dropped and thereby killed.
    reply: oneshot::Sender<io::Result<Started>>,
}

struct Started {
    process: RealProcess,
    stdin: std::process::ChildStdin,
    stdout: std::process::ChildStdout,
    stderr: std::process::ChildStderr,
}

/// The thread that all children are started from. It never ends: the kernel kills its children with it.
fn spawner() -> io::Result<mpsc::Sender<Request>> {
    /// Starting takes a millisecond or two; whoever comes on top of this many waits.
    const WAITING_MAX: usize = 16;
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());

    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner.clone());
    }
    let (requests, mut queue) = mpsc::channel::<Request>(WAITING_MAX);
    std::thread::Builder::new()
        .name("children".to_owned())
        .spawn(move || {
            while let Some(request) = queue.blocking_recv() {
                let started = request.command.start();
                drop(request.reply.send(started));
            }
        })?;
    Ok(SPAWNER.get_or_init(|| requests).clone())
}

/// A child that runs, or has ended and not been reaped. Dropping it kills its group.
struct RealProcess {
    /// The process, and its group.
    pid: Pid,
    exit_code: Option<i32>,
    /// Rings when any child has ended. Kept, because this one is listened for between any two batches.
    ends: Option<tokio::signal::unix::Signal>,
}

impl RealProcess {
    fn new(pid: Pid) -> Self {
        groups::add(pid);
        Self {
            pid,
            exit_code: None,
            ends: None,
        }
    }

    fn signal(&self, signal: Signal) {
        match kill_process_group(self.pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                tracing::warn!(pid = %self.pid, %error, "the child's process group cannot be signalled")
            }
        }
    }

    /// The exit code, if it has ended. Leaves the zombie where it is.
    fn poll_exit(&mut self) -> io::Result<Option<i32>> {
        if self.exit_code.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if let Some(status) = waitid(WaitId::Pid(self.pid), options)? {
                self.exit_code = status
                    .exit_status()
                    .or_else(|| status.terminating_signal().map(|signal| 128 + signal));
            }
        }
        Ok(self.exit_code)
    }
}

#[async_trait]
impl Process for RealProcess {
    fn id(&self) -> Option<u32> {
        u32::try_from(self.pid.as_raw_nonzero().get()).ok()
    }

    async fn wait(&mut self) -> io::Result<i32> {
        if self.ends.is_none() {
            self.ends = Some(signal(SignalKind::child())?); // before the first look, so that no end is missed
        }
        loop {
            if let Some(code) = self.poll_exit()? {
                return Ok(code);
            }
            if let Some(ends) = &mut self.ends {
                ends.recv().await;
            }
        }
    }

    fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Drop for RealProcess {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        groups::remove(self.pid);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if matches!(waitid(WaitId::Pid(self.pid), options), Ok(None)) {
            // Killed, but not gone yet: that takes the kernel a moment, or longer if the child hangs in a system call.
            let pid = self.pid;
            let reaper = std::thread::Builder::new().name("reaper".to_owned());
            let reaped = reaper.spawn(move || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED).is_ok());
            if let Err(error) = reaped {
                tracing::warn!(%pid, %error, "a killed child stays a zombie");
            }
        }
    }
}

#[cfg(test)]
mod tests;
