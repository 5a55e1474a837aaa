//! Prints `docs/CONFIGURATION.md`.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(multilangd_config::configuration_markdown().as_bytes())
}
