//! Difference of two texts by lines.

/// Lines that are in both texts and stand around a difference are shown up to this many.
const CONTEXT: usize = 2;
/// Longer texts are shown as all of one, then all of the other: the comparison takes time and
/// memory in the product of their lines.
const LINES_MAX: usize = 4000;

/// The lines that differ: `-` is wanted, `+` is there instead. A last line without a newline is
/// marked.
pub(crate) fn diff(wanted: &str, got: &str) -> String {
    let wanted: Vec<&str> = wanted.split_inclusive('\n').collect();
    let got: Vec<&str> = got.split_inclusive('\n').collect();
    let mut steps = steps(&wanted, &got);
    mark_context(&mut steps);
    let mut text = String::new();
    let mut skipped = false;
    for (sign, line, shown) in steps {
        if !shown {
            skipped = true;
            continue;
        }
        if std::mem::take(&mut skipped) {
            text.push_str("...\n");
        }
        text.push(sign);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\\ (no newline)\n");
        }
    }
    text
}

type Step<'a> = (char, &'a str, bool);

fn steps<'a>(wanted: &[&'a str], got: &[&'a str]) -> Vec<Step<'a>> {
    if wanted.len() > LINES_MAX || got.len() > LINES_MAX {
        let old = wanted.iter().map(|line| ('-', *line, true));
        return old.chain(got.iter().map(|line| ('+', *line, true))).collect();
    }
    // longest[i][j]: length of the longest common subsequence of wanted[i..] and got[j..].
    let mut longest = vec![vec![0_u16; got.len() + 1]; wanted.len() + 1];
    for i in (0..wanted.len()).rev() {
        for j in (0..got.len()).rev() {
            longest[i][j] = if wanted[i] == got[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut steps = Vec::new();
    loop {
        match (wanted.get(i), got.get(j)) {
            (None, None) => return steps,
            (Some(old), Some(new)) if old == new => {
                steps.push((' ', *old, false));
                (i, j) = (i + 1, j + 1);
            }
            (Some(old), new) if new.is_none() || longest[i + 1][j] >= longest[i][j + 1] => {
                steps.push(('-', *old, true));
                i += 1;
            }
            (_, new) => {
                steps.extend(new.map(|new| ('+', *new, true)));
                j += 1;
            }
        }
    }
}

fn mark_context(steps: &mut [Step<'_>]) {
    let changed: Vec<usize> =
        steps.iter().enumerate().filter(|(_, step)| step.0 != ' ').map(|(at, _)| at).collect();
    for at in changed {
        let end = (at + CONTEXT + 1).min(steps.len());
        for step in &mut steps[at.saturating_sub(CONTEXT)..end] {
            step.2 = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_stand_in_their_context() {
        let wanted = "1\n2\n3\n4\n5\n6\n";
        assert_eq!(diff(wanted, wanted), "...\n"[..0].to_owned());
        assert_eq!(diff(wanted, "1\n2\n3\n4\nx\n6\n"), "...\n 3\n 4\n-5\n+x\n 6\n");
        assert_eq!(diff("a\n", ""), "-a\n");
        assert_eq!(diff("", "a"), "+a\\ (no newline)\n");
        assert_eq!(diff("a\nb\n", "b\nc\n"), "-a\n b\n+c\n");
    }
}
