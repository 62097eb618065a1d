//! "Did you mean": the known word nearest to a misspelt one.

/// The candidate that differs least from `word`, if the difference is small.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let most = match word.len() {
        2..=4 => 1,
        5..=40 => 2,
        _ => return None,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| {
            distance > 0 && distance <= most && distance < candidate.len()
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words; exchanged neighbours count as one edit.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let same = left[i - 1] == right[j - 1];
            let mut best = (last[j - 1] + usize::from(!same)).min(last[j] + 1).min(row[j - 1] + 1);
            let exchanged =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if exchanged {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slips_are_recognised() {
        let words = ["pass", "block", "proto", "quick"];
        assert_eq!(nearest("pas", words), Some("pass"));
        assert_eq!(nearest("blcok", words), Some("block"));
        assert_eq!(nearest("prot", words), Some("proto"));
        assert_eq!(nearest("elephant", words), None);
        assert_eq!(nearest("pass", words), None);
    }
}
