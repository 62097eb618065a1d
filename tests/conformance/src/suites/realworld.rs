//! Rulesets of real users, with what the system that each is for prints.

use std::fs;
use std::path::{Path, PathBuf};

use super::{call, case, existing};
use crate::case::{Case, Wanted};
use crate::env::EnvFolder;

/// Where each file says what it is for.
const INDEX: &str = "expected.tsv";

/// Adds the suites: every file on its own system, and those that both systems accept on the other.
/// Once with the optimizer off and, where that was recorded, once with its default.
pub fn add(root: &Path, cases: &mut Vec<Case>) -> Result<(), String> {
    let path = root.join(INDEX);
    if !root.exists() {
        return Ok(());
    }
    let index =
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    for line in index.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [file, system, outcome, args, ..] = columns.as_slice() else {
            return Err(format!("{}: a line without its four first columns", path.display()));
        };
        let name = file.strip_suffix(".conf").unwrap_or(file);
        let (own, other, services) = match system.split_once('+').unwrap_or((system, "")) {
            ("openbsd", _) => ("openbsd", "freebsd", ""),
            ("freebsd", services) => ("freebsd", "openbsd", services),
            _ => return Err(format!("{}: unknown system {system}", path.display())),
        };
        let env = env(root, own, is_macos(name, services));
        let suite = if own == "openbsd" { "realworld/openbsd" } else { "realworld/freebsd" };
        let given = words(args);
        let args = [&flags(own)[..], &given, &["-nvf", file]].concat();
        // Some are rejected only because FreeBSD 12 wants a newline at the end of the file.
        let newline = existing(root.join(format!("alt/{name}.newline-{own}-none.ok")));
        let wanted = if let Some(newline) = newline {
            Wanted::Output(newline)
        } else if *outcome == "rejected" {
            Wanted::Failure(root.join(format!("{name}.err")))
        } else {
            Wanted::Output(unoptimized(root, name, own))
        };
        cases.push(case(suite, name, call(root, &env, &args, wanted)));
        let alternative = root.join(format!("alt/{name}.{other}-none.ok"));
        if let Some(alternative) = existing(alternative) {
            let suite = if other == "openbsd" { "realworld/openbsd" } else { "realworld/freebsd" };
            let args = [&flags(other)[..], &["-nvf", file]].concat();
            let call =
                call(root, &self::env(root, other, false), &args, Wanted::Output(alternative));
            cases.push(case(suite, name, call));
        }
        for system in ["openbsd", "freebsd"] {
            // FreeBSD's own results were recorded with its default.
            let is_own = system == own && own == "freebsd" && *outcome != "rejected";
            let wanted = existing(root.join(format!("alt/{name}.{system}-basic.ok")))
                .or_else(|| is_own.then(|| root.join(format!("{name}.ok"))));
            let Some(wanted) = wanted else { continue };
            let env = self::env(root, system, is_macos(name, services));
            let args = [&["--dialect", system][..], &given, &["-nvf", file]].concat();
            let call = call(root, &env, &args, Wanted::Output(wanted));
            cases.push(case(optimized(system), name, call));
        }
    }
    Ok(())
}

fn optimized(system: &str) -> &'static str {
    if system == "openbsd" { "realworld/openbsd-basic" } else { "realworld/freebsd-basic" }
}

fn flags(system: &'static str) -> [&'static str; 4] {
    ["--dialect", system, "-o", "none"]
}

fn words(args: &str) -> Vec<&str> {
    args.split_whitespace().collect()
}

/// The files of macOS are numbered from 042; they know further services.
fn is_macos(name: &str, services: &str) -> bool {
    let number = name.split('-').next().and_then(|number| number.parse::<u32>().ok());
    services == "macos" || number.is_some_and(|number| number >= 42)
}

fn env(root: &Path, system: &str, macos: bool) -> EnvFolder {
    let joined = (macos && system == "freebsd").then_some(("services.macos", "services.freebsd"));
    EnvFolder { joined, ..EnvFolder::new(root.join("env")) }
}

/// The output without the optimizer, where FreeBSD's default was recorded with it.
fn unoptimized(root: &Path, name: &str, system: &str) -> PathBuf {
    let alternative = existing(root.join(format!("alt/{name}.{system}-none.ok")));
    alternative.unwrap_or_else(|| root.join(format!("{name}.ok")))
}
