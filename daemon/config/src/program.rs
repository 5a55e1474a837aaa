//! From `executableName` to a program: the split into arguments, and the search on `PATH`.
//!
//! Owns the rules of Java's `ProcessBuilder` (protocol.md 9). Never touches the file system: whether a file is there is
//! asked through a closure.

use std::path::{Path, PathBuf};

/// Where a name without a `/` is searched when there is no `PATH`.
const DEFAULT_PATH: &str = "/usr/bin:/bin";

/// Splits `executableName` at runs of U+0020. No quoting, no escapes, no variables.
///
/// Compat: a leading space makes an empty program name, trailing spaces are dropped, a tab splits nothing.
#[must_use]
pub fn argv(executable_name: &str) -> Vec<String> {
    let mut argv = Vec::new();
    let mut rest = executable_name.trim_end_matches(' ');
    if rest.is_empty() {
        return argv;
    }
    loop {
        let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
        argv.push(word.to_owned());
        rest = after.trim_start_matches(' ');
        if rest.is_empty() {
            return argv;
        }
    }
}

/// Finds the program: a name with a `/` is a path (relative to the working directory), any other is searched in the
/// directories of `PATH`, where an empty entry is the working directory.
#[must_use]
pub fn find_program(name: &str, path: Option<&str>, exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| exists(path));
    }
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|directory| Path::new(if directory.is_empty() { "." } else { directory }).join(name))
        .find(|candidate| exists(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spaces_split_and_quotes_stay() {
        for (text, expected) in [
            ("node app.js --x 1", vec!["node", "app.js", "--x", "1"]),
            ("node   app.js", vec!["node", "app.js"]),
            ("python \"my app.py\"", vec!["python", "\"my", "app.py\""]),
            ("a\tb c", vec!["a\tb", "c"]),
            ("app  ", vec!["app"]),
            (" app", vec!["", "app"]),
            ("", vec![]),
            ("  ", vec![]),
        ] {
            assert_eq!(argv(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_program_is_searched_on_the_path_unless_it_is_one() {
        let there = ["/bin/app", "./here", "sub/app", "/usr/bin/awk"];
        let exists = |path: &Path| there.contains(&path.to_str().unwrap_or_default());
        let find = |name, path| find_program(name, path, &exists).map(|path| path.display().to_string());
        assert_eq!(find("app", Some("/sbin:/bin")).as_deref(), Some("/bin/app"));
        assert_eq!(find("here", Some("/sbin::/bin")).as_deref(), Some("./here"));
        assert_eq!(find("sub/app", Some("/bin")).as_deref(), Some("sub/app"));
        assert_eq!(find("awk", None).as_deref(), Some("/usr/bin/awk"));
        assert_eq!(find("missing", Some("/bin")), None);
        assert_eq!(find("", Some("/bin")), None);
    }
}
