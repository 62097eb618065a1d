//! Files of the packet log: pflog0 goes to the file that `pflog` names, pflogN to that name with N
//! behind it.
//!
//! A file only ever grows by whole records; what a crash has left of a last one is cut off when
//! the file is opened. Somebody else moves full files away and sends SIGHUP.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::PathBuf;

use super::record::{FILE_HEADER, RECORD_HEADER, SNAP_MAX, pcap_header, record_header};
use crate::log;

/// Why a file cannot be written to.
#[derive(Debug, thiserror::Error)]
pub enum LogFileError {
    /// It holds something else.
    #[error("{0}: it is no pcap file of pflog (link type 117); move it away, or change `pflog`")]
    Foreign(PathBuf),
    /// The system's answer.
    #[error("{path}: {source}")]
    System {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The files of the packet log.
#[derive(Debug, Default)]
pub struct LogFiles {
    base: Option<PathBuf>,
    open: BTreeMap<u8, LogFile>,
    /// Files that could not be opened or written; they are tried again at the next reopen.
    broken: BTreeSet<u8>,
}

/// One file.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    /// Length in whole records.
    end: u64,
    /// Records that are not written yet.
    waiting: Vec<u8>,
}

impl LogFiles {
    /// Files below this name, and at once that of pflog0, for a user and group that may open it
    /// again; without a name nothing is written.
    ///
    /// # Errors
    /// [`LogFileError`]
    pub fn open(base: Option<PathBuf>, owner: Option<(u32, u32)>) -> Result<Self, LogFileError> {
        let mut files = Self { base, ..Self::default() };
        if let Some(path) = files.path_of(0) {
            let file = LogFile::open(path)?;
            if let Some((uid, gid)) = owner {
                fchown(&file.file, Some(uid), Some(gid)).map_err(|source| file.failed(source))?;
            }
            files.open.insert(0, file);
        }
        Ok(files)
    }

    fn path_of(&self, interface: u8) -> Option<PathBuf> {
        let base = self.base.as_ref()?;
        if interface == 0 {
            return Some(base.clone());
        }
        let mut name = base.clone().into_os_string();
        name.push(interface.to_string());
        Some(name.into())
    }

    /// Adds a record to the file of `pflogN`; [`Self::flush`] writes it.
    pub fn add(&mut self, interface: u8, time_us: u64, octets: &[u8], len: usize) {
        if self.broken.contains(&interface) {
            return;
        }
        if !self.open.contains_key(&interface) {
            let Some(path) = self.path_of(interface) else { return };
            match LogFile::open(path) {
                Ok(file) => drop(self.open.insert(interface, file)),
                Err(error) => return self.give_up(interface, &error),
            }
        }
        if let Some(file) = self.open.get_mut(&interface) {
            file.waiting.extend_from_slice(&record_header(time_us, octets.len(), len));
            file.waiting.extend_from_slice(octets);
        }
    }

    /// Writes what was added.
    pub fn flush(&mut self) {
        let mut failed = Vec::new();
        for (interface, file) in &mut self.open {
            if let Err(error) = file.write() {
                failed.push((*interface, error));
            }
        }
        for (interface, error) in failed {
            self.open.remove(&interface);
            self.give_up(interface, &error);
        }
    }

    /// Opens every file again by its name; one that cannot be opened stays as it is.
    pub fn reopen(&mut self) {
        self.broken.clear();
        for file in self.open.values_mut() {
            match LogFile::open(file.path.clone()) {
                Ok(new) => *file = new,
                Err(error) => {
                    log::error(&format!("{error}; the packet log goes on in the old file"));
                }
            }
        }
    }

    fn give_up(&mut self, interface: u8, error: &LogFileError) {
        log::error(&format!("{error}; pflog{interface} is not written until SIGHUP"));
        self.broken.insert(interface);
    }
}

impl LogFile {
    fn open(path: PathBuf) -> Result<Self, LogFileError> {
        let failed = |source| LogFileError::System { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let end = if length == 0 {
            file.write_all(&pcap_header()).map_err(failed)?;
            FILE_HEADER as u64
        } else {
            let end = whole_records(&file, length).map_err(failed)?;
            let Some(end) = end else { return Err(LogFileError::Foreign(path)) };
            file.set_len(end).map_err(failed)?;
            end
        };
        file.seek(SeekFrom::Start(end)).map_err(failed)?;
        Ok(Self { path, file, end, waiting: Vec::new() })
    }

    fn failed(&self, source: io::Error) -> LogFileError {
        LogFileError::System { path: self.path.clone(), source }
    }

    /// Writes what waits; on failure the file keeps whole records only.
    fn write(&mut self) -> Result<(), LogFileError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let outcome = self.file.write_all(&self.waiting);
        match outcome {
            Ok(()) => self.end += self.waiting.len() as u64,
            Err(source) => {
                // A full disk: what was begun is cut off again.
                let _ = self.file.set_len(self.end);
                return Err(self.failed(source));
            }
        }
        self.waiting.clear();
        Ok(())
    }
}

/// Where the last whole record of a file ends; `None` when it is no file of the packet log.
fn whole_records(file: &File, length: u64) -> io::Result<Option<u64>> {
    let mut reader = BufReader::new(file);
    let mut header = [0; FILE_HEADER];
    if length < FILE_HEADER as u64 {
        return Ok(None);
    }
    reader.read_exact(&mut header)?;
    // The longest record may have been another one.
    let own = pcap_header();
    if header[..8] != own[..8] || header[20..] != own[20..] {
        return Ok(None);
    }
    let mut end = FILE_HEADER as u64;
    let mut record = [0; RECORD_HEADER];
    while end + RECORD_HEADER as u64 <= length {
        reader.read_exact(&mut record)?;
        let kept = u32::from_le_bytes([record[8], record[9], record[10], record[11]]);
        let next = end + RECORD_HEADER as u64 + u64::from(kept);
        if kept > SNAP_MAX || next > length {
            break;
        }
        reader.seek_relative(i64::from(kept))?;
        end = next;
    }
    Ok(Some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pfd-pflog-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn records_survive_and_what_a_crash_left_is_cut() {
        let folder = folder("crash");
        let base = folder.join("log");
        let mut files = LogFiles::open(Some(base.clone()), None).unwrap();
        files.add(0, 1_500_000, &[7; 5], 9);
        files.add(3, 2_000_000, &[8; 4], 4);
        files.flush();
        drop(files);
        let first = std::fs::read(&base).unwrap();
        assert_eq!(first[..24], pcap_header());
        assert_eq!(first[24..32], [1, 0, 0, 0, 0x20, 0xa1, 7, 0]);
        assert_eq!(first[32..], [5, 0, 0, 0, 9, 0, 0, 0, 7, 7, 7, 7, 7]);
        assert_eq!(std::fs::read(folder.join("log3")).unwrap().len(), 24 + 16 + 4);
        // Half a record.
        let mut torn = first.clone();
        torn.extend([1, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 1, 2, 3]);
        std::fs::write(&base, &torn).unwrap();
        let mut files = LogFiles::open(Some(base.clone()), None).unwrap();
        assert_eq!(std::fs::read(&base).unwrap(), first);
        files.add(0, 0, &[9], 1);
        files.flush();
        assert_eq!(std::fs::read(&base).unwrap().len(), first.len() + 17);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn foreign_files_are_left_alone() {
        let folder = folder("foreign");
        let base = folder.join("log");
        for content in [&b"short"[..], b"a text that is longer than the header of a file"] {
            std::fs::write(&base, content).unwrap();
            let error = LogFiles::open(Some(base.clone()), None).unwrap_err();
            assert!(matches!(error, LogFileError::Foreign(_)), "{error}");
            assert_eq!(std::fs::read(&base).unwrap(), content);
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn reopening_begins_a_new_file() {
        let folder = folder("reopen");
        let base = folder.join("log");
        let mut files = LogFiles::open(Some(base.clone()), None).unwrap();
        std::fs::rename(&base, folder.join("old")).unwrap();
        files.add(0, 0, &[1], 1);
        files.flush();
        files.reopen();
        files.add(0, 0, &[2, 2], 2);
        files.flush();
        assert_eq!(std::fs::read(folder.join("old")).unwrap().len(), 24 + 16 + 1);
        assert_eq!(std::fs::read(&base).unwrap().len(), 24 + 16 + 2);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn without_a_name_nothing_is_written() {
        let mut files = LogFiles::open(None, None).unwrap();
        files.add(0, 0, &[1], 1);
        files.flush();
        assert!(files.open.is_empty());
    }
}
