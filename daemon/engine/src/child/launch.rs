//! Starting a program as the leader of a process group of its own, with three pipes. The only unsafe code of the daemon
//! beside `memory.rs`.
//!
//! On Linux the new process has something to do before it becomes the program, and does it in the daemon's memory, while the
//! thread that starts it waits: what `posix_spawn` does, which has no words for our wishes. The standard library forks where
//! there are wishes. A fork shares every page, which takes milliseconds for each 100 MB, in which nobody else may map
//! memory, and a page fault at the next write to each of them: a thousand children in a row cost their leases.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::Pid;

/// A program that runs: our ends of its pipes.
pub(super) struct Launched {
    pub(super) pid: Pid,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Starts a program, looked for on `PATH` as `execvp` does, with the daemon's environment and directory. On Linux it dies
/// with the daemon, and inherits nothing but its pipes.
///
/// Dying with the daemon is tied to the *thread* that calls this: it must live as long as the daemon does.
pub(super) fn launch<'a>(
    program: &OsStr,
    arguments: impl Iterator<Item = &'a OsStr>,
) -> io::Result<Launched> {
    platform::launch(program, arguments)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::ffi::{CString, OsStr, c_char, c_int, c_void};
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsRawFd, OwnedFd, RawFd};
    use std::os::unix::ffi::OsStrExt;
    use std::ptr;
    use std::sync::atomic::{AtomicI32, Ordering};

    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    use super::Launched;

    /// For what runs before the program does. `execvp` puts one path there, and for a script the list of arguments.
    const STACK_BYTES: usize = 256 * 1024;
    /// The last of them on Linux.
    const SIGNAL_MAX: c_int = 64;

    /// What the new process needs, made before it is there: it must not allocate.
    struct Plan {
        program: CString,
        /// Ends with a null pointer.
        argv: Vec<*const c_char>,
        /// What becomes its standard input, output and error.
        ends: [RawFd; 3],
        daemon: libc::pid_t,
        /// Why it could not become the program, as an error number.
        failure: AtomicI32,
    }

    pub(super) fn launch<'a>(
        program: &OsStr,
        arguments: impl Iterator<Item = &'a OsStr>,
    ) -> io::Result<Launched> {
        let program = CString::new(program.as_bytes())?;
        let arguments: Vec<CString> = arguments
            .map(|word| CString::new(word.as_bytes()))
            .collect::<Result<_, _>>()?;
        // All of them are closed in the program: `std::io::pipe` sees to that.
        let ((its_in, our_in), (our_out, its_out), (our_err, its_err)) =
            (io::pipe()?, io::pipe()?, io::pipe()?);
        let words = std::iter::once(&program)
            .chain(&arguments)
            .map(|word| word.as_ptr());
        let plan = Plan {
            argv: words.chain([ptr::null()]).collect(),
            program: program.clone(),
            ends: [its_in.as_raw_fd(), its_out.as_raw_fd(), its_err.as_raw_fd()],
            daemon: libc::pid_t::try_from(std::process::id()).map_err(io::Error::other)?,
            failure: AtomicI32::new(0),
        };
        let pid = start(&plan)?;
        match plan.failure.load(Ordering::Relaxed) {
            0 => Ok(Launched {
                pid,
                stdin: OwnedFd::from(our_in),
                stdout: OwnedFd::from(our_out),
                stderr: OwnedFd::from(our_err),
            }),
            failure => {
                waitid(WaitId::Pid(pid), WaitIdOptions::EXITED)?;
                Err(io::Error::from_raw_os_error(failure))
            }
        }
    }

    /// Returns when the new process has become the program, or has ended.
    #[expect(unsafe_code, reason = "the standard library can only fork here")]
    fn start(plan: &Plan) -> io::Result<Pid> {
        let mut stack: Vec<u128> = Vec::with_capacity(STACK_BYTES / size_of::<u128>());
        let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are written before they are read. The new process runs `become_program` on a stack of its own that,
        // like the plan, lives until `clone` returns, which CLONE_VFORK puts off until that process no longer uses this
        // memory. No handler of a signal can run in it, as it would run in the daemon's memory: until it has removed
        // them, it gets no signal.
        let (pid, error) = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            let pid = libc::clone(
                become_program,
                top.cast(),
                libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
                ptr::from_ref(plan).cast_mut().cast(),
            );
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
            (pid, error)
        };
        Pid::from_raw(pid).filter(|_| pid > 0).ok_or(error)
    }

    /// The new process, in the daemon's memory: only calls that are safe in a handler of a signal are allowed. No allocation, no
    /// locks, nothing of Rust's runtime.
    #[expect(unsafe_code, reason = "a process can only ask for these things itself")]
    extern "C" fn become_program(plan: *mut c_void) -> c_int {
        // SAFETY: it is the plan that `start` has passed, which is there until this process is the program or has ended, and
        // nothing but async-signal-safe system calls is made with it.
        unsafe {
            let plan = &*plan.cast::<Plan>();
            let _failed = try_to_become(plan);
            let error = io::Error::last_os_error().raw_os_error();
            plan.failure
                .store(error.unwrap_or(libc::EINVAL), Ordering::Relaxed);
            libc::_exit(127)
        }
    }

    /// Comes back only where something fails; `errno` says why.
    #[expect(unsafe_code, reason = "a process can only ask for these things itself")]
    unsafe fn try_to_become(plan: &Plan) -> c_int {
        // SAFETY: see `become_program`.
        unsafe {
            if libc::setpgid(0, 0) != 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return -1;
            }
            // The daemon may have died before the line above: then this process has another parent already.
            if libc::getppid() != plan.daemon {
                libc::_exit(1);
            }
            for (number, end) in (0..).zip(plan.ends) {
                if libc::dup2(end, number) < 0 {
                    return -1;
                }
            }
            // Whoever started the daemon may have left files open. A kernel before 5.11 leaves them open.
            libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            // What was ignored stays ignored, but for what Rust's runtime ignores.
            let mut signal = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
            for number in 1..=SIGNAL_MAX {
                let is_known = libc::sigaction(number, ptr::null(), &raw mut signal) == 0;
                let is_ignored = signal.sa_sigaction == libc::SIG_IGN && number != libc::SIGPIPE;
                if is_known && signal.sa_sigaction != libc::SIG_DFL && !is_ignored {
                    signal.sa_sigaction = libc::SIG_DFL;
                    libc::sigaction(number, &raw const signal, ptr::null_mut());
                }
            }
            let mut none = MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
            libc::execvp(plan.program.as_ptr(), plan.argv.as_ptr())
        }
    }
}

/// Elsewhere a child learns of the daemon's death from the end of its input alone.
#[cfg(not(target_os = "linux"))]
mod platform {
    use std::ffi::OsStr;
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use rustix::process::Pid;

    use super::Launched;

    pub(super) fn launch<'a>(
        program: &OsStr,
        arguments: impl Iterator<Item = &'a OsStr>,
    ) -> io::Result<Launched> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let missing = || io::Error::other("a pipe of the child is missing");
        Ok(Launched {
            pid: Pid::from_child(&child),
            stdin: child.stdin.take().ok_or_else(missing)?.into(),
            stdout: child.stdout.take().ok_or_else(missing)?.into(),
            stderr: child.stderr.take().ok_or_else(missing)?.into(),
        })
    }
}
