//! What the benches measure besides whole files.

use crate::dialect::Dialect;
use crate::parser::{Kind, Rule, kind, number_value, parse, string};
use crate::scan::{Macro, Macros, Scanner};
use crate::shape::Shapes;

/// Scans a text and parses its statements, and does nothing with them but to note macros. Without
/// `remember` every statement goes through the grammar. Gives how many fit.
#[must_use]
pub fn parse_alone(text: &str, dialect: Dialect, remember: bool) -> usize {
    let mut macros = Macros::new();
    let mut scanner = Scanner::new(text);
    let mut shapes = Shapes::default();
    let mut count = 0;
    while let Some(statement) = scanner.next(&mut macros, &mut |_| {}) {
        let Kind::Entry(entry) = kind(&statement, dialect) else { continue };
        if !remember {
            shapes = Shapes::default();
        }
        let Ok(tree) = parse(&statement, entry, dialect, &mut shapes) else { continue };
        count += 1;
        if entry == Rule::definition {
            let mut parts = tree
                .parts()
                .into_iter()
                .filter(|part| matches!(part.as_rule(), Rule::string | Rule::value));
            let Some(name) = parts.next() else { continue };
            let value = parts.map(|part| number_value(&part)).collect::<Vec<_>>().join(" ");
            macros.insert(string(&name), Macro { value, definition: None, used: false });
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_counted_with_and_without_memory() {
        let text =
            "m = \"{ 10.0.0.1 }\"\npass from $m\npass from 10.0.0.2\nblok\n\nset skip on lo\n";
        for remember in [true, false] {
            assert_eq!(parse_alone(text, Dialect::OpenBsd, remember), 4);
        }
    }
}
