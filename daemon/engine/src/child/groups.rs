//! The process groups of all children, so that none of them outlives the daemon.
//!
//! Owns who is to be killed when the daemon ends without having ended them: by itself ([`kill_all`]), or, when it cannot
//! any more, by a guard. That is a shell that reads the groups from a pipe and kills what is left of them when the pipe ends,
//! which it does whatever happens to the daemon. On Linux the kernel kills a child itself at once (`launch`); the
//! guard is for what the child started, and for other systems.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// Reads `+ GROUP` and `- GROUP`, a line each. Not meant to notice signals that are sent to everything around it.
const GUARD: &str = r#"trap '' HUP INT TERM
groups=' '
while read -r sign group; do
    case $sign in
        +) groups="$groups$group " ;;
        -) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done"#;

static GROUPS: Mutex<Groups> = Mutex::new(Groups {
    alive: BTreeSet::new(),
    guard: Guard::NotStarted,
});

struct Groups {
    /// A group stays in here until its leader is about to be reaped: until then the number means nobody else.
    alive: BTreeSet<i32>,
    guard: Guard,
}

enum Guard {
    NotStarted,
    Listening(ChildStdin),
    /// It could not be started, or is gone.
    Missing,
}

/// A child has been started as the leader of this group.
pub(super) fn add(group: Pid) {
    with_groups(|groups| {
        if matches!(groups.guard, Guard::NotStarted) {
            groups.guard = start().map_or_else(without_guard, Guard::Listening);
        }
        groups.alive.insert(group.as_raw_nonzero().get());
        groups.tell('+', group);
    });
}

/// The leader of this group is about to be reaped.
pub(super) fn remove(group: Pid) {
    with_groups(|groups| {
        groups.alive.remove(&group.as_raw_nonzero().get());
        groups.tell('-', group);
    });
}

/// Kills every child, and every process in its group, that is still there. For the moment before the daemon exits
/// without having ended them one by one.
pub fn kill_all() {
    with_groups(|groups| {
        for group in groups.alive.iter().copied().filter_map(Pid::from_raw) {
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
    });
}

fn with_groups(act: impl FnOnce(&mut Groups)) {
    act(&mut GROUPS.lock().unwrap_or_else(PoisonError::into_inner));
}

impl Groups {
    fn tell(&mut self, sign: char, group: Pid) {
        if let Guard::Listening(pipe) = &mut self.guard
            && let Err(error) = pipe.write_all(format!("{sign} {}\n", group.as_raw_nonzero()).as_bytes())
        {
            self.guard = without_guard(error);
        }
    }
}

fn without_guard(error: io::Error) -> Guard {
    tracing::debug!(%error, "no guard: if the daemon is killed, what its children have started is not");
    Guard::Missing
}

fn start() -> io::Result<ChildStdin> {
    let mut guard = Command::new("/bin/sh")
        .args(["-c", GUARD, "multilangd-guard"])
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null()) // nor may it keep open what the daemon writes to
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let pipe = guard.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    rustix::io::ioctl_fionbio(&pipe, true)?; // a guard that is stopped must not stop the daemon
    Ok(pipe)
}
