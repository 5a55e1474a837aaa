//! What must happen in the new process before it becomes the child. The only unsafe code of the daemon beside `memory.rs`.
//!
//! Between fork and exec only async-signal-safe calls are allowed: no allocation, no locks, nothing of Rust's runtime.

use std::process::Command;

/// Has the process do, between fork and exec: die with the daemon, inherit nothing but its three pipes.
///
/// Dying with the daemon is tied to the *thread* that spawns: it must live as long as the daemon does.
#[cfg(target_os = "linux")]
pub(super) fn prepare(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    let daemon = std::process::id();
    #[expect(unsafe_code, reason = "a process can only ask for these things itself")]
    // SAFETY: the closure runs in the forked process and makes nothing but async-signal-safe system calls on values of
    // its own; it neither allocates nor touches memory shared with other threads.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            // The daemon may have died before the line above: then this process has another parent already.
            if u32::try_from(libc::getppid()) != Ok(daemon) {
                libc::_exit(1);
            }
            // Whoever started the daemon may have left files open. They are closed at exec, not now: through one of
            // them the standard library reports a failing exec. A kernel before 5.11 leaves them open.
            libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            Ok(())
        });
    }
}

/// Elsewhere a child learns of the daemon's death from the end of its input alone.
#[cfg(not(target_os = "linux"))]
pub(super) fn prepare(_command: &mut Command) {}
