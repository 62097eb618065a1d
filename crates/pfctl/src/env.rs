//! `--env`: a folder that describes a machine, in place of the one that pfctl runs on.
//!
//! What the folder has not is empty. Absolute paths in rules lie below its `files`; other paths
//! are those of the working directory.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use pfapi::facts::Facts;
use pfconf::env::{Environment, FixtureError, Texts};
use pfconf::{Dialect, FingerprintMistake, Fingerprints, Sources};

use crate::console::os_text;
use crate::sources::{FINGERPRINTS, read_lossy};

/// The file that is empty everywhere.
const NULL: &str = "/dev/null";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// A file or the folder itself cannot be read.
    #[error("{}: {}", .0.display(), os_text(.1))]
    Read(PathBuf, #[source] io::Error),
    /// A line is not understood.
    #[error("{}/{}", .0.display(), .1)]
    Line(PathBuf, #[source] FixtureError),
}

/// A machine from a folder.
pub struct Env {
    machine: Environment,
    folder: PathBuf,
}

impl Env {
    /// Reads the fixtures of a folder. Fingerprints that are left out come back too.
    ///
    /// # Errors
    /// A folder that is none, a file that is there and cannot be read, and the first line that is
    /// not understood.
    pub fn read(
        folder: &Path,
        dialect: Dialect,
    ) -> Result<(Self, Vec<FingerprintMistake>), EnvError> {
        // A name that is mistyped is no empty machine.
        fs::read_dir(folder).map_err(|error| EnvError::Read(folder.to_owned(), error))?;
        let text = |name: &str| {
            let path = folder.join(name);
            match read_lossy(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
                other => other.map_err(|error| EnvError::Read(path, error)),
            }
        };
        let system = dialect.word();
        let texts = Texts {
            interfaces: text("interfaces.txt")?,
            hosts: text("hosts.txt")?,
            users: text("users.txt")?,
            groups: text("groups.txt")?,
            services: text(&format!("services.{system}"))?,
            protocols: text(&format!("protocols.{system}"))?,
            settings: text("settings.txt")?,
            fingerprints: text("pf.os")?,
        };
        let (machine, mistakes) = Environment::parse(&texts, dialect)
            .map_err(|error| EnvError::Line(folder.to_owned(), error))?;
        Ok((Self { machine, folder: folder.to_owned() }, mistakes))
    }

    /// The machine's interfaces.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.machine.facts
    }
}

impl Sources for Env {
    fn read(&self, path: &str) -> io::Result<String> {
        if path == NULL {
            return Ok(String::new());
        }
        if Path::new(path).is_relative() {
            return read_lossy(Path::new(path));
        }
        match read_lossy(&below(&self.folder.join("files"), path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path == FINGERPRINTS => {
                read_lossy(&self.folder.join("pf.os"))
            }
            other => other,
        }
    }

    fn lookup_host(&self, name: &str) -> Vec<IpAddr> {
        self.machine.lookup_host(name)
    }

    fn service(&self, name: &str, proto: Option<&str>) -> Option<u16> {
        self.machine.service(name, proto)
    }

    fn protocol(&self, name: &str) -> Option<u8> {
        self.machine.protocol(name)
    }

    fn service_name(&self, port: u16, proto: &str) -> Option<String> {
        self.machine.service_name(port, proto)
    }

    fn protocol_name(&self, number: u8) -> Option<String> {
        self.machine.protocol_name(number)
    }

    fn user(&self, name: &str) -> Option<u32> {
        self.machine.user(name)
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.machine.group(name)
    }

    fn fingerprints(&self) -> Option<&Fingerprints> {
        Some(self.machine.fingerprints())
    }

    fn has_rtable(&self, rtable: u32) -> bool {
        self.machine.has_rtable(rtable)
    }
}

/// `path` with `root` in the place of the root folder; `..` does not lead out of it.
fn below(root: &Path, path: &str) -> PathBuf {
    let mut inside = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => drop(inside.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    root.join(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_stay_in_the_folder() {
        let at = |path| below(Path::new("/env/files"), path).display().to_string();
        assert_eq!(at("/etc/pf.table"), "/env/files/etc/pf.table");
        assert_eq!(at("/etc//./../../../.jail"), "/env/files/.jail");
    }

    #[test]
    fn folder_describes_a_machine() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("interfaces.txt", "em0 index 1 flags UP mtu 1500 inet 192.0.2.1/24\n");
        write("services.openbsd", "http 80/tcp\n");
        write("files/etc/table", "192.0.2.9\n");
        write("pf.os", "5840:64:1:60:.:Linux:2.6::Linux\nodd\n");
        let (env, mistakes) = Env::read(folder.path(), Dialect::OpenBsd).unwrap();
        assert_eq!(mistakes.len(), 1);
        assert_eq!(env.facts().interfaces.len(), 1);
        assert_eq!(env.service("http", None), Some(80));
        assert_eq!(env.read("/etc/table").unwrap(), "192.0.2.9\n");
        assert_eq!(env.read("/dev/null").unwrap(), "");
        assert!(env.read("/etc/pf.os").unwrap().starts_with("5840"));
        let missing = env.read("/etc/passwd").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(env.protocol("tcp"), None);
        assert_eq!(env.fingerprints().unwrap().find("linux").to_string(), "Linux");
        write("users.txt", "root 0\nroot\n");
        let error = Env::read(folder.path(), Dialect::OpenBsd).err().unwrap().to_string();
        assert_eq!(error, format!("{}/users.txt:2: a line is NAME ID", folder.path().display()));
        let nowhere = folder.path().join("none");
        let error = Env::read(&nowhere, Dialect::OpenBsd).err().unwrap().to_string();
        assert_eq!(error, format!("{}: No such file or directory", nowhere.display()));
    }
}
