//! Runs this same program again inside namespaces of its own.
//!
//! The inner program is the first process of a process namespace, so whatever it starts cannot
//! outlive it. It watches a pipe that only the outer program holds: when the outer one is gone,
//! even by SIGKILL, the pipe ends, the inner one exits, and the kernel removes the rest.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::process::{checked, program};

/// Set for the inner program.
const MARK: &str = "PF_LAB_INSIDE";
/// How long the inner program may take to end by itself when it is told to.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the inner program gives itself; less than [`FAREWELL`], so that it ends itself.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// Why no sandbox can be made here; `None` when it can.
#[must_use]
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".to_owned());
    }
    for name in ["unshare", "nsenter", "mount", "ip"] {
        if program(name).is_none() {
            return Some(format!("{name} is not installed"));
        }
    }
    let probe = Command::new("unshare")
        .args(["--pid", "--fork", "--mount", "--net", "true"])
        .stderr(Stdio::null())
        .status();
    match probe {
        Ok(status) if status.success() => None,
        _ => Some("namespaces are not permitted".to_owned()),
    }
}

/// Whether this is the inner program.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(MARK).is_some() && std::process::id() == 1
}

/// Runs this program again, inside, with the given arguments, and waits for its end. SIGINT,
/// SIGTERM and SIGHUP end the inner program, first gently.
///
/// # Errors
///
/// When it cannot be started.
pub fn rerun<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> io::Result<ExitStatus> {
    wait(&mut inner(arguments)?, None)
}

/// The outer half of a program that measures: runs the program again inside with its own
/// arguments, and gives its exit code. 2 when the sandbox or one of `tools` is not there, which is
/// said on standard error under the program's `name`.
#[must_use]
pub fn enter(name: &str, tools: &[&str]) -> ExitCode {
    let missing = tools.iter().find(|tool| program(tool).is_none());
    let obstacle = obstacle().or_else(|| missing.map(|tool| format!("{tool} is not there")));
    if let Some(obstacle) = obstacle {
        eprintln!("{name}: cannot run here: {obstacle}");
        return ExitCode::from(2);
    }
    match rerun(std::env::args_os().skip(1)) {
        Ok(status) => exit_code(status),
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// As [`rerun`], for at most `limit`; returns what the inner program printed, on either stream.
///
/// # Errors
///
/// When it cannot be started.
pub fn rerun_quietly<I: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = I>,
    limit: Duration,
) -> io::Result<(ExitStatus, String)> {
    let mut output: fs::File = rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?.into();
    let mut command = inner(arguments)?;
    command.stdout(output.try_clone()?).stderr(output.try_clone()?);
    let status = wait(&mut command, Some(limit))?;
    let mut text = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut text)?;
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

fn inner<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> io::Result<Command> {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net", "--"])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .env(MARK, "1")
        .stdin(Stdio::piped());
    Ok(command)
}

fn wait(command: &mut Command, limit: Option<Duration>) -> io::Result<ExitStatus> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut child = command.spawn()?;
    // The inner program sees the end of its standard input when this is dropped.
    let mut lifeline = child.stdin.take();
    let start = Instant::now();
    let mut told_at = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let over = limit.is_some_and(|limit| start.elapsed() > limit);
        if (over || interrupted.load(Ordering::Relaxed)) && lifeline.take().is_some() {
            told_at = Some(Instant::now());
        }
        if told_at.is_some_and(|at| at.elapsed() > FAREWELL) {
            child.kill()?; // --kill-child passes this on.
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The status of the inner program as that of this one.
#[must_use]
pub fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Prepares the inner program: private `/run`, loopback up, watch on the outer program. Returns
/// a flag that is set when it is time to end; [`LAST_WORDS`] later the program is ended.
///
/// # Errors
///
/// When mounting or starting the loopback fails.
pub fn settle() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|e| e.to_string())?;
    }
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        let mut octet = [0];
        while matches!(io::stdin().read(&mut octet), Ok(1..)) {}
        told.store(true, Ordering::Relaxed);
        thread::sleep(LAST_WORDS);
        std::process::exit(130);
    });
    checked("mount", ["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])?;
    for folder in ["/run/netns", "/run/lab", "/run/lab/bin"] {
        fs::create_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
    }
    checked("ip", ["link", "set", "lo", "up"])?;
    Ok(stop)
}

/// Lets this program and what it starts run before everything else on the machine, for
/// measurements. Niceness alone does not, where the kernel groups processes by session
/// (sched(7), "The autogroup feature").
pub fn before_everybody_else() {
    if rustix::process::setsid().is_ok() {
        let _ = fs::write("/proc/self/autogroup", "-20");
    }
}
