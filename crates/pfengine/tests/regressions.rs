//! Replays every input that once broke a promise: one file each in `tests/regressions`.

mod common;

use common::session::{decode, run};

#[test]
fn inputs_that_once_failed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions");
    for entry in std::fs::read_dir(folder).expect("the folder of regressions") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "session") {
            println!("{}", path.display());
            let input = std::fs::read(&path).expect("a regression");
            if let Some((setup, ops)) = decode(&input) {
                run(setup, &ops);
            }
        }
    }
}
