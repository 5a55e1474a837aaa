//! JSON text, walked through from front to end. As strict as any parser; never more than a look at each byte, and
//! nothing is built that nobody asked for.

use multilangd_protocol::write::plain_bytes;

use super::BadAnswer;

/// Values inside values, in what is skipped.
const LEVELS_MAX: u32 = 64;

const CUT_OFF: &str = "the answer is cut off";

/// A place in JSON text.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

/// What is done with the value of a key, and with an item of a list: one type for all levels of what is skipped.
type OfKey<'a, 'v> = dyn FnMut(&mut Reader<'a>, &[u8]) -> Result<(), BadAnswer> + 'v;
type OfItem<'a, 'v> = dyn FnMut(&mut Reader<'a>) -> Result<(), BadAnswer> + 'v;

/// What is between the two quotes of a string, not yet decoded.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'a> {
    pub(super) text: &'a [u8],
    /// Where it begins, for errors.
    start: usize,
    /// It is ASCII, and means itself.
    pub(super) is_plain: bool,
}

impl Quoted<'_> {
    /// What it means.
    pub(super) fn unescaped(&self) -> Result<String, BadAnswer> {
        let bad = |what| BadAnswer { what, at: self.start };
        let text = std::str::from_utf8(self.text).map_err(|_| bad("a string that is no UTF-8"))?;
        unescape(text).ok_or(bad("a string with a bad escape"))
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    /// The place, for errors.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn bad<T>(&self, what: &'static str) -> Result<T, BadAnswer> {
        Err(BadAnswer { what, at: self.at })
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Result<(), BadAnswer> {
        self.peek();
        if self.at < self.text.len() {
            return self.bad("something behind the end");
        }
        Ok(())
    }

    /// What comes next, byte for byte. `None`: something else does.
    #[inline(always)]
    pub(super) fn literal<const BYTES: usize>(&mut self, literal: &[u8; BYTES]) -> Option<()> {
        let next = self.text.get(self.at..)?.first_chunk::<BYTES>()?;
        if next != literal {
            return None;
        }
        self.at += BYTES;
        Some(())
    }

    /// A key, and its colon. One with escapes is none that anybody looks for: it is empty.
    pub(super) fn key(&mut self) -> Result<&'a [u8], BadAnswer> {
        let key = self.string_in_place()?;
        self.expect(b':', "no colon behind a key")?;
        if key.is_plain {
            return Ok(key.text);
        }
        key.unescaped()?;
        Ok(b"")
    }

    /// An object: `value` reads, or skips, the value of each [key](Self::key).
    pub(super) fn object(
        &mut self,
        mut value: impl FnMut(&mut Self, &[u8]) -> Result<(), BadAnswer>,
    ) -> Result<(), BadAnswer> {
        self.expect(b'{', "no object")?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            value(self, key)?;
            if self.take(b'}') {
                return Ok(());
            }
            self.expect(b',', "no comma between two keys")?;
        }
    }

    /// An array, or null. `item` reads each of its values.
    pub(super) fn list(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), BadAnswer>,
    ) -> Result<(), BadAnswer> {
        if self.null()? {
            return Ok(());
        }
        self.expect(b'[', "no array")?;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.take(b']') {
                return Ok(());
            }
            self.expect(b',', "no comma between two values")?;
        }
    }

    /// A string where it is, or null.
    pub(super) fn quoted(&mut self) -> Result<Option<Quoted<'a>>, BadAnswer> {
        if self.null()? {
            return Ok(None);
        }
        self.string_in_place().map(Some)
    }

    /// A string with everything its own, or null.
    pub(super) fn string(&mut self) -> Result<Option<String>, BadAnswer> {
        self.quoted()?.map(|quoted| quoted.unescaped()).transpose()
    }

    /// All up to the next quote, of a string that is known to have no other. `None`, and nothing has happened: there is no
    /// string. Without a quote nothing has to be looked at twice: the answer is cut off.
    #[inline(always)]
    pub(super) fn up_to_quote(&mut self) -> Result<Option<&'a [u8]>, BadAnswer> {
        if self.peek() != b'"' {
            return Ok(None);
        }
        let start = self.at + 1;
        let Some(length) = memchr::memchr(b'"', &self.text[start..]) else {
            self.at = self.text.len();
            return self.bad(CUT_OFF);
        };
        self.at = start + length + 1;
        Ok(Some(&self.text[start..start + length]))
    }

    /// A string of digits, and not none. Nobody escapes them.
    #[inline(always)]
    pub(super) fn digits_in_quotes(&mut self) -> Option<&'a [u8]> {
        if self.peek() != b'"' {
            return None;
        }
        let start = self.at + 1;
        let behind = &self.text[start..];
        let digits = leading_digits(behind);
        if digits == 0 || behind.get(digits) != Some(&b'"') {
            return None;
        }
        self.at = start + digits + 1;
        Some(&behind[..digits])
    }

    /// A number times 10^`power`, to the nearest integer, or null.
    pub(super) fn scaled(&mut self, power: i32) -> Result<Option<i64>, BadAnswer> {
        if self.null()? {
            return Ok(None);
        }
        let at = self.at;
        let number = self.number()?;
        number.scaled(power).map(Some).ok_or(BadAnswer {
            what: "a number out of range",
            at,
        })
    }

    /// Seconds, in milliseconds, or null.
    #[inline(always)]
    pub(super) fn time(&mut self) -> Result<Option<i64>, BadAnswer> {
        match self.usual_time() {
            Some(ms) => Ok(Some(ms)),
            None => self.scaled(3),
        }
    }

    /// Seconds as the service writes them, `1.441215410867E9`, in milliseconds. `None`, and nothing has happened: they are
    /// written otherwise, or finer, or too near the end of the text.
    #[inline(always)]
    fn usual_time(&mut self) -> Option<i64> {
        let behind = self.text.get(self.at..)?;
        let [units @ b'0'..=b'9', b'.', fraction @ ..] = behind else {
            return None;
        };
        let (first, count) = first_digits(*fraction.first_chunk()?);
        let (second, more) = match count {
            8 => first_digits(*fraction[8..].first_chunk()?),
            _ => (0, 0),
        };
        let digits = count + more;
        let [b'E', b'9', next, ..] = &fraction[digits..] else {
            return None;
        };
        if digits == 0 || digits > 12 || next.is_ascii_digit() {
            return None;
        }
        let units = u64::from(units - b'0') * POWERS_OF_TEN[12];
        let fraction = (first * POWERS_OF_TEN[more] + second) * POWERS_OF_TEN[12 - digits];
        self.at += 2 + digits + 2;
        i64::try_from(units + fraction).ok()
    }

    /// Any value, of no interest; `level` others around it.
    pub(super) fn skip(&mut self, level: u32) -> Result<(), BadAnswer> {
        match self.peek() {
            b'"' => {
                let quoted = self.string_in_place()?;
                if !quoted.is_plain {
                    quoted.unescaped()?;
                }
                Ok(())
            }
            b'{' | b'[' if level == LEVELS_MAX => self.bad("too many values inside values"),
            b'{' => {
                let mut value = |reader: &mut Self, _: &[u8]| reader.skip(level + 1);
                self.object(&mut value as &mut OfKey<'a, '_>)
            }
            b'[' => {
                let mut item = |reader: &mut Self| reader.skip(level + 1);
                self.list(&mut item as &mut OfItem<'a, '_>)
            }
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number().map(drop),
        }
    }

    /// What comes next, behind white space. 0, which nothing begins with, at the end.
    fn peek(&mut self) -> u8 {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return *byte,
                None => return 0,
            }
        }
    }

    pub(super) fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == byte;
        self.at += usize::from(is_there);
        is_there
    }

    pub(super) fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), BadAnswer> {
        if self.take(byte) { Ok(()) } else { self.bad(what) }
    }

    pub(super) fn null(&mut self) -> Result<bool, BadAnswer> {
        if self.peek() != b'n' {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), BadAnswer> {
        if !self.text[self.at..].starts_with(word) {
            return self.bad("no JSON value");
        }
        self.at += word.len();
        Ok(())
    }

    pub(super) fn string_in_place(&mut self) -> Result<Quoted<'a>, BadAnswer> {
        self.expect(b'"', "no string")?;
        let start = self.at;
        let mut is_plain = true;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = plain_bytes(rest);
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => break,
                // Whatever is escaped is not the end.
                Some(b'\\') => self.at += 2,
                Some(0x80..) => self.at += 1,
                Some(_) => return self.bad("a control character in a string"),
                None => return self.bad(CUT_OFF),
            }
            is_plain = false;
        }
        let text = &self.text[start..self.at];
        self.at += 1;
        Ok(Quoted {
            text,
            start,
            is_plain,
        })
    }

    fn number(&mut self) -> Result<Number, BadAnswer> {
        let mut number = Number {
            is_negative: self.next_is(b'-'),
            ..Number::default()
        };
        if self.next_is(b'0') {
            if self.next_digit().is_some() {
                return self.bad("a number that begins with zero");
            }
        } else if self.digits(&mut number) == 0 {
            return self.bad("no JSON value");
        }
        if self.next_is(b'.') {
            let fraction = self.digits(&mut number);
            if fraction == 0 {
                return self.bad("a number that ends with its point");
            }
            number.power = number.power.saturating_sub(fraction);
        }
        if self.next_is(b'e') || self.next_is(b'E') {
            let is_negative = self.next_is(b'-');
            if !is_negative {
                self.next_is(b'+');
            }
            let mut exponent = Number::default();
            if self.digits(&mut exponent) == 0 {
                return self.bad("a number without its exponent");
            }
            let exponent = i32::try_from(exponent.digits).unwrap_or(i32::MAX);
            number.power = number
                .power
                .saturating_add(if is_negative { -exponent } else { exponent });
        }
        Ok(number)
    }

    #[inline(always)]
    fn next_is(&mut self, byte: u8) -> bool {
        let is_there = self.text.get(self.at) == Some(&byte);
        self.at += usize::from(is_there);
        is_there
    }

    #[inline(always)]
    fn next_digit(&mut self) -> Option<u8> {
        let digit = self.text.get(self.at)?.wrapping_sub(b'0');
        let is_digit = digit < 10;
        self.at += usize::from(is_digit);
        is_digit.then_some(digit)
    }

    /// How many there were.
    #[inline(always)]
    fn digits(&mut self, number: &mut Number) -> i32 {
        let began = self.at;
        // Up to eight at once, as long as it is certain that they fit.
        while number.digits < FITS_EIGHT_MORE
            && !number.is_full
            && let Some(next) = self.text.get(self.at..).and_then(<[u8]>::first_chunk)
        {
            let (some, count) = first_digits(*next);
            number.digits = number.digits * POWERS_OF_TEN[count] + some;
            self.at += count;
            if count < 8 {
                return i32::try_from(self.at - began).unwrap_or(i32::MAX);
            }
        }
        while let Some(digit) = self.next_digit() {
            if number.digits < FITS_ONE_MORE && !number.is_full {
                number.digits = number.digits * 10 + u64::from(digit);
            } else {
                number.is_full = true;
                number.power = number.power.saturating_add(1);
            }
        }
        i32::try_from(self.at - began).unwrap_or(i32::MAX)
    }
}

/// A number below this may have a digit more, or eight.
const FITS_ONE_MORE: u64 = 10_u64.pow(18);
const FITS_EIGHT_MORE: u64 = 10_u64.pow(11);

/// All powers of ten that there are in 64 bits.
const POWERS_OF_TEN: [u64; 20] = {
    let mut powers = [1; 20];
    let mut power = 1;
    while power < powers.len() {
        powers[power] = 10 * powers[power - 1];
        power += 1;
    }
    powers
};

/// The number that the digits make with which eight bytes begin, and how many they are.
#[inline(always)]
fn first_digits(text: [u8; 8]) -> (u64, usize) {
    let word = u64::from_le_bytes(text);
    let count = digits_before(no_digits(word));
    if count == 0 {
        return (0, 0);
    }
    // Behind zeros instead of before what is none of them.
    let word = word << (64 - 8 * count);
    // Neighbours are put together: to pairs, to fours, to eight.
    let ones = word & 0x0F0F_0F0F_0F0F_0F0F;
    let pairs = (ones.wrapping_mul((10 << 8) | 1) >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul((100 << 16) | 1) >> 16) & 0x0000_FFFF_0000_FFFF;
    (fours.wrapping_mul((10_000 << 32) | 1) >> 32, count)
}

/// How many bytes, from the beginning, are decimal digits. Looks at sixteen at a time, then at eight.
pub(super) fn leading_digits(text: &[u8]) -> usize {
    let (blocks, _) = text.as_chunks::<16>();
    let are_digits = |block: &&[u8; 16]| block.iter().fold(true, |all, byte| all & byte.is_ascii_digit());
    let digits = 16 * blocks.iter().take_while(are_digits).count();
    let (words, rest) = text[digits..].as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let others = no_digits(u64::from_le_bytes(*word));
        if others != 0 {
            return digits + 8 * index + digits_before(others);
        }
    }
    let last = rest.iter().take_while(|byte| byte.is_ascii_digit());
    digits + 8 * words.len() + last.count()
}

/// How many of eight bytes come before the first that [is no digit](no_digits).
#[inline(always)]
fn digits_before(others: u64) -> usize {
    (others.trailing_zeros() / 8) as usize
}

/// Not 0 if one of the eight bytes is no decimal digit; the lowest byte that is not 0 is the first such.
#[inline(always)]
fn no_digits(word: u64) -> u64 {
    const HIGH_HALVES: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const SIXES: u64 = 0x0606_0606_0606_0606;
    // 0x30 to 0x3F, and still so with six more. What carries over to the next byte was none of those.
    ((word & HIGH_HALVES) ^ ZEROS) | ((word.wrapping_add(SIXES) & HIGH_HALVES) ^ ZEROS)
}

/// `digits` times 10^`power`.
#[derive(Default)]
struct Number {
    is_negative: bool,
    digits: u64,
    /// There were more digits than these.
    is_full: bool,
    power: i32,
}

impl Number {
    /// Times 10^`power`, to the nearest integer. `None`: too large.
    fn scaled(&self, power: i32) -> Option<i64> {
        if self.digits == 0 {
            return Some(0);
        }
        let power = self.power.saturating_add(power);
        let scale = POWERS_OF_TEN.get(power.unsigned_abs() as usize).copied();
        let digits = match (power >= 0, scale) {
            (true, scale) => self.digits.checked_mul(scale?)?,
            (false, Some(scale)) => self.digits / scale + u64::from(self.digits % scale >= scale / 2),
            (false, None) => 0,
        };
        let integer = i64::try_from(digits).ok()?;
        Some(if self.is_negative { -integer } else { integer })
    }
}

/// The text of what is between two quotes. `None`: an escape that is none, or half a surrogate pair.
fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let kind = escaped.chars().next()?;
        rest = &escaped[kind.len_utf8()..];
        text.push(match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = unit(&mut rest)?;
                match char::from_u32(high.into()) {
                    Some(character) => character,
                    None => {
                        rest = rest.strip_prefix("\\u")?;
                        let low = unit(&mut rest)?;
                        char::decode_utf16([high, low]).next()?.ok()?
                    }
                }
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Takes four hexadecimal digits: a unit of UTF-16.
fn unit(rest: &mut &str) -> Option<u16> {
    let (digits, behind) = rest.split_at_checked(4)?;
    *rest = behind;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    are_digits.then(|| u16::from_str_radix(digits, 16).ok())?
}
