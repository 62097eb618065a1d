//! What the documents show is what the program does.

use std::fs;

use crate::common::pfctl;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/pfd.toml");

fn read(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}{path}")).unwrap()
}

/// The texts between each `start` and the next `end`.
fn blocks<'t>(text: &'t str, start: &'t str, end: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(start).skip(1).map(move |rest| rest.split(end).next().unwrap_or_default())
}

#[test]
fn examples_of_the_manual_load() {
    let page = read("man/pf.conf.5");
    let mut checked = 0;
    for example in blocks(&page, ".Bd -literal -offset indent\n", ".Ed\n") {
        // The one that shows the order of a rule's parts is no file.
        if example.starts_with("action ") {
            continue;
        }
        let outcome =
            pfctl(&["-p", "/nonexistent/pfd.sock", "-n", "--config", CONFIG, "-f", "-"], example);
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{example}");
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} examples found");
}

#[test]
fn mistakes_look_as_the_page_shows_them() {
    let page = read("docs/errors.md");
    let chapters = page.split("\n## ").filter(|chapter| chapter.contains("```text\n"));
    let mut checked = 0;
    for chapter in chapters {
        let file = blocks(chapter, "```pf\n", "```").next().unwrap();
        let shown = blocks(chapter, "```text\n", "```\n").next().unwrap();
        let outcome = pfctl(
            &[
                "-p",
                "/nonexistent/pfd.sock",
                "-n",
                "--config",
                CONFIG,
                "--errors",
                "pretty",
                "-f",
                "-",
            ],
            file,
        );
        assert_eq!(outcome.code, 1, "{chapter}");
        // The page says once what stands behind the messages of every file.
        let (err, more) = outcome.err.rsplit_once("\nMore about a message: ").unwrap();
        assert!(shown.contains(more["pfctl --explain ".len()..].trim_end()), "{more}");
        assert_eq!(err.replace(" --> stdin:", " --> pf.conf:"), shown, "{chapter}");
        checked += 1;
    }
    assert_eq!(checked, 10);
}
