//! One record as it lies in a log: a checksummed header, the partition key, the data.
//!
//! Owns the layout. Little endian: checksum of all that follows (4), bytes of data (4), bytes of key (2), a
//! mark (2), position within the shard (8), arrival in milliseconds since 1970 (8), key, data.

pub(crate) const HEADER: usize = 28;
const MARK: u16 = 0x4b31;

/// Longest partition key in bytes: 256 characters of up to 4 bytes.
pub(crate) const KEY_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The record's number within its shard, from 0.
    pub(crate) position: u64,
    pub(crate) arrived_ms: u64,
    pub(crate) key: &'a str,
    pub(crate) data: &'a [u8],
}

/// Bytes that a record takes in a log.
pub(crate) fn length(key: &str, data: &[u8]) -> usize {
    HEADER + key.len() + data.len()
}

pub(crate) fn write(buffer: &mut Vec<u8>, frame: Frame<'_>) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&(frame.data.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&(frame.key.len() as u16).to_le_bytes());
    buffer.extend_from_slice(&MARK.to_le_bytes());
    buffer.extend_from_slice(&frame.position.to_le_bytes());
    buffer.extend_from_slice(&frame.arrived_ms.to_le_bytes());
    buffer.extend_from_slice(frame.key.as_bytes());
    buffer.extend_from_slice(frame.data);
    let sum = crc32fast::hash(&buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&sum.to_le_bytes());
}

/// The whole length of the frame that starts here, if its header is whole and plausible.
pub(crate) fn peek(bytes: &[u8]) -> Option<usize> {
    let header = bytes.get(..HEADER)?;
    let data = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
    let key = usize::from(u16::from_le_bytes(header[8..10].try_into().ok()?));
    let mark = u16::from_le_bytes(header[10..12].try_into().ok()?);
    (mark == MARK && key <= KEY_BYTES_MAX && data <= 64 << 20).then_some(HEADER + key + data)
}

/// The frame at the start of `bytes` and what follows it; `None` where there is no whole one.
/// The checksum is tested only when reading what may be torn.
pub(crate) fn read(bytes: &[u8], check: bool) -> Option<(Frame<'_>, &[u8])> {
    let length = peek(bytes)?;
    if bytes.len() < length {
        return None;
    }
    let (frame, rest) = bytes.split_at(length);
    if check && crc32fast::hash(&frame[4..]).to_le_bytes() != frame[..4] {
        return None;
    }
    let key_bytes = usize::from(u16::from_le_bytes(frame[8..10].try_into().ok()?));
    let frame = Frame {
        position: u64::from_le_bytes(frame[12..20].try_into().ok()?),
        arrived_ms: u64::from_le_bytes(frame[20..28].try_into().ok()?),
        key: std::str::from_utf8(&frame[HEADER..HEADER + key_bytes]).ok()?,
        data: &frame[HEADER + key_bytes..],
    };
    Some((frame, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_every_torn_or_altered_one_does_not() {
        let frame = Frame {
            position: 7,
            arrived_ms: 1_790_000_000_123,
            key: "schlüssel",
            data: b"some data",
        };
        let mut bytes = Vec::new();
        write(&mut bytes, frame);
        assert_eq!(read(&bytes, true), Some((frame, &[][..])));
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length], true), None, "{length} bytes");
        }
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 0x10;
            assert_eq!(read(&altered, true), None, "byte {at}");
        }
    }
}
