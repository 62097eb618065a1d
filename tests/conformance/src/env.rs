//! Folders for `--env`: those of the reference data, or one with lines more.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder that describes a machine, and what a case adds to it.
#[derive(Clone, Debug)]
pub(crate) struct EnvFolder {
    pub folder: PathBuf,
    /// Lines for the end of `interfaces.txt`.
    pub interfaces: &'static str,
    /// A file whose lines belong to the end of another one.
    pub joined: Option<(&'static str, &'static str)>,
}

/// A folder that is ready for use.
pub(crate) enum Ready {
    /// Of the reference data.
    Given(PathBuf),
    /// Made for one call.
    Made(TempDir),
}

impl Ready {
    pub fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Made(folder) => folder.path(),
        }
    }
}

impl EnvFolder {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, interfaces: "", joined: None }
    }

    /// The folder itself, or a copy with the additions.
    pub fn ready(&self) -> io::Result<Ready> {
        if self.interfaces.is_empty() && self.joined.is_none() {
            return Ok(Ready::Given(self.folder.clone()));
        }
        let copy = TempDir::new()?;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let target = copy.path().join(entry.file_name());
            if entry.file_type()?.is_dir() {
                symlink(entry.path(), target)?;
            } else {
                // Not fs::copy, which keeps a file read-only.
                fs::write(target, fs::read(entry.path())?)?;
            }
        }
        append(&copy.path().join("interfaces.txt"), self.interfaces)?;
        if let Some((from, to)) = self.joined {
            let text = fs::read_to_string(copy.path().join(from))?;
            append(&copy.path().join(to), &text)?;
        }
        Ok(Ready::Made(copy))
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    let before = fs::read_to_string(path)?;
    fs::write(path, before + text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_go_to_a_copy() {
        let given = TempDir::new().unwrap();
        let write = |name: &str, text: &str| fs::write(given.path().join(name), text).unwrap();
        write("interfaces.txt", "lo0\n");
        write("more", "b\n");
        write("list", "a\n");
        fs::create_dir(given.path().join("files")).unwrap();
        let mut env = EnvFolder::new(given.path().to_owned());
        assert_eq!(env.ready().unwrap().path(), given.path());
        env.interfaces = "em0\n";
        env.joined = Some(("more", "list"));
        let made = env.ready().unwrap();
        let read = |name: &str| fs::read_to_string(made.path().join(name)).unwrap();
        assert_eq!((read("interfaces.txt"), read("list")), ("lo0\nem0\n".into(), "a\nb\n".into()));
        assert!(made.path().join("files").is_dir());
    }
}
