//! The way of a record through the daemon, without the world around it: an answer of GetRecords is read, aggregates are looked for, and
//! the child's line is written. `hot-path RECORD_BYTES RECORDS ANSWERS` does it ANSWERS times, for whoever counts instructions.

use std::hint::black_box;
use std::process::ExitCode;

use multilangd_bench::records::{Format, Made};
use multilangd_core::deaggregate::deaggregate;
use multilangd_core::records::BatchLine;
use multilangd_core::records::answer::Reading;

/// About what comes from a socket at once.
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
    for _ in 0..answers {
        let mut reading = Reading::with_capacity(answer.len());
        for part in black_box(&answer).chunks(PART_BYTES) {
            reading.push(part).expect("not too long");
        }
        let mut batch = reading.finish().expect("a good answer");
        deaggregate(&mut batch.records, None, |_, _| {});
        let BatchLine::Whole(line) = BatchLine::new(batch.records, batch.millis_behind_latest) else {
            panic!("no aggregates are among them");
        };
        assert!(
            black_box(&line).len() > records * record_bytes,
            "the line holds the payload"
        );
    }
    ExitCode::SUCCESS
}
