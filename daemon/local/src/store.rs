//! The data directory: its lock, and files that are replaced as a whole.
//!
//! Owns who may use the directory. Never knows what is in a file.
//!
//! ```text
//! DIR/lock                                   held while a process uses the directory
//! DIR/dynamodb.db                            the embedded DynamoDB (SQLite)
//! DIR/dynamodb-backups.json                  tables with point-in-time recovery
//! DIR/kinesis/NAME.stream/stream.json        shards, settings, tags, consumers
//! DIR/kinesis/NAME.stream/SHARD-ID/*.log     records
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::error::LocalError;

/// A data directory that no other process uses. The lock goes with the process, however that ends.
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    _lock: Flock<File>,
}

impl DataDir {
    pub(crate) fn open(path: &Path) -> Result<Self, LocalError> {
        let fault = |path: &Path, error: io::Error| LocalError::Data {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        std::fs::create_dir_all(path).map_err(|error| fault(path, error))?;
        let lock = path.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock)
            .map_err(|error| fault(&lock, error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => Ok(Self {
                path: path.to_owned(),
                _lock: held,
            }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(LocalError::InUse(path.to_owned())),
            Err((_, error)) => Err(fault(&lock, error.into())),
        }
    }
}

/// Replaces a file: whoever reads it, at whatever moment, finds the old content or the new.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    let written = (|| {
        let mut file = File::create(&fresh)?;
        file.write_all(content)?;
        // Without this, a power cut after the rename could leave an empty file under the old name.
        file.sync_data()?;
        std::fs::rename(&fresh, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written
}

/// What a folder is called while it is being deleted. A start deletes what still has such a name.
pub(crate) const DOOMED: &str = "deleted";

/// Removes a folder: at once under its own name, then its content.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let doomed = folder.with_extension(DOOMED);
    let _ = std::fs::remove_dir_all(&doomed);
    match std::fs::rename(folder, &doomed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    // What cannot be removed now is removed at the next start.
    let _ = std::fs::remove_dir_all(&doomed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_and_free_again_after() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataDir::open(folder.path()).unwrap();
        assert!(matches!(DataDir::open(folder.path()), Err(LocalError::InUse(_))));
        drop(held);
        assert!(DataDir::open(folder.path()).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_replaced_keeps_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stream.json");
        write(&file, b"old").unwrap();
        std::fs::create_dir(file.with_extension("new")).unwrap();
        assert!(write(&file, b"new").is_err());
        assert_eq!(std::fs::read(&file).unwrap(), b"old");
    }
}
