//! The JSON lines between the daemon and its children.
