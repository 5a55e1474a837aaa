use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::*;

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(30);

fn command(argv: &[&str]) -> ChildCommand {
    ChildCommand::new(argv.iter().map(|word| (*word).to_owned()).collect())
}

async fn spawn(argv: &[&str]) -> io::Result<Spawned> {
    command(argv).spawn(&"shardId-000000000000".into()).await
}

/// What the program prints until it ends.
async fn output(argv: &[&str]) -> String {
    let mut child = spawn(argv).await.unwrap();
    let mut text = String::new();
    timeout(SOON, child.stdout.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    text
}

fn script(directory: &Directory, name: &str, text: &str, mode: u32) -> String {
    let path = directory.0.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The parent and the process group of a process; `None` if it is gone or a zombie.
fn family(pid: u32) -> Option<(u32, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    // One that is just being reaped has no group any more, but -1.
    let group = fields[2].parse().ok()?;
    (fields[0] != "Z").then(|| (fields[1].parse().unwrap(), group))
}

/// Waits for a process that is not ours to be gone.
async fn is_gone(pid: u32) {
    let gone = async {
        while family(pid).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone)
        .await
        .unwrap_or_else(|_| panic!("process {pid} is still there"));
}

#[tokio::test]
async fn arguments_arrive_as_they_were_split() {
    assert_eq!(
        output(&["printf", "[%s]", "a b", "\"my", "", "$HOME", "*"]).await,
        "[a b][\"my][][$HOME][*]"
    );
}

#[tokio::test]
async fn the_working_directory_is_the_daemons() {
    let here = std::env::current_dir().unwrap();
    assert_eq!(output(&["pwd"]).await.trim_end(), here.to_str().unwrap());
}

#[tokio::test]
async fn the_environment_is_the_daemons() {
    let path = std::env::var("PATH").unwrap();
    assert_eq!(output(&["sh", "-c", "printf %s \"$PATH\""]).await, path);
}

#[tokio::test]
async fn exit_codes_are_reported_and_signals_counted_from_128() {
    let mut exits = spawn(&["sh", "-c", "exit 7"]).await.unwrap();
    assert_eq!(timeout(SOON, exits.process.wait()).await.unwrap().unwrap(), 7);
    assert_eq!(
        timeout(SOON, exits.process.wait()).await.unwrap().unwrap(),
        7,
        "again"
    );
    let mut killed = spawn(&["sh", "-c", "kill -SEGV $$"]).await.unwrap();
    assert_eq!(
        timeout(SOON, killed.process.wait()).await.unwrap().unwrap(),
        128 + 11
    );
}

#[tokio::test]
async fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let directory = Directory::new();
    let script = script(&directory, "app", "echo \"$1 from $0\"\n", 0o755);
    assert_eq!(
        output(&[&script, "hello"]).await,
        format!("hello from {script}\n")
    );
}

#[tokio::test]
async fn a_missing_program_is_an_error_that_says_where_it_was_looked_for() {
    let error = spawn(&["no-such-program-here"]).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let path = std::env::var("PATH").unwrap();
    assert_eq!(
        error.to_string(),
        format!("there is no program 'no-such-program-here' on PATH ({path})")
    );

    let error = spawn(&["./no-such-file"]).await.err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("there is no file './no-such-file' (seen from /"),
        "{error}"
    );
}

#[tokio::test]
async fn an_empty_name_is_no_program() {
    assert_eq!(
        spawn(&["", "x"]).await.err().unwrap().to_string(),
        "cannot run a program with an empty name"
    );
}

#[tokio::test]
async fn a_file_that_is_not_executable_is_an_error_that_says_so() {
    let directory = Directory::new();
    let script = script(&directory, "app", "#!/bin/sh\n", 0o644);
    let error = spawn(&[&script]).await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(
        error.to_string(),
        format!("'{script}' is not an executable file (chmod +x?)")
    );
}

#[tokio::test]
async fn a_missing_interpreter_is_told_from_a_missing_program() {
    let directory = Directory::new();
    let script = script(&directory, "app", "#!/no/such/interpreter\n", 0o755);
    let error = spawn(&[&script]).await.err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot run {script}: No such file or directory")),
        "{error}"
    );
}

#[test]
fn a_plain_name_is_looked_for_on_path_and_one_with_a_slash_is_not() {
    let directory = Directory::new();
    let script = script(&directory, "app", "", 0o755);
    let path = format!("/nowhere:{}", directory.0.display());
    assert_eq!(find("app", OsStr::new(&path)).unwrap(), PathBuf::from(&script));
    assert!(find("./app", OsStr::new(&path)).is_err());
    assert_eq!(
        find(&script, OsStr::new("/nowhere")).unwrap(),
        PathBuf::from(&script)
    );
}

#[test]
fn a_directory_is_no_program() {
    assert_eq!(
        find("/tmp", OsStr::new("")).unwrap_err().kind(),
        io::ErrorKind::PermissionDenied
    );
}

#[tokio::test]
async fn a_child_leads_a_process_group_of_its_own() {
    let child = spawn(&["sleep", "60"]).await.unwrap();
    let pid = child.process.id().unwrap();
    assert_eq!(
        family(pid),
        Some((std::process::id(), pid)),
        "a Ctrl-C for our group does not reach it"
    );
}

#[tokio::test]
async fn a_child_gets_nothing_but_its_three_pipes() {
    let leaked = File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(leaked.as_fd(), rustix::io::FdFlags::empty()).unwrap();
    assert!(leaked.as_raw_fd() > 2);
    let list = "
import os
def is_open(fd):
    try: return bool(os.fstat(fd))
    except OSError: return False
print([fd for fd in range(1024) if is_open(fd)])";
    assert_eq!(output(&["python3", "-c", list]).await, "[0, 1, 2]\n");
}

/// A fork shares every page with the child: it takes milliseconds for each 100 MB, and whoever writes to one of them afterwards
/// waits for the kernel. With a thousand children that cost leases.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_is_started_without_a_copy_of_the_daemons_memory() {
    const PAGE_BYTES: usize = 4096;
    const PAGES: usize = 16 * 1024;
    let mut memory = vec![1u8; PAGES * PAGE_BYTES];
    let child = spawn(&["cat"]).await.unwrap();
    let before = page_faults();
    memory.chunks_mut(PAGE_BYTES).for_each(|page| page[0] += 1);
    let faults = page_faults() - before;
    assert!(
        faults < PAGES as u64 / 16,
        "{faults} page faults in {PAGES} pages"
    );
    assert_eq!(std::hint::black_box(memory)[0], 2);
    drop(child);
}

/// Of this thread, so far: those for which nothing was read from a disk.
#[cfg(target_os = "linux")]
fn page_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(7).unwrap().parse().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_gets_every_signal_and_does_not_ignore_a_broken_pipe() {
    let status = output(&["cat", "/proc/self/status"]).await;
    let signals = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!((signals("SigBlk:"), signals("SigCgt:")), (0, 0));
    assert_eq!(signals("SigIgn:") & 1 << (Signal::PIPE.as_raw() - 1), 0);
}

#[tokio::test]
async fn dropping_a_child_kills_its_whole_group() {
    let mut child = spawn(&["sh", "-c", "sleep 60 & echo $!; wait"]).await.unwrap();
    let pid = child.process.id().unwrap();
    let grandchild = first_number(&mut child).await;
    assert_eq!(family(grandchild).unwrap().1, pid);
    drop(child);
    is_gone(pid).await;
    is_gone(grandchild).await;
}

#[tokio::test]
async fn an_ended_child_is_not_reaped_while_its_group_may_still_be_killed() {
    let mut child = spawn(&["sh", "-c", "sleep 60 & echo $!"]).await.unwrap();
    let grandchild = first_number(&mut child).await;
    assert_eq!(timeout(SOON, child.process.wait()).await.unwrap().unwrap(), 0);
    assert!(family(grandchild).is_some());
    child.process.kill();
    is_gone(grandchild).await;
}

#[tokio::test]
async fn a_dropped_child_leaves_no_zombie() {
    let child = spawn(&["sleep", "60"]).await.unwrap();
    let stat = format!("/proc/{}/stat", child.process.id().unwrap());
    drop(child);
    let reaped = async {
        while Path::new(&stat).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, reaped).await.unwrap();
}

#[tokio::test]
async fn a_daemon_killed_with_sigkill_takes_its_children_and_theirs_along() {
    let test = "child::process::tests::hold_a_child_until_killed";
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    let (child, grandchild): (u32, u32) = lines
        .by_ref()
        .map(Result::unwrap)
        .find_map(|line| {
            let (child, grandchild) = line.strip_prefix("holding ")?.split_once(' ')?;
            Some((child.parse().unwrap(), grandchild.parse().unwrap()))
        })
        .expect("the other process says which children it has");
    assert_eq!(family(child), Some((daemon.id(), child)));
    assert_eq!(family(grandchild), Some((child, child)));

    daemon.kill().unwrap(); // SIGKILL
    daemon.wait().unwrap();
    is_gone(child).await;
    is_gone(grandchild).await;
}

#[tokio::test]
#[ignore = "the other process of the test above"]
#[expect(clippy::print_stdout, reason = "how it says which children it has")]
async fn hold_a_child_until_killed() {
    // It ignores everything that it can ignore, and so does what it starts. Others came and went before it.
    drop(spawn(&["true"]).await.unwrap());
    let deaf = "trap '' HUP INT TERM PIPE; sleep 600 & echo $!; while :; do wait; done";
    let other = spawn(&["true"]).await.unwrap();
    let mut child = spawn(&["sh", "-c", deaf]).await.unwrap();
    drop(other);
    let grandchild = first_number(&mut child).await;
    println!("\nholding {} {grandchild}", child.process.id().unwrap());
    tokio::time::sleep(SOON).await;
}

#[tokio::test]
async fn a_guard_does_not_keep_what_the_daemon_writes_to_open() {
    drop(spawn(&["true"]).await.unwrap());
    let guards: Vec<u32> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| family(*pid).is_some_and(|(parent, _)| parent == std::process::id()))
        .filter(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.ends_with(b"\0multilangd-guard\0")
        })
        .collect();
    let [guard] = guards[..] else {
        panic!("one guard, not {guards:?}")
    };
    assert_eq!(
        family(guard),
        Some((std::process::id(), guard)),
        "a Ctrl-C for our group does not reach it"
    );
    let open = |fd| std::fs::read_link(format!("/proc/{guard}/fd/{fd}")).unwrap();
    assert_eq!(
        [open(1), open(2)],
        [Path::new("/dev/null"), Path::new("/dev/null")]
    );
}

// --- what the tests above are told with

async fn first_number(child: &mut Spawned) -> u32 {
    let mut line = String::new();
    loop {
        match timeout(SOON, child.stdout.read_u8()).await.unwrap().unwrap() {
            b'\n' => return line.parse().unwrap(),
            byte => line.push(char::from(byte)),
        }
    }
}

/// A directory of its own for a test, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "multilangd-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
