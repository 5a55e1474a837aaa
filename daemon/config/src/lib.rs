//! The `.properties` file and the command line, as the Java daemon reads them.
//!
//! Owns everything between bytes and a typed [`Config`]: the file's grammar, the table of keys, Java's meaning of values,
//! credentials providers by name, and the search for the program. Never does I/O: files, environment and `-D` flags are
//! arguments. Depends on nothing of the project.
//!
//! Start reading at [`keys::SECTIONS`], then `load.rs`.

pub mod config;
pub mod credentials;
pub mod invocation;
pub mod keys;
mod load;
mod loaded;
mod logback;
mod lookup;
mod markdown;
mod program;
pub mod properties;
mod settings;
pub mod values;

pub use config::{ClientConfig, Config, LogFormat, LogLevel};
pub use credentials::{CredentialsChain, Provider, Secret};
pub use invocation::{Invocation, UsageError};
pub use load::{Input, load, load_file};
pub use loaded::{
    ConfigError, EXIT_CODE_CONFIGURATION, EXIT_CODE_INVALID, Effective, Loaded, Origin, Severity, Warning,
    render_validation,
};
pub use logback::{Logback, read_logback};
pub use lookup::{Found, NotFound, find_properties};
pub use markdown::configuration_markdown;
pub use program::{argv, find_program};
