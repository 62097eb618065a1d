//! Compiling the ruleset: `pfctl` runs as a child without rights and says what to load.
//!
//! The child gets the file as standard input and writes one load request per line, as it would
//! send them to the control socket. Whatever it says is checked like what comes from there, and
//! its output and its time are bounded.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pfapi::check::CheckedRuleset;
use pfapi::control::{FRAME_MAX, Request};
use pfapi::facts::Facts;

use crate::control::DraftBuilder;
use crate::log;

/// Time for the child: far more than the largest ruleset takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// Octets of messages that are kept.
const MESSAGES_MAX: u64 = 64 * 1024;

/// How to run the compiler.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The `pfctl` to run.
    pub program: PathBuf,
    /// User and group of the child; `None` keeps the daemon's.
    pub identity: Option<(u32, u32)>,
    /// Time for the child.
    pub patience: Duration,
}

/// Why there is no ruleset.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Ruleset {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no `pfctl`.
    #[error(
        "pfctl is neither beside this program nor in PATH; install it: it compiles the ruleset"
    )]
    NoProgram,
    /// `pfctl` cannot be run.
    #[error("{}: {source}; it must be executable by everybody", path.display())]
    Program {
        /// Which program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ruleset has mistakes.
    #[error("{0}")]
    Refused(String),
    /// The compiler said something that is no load.
    #[error("pfctl --compile: {0}")]
    Output(String),
    /// The compiler did not end.
    #[error("pfctl --compile took longer than {} s and was stopped", .0.as_secs())]
    Timeout(Duration),
}

impl Compiler {
    /// The `pfctl` in this program's own folder, else in PATH.
    ///
    /// # Errors
    /// [`CompileError::NoProgram`].
    pub fn find(identity: Option<(u32, u32)>) -> Result<Self, CompileError> {
        let own = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("pfctl")));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = own
            .into_iter()
            .chain(std::env::split_paths(&path).map(|folder| folder.join("pfctl")))
            .find(|candidate| candidate.is_file())
            .ok_or(CompileError::NoProgram)?;
        Ok(Self { program, identity, patience: PATIENCE })
    }

    /// Compiles a file for a router with these interfaces.
    ///
    /// # Errors
    /// [`CompileError`]; what the compiler says about mistakes is in it.
    pub fn compile(&self, ruleset: &Path, facts: &Facts) -> Result<CheckedRuleset, CompileError> {
        let deadline = Instant::now() + self.patience;
        let facts = serde_json::to_string(facts)
            .map_err(|error| CompileError::Output(error.to_string()))?;
        let arguments =
            ["--compile".into(), ruleset.as_os_str().to_owned(), "--facts".into(), facts.into()];
        let mut child = self.spawn(ruleset, &arguments)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let drafts = on_thread(move || stdout.map_or(Ok(DraftBuilder::default()), read_draft));
        let messages = on_thread(move || stderr.map_or_else(String::new, read_messages));
        let outcome = self.wait(&mut child, deadline, &drafts);
        if outcome.is_err() {
            // It may be waiting for a reader that has given up.
            let _ = child.kill();
        }
        let status = child.wait();
        let messages = messages.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let status = status.map_err(|error| CompileError::Output(error.to_string()))?;
        let draft = match outcome {
            Ok(draft) if status.success() => draft,
            Err(timeout @ CompileError::Timeout(_)) => return Err(timeout),
            Ok(_) | Err(_) if !status.success() && !messages.trim().is_empty() => {
                return Err(CompileError::Refused(messages.trim_end().to_owned()));
            }
            Ok(_) => return Err(CompileError::Output(format!("{status}"))),
            Err(error) => return Err(error),
        };
        log::info(messages.trim_end());
        draft.check().map_err(|failure| CompileError::Output(failure.message))
    }

    fn wait(
        &self,
        child: &mut Child,
        deadline: Instant,
        drafts: &mpsc::Receiver<Result<DraftBuilder, String>>,
    ) -> Result<DraftBuilder, CompileError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let draft = drafts
            .recv_timeout(left)
            .map_err(|_| CompileError::Timeout(self.patience))?
            .map_err(CompileError::Output)?;
        // Its output has ended; it has the rest of its time to end, too.
        while let Ok(None) = child.try_wait() {
            if Instant::now() >= deadline {
                return Err(CompileError::Timeout(self.patience));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(draft)
    }

    fn spawn(&self, ruleset: &Path, arguments: &[OsString]) -> Result<Child, CompileError> {
        let start = |program: &Path| {
            let stdin = open_ruleset(ruleset)?;
            let mut command = Command::new(program);
            command
                .arg0("pfctl")
                .args(arguments)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::from(stdin))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            if let Some((uid, gid)) = self.identity {
                command.uid(uid).gid(gid);
            }
            command.spawn().map_err(|source| self.cannot_run(source))
        };
        match start(&self.program) {
            // The child's user cannot walk the way to the program. An open descriptor needs no way.
            Err(CompileError::Program { source, .. })
                if source.kind() == ErrorKind::PermissionDenied && self.identity.is_some() =>
            {
                let program = OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_PATH)
                    .open(&self.program)
                    .map_err(|source| self.cannot_run(source))?;
                start(Path::new(&format!("/proc/self/fd/{}", program.as_raw_fd())))
            }
            outcome => outcome,
        }
    }

    fn cannot_run(&self, source: io::Error) -> CompileError {
        CompileError::Program { path: self.program.clone(), source }
    }
}

/// Opens the ruleset; a pipe would keep the daemon waiting for its writer.
fn open_ruleset(path: &Path) -> Result<File, CompileError> {
    let wrap = |source| CompileError::Ruleset { path: path.to_owned(), source };
    let kind = fs::metadata(path).map_err(wrap)?.file_type();
    if !kind.is_file() && !kind.is_char_device() {
        return Err(wrap(io::Error::new(ErrorKind::InvalidInput, "is no file")));
    }
    File::open(path).map_err(wrap)
}

/// Runs `work` on a thread of its own; it ends with its pipe at the latest.
fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody waits any more: the child took too long.
        let _ = sender.send(work());
    });
    receiver
}

fn read_messages(stderr: impl Read) -> String {
    let mut octets = Vec::new();
    // What was read before an error is still worth telling.
    let _ = stderr.take(MESSAGES_MAX).read_to_end(&mut octets);
    String::from_utf8_lossy(&octets).into_owned()
}

/// Reads load requests until the end.
fn read_draft(stdout: impl Read) -> Result<DraftBuilder, String> {
    let mut reader = BufReader::new(stdout);
    let mut draft = DraftBuilder::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(FRAME_MAX).unwrap_or(u64::MAX);
        let len = reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
        if len == 0 {
            return Ok(draft);
        }
        if line.pop() != Some(b'\n') {
            return Err(if len >= FRAME_MAX {
                format!("a line exceeds {FRAME_MAX} octets")
            } else {
                "the last line is cut off".to_owned()
            });
        }
        draft.grow(len).map_err(|failure| failure.message)?;
        match serde_json::from_slice(&line).map_err(|error| error.to_string())? {
            Request::Begin { anchor, dialect, .. } if anchor.is_empty() => {
                draft.set_dialect(dialect);
            }
            Request::AddOptions { ticket: 0, options, given: None } => draft.set_options(*options),
            Request::AddTables { ticket: 0, anchor, tables } => draft.add_tables(&anchor, tables),
            Request::AddFingerprints { ticket: 0, fingerprints } => {
                draft.add_fingerprints(fingerprints).map_err(|failure| failure.message)?;
            }
            Request::AddRules { ticket: 0, anchor, rules } => {
                draft.add_rules(&anchor, rules).map_err(|failure| failure.message)?;
            }
            Request::AddQueues { ticket: 0, queues, altq } => draft.add_queues(queues, altq),
            Request::AddLimiters { ticket: 0, states, sources } => {
                draft.add_limiters(states, sources).map_err(|failure| failure.message)?;
            }
            _ => return Err("a line is no part of a load".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const RULE: &str = r#"{"request":"add-rules","ticket":0,"rules":[{"action":"pass","direction":null,"quick":false,"interface":null,"af":null,"proto":null,"from":{"negated":false,"addr":"any","port":null},"to":{"negated":false,"addr":"any","port":null},"flags":null,"icmp":null,"state":"keep","label":null}]}"#;

    /// A folder with a ruleset and a `pfctl` that is this script.
    fn compile(name: &str, script: &str) -> Result<CheckedRuleset, CompileError> {
        let folder =
            std::env::temp_dir().join(format!("pfd-compile-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("pfctl");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let ruleset = folder.join("pf.conf");
        fs::write(&ruleset, "pass\n").unwrap();
        let compiler = Compiler { program, identity: None, patience: Duration::from_secs(2) };
        let result = loop {
            match compiler.compile(&ruleset, &Facts::default()) {
                // Another test forked while the script was open for writing.
                Err(CompileError::Program { source, .. })
                    if source.kind() == ErrorKind::ExecutableFileBusy => {}
                result => break result,
            }
        };
        fs::remove_dir_all(folder).unwrap();
        result
    }

    #[test]
    fn output_becomes_a_ruleset() {
        let script = format!("read -r rules; [ \"$rules\" = pass ] && echo '{RULE}'");
        assert_eq!(compile("good", &script).unwrap().rules().len(), 1);
    }

    #[test]
    fn messages_of_a_failure_are_kept() {
        let error = compile("bad", "echo 'pf.conf:1: syntax error' >&2; exit 1").unwrap_err();
        assert_eq!(error.to_string(), "pf.conf:1: syntax error");
    }

    #[test]
    fn failure_without_words_is_named() {
        let error = compile("mute", "exit 3").unwrap_err();
        assert_eq!(error.to_string(), "pfctl --compile: exit status: 3");
    }

    #[test]
    fn anything_but_a_load_is_refused() {
        for (name, script) in [
            ("words", "echo hello"),
            ("ticket", r#"echo '{"request":"add-rules","ticket":7,"rules":[]}'"#),
            ("enable", r#"echo '{"request":"disable"}'"#),
            ("cut", r#"printf '{"request":"add-ru'"#),
            ("endless", "while :; do printf 0123456789abcdef0123456789abcdef; done"),
        ] {
            assert!(matches!(compile(name, script), Err(CompileError::Output(_))), "{name}");
        }
    }

    #[test]
    fn child_that_hangs_is_stopped() {
        let error = compile("hang", "exec sleep 60").unwrap_err();
        assert!(matches!(error, CompileError::Timeout(_)), "{error}");
        let error = compile("deaf", "exec sleep 60 >&-").unwrap_err();
        assert!(matches!(error, CompileError::Timeout(_)), "{error}");
    }

    #[test]
    fn missing_ruleset_is_named() {
        let compiler = Compiler { program: "/bin/true".into(), identity: None, patience: PATIENCE };
        let error = compiler.compile(Path::new("/nonexistent/pf.conf"), &Facts::default());
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("/nonexistent/pf.conf: No such file"), "{text}");
        let error = compiler.compile(Path::new("/"), &Facts::default()).unwrap_err();
        assert_eq!(error.to_string(), "/: is no file");
    }
}
