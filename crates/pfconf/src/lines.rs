//! Lines of text in one piece: a listing of a large file is one allocation, not one per line.

/// A long text, in octets.
const LONG: usize = 100_000;
/// More than most lines have, in octets.
const LINE: usize = 500;

/// Lines of a listing, none of which has a newline in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Each line ends in a newline.
    text: String,
}

impl Lines {
    /// Appends a line.
    pub fn push(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// The lines in their order, without their ends.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.split_terminator('\n')
    }

    /// All lines with their ends.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, for who appends lines to it piece by piece. There is room for a usual line, and
    /// for a quarter of a long text: it is not to have twice the room that it needs.
    pub(crate) fn text(&mut self) -> &mut String {
        let len = self.text.len();
        if len >= LONG && self.text.capacity() - len < LINE {
            self.text.reserve_exact(len / 4);
        }
        &mut self.text
    }

    /// Appends all lines of another listing.
    pub(crate) fn append(&mut self, other: &Self) {
        self.text.push_str(&other.text);
    }
}

impl<L: AsRef<str>> Extend<L> for Lines {
    fn extend<T: IntoIterator<Item = L>>(&mut self, lines: T) {
        for line in lines {
            self.push(line);
        }
    }
}

impl<L: AsRef<str>> FromIterator<L> for Lines {
    fn from_iter<T: IntoIterator<Item = L>>(lines: T) -> Self {
        let mut found = Self::default();
        found.extend(lines);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_as_they_went_in() {
        let mut lines: Lines = ["a", "", "b"].into_iter().collect();
        lines.push("");
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["a", "", "b", ""]);
        assert_eq!(lines.as_str(), "a\n\nb\n\n");
        assert_eq!(Lines::default().iter().count(), 0);
    }
}
