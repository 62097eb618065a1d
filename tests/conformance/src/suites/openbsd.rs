//! OpenBSD's regress/sbin/pfctl, and rulesets of its kernel tests.

use std::path::Path;

use super::{call, case, existing, stems, words};
use crate::case::{Call, Case, Task, Wanted};
use crate::env::EnvFolder;

/// Interface that the set-up of `pfsetup1` makes. It has link1, so its network is its own.
const PFSETUP: &str = "lo1000010 index 8 flags UP,LOOPBACK,RUNNING,MULTICAST,LINK1 groups lo \
                       mtu 32768 inet 192.168.0.1/24\n";
/// The case that loads rules and shows what is in force.
const NEEDS_DAEMON: &str = "pf112";

/// Listings that leave rules of anchors out, or have braces for empty ones.
const SHOWS_ANCHORS: &[(&str, &str)] =
    &[("pf92", "optimized"), ("pf100", "optimized"), ("pf100", "loaded")];

/// Macros that the kernel tests get from their makefiles, with values of the right kind.
const KERNEL_MACROS: &[(&str, &[&str])] = &[
    (
        "10.188.6.17",
        &[
            "AF_IN",
            "ECO_IN",
            "ECO_OUT",
            "PF_IN",
            "PF_OUT",
            "RDR_IN",
            "RDR_OUT",
            "RPT_IN",
            "RPT_OUT",
            "RTT_IN",
            "RTT_OUT",
            "RT_IN",
            "SRC_OUT",
            "DST_TUNNEL4_N1",
            "DST_TUNNEL4_N2",
        ],
    ),
    (
        "fdd7:e83e:66bc:6::17",
        &[
            "AF_IN6",
            "ECO_IN6",
            "ECO_OUT6",
            "PF_IN6",
            "PF_OUT6",
            "RDR_IN6",
            "RDR_OUT6",
            "RPT_IN6",
            "RPT_OUT6",
            "RTT_IN6",
            "RTT_OUT6",
            "RT_IN6",
            "SRC_OUT6",
            "DST_TUNNEL6_N1",
            "DST_TUNNEL6_N2",
        ],
    ),
    ("0", &["N1", "N2"]),
    ("lo1000000", &["LO", "IF_N1", "IF_N2"]),
    ("pflog0", &["PFLOG_N1", "PFLOG_N2", "PFLOG_N3"]),
];

/// Adds the suites.
pub fn add(root: &Path, cases: &mut Vec<Case>) -> Result<(), String> {
    let env = EnvFolder::new(root.join("env"));
    prints("openbsd/pf", &root.join("pf"), &env, cases)?;
    again("openbsd/selfpf", &root.join("pf"), &env, cases)?;
    loads("openbsd/loaded", &root.join("pf"), ("loaded", "none"), &env, cases)?;
    loads("openbsd/optimized", &root.join("pf"), ("optimized", "basic"), &env, cases)?;
    prints("openbsd/pfopt", &root.join("pfopt"), &env, cases)?;
    let with_setup = EnvFolder { interfaces: PFSETUP, ..env.clone() };
    prints("openbsd/pfsetup", &root.join("pfsetup"), &with_setup, cases)?;
    let folder = root.join("pfail");
    for name in stems(&folder, "in")? {
        let wanted = Wanted::Failure(folder.join(format!("{name}.ok")));
        let call = call(&folder, &env, &["-o", "none", "-nv", "-f", "-"], wanted);
        cases.push(case("openbsd/pfail", &name, with_input(call, &name)));
    }
    commands(&root.join("pfcmd"), &env, cases)?;
    let folder = root.join("pfsimple");
    for name in stems(&folder, "in")? {
        let call = call(&folder, &env, &["-o", "none", "-nf", "-"], Wanted::Success);
        cases.push(case("openbsd/pfsimple", &name, with_input(call, &name)));
    }
    let folder = root.join("pfi");
    for name in stems(&folder, "in")? {
        let task = Task::Words {
            env: env.clone(),
            words: folder.join(format!("{name}.in")),
            wanted: folder.join(format!("{name}.ok")),
        };
        cases.push(Case { suite: "openbsd/pfi", name, task });
    }
    for (suite, folder) in [("openbsd/etc", "etc"), ("openbsd/kernel", "kernel")] {
        parses(suite, &root.join(folder), "", &env, cases)?;
    }
    Ok(())
}

fn with_input(mut call: Call, name: &str) -> Call {
    call.input = Some(call.folder.join(format!("{name}.in")));
    call
}

/// Cases whose rules are printed; `.opts` has further arguments.
fn prints(
    suite: &'static str,
    folder: &Path,
    env: &EnvFolder,
    cases: &mut Vec<Case>,
) -> Result<(), String> {
    for name in stems(folder, "in")? {
        if name == NEEDS_DAEMON {
            cases.push(Case {
                suite,
                name,
                task: Task::Unable("it needs a firewall in operation"),
            });
            continue;
        }
        let wanted = existing(folder.join(format!("{name}.ok")));
        let wanted = wanted.map_or(Wanted::Success, Wanted::Output);
        let mut call = call(folder, env, &["-o", "none", "-nv", "-f", "-"], wanted);
        call.args.extend(words(&folder.join(format!("{name}.opts")))?);
        cases.push(case(suite, &name, with_input(call, &name)));
    }
    Ok(())
}

/// Rules as they are in force; only the rules are compared, as counters need a firewall.
fn loads(
    suite: &'static str,
    folder: &Path,
    (extension, level): (&str, &str),
    env: &EnvFolder,
    cases: &mut Vec<Case>,
) -> Result<(), String> {
    for name in stems(folder, extension)? {
        if SHOWS_ANCHORS.contains(&(name.as_str(), extension)) {
            let reason = "it shows anchors as only a firewall in operation does";
            cases.push(Case { suite, name, task: Task::Unable(reason) });
            continue;
        }
        let wanted = Wanted::Rules(folder.join(format!("{name}.{extension}")));
        let call = call(folder, env, &["-o", level, "-nvv", "-f", "-"], wanted);
        cases.push(case(suite, &name, with_input(call, &name)));
    }
    Ok(())
}

/// What was printed, read and printed again.
fn again(
    suite: &'static str,
    folder: &Path,
    env: &EnvFolder,
    cases: &mut Vec<Case>,
) -> Result<(), String> {
    for name in stems(folder, "ok")?.into_iter().filter(|name| name != NEEDS_DAEMON) {
        let file = folder.join(format!("{name}.ok"));
        let args = ["-o", "none", "-nv", "-f", "-"];
        let mut call = call(folder, env, &args, Wanted::Output(file.clone()));
        call.input = Some(file);
        cases.push(case(suite, &name, call));
    }
    Ok(())
}

/// Command lines that are all in `.opts`: `pfcmdfail` must fail with `.ok`, others succeed.
fn commands(folder: &Path, env: &EnvFolder, cases: &mut Vec<Case>) -> Result<(), String> {
    for name in stems(folder, "in")? {
        let fails = name.starts_with("pfcmdfail");
        let file = format!("{name}.in");
        let wanted = if fails {
            Wanted::Failure(folder.join(format!("{name}.ok")))
        } else {
            Wanted::Success
        };
        let args = ["-f", if fails { "-" } else { file.as_str() }];
        let mut call = call(folder, env, &args, wanted);
        call.args.splice(0..0, words(&folder.join(format!("{name}.opts")))?);
        cases.push(case("openbsd/pfcmd", &name, with_input(call, &name)));
    }
    Ok(())
}

/// Rulesets that must be accepted, in a folder and the folders below it.
fn parses(
    suite: &'static str,
    folder: &Path,
    prefix: &str,
    env: &EnvFolder,
    cases: &mut Vec<Case>,
) -> Result<(), String> {
    for name in stems(folder, "conf")? {
        let file = format!("{name}.conf");
        let mut call = call(folder, env, &["-o", "none", "-nf", &file], Wanted::Success);
        for (value, names) in KERNEL_MACROS {
            call.args.extend(names.iter().map(|name| format!("-D{name}={value}")));
        }
        cases.push(case(suite, &format!("{prefix}{name}"), call));
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut below: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    below.sort();
    for folder in below {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        parses(suite, &folder, &format!("{prefix}{name}/"), env, cases)?;
    }
    Ok(())
}
