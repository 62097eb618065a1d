//! The daemon's log: one line per event on standard error, where the service manager collects it.

use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// How much is told: 0 what went wrong and what changed, 1 details.
static VERBOSITY: AtomicU8 = AtomicU8::new(0);

/// Sets how much is told.
pub fn set_verbosity(level: u8) {
    VERBOSITY.store(level, Relaxed);
}

/// Something failed.
pub fn error(text: &str) {
    line("error: ", text);
}

/// Something is not as it should be, and the daemon goes on.
pub fn warn(text: &str) {
    line("warning: ", text);
}

/// Something changed.
pub fn info(text: &str) {
    line("", text);
}

/// A detail, told with `-v`.
pub fn detail(text: &str) {
    if VERBOSITY.load(Relaxed) > 0 {
        line("", text);
    }
}

/// Writes every line of `text` with the program's name.
fn line(level: &str, text: &str) {
    let mut out = String::new();
    for one in text.lines() {
        // Texts may come from files and children: control characters stay out of the log.
        let clean: String =
            one.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
        out.push_str("pfd: ");
        out.push_str(level);
        out.push_str(&clean);
        out.push('\n');
    }
    // Nobody can be told that nobody can be told.
    let _ = std::io::stderr().lock().write_all(out.as_bytes());
}
