//! The program without a daemon: usage, `-n`, `--compile`, completions, closed pipes.

use std::process::{Command, Stdio};

use crate::common::{Outcome, pfctl};
use pfapi::control::Request;

/// A socket where nobody listens.
const NOWHERE: &str = "/nonexistent/pfd.sock";

#[test]
fn no_argument_shows_the_usage() {
    let outcome = pfctl(&[], "");
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    assert!(outcome.err.starts_with("usage: pfctl [-AdehmNnOPqrvz] "), "{}", outcome.err);
    assert_eq!(pfctl(&["-h"], ""), outcome);
    let unknown = pfctl(&["-y"], "");
    assert_eq!(unknown.err, format!("pfctl: unknown option -- y\n{}", outcome.err));
    assert_eq!(unknown.code, 1);
}

#[test]
fn help_and_version_go_to_standard_output() {
    let help = pfctl(&["--help"], "");
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("\n  -f file           Load the rules of a file"), "{}", help.out);
    let version = pfctl(&["--version"], "");
    assert_eq!(version.out, concat!("pfctl ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn refused_and_ambiguous_words_have_no_usage_behind_them() {
    let refused = pfctl(&["-g"], "");
    assert_eq!(
        refused.err,
        "pfctl: -g: not supported, rules are found by an index, there are no skip steps to show\n"
    );
    let ambiguous = pfctl(&["-s", ""], "");
    assert_eq!(ambiguous.err, "pfctl:  is ambigious\n");
    assert_eq!((refused.code, ambiguous.code), (1, 1));
}

#[test]
fn subcommands_are_listed_when_one_is_unknown() {
    let outcome = pfctl(&["nope"], "");
    let text = "pfctl: unknown subcommand 'nope': there are completions, fmt, log, and flags start with a dash\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (2, text));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = pfctl(&["completions", shell], "");
        assert_eq!((script.code, script.err.as_str()), (0, ""), "{shell}");
        for word in ["pfctl", "config", "fmt", "check"] {
            assert!(script.out.contains(word), "{shell} has no {word}");
        }
    }
    assert_eq!(pfctl(&["completions", "tcsh"], "").code, 2);
    assert_eq!(pfctl(&["completions"], "").code, 2);
}

#[test]
fn parse_only_needs_no_daemon() {
    let outcome = pfctl(&["-p", NOWHERE, "-n", "-f", "-"], "block\npass\n");
    assert_eq!(outcome, Outcome { code: 0, out: String::new(), err: String::new() });
    let verbose = pfctl(&["-p", NOWHERE, "-nvf-"], "block\npass\n");
    assert_eq!((verbose.code, verbose.out.lines().count()), (0, 2));
    assert!(verbose.out.starts_with("block drop all\npass all"), "{}", verbose.out);
    let numbered = pfctl(&["-p", NOWHERE, "-nvvf-", "-Dext=lo"], "set skip on $ext\nblock\npass\n");
    assert!(numbered.out.contains("\n@0 block drop all\n@1 pass all"), "{}", numbered.out);
}

#[test]
fn mistakes_are_located() {
    let outcome = pfctl(&["-p", NOWHERE, "-nf", "-"], "pass\nnonsense here\n");
    assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
    assert!(outcome.err.starts_with("stdin:2: "), "{}", outcome.err);
    assert!(!outcome.err.contains("pf rules not loaded"));
    let pretty = pfctl(&["-p", NOWHERE, "-nf", "-", "--errors", "pretty"], "nonsense here\n");
    assert_eq!(pretty.code, 1);
    assert_ne!(pretty.err, outcome.err.replace(":2:", ":1:"));
}

#[test]
fn missing_files_are_named() {
    let outcome = pfctl(&["-p", NOWHERE, "-nf", "/nonexistent/pf.conf"], "");
    assert_eq!(outcome.err, "pfctl: /nonexistent/pf.conf: No such file or directory\n");
    let config = pfctl(&["-p", NOWHERE, "-nf-", "--config", "/nonexistent/pfd.toml"], "pass\n");
    assert_eq!(config.err, "pfctl: /nonexistent/pfd.toml: No such file or directory\n");
    assert_eq!((outcome.code, config.code), (1, 1));
}

#[test]
fn missing_daemon_is_explained() {
    let outcome = pfctl(&["-p", NOWHERE, "-e"], "");
    assert_eq!(
        outcome.err,
        "pfctl: /nonexistent/pfd.sock: No such file or directory\n\
         pfctl: no daemon listens there: start pfd, or name its socket with -p\n"
    );
    assert_eq!(outcome.code, 1);
}

#[test]
fn stale_socket_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("pfd.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let socket = socket.to_str().unwrap();
    let outcome = pfctl(&["-p", socket, "-s", "info"], "");
    assert!(outcome.err.starts_with(&format!("pfctl: {socket}: Connection refused\n")));
}

#[test]
fn compile_writes_the_requests_of_a_load() {
    let facts = r#"{"interfaces":[]}"#;
    let outcome = pfctl(&["--compile", "pf.conf", "--facts", facts], "block\npass\n");
    assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
    let requests: Vec<Request> =
        outcome.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [
        Request::Begin { .. },
        Request::AddOptions { ticket: 0, given: None, .. },
        Request::AddRules { ticket: 0, rules, .. },
    ] = requests.as_slice()
    else {
        panic!("{requests:?}");
    };
    assert_eq!(rules.len(), 2);
    let wrong = pfctl(&["--compile", "pf.conf", "--facts", facts], "pass\n\nnonsense here\n");
    assert_eq!((wrong.code, wrong.out.as_str()), (1, ""));
    assert!(wrong.err.starts_with("pf.conf:3: "), "{}", wrong.err);
    assert_eq!(pfctl(&["--compile", "pf.conf", "--facts", "{"], "pass\n").code, 1);
    assert_eq!(pfctl(&["--compile", "pf.conf"], "pass\n").code, 1);
}

#[test]
fn macros_that_nothing_uses_are_told_when_asked_twice() {
    let text = "used = \"80\"\nspare = \"81\"\nlater = \"82\"\n\
                pass proto tcp to port $used\nspare = \"83\"\n";
    let check = |flags: &str| {
        let args = ["-p", "/nonexistent/pfd.sock", "-D", "given=1", flags, "-f", "-"];
        let outcome = pfctl(&args, text);
        assert_eq!(outcome.code, 0, "{flags}");
        outcome.err
    };
    let told = ["given", "later", "spare"];
    let told = told.map(|name| format!("warning: macro '{name}' not used\n")).concat();
    assert_eq!(check("-nvv"), told);
    assert_eq!(check("-nv"), "");
    assert_eq!(check("-n"), "");
}

#[test]
fn closed_pipe_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pfctl"))
        .args(["completions", "bash"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    // The script fits into the pipe when the reader is slow to go.
    assert!(matches!(output.status.code(), Some(0 | 141)));
}

#[test]
fn full_device_is_a_failure() {
    let output = Command::new(env!("CARGO_BIN_EXE_pfctl"))
        .arg("--help")
        .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(err, "pfctl: stdout: No space left on device\n");
}

#[test]
fn pretty_messages_have_a_blank_line_between_them() {
    let outcome = pfctl(
        &["-p", NOWHERE, "-n", "--errors", "pretty", "-f", "-"],
        "pass port\n\nblock in port\n",
    );
    let starts: Vec<_> = outcome.err.match_indices("error[").map(|(at, _)| at).collect();
    assert_eq!((outcome.code, starts.len(), starts.first()), (1, 2, Some(&0)), "{}", outcome.err);
    assert!(outcome.err[..starts[1]].ends_with("\n\n"), "{}", outcome.err);
    assert!(!outcome.err.ends_with("\n\n"), "{}", outcome.err);
}
