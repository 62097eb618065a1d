//! Other programs: finding, running, ending them.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Finds a program: of this workspace in `$PF_BIN_DIR` or beside this one, others on PATH and in
/// the folders of the administrator.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let own = std::env::var_os("PF_BIN_DIR").map(PathBuf::from).into_iter().chain(
        std::env::current_exe().ok().into_iter().flat_map(|path| {
            // target/PROFILE/name, or target/PROFILE/deps/test-…
            path.ancestors().skip(1).take(2).map(Path::to_owned).collect::<Vec<_>>()
        }),
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .collect::<Vec<_>>();
    own.chain(system).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// A command in a network namespace.
#[must_use]
pub fn nsenter(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", crate::netns::path(namespace).display()))
        .arg("--")
        .arg(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a program to its end, at most for `limit`, and collects what it prints.
///
/// # Errors
///
/// When it cannot be started or takes too long; then it is killed.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output, String> {
    let name = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name}: {error}"))?;
    let pid = child.id();
    let (done, waits) = std::sync::mpsc::channel();
    let watch = thread::spawn(move || {
        if waits.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            signal(pid, Signal::KILL);
            return true;
        }
        false
    });
    // Reading on two threads: a program that fills one pipe must not wait for the other.
    let stderr = child.stderr.take();
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = io::Read::read_to_end(&mut stderr, &mut text);
        }
        text
    });
    let output = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
    let _ = done.send(());
    if watch.join().unwrap_or(false) {
        return Err(format!("{name}: not done after {} s", limit.as_secs()));
    }
    let stderr = errors.join().unwrap_or_default();
    Ok(Output { stderr, ..output })
}

/// Runs a program that must succeed within half a minute; returns its standard output.
///
/// # Errors
///
/// With what it printed on standard error.
pub fn checked<I: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = I>,
) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = run(&mut command, Duration::from_secs(30))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// A program in the background, with its output in a file; ended when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// When it cannot be started or its log cannot be made.
    pub fn start(mut command: Command, log: &Path) -> Result<Self, String> {
        let file = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let twin = file.try_clone().map_err(|error| error.to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(twin)
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal.
    pub fn signal(&self, number: Signal) {
        signal(self.child.id(), number);
    }

    /// Waits for its end, at most for `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if start.elapsed() >= limit {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it: SIGTERM, and after three seconds SIGKILL. Returns how it ended by itself.
    pub fn end(&mut self) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        self.signal(Signal::TERM);
        let status = self.wait(Duration::from_secs(3));
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        status
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}
