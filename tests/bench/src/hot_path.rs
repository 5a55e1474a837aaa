//! The way of a record through the daemon, without the world around it: an answer of GetRecords is read, aggregates are looked for, and
//! the child's line is written. `hot-path RECORD_BYTES RECORDS ANSWERS` does it ANSWERS times, for whoever counts instructions.

use std::hint::black_box;
use std::process::ExitCode;

use multilangd_bench::records::{Format, Made};
use multilangd_core::deaggregate::deaggregate;
use multilangd_core::records::BatchLine;
use multilangd_core::records::answer::Reading;

/// About what comes from a socket at once, and goes into a pipe.
const PART_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let &[record_bytes, records, answers] = &numbers[..] else {
        return ExitCode::from(2);
    };
    let answer = Made::new(records, record_bytes).answer(Format::Json, 1, records, 0, "next");
    let mut piece = Vec::new();
    for _ in 0..answers {
        let mut reading = Reading::with_capacity(answer.len());
        for part in black_box(&answer).chunks(PART_BYTES) {
            reading.push(part).expect("not too long");
        }
        let mut batch = reading.finish().expect("a good answer");
        deaggregate(&mut batch.records, None, |_, _| {});
        let mut bytes = 0;
        match BatchLine::new(batch.records, batch.millis_behind_latest) {
            BatchLine::Whole(line) => bytes += black_box(&line).len(),
            BatchLine::Pieces(mut line) => {
                let mut is_complete = false;
                while !is_complete {
                    is_complete = line.write_piece(&mut piece, PART_BYTES);
                    bytes += black_box(&piece).len();
                    piece.clear();
                }
            }
        }
        assert!(bytes > records * record_bytes, "the line holds the payload");
    }
    ExitCode::SUCCESS
}
