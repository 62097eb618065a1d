//! Cuts a ruleset into superblocks: rules next to each other that do the same to a packet.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_optimize.c `construct_superblocks`, `superblock_inclusive`,
//! `interface_group`; FreeBSD has its own `interface_group`.

use std::ops::Range;

use pfapi::facts::Facts;
use pfapi::ruleset::Rule;

use super::class::Fields;
use crate::dialect::Dialect;

/// Whose optimizer it is, and on which machine.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    pub(super) dialect: Dialect,
    pub(super) facts: &'a Facts,
}

impl Host<'_> {
    /// Whether a name in a rule is that of a group, which may hold any interface at any time.
    fn is_group(self, name: Option<&str>) -> bool {
        let Some(name) = name else { return false };
        match self.dialect {
            Dialect::OpenBsd => !name.ends_with(|last: char| last.is_ascii_digit()),
            Dialect::FreeBsd | Dialect::MacOs => {
                self.facts.interface(name).is_none() && self.facts.members(name).next().is_some()
            }
        }
    }

    /// Whether a rule has a superblock of its own. FreeBSD compares pools by their place in
    /// memory, so that no two are the same.
    fn is_alone(self, fields: &Fields) -> bool {
        fields.alone.is_set() || (self.dialect.is_freebsd() && fields.has_pool())
    }

    /// Whether a rule may be in the superblock that begins with `first`.
    fn joins(self, first: &Fields, rule: &Fields) -> bool {
        let (ours, theirs) = (first.scope.interface, rule.scope.interface);
        let apart = !ours.unwrap_or_default().eq_ignore_ascii_case(theirs.unwrap_or_default());
        !self.is_alone(first)
            && !self.is_alone(rule)
            && !(apart && (self.is_group(ours) || self.is_group(theirs)))
            && first.unlisted == rule.unlisted
            && first.shared == rule.shared
    }
}

/// The superblocks of a ruleset, as ranges of its rules.
pub(super) fn superblocks(rules: &[Rule], host: Host) -> Vec<Range<usize>> {
    let mut blocks: Vec<Range<usize>> = Vec::new();
    let mut first: Option<Fields> = None;
    for (at, rule) in rules.iter().enumerate() {
        let fields = Fields::of(rule);
        match (blocks.last_mut(), &first) {
            (Some(block), Some(first)) if host.joins(first, &fields) => block.end = at + 1,
            _ => {
                blocks.push(at..at + 1);
                first = Some(fields);
            }
        }
    }
    blocks
}
