//! From the text of a value to what Java makes of it: the BeanUtils converters (properties.md 3).
//!
//! Owns the meaning of numbers, booleans, enums, durations, lists, URIs and regions. Never knows a key or a default.
//!
//! Compat: numbers and booleans never fail in Java, they become 0 or false. These functions say so instead of hiding it
//! ([`Reading::Bad`]), and the caller warns.

use std::time::Duration;

/// What a converter makes of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading<T> {
    /// The text is a value of the type.
    Good(T),
    /// Java silently takes 0 or false for it; the text says what is wrong, as in "is not a number".
    Bad(&'static str),
}

/// Java's `String.trim`: drops everything up to U+0020 at both ends.
#[must_use]
pub fn java_trim(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ')
}

/// `int` or `Integer`: a trimmed decimal number with an optional sign.
#[must_use]
pub fn int(text: &str) -> Reading<i64> {
    integer(text, i64::from(i32::MIN)..=i64::from(i32::MAX))
}

/// `long` or `Long`: a trimmed decimal number with an optional sign.
#[must_use]
pub fn long(text: &str) -> Reading<i64> {
    integer(text, i64::MIN..=i64::MAX)
}

fn integer(text: &str, range: std::ops::RangeInclusive<i64>) -> Reading<i64> {
    match strict_integer(java_trim(text)) {
        Some(number) => match i64::try_from(number) {
            Ok(number) if range.contains(&number) => Reading::Good(number),
            _ => Reading::Bad("is too large"),
        },
        None if java_trim(text).is_empty() => Reading::Bad("is empty"),
        None if double(text) != Reading::Bad("is not a number") => Reading::Bad("is not a whole number"),
        None => Reading::Bad("is not a number"),
    }
}

/// `Integer.parseInt` and `Long.parseLong`: no trimming, no mercy. `None` if it is not a decimal integer. Numbers beyond
/// 128 bits saturate; every caller has a smaller limit.
#[must_use]
pub fn strict_integer(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(if text.starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    }))
}

/// `double`: as `Double.valueOf`, with exponents, the suffixes `d` and `f`, `NaN` and `Infinity`.
#[must_use]
pub fn double(text: &str) -> Reading<f64> {
    let text = java_trim(text);
    if text.is_empty() {
        return Reading::Bad("is empty");
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let negative = text.starts_with('-');
    match unsigned {
        "NaN" => return Reading::Good(f64::NAN),
        "Infinity" => {
            return Reading::Good(if negative {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            });
        }
        _ => {}
    }
    let digits = unsigned.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(unsigned);
    if digits.starts_with(['+', '-']) {
        return Reading::Bad("is not a number");
    }
    if !digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return Reading::Bad("is not a number");
    }
    match digits.parse::<f64>() {
        Ok(number) => Reading::Good(if negative { -number } else { number }),
        Err(_) => Reading::Bad("is not a number"),
    }
}

/// `boolean` or `Boolean`: `true yes y on 1` and `false no n off 0` in any case, not trimmed.
#[must_use]
pub fn boolean(text: &str) -> Reading<bool> {
    let word = |text: &str| match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    };
    match word(text) {
        Some(value) => Reading::Good(value),
        None if text.is_empty() => Reading::Bad("is empty"),
        None if word(java_trim(text)).is_some() => Reading::Bad("ends with a blank"),
        None => Reading::Bad("is neither true nor false"),
    }
}

/// An enum constant: upper-cased, not trimmed. `None` if there is no such constant.
///
/// Compat: upper-casing is that of the root locale; a Turkish JVM rejects lower-case names.
#[must_use]
pub fn constant(text: &str, constants: &'static [&'static str]) -> Option<&'static str> {
    let upper = text.to_uppercase();
    constants.iter().find(|constant| **constant == upper).copied()
}

/// `java.time.Duration`: trimmed ISO-8601 such as `PT12H` or `P1D`.
///
/// # Errors
/// A text that `Duration.parse` refuses, or a negative duration, which Java refuses later.
pub fn duration(text: &str) -> Result<Duration, &'static str> {
    const REFUSED: &str = "is not an ISO-8601 duration such as PT30S, PT12H or P1D";
    let text = java_trim(text);
    let negated = text.starts_with('-');
    let upper = text.strip_prefix(['+', '-']).unwrap_or(text).to_ascii_uppercase();
    let body = upper.strip_prefix('P').ok_or(REFUSED)?;
    let (days, time) = match body.split_once('T') {
        Some((_, "")) => return Err(REFUSED),
        Some((days, time)) => (days, time),
        None => (body, ""),
    };
    if days.is_empty() && time.is_empty() {
        return Err(REFUSED);
    }
    let mut nanos: i128 = 0;
    if !days.is_empty() {
        let number = days.strip_suffix('D').and_then(strict_integer).ok_or(REFUSED)?;
        nanos = scaled(number, 86_400).ok_or(REFUSED)?;
    }
    let mut rest = time;
    for (unit, seconds) in [('H', 3600), ('M', 60), ('S', 1)] {
        let Some((number, after)) = rest.split_once(unit) else {
            continue;
        };
        let part = if unit == 'S' {
            fraction(number)
        } else {
            strict_integer(number).and_then(|n| scaled(n, seconds))
        };
        nanos = nanos.checked_add(part.ok_or(REFUSED)?).ok_or(REFUSED)?;
        rest = after;
    }
    if !rest.is_empty() {
        return Err(REFUSED);
    }
    if negated {
        nanos = -nanos;
    }
    let nanos = u128::try_from(nanos).map_err(|_| "is negative")?;
    let seconds = u64::try_from(nanos / 1_000_000_000).map_err(|_| REFUSED)?;
    let below = u32::try_from(nanos % 1_000_000_000).map_err(|_| REFUSED)?;
    Ok(Duration::new(seconds, below))
}

fn scaled(number: i128, seconds: i128) -> Option<i128> {
    number.checked_mul(seconds)?.checked_mul(1_000_000_000)
}

/// Seconds with up to nine digits of fraction, in nanoseconds.
fn fraction(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once(['.', ',']).unwrap_or((text, ""));
    if part.len() > 9 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i128 = format!("{part:0<9}").parse().ok()?;
    let seconds = scaled(strict_integer(whole)?, 1)?;
    Some(if text.starts_with('-') {
        seconds - nanos
    } else {
        seconds + nanos
    })
}

/// `String[]`: a comma list in optional braces. Also split at every character that is not a letter, a digit, `.` or
/// `-`; quotes keep an item together; a `/` hides the rest of its line.
#[must_use]
pub fn list(text: &str) -> Vec<String> {
    let trimmed = java_trim(text);
    let inner = trimmed
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(trimmed);
    let mut items = Vec::new();
    let mut chars = inner.chars().peekable();
    while let Some(first) = chars.next() {
        match first {
            '/' => while chars.next_if(|c| !matches!(c, '\n' | '\r')).is_some() {},
            '"' | '\'' => {
                let mut item = String::new();
                while let Some(c) = chars.next_if(|c| !matches!(c, '\n' | '\r')) {
                    if c == first {
                        break;
                    }
                    item.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
                }
                items.push(item);
            }
            c if is_word(c) => {
                let mut item = String::from(c);
                while let Some(c) = chars.next_if(|c| is_word(*c)) {
                    item.push(c);
                }
                items.push(item);
            }
            _ => {}
        }
    }
    items
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-') || c >= '\u{a0}'
}

/// An endpoint: `http://` or `https://`, a host, perhaps a port and a path.
///
/// Compat: Java's `URI.create` also lets `localhost:4566` pass (its scheme is `localhost`), and then no request ever
/// succeeds. Refused here.
///
/// # Errors
/// What is wrong with it.
pub fn endpoint(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.ends_with(|c: char| c <= ' ') {
        return Err("ends with a blank");
    }
    let lower = text.to_ascii_lowercase();
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme));
    let rest = &text[scheme.ok_or("does not begin with http:// or https://")?.len()..];
    if text.contains(|c: char| c <= ' ' || "\"<>\\^`{|}".contains(c)) {
        return Err("holds a character that no URI may hold");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host_and_port, None),
    };
    if host.is_empty() {
        return Err("has no host");
    }
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("has a port that is not a number up to 65535");
    }
    Ok(text)
}

/// Whether a region can be part of a host name. Any such text passes, known to AWS or not.
#[must_use]
pub fn is_region(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_read_as_in_java() {
        for (text, expected) in [
            ("100", Reading::Good(100)),
            (" 100 ", Reading::Good(100)),
            ("\t+5", Reading::Good(5)),
            ("-5", Reading::Good(-5)),
            ("007", Reading::Good(7)),
            ("2147483647", Reading::Good(2_147_483_647)),
            ("2147483648", Reading::Bad("is too large")),
            ("1.5", Reading::Bad("is not a whole number")),
            ("1e3", Reading::Bad("is not a whole number")),
            ("", Reading::Bad("is empty")),
            ("  ", Reading::Bad("is empty")),
            ("abc", Reading::Bad("is not a number")),
            ("5,000", Reading::Bad("is not a number")),
            ("0x10", Reading::Bad("is not a number")),
            ("10L", Reading::Bad("is not a number")),
            ("100 # x", Reading::Bad("is not a number")),
            (
                "99999999999999999999999999999999999999999999",
                Reading::Bad("is too large"),
            ),
        ] {
            assert_eq!(int(text), expected, "{text:?}");
        }
        assert_eq!(long("2147483648"), Reading::Good(2_147_483_648));
        assert_eq!(long("9223372036854775808"), Reading::Bad("is too large"));
    }

    #[test]
    fn doubles_read_as_in_java() {
        for (text, expected) in [
            ("0.5", Reading::Good(0.5)),
            (" 5 ", Reading::Good(5.0)),
            ("-1.5e3", Reading::Good(-1500.0)),
            ("1.5f", Reading::Good(1.5)),
            ("1D", Reading::Good(1.0)),
            ("Infinity", Reading::Good(f64::INFINITY)),
            ("-Infinity", Reading::Good(f64::NEG_INFINITY)),
            ("1e999", Reading::Good(f64::INFINITY)),
            ("inf", Reading::Bad("is not a number")),
            ("nan", Reading::Bad("is not a number")),
            ("5,0", Reading::Bad("is not a number")),
            ("--5", Reading::Bad("is not a number")),
            ("", Reading::Bad("is empty")),
        ] {
            assert_eq!(double(text), expected, "{text:?}");
        }
        assert!(matches!(double("NaN"), Reading::Good(number) if number.is_nan()));
    }

    #[test]
    fn booleans_know_ten_words_and_no_blanks() {
        for text in ["true", "YES", "y", "On", "1"] {
            assert_eq!(boolean(text), Reading::Good(true), "{text}");
        }
        for text in ["false", "No", "N", "off", "0"] {
            assert_eq!(boolean(text), Reading::Good(false), "{text}");
        }
        assert_eq!(boolean("true "), Reading::Bad("ends with a blank"));
        assert_eq!(boolean(""), Reading::Bad("is empty"));
        assert_eq!(boolean("ja"), Reading::Bad("is neither true nor false"));
    }

    #[test]
    fn enum_constants_are_upper_cased_but_not_trimmed() {
        const LEVELS: &[&str] = &["NONE", "SUMMARY", "DETAILED"];
        assert_eq!(constant("summary", LEVELS), Some("SUMMARY"));
        assert_eq!(constant("SUMMARY ", LEVELS), None);
        assert_eq!(constant("", LEVELS), None);
    }

    #[test]
    fn durations_are_iso_8601() {
        for (text, seconds) in [
            ("PT12H", 43_200.0),
            (" P1D ", 86_400.0),
            ("p1dt1h1m1.5s", 90_061.5),
            ("PT0S", 0.0),
            ("PT-1M2M", f64::NAN),
            ("PT2H-1M", 7_140.0),
            ("-PT-5S", 5.0),
        ] {
            match duration(text) {
                Ok(duration) => assert_eq!(duration.as_secs_f64(), seconds, "{text}"),
                Err(_) => assert!(seconds.is_nan(), "{text}"),
            }
        }
        assert_eq!(duration("-PT5S"), Err("is negative"));
        for text in [
            "", "1h", "P", "PT", "P1DT", "PT1S1H", "PT1", "12", "P1M", "PT1.5H",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_split_as_the_stream_tokenizer_does() {
        for (text, expected) in [
            ("Operation, ShardId", vec!["Operation", "ShardId"]),
            ("{Operation,ShardId}", vec!["Operation", "ShardId"]),
            ("Operation ShardId", vec!["Operation", "ShardId"]),
            ("a_b", vec!["a", "b"]),
            ("a.b-c", vec!["a.b-c"]),
            ("'a b', \"c,d\"", vec!["a b", "c,d"]),
            ("a / b", vec!["a"]),
            (",,a,,", vec!["a"]),
            ("", vec![]),
            ("  ", vec![]),
        ] {
            assert_eq!(list(text), expected, "{text:?}");
        }
    }

    #[test]
    fn endpoints_need_a_scheme_and_a_host() {
        for text in [
            "http://localhost:4566",
            "https://kinesis.eu-west-1.amazonaws.com",
            "HTTP://[::1]:80/x",
        ] {
            assert_eq!(endpoint(text), Ok(text));
        }
        for (text, reason) in [
            ("", "is empty"),
            ("localhost:4566", "does not begin with http:// or https://"),
            ("http://localhost ", "ends with a blank"),
            ("http://", "has no host"),
            ("http://:80", "has no host"),
            ("http://a:99999", "has a port that is not a number up to 65535"),
            ("http://a b", "holds a character that no URI may hold"),
        ] {
            assert_eq!(endpoint(text), Err(reason), "{text:?}");
        }
    }
}
