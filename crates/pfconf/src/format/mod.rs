//! Writes a pf.conf in one style, with its comments, macros and line breaks as they are.
//!
//! What changes: blanks between words and signs, indentation, blank lines (never more than one in a
//! row, none at both ends), the columns of comments behind statements and of the signs of
//! definitions that stand in lines next to each other. What never changes: words, quoted strings,
//! signs, their order, the line that each of them stands in, and the text of comments.
//!
//! The result is checked before it is given out: it has to give the same words and signs as the
//! text before. A second run changes nothing.

mod layout;
mod lexer;

use crate::Input;
use crate::diag::Diagnostic;
use crate::scan::tokens;
use crate::syntax::{self, Parsed, SyntaxOptions};

/// Why a text is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It does not fit the grammar.
    #[error("the text has {} mistakes", .0.len())]
    Mistakes(Vec<Diagnostic>),
    /// With other blanks it would say something else: a macro holds a quotation mark that is closed
    /// outside of its value.
    #[error(
        "other blanks would change what the text says, as a macro holds half of a quoted string"
    )]
    Changed,
}

/// Formats a text.
///
/// Work and memory are linear in the text and in what its macros expand to.
///
/// # Errors
/// Mistakes of grammar. Names that no machine knows are none.
///
/// ```
/// use pfconf::{Dialect, Input, NoSources, format::format, syntax::SyntaxOptions};
///
/// let input = Input { name: "pf.conf", text: "pass in on{em0,em1}proto tcp   # web\n" };
/// let options =
///     SyntaxOptions { dialect: Dialect::OpenBsd, sources: &NoSources, defines: &[] };
/// let text = format(&input, &options)?;
/// assert_eq!(text, "pass in on { em0, em1 } proto tcp # web\n");
/// # Ok::<(), pfconf::format::FormatError>(())
/// ```
pub fn format(input: &Input, options: &SyntaxOptions) -> Result<String, FormatError> {
    let parsed = syntax::parse(input, options);
    if parsed.has_errors() {
        return Err(FormatError::Mistakes(parsed.diagnostics));
    }
    let tokens = lexer::Lexer::new(input.text, &parsed.outline).tokens();
    let text = layout::layout(&tokens, &parsed.outline);
    let after = syntax::parse(&Input { name: input.name, text: &text }, options);
    if after.has_errors() || !statements(&parsed).eq(statements(&after)) {
        return Err(FormatError::Changed);
    }
    Ok(text)
}

fn statements(parsed: &Parsed) -> impl Iterator<Item = Vec<&str>> {
    parsed.tree.statements.iter().map(|statement| words(&statement.text))
}

/// Words and signs of a statement; how many newlines are between two of them makes no difference.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = tokens(text).map(|token| &text[token]).collect();
    words.dedup_by(|word, before| *word == "\n" && *before == "\n");
    words
}
