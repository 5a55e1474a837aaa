use std::fs::OpenOptions;
use std::io::Write;

use super::*;

fn contents(log: &ShardLog, position: u64) -> Vec<(u64, u64, String)> {
    let mut found = Vec::new();
    log.plan(position, usize::MAX)
        .visit(position, 0, |frame| {
            let data = String::from_utf8(frame.data.to_vec()).unwrap();
            found.push((frame.position, frame.arrived_ms, data));
            true
        })
        .unwrap();
    found
}

fn fill(log: &mut ShardLog, records: usize) {
    for n in 0..records {
        let data = format!("record {n}");
        log.append(&[("key", data.as_bytes())], 1_000 + n as u64).unwrap();
    }
}

fn in_both(test: impl Fn(&mut ShardLog)) {
    test(&mut ShardLog::in_memory(Room::new(1 << 30)));
    let folder = tempfile::tempdir().unwrap();
    test(&mut ShardLog::in_folder(folder.path().join("shard")).unwrap());
}

#[test]
fn records_are_read_in_the_order_of_their_append_from_any_position() {
    in_both(|log| {
        fill(log, 10_000);
        let all = contents(log, 0);
        assert_eq!(all.len(), 10_000);
        for (n, (position, ms, data)) in all.iter().enumerate() {
            assert_eq!(
                (*position, *ms, data.as_str()),
                (n as u64, 1_000 + n as u64, &*format!("record {n}"))
            );
        }
        assert_eq!(contents(log, 9_998).len(), 2);
        assert_eq!(contents(log, 10_000), []);
    });
}

#[test]
fn a_plan_stops_near_its_bytes_and_says_when_the_next_record_arrived() {
    in_both(|log| {
        fill(log, 10_000);
        let plan = log.plan(0, 1);
        let mut last = 0;
        let following = plan
            .visit(0, 0, |frame| {
                last = frame.position;
                true
            })
            .unwrap();
        assert!(last < 9_999, "a plan of one byte read everything");
        assert_eq!(following, Some(1_000 + last + 1));
        assert_eq!(log.plan(9_999, 1).visit(9_999, 0, |_| true).unwrap(), None);
    });
}

#[test]
fn a_time_is_found_before_inside_between_and_after_the_records() {
    in_both(|log| {
        for ms in [1_000, 2_000, 2_000, 3_000] {
            log.append(&[("key", b"data")], ms).unwrap();
        }
        let find = |ms| match log.locate(ms) {
            (_, Some(piece)) => piece.locate(ms).unwrap().unwrap(),
            (position, None) => position,
        };
        assert_eq!(
            [0, 1_000, 1_500, 2_000, 2_001, 3_000, 3_001].map(find),
            [0, 0, 1, 1, 3, 3, 4]
        );
    });
}

#[test]
fn time_never_runs_backwards_within_a_shard() {
    in_both(|log| {
        assert_eq!(log.append(&[("key", b"data")], 5_000).unwrap(), (0, 5_000));
        assert_eq!(log.append(&[("key", b"data")], 4_000).unwrap(), (1, 5_000));
    });
}

#[test]
fn trimming_removes_old_blocks_and_readers_skip_the_rest() {
    in_both(|log| {
        fill(log, 10_000);
        log.trim(6_000);
        assert!(log.first() > 0 && log.first() <= 5_000);
        let mut first = None;
        log.plan(0, usize::MAX)
            .visit(0, 6_000, |frame| {
                first.get_or_insert(frame.position);
                true
            })
            .unwrap();
        assert_eq!(first, Some(5_000));
        log.trim(u64::MAX);
        assert_eq!((log.first(), log.next()), (10_000, 10_000));
    });
}

#[test]
fn a_reopened_folder_has_all_records_and_goes_on_counting() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = ShardLog::in_folder(folder.path().into()).unwrap();
    fill(&mut log, 3_000);
    let before = contents(&log, 0);
    drop(log);
    let mut log = ShardLog::in_folder(folder.path().into()).unwrap();
    assert_eq!(contents(&log, 0), before);
    assert_eq!(log.append(&[("key", b"more")], 0).unwrap(), (3_000, 3_999));
}

#[test]
fn a_torn_end_costs_only_the_torn_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = ShardLog::in_folder(folder.path().into()).unwrap();
    fill(&mut log, 3);
    let file = folder.path().join(format!("{:020}.log", 0));
    drop(log);
    let whole = std::fs::metadata(&file).unwrap().len();
    for cut in 1..=5 {
        let open = OpenOptions::new().write(true).open(&file).unwrap();
        open.set_len(whole - cut).unwrap();
        let mut log = ShardLog::in_folder(folder.path().into()).unwrap();
        assert_eq!(contents(&log, 0).len(), 2);
        log.append(&[("key", b"record 2")], 1_002).unwrap();
        assert_eq!(contents(&log, 2), [(2, 1_002, "record 2".to_owned())]);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), whole);
    }
}

#[test]
fn garbage_behind_the_last_record_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = ShardLog::in_folder(folder.path().into()).unwrap();
    fill(&mut log, 3);
    drop(log);
    let file = folder.path().join(format!("{:020}.log", 0));
    OpenOptions::new()
        .append(true)
        .open(&file)
        .unwrap()
        .write_all(&[0; 100])
        .unwrap();
    assert_eq!(
        contents(&ShardLog::in_folder(folder.path().into()).unwrap(), 0).len(),
        3
    );
}

#[test]
fn a_full_file_is_followed_by_another_and_both_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = ShardLog::in_folder(folder.path().into()).unwrap();
    let megabyte = vec![b'x'; 1 << 20];
    for n in 0..70 {
        log.append(&[("key", megabyte.as_slice())], n).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(contents(&log, 0).len(), 70);
    log.trim(66);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "the emptied file is deleted"
    );
    assert_eq!(contents(&log, 0).len(), 4);
}

#[test]
fn an_append_that_the_disk_refuses_leaves_the_log_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let shard = folder.path().join("shard");
    std::fs::write(&shard, "a file where the folder should be").unwrap();
    assert!(ShardLog::in_folder(shard.clone()).is_err());
    std::fs::remove_file(&shard).unwrap();
    let mut log = ShardLog::in_folder(shard.clone()).unwrap();
    std::fs::write(&shard, "again").unwrap();
    assert!(log.append(&[("key", b"data")], 1).is_err());
    assert_eq!(log.next(), 0);
    std::fs::remove_file(&shard).unwrap();
    assert_eq!(log.append(&[("key", b"data")], 1).unwrap(), (0, 1));
    assert_eq!(contents(&log, 0), [(0, 1, "data".to_owned())]);
}

#[test]
fn positions_are_not_given_twice_when_a_torn_file_is_all_that_is_left() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(format!("{:020}.log", 500)), "torn").unwrap();
    let mut log = ShardLog::in_folder(folder.path().into()).unwrap();
    assert_eq!(log.append(&[("key", b"data")], 1).unwrap(), (500, 1));
}

#[test]
fn memory_that_is_full_refuses_and_is_free_again_when_records_expire_or_logs_go() {
    let room = Room::new(100_000);
    let mut log = ShardLog::in_memory(room.clone());
    let mut other = ShardLog::in_memory(room.clone());
    let data = vec![0; 40_000];
    log.append(&[("key", data.as_slice())], 1).unwrap();
    other.append(&[("key", data.as_slice())], 1).unwrap();
    let error = log.append(&[("key", data.as_slice())], 1).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("80062 bytes of records are in memory and 100000 are allowed"),
        "{error}"
    );
    assert_eq!(log.next(), 1);
    log.trim(2);
    log.append(&[("key", data.as_slice())], 2).unwrap();
    drop(other);
    log.append(&[("key", data.as_slice())], 2).unwrap();
}

#[test]
fn a_released_log_is_read_and_takes_records_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = ShardLog::in_folder(folder.path().into()).unwrap();
    fill(&mut log, 3);
    log.release();
    assert_eq!(contents(&log, 0).len(), 3);
    log.append(&[("key", b"more")], 9_000).unwrap();
    assert_eq!(contents(&log, 3), [(3, 9_000, "more".to_owned())]);
}
