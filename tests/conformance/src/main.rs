//! `make conformance`: runs the cases, prints how many pass per suite, and names those that fail.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use pf_conformance::{Case, Known, Outcome, cases, corpus};

/// Width of the lines of case names.
const WIDTH: usize = 100;

/// Compares pfctl with the reference data beside the repository, case by case.
#[derive(Parser)]
#[command(name = "pf-conformance")]
struct Args {
    /// Show how the output of failing cases differs: - wanted, + there instead
    #[arg(short, long)]
    verbose: bool,
    /// Only suites with this in their name, such as openbsd/pf
    #[arg(long)]
    suite: Option<String>,
    /// Only cases of this name
    #[arg(long)]
    case: Option<String>,
    /// Write the list of cases that pass to expected.txt
    #[arg(long, conflicts_with_all = ["suite", "case"])]
    update: bool,
}

/// What became of the cases of a suite.
#[derive(Default)]
struct Count<'a> {
    passed: usize,
    total: usize,
    failed: Vec<&'a str>,
    skipped: Vec<(&'a str, &'static str)>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(text) => {
            eprintln!("pf-conformance: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<ExitCode, String> {
    let folder = match corpus() {
        Ok(folder) => folder,
        Err(reason) => {
            eprintln!("skipped: conformance: {reason}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let known = Known::read()?;
    let all = cases(&folder)?;
    let chosen: Vec<&Case> = all.iter().filter(|case| is_chosen(case, args)).collect();
    let mut out = io::stdout().lock();
    let mut counts: BTreeMap<&str, Count<'_>> = BTreeMap::new();
    let mut order = Vec::new();
    let mut passed = Vec::new();
    let (mut regressions, mut news) = (Vec::new(), 0);
    for case in chosen {
        let count = counts.entry(case.suite).or_insert_with(|| {
            order.push(case.suite);
            Count::default()
        });
        count.total += 1;
        match case.run()? {
            Outcome::Passed => {
                count.passed += 1;
                news += usize::from(!known.has(case));
                passed.push(case);
            }
            Outcome::Failed(text) => {
                count.failed.push(&case.name);
                if known.has(case) {
                    regressions.push(format!("{} {}", case.suite, case.name));
                }
                if args.verbose {
                    write(&mut out, &format!("== {} {}\n{text}\n", case.suite, case.name))?;
                }
            }
            Outcome::Skipped(reason) => {
                count.total -= 1;
                count.skipped.push((&case.name, reason));
            }
        }
    }
    for suite in order {
        write(&mut out, &shown(suite, &counts[suite]))?;
    }
    let (passed_count, total) =
        counts.values().fold((0, 0), |sum, count| (sum.0 + count.passed, sum.1 + count.total));
    write(&mut out, &format!("total {passed_count}/{total}\n"))?;
    if args.update {
        Known::of(passed).write().map_err(|error| format!("expected.txt: {error}"))?;
    } else {
        for case in &regressions {
            write(&mut out, &format!("regression: {case}\n"))?;
        }
        if news > 0 {
            write(&mut out, &format!("{news} more pass than expected.txt lists; see --update\n"))?;
        }
    }
    Ok(if regressions.is_empty() || args.update { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_chosen(case: &Case, args: &Args) -> bool {
    args.suite.as_ref().is_none_or(|suite| case.suite.contains(suite.as_str()))
        && args.case.as_ref().is_none_or(|name| case.name == *name)
}

/// One line with the count, then the names of what fails.
fn shown(suite: &str, count: &Count<'_>) -> String {
    let mut text = format!("{suite:<22} {:>3}/{:<3}\n", count.passed, count.total);
    let mut line = String::new();
    for name in &count.failed {
        if line.len() + name.len() > WIDTH {
            text.extend(["   ", &line, "\n"]);
            line.clear();
        }
        line.extend([" ", name]);
    }
    if !line.is_empty() {
        text.extend(["   ", &line, "\n"]);
    }
    for (name, reason) in &count.skipped {
        text.extend(["    skipped: ", name, ": ", reason, "\n"]);
    }
    text
}

/// A reader that went away ends the run like any other failure of standard output.
fn write(out: &mut dyn Write, text: &str) -> Result<(), String> {
    out.write_all(text.as_bytes()).map_err(|error| format!("stdout: {error}"))
}
