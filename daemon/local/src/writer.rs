//! Answers, written straight into one buffer, as JSON or as CBOR.
//!
//! Owns the two formats. Never knows an operation.

use std::io::Write;

/// The two formats of a body. An answer has the format of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Cbor,
}

impl Format {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }
}

/// Maps and lists are opened and closed; inside a map every value follows its key.
pub(crate) struct Writer {
    format: Format,
    buffer: Vec<u8>,
    /// JSON: a comma is due before the next key or item.
    comma: bool,
}

impl Writer {
    pub(crate) fn new(format: Format) -> Self {
        Self::with_capacity(format, 256)
    }

    pub(crate) fn with_capacity(format: Format, bytes: usize) -> Self {
        Self {
            format,
            buffer: Vec::with_capacity(bytes),
            comma: false,
        }
    }

    /// Makes room, so that a large answer is not copied while it grows.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.buffer.reserve(bytes);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.buffer
    }

    fn separate(&mut self) {
        if self.comma && self.format == Format::Json {
            self.buffer.push(b',');
        }
        self.comma = true;
    }

    pub(crate) fn open_map(&mut self) -> &mut Self {
        self.open(b'{', 0xbf)
    }

    pub(crate) fn close_map(&mut self) -> &mut Self {
        self.close(b'}')
    }

    pub(crate) fn open_list(&mut self) -> &mut Self {
        self.open(b'[', 0x9f)
    }

    pub(crate) fn close_list(&mut self) -> &mut Self {
        self.close(b']')
    }

    fn open(&mut self, json: u8, cbor: u8) -> &mut Self {
        self.separate();
        self.buffer
            .push(if self.format == Format::Json { json } else { cbor });
        self.comma = false;
        self
    }

    fn close(&mut self, json: u8) -> &mut Self {
        self.buffer
            .push(if self.format == Format::Json { json } else { 0xff });
        self.comma = true;
        self
    }

    /// A member's name; its value comes next. Names are ours and need no escapes.
    pub(crate) fn key(&mut self, name: &str) -> &mut Self {
        self.separate();
        match self.format {
            Format::Json => {
                self.buffer.push(b'"');
                self.buffer.extend_from_slice(name.as_bytes());
                self.buffer.extend_from_slice(b"\":");
            }
            Format::Cbor => self.cbor_text(name.as_bytes()),
        }
        self.comma = false;
        self
    }

    /// A member's name that is not ours, such as a tag's.
    pub(crate) fn foreign_key(&mut self, name: &str) -> &mut Self {
        self.text(name);
        if self.format == Format::Json {
            self.buffer.push(b':');
        }
        self.comma = false;
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.separate();
        match self.format {
            Format::Json => json_text(&mut self.buffer, text),
            Format::Cbor => self.cbor_text(text.as_bytes()),
        }
        self
    }

    /// ASCII without quotes and backslashes, such as digits.
    pub(crate) fn plain(&mut self, text: &[u8]) -> &mut Self {
        self.separate();
        match self.format {
            Format::Json => {
                self.buffer.push(b'"');
                self.buffer.extend_from_slice(text);
                self.buffer.push(b'"');
            }
            Format::Cbor => self.cbor_text(text),
        }
        self
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        self.separate();
        match self.format {
            Format::Json => {
                self.buffer.push(b'"');
                base64_simd::STANDARD.encode_append(bytes, &mut self.buffer);
                self.buffer.push(b'"');
            }
            Format::Cbor => {
                self.cbor_head(0x40, bytes.len() as u64);
                self.buffer.extend_from_slice(bytes);
            }
        }
        self
    }

    pub(crate) fn integer(&mut self, number: i64) -> &mut Self {
        self.separate();
        match self.format {
            Format::Json => write!(self.buffer, "{number}").expect("a buffer takes everything"),
            Format::Cbor if number < 0 => self.cbor_head(0x20, number.unsigned_abs() - 1),
            Format::Cbor => self.cbor_head(0, number as u64),
        }
        self
    }

    /// Only for JSON that people read.
    pub(crate) fn float(&mut self, number: f64) -> &mut Self {
        self.separate();
        match self.format {
            Format::Json => write!(self.buffer, "{number}").expect("a buffer takes everything"),
            Format::Cbor => {
                self.buffer.push(0xfb);
                self.buffer.extend_from_slice(&number.to_be_bytes());
            }
        }
        self
    }

    pub(crate) fn boolean(&mut self, value: bool) -> &mut Self {
        self.separate();
        match (self.format, value) {
            (Format::Json, true) => self.buffer.extend_from_slice(b"true"),
            (Format::Json, false) => self.buffer.extend_from_slice(b"false"),
            (Format::Cbor, true) => self.buffer.push(0xf5),
            (Format::Cbor, false) => self.buffer.push(0xf4),
        }
        self
    }

    /// Milliseconds since 1970: seconds with a fraction in JSON, tag 1 with milliseconds in CBOR.
    pub(crate) fn time(&mut self, ms: u64) -> &mut Self {
        self.separate();
        match self.format {
            Format::Json => {
                write!(self.buffer, "{}.{:03}", ms / 1000, ms % 1000).expect("a buffer takes everything");
            }
            Format::Cbor => {
                self.buffer.push(0xc1);
                self.cbor_head(0, ms);
            }
        }
        self
    }

    fn cbor_text(&mut self, text: &[u8]) {
        self.cbor_head(0x60, text.len() as u64);
        self.buffer.extend_from_slice(text);
    }

    fn cbor_head(&mut self, major: u8, number: u64) {
        match number {
            0..=23 => self.buffer.push(major | number as u8),
            24..=0xff => self.buffer.extend_from_slice(&[major | 24, number as u8]),
            0x100..=0xffff => {
                self.buffer.push(major | 25);
                self.buffer.extend_from_slice(&(number as u16).to_be_bytes());
            }
            0x1_0000..=0xffff_ffff => {
                self.buffer.push(major | 26);
                self.buffer.extend_from_slice(&(number as u32).to_be_bytes());
            }
            _ => {
                self.buffer.push(major | 27);
                self.buffer.extend_from_slice(&number.to_be_bytes());
            }
        }
    }
}

fn json_text(buffer: &mut Vec<u8>, text: &str) {
    buffer.push(b'"');
    if text.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        buffer.extend_from_slice(text.as_bytes());
    } else {
        for byte in text.bytes() {
            match byte {
                b'"' | b'\\' => buffer.extend_from_slice(&[b'\\', byte]),
                0..0x20 => write!(buffer, "\\u{byte:04x}").expect("a buffer takes everything"),
                _ => buffer.push(byte),
            }
        }
    }
    buffer.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(format: Format) -> Vec<u8> {
        let mut w = Writer::new(format);
        w.open_map()
            .key("Name")
            .text("a\"\\\n\u{e4}")
            .key("List")
            .open_list()
            .integer(-1)
            .integer(70_000);
        w.open_map()
            .close_map()
            .close_list()
            .key("At")
            .time(1_790_000_000_007)
            .key("Data")
            .blob(&[0, 255]);
        w.key("On").boolean(true).key("Number").plain(b"12").close_map();
        w.finish()
    }

    #[test]
    fn json_has_commas_escapes_base64_and_seconds() {
        assert_eq!(
            std::str::from_utf8(&sample(Format::Json)).unwrap(),
            r#"{"Name":"a\"\\\u000aä","List":[-1,70000,{}],"At":1790000000.007,"Data":"AP8=","On":true,"Number":"12"}"#
        );
    }

    #[test]
    fn cbor_is_read_by_another_decoder() {
        use ciborium::value::Value as Other;
        let value: Other = ciborium::from_reader(sample(Format::Cbor).as_slice()).unwrap();
        let member = |name: &str| {
            let map = value.as_map().unwrap();
            map.iter()
                .find(|(key, _)| key.as_text() == Some(name))
                .unwrap()
                .1
                .clone()
        };
        assert_eq!(member("Name"), Other::Text("a\"\\\n\u{e4}".into()));
        assert_eq!(
            member("At"),
            Other::Tag(1, Box::new(Other::Integer(1_790_000_000_007_i64.into())))
        );
        assert_eq!(member("Data"), Other::Bytes(vec![0, 255]));
        assert_eq!(
            member("List").as_array().unwrap()[1],
            Other::Integer(70_000.into())
        );
    }
}
