//! Where local services of this directory can be reached: written by `local` and `run --local`, read by `put`.
//!
//! Owns `.multilangd/endpoints.json`. The file is a hint: whether anybody still listens is asked of the port.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

/// Beside the local services' data.
const FILE: &str = ".multilangd/endpoints.json";
/// A loopback port answers in microseconds, or nobody listens.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Two endpoints, as URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// `http://127.0.0.1:PORT`.
    pub kinesis: String,
    /// `http://127.0.0.1:PORT`.
    pub dynamodb: String,
    /// The region to sign for; the local services take any.
    pub region: String,
}

/// What a directory says about local services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// None ran here, or they have stopped in order.
    Nothing,
    /// They are running.
    Running(Endpoints),
    /// They were killed, or the file is not ours.
    LeftOver(PathBuf),
}

/// Asks a directory.
pub fn find(dir: &Path) -> Found {
    let path = dir.join(FILE);
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Found::Nothing;
    };
    match parse(&text) {
        Some(endpoints) if listens(&endpoints.kinesis) => Found::Running(endpoints),
        _ => Found::LeftOver(path),
    }
}

/// The file, for as long as the services run.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
    text: String,
}

/// Writes the file; an older one is replaced.
pub fn publish(dir: &Path, endpoints: &Endpoints) -> io::Result<Published> {
    let path = dir.join(FILE);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let object = json!({
        "kinesis": endpoints.kinesis,
        "dynamodb": endpoints.dynamodb,
        "region": endpoints.region,
        "pid": std::process::id(),
    });
    let text = format!("{object:#}\n");
    // Renamed into place, so that no reader sees half of it.
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&temporary, &text)?;
    std::fs::rename(&temporary, &path)?;
    Ok(Published { path, text })
}

impl Drop for Published {
    fn drop(&mut self) {
        // Later services of the same directory have written their own.
        if std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = std::fs::remove_file(&self.path);
        }
        // Fails, as it should, where the services keep data.
        if let Some(parent) = self.path.parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

fn parse(text: &str) -> Option<Endpoints> {
    let object: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| object.get(name)?.as_str().map(str::to_owned);
    Some(Endpoints {
        kinesis: text("kinesis")?,
        dynamodb: text("dynamodb")?,
        region: text("region")?,
    })
}

fn listens(url: &str) -> bool {
    let address = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    address
        .and_then(|address| address.parse::<SocketAddr>().ok())
        .is_some_and(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn endpoints(port: u16) -> Endpoints {
        Endpoints {
            kinesis: format!("http://127.0.0.1:{port}"),
            dynamodb: "http://127.0.0.1:1".into(),
            region: "us-east-1".into(),
        }
    }

    #[test]
    fn running_services_are_found_until_they_stop() {
        let dir = Directory::new("found");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let here = endpoints(listener.local_addr().unwrap().port());
        assert_eq!(find(dir.path()), Found::Nothing);
        let published = publish(dir.path(), &here).unwrap();
        assert_eq!(find(dir.path()), Found::Running(here));
        drop(published);
        assert_eq!(find(dir.path()), Found::Nothing);
        assert!(!dir.path().join(".multilangd").exists());
    }

    #[test]
    fn a_file_of_killed_services_is_told_apart() {
        let dir = Directory::new("killed");
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        std::mem::forget(publish(dir.path(), &endpoints(port)).unwrap());
        assert_eq!(find(dir.path()), Found::LeftOver(dir.path().join(FILE)));
    }

    #[test]
    fn services_that_stop_leave_the_file_of_later_ones() {
        let dir = Directory::new("later");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = publish(dir.path(), &endpoints(1)).unwrap();
        let later = endpoints(listener.local_addr().unwrap().port());
        let _second = publish(dir.path(), &later).unwrap();
        drop(first);
        assert_eq!(find(dir.path()), Found::Running(later));
    }

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("multilangd-endpoints-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
