//! Shard iterators and `NextToken`s: opaque text that carries everything a later call needs.
//!
//! Owns their layout and age. Nothing is remembered for them, so they survive a restart of the service.

use crate::error::{Outcome, ServiceError};

/// A shard iterator's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Iterator {
    pub(crate) stream: String,
    /// Tells a stream from an earlier one of the same name.
    pub(crate) stream_made_ms: u64,
    pub(crate) shard: u32,
    /// The next record to read.
    pub(crate) position: u64,
    pub(crate) issued_ms: u64,
}

const ITERATOR: u8 = 1;
const PAGE: u8 = 2;

impl Iterator {
    pub(crate) fn write(&self) -> String {
        let numbers = [
            self.issued_ms,
            self.stream_made_ms,
            u64::from(self.shard),
            self.position,
        ];
        seal(ITERATOR, &numbers, &[&self.stream])
    }

    pub(crate) fn read(text: &str) -> Outcome<Self> {
        let invalid = || ServiceError::argument("Invalid ShardIterator.");
        let (numbers, texts) = unseal::<4>(ITERATOR, text).ok_or_else(invalid)?;
        let [issued_ms, stream_made_ms, shard, position] = numbers;
        let [stream] = <[String; 1]>::try_from(texts).map_err(|_| invalid())?;
        let shard = u32::try_from(shard).map_err(|_| invalid())?;
        Ok(Self {
            stream,
            stream_made_ms,
            shard,
            position,
            issued_ms,
        })
    }
}

/// Where a paged listing goes on: after `last`, for the same question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) stream: String,
    /// The question, in words of the operation that asked it.
    pub(crate) question: String,
    pub(crate) last: String,
    pub(crate) issued_ms: u64,
}

impl Page {
    pub(crate) fn write(&self) -> String {
        seal(
            PAGE,
            &[self.issued_ms],
            &[&self.stream, &self.question, &self.last],
        )
    }

    pub(crate) fn read(text: &str) -> Outcome<Self> {
        let invalid = || ServiceError::argument("Invalid NextToken.");
        let ([issued_ms], texts) = unseal::<1>(PAGE, text).ok_or_else(invalid)?;
        let [stream, question, last] = <[String; 3]>::try_from(texts).map_err(|_| invalid())?;
        Ok(Self {
            stream,
            question,
            last,
            issued_ms,
        })
    }
}

fn seal(kind: u8, numbers: &[u64], texts: &[&str]) -> String {
    let mut bytes = vec![kind];
    numbers
        .iter()
        .for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    for text in texts {
        bytes.extend_from_slice(&(text.len() as u16).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    base64_simd::STANDARD.encode_to_string(&bytes)
}

fn unseal<const N: usize>(kind: u8, text: &str) -> Option<([u64; N], Vec<String>)> {
    let bytes = base64_simd::STANDARD.decode_to_vec(text.as_bytes()).ok()?;
    let (content, sum) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(content).to_be_bytes() != *sum {
        return None;
    }
    let (first, mut rest) = content.split_first()?;
    if *first != kind {
        return None;
    }
    let mut numbers = [0; N];
    for number in &mut numbers {
        let (bytes, behind) = rest.split_first_chunk::<8>()?;
        *number = u64::from_be_bytes(*bytes);
        rest = behind;
    }
    let mut texts = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        texts.push(String::from_utf8(behind.get(..length)?.to_vec()).ok()?);
        rest = &behind[length..];
    }
    rest.is_empty().then_some((numbers, texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iterator_reads_back_and_an_altered_one_does_not() {
        let iterator = Iterator {
            stream: "orders".into(),
            stream_made_ms: 5,
            shard: 3,
            position: 1 << 40,
            issued_ms: 7,
        };
        let text = iterator.write();
        assert_eq!(Iterator::read(&text), Ok(iterator));
        for at in 0..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(
                Iterator::read(&altered).unwrap_err().code,
                "InvalidArgumentException",
                "{at}"
            );
        }
    }

    #[test]
    fn a_page_is_not_an_iterator() {
        let page = Page {
            stream: "s".into(),
            question: "all".into(),
            last: "x".into(),
            issued_ms: 7,
        };
        assert_eq!(Page::read(&page.write()), Ok(page.clone()));
        assert!(Iterator::read(&page.write()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn sealed_bytes_of_any_kind_are_read_without_a_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
            kind in 1u8..=2,
        ) {
            // With the right checksum, so that the reading goes as deep as it can.
            let mut content = vec![kind];
            content.extend(bytes);
            content.extend(crc32fast::hash(&content).to_be_bytes());
            let text = base64_simd::STANDARD.encode_to_string(&content);
            let _ = (Iterator::read(&text), Page::read(&text));
        }
    }
}
