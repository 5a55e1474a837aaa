//! The program `multilangd`: arguments, wiring, exit code.

fn main() {}
