//! Calls of pfctl in this process.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pfctl::{Console, Exit};

use crate::case::{Call, Outcome, Wanted};
use crate::diff::diff;
use crate::env::EnvFolder;

/// A socket where nobody listens: no daemon takes part.
const NOWHERE: &str = "/nonexistent/pfd.sock";

/// What pfctl wrote.
struct Output {
    exit: Exit,
    out: String,
    err: String,
}

/// Runs a call and compares.
///
/// # Errors
/// Reference data that cannot be read.
pub(crate) fn call(call: &Call) -> Result<Outcome, String> {
    let input = call.input.as_deref().map(read).transpose()?.unwrap_or_default();
    let env =
        call.env.ready().map_err(|error| format!("{}: {error}", call.env.folder.display()))?;
    std::env::set_current_dir(&call.folder)
        .map_err(|error| format!("{}: {error}", call.folder.display()))?;
    let Some(output) = pfctl(&call.args, env.path(), &input) else {
        return Ok(Outcome::Failed("pfctl panicked\n".to_owned()));
    };
    compare(&output, &call.wanted)
}

fn compare(output: &Output, wanted: &Wanted) -> Result<Outcome, String> {
    let failed = output.exit != Exit::Success;
    let both = || format!("{}{}", output.err, output.out);
    let (differs, text) = match wanted {
        Wanted::Output(file) => {
            let wanted = read(file)?;
            let text = diff(&wanted, &output.out);
            (failed || wanted != output.out, format!("{}{text}", output.err))
        }
        Wanted::Rules(file) => {
            let (wanted, got) = (rules(&read(file)?), rules(&output.out));
            (failed || wanted != got, format!("{}{}", output.err, diff(&wanted, &got)))
        }
        Wanted::Both(file) | Wanted::Failure(file) => {
            let (wanted_text, got) = (read(file)?, both());
            let kept = matches!(wanted, Wanted::Both(_)) || failed;
            let text = diff(&wanted_text, &got);
            (wanted_text != got || !kept, text)
        }
        Wanted::Message(text) => {
            let found = output.err.contains(text.as_str());
            (!failed || !found, format!("wanted a message with: {text}\n{}", both()))
        }
        Wanted::Success => (failed, both()),
    };
    Ok(if differs { Outcome::Failed(text) } else { Outcome::Passed })
}

/// The numbered rules of a listing, and the braces around them. Left out are counters and how many
/// addresses tables and interfaces have, which depend on a load.
fn rules(listing: &str) -> String {
    let lines = listing.lines().map(str::trim_start);
    let lines = lines.filter(|line| line.starts_with(['@', '}']));
    lines.flat_map(|line| [without_counts(line), "\n".to_owned()]).collect()
}

/// Without `:N` and `:*` in front of closing brackets.
fn without_counts(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for piece in line.split_inclusive(['>', ')']) {
        let end = piece.trim_end_matches(['>', ')']);
        let head = end.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '*');
        text.push_str(head.strip_suffix(':').filter(|_| head != end).unwrap_or(end));
        text.push_str(&piece[end.len()..]);
    }
    text
}

/// Compares what words stand for: `WORD: ADDRESS...` lines in the order of addresses.
///
/// The lines of the reference that begin with a bracket are about `(WORD)`, which only a firewall
/// in operation resolves; they must equal the others, so there is nothing else to compare.
///
/// # Errors
/// Reference data that cannot be read.
pub(crate) fn words(env: &EnvFolder, words: &Path, wanted: &Path) -> Result<Outcome, String> {
    let env = env.ready().map_err(|error| format!("{}: {error}", env.folder.display()))?;
    let wanted: String = read(wanted)?
        .lines()
        .filter(|line| !line.starts_with('('))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let mut got = String::new();
    let args = ["-o", "none", "-nvf", "-"].map(str::to_owned);
    for word in read(words)?.lines().filter(|word| !word.is_empty()) {
        let Some(output) = pfctl(&args, env.path(), &format!("pass in from {word}\n")) else {
            return Ok(Outcome::Failed(format!("pfctl panicked at {word}\n")));
        };
        let mut addresses: Vec<&str> = output.out.lines().filter_map(source).collect();
        addresses.sort_by_key(|text| {
            let (addr, len) = text.split_once('/').unwrap_or((text, ""));
            (addr.parse::<IpAddr>().ok(), len.parse::<u8>().ok())
        });
        addresses.dedup();
        let addresses = addresses.iter().flat_map(|address| [" ", address]);
        got.extend([word, ":"].into_iter().chain(addresses).chain(["\n"]));
    }
    Ok(if got == wanted { Outcome::Passed } else { Outcome::Failed(diff(&wanted, &got)) })
}

/// The address behind `from` in a rule.
fn source(rule: &str) -> Option<&str> {
    rule.split_once(" from ")?.1.split(' ').next()
}

/// Runs pfctl; `None` when it panicked.
fn pfctl(args: &[String], env: &Path, input: &str) -> Option<Output> {
    let own = ["-p", NOWHERE, "--env"].map(OsString::from);
    let own = own.into_iter().chain([env.as_os_str().to_owned()]);
    let args: Vec<OsString> = own.chain(args.iter().map(OsString::from)).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut input = input.as_bytes();
    let exit = catch_unwind(AssertUnwindSafe(|| {
        let mut console =
            Console { input: &mut input, out: &mut out, err: &mut err, err_is_terminal: false };
        pfctl::run(&args, &mut console)
    }));
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    exit.ok().map(|exit| Output { exit, out: text(out), err: text(err) })
}

fn read(path: &Path) -> Result<String, String> {
    let octets = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn outcome(wanted: impl Fn(&Path) -> Wanted, args: &[&str], rules: &str) -> Outcome {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("rules"), rules).unwrap();
        fs::write(at("ok"), "block drop all\n").unwrap();
        fs::write(at("err"), "stdin:1: syntax error\n").unwrap();
        let call = Call {
            folder: folder.path().to_owned(),
            env: EnvFolder::new(folder.path().to_owned()),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            input: Some(at("rules")),
            wanted: wanted(folder.path()),
        };
        super::call(&call).unwrap()
    }

    #[test]
    fn calls_are_compared_as_the_suite_wants_it() {
        const ARGS: &[&str] = &["-nvf", "-"];
        let output = |folder: &Path| Wanted::Output(folder.join("ok"));
        let failure = |folder: &Path| Wanted::Failure(folder.join("err"));
        let both = |folder: &Path| Wanted::Both(folder.join("ok"));
        assert_eq!(outcome(output, ARGS, "block\n"), Outcome::Passed);
        assert_eq!(outcome(both, ARGS, "block\n"), Outcome::Passed);
        let Outcome::Failed(text) = outcome(output, ARGS, "pass no state\n") else { panic!() };
        assert_eq!(text, "-block drop all\n+pass all no state\n");
        assert_eq!(outcome(failure, ARGS, "blck\n"), Outcome::Passed);
        assert!(matches!(outcome(failure, ARGS, "block\n"), Outcome::Failed(_)));
        let message = |_: &Path| Wanted::Message("syntax error".to_owned());
        assert_eq!(outcome(message, ARGS, "blck\n"), Outcome::Passed);
        assert!(matches!(outcome(message, ARGS, "block\n"), Outcome::Failed(_)));
        assert_eq!(outcome(|_| Wanted::Success, ARGS, "block\n"), Outcome::Passed);
        assert!(matches!(outcome(|_| Wanted::Success, ARGS, "blck\n"), Outcome::Failed(_)));
    }

    #[test]
    fn sources_are_found_in_rules() {
        assert_eq!(source("pass in inet from 127.0.0.1 to any"), Some("127.0.0.1"));
        assert_eq!(source("pass in all"), None);
    }
}
