//! Paths of anchors.
//!
//! A path in a rule is relative to the ruleset that holds the rule; `/` in front makes it
//! absolute, `..` goes one up. Source: OpenBSD sbin/pfctl/pfctl_parser.c, sys/net/pf_ruleset.c
//! `pf_anchor_setup`.

/// Which rulesets an anchor rule calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// The one with this path.
    One(String),
    /// Those directly below this path, in the order of their names.
    Below(String),
}

/// What the path of an anchor rule in the ruleset `base` means. The result has no leading slash;
/// `..` at the top stays there.
///
/// ```
/// use pfapi::anchor::{Called, resolve};
///
/// assert_eq!(resolve("outer", "inner"), Called::One("outer/inner".to_owned()));
/// assert_eq!(resolve("outer", "/inner"), Called::One("inner".to_owned()));
/// assert_eq!(resolve("", "ftp-proxy/*"), Called::Below("ftp-proxy".to_owned()));
/// ```
#[must_use]
pub fn resolve(base: &str, path: &str) -> Called {
    let (path, wildcard) = match path.strip_suffix('*') {
        Some(rest) if rest.is_empty() || rest.ends_with('/') => (rest, true),
        _ => (path, false),
    };
    let start = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = start.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let path = parts.join("/");
    if wildcard { Called::Below(path) } else { Called::One(path) }
}

/// A path, and those of the rulesets around it, the main one last.
pub fn around(path: &str) -> impl Iterator<Item = &str> {
    core::iter::successors(Some(path), |&path| outer(path))
}

fn outer(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        Some((outer, _)) => Some(outer),
        None if path.is_empty() => None,
        None => Some(""),
    }
}

/// Whether `path` lies directly below `parent`.
#[must_use]
pub fn is_child(parent: &str, path: &str) -> bool {
    let depth = |path: &str| path.split('/').filter(|part| !part.is_empty()).count();
    is_below(parent, path) && depth(path) == depth(parent) + 1
}

/// Whether `path` lies below `parent`, at any depth.
#[must_use]
pub fn is_below(parent: &str, path: &str) -> bool {
    let rest = if parent.is_empty() {
        Some(path)
    } else {
        path.strip_prefix(parent).and_then(|rest| rest.strip_prefix('/'))
    };
    rest.is_some_and(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_absolute_or_wild() {
        let one = |base, path| match resolve(base, path) {
            Called::One(path) => path,
            Called::Below(path) => format!("{path}/*"),
        };
        assert_eq!(one("", "foo"), "foo");
        assert_eq!(one("a", "foo/bar"), "a/foo/bar");
        assert_eq!(one("a/b", "/foo"), "foo");
        assert_eq!(one("a/b", "../c"), "a/c");
        assert_eq!(one("a", "../../c"), "c");
        assert_eq!(one("a", "b/*"), "a/b/*");
        assert_eq!(one("a", "*"), "a/*");
        assert_eq!(one("", "/*"), "/*");
        assert!(is_child("", "a") && !is_child("", "a/b") && is_child("a", "a/b"));
        assert!(is_below("a", "a/b/c") && !is_below("a", "ab") && !is_below("", ""));
        assert!(!is_child("a", "ab") && !is_child("a", "a") && !is_child("a", "a/b/c"));
    }

    #[test]
    fn rulesets_around_a_path_end_with_the_main_one() {
        assert_eq!(around("a/b/_1").collect::<Vec<_>>(), ["a/b/_1", "a/b", "a", ""]);
        assert_eq!(around("").collect::<Vec<_>>(), [""]);
    }
}
