//! `--format sarif`, `--format github` and `--explain`.

use serde_json::Value;

use crate::common::pfctl;

const NOWHERE: &str = "/nonexistent/pfd.sock";
const TEXT: &str =
    "pass in quikc\nlan = “10.0.0.0/8” # ü\npass in on $lan\npass\npass synproxy state\n";

fn check(format: &str, text: &str) -> (i32, String) {
    let outcome = pfctl(&["-p", NOWHERE, "-nf", "-", "--format", format], text);
    assert_eq!(outcome.err, "");
    (outcome.code, outcome.out)
}

#[test]
fn sarif_has_rules_places_and_fixes() {
    let (code, out) = check("sarif", TEXT);
    assert_eq!(code, 1);
    let log: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), pfconf::Code::ALL.len());
    for rule in rules {
        for key in ["shortDescription", "fullDescription", "help"] {
            assert!(rule[key]["text"].as_str().is_some_and(|text| text.len() > 10), "{rule}");
        }
    }
    let results = run["results"].as_array().unwrap();
    // The undefined macro follows from its wrong definition.
    let ids: Vec<&str> = results.iter().map(|found| found["ruleId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["PF0001", "PF0008", "PF0048"]);
    for found in results {
        let index = usize::try_from(found["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], found["ruleId"]);
        assert_eq!(found["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "stdin");
    }
    let region = &results[0]["locations"][0]["physicalLocation"]["region"];
    let numbers = ["startLine", "startColumn", "endLine", "endColumn"].map(|key| &region[key]);
    assert_eq!(numbers.map(|number| number.as_u64().unwrap()), [1, 9, 1, 14]);
    let change = &results[0]["fixes"][0]["artifactChanges"][0];
    assert_eq!(change["replacements"][0]["insertedContent"]["text"], "quick");
    assert_eq!(&change["replacements"][0]["deletedRegion"], region);
    assert_eq!(
        results[1]["fixes"][0]["artifactChanges"][0]["replacements"][1]["deletedRegion"]["startColumn"],
        18
    );
    assert_eq!([&results[1]["level"], &results[2]["level"]], ["error", "warning"]);
    assert_eq!(rules[47]["defaultConfiguration"]["level"], "warning");
}

#[test]
fn sarif_of_a_clean_file_has_no_results() {
    let (code, out) = check("sarif", "pass\n");
    let log: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &log["runs"][0]["results"]), (0, &serde_json::json!([])));
}

#[test]
fn github_gets_one_command_for_each_message() {
    let (code, out) = check("github", TEXT);
    assert_eq!(code, 1);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(
        lines[1].starts_with("::error file=stdin,line=2,col=7,endLine=2,endColumn=7,title="),
        "{out}"
    );
    assert!(lines[0].starts_with("::error file=stdin,line=1,col=9,endLine=1,endColumn=13,title=PF0001%3A `quikc` does not fit here::"), "{out}");
    assert!(lines[0].ends_with("%0Ahelp: did you mean `quick`?"), "{out}");
    assert!(lines[2].starts_with("::warning file=stdin,line=5,"), "{out}");
    assert_eq!(check("github", "pass\n"), (0, String::new()));
    let multiline = check("github", "pass from {\n 10.0.0.1\n 10.0.0.2 } to 2001:db8::1\n").1;
    assert!(multiline.starts_with("::error file=stdin,line=1,endLine=3,title="), "{multiline}");
}

#[test]
fn codes_are_explained() {
    for word in ["PF0011", "pf0011", "11"] {
        let outcome = pfctl(&["--explain", word], "");
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""));
        assert_eq!(outcome.out, pfconf::Code::PortWithoutProto.explanation());
    }
    let unknown = pfctl(&["--explain", "PF9999"], "");
    assert_eq!((unknown.code, unknown.out.as_str()), (1, ""));
    assert_eq!(unknown.err, "pfctl: there is no message with the code 'PF9999'\n");
    let pretty = pfctl(&["-p", NOWHERE, "-nf", "-", "--errors", "pretty"], "pass form x\n");
    assert!(
        pretty.err.ends_with("\n\nMore about a message: pfctl --explain PF0001\n"),
        "{}",
        pretty.err
    );
}
