//! A strict reader of the first JSON object of a line, one key at a time.
//!
//! As strict as Java's parser where a child can see it: no comments, no single quotes, no raw control characters in
//! strings, no leading zeros; and as generous: a lone surrogate is accepted, and what stands behind the object is
//! never looked at. Numbers stay text, so no digit is lost. Never recurses: depth costs a bit, not a stack frame.

use std::borrow::Cow;

/// Deeper than this a line is garbage, as for Java's parser.
const DEPTH_MAX: usize = 1000;
/// A longer number is garbage, as for Java's parser.
pub(crate) const NUMBER_CHARS_MAX: usize = 1000;

/// The text is not what was expected at this place. Where and what does not matter: the line is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson;

/// A value, as far as a message can use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// The number as it was written.
    Number(&'a str),
    String(Cow<'a, str>),
    /// An object or array, checked and passed over.
    Nested {
        /// Some object inside it has the key `action`.
        has_action: bool,
    },
}

/// Stands inside an object, in front of a key or the end.
pub(crate) struct Object<'a> {
    rest: &'a str,
    first: bool,
}

impl<'a> Object<'a> {
    /// `None` if the text does not start with an object.
    pub(crate) fn open(line: &'a str) -> Option<Self> {
        let rest = blank(line).strip_prefix('{')?;
        Some(Self { rest, first: true })
    }

    /// The next key and its value; `None` at the closing brace.
    pub(crate) fn next(&mut self) -> Result<Option<(Cow<'a, str>, Value<'a>)>, NotJson> {
        let mut rest = blank(self.rest);
        if rest.starts_with('}') {
            return Ok(None);
        }
        if !self.first {
            rest = blank(rest.strip_prefix(',').ok_or(NotJson)?);
        }
        self.first = false;
        let (key, rest) = string(rest)?;
        let rest = blank(rest).strip_prefix(':').ok_or(NotJson)?;
        let (value, rest) = value(blank(rest))?;
        self.rest = rest;
        Ok(Some((key, value)))
    }
}

/// What JSON calls white space, and nothing else: no BOM, no form feed.
fn blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\n', '\r'])
}

fn value(text: &str) -> Result<(Value<'_>, &str), NotJson> {
    match text.bytes().next().ok_or(NotJson)? {
        b'{' | b'[' => nested(text),
        _ => scalar(text),
    }
}

fn scalar(text: &str) -> Result<(Value<'_>, &str), NotJson> {
    match text.bytes().next().ok_or(NotJson)? {
        b'"' => string(text).map(|(text, rest)| (Value::String(text), rest)),
        b'-' | b'0'..=b'9' => number(text).map(|(text, rest)| (Value::Number(text), rest)),
        b'n' => word(text, "null", Value::Null),
        b't' => word(text, "true", Value::Bool(true)),
        b'f' => word(text, "false", Value::Bool(false)),
        _ => Err(NotJson),
    }
}

fn word<'a>(text: &'a str, word: &str, value: Value<'a>) -> Result<(Value<'a>, &'a str), NotJson> {
    Ok((value, text.strip_prefix(word).ok_or(NotJson)?))
}

/// Passes over an object or array, checking it.
fn nested(text: &str) -> Result<(Value<'_>, &str), NotJson> {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Container {
        Object,
        Array,
    }
    #[derive(Clone, Copy)]
    enum Expect {
        Value,
        ValueOrEnd,
        Key,
        KeyOrEnd,
        CommaOrEnd,
    }
    let mut rest = text;
    let mut open: Vec<Container> = Vec::new();
    let mut expect = Expect::Value;
    let mut has_action = false;
    loop {
        rest = blank(rest);
        let byte = rest.bytes().next().ok_or(NotJson)?;
        match (expect, byte, open.last()) {
            (Expect::Value | Expect::ValueOrEnd, b'{', _) => {
                open.push(Container::Object);
                expect = Expect::KeyOrEnd;
                rest = &rest[1..];
            }
            (Expect::Value | Expect::ValueOrEnd, b'[', _) => {
                open.push(Container::Array);
                expect = Expect::ValueOrEnd;
                rest = &rest[1..];
            }
            (Expect::KeyOrEnd | Expect::CommaOrEnd, b'}', Some(Container::Object))
            | (Expect::ValueOrEnd | Expect::CommaOrEnd, b']', Some(Container::Array)) => {
                open.pop();
                expect = Expect::CommaOrEnd;
                rest = &rest[1..];
            }
            (Expect::Value | Expect::ValueOrEnd, _, _) => {
                rest = scalar(rest)?.1;
                expect = Expect::CommaOrEnd;
            }
            (Expect::Key | Expect::KeyOrEnd, _, _) => {
                let (key, behind) = string(rest)?;
                has_action |= key == "action";
                rest = blank(behind).strip_prefix(':').ok_or(NotJson)?;
                expect = Expect::Value;
            }
            (Expect::CommaOrEnd, b',', Some(container)) => {
                expect = match container {
                    Container::Object => Expect::Key,
                    Container::Array => Expect::Value,
                };
                rest = &rest[1..];
            }
            (Expect::CommaOrEnd, _, _) => return Err(NotJson),
        }
        // The object around it is one level of its own.
        if open.len() >= DEPTH_MAX {
            return Err(NotJson);
        }
        if open.is_empty() {
            return Ok((Value::Nested { has_action }, rest));
        }
    }
}

/// A number by JSON's grammar. What follows it is the caller's to judge.
fn number(text: &str) -> Result<(&str, &str), NotJson> {
    let digits = |from: usize| text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let byte = |at: usize| text.as_bytes().get(at).copied();

    let mut end = usize::from(byte(0) == Some(b'-'));
    let whole = digits(end);
    if whole == 0 || (whole > 1 && byte(end) == Some(b'0')) {
        return Err(NotJson);
    }
    end += whole;
    if byte(end) == Some(b'.') {
        let fraction = digits(end + 1);
        if fraction == 0 {
            return Err(NotJson);
        }
        end += 1 + fraction;
    }
    if matches!(byte(end), Some(b'e' | b'E')) {
        let signed = usize::from(matches!(byte(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + signed);
        if exponent == 0 {
            return Err(NotJson);
        }
        end += 1 + signed + exponent;
    }
    if end > NUMBER_CHARS_MAX {
        return Err(NotJson);
    }
    Ok(text.split_at(end))
}

/// A quoted string; borrowed unless it has escapes.
fn string(text: &str) -> Result<(Cow<'_, str>, &str), NotJson> {
    let inside = text.strip_prefix('"').ok_or(NotJson)?;
    let plain = stop(inside)?;
    if inside.as_bytes()[plain] == b'"' {
        return Ok((Cow::Borrowed(&inside[..plain]), &inside[plain + 1..]));
    }
    let mut decoded = String::new();
    let mut rest = inside;
    loop {
        let at = stop(rest)?;
        decoded.push_str(&rest[..at]);
        let special = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        if special == b'"' {
            return Ok((Cow::Owned(decoded), rest));
        }
        let (character, behind) = escape(rest)?;
        decoded.push(character);
        rest = behind;
    }
}

/// Where the next quote or backslash stands. A raw control character before it spoils the string.
fn stop(text: &str) -> Result<usize, NotJson> {
    let at = text
        .bytes()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F))
        .ok_or(NotJson)?;
    if text.as_bytes()[at] < 0x20 {
        Err(NotJson)
    } else {
        Ok(at)
    }
}

/// What a backslash means, given the text behind it.
fn escape(text: &str) -> Result<(char, &str), NotJson> {
    let character = match text.bytes().next().ok_or(NotJson)? {
        b'u' => return unicode_escape(text),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        same @ (b'"' | b'\\' | b'/') => char::from(same),
        _ => return Err(NotJson),
    };
    Ok((character, &text[1..]))
}

/// `uXXXX`, or two of them for a character beyond the first plane. Half of a pair becomes U+FFFD.
fn unicode_escape(text: &str) -> Result<(char, &str), NotJson> {
    let (unit, rest) = unit(text).ok_or(NotJson)?;
    if let Some(low) = rest.strip_prefix('\\').and_then(self::unit)
        && let Some(Ok(character)) = char::decode_utf16([unit, low.0]).next()
        && character.len_utf16() == 2
    {
        return Ok((character, low.1));
    }
    Ok((
        char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER),
        rest,
    ))
}

fn unit(text: &str) -> Option<(u16, &str)> {
    let hex = text.strip_prefix('u')?;
    let digits = hex.get(..4)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((u16::from_str_radix(digits, 16).ok()?, &hex[4..]))
}
