//! The program itself: what it prints, and how it ends.
#![cfg(feature = "local")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[test]
fn it_answers_as_java_where_a_launcher_asks() {
    let output = multilangd(Path::new("."), &["-version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stderr).starts_with("openjdk version \"17\""),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn its_version_and_help_go_to_stdout() {
    let version = multilangd(Path::new("."), &["--version"]);
    assert_eq!(
        text(&version.stdout),
        concat!("multilangd ", env!("CARGO_PKG_VERSION"), "\n")
    );
    let help = multilangd(Path::new("."), &["--help"]);
    assert!(
        text(&help.stdout).contains("multilangd put STREAM"),
        "{}",
        text(&help.stdout)
    );
    assert_eq!(help.status.code(), Some(0));
}

#[test]
fn a_missing_properties_file_ends_with_1_or_for_validate_with_78() {
    let dir = Directory::new("missing");
    let run = multilangd(dir.path(), &["nowhere.properties"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(
        text(&run.stderr).contains("nowhere.properties"),
        "{}",
        text(&run.stderr)
    );
    let validate = multilangd(dir.path(), &["validate", "nowhere.properties"]);
    assert_eq!(validate.status.code(), Some(78));
}

#[test]
fn a_program_that_is_not_there_is_named_before_anything_is_done() {
    let dir = Directory::new("no-program");
    dir.write("app.properties", &properties("no-such-program --fast"));
    let output = multilangd(dir.path(), &["run", "--local", "--memory", "app.properties"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("executableName") && stderr.contains("no-such-program"),
        "{stderr}"
    );
    assert!(!stderr.contains("lease"), "{stderr}");
}

#[test]
fn without_a_region_it_says_where_one_can_be_set() {
    let dir = Directory::new("no-region");
    dir.write("app.properties", &properties("cat"));
    let output = multilangd(dir.path(), &["app.properties"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("set regionName"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn authorities_that_cannot_be_read_are_named_before_anything_is_asked() {
    let dir = Directory::new("bundle");
    dir.write(
        "app.properties",
        &(properties("cat") + "regionName = us-east-1\n"),
    );
    let output = command(dir.path(), &["app.properties"])
        .env("AWS_CA_BUNDLE", "/nowhere/ca.pem")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("AWS_CA_BUNDLE = /nowhere/ca.pem: No such file"),
        "{stderr}"
    );
}

#[test]
fn without_credentials_every_provider_says_why() {
    let dir = Directory::new("no-credentials");
    let settings = "regionName = us-east-1\nkinesisEndpoint = http://127.0.0.1:1\n";
    dir.write("app.properties", &(properties("cat") + settings));
    let output = multilangd(dir.path(), &["app.properties"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("no credentials: ") && stderr.contains("environment: "),
        "{stderr}"
    );
}

#[test]
fn json_lines_are_objects_from_the_first_to_the_last() {
    let dir = Directory::new("json");
    dir.write("app.properties", &properties("no-such-program"));
    let output = multilangd(
        dir.path(),
        &["run", "--json", "--local", "--memory", "app.properties"],
    );
    let stderr = text(&output.stderr);
    assert!(!stderr.is_empty());
    for line in stderr.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            value["message"].is_string() && value["time"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn local_services_print_both_endpoints_and_are_found_by_put() {
    let dir = Directory::new("local");
    let mut local = Local::start(dir.path(), &["local", "--memory"]);
    let endpoints = local.lines(2);
    assert!(
        endpoints[0].starts_with("Kinesis   http://127.0.0.1:"),
        "{endpoints:?}"
    );
    assert!(
        endpoints[1].starts_with("DynamoDB  http://127.0.0.1:"),
        "{endpoints:?}"
    );

    let missing = put(dir.path(), &["put", "words"], b"hello\n");
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        text(&missing.stderr).contains("ResourceNotFoundException"),
        "{}",
        text(&missing.stderr)
    );

    assert_eq!(local.stop("TERM"), 143);
    assert!(!dir.path().join(".multilangd").exists());
    let gone = put(dir.path(), &["put", "--local", "words"], b"hello\n");
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        text(&gone.stderr).contains("multilangd local"),
        "{}",
        text(&gone.stderr)
    );
}

#[test]
fn put_refuses_to_guess_when_local_services_were_killed() {
    let dir = Directory::new("killed");
    let mut local = Local::start(dir.path(), &["local", "--memory"]);
    local.lines(2);
    local.stop("KILL");
    let output = put(dir.path(), &["put", "words"], b"hello\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("left over"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn lines_put_one_by_one_reach_a_running_daemon_at_once() {
    let dir = Directory::new("run-local");
    // A child in shell: answers everything, and shows what it hears on its stderr.
    dir.write(
        "child.sh",
        "while read -r line; do\n  action=${line#*'\"action\":\"'}; action=${action%%'\"'*}\n  \
         case $line in *aGVsbG8=*) echo heard-hello >&2;; esac\n  \
         echo '{\"action\":\"status\",\"responseFor\":\"'$action'\"}'\ndone\n",
    );
    dir.write(
        "app.properties",
        &(properties("sh child.sh") + "idleTimeBetweenReadsInMillis = 200\n"),
    );
    let mut daemon = Local::start(dir.path(), &["run", "--local", "app.properties"]);
    daemon.until_stderr("child started");
    let mut put = Command::new(env!("CARGO_BIN_EXE_multilangd"))
        .args(["put", "words"])
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The pipe stays open: nobody says that this was the last line.
    put.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    let line = daemon.until_stderr("heard-hello");
    assert!(line.starts_with("[shardId-00000000000"), "{line}");
    drop(put.stdin.take());
    assert_eq!(put.wait().unwrap().code(), Some(0));
    assert_eq!(daemon.stop("INT"), 130);
}

fn properties(executable: &str) -> String {
    format!(
        "executableName = {executable}\napplicationName = app\nstreamName = words\n\
         AwsCredentialsProvider = EnvironmentVariableCredentialsProvider\n\
         initialPositionInStream = TRIM_HORIZON\nretrievalMode = POLLING\nmetricsLevel = NONE\n"
    )
}

/// Without anything from the environment that says who and where we are.
fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multilangd"));
    command.args(arguments).current_dir(dir).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir).env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn multilangd(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).stdin(Stdio::null()).output().unwrap()
}

fn put(dir: &Path, arguments: &[&str], lines: &[u8]) -> Output {
    let mut command = command(dir, arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A running program, killed when it is forgotten.
struct Local {
    process: Child,
    stdout: BufReader<ChildStdout>,
    stderr: std::sync::mpsc::Receiver<String>,
}

impl Local {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut process = command(dir, arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        Self {
            process,
            stdout,
            stderr: receiver,
        }
    }

    fn lines(&mut self, count: usize) -> Vec<String> {
        (&mut self.stdout)
            .lines()
            .take(count)
            .map(Result::unwrap)
            .collect()
    }

    /// The next line of stderr that contains the text.
    fn until_stderr(&self, part: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut seen = String::new();
        loop {
            match self
                .stderr
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => seen = seen + &line + "\n",
                Err(_) => panic!("no '{part}' in:\n{seen}"),
            }
        }
    }

    fn stop(&mut self, signal: &str) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let id = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), &id])
                .status()
                .unwrap()
                .success()
        );
        let status = self.process.wait().unwrap();
        let mut rest = String::new();
        let _ = self.stdout.read_to_string(&mut rest);
        status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A directory of the test's own.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("multilangd-command-line-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
