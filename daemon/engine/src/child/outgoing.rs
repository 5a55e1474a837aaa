//! What is said to a child and not yet written: an action, then replies.
//!
//! Owns the order. The line of a batch is written as it came, or made piece by piece, as the child takes it.

use multilangd_core::records::{BatchLine, LinePieces};
use multilangd_protocol::{CheckpointRequest, write};

/// A piece of a batch's line: as much as a pipe holds. So it is still in the processor's cache when the kernel copies it.
const PIECE_BYTES: usize = 64 * 1024;
/// A buffer larger than this is given back after its action: a large record must not stay in memory.
pub(super) const BUFFER_KEPT_BYTES_MAX: usize = 2 * PIECE_BYTES;
/// What has been written is cut off the buffer when it is so much.
const WRITTEN_BYTES_MAX: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Outgoing {
    /// The action, where that is a line that was there already. Gone once it is written.
    line: Vec<u8>,
    /// The action or a piece of it, then replies.
    buffer: Vec<u8>,
    /// How much has been written of the line, or else of the buffer.
    written: usize,
    /// How much of the buffer is the action's.
    action: usize,
    /// What is still to be made of the action.
    rest: Option<LinePieces>,
    /// Replies that wait for the rest, or for the line.
    replies: Vec<u8>,
}

impl Outgoing {
    /// Nothing is left, of anything.
    pub(super) fn clear(&mut self) {
        self.line = Vec::new();
        self.rest = None;
        self.written = 0;
        self.action = 0;
        for buffer in [&mut self.buffer, &mut self.replies] {
            buffer.clear();
            buffer.shrink_to(BUFFER_KEPT_BYTES_MAX);
        }
    }

    /// An action that `write` makes at once, instead of everything before it.
    pub(super) fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.clear();
        write(&mut self.buffer);
        self.action = self.buffer.len();
    }

    /// The action that is a batch, instead of everything before it.
    pub(super) fn say_batch(&mut self, line: BatchLine) {
        self.clear();
        match line {
            BatchLine::Whole(line) => self.line = line,
            BatchLine::Pieces(pieces) => {
                self.rest = Some(pieces);
                self.make_more();
            }
        }
    }

    /// A reply, behind everything else.
    pub(super) fn reply(&mut self, request: &CheckpointRequest, error: Option<&str>) {
        if self.rest.is_some() || !self.line.is_empty() {
            return write::checkpoint_reply(&mut self.replies, request, error);
        }
        // What is written makes room, or a child that checkpoints for ever within one action grows the buffer.
        if self.written >= WRITTEN_BYTES_MAX.min(self.buffer.len()) {
            self.buffer.drain(..self.written);
            self.action = self.action.saturating_sub(self.written);
            self.written = 0;
        }
        write::checkpoint_reply(&mut self.buffer, request, error);
    }

    /// What is to be written next. Empty: everything is written.
    pub(super) fn unwritten(&self) -> &[u8] {
        let writing = if self.line.is_empty() {
            &self.buffer
        } else {
            &self.line
        };
        &writing[self.written..]
    }

    /// So many bytes more have been written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.line.is_empty() {
            if self.written == self.buffer.len() {
                self.make_more();
            }
        } else if self.written == self.line.len() {
            self.line = Vec::new();
            self.written = 0;
            self.buffer.append(&mut self.replies);
        }
    }

    /// Bytes of replies that are not written.
    pub(super) fn replies_bytes(&self) -> usize {
        let written = if self.line.is_empty() { self.written } else { 0 };
        self.replies.len() + self.buffer.len() - written.max(self.action)
    }

    /// The memory that it takes.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.line.capacity() + self.buffer.capacity() + self.replies.capacity()
    }

    fn make_more(&mut self) {
        let Some(line) = &mut self.rest else { return };
        self.buffer.clear();
        self.written = 0;
        let is_complete = line.write_piece(&mut self.buffer, PIECE_BYTES);
        self.action = self.buffer.len();
        if is_complete {
            self.rest = None;
            self.buffer.append(&mut self.replies);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use multilangd_core::ids::SequenceNumber;
    use multilangd_core::records::Records;
    use multilangd_core::stream::StreamRecord;

    use super::*;

    const REQUEST: CheckpointRequest = CheckpointRequest {
        sequence_number: None,
        sub_sequence_number: None,
    };
    const REPLY: &str =
        r#"{"action":"checkpoint","sequenceNumber":null,"subSequenceNumber":null,"error":null}"#;

    fn records(count: usize) -> Records {
        let record = |number: usize| StreamRecord {
            sequence_number: SequenceNumber::parse(&number.to_string()).unwrap(),
            partition_key: "k".to_owned(),
            data: Bytes::from_static(&[b'x'; 1000]),
            approximate_arrival_ms: None,
        };
        (1..=count).map(record).collect()
    }

    /// The line of the same records as an answer brings it.
    fn whole_line() -> BatchLine {
        let mut line = Vec::new();
        write::process_records(&mut line, records(1000).iter(), Some(0));
        BatchLine::Whole(line)
    }

    /// Everything, as a pipe would take it that takes so much at a time; `meanwhile` is done after each write.
    fn written(outgoing: &mut Outgoing, bytes: usize, mut meanwhile: impl FnMut(&mut Outgoing)) -> String {
        let mut written = Vec::new();
        while !outgoing.unwritten().is_empty() {
            let some = bytes.min(outgoing.unwritten().len());
            written.extend_from_slice(&outgoing.unwritten()[..some]);
            outgoing.wrote(some);
            meanwhile(outgoing);
        }
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn a_long_line_is_written_whole_and_never_kept_whole() {
        let mut whole = Vec::new();
        write::process_records(&mut whole, records(1000).iter(), Some(0));
        for bytes in [1000, 70_000, usize::MAX] {
            let mut outgoing = Outgoing::default();
            outgoing.say_batch(BatchLine::new(records(1000), Some(0)));
            let line = written(&mut outgoing, bytes, |outgoing| {
                assert!(outgoing.kept_bytes() <= BUFFER_KEPT_BYTES_MAX);
            });
            assert!(line.as_bytes() == whole, "{bytes} bytes at a time");
        }
    }

    #[test]
    fn a_line_that_was_there_is_written_as_it_is_and_then_gone() {
        let mut outgoing = Outgoing::default();
        outgoing.say_batch(whole_line());
        let BatchLine::Whole(whole) = whole_line() else {
            unreachable!("it is one");
        };
        assert!(written(&mut outgoing, 70_000, |_| {}).as_bytes() == whole);
        assert!(outgoing.kept_bytes() <= BUFFER_KEPT_BYTES_MAX);
    }

    #[test]
    fn a_reply_in_the_middle_of_a_line_comes_behind_it() {
        a_reply_comes_behind(BatchLine::new(records(1000), Some(0)));
        a_reply_comes_behind(whole_line());
    }

    fn a_reply_comes_behind(line: BatchLine) {
        let mut outgoing = Outgoing::default();
        outgoing.say_batch(line);
        let (mut writes, mut waiting) = (0, 0);
        let text = written(&mut outgoing, 10_000, |outgoing| {
            writes += 1;
            if writes % 20 == 1 {
                outgoing.reply(&REQUEST, None);
            }
            waiting = waiting.max(outgoing.replies_bytes());
        });
        let (line, replies) = text.split_once('\n').unwrap();
        assert!(line.ends_with(r#""millisBehindLatest":0}"#));
        let replies: Vec<&str> = replies.lines().collect();
        assert!(
            replies.len() > 5 && replies.iter().all(|reply| *reply == REPLY),
            "{replies:?}"
        );
        assert_eq!(waiting, replies.len() * (REPLY.len() + 1));
        assert_eq!(outgoing.replies_bytes(), 0);
    }

    #[test]
    fn what_is_left_of_an_action_is_gone_with_the_next() {
        for line in [BatchLine::new(records(1000), Some(0)), whole_line()] {
            let mut outgoing = Outgoing::default();
            outgoing.say_batch(line);
            outgoing.reply(&REQUEST, None);
            outgoing.say(write::lease_lost);
            assert_eq!(written(&mut outgoing, 7, |_| {}), "{\"action\":\"leaseLost\"}\n");
            outgoing.reply(&REQUEST, None);
            assert_eq!(outgoing.replies_bytes(), REPLY.len() + 1);
            assert_eq!(written(&mut outgoing, 7, |_| {}).trim_end(), REPLY);
        }
    }

    #[test]
    fn replies_without_end_take_no_memory_once_they_are_written() {
        let mut outgoing = Outgoing::default();
        outgoing.say(write::shutdown_requested);
        for _ in 0..10_000 {
            outgoing.reply(&REQUEST, None);
            outgoing.wrote(outgoing.unwritten().len() - 1);
        }
        assert!(outgoing.kept_bytes() < 3 * WRITTEN_BYTES_MAX);
    }
}
