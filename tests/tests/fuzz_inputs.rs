//! Inputs that a fuzzer once found interesting, kept under `tests/fuzz/corpus`, hold on every run.

use std::panic::catch_unwind;
use std::path::Path;

#[path = "../fuzz/laws/deaggregate.rs"]
mod deaggregate;

#[test]
fn saved_payloads_are_deaggregated_lawfully() {
    assert!(run("deaggregate", deaggregate::holds) >= 10);
}

fn run(target: &str, law: fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder)
        .expect("a corpus")
        .map(|it| it.expect("a file").path())
        .collect();
    inputs.sort();
    for input in &inputs {
        let bytes = std::fs::read(input).expect("an input");
        assert!(
            catch_unwind(|| law(&bytes)).is_ok(),
            "{} breaks the law",
            input.display()
        );
    }
    inputs.len()
}
