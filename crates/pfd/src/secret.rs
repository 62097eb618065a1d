//! The file with the secrets that several firewalls share, from which the keys of SYN cookies
//! follow.
//!
//! One secret per line, 64 hexadecimal digits; the first makes cookies, all are accepted. Empty
//! lines and lines that begin with `#` say nothing. Whoever reads the file can make cookies, so it
//! must be readable by its owner alone.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pfengine::{CookieSecret, Engine};

use crate::log;
use crate::run::Clock;

/// Most secrets in a file; the engine keeps no more.
pub const SECRETS_MAX: usize = 4;
/// Octets that are read of a file at most: four secrets and some comments.
const FILE_MAX: u64 = 16 * 1024;
/// Digits of a secret.
const DIGITS: usize = 64;

/// Why the secrets could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Others can read it.
    #[error(
        "{}: mode {mode:04o} lets others read the secrets; run chmod 0600 {}",
        path.display(), path.display()
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A line is no secret.
    #[error("{}:{line}: {text}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong and how to put it right; never the line itself.
        text: &'static str,
    },
}

/// Reads the secrets of a file.
///
/// # Errors
/// [`SecretError`]; no message shows a secret.
pub fn read(path: &Path) -> Result<Vec<CookieSecret>, SecretError> {
    let system = |source| SecretError::System { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(system)?;
    let mode = file.metadata().map_err(system)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Readable { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.by_ref().take(FILE_MAX).read_to_string(&mut text).map_err(system)?;
    parse(&text).map_err(|(line, text)| SecretError::Line { path: path.to_owned(), line, text })
}

/// The secrets of a text, or the line that is none and why.
fn parse(text: &str) -> Result<Vec<CookieSecret>, (usize, &'static str)> {
    let mut found: Vec<[u8; 32]> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = at + 1;
        if line.len() != DIGITS {
            return Err((
                number,
                "a secret has 64 hexadecimal digits; `openssl rand -hex 32` makes one",
            ));
        }
        let mut octets = [0; 32];
        for (octet, digits) in octets.iter_mut().zip(line.as_bytes().chunks_exact(2)) {
            let digits = core::str::from_utf8(digits).unwrap_or_default();
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            *octet = u8::from_str_radix(digits, 16)
                .ok()
                .filter(|_| is_hex)
                .ok_or((number, "only the digits 0 to 9 and a to f may stand in a secret"))?;
        }
        if octets.iter().all(|octet| *octet == octets[0]) {
            return Err((number, "this is no random secret; `openssl rand -hex 32` makes one"));
        }
        if found.contains(&octets) {
            return Err((number, "this secret is there already; remove the line"));
        }
        if found.len() == SECRETS_MAX {
            return Err((number, "more than four secrets; remove those that no firewall uses"));
        }
        found.push(octets);
    }
    if found.is_empty() {
        return Err((1, "there is no secret; `openssl rand -hex 32` makes one"));
    }
    Ok(found.into_iter().map(CookieSecret::new).collect())
}

/// The file of one daemon.
#[derive(Clone, Debug)]
pub struct ClusterSecret {
    path: Option<PathBuf>,
    engine: Arc<Engine>,
    clock: Clock,
}

impl ClusterSecret {
    /// The file `path`; without one the engine keeps its random secret.
    #[must_use]
    pub fn new(path: Option<PathBuf>, engine: Arc<Engine>, clock: Clock) -> Self {
        Self { path, engine, clock }
    }

    /// Reads the file and puts its secrets in force; cookies of secrets that are gone are void.
    ///
    /// # Errors
    /// [`SecretError`]; the secrets of before stay in force.
    pub fn load(&self) -> Result<(), SecretError> {
        let Some(path) = &self.path else { return Ok(()) };
        let secrets = read(path)?;
        self.engine.share_cookies(&secrets, self.clock.now());
        log::detail(&format!("{}: {} secrets", path.display(), secrets.len()));
        Ok(())
    }

    /// Reads the file again; tells the log when that fails.
    pub fn reload(&self) {
        if let Err(error) = self.load() {
            log::error(&error.to_string());
            log::error("the secrets of before stay in force");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    const ONE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const TWO: &str = "FFEEDDCCBBAA99887766554433221100ffeeddccbbaa99887766554433221100";

    #[test]
    fn secrets_are_read_line_by_line() {
        let text = format!("# first makes\n{ONE}\n\n  {TWO}  \n");
        assert_eq!(parse(&text).unwrap().len(), 2);
    }

    #[test]
    fn mistakes_name_their_line_and_no_secret() {
        for (text, line, words) in [
            (String::new(), 1, "no secret"),
            ("# nothing".to_owned(), 1, "no secret"),
            (format!("{ONE}\n{}", &TWO[1..]), 2, "64 hexadecimal digits"),
            (format!("\n{}+f", &ONE[..62]), 2, "only the digits"),
            (format!("{ONE}\n{ONE}"), 2, "there already"),
            ("00".repeat(32), 1, "no random secret"),
        ] {
            let (at, message) = parse(&text).unwrap_err();
            assert_eq!(at, line, "{message}");
            assert!(message.contains(words), "{message}");
            assert!(!message.contains(&ONE[..8]));
        }
        let many: Vec<String> = (0..5).map(|n| format!("{}{n:02x}", &ONE[2..])).collect();
        assert_eq!(parse(&many.join("\n")).unwrap_err().0, 5);
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("pfd-secret-{}", std::process::id()));
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            let _ = std::fs::remove_file(&path);
            let mut file =
                File::options().write(true).create_new(true).mode(mode).open(&path).unwrap();
            io::Write::write_all(&mut file, ONE.as_bytes()).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            match read(&path) {
                Ok(secrets) => assert!(accepted && secrets.len() == 1),
                Err(error) => {
                    assert!(!accepted, "{error}");
                    assert!(error.to_string().contains("chmod 0600"), "{error}");
                }
            }
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(SecretError::System { .. })));
    }
}
