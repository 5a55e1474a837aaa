//! What a child may mark as done (`consuming.md 6.1`–`6.3`, Java's `ShardRecordProcessorCheckpointer`).
//!
//! Owns the two limits between which a checkpoint may lie, for one tenure of one shard. Writes nothing: the caller
//! stores what is decided here and says so.

use multilangd_protocol::CheckpointRequest;

use crate::ids::Position;

/// The last checkpoint of a tenure, and the largest one that is permitted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    last: Position,
    largest: Position,
    /// The largest position delivered when the shard ended; `None` before.
    at_shard_end: Option<Position>,
}

/// What to do with a request for a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is stored already: say that it succeeded, write nothing.
    NoOp,
    /// Write this position, then call [`Checkpoints::stored`].
    Store(Position),
    /// Answer `IllegalArgumentException`; the text is for the log.
    Refuse(String),
}

impl Checkpoints {
    /// A tenure that begins at the checkpoint of the lease.
    pub fn begin(position: Position) -> Self {
        Self {
            last: position.clone(),
            largest: position,
            at_shard_end: None,
        }
    }

    /// The last position that was stored, or the one that the tenure began with.
    pub fn last(&self) -> &Position {
        &self.last
    }

    /// The largest position that may be stored.
    pub fn largest(&self) -> &Position {
        &self.largest
    }

    /// Whether the end of the shard is stored.
    pub fn is_finished(&self) -> bool {
        self.last.is_shard_end()
    }

    /// Records up to this position are about to be handed to the child. Call it before they are: each of them may be
    /// named while they are being processed.
    pub fn delivered(&mut self, position: &Position) {
        if *position > self.largest {
            self.largest = position.clone();
        }
    }

    /// All records of the shard have been handed over; the child is about to hear `shardEnded`. Again is the same.
    ///
    /// Compat: when Java repeats `shardEnded` it forgets which record was the last one, and no longer takes its number
    /// for the end.
    pub fn shard_ended(&mut self) {
        if self.at_shard_end.is_none() {
            self.at_shard_end = Some(std::mem::replace(&mut self.largest, Position::ShardEnd));
        }
    }

    /// The position is in the lease table now.
    pub fn stored(&mut self, position: Position) {
        assert!(
            position >= self.last,
            "a checkpoint never moves back: {position} after {}",
            self.last
        );
        self.last = position;
    }

    /// What becomes of a request.
    pub fn decide(&self, request: &CheckpointRequest) -> Decision {
        let Some(text) = &request.sequence_number else {
            return self.advance(self.largest.clone()); // a sub-sequence number without a number is ignored
        };
        let Ok(sub_sequence_number) = u64::try_from(request.sub_sequence_number.unwrap_or(0)) else {
            return Decision::Refuse(format!(
                "the sub-sequence number {} is negative",
                request.sub_sequence_number.unwrap_or(0)
            ));
        };
        // Compat: SHARD_END with a sub-sequence number above 0 counts as SHARD_END. Java stores it with that number
        // and then does not take the shard for finished.
        let position = match Position::parse(text, sub_sequence_number) {
            Ok(position) => position,
            Err(bad) => return Decision::Refuse(bad.to_string()),
        };
        if self.covers_everything(&position, request.sub_sequence_number.is_some()) {
            return self.advance(Position::ShardEnd);
        }
        if self.permits(&position) {
            self.advance(position)
        } else {
            Decision::Refuse(self.out_of_range(&position))
        }
    }

    /// Whether the shard has ended and its last record, or one behind it, is named.
    ///
    /// Compat: Java takes only exactly the last record for the end, and not even that if it was stored before. It stores
    /// nothing then, or the position as it is, and the shard counts as unfinished for ever. Here a sequence number
    /// without a sub-sequence number names the whole aggregate, and what lies beyond the last record includes it. Every
    /// record has been handed over and answered for by now, so nothing can be lost.
    fn covers_everything(&self, position: &Position, with_sub_sequence_number: bool) -> bool {
        match (&self.at_shard_end, position) {
            (Some(Position::At(last, _)), Position::At(named, _)) if !with_sub_sequence_number => {
                last <= named
            }
            (Some(last), named @ Position::At(..)) => last <= named,
            (Some(_) | None, _) => false,
        }
    }

    fn permits(&self, position: &Position) -> bool {
        match position {
            // Compat: another sentinel than the one that is stored is refused. Java lets LATEST replace TRIM_HORIZON
            // once a record has been delivered, and a restart then loses every record.
            Position::AtTimestamp | Position::TrimHorizon | Position::Latest => *position == self.last,
            Position::At(..) | Position::ShardEnd => self.last <= *position && *position <= self.largest,
        }
    }

    fn advance(&self, position: Position) -> Decision {
        if position == self.last {
            Decision::NoOp
        } else {
            Decision::Store(position)
        }
    }

    fn out_of_range(&self, position: &Position) -> String {
        format!(
            "{position} is out of range: the last checkpoint is {}, the largest permitted one {}",
            self.last, self.largest
        )
    }
}

#[cfg(test)]
mod tests;
