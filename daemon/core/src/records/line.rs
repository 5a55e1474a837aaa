//! The line of a batch. What must still be made of it is made while it is written: as a whole it would not stay in the
//! processor's cache.

use multilangd_protocol::write::{process_records_begin, process_records_end, record};

use super::Records;

/// The `processRecords` line of a batch.
#[derive(Debug)]
pub enum BatchLine {
    /// It has been written already, as it came.
    Whole(Vec<u8>),
    /// It is still to be made.
    Pieces(LinePieces),
}

impl BatchLine {
    /// Nothing but what [`Records`] have already has been made.
    pub fn new(records: Records, millis_behind_latest: Option<i64>) -> Self {
        match records.into_written() {
            Ok(mut line) => {
                process_records_end(&mut line, millis_behind_latest);
                Self::Whole(line)
            }
            Err(records) => Self::Pieces(LinePieces {
                records,
                millis_behind_latest,
                done: 0,
                is_begun: false,
            }),
        }
    }

    /// About how long it is.
    pub fn bytes_expected(&self) -> usize {
        match self {
            Self::Whole(line) => line.len(),
            Self::Pieces(pieces) => pieces.records.data_bytes() / 3 * 4,
        }
    }
}

/// A line, piece by piece.
#[derive(Debug)]
pub struct LinePieces {
    records: Records,
    millis_behind_latest: Option<i64>,
    /// How many of the records are in the pieces so far.
    done: usize,
    is_begun: bool,
}

impl LinePieces {
    /// Appends a record to `out`, and more until that has so many bytes. `true`: the line is complete.
    pub fn write_piece(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        if !self.is_begun {
            process_records_begin(out);
            self.is_begun = true;
        }
        for entry in &self.records.entries[self.done..] {
            record(out, self.done == 0, &self.records.line(entry));
            self.done += 1;
            if out.len() >= bytes && self.done < self.records.len() {
                return false;
            }
        }
        process_records_end(out, self.millis_behind_latest);
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use multilangd_protocol::write::process_records;

    use super::*;
    use crate::ids::SequenceNumber;
    use crate::stream::StreamRecord;

    fn records(count: usize) -> Records {
        let record = |number: usize| StreamRecord {
            sequence_number: SequenceNumber::parse(&(number + 1).to_string()).unwrap(),
            partition_key: format!("\u{e9}{number}"),
            data: Bytes::from(vec![b'x'; number * 10]),
            approximate_arrival_ms: Some(5),
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn the_pieces_are_the_line() {
        for count in [0, 1, 20] {
            let mut whole = Vec::new();
            process_records(&mut whole, records(count).iter(), Some(7));
            for bytes in [0, 1, 200, 100_000] {
                let BatchLine::Pieces(mut line) = BatchLine::new(records(count), Some(7)) else {
                    panic!("nothing has been written of records that came in no answer");
                };
                let (mut joined, mut pieces) = (Vec::new(), 0);
                loop {
                    let mut piece = Vec::new();
                    let is_complete = line.write_piece(&mut piece, bytes);
                    joined.extend(piece);
                    pieces += 1;
                    if is_complete {
                        break;
                    }
                }
                assert_eq!(joined, whole, "{count} records in pieces of {bytes} bytes");
                let expected = if bytes < 2 {
                    count.max(1)..=count.max(1)
                } else {
                    1..=count.max(1)
                };
                assert!(expected.contains(&pieces), "{pieces} pieces of {bytes} bytes");
                assert!(bytes < 10_000 || pieces == 1);
            }
        }
    }
}
