//! `pfctl fmt`: files in place, differences, mistakes, exit codes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::common::{Outcome, pfctl};

const UGLY: &str = "ext=\"em0\"   # outside\n\n\n\npass in on{em1,$ext}proto tcp  # web\n";
const PRETTY: &str = "ext = \"em0\" # outside\n\npass in on { em1, $ext } proto tcp # web\n";

fn quiet(code: i32, out: &str) -> Outcome {
    Outcome { code, out: out.to_owned(), err: String::new() }
}

#[test]
fn standard_input_goes_to_standard_output() {
    assert_eq!(pfctl(&["fmt"], UGLY), quiet(0, PRETTY));
    assert_eq!(pfctl(&["fmt", "-"], UGLY), quiet(0, PRETTY));
    assert_eq!(pfctl(&["fmt", "-"], PRETTY), quiet(0, PRETTY));
    assert_eq!(pfctl(&["fmt", "--check", "-"], PRETTY), quiet(0, ""));
    assert_eq!(
        pfctl(&["fmt", "--check"], "pass  in\n"),
        quiet(1, "--- stdin\n+++ stdin (formatted)\n@@ -1,1 +1,1 @@\n-pass  in\n+pass in\n")
    );
    assert_eq!(pfctl(&["fmt", "-D", "x=em0"], "pass on  $x\n"), quiet(0, "pass on $x\n"));
}

#[test]
fn files_are_replaced_only_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a"), UGLY).unwrap();
    fs::write(path("b"), PRETTY).unwrap();
    fs::set_permissions(path("a"), fs::Permissions::from_mode(0o604)).unwrap();
    let (first, second) = (path("a"), path("b"));
    let files = [first.to_str().unwrap(), second.to_str().unwrap()];
    let check = pfctl(&["fmt", "--check", files[0], files[1]], "");
    assert_eq!((check.code, check.err.as_str()), (1, ""));
    assert!(check.out.starts_with(&format!("--- {}\n", files[0])), "{}", check.out);
    assert_eq!(check.out.matches("--- ").count(), 1, "{}", check.out);
    assert_eq!(fs::read_to_string(&first).unwrap(), UGLY);
    let before = fs::metadata(&second).unwrap().ino();
    assert_eq!(pfctl(&["fmt", files[0], files[1]], ""), quiet(0, ""));
    assert_eq!(fs::read_to_string(&first).unwrap(), PRETTY);
    assert_eq!(fs::metadata(&first).unwrap().mode() & 0o7777, 0o604);
    assert_eq!(fs::metadata(&second).unwrap().ino(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(pfctl(&["fmt", "--check", files[0]], ""), quiet(0, ""));
}

#[test]
fn files_with_mistakes_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pf.conf");
    let text = "pass  in\npass form any\n";
    fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    for args in [["fmt", file].as_slice(), &["fmt", "--check", file]] {
        let outcome = pfctl(args, "");
        assert_eq!((outcome.code, outcome.out.as_str()), (1, ""));
        assert_eq!(outcome.err, format!("{file}:2: syntax error\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, b"pass # caf\xe9\n").unwrap();
    let outcome = pfctl(&["fmt", file], "");
    assert_eq!(outcome.code, 2);
    assert!(outcome.err.contains("line 1 is no UTF-8"), "{}", outcome.err);
    assert_eq!(fs::read(&path).unwrap(), b"pass # caf\xe9\n");
}

#[test]
fn wrong_calls_exit_with_two() {
    for args in [
        ["fmt", "--dialect", "plan9"].as_slice(),
        &["fmt", "--nope"],
        &["fmt", "/nonexistent/pf.conf"],
        &["fmt", "-D"],
    ] {
        let outcome = pfctl(args, "");
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""), "{args:?}");
        assert!(!outcome.err.is_empty(), "{args:?}");
    }
    let help = pfctl(&["fmt", "--help"], "");
    assert_eq!((help.code, help.err.as_str()), (0, ""));
    assert!(help.out.contains("Usage: pfctl fmt"), "{}", help.out);
}
