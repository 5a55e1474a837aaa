//! The text of a `.properties` file, read by the rules of `java.util.Properties`.
//!
//! Owns the grammar: encoding, comments, continuations, escapes, and the line every key stands on. Never knows which
//! keys exist or what a value means (that is `keys.rs` and `values.rs`), and never opens a file.
//!
//! Compat: every rule is Java's (properties.md 1), checked by the table in the tests.

/// One `key = value` of the file, after escapes and continuations are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key as the file means it (escapes resolved).
    pub key: String,
    /// The value, trailing blanks included.
    pub value: String,
    /// The line the key starts on, counted from 1.
    pub line: usize,
}

/// A place where Java would stop reading with an exception.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "malformed \\uxxxx encoding: four hexadecimal digits must follow \\u (a backslash itself is written \\\\)"
)]
pub struct MalformedEscape {
    /// The line it is on, counted from 1.
    pub line: usize,
}

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Every entry in the order of the file, repeated keys included.
    pub entries: Vec<Entry>,
    /// Lines with a broken `\u`; their entries are left out.
    pub malformed: Vec<MalformedEscape>,
    /// The first entry whose bytes are UTF-8 but are read as ISO-8859-1, if the whole file is valid UTF-8. Comments may
    /// hold anything.
    pub utf8_line: Option<usize>,
    /// The file starts with a UTF-8 byte order mark, which spoils its first key.
    pub byte_order_mark: bool,
}

const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

impl Properties {
    /// Reads the bytes of a file. Never fails as a whole: what is wrong is reported per line, so that one run shows
    /// every mistake.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Properties {
        let mut properties = Properties {
            byte_order_mark: bytes.starts_with(BYTE_ORDER_MARK),
            ..Properties::default()
        };
        let is_utf8 = std::str::from_utf8(bytes).is_ok();
        for (line, text) in logical_lines(bytes) {
            let marked = if properties.byte_order_mark && line == 1 {
                BYTE_ORDER_MARK.len()
            } else {
                0
            };
            if is_utf8 && properties.utf8_line.is_none() && text.iter().skip(marked).any(|byte| *byte >= 0x80)
            {
                properties.utf8_line = Some(line);
            }
            let (key, value) = split(&text);
            match (unescape(key), unescape(value)) {
                (Some(key), Some(value)) => properties.entries.push(Entry { key, value, line }),
                _ => properties.malformed.push(MalformedEscape { line }),
            }
        }
        properties
    }

    /// The entries that count: of keys written twice (in exactly the same spelling) the last one.
    #[must_use]
    pub fn last_wins(&self) -> Vec<&Entry> {
        let mut last = std::collections::BTreeMap::new();
        for (index, entry) in self.entries.iter().enumerate() {
            last.insert(entry.key.as_str(), index);
        }
        self.entries
            .iter()
            .enumerate()
            .filter(|(index, entry)| last[entry.key.as_str()] == *index)
            .map(|(_, e)| e)
            .collect()
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x0c)
}

/// Joins continued lines and drops comments and blank lines. Each logical line comes with the number of its first
/// natural line; escapes are still in it.
fn logical_lines(bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut lines = Vec::new();
    let mut text: Vec<u8> = Vec::new();
    let mut started_at = 1;
    // The previous natural line ended in an odd number of backslashes.
    let mut continued = false;
    for (index, natural) in natural_lines(bytes).enumerate() {
        let start = natural
            .iter()
            .position(|byte| !is_blank(*byte))
            .unwrap_or(natural.len());
        let content = &natural[start..];
        if text.is_empty() {
            // As in Java, a line holding nothing but a backslash leaves the next one free to be a comment.
            if content.first().is_some_and(|byte| matches!(byte, b'#' | b'!')) {
                continued = false;
                continue;
            }
            if content.is_empty() {
                // Nothing has begun, so nothing ends.
                continued = false;
                continue;
            }
            started_at = if continued { started_at } else { index + 1 };
        }
        text.extend_from_slice(content);
        let backslashes = content.iter().rev().take_while(|byte| **byte == b'\\').count();
        continued = backslashes % 2 == 1;
        if continued {
            text.pop();
        } else if !text.is_empty() {
            lines.push((started_at, std::mem::take(&mut text)));
        }
    }
    // As in Java, a backslash with nothing behind it at the end of the file makes an entry without a name.
    if continued || !text.is_empty() {
        lines.push((started_at, text));
    }
    lines
}

/// Splits at `\n`, `\r\n` and `\r`.
fn natural_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let current = rest.filter(|rest| !rest.is_empty())?;
        match current.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            None => {
                rest = None;
                Some(current)
            }
            Some(end) => {
                let width = if current[end..].starts_with(b"\r\n") { 2 } else { 1 };
                rest = Some(&current[end + width..]);
                Some(&current[..end])
            }
        }
    })
}

/// Splits a logical line at the first unescaped `=`, `:` or blank.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let mut escaped = false;
    let mut end = line.len();
    for (index, byte) in line.iter().enumerate() {
        if !escaped && (is_blank(*byte) || matches!(byte, b'=' | b':')) {
            end = index;
            break;
        }
        escaped = *byte == b'\\' && !escaped;
    }
    let (key, mut value) = line.split_at(end);
    let mut separated = false;
    while let Some((first, rest)) = value.split_first() {
        let separator = matches!(first, b'=' | b':');
        if !is_blank(*first) && (!separator || separated) {
            break;
        }
        separated |= separator;
        value = rest;
    }
    (key, value)
}

/// Resolves escapes; `None` when a `\u` is not followed by four hexadecimal digits.
fn unescape(bytes: &[u8]) -> Option<String> {
    // UTF-16 as in Java, so that an escaped surrogate pair becomes one character.
    let mut units: Vec<u16> = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            units.push(u16::from(*byte));
            continue;
        }
        let Some((escaped, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        units.push(match escaped {
            b't' => 0x09,
            b'n' => 0x0a,
            b'r' => 0x0d,
            b'f' => 0x0c,
            b'u' => {
                let digits = rest.get(..4)?;
                rest = &rest[4..];
                let mut unit = 0;
                for digit in digits {
                    unit = unit * 16 + u16::try_from(char::from(*digit).to_digit(16)?).ok()?;
                }
                unit
            }
            other => u16::from(*other),
        });
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &[u8]) -> Vec<(String, String, usize)> {
        let properties = Properties::parse(text);
        assert_eq!(properties.malformed, []);
        properties
            .entries
            .into_iter()
            .map(|entry| (entry.key, entry.value, entry.line))
            .collect()
    }

    /// (file, key, value) of files with one entry.
    const SINGLE: &[(&[u8], &str, &str)] = &[
        (b"a=b", "a", "b"),
        (b"a:b", "a", "b"),
        (b"a b", "a", "b"),
        (b"a\tb", "a", "b"),
        (b"a = b", "a", "b"),
        (b"  a  =  b", "a", "b"),
        (b"a = b  ", "a", "b  "),
        (b"a == b", "a", "= b"),
        (b"a : = b", "a", "= b"),
        (b"a", "a", ""),
        (b"a =", "a", ""),
        (b"= b", "", "b"),
        (b"a\\ b = c", "a b", "c"),
        (b"a\\=b = c", "a=b", "c"),
        (b"maxRecords = 100 # x", "maxRecords", "100 # x"),
        (b"a = b\\\n   c", "a", "bc"),
        (b"a = b\\\r\n   c", "a", "bc"),
        (b"a = b\\\r   c", "a", "bc"),
        (b"a = b\\\\", "a", "b\\"),
        (b"a = b\\\\\\\n  c", "a", "b\\c"),
        (b"a = b\\\n# c", "a", "b# c"),
        (b"a = b\\\n\n", "a", "b"),
        (b"a = b\\", "a", "b"),
        (b"a \\\n = b", "a", "b"),
        (b"a = \\t\\n\\r\\f|", "a", "\t\n\r\x0c|"),
        (b"a = C:\\Users\\new", "a", "C:Users\new"),
        (b"a = \\u0041\\u00e9", "a", "A\u{e9}"),
        (b"a = \\ud83d\\ude00", "a", "\u{1f600}"),
        (b"a = \\U0041", "a", "U0041"),
        (b"a = \xe9", "a", "\u{e9}"),
        (b"a = \xc3\xa9", "a", "\u{c3}\u{a9}"),
        (b"# c\n! c\n   # c\n\n  \na=b", "a", "b"),
        (b"# c \\\na=b", "a", "b"),
        (b"\\\n# c\na=b", "a", "b"),
        (b"\xef\xbb\xbfa = b", "\u{ef}\u{bb}\u{bf}a", "b"),
        (b"a = ${HOME}", "a", "${HOME}"),
    ];

    #[test]
    fn each_rule_of_java_util_properties_holds() {
        for (text, key, value) in SINGLE {
            let shown = String::from_utf8_lossy(text);
            let found = pairs(text);
            assert_eq!(found.len(), 1, "{shown:?}");
            assert_eq!(
                (found[0].0.as_str(), found[0].1.as_str()),
                (*key, *value),
                "{shown:?}"
            );
        }
    }

    #[test]
    fn all_three_line_ends_separate_entries() {
        let expected: Vec<_> = [("a", "1", 1), ("b", "2", 2), ("c", "3", 3)]
            .map(|(k, v, n)| (k.to_string(), v.to_string(), n))
            .into();
        assert_eq!(pairs(b"a=1\nb=2\nc=3\n"), expected);
        assert_eq!(pairs(b"a=1\r\nb=2\r\nc=3\r\n"), expected);
        assert_eq!(pairs(b"a=1\rb=2\rc=3\r"), expected);
    }

    #[test]
    fn a_key_keeps_the_line_it_starts_on() {
        let found = pairs(b"# head\n\na = 1\\\n  2\\\n  3\nb = 4\n");
        assert_eq!((found[0].1.as_str(), found[0].2), ("123", 3));
        assert_eq!((found[1].1.as_str(), found[1].2), ("4", 6));
    }

    #[test]
    fn of_a_key_written_twice_the_last_one_counts() {
        let properties = Properties::parse(b"a=1\nb=2\na=3\n");
        let counted: Vec<_> = properties
            .last_wins()
            .iter()
            .map(|e| (e.key.as_str(), e.value.as_str(), e.line))
            .collect();
        assert_eq!(counted, [("b", "2", 2), ("a", "3", 3)]);
    }

    #[test]
    fn a_broken_unicode_escape_is_reported_with_its_line_and_the_rest_is_read() {
        let properties = Properties::parse(b"a=1\nb=\\u12\nc=\\u12g4\nd=4\n");
        assert_eq!(
            properties.malformed,
            [MalformedEscape { line: 2 }, MalformedEscape { line: 3 }]
        );
        assert_eq!(
            properties
                .entries
                .iter()
                .map(|e| e.key.as_str())
                .collect::<Vec<_>>(),
            ["a", "d"]
        );
    }

    #[test]
    fn utf8_text_is_noticed_and_latin_text_is_not() {
        assert_eq!(Properties::parse("a=1\r\nb=é\n".as_bytes()).utf8_line, Some(2));
        assert_eq!(Properties::parse("# é\nb=1\n".as_bytes()).utf8_line, None);
        assert_eq!(Properties::parse(b"a=1\nb=\xe9\n").utf8_line, None);
        assert_eq!(Properties::parse(b"a=1\n").utf8_line, None);
    }

    #[test]
    fn a_byte_order_mark_is_noticed() {
        let properties = Properties::parse(b"\xef\xbb\xbfa=1\n");
        assert!(properties.byte_order_mark);
        assert_eq!(properties.utf8_line, None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let properties = Properties::parse(&bytes);
            prop_assert!(properties.entries.len() <= bytes.len());
        }

        #[test]
        fn no_mixture_of_special_characters_makes_the_parser_panic(text in "[a\\\\u0-9 =:#!\t\r\n\u{c}]{0,80}") {
            let properties = Properties::parse(text.as_bytes());
            for entry in &properties.entries {
                prop_assert!(entry.line >= 1 && entry.line <= text.len() + 1);
            }
        }

        #[test]
        fn plain_pairs_survive_a_round_trip(pairs in proptest::collection::btree_map("[a-zA-Z.]{1,12}", "[a-zA-Z0-9/.,|]{0,20}", 0..10)) {
            let text: String = pairs.iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
            let read: std::collections::BTreeMap<_, _> =
                Properties::parse(text.as_bytes()).entries.into_iter().map(|e| (e.key, e.value)).collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
