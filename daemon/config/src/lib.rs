//! The .properties file and the command line, as the Java daemon reads them.
