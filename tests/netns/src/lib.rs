//! What the end-to-end tests share: the way into a sandbox, skipping, talking from a namespace.
//!
//! A test calls [`in_lab`] with its own path. Outside of a sandbox that runs the same test again
//! inside one; inside it runs the body. So every test has a process tree, mounts and networks of
//! its own, in parallel with others, and leaves nothing behind, however it ends.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use pf_load::lab::{Place, program, run, sandbox};
use pf_load::netns;

/// Longest run of one test.
const LIMIT: Duration = Duration::from_secs(170);

/// The path by which libtest knows the test that calls this.
#[macro_export]
macro_rules! test_path {
    () => {{
        fn here() {}
        let name = ::core::any::type_name_of_val(&here);
        let name = name.strip_suffix("::here").unwrap_or(name);
        name.split_once("::").map_or(name, |(_, path)| path)
    }};
}

/// Runs `body` in a sandbox where `pfd`, `pfctl` and `tools` are installed, or skips the test and
/// says why in one line.
///
/// # Panics
///
/// When the body does: the test has failed.
pub fn in_lab(test: &str, tools: &[&str], body: impl FnOnce()) {
    if sandbox::is_inside() {
        sandbox::settle().unwrap_or_else(|error| panic!("sandbox: {error}"));
        return body();
    }
    if let Some(obstacle) = sandbox::obstacle().or_else(|| missing(tools)) {
        return skip(test, &obstacle);
    }
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"];
    let (status, output) = sandbox::rerun_quietly(arguments, LIMIT)
        .unwrap_or_else(|error| panic!("cannot start the sandbox: {error}"));
    if let Some(reason) = output.lines().find_map(|line| line.strip_prefix(CANNOT_SHOW)) {
        return skip(test, reason);
    }
    // Marked, so that nobody takes the inner counts for those of the whole run.
    let output = output.replace('\n', "\n| ");
    assert!(status.success(), "{test} failed in its sandbox: {status}\n{output}");
    assert!(output.contains("1 passed"), "{test} is not the path of one test:\n{output}");
}

/// Begins the line with which a test says inside its sandbox why this machine cannot show what it asks
/// for: the test counts as skipped.
const CANNOT_SHOW: &str = "cannot be shown here: ";

/// Per cent of the processors' time that others may take from a machine that is to be measured.
const TAKEN_MAX: u64 = 3;

/// How much of the time of this machine's processors goes to other machines of its host.
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    taken: u64,
    all: u64,
}

impl Processors {
    /// Watches from now on.
    #[must_use]
    pub fn watch() -> Self {
        // Source: proc(5), /proc/stat: the eighth figure of the first line is "steal".
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        Self { taken: ticks.get(7).copied().unwrap_or(0), all: ticks.iter().sum() }
    }

    fn percent_taken(self) -> u64 {
        let now = Self::watch();
        (now.taken - self.taken) * 100 / (now.all - self.all).max(1)
    }

    /// Whether next to nothing was taken since.
    #[must_use]
    pub fn are_own(self) -> bool {
        self.percent_taken() <= TAKEN_MAX
    }

    /// Ends the test as skipped: what was measured since says nothing.
    ///
    /// # Panics
    /// Always; [`in_lab`] knows the message.
    pub fn give_up(self) -> ! {
        let percent = self.percent_taken();
        panic!("{CANNOT_SHOW}{percent} % of the processors' time went to other machines");
    }
}

fn missing(tools: &[&str]) -> Option<String> {
    let name = ["pfd", "pfctl"].iter().chain(tools).find(|name| program(name).is_none())?;
    Some(format!("{name} is not there"))
}

fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("PF_SKIP_LOG") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// Runs a function on a thread that has moved into the namespace of a place.
///
/// # Panics
///
/// When the function does, or there is no such namespace.
pub fn at<T: Send>(place: Place, action: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            netns::enter(place.namespace).expect("the lab has made the namespace");
            action()
        });
        there.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Tries to connect from a place; returns the outcome and how long it took.
///
/// # Panics
///
/// When `to` is no address with a port.
pub fn connect(
    from: Place,
    to: &str,
    patience: Duration,
) -> (std::io::Result<TcpStream>, Duration) {
    let to: SocketAddr = to.parse().unwrap_or_else(|error| panic!("{to}: {error}"));
    at(from, || {
        let start = Instant::now();
        (TcpStream::connect_timeout(&to, patience), start.elapsed())
    })
}

/// Runs a command that must succeed; returns its standard output.
///
/// # Panics
///
/// With its output when it fails or takes longer than `seconds`.
#[must_use]
pub fn output_of(command: &mut Command, seconds: u64) -> String {
    let Output { status, stdout, stderr } = finished(command, seconds);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// Runs a command to its end, whatever that is.
///
/// # Panics
///
/// When it cannot be started or takes longer than `seconds`.
#[must_use]
pub fn finished(command: &mut Command, seconds: u64) -> Output {
    run(command, Duration::from_secs(seconds)).unwrap_or_else(|error| panic!("{error}"))
}

/// Asks until the answer is yes, at most for `limit`; returns how long it took.
///
/// # Panics
///
/// When it never is.
pub fn wait_until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    loop {
        if is_so() {
            return start.elapsed();
        }
        assert!(start.elapsed() < limit, "{what}: not so after {} s", limit.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}
