//! A fixed set of words that almost every word of a file is looked up in.

/// Words by their first octet: a look-up compares with the few that start alike.
#[derive(Debug)]
pub(crate) struct WordSet {
    by_start: Vec<Vec<&'static str>>,
}

impl WordSet {
    pub(crate) fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        let mut by_start = vec![Vec::new(); 256];
        for word in words {
            let Some(&first) = word.as_bytes().first() else { continue };
            let alike: &mut Vec<&str> = &mut by_start[usize::from(first)];
            if !alike.contains(&word) {
                alike.push(word);
            }
        }
        Self { by_start }
    }

    /// Whether the word is in the set; the empty one never is.
    pub(crate) fn contains(&self, word: &str) -> bool {
        let first = word.as_bytes().first();
        first.is_some_and(|&first| self.by_start[usize::from(first)].contains(&word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in() {
        let set = WordSet::new(["pass", "port", "pass", "", "{"]);
        for word in ["pass", "port", "{"] {
            assert!(set.contains(word), "{word}");
        }
        for word in ["", "p", "passt", "on"] {
            assert!(!set.contains(word), "{word}");
        }
    }
}
