//! What the benches measure besides whole files.

use crate::dialect::Dialect;
use crate::parser::{Kind, Rule, by_pest, entry_of, kind, number_value, parse, string};
use crate::scan::{Macro, Macros, Scanner};

/// What parses a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    /// What `pfctl` parses with.
    Words,
    /// The parser that pest makes of the grammar.
    Pest,
}

/// Scans a text and parses its statements, and does nothing with them but to note macros. Gives
/// how many fit.
#[must_use]
pub fn parse_alone(text: &str, dialect: Dialect, parser: Parser) -> usize {
    let mut macros = Macros::new();
    let mut scanner = Scanner::new(text);
    let mut count = 0;
    while let Some(statement) = scanner.next(&mut macros, &mut |_| {}) {
        let Kind::Entry(entry) = kind(&statement, dialect) else { continue };
        let tree = match parser {
            Parser::Words => parse(&statement, entry, dialect).ok(),
            Parser::Pest => by_pest(entry_of(entry, dialect), &statement.text).ok(),
        };
        let Some(tree) = tree else { continue };
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
    fn statements_are_counted_by_both_parsers() {
        let text =
            "m = \"{ 10.0.0.1 }\"\npass from $m\npass from 10.0.0.2\nblok\n\nset skip on lo\n";
        for parser in [Parser::Words, Parser::Pest] {
            assert_eq!(parse_alone(text, Dialect::OpenBsd, parser), 4);
        }
    }
}
