//! Lines of a fixture: words up to a `#`, and what is wrong with them.

/// A line of a fixture that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {text}")]
pub struct FixtureError {
    /// Name of the file in its folder.
    pub file: String,
    /// Line number from 1.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

/// Reads every line that is not empty with `each`, which gets its words; there is at least one.
///
/// # Errors
/// The first line that `each` refuses.
pub fn for_each_line(
    file: &str,
    text: &str,
    mut each: impl FnMut(&[&str]) -> Result<(), String>,
) -> Result<(), FixtureError> {
    for (index, line) in text.lines().enumerate() {
        let words = words(line);
        if words.is_empty() {
            continue;
        }
        each(&words).map_err(|text| FixtureError {
            file: file.to_owned(),
            line: index + 1,
            text,
        })?;
    }
    Ok(())
}

/// Words of a line without its comment.
pub fn words(line: &str) -> Vec<&str> {
    line.split('#').next().unwrap_or_default().split_whitespace().collect()
}

/// A word in a message: quoted, and without what could steer a terminal.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.escape_debug())
}

/// A whole number.
pub fn number<T: std::str::FromStr>(word: &str, what: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{what} {} is no number in range", quoted(word)))
}
