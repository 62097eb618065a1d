//! How the suites are laid out and run.

mod freebsd;
mod openbsd;
mod realworld;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::case::{Call, Case, Task, Wanted};
use crate::env::EnvFolder;

/// All cases of the reference data, suite by suite.
///
/// # Errors
/// Reference data that cannot be read.
pub fn cases(corpus: &Path) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    openbsd::add(&corpus.join("openbsd"), &mut cases)?;
    freebsd::add(&corpus.join("freebsd"), &mut cases)?;
    realworld::add(&corpus.join("realworld"), &mut cases)?;
    Ok(cases)
}

/// Names without their extension of the files of a folder that have this one, by number where
/// they have one: `pf2` before `pf10`. A folder that is not there has none.
fn stems(folder: &Path, extension: &str) -> Result<Vec<String>, String> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort_by_cached_key(|name| {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        (digits.parse::<u64>().unwrap_or(0), name.clone())
    });
    Ok(names)
}

/// A call in a folder.
fn call(folder: &Path, env: &EnvFolder, args: &[&str], wanted: Wanted) -> Call {
    Call {
        folder: folder.to_owned(),
        env: env.clone(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        input: None,
        wanted,
    }
}

fn case(suite: &'static str, name: &str, call: Call) -> Case {
    Case { suite, name: name.to_owned(), task: Task::Call(Box::new(call)) }
}

/// Words of a file; none when there is no such file.
fn words(path: &Path) -> Result<Vec<String>, String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
        Ok(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
    }
}

/// The file, if there is one.
fn existing(path: PathBuf) -> Option<PathBuf> {
    path.exists().then_some(path)
}
