//! FreeBSD's sbin/pfctl/tests and share/examples/pf.

use std::fs;
use std::path::Path;

use super::{call, case, existing, stems};
use crate::case::{Case, Wanted};
use crate::env::EnvFolder;

/// Interfaces that single cases make: name of the case, lines for `interfaces.txt`.
const INTERFACES: &[(&str, &str)] = &[
    (
        "pf1057",
        "vlan1057 index 20 flags UP,BROADCAST,RUNNING,MULTICAST groups vlan mtu 1500 \
         inet 203.0.113.5/24 inet6 2001:db8::cb00:7105/64\n",
    ),
    ("pf1059", "vlan1059 index 20 flags UP,BROADCAST,RUNNING,MULTICAST groups vlan mtu 1500\n"),
    (
        "pf1061",
        "vlan1061 index 20 flags UP,BROADCAST,RUNNING,MULTICAST groups vlan mtu 1500 \
         inet 203.0.113.5/24 inet6 2001:db8::cb00:7105/64\n",
    ),
    // Shares of the bandwidth of cards that the file's author had.
    (
        "faq-example3",
        "fxp0 index 20 flags UP,BROADCAST,RUNNING mtu 1500 baud 100000000 inet 203.0.113.7/24\n\
         fxp1 index 21 flags UP,BROADCAST,RUNNING mtu 1500 baud 100000000 inet 10.0.0.1/24\n\
         dc0 index 22 flags UP,BROADCAST,RUNNING mtu 1500 baud 100000000 inet 192.168.0.1/24\n",
    ),
    ("pf1063", "vlan1063 index 20 flags UP,BROADCAST,RUNNING,MULTICAST groups vlan mtu 1500\n"),
];
const ARGS: [&str; 5] = ["--dialect", "freebsd", "-o", "none", "-nvf"];

/// Adds the suites.
pub fn add(root: &Path, cases: &mut Vec<Case>) -> Result<(), String> {
    let env = EnvFolder::new(root.join("env"));
    let folder = root.join("pf-2021");
    for name in stems(&folder, "in")? {
        let wanted = existing(folder.join(format!("{name}.ok")));
        let mut call = call(&folder, &env, &ARGS, wanted.map_or(Wanted::Success, Wanted::Output));
        call.args.push("-".to_owned());
        call.input = Some(folder.join(format!("{name}.in")));
        cases.push(case("freebsd/pf-2021", &name, call));
    }
    again("freebsd/selfpf-2021", &folder, &env, cases)?;
    let folder = root.join("pf-main");
    for name in stems(&folder, "in")? {
        let ok = existing(folder.join(format!("{name}.ok")));
        let fail = folder.join(format!("{name}.fail"));
        let wanted = match (ok, fs::read_to_string(&fail)) {
            (Some(ok), _) => Wanted::Both(ok),
            (None, Ok(pattern)) => Wanted::Message(plain(&pattern)),
            (None, Err(_)) => Wanted::Success,
        };
        let file = format!("{name}.in");
        let args = [&ARGS[..], &[file.as_str()]].concat();
        cases.push(case(
            "freebsd/pf-main",
            &name,
            call(&folder, &with(&env, &name), &args, wanted),
        ));
    }
    again("freebsd/selfpf-main", &folder, &env, cases)?;
    let folder = root.join("examples");
    let mut files: Vec<String> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    for file in files {
        let args = [&ARGS[..], &[file.as_str()]].concat();
        let call = call(&folder, &with(&env, &file), &args, Wanted::Success);
        cases.push(case("freebsd/examples", &file, call));
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
    for name in stems(folder, "ok")? {
        let file = format!("{name}.ok");
        let args = [&ARGS[..], &[file.as_str()]].concat();
        let wanted = Wanted::Output(folder.join(&file));
        cases.push(case(suite, &name, call(folder, &with(env, &name), &args, wanted)));
    }
    Ok(())
}

fn with(env: &EnvFolder, name: &str) -> EnvFolder {
    let interfaces = INTERFACES.iter().find(|(case, _)| *case == name);
    EnvFolder { interfaces: interfaces.map_or("", |(_, lines)| lines), ..env.clone() }
}

/// The text of a pattern: the ones at hand have no more than escaped brackets.
fn plain(pattern: &str) -> String {
    pattern.trim_end().replace('\\', "")
}
