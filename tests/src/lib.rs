//! Fakes, judges and the promises they check.
