//! Rules about the text of the code that no compiler knows.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn decisions_are_synchronous_and_ask_no_clock() {
    for file in sources("daemon/core/src") {
        for (number, line) in code_of(&file) {
            for word in [
                "async fn",
                "async move",
                ".await",
                "Instant::now",
                "SystemTime::now",
                "HashMap",
                "tokio::",
            ] {
                assert!(
                    !line.contains(word),
                    "{}:{number}: `{word}` in core",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn nothing_is_left_to_do() {
    for dir in ["protocol/src", "daemon", "tests/src", "clients"] {
        for file in sources(dir) {
            for (number, line) in text_of(&file).lines().enumerate() {
                for word in ["TODO", "FIXME", "XXX", "unimplemented!", "todo!"] {
                    let said = line
                        .split(|c: char| !c.is_ascii_alphanumeric() && c != '!')
                        .any(|it| it == word);
                    assert!(!said, "{}:{}: {word}", file.display(), number + 1);
                }
            }
        }
    }
}

#[test]
fn every_module_file_is_in_the_module_tree() {
    for dir in [
        "protocol/src",
        "daemon/core/src",
        "daemon/engine/src",
        "daemon/config/src",
        "daemon/local/src",
    ] {
        let files = sources(dir);
        let all: String = files
            .iter()
            .map(|file| text_of(file))
            .collect::<Vec<_>>()
            .join("\n");
        for file in &files {
            let name = file.file_stem().unwrap().to_string_lossy();
            if ["lib", "main", "mod"].contains(&name.as_ref()) {
                continue;
            }
            assert!(
                all.contains(&format!("mod {name};")),
                "{} is no module of its crate",
                file.display()
            );
        }
    }
}

#[test]
fn every_difference_from_java_is_in_the_compatibility_page() {
    let page = fs::read_to_string(root().join("docs/COMPATIBILITY.md")).expect("the page exists");
    for dir in ["protocol/src", "daemon"] {
        for file in sources(dir) {
            let marks = text_of(&file).matches("Compat:").count();
            let path = file
                .strip_prefix(root())
                .unwrap()
                .display()
                .to_string()
                .replace("/src/", "/");
            let entries = page.matches(&format!("`{path}`")).count();
            assert!(
                entries >= marks,
                "{path} marks {marks} differences with `Compat:`, docs/COMPATIBILITY.md has {entries} entries for it"
            );
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .to_path_buf()
}

fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&root().join(dir), &mut found);
    assert!(!found.is_empty(), "nothing in {dir}");
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !["target", "node_modules", ".multilangd"].contains(&name.as_str()) {
                collect(&path, found);
            }
        } else if [".rs", ".py", ".mjs", ".cjs", ".sh"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            found.push(path);
        }
    }
}

fn text_of(file: &Path) -> String {
    fs::read_to_string(file).expect("text")
}

/// The lines that are neither comments nor behind the tests' mark.
fn code_of(file: &Path) -> Vec<(usize, String)> {
    if file.ends_with("tests.rs") {
        return Vec::new();
    }
    text_of(file)
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.to_owned()))
        .take_while(|(_, line)| !line.contains("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}
