use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Line(String),
    TooLong(u64),
}

fn found(mut lines: Lines, chunks: &[&[u8]]) -> Vec<Found> {
    let mut all = Vec::new();
    let mut keep = |event: LineEvent<'_>| {
        all.push(match event {
            LineEvent::Line(line) => Found::Line(String::from_utf8_lossy(line).into_owned()),
            LineEvent::TooLong { bytes } => Found::TooLong(bytes),
        });
    };
    for chunk in chunks {
        lines.feed(chunk, &mut keep);
    }
    lines.finish(&mut keep);
    all
}

fn lines_of(chunks: &[&[u8]]) -> Vec<String> {
    found(Lines::default(), chunks)
        .into_iter()
        .map(|found| match found {
            Found::Line(line) => line,
            Found::TooLong(bytes) => panic!("a line of {bytes} bytes is within the default limit"),
        })
        .collect()
}

#[test]
fn a_line_ends_at_any_of_the_three_line_ends() {
    assert_eq!(lines_of(&[b"a\nb\r\nc\rd\n"]), ["a", "b", "c", "d"]);
}

#[test]
fn a_return_and_a_newline_are_one_end_even_in_two_pieces() {
    assert_eq!(lines_of(&[b"a\r", b"\nb\n"]), ["a", "b"]);
    assert_eq!(lines_of(&[b"a\r", b"", b"\nb\n"]), ["a", "b"]);
}

#[test]
fn a_lone_return_at_the_end_of_a_piece_is_an_end_at_once() {
    let mut lines = Lines::default();
    let mut count = 0;
    lines.feed(b"{\"action\":1}\r", |_| count += 1);
    assert_eq!(count, 1);
}

#[test]
fn empty_lines_are_lines() {
    assert_eq!(
        lines_of(&[b"\n\r\r\n\n"]),
        ["", "", "", ""].map(String::from)[..4]
    );
}

#[test]
fn the_last_line_needs_no_end() {
    assert_eq!(lines_of(&[b"a\nb"]), ["a", "b"]);
    assert_eq!(lines_of(&[b"a\n"]), ["a"]);
    assert_eq!(lines_of(&[b"a\r"]), ["a"]);
}

#[test]
fn a_line_of_exactly_the_limit_is_kept_and_one_more_byte_is_too_much() {
    assert_eq!(
        found(Lines::new(3), &[b"abc\nabcd\nab\n"]),
        [
            Found::Line("abc".to_owned()),
            Found::TooLong(4),
            Found::Line("ab".to_owned())
        ]
    );
}

#[test]
fn a_line_over_the_limit_is_left_out_with_its_length_however_it_comes() {
    assert_eq!(
        found(Lines::new(3), &[b"ab", b"cd", b"ef", b"\r", b"\nok"]),
        [Found::TooLong(6), Found::Line("ok".to_owned())]
    );
    assert_eq!(
        found(Lines::new(3), &[b"abcdef"]),
        [Found::TooLong(6)],
        "also without an end"
    );
}

#[test]
fn a_huge_line_does_not_grow_memory() {
    let mut lines = Lines::new(1024);
    let chunk = [b'x'; 8192];
    for _ in 0..1_000 {
        lines.feed(&chunk, |event| panic!("{event:?} before the end of the line"));
    }
    assert!(lines.partial.capacity() <= 1024);
    let mut events = Vec::new();
    lines.feed(b"\nnext\n", |event| events.push(format!("{event:?}")));
    assert_eq!(
        events,
        ["TooLong { bytes: 8192000 }", "Line([110, 101, 120, 116])"]
    );
}

#[test]
fn a_line_within_the_limit_takes_no_more_memory_than_the_limit() {
    let mut lines = Lines::new(1000);
    for _ in 0..999 {
        lines.feed(b"x", |_| {});
    }
    assert_eq!(lines.partial.len(), 999);
    assert!(lines.partial.capacity() <= 1000);
}

#[test]
fn the_memory_of_a_long_line_is_given_back() {
    let mut lines = Lines::default();
    lines.feed(&vec![b'x'; 1_000_000], |_| {});
    assert!(lines.partial.capacity() >= 1_000_000);
    lines.feed(b"\n", |_| {});
    assert!(lines.partial.capacity() <= KEPT_BYTES_MAX);
}

#[test]
fn a_splitter_passes_on_a_long_line_in_pieces() {
    let pieces = |chunks: &[&[u8]]| {
        found(Lines::splitting(3), chunks)
            .into_iter()
            .map(|found| match found {
                Found::Line(line) => line,
                Found::TooLong(_) => panic!("nothing is left out"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(pieces(&[b"abcdefgh\nij\n"]), ["abc", "def", "gh", "ij"]);
    assert_eq!(pieces(&[b"a", b"bcde", b"f", b"g\n"]), ["abc", "def", "g"]);
    assert_eq!(
        pieces(&[b"abc\n"]),
        ["abc"],
        "a line of exactly the limit is one piece"
    );
}

fn output() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()];
    proptest::collection::vec(byte, 0..60)
}

proptest! {
    #[test]
    fn how_the_output_is_cut_into_pieces_does_not_matter(
        output in output(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        limit in 1..12usize,
        split in any::<bool>(),
    ) {
        let lines = || if split { Lines::splitting(limit) } else { Lines::new(limit) };
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(output.len() + 1)).collect();
        cuts.extend([0, output.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &output[pair[0]..pair[1]]).collect();
        prop_assert_eq!(found(lines(), &chunks), found(lines(), &[&output]));
    }

    #[test]
    fn lines_are_what_a_simple_split_finds(output in "[ab\r\n]{0,40}") {
        let mut expected: Vec<String> =
            output.replace("\r\n", "\n").replace('\r', "\n").split('\n').map(String::from).collect();
        if expected.last().is_some_and(String::is_empty) {
            expected.pop();
        }
        prop_assert_eq!(lines_of(&[output.as_bytes()]), expected);
    }
}
