//! Where a properties file is: in the directories of a class path, then in the working directory.
//!
//! Owns the order of places. Reads through a closure.

use std::io;
use std::path::{Component, Path, PathBuf};

/// A properties file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where it is, for people.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// There is no such file.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the properties file '{name}': {cause}{}", tried(.directories))]
pub struct NotFound {
    /// The name as written.
    pub name: String,
    /// The directories of the class path that were tried first.
    pub directories: Vec<PathBuf>,
    /// Why it cannot be read in the last place tried.
    #[source]
    pub cause: io::Error,
}

fn tried(directories: &[PathBuf]) -> String {
    match directories {
        [] => String::new(),
        _ => format!(
            " (nor is it in the class path: {})",
            directories
                .iter()
                .map(|directory| directory.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// Finds and reads a properties file.
///
/// Compat: as in Java a relative name, also `./x` or `sub/x`, is first looked up in the directories of the class path in
/// their order; `../x` only where it leads back into the directory. An absolute name is a path. Jars and `dir/*`
/// entries are skipped: nobody keeps a properties file in a jar.
///
/// # Errors
/// [`NotFound`], which says where it was looked for.
pub fn find_properties(
    name: &str,
    class_path: &[PathBuf],
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Found, NotFound> {
    let mut directories = Vec::new();
    if !Path::new(name).is_absolute() {
        for directory in class_path.iter().filter(|entry| is_directory_name(entry)) {
            let path = directory.join(name);
            if !stays_inside(directory, &path) {
                continue;
            }
            if let Ok(bytes) = read(&path) {
                return Ok(Found { path, bytes });
            }
            directories.push(directory.clone());
        }
    }
    match read(Path::new(name)) {
        Ok(bytes) => Ok(Found {
            path: PathBuf::from(name),
            bytes,
        }),
        Err(cause) => Err(NotFound {
            name: name.to_owned(),
            directories,
            cause,
        }),
    }
}

fn is_directory_name(entry: &Path) -> bool {
    let ending = entry.extension().unwrap_or_default().to_ascii_lowercase();
    entry.file_name().is_none_or(|name| name != "*") && ending != "jar" && ending != "zip"
}

/// By their names alone, without asking the file system for links.
fn stays_inside(directory: &Path, path: &Path) -> bool {
    match (normal(directory), normal(path)) {
        (Some(directory), Some(path)) => path.starts_with(directory),
        _ => false,
    }
}

/// Resolves `.` and `..`; `None` if it leads above where it starts.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            other => normal.push(other),
        }
    }
    Some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, class_path: &[&str], there: &[&str]) -> Result<String, String> {
        let class_path: Vec<PathBuf> = class_path.iter().map(PathBuf::from).collect();
        let read = |path: &Path| match there.iter().any(|file| Path::new(file) == path) {
            true => Ok(path.display().to_string().into_bytes()),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
        };
        match find_properties(name, &class_path, &read) {
            Ok(found) => Ok(found.path.display().to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_class_path_comes_first_and_in_its_order() {
        let there = ["/a/x", "/b/x", "x"];
        assert_eq!(find("x", &["/a", "/b"], &there).as_deref(), Ok("/a/x"));
        assert_eq!(find("x", &["/b", "/a"], &there).as_deref(), Ok("/b/x"));
        assert_eq!(find("./x", &["/b"], &there).as_deref(), Ok("/b/./x"));
        assert_eq!(find("x", &["/c"], &there).as_deref(), Ok("x"));
        assert_eq!(find("x", &[], &there).as_deref(), Ok("x"));
    }

    #[test]
    fn absolute_names_and_those_that_lead_out_skip_the_class_path() {
        assert_eq!(find("/a/x", &["/b"], &["/a/x", "/b/a/x"]).as_deref(), Ok("/a/x"));
        assert_eq!(
            find("../x", &["/a/b"], &["/a/b/../x", "../x"]).as_deref(),
            Ok("../x")
        );
        assert_eq!(
            find("../b/x", &["/a/b"], &["/a/b/../b/x", "../b/x"]).as_deref(),
            Ok("/a/b/../b/x")
        );
    }

    #[test]
    fn jars_and_wildcards_are_skipped() {
        assert_eq!(
            find("x", &["/a/k.jar", "/lib/*", "/b"], &["/a/k.jar/x", "/b/x"]).as_deref(),
            Ok("/b/x")
        );
    }

    #[test]
    fn a_missing_file_is_named_with_the_places_that_were_tried() {
        assert_eq!(
            find("x", &["/a", "/b/k.jar"], &[]),
            Err(
                "cannot read the properties file 'x': no such file (nor is it in the class path: /a)"
                    .to_owned()
            )
        );
        assert_eq!(
            find("x", &[], &[]),
            Err("cannot read the properties file 'x': no such file".to_owned())
        );
    }
}
