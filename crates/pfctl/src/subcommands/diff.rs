//! The difference between a text and its formatted form, as `diff -u` shows it.

use std::fmt::Write;

/// Unchanged lines around a change.
const CONTEXT: usize = 3;

/// A line of one text, of the other, or of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'t> {
    Same(&'t str),
    Old(&'t str),
    New(&'t str),
}

/// What has to be done to `old` to get `new`; empty when they are equal.
///
/// Lines are paired as a formatter leaves them: with other blanks, in the same order, some gone. For
/// any two texts the result is right; for others than these it is longer than it has to be. Time
/// and memory are linear in the texts.
pub fn unified(name: &str, old: &str, new: &str) -> String {
    let steps = steps(old, new);
    let changed: Vec<usize> = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| !matches!(step, Step::Same(_)))
        .map(|(index, _)| index)
        .collect();
    let mut text = String::new();
    let Some(&first) = changed.first() else { return text };
    let _ = writeln!(text, "--- {name}\n+++ {name} (formatted)");
    let (mut start, mut last) = (first, first);
    // Lines in front of `at` in either text.
    let mut at = 0;
    let (mut old_line, mut new_line) = (0, 0);
    let mut hunk = |start: usize, last: usize| {
        let from = start.saturating_sub(CONTEXT);
        let to = (last + CONTEXT + 1).min(steps.len());
        let count = |steps: &[Step]| {
            let old = steps.iter().filter(|step| !matches!(step, Step::New(_))).count();
            let new = steps.iter().filter(|step| !matches!(step, Step::Old(_))).count();
            (old, new)
        };
        let skipped = count(&steps[at..from]);
        old_line += skipped.0;
        new_line += skipped.1;
        let (old_count, new_count) = count(&steps[from..to]);
        // A hunk without lines of a text names the line in front of it.
        let first = |line: usize, count: usize| line + usize::from(count > 0);
        let _ = writeln!(
            text,
            "@@ -{},{old_count} +{},{new_count} @@",
            first(old_line, old_count),
            first(new_line, new_count)
        );
        for step in &steps[from..to] {
            let (sign, line) = match step {
                Step::Same(line) => (' ', line),
                Step::Old(line) => ('-', line),
                Step::New(line) => ('+', line),
            };
            text.push(sign);
            text.push_str(line);
            if !line.ends_with('\n') {
                text.push_str("\n\\ No newline at end of file\n");
            }
        }
        old_line += old_count;
        new_line += new_count;
        at = to;
    };
    for &index in &changed {
        if index > last + 2 * CONTEXT {
            hunk(start, last);
            start = index;
        }
        last = index;
    }
    hunk(start, last);
    text
}

fn steps<'t>(old: &'t str, new: &'t str) -> Vec<Step<'t>> {
    let mut steps = Vec::new();
    let mut waiting = Vec::new();
    let mut new = new.split_inclusive('\n').peekable();
    for line in old.split_inclusive('\n') {
        match new.peek() {
            Some(&next) if next == line => {
                steps.extend(waiting.drain(..).map(Step::New));
                steps.push(Step::Same(line));
                new.next();
            }
            Some(&next) if bare(next).eq(bare(line)) => {
                steps.push(Step::Old(line));
                waiting.push(next);
                new.next();
            }
            _ => steps.push(Step::Old(line)),
        }
    }
    steps.extend(waiting.into_iter().chain(new).map(Step::New));
    steps
}

/// A line without blanks.
fn bare(line: &str) -> impl Iterator<Item = char> {
    line.chars().filter(|character| !character.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_no_difference() {
        assert_eq!(unified("f", "a\nb\n", "a\nb\n"), "");
    }

    #[test]
    fn changed_and_missing_lines_are_shown_with_their_neighbours() {
        let old = "1\n2\n3\n4\n  5\n\n\n6\n7\n8\n9\n10\n11\n12\n13\n 14";
        let new = "1\n2\n3\n4\n5\n\n6\n7\n8\n9\n10\n11\n12\n13\n14\n";
        assert_eq!(
            unified("f", old, new),
            "--- f\n+++ f (formatted)\n@@ -2,9 +2,8 @@\n 2\n 3\n 4\n-  5\n+5\n \n-\n 6\n 7\n 8\n\
             @@ -13,4 +12,4 @@\n 11\n 12\n 13\n- 14\n\\ No newline at end of file\n+14\n"
        );
    }

    #[test]
    fn unlike_texts_are_replaced_as_a_whole() {
        assert_eq!(
            unified("f", "a\n", "b\n"),
            "--- f\n+++ f (formatted)\n@@ -1,1 +1,1 @@\n-a\n+b\n"
        );
        assert_eq!(unified("f", "\n", ""), "--- f\n+++ f (formatted)\n@@ -1,1 +0,0 @@\n-\n");
    }
}
