//! `--compile`: the daemon's own way to its ruleset at start, in an unprivileged child.
//!
//! Text comes in on standard input; the frames of a load with ticket 0 go out on standard
//! output, one JSON object per line, from begin on, without commit.

use pfapi::facts::Facts;
use pfconf::{Input, Listing, Optimization, Parts};

use crate::console::{Console, os_text};
use crate::error::Error;
use crate::exit::Exit;
use crate::flags::classic::ErrorForm;
use crate::load::{self, Setting, Style, Target};
use crate::sources::SystemSources;

/// Compiles standard input; messages name the ruleset `name`.
///
/// # Errors
/// Wrong facts, and failures of the standard streams. Mistakes in the rules are shown here and
/// give [`Exit::Failure`].
pub fn run(name: &str, facts: &str, console: &mut Console<'_>) -> Result<Exit, Error> {
    let facts: Facts =
        serde_json::from_str(facts).map_err(|error| Error::Plain(format!("--facts: {error}")))?;
    let mut octets = Vec::new();
    console
        .input
        .read_to_end(&mut octets)
        .map_err(|error| Error::Plain(format!("stdin: {}", os_text(&error))))?;
    let text = String::from_utf8_lossy(&octets);
    let (dialect, _) = pfconf::detect(&text);
    let setting = Setting {
        facts: &facts,
        sources: &SystemSources::new(true, dialect),
        defines: &[],
        numeric_only: false,
        dialect,
        listing: Listing::Short,
        optimize: Optimization { for_load: true, ..Optimization::default() },
        parts: Parts::ALL,
    };
    let input = Input { name, text: &text };
    let compiled = load::compile(&input, &setting);
    let style = Style { form: ErrorForm::Classic, color: false };
    for mistake in &compiled.fingerprint_mistakes {
        console.note(crate::console::printable(mistake));
    }
    load::show(&compiled, &input, style, console);
    let Some(ruleset) = compiled.ruleset else { return Ok(Exit::Failure) };
    load::refuse_unsupported(&ruleset)?;
    let begin = Target::default().begin(dialect);
    let frames = load::frames(ruleset.into_parts(), None, 0);
    for frame in std::iter::once(begin).chain(frames) {
        serde_json::to_writer(&mut *console.out, &frame).map_err(std::io::Error::from)?;
        writeln!(console.out)?;
    }
    console.out.flush()?;
    Ok(Exit::Success)
}
