use super::*;

fn memory() -> Home {
    Home::Memory(Room::new(1 << 30))
}

fn stream(shards: u32) -> Stream {
    Stream::create("s", shards, Settings::default(), memory(), 1_000, 1_000_000).unwrap()
}

/// Every shard as `parents>index` with `!` behind closed ones.
fn tree(stream: &Stream) -> String {
    let state = stream.state();
    let mut words = Vec::new();
    for entry in state.shards.values() {
        let parents: Vec<_> = entry.shard.parents.iter().map(u32::to_string).collect();
        let mark = if entry.closed.is_some() { "!" } else { "" };
        words.push(format!("{}>{}{mark}", parents.join("+"), entry.shard.index));
    }
    words.join(" ")
}

fn assert_covered(stream: &Stream) {
    let state = stream.state();
    let mut next = Some(0);
    for shard in state.open() {
        assert_eq!(
            Some(shard.hashes.0),
            next,
            "a gap or an overlap before {}",
            shard.id
        );
        next = shard.hashes.1.checked_add(1);
    }
    assert_eq!(next, None, "the last hash keys have no shard");
}

#[test]
fn new_shards_divide_all_hash_keys_as_the_service_does() {
    for count in [1, 2, 3, 4, 7, 500] {
        assert_covered(&stream(count));
    }
    let two = stream(2);
    assert_eq!(
        two.state().open()[0].hashes,
        (0, 170_141_183_460_469_231_731_687_303_715_884_105_727)
    );
}

#[test]
fn both_bounds_of_a_range_are_routed_to_its_shard() {
    let stream = stream(3);
    let state = stream.state();
    for (index, shard) in state.open().iter().enumerate() {
        assert_eq!(
            (state.route(shard.hashes.0), state.route(shard.hashes.1)),
            (index, index)
        );
    }
}

#[test]
fn a_split_has_two_children_and_a_merge_one() {
    let stream = stream(1);
    stream.split(0, 1 << 127, 2_000_000).unwrap();
    assert_eq!(tree(&stream), ">0! 0>1 0>2");
    stream.merge(2, 1, 3_000_000).unwrap();
    assert_eq!(tree(&stream), ">0! 0>1! 0>2! 2+1>3");
    assert_covered(&stream);
}

#[test]
fn what_cannot_be_split_or_merged_is_refused_and_nothing_changes() {
    let stream = stream(3);
    let first = stream.state().open()[0].hashes;
    for at in [first.0, first.1 + 1, u128::MAX] {
        assert_eq!(
            stream.split(0, at, 2_000_000).unwrap_err().code,
            "InvalidArgumentException"
        );
    }
    for (a, b) in [(0, 2), (0, 0), (2, 0)] {
        assert_eq!(
            stream.merge(a, b, 2_000_000).unwrap_err().code,
            "InvalidArgumentException"
        );
    }
    assert_eq!(
        stream.split(9, 5, 2_000_000).unwrap_err().code,
        "ResourceNotFoundException"
    );
    assert_eq!(tree(&stream), ">0 >1 >2");
    stream.split(0, 1, 2_000_000).unwrap();
    assert_eq!(
        stream.split(0, 1, 2_000_000).unwrap_err().code,
        "InvalidArgumentException",
        "it is closed"
    );
}

#[test]
fn a_shard_may_be_split_off_its_lowest_and_its_highest_hash_key() {
    let stream = stream(1);
    stream.split(0, 1, 2_000_000).unwrap();
    stream.split(2, u128::MAX, 2_000_000).unwrap();
    let ranges: Vec<_> = stream.state().open().iter().map(|shard| shard.hashes).collect();
    assert_eq!(ranges, [(0, 0), (1, u128::MAX - 1), (u128::MAX, u128::MAX)]);
}

#[test]
fn dividing_anew_ends_with_equal_shards_and_only_splits_and_merges() {
    for from in [1, 2, 3, 4, 5, 8] {
        for to in [1, 2, 3, 4, 6, 7, 16] {
            let stream = stream(from);
            stream.divide(to, 2_000_000).unwrap();
            let equal: Vec<_> = equal_ranges(to).collect();
            let state = stream.state();
            let got: Vec<_> = state.open().iter().map(|shard| shard.hashes).collect();
            assert_eq!(got, equal, "{from} to {to}");
            for entry in state.shards.values() {
                assert!(entry.shard.parents.len() <= 2);
                if let Some(closed) = &entry.closed {
                    let siblings: usize = closed
                        .children
                        .iter()
                        .map(|child| state.shards[child].shard.parents.len())
                        .sum();
                    // Two children of one parent, or one child of two.
                    assert_eq!(siblings, 2, "{from} to {to}: shard {}", entry.shard.index);
                }
            }
        }
    }
}

#[test]
fn numbers_and_times_of_children_are_above_their_parents_even_within_one_second() {
    let stream = stream(1);
    stream.state().open()[0]
        .log()
        .append(&[("key", b"data")], 5_000_000)
        .unwrap();
    stream.split(0, 1 << 127, 5_000_000).unwrap();
    stream.split(1, 1 << 126, 5_000_000).unwrap();
    stream.merge(3, 4, 5_000_000).unwrap();
    let state = stream.state();
    for entry in state.shards.values() {
        for parent in &entry.shard.parents {
            let parent = &state.shards[parent];
            let closed = parent.closed.as_ref().unwrap();
            assert!(
                parent.shard.ending_sequence(closed).to_string()
                    < entry.shard.starting_sequence().to_string()
            );
            assert_eq!(closed.at_ms, entry.shard.made_ms);
            assert!(parent.shard.log().last_ms() < entry.shard.made_ms);
        }
    }
}

#[test]
fn a_saved_stream_is_read_back_with_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.stream");
    let stream = Stream::create(
        "s",
        2,
        Settings::default(),
        Home::Folder(path.clone()),
        1_000,
        1_000_000,
    )
    .unwrap();
    stream.state().open()[0]
        .log()
        .append(&[("key", b"data")], 1_500_000)
        .unwrap();
    stream.split(0, 1, 2_000_000).unwrap();
    stream
        .change(|state| {
            state
                .settings
                .tags
                .insert("a \"quoted\" \\ key\n".into(), "värde".into());
            state.settings.metrics.insert("IncomingBytes".into());
            state.settings.key_id = Some("alias/mine".into());
            state.settings.retention_hours = 48;
            let consumer = Consumer {
                name: "c".into(),
                made_ms: 7,
                tags: BTreeMap::new(),
            };
            state.consumers.insert("c".into(), consumer);
            Ok(())
        })
        .unwrap();
    let (before, settings, consumers) = (
        tree(&stream),
        stream.state().settings.clone(),
        stream.state().consumers.clone(),
    );
    drop(stream);
    let stream = Stream::open(path).unwrap();
    assert_eq!(
        (tree(&stream), &stream.state().settings, &stream.state().consumers),
        (before, &settings, &consumers)
    );
    assert_eq!(stream.state().entry(0).unwrap().shard.log().next(), 1);
    assert_covered(&stream);
}

#[test]
fn a_change_that_cannot_be_saved_does_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.stream");
    let stream = Stream::create(
        "s",
        1,
        Settings::default(),
        Home::Folder(path.clone()),
        1_000,
        1_000_000,
    )
    .unwrap();
    std::fs::create_dir(path.join("stream.new")).unwrap();
    let error = stream.split(0, 1, 2_000_000).unwrap_err();
    assert_eq!((error.status, error.code.as_ref()), (500, "InternalFailure"));
    assert_eq!(tree(&stream), ">0");
}

#[test]
fn a_closed_shard_goes_when_retention_ends_and_takes_its_files_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.stream");
    let stream = Stream::create(
        "s",
        1,
        Settings::default(),
        Home::Folder(path.clone()),
        1_000,
        1_000_000,
    )
    .unwrap();
    stream.state().open()[0]
        .log()
        .append(&[("key", b"data")], 1_500_000)
        .unwrap();
    stream.split(0, 1 << 127, 2_000_000).unwrap();
    let day_ms = 24 * 3_600_000;
    stream.sweep(2_000_000 + day_ms);
    assert_eq!(tree(&stream), ">0! 0>1 0>2");
    assert!(path.join("shardId-000000000000").exists());
    stream.sweep(2_000_001 + day_ms);
    assert_eq!(tree(&stream), "0>1 0>2");
    assert!(!path.join("shardId-000000000000").exists());
}
