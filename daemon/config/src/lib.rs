//! The `.properties` file and the command line, as the Java daemon reads them.
pub mod keys;
pub mod properties;
pub mod values;
