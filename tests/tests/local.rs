//! `run --local` and `put`, as a user starts them.

use std::path::Path;
use std::process::Command;

use multilangd_tests::daemon::{Application, Running, until};

#[test]
fn a_local_run_needs_nothing_and_keeps_its_data_when_it_is_killed() {
    let app = Application::local("kept", "words");
    let mut daemon = app.start_with(&["run", "--local"]);
    ready(&app, &daemon);
    assert_eq!(app.put_lines("to be\nor not\nto be\n").0, 0);
    until("three records", || (app.records().len() == 3).then_some(()));
    // Of every shard: what is not checkpointed is delivered again, by whichever run reads that shard next.
    until("the checkpoints", || {
        let notes = app.notes();
        let heard = |what| notes.iter().filter(|note| note.heard() == what).count();
        (heard("checkpoint") == heard("processRecords")).then_some(())
    });
    daemon.signal("KILL");
    daemon.wait();
    let mut daemon = app.start_with(&["run", "--local"]);
    ready(&app, &daemon);
    assert_eq!(app.put_lines("that is\n").0, 0);
    until("the fourth record", || {
        app.records()
            .iter()
            .any(|record| record.text() == "that is")
            .then_some(())
    });
    assert_eq!(daemon.stop(), 143);
    let texts: Vec<String> = app.records().iter().map(|record| record.text()).collect();
    assert!(
        ["to be", "or not", "that is"]
            .iter()
            .all(|text| texts.iter().any(|it| it == text)),
        "{texts:?}"
    );
    let mut daemon = app.start_with(&["run", "--local"]);
    ready(&app, &daemon);
    assert_eq!(app.put_lines("the question\n").0, 0);
    until("the fifth record", || {
        app.records()
            .iter()
            .any(|it| it.text() == "the question")
            .then_some(())
    });
    assert_eq!(daemon.stop(), 143);
    assert_eq!(
        app.records().len(),
        texts.len() + 1,
        "what a clean stop checkpointed is not delivered again"
    );
}

#[test]
fn nothing_is_kept_in_memory() {
    let app = Application::local("forgotten", "words");
    for _ in 0..2 {
        let mut daemon = app.start_with(&["run", "--local", "--memory"]);
        ready(&app, &daemon);
        assert_eq!(app.put_lines("once\n").0, 0);
        let before = app.records().len();
        until("the record", || {
            (app.records().len() > before || before == 2).then_some(())
        });
        assert_eq!(daemon.stop(), 143);
    }
    assert_eq!(
        app.records().len(),
        2,
        "each run saw its own record, from the beginning"
    );
}

#[test]
fn a_put_without_services_says_where_it_looked() {
    let app = Application::local("nobody", "words");
    let (code, stderr) = app.put_lines("x\n");
    assert_ne!(code, 0);
    assert!(
        stderr.contains("region") || stderr.contains("local") || stderr.contains("credentials"),
        "{stderr}"
    );
}

/// Needs the right to mount, which CI and containers have.
#[test]
fn a_full_disk_refuses_puts_and_the_daemon_goes_on_when_there_is_room_again() {
    let app = Application::local("full", "words").behaving("no_data");
    let data = app.dir().join(".multilangd");
    std::fs::create_dir(&data).unwrap();
    let Some(disk) = SmallDisk::mount(&data, "4m") else {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount");
        // Only a machine without the right to mount gets here; CI has it, see above.
        return;
    };
    let mut daemon = app.start_with(&["run", "--local"]);
    ready(&app, &daemon);
    assert_eq!(app.put_lines("before\n").0, 0);
    until("the first record", || (app.records().len() == 1).then_some(()));
    let filler = data.join("filler");
    let full = Command::new("dd")
        .args(["if=/dev/zero", &format!("of={}", filler.display()), "bs=64k"])
        .output();
    assert!(!full.expect("dd can be run").status.success(), "the disk is full");
    let line = "x".repeat(100_000);
    let mut put = app.start_put(&format!("{line}\n{line}\n{line}\n"));
    until("the put is refused", || {
        put.stderr().contains("No space left").then_some(())
    });
    assert!(
        put.is_running(),
        "what is not stored is not acknowledged: {}",
        put.stderr()
    );
    assert!(daemon.is_running(), "{}", daemon.stderr());
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(put.wait(), 0, "there is room again");
    until("the records that had to wait", || {
        (app.records().len() >= 4).then_some(())
    });
    assert_eq!(daemon.stop(), 143);
    drop(daemon);
    drop(disk);
}

fn ready(app: &Application, daemon: &Running) {
    until("the local services are ready", || {
        app.dir()
            .join(".multilangd/endpoints.json")
            .exists()
            .then_some(())?;
        daemon.stderr().contains("local services are ready").then_some(())
    });
}

/// A disk in memory, unmounted when it is forgotten.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at);
        mount
            .output()
            .ok()
            .filter(|done| done.status.success())
            .map(|_| Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}
