//! The files of one shard's log: each named after the position of its first record, appended to, never changed.
//!
//! Owns writing, truncating and scanning them. A process killed at any moment leaves whole frames and perhaps
//! a torn one at the end of the last file, which the next start cuts off. Nothing is synced: the operating
//! system keeps what a killed process wrote; a power cut may cost the last seconds.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame;

/// A file is closed, and a new one begun, at this size: what retention deletes, it deletes by file.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// The files of one shard. The last one is open.
pub(crate) struct Segments {
    folder: PathBuf,
    active: Option<Active>,
}

struct Active {
    path: Arc<Path>,
    /// Opened by the first append, so that shards which are only read hold no file.
    file: Option<File>,
    length: u64,
}

/// Where an append went.
pub(crate) struct Place {
    pub(crate) path: Arc<Path>,
    pub(crate) offset: u64,
}

/// A frame found when scanning.
pub(crate) struct Found {
    pub(crate) path: Arc<Path>,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) position: u64,
    pub(crate) arrived_ms: u64,
}

impl Segments {
    /// Opens a shard's folder, which need not exist, and reports every whole frame in order. Also returns the
    /// position in the last file's name: below it no record may be numbered again.
    pub(crate) fn open(folder: PathBuf, mut found: impl FnMut(Found)) -> io::Result<(Self, u64)> {
        let mut files = Vec::new();
        match std::fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry?.path();
                    if path.extension().is_some_and(|extension| extension == "log") {
                        files.push(path);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        files.sort();
        let mut active = None;
        let mut least = 0;
        let count = files.len();
        for (index, path) in files.into_iter().enumerate() {
            let path: Arc<Path> = path.into();
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let (whole, length) = scan(&file, &path, &mut found)?;
            if whole < length {
                tracing::warn!(file = %path.display(), whole, length, "log ends in a torn record: the rest is cut off");
                file.set_len(whole)?;
            }
            if index + 1 == count {
                let name = path.file_stem().and_then(|name| name.to_str());
                least = name.and_then(|name| name.parse().ok()).unwrap_or(0);
                active = Some(Active {
                    path,
                    file: None,
                    length: whole,
                });
            }
        }
        Ok((Self { folder, active }, least))
    }

    /// Writes whole frames behind all others. On an error nothing was appended.
    pub(crate) fn append(&mut self, first_position: u64, frames: &[u8]) -> io::Result<Place> {
        if self
            .active
            .as_ref()
            .is_none_or(|active| active.length >= SEGMENT_BYTES_MAX)
        {
            std::fs::create_dir_all(&self.folder)?;
            let path: Arc<Path> = self.folder.join(format!("{first_position:020}.log")).into();
            // Truncate: an earlier attempt may have made the file and then found the disk full.
            let file = File::create(&path)?;
            self.active = Some(Active {
                path,
                file: Some(file),
                length: 0,
            });
        }
        let active = self.active.as_mut().expect("set above");
        let file = match &mut active.file {
            Some(file) => file,
            closed => closed.insert(OpenOptions::new().write(true).open(&active.path)?),
        };
        if let Err(error) = file.write_all_at(frames, active.length) {
            // What was written is beyond the end that we know; the next append writes over it, and a cut
            // keeps a restart from seeing it.
            let _ = file.set_len(active.length);
            return Err(error);
        }
        let place = Place {
            path: active.path.clone(),
            offset: active.length,
        };
        active.length += frames.len() as u64;
        Ok(place)
    }

    /// Closes the file, until the next append.
    pub(crate) fn release(&mut self) {
        if let Some(active) = &mut self.active {
            active.file = None;
        }
    }

    /// Deletes a file that retention has emptied, unless it is the one being written.
    pub(crate) fn delete(&self, path: &Path) {
        if self.active.as_ref().is_some_and(|active| *active.path == *path) {
            return;
        }
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(file = %path.display(), %error, "expired records stay on disk");
        }
    }
}

/// Bytes of a file, as they were appended.
pub(crate) fn load(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Reports each whole frame; returns how many bytes they take, and how many there are.
fn scan(file: &File, path: &Arc<Path>, found: &mut impl FnMut(Found)) -> io::Result<(u64, u64)> {
    let total = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut buffer = Vec::new();
    let mut offset = 0;
    while offset < total {
        buffer.resize(frame::HEADER, 0);
        if !filled(&mut reader, &mut buffer)? {
            break;
        }
        let Some(length) = frame::peek(&buffer) else { break };
        if length as u64 > total - offset {
            break;
        }
        buffer.resize(length, 0);
        if !filled(&mut reader, &mut buffer[frame::HEADER..])? {
            break;
        }
        let Some((read, _)) = frame::read(&buffer, true) else {
            break;
        };
        let (position, arrived_ms) = (read.position, read.arrived_ms);
        found(Found {
            path: path.clone(),
            offset,
            length: length as u32,
            position,
            arrived_ms,
        });
        offset += length as u64;
    }
    Ok((offset, total))
}

fn filled(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
