//! The records of one shard, in order, in memory or in files.
//!
//! Owns positions (the n-th record of the shard, from 0), the index over the records, and what retention
//! removes. Never looks at a clock, never knows a sequence number.
//!
//! What is kept in memory: without files, every record once, as far as there is [`Room`]. With files, no record at all, only an index entry
//! for every [`BLOCK_BYTES`] of log; reads come from the operating system's cache.

pub(crate) mod frame;
mod room;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use frame::Frame;
pub(crate) use room::Room;
use segment::{Found, Segments};

/// Small appends are gathered into index entries of about this size.
const BLOCK_BYTES: usize = 64 << 10;

pub(crate) struct ShardLog {
    blocks: VecDeque<Block>,
    /// The position of the next record.
    next: u64,
    last_ms: u64,
    home: Home,
}

enum Home {
    /// Not yet decided: nothing can be appended.
    None,
    Memory(Room),
    Files(Segments),
}

/// Neighbouring records.
struct Block {
    first: u64,
    last: u64,
    first_ms: u64,
    last_ms: u64,
    body: Body,
}

enum Body {
    /// Still growing: up to [`BLOCK_BYTES`].
    Open(Vec<u8>),
    Memory(Bytes),
    File {
        path: Arc<Path>,
        offset: u64,
        length: usize,
    },
}

/// What a reader takes out of the lock: where its records are.
pub(crate) struct Plan {
    pieces: Vec<Piece>,
    /// What the pieces hold, at most.
    pub(crate) bytes: usize,
    /// When the record behind the pieces arrived, if there is one.
    pub(crate) following_ms: Option<u64>,
}

pub(crate) enum Piece {
    Memory(Bytes),
    File {
        path: Arc<Path>,
        offset: u64,
        length: usize,
    },
}

impl ShardLog {
    /// A log that is only read, and has nothing.
    pub(crate) fn empty() -> Self {
        Self {
            blocks: VecDeque::new(),
            next: 0,
            last_ms: 0,
            home: Home::None,
        }
    }

    /// As long as there is room.
    pub(crate) fn in_memory(room: Room) -> Self {
        Self {
            blocks: VecDeque::new(),
            next: 0,
            last_ms: 0,
            home: Home::Memory(room),
        }
    }

    /// Reads what is in the folder. A torn end is cut off.
    pub(crate) fn in_folder(folder: PathBuf) -> io::Result<Self> {
        let mut log = Self::empty();
        let (files, least) = Segments::open(folder, |found| log.index(found))?;
        log.home = Home::Files(files);
        log.next = log.next.max(least);
        Ok(log)
    }

    fn index(&mut self, found: Found) {
        let Found {
            path,
            offset,
            length,
            position,
            arrived_ms,
        } = found;
        self.next = position + 1;
        self.last_ms = arrived_ms;
        self.extend_file(position, position, arrived_ms, path, offset, length as usize);
    }

    /// The position of the next record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// When the last record arrived, in milliseconds since 1970; 0 before the first.
    pub(crate) fn last_ms(&self) -> u64 {
        self.last_ms
    }

    /// Appends records that arrive together, in order, and returns the first one's position and the time of
    /// arrival given to all (never before that of an earlier record). On an error none was appended.
    pub(crate) fn append(&mut self, records: &[(&str, &[u8])], now_ms: u64) -> io::Result<(u64, u64)> {
        let arrived_ms = now_ms.max(self.last_ms);
        let first = self.next;
        let length = records.iter().map(|(key, data)| frame::length(key, data)).sum();
        let mut frames = Vec::with_capacity(length);
        for (position, (key, data)) in (first..).zip(records) {
            frame::write(
                &mut frames,
                Frame {
                    position,
                    arrived_ms,
                    key,
                    data,
                },
            );
        }
        let last = first + records.len() as u64 - 1;
        match &mut self.home {
            Home::Files(files) => {
                let place = files.append(first, &frames)?;
                self.extend_file(first, last, arrived_ms, place.path, place.offset, length);
            }
            Home::Memory(room) => {
                room.take(length)?;
                self.extend_memory(first, last, arrived_ms, frames);
            }
            Home::None => return Err(io::Error::other("this log is only read")),
        }
        self.next = last + 1;
        self.last_ms = arrived_ms;
        Ok((first, arrived_ms))
    }

    fn extend_memory(&mut self, first: u64, last: u64, ms: u64, frames: Vec<u8>) {
        if let Some(Block {
            last: end,
            last_ms,
            body,
            ..
        }) = self.blocks.back_mut()
            && let Body::Open(open) = body
        {
            if open.len() + frames.len() <= BLOCK_BYTES {
                open.extend_from_slice(&frames);
                (*end, *last_ms) = (last, ms);
                return;
            }
            let mut full = std::mem::take(open);
            full.shrink_to_fit();
            *body = Body::Memory(full.into());
        }
        let body = if frames.len() < BLOCK_BYTES {
            Body::Open(frames)
        } else {
            Body::Memory(frames.into())
        };
        self.blocks.push_back(Block {
            first,
            last,
            first_ms: ms,
            last_ms: ms,
            body,
        });
    }

    fn extend_file(&mut self, first: u64, last: u64, ms: u64, path: Arc<Path>, offset: u64, length: usize) {
        if let Some(Block {
            last: end,
            last_ms,
            body:
                Body::File {
                    path: same,
                    offset: start,
                    length: have,
                },
            ..
        }) = self.blocks.back_mut()
            && *same == path
            && *have + length <= BLOCK_BYTES
            && *start + *have as u64 == offset
        {
            *have += length;
            (*end, *last_ms) = (last, ms);
            return;
        }
        let body = Body::File { path, offset, length };
        self.blocks.push_back(Block {
            first,
            last,
            first_ms: ms,
            last_ms: ms,
            body,
        });
    }

    /// Holds no file open: the shard is closed.
    pub(crate) fn release(&mut self) {
        if let Home::Files(files) = &mut self.home {
            files.release();
        }
    }

    /// Forgets blocks whose last record arrived before `horizon_ms`, and deletes files that became empty.
    /// Readers must still skip single records before the horizon.
    pub(crate) fn trim(&mut self, horizon_ms: u64) {
        while self
            .blocks
            .front()
            .is_some_and(|block| block.last_ms < horizon_ms)
        {
            let Some(Block { body, .. }) = self.blocks.pop_front() else {
                return;
            };
            match (body, &self.home) {
                (Body::File { path, .. }, Home::Files(files)) => {
                    let next = self.blocks.front().map(|block| &block.body);
                    if !matches!(next, Some(Body::File { path: next, .. }) if *next == path) {
                        files.delete(&path);
                    }
                }
                (body, Home::Memory(room)) => room.give_back(body.length()),
                _ => {}
            }
        }
    }

    /// Where the records from `position` on are: about `bytes_max` of them, and at least one if there is one.
    pub(crate) fn plan(&self, position: u64, bytes_max: usize) -> Plan {
        let start = self.blocks.partition_point(|block| block.last < position);
        let mut pieces = Vec::new();
        let mut bytes = 0;
        let mut held = 0;
        let mut following_ms = None;
        for (index, block) in self.blocks.range(start..).enumerate() {
            if bytes >= bytes_max {
                following_ms = Some(block.first_ms);
                break;
            }
            let (piece, length) = block.piece();
            // The first block may be read from its middle: its length proves nothing.
            bytes += if index == 0 { 0 } else { length };
            held += length;
            pieces.push(piece);
        }
        Plan {
            pieces,
            bytes: held,
            following_ms,
        }
    }

    /// Where to look for the first record that arrived at `ms` or later: nothing before this position did.
    /// The reader looks closer, in the returned piece.
    pub(crate) fn locate(&self, ms: u64) -> (u64, Option<Piece>) {
        let start = self.blocks.partition_point(|block| block.last_ms < ms);
        match self.blocks.get(start) {
            None => (self.next, None),
            Some(block) if block.first_ms >= ms => (block.first, None),
            Some(block) => (block.first, Some(block.piece().0)),
        }
    }

    /// The position of the oldest record still indexed.
    pub(crate) fn first(&self) -> u64 {
        self.blocks.front().map_or(self.next, |block| block.first)
    }
}

impl Drop for ShardLog {
    fn drop(&mut self) {
        if let Home::Memory(room) = &self.home {
            self.blocks
                .iter()
                .for_each(|block| room.give_back(block.body.length()));
        }
    }
}

impl Body {
    fn length(&self) -> usize {
        match self {
            Self::Open(bytes) => bytes.len(),
            Self::Memory(bytes) => bytes.len(),
            Self::File { length, .. } => *length,
        }
    }
}

impl Block {
    fn piece(&self) -> (Piece, usize) {
        match &self.body {
            Body::Open(bytes) => (Piece::Memory(Bytes::copy_from_slice(bytes)), bytes.len()),
            Body::Memory(bytes) => (Piece::Memory(bytes.clone()), bytes.len()),
            Body::File { path, offset, length } => (
                Piece::File {
                    path: path.clone(),
                    offset: *offset,
                    length: *length,
                },
                *length,
            ),
        }
    }
}

impl Piece {
    fn load(self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes),
            Self::File { path, offset, length } => segment::load(&path, offset, length).map(Bytes::from),
        }
    }

    /// The position of the first record that arrived at `ms` or later.
    pub(crate) fn locate(self, ms: u64) -> io::Result<Option<u64>> {
        let bytes = self.load()?;
        Ok(frames(&bytes)
            .find(|frame| frame.arrived_ms >= ms)
            .map(|frame| frame.position))
    }
}

impl Plan {
    /// Visits the records in order from `position` on, none that arrived before `horizon_ms`, until the
    /// visitor wants no more. Returns when the first unvisited record arrived, if there is one.
    pub(crate) fn visit(
        self,
        position: u64,
        horizon_ms: u64,
        mut visitor: impl FnMut(Frame<'_>) -> bool,
    ) -> io::Result<Option<u64>> {
        for piece in self.pieces {
            let bytes = piece.load()?;
            for frame in frames(&bytes) {
                if frame.position < position || frame.arrived_ms < horizon_ms {
                    continue;
                }
                if !visitor(frame) {
                    return Ok(Some(frame.arrived_ms));
                }
            }
        }
        Ok(self.following_ms)
    }
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let (frame, rest) = frame::read(bytes, false)?;
        bytes = rest;
        Some(frame)
    })
}

#[cfg(test)]
mod tests;
