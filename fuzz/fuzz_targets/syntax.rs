//! The syntax tree of any text, in both dialects: every place is in the text, on the borders of
//! characters, and around the places of its parts where no macro is involved.
#![no_main]

mod words;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pfconf::syntax::{Node, SyntaxOptions, parse};
use pfconf::{Dialect, Input, NoSources};

fn check(text: &str, node: &Node) {
    assert!(text.get(node.span.range()).is_some(), "{node:?}");
    assert_ne!(node.text.is_some(), !node.children.is_empty(), "{node:?}");
    for child in &node.children {
        if node.macro_name.is_none() && child.macro_name.is_none() {
            assert!(child.span.start >= node.span.start || node.span == child.span);
        }
        check(text, child);
    }
}

fuzz_target!(|text: &str| {
    for dialect in [Dialect::OpenBsd, Dialect::FreeBsd] {
        let options = SyntaxOptions { dialect, sources: &NoSources, defines: &[] };
        let input = Input { name: "fuzz", text };
        let parsed = parse(&input, &options);
        for statement in &parsed.tree.statements {
            assert!(text.get(statement.span.range()).is_some());
            statement.nodes.iter().for_each(|node| check(text, node));
        }
        for diagnostic in &parsed.diagnostics {
            assert!(!diagnostic.classic().is_empty());
            assert!(!diagnostic.pretty(&input, true).is_empty());
            for edit in diagnostic.fixes().iter().flat_map(|fix| &fix.edits) {
                assert!(text.get(edit.span.range()).is_some());
            }
        }
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    words::mutate(data, size, max_size, seed, 0)
});
