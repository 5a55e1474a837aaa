//! Bytes into lines, whatever the pieces they arrive in.
//!
//! A line ends at `\n`, `\r\n` or a lone `\r`; the last one also at the end of the output (`protocol.md 4.1`). Holds at
//! most one unfinished line, and of that at most the limit: what a child prints cannot grow the daemon's memory.

/// Longest line that is read as a message, unless the caller says otherwise. Java has no limit and can be made to
/// run out of memory; a message of a child is a few hundred bytes.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A buffer larger than this is given back once its line is done: most children never print such a line again.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What the splitter found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEvent<'a> {
    /// A line, without its end. May be empty.
    Line(&'a [u8]),
    /// A line over the limit was left out.
    TooLong {
        /// How long it was, in bytes.
        bytes: u64,
    },
}

/// Cuts a stream of bytes into lines.
#[derive(Debug)]
pub struct Lines {
    line_bytes_max: usize,
    long_lines: LongLines,
    /// The unfinished line; empty while skipping.
    partial: Vec<u8>,
    state: State,
}

/// What becomes of a line over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LongLines {
    Skip,
    Split,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a line, or inside one.
    Reading,
    /// Behind a `\r`: a `\n` now belongs to it.
    AfterReturn,
    /// Inside a line over the limit, of which this many bytes have passed.
    Skipping(u64),
}

impl Default for Lines {
    fn default() -> Self {
        Self::new(LINE_BYTES_MAX)
    }
}

impl Lines {
    /// Lines of up to `line_bytes_max` bytes; longer ones are left out.
    pub fn new(line_bytes_max: usize) -> Self {
        Self {
            line_bytes_max,
            long_lines: LongLines::Skip,
            partial: Vec::new(),
            state: State::Reading,
        }
    }

    /// Lines of up to `line_bytes_max` bytes; longer ones come in several pieces.
    pub fn splitting(line_bytes_max: usize) -> Self {
        Self {
            long_lines: LongLines::Split,
            ..Self::new(line_bytes_max.max(1))
        }
    }

    /// Takes the next bytes and reports every line that ends in them.
    pub fn feed(&mut self, mut chunk: &[u8], mut found: impl FnMut(LineEvent<'_>)) {
        if self.state == State::AfterReturn && !chunk.is_empty() {
            self.state = State::Reading;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = chunk.split_at(end);
            let line = self.split(line, &mut found);
            self.line_ends(line, &mut found);
            chunk = match rest {
                [b'\r'] => {
                    self.state = State::AfterReturn;
                    &[]
                }
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        let chunk = self.split(chunk, &mut found);
        self.keep(chunk);
    }

    /// The output is over: reports the last line if it had no end.
    pub fn finish(&mut self, mut found: impl FnMut(LineEvent<'_>)) {
        if !self.partial.is_empty() || matches!(self.state, State::Skipping(_)) {
            self.line_ends(&[], &mut found);
        }
        self.state = State::Reading;
    }

    /// Reports what is over the limit in pieces, if lines are to be split; returns what is left of the piece.
    fn split<'a>(&mut self, mut piece: &'a [u8], found: &mut impl FnMut(LineEvent<'_>)) -> &'a [u8] {
        while self.long_lines == LongLines::Split && self.partial.len() + piece.len() > self.line_bytes_max {
            let (head, tail) = piece.split_at(self.line_bytes_max - self.partial.len());
            self.line_ends(head, found);
            piece = tail;
        }
        piece
    }

    fn line_ends(&mut self, tail: &[u8], found: &mut impl FnMut(LineEvent<'_>)) {
        let bytes = match self.state {
            State::Skipping(bytes) => bytes + tail.len() as u64,
            State::Reading | State::AfterReturn => (self.partial.len() + tail.len()) as u64,
        };
        if bytes > self.line_bytes_max as u64 {
            found(LineEvent::TooLong { bytes });
        } else if self.partial.is_empty() {
            found(LineEvent::Line(tail));
        } else {
            self.partial.extend_from_slice(tail);
            found(LineEvent::Line(&self.partial));
        }
        self.state = State::Reading;
        self.partial.clear();
        self.partial.shrink_to(KEPT_BYTES_MAX);
    }

    fn keep(&mut self, piece: &[u8]) {
        match self.state {
            State::Skipping(bytes) => self.state = State::Skipping(bytes + piece.len() as u64),
            State::Reading | State::AfterReturn => {
                let bytes = self.partial.len() + piece.len();
                if bytes > self.line_bytes_max {
                    self.partial = Vec::new();
                    self.state = State::Skipping(bytes as u64);
                } else {
                    if bytes > self.partial.capacity() {
                        // Doubling, but never beyond the limit.
                        let capacity = (2 * bytes).min(self.line_bytes_max);
                        self.partial.reserve_exact(capacity - self.partial.len());
                    }
                    self.partial.extend_from_slice(piece);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
