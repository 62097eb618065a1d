//! Plays every scenario of the project.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it cannot read")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pftest::{Files, Scenario};

/// Files in the folder of a scenario.
struct Folder(PathBuf);

impl Files for Folder {
    fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.0.join(path))
    }
}

fn scenarios(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            scenarios(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "pft") {
            found.push(path);
        }
    }
}

fn play(root: &Path, path: &Path) -> Result<(), String> {
    let name = path.strip_prefix(root).unwrap().display().to_string();
    let text = fs::read_to_string(path).unwrap();
    let scenario = Scenario::parse(&name, &text).map_err(|error| error.to_string())?;
    if scenario.title.is_empty() {
        return Err(format!("{name}:1: a scenario begins with a comment that says what it shows"));
    }
    let folder = Folder(path.parent().unwrap().to_owned());
    pftest::run(&scenario, &folder).map_err(|failure| failure.to_string())
}

/// `PFTEST=rules/` plays only scenarios whose path contains that text.
#[test]
fn every_scenario_goes_as_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let mut found = Vec::new();
    scenarios(&root, &mut found);
    let only = std::env::var("PFTEST").unwrap_or_default();
    found.retain(|path| path.display().to_string().contains(&only));
    assert!(!found.is_empty(), "no scenario below {}", root.display());
    let failures: Vec<String> = found.iter().filter_map(|path| play(&root, path).err()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} scenarios failed:\n{}",
        failures.len(),
        found.len(),
        failures.join("\n")
    );
    println!("{} scenarios", found.len());
}
