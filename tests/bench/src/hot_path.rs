//! The way of a record through the daemon, without the world around it: an answer of GetRecords is read, aggregates are looked for, and
//! the child's line is written. `hot-path RECORD_BYTES RECORDS ANSWERS` does it ANSWERS times, for whoever counts instructions.

use std::hint::black_box;
use std::process::ExitCode;

use multilangd_bench::records::{Format, Made};
use multilangd_core::deaggregate::deaggregate;
use multilangd_core::records::answer;
use multilangd_protocol::write;

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let &[record_bytes, records, answers] = &numbers[..] else {
        return ExitCode::from(2);
    };
    let answer = Made::new(records, record_bytes).answer(Format::Json, 1, records, 0, "next");
    let mut line = Vec::new();
    for _ in 0..answers {
        let mut batch = answer::batch(black_box(answer.clone())).expect("a good answer");
        deaggregate(&mut batch.records, None, |_, _| {});
        write::process_records(
            &mut line,
            batch.records.line_bytes_max(),
            batch.records.iter(),
            batch.millis_behind_latest,
        );
        assert!(
            black_box(&line).len() > records * record_bytes,
            "the line holds the payload"
        );
        line.clear();
    }
    ExitCode::SUCCESS
}
