use super::*;
use crate::ids::SequenceNumber;

const PAST: [InitialPosition; 2] = [InitialPosition::TrimHorizon, InitialPosition::AtTimestamp(1000)];

/// The graphs of `consuming.md 1.5`, a line per shard: `id < parents`, with `*` while it is open.
const A: &str = "0, 1, 2, 3, 4*, 5, 6 < 0 1, 7 < 2 3, 8* < 6 7, 9* < 5, 10* < 5";
const B: &str = "0, 1, 2 < 0 1, 3 < 2, 4 < 2, 5 < 3 4, 6 < 5, 7 < 5, 8 < 6 7, 9* < 8, 10* < 8";
const C: &str = "0, 1*, 2, 3, 4 < 0, 5 < 0, 6* < 2 3, 7* < 4, 8* < 4, 9* < 5, 10* < 5";

#[test]
fn every_row_of_javas_table_is_reproduced() {
    // graph, leases, created under LATEST, created under TRIM_HORIZON and AT_TIMESTAMP
    let rows = [
        (A, "3 4 5", "2 6", "0 1 2"),
        (A, "4 5 7", "6", "0 1"),
        (A, "2 6", "3 4 9 10", "3 4 5"),
        (A, "4 9 10", "8", "0 1 2 3"),
        (A, "4 5 6 7", "", ""),
        (A, "0 1 2 3 4 5 6 7", "", ""),
        (A, "0 1 4 7 9 10", "", ""),
        (A, "1 2 3 4 5 7 9 10", "0", "0"),
        (A, "", "4 8 9 10", "0 1 2 3 4 5"),
        (B, "6", "7", "0 1"),
        (B, "5", "", ""),
        (B, "0 1 2 3 4 5", "", ""),
        (B, "", "9 10", "0 1"),
        (C, "9 10", "1 6 7 8", "0 1 2 3"),
    ];
    for (graph, leases, latest, past) in rows {
        assert_eq!(
            missing(graph, leases, InitialPosition::Latest),
            latest,
            "{graph} | {leases} | LATEST"
        );
        for initial in PAST {
            assert_eq!(
                missing(graph, leases, initial),
                past,
                "{graph} | {leases} | {initial:?}"
            );
        }
    }
}

#[test]
fn created_leases_have_the_configured_position() {
    for (initial, checkpoint) in [
        (InitialPosition::Latest, Position::Latest),
        (InitialPosition::TrimHorizon, Position::TrimHorizon),
        (InitialPosition::AtTimestamp(5), Position::AtTimestamp),
    ] {
        let leases = missing_leases(&graph(A), &keys("3 4 5"), initial, false).unwrap();
        assert!(!leases.is_empty());
        assert!(
            leases.iter().all(|lease| lease.checkpoint == checkpoint),
            "{initial:?}"
        );
    }
}

#[test]
fn a_new_lease_has_no_owner_and_names_its_parents_even_if_they_are_gone() {
    let shards = graph("7* < 2 3");
    let leases = missing_leases(&shards, &BTreeSet::new(), InitialPosition::Latest, false).unwrap();
    let expected = Lease {
        key: "7".into(),
        owner: None,
        checkpoint_owner: None,
        counter: 0,
        owner_switches: 0,
        checkpoint: Position::Latest,
        pending_checkpoint: None,
        parents: keys("2 3"),
        children: BTreeSet::new(),
        hash_range: Some(HashRange::ALL),
        throughput_kbps: None,
    };
    assert_eq!(leases, [expected]);
}

#[test]
fn leases_are_created_from_the_oldest_shard_to_the_youngest() {
    let mut shards = graph("1*, 2*, 3*");
    for (shard, start) in shards.iter_mut().zip(["100", "99", "1000"]) {
        shard.starting_sequence_number = SequenceNumber::parse(start).unwrap();
    }
    let leases = missing_leases(&shards, &BTreeSet::new(), InitialPosition::Latest, false).unwrap();
    assert_eq!(ids(&leases), "2 1 3");
}

#[test]
fn a_child_beside_its_open_parent_fails_the_sync() {
    let failed = missing_leases(
        &graph("0*, 1* < 0, 2*"),
        &BTreeSet::new(),
        InitialPosition::Latest,
        false,
    );
    let (child, parent) = ("1".into(), "0".into());
    assert_eq!(failed, Err(BadListing::OpenParent { child, parent }));
}

#[test]
fn a_child_beside_its_open_parent_can_be_ignored() {
    let leases = missing_leases(
        &graph("0*, 1* < 0, 2*"),
        &BTreeSet::new(),
        InitialPosition::Latest,
        true,
    );
    assert_eq!(ids(&leases.unwrap()), "0 2");
}

#[test]
fn a_circle_of_parents_ends() {
    assert_eq!(missing("0 < 1, 1 < 0, 2* < 1", "", InitialPosition::Latest), "2");
}

#[test]
fn a_line_of_100000_generations_is_judged() {
    let mut text = "0".to_owned();
    for id in 1..100_000 {
        text += &format!(", {id}{} < {}", if id == 99_999 { "*" } else { "" }, id - 1);
    }
    assert_eq!(missing(&text, "", InitialPosition::TrimHorizon), "0");
}

#[test]
fn a_bootstrap_creates_a_lease_for_every_listed_shard() {
    let shards = [ranged("0", 0, 99), ranged("1", 100, u128::MAX)];
    for (initial, checkpoint) in [
        (InitialPosition::Latest, Position::Latest),
        (InitialPosition::TrimHorizon, Position::TrimHorizon),
        (InitialPosition::AtTimestamp(5), Position::AtTimestamp),
    ] {
        let leases = bootstrap(&shards, initial).unwrap();
        assert_eq!(ids(&leases), "0 1");
        assert!(leases.iter().all(|lease| lease.checkpoint == checkpoint));
    }
}

#[test]
fn a_bootstrap_needs_every_hash_key_exactly_once() {
    let uneven = |id: &str, start, expected| BadListing::Uneven {
        id: id.into(),
        start,
        expected,
    };
    let refused = [
        (vec![], BadListing::NoShards),
        (vec![ranged("0", 1, u128::MAX)], uneven("0", 1, 0)),
        (vec![ranged("0", 0, 9)], BadListing::Short(9)),
        (
            vec![ranged("0", 0, 9), ranged("1", 11, u128::MAX)],
            uneven("1", 11, 10),
        ),
        (
            vec![ranged("0", 0, 9), ranged("1", 9, u128::MAX)],
            uneven("1", 9, 10),
        ),
        (
            vec![ranged("0", 0, u128::MAX), ranged("1", 0, u128::MAX)],
            uneven("1", 0, u128::MAX),
        ),
    ];
    for (shards, error) in refused {
        assert_eq!(bootstrap(&shards, InitialPosition::Latest), Err(error));
    }
}

#[test]
fn children_of_a_finished_lease_that_were_forgotten_get_leases_at_the_trim_horizon() {
    let leases = forgotten_children(
        &graph("0, 1 < 0, 2* < 0, 3* < 1"),
        &[lease("0", "SHARD_END"), lease("2", "LATEST")],
    );
    assert_eq!(ids(&leases), "1");
    assert_eq!(leases[0].checkpoint, Position::TrimHorizon);
}

#[test]
fn children_of_an_unfinished_lease_are_not_forgotten() {
    assert_eq!(forgotten_children(&graph("0, 1* < 0"), &[lease("0", "17")]), []);
}

#[test]
fn a_forgotten_merge_waits_until_both_parents_have_leases() {
    let shards = graph("0, 1, 2* < 0 1");
    assert_eq!(forgotten_children(&shards, &[lease("0", "SHARD_END")]), []);
    let both = forgotten_children(&shards, &[lease("0", "SHARD_END"), lease("1", "17")]);
    assert_eq!(ids(&both), "2");
}

#[test]
fn ranges_are_filled_in_for_unfinished_leases_whose_shards_are_listed() {
    let mut leases = [
        lease("0", "17"),
        lease("1", "SHARD_END"),
        lease("gone", "17"),
        lease("2", "17"),
    ];
    for lease in &mut leases[..3] {
        lease.hash_range = None;
    }
    let filled = missing_ranges(&leases, &graph("0*, 1*, 2*"));
    assert_eq!(filled, BTreeMap::from([("0".into(), HashRange::ALL)]));
}

fn missing(text: &str, leased: &str, initial: InitialPosition) -> String {
    ids(&missing_leases(&graph(text), &keys(leased), initial, false).unwrap())
}

fn ids(leases: &[Lease]) -> String {
    leases
        .iter()
        .map(|lease| lease.key.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

fn keys(text: &str) -> BTreeSet<ShardId> {
    text.split_whitespace().map(ShardId::from).collect()
}

fn graph(text: &str) -> Vec<Shard> {
    text.split(", ")
        .enumerate()
        .map(|(place, text)| shard(place, text))
        .collect()
}

fn shard(place: usize, text: &str) -> Shard {
    let (name, parents) = text.split_once(" < ").unwrap_or((text, ""));
    let mut parents = parents.split_whitespace().map(ShardId::from);
    let number = |number: usize| SequenceNumber::parse(&number.to_string()).unwrap();
    Shard {
        id: name.trim_end_matches('*').into(),
        parent: parents.next(),
        adjacent_parent: parents.next(),
        hash_range: HashRange::ALL,
        starting_sequence_number: number(place),
        ending_sequence_number: (!name.ends_with('*')).then(|| number(place + 1)),
    }
}

fn ranged(id: &str, start: u128, end: u128) -> Shard {
    Shard {
        hash_range: HashRange { start, end },
        ..shard(0, id)
    }
}

fn lease(id: &str, checkpoint: &str) -> Lease {
    lease_of(&shard(0, id), Position::parse(checkpoint, 0).unwrap())
}
