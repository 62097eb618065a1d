//! From expanded rules to the ruleset that is loaded: optimized, numbered, listed.
//!
//! Rulesets are settled from the outside in, as pfctl loads them: that is the order of automatic
//! tables and of the listing. Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_load_ruleset`,
//! sbin/pfctl/parse.y `pfctl_expand_label_nr`.

use pfapi::ruleset::{EtherRule, Rule, RuleKind};

use crate::diag::{Code, Diagnostic};
use crate::ether;
use crate::label;
use crate::lines::Lines;
use crate::optimize::Optimizer;
use crate::parser::Fallible;
use crate::print;
use crate::redirect::AutoTables;

/// What settling needs, and what it fills.
pub(crate) struct Settler<'a, 'o> {
    pub(crate) optimizer: &'a mut Optimizer<'o>,
    pub(crate) tables: &'a mut AutoTables,
    /// Rules for frames of the outermost ruleset; they are listed behind those that clean.
    pub(crate) ether: &'a [EtherRule],
    pub(crate) listing: &'a mut Lines,
    /// `None`: rules are not listed.
    pub(crate) form: Option<print::Form<'a>>,
}

impl Settler<'_, '_> {
    /// Settles a ruleset and those in it: rules by their kinds, each with numbers of its own. Only
    /// those that filter are optimized.
    ///
    /// # Errors
    /// A name that is too long with the number of its rule in it.
    pub(crate) fn settle(&mut self, mut rules: Vec<Rule>, depth: usize) -> Fallible<Vec<Rule>> {
        // Rules of one kind, as OpenBSD's are, need no room for a sort.
        if !rules.is_sorted_by_key(|rule| rule.kind) {
            rules.sort_by_key(|rule| rule.kind);
        }
        let others = rules.partition_point(|rule| !rule.kind.is_filter());
        // Neither way copies the rules of a ruleset that only filters.
        let filter = if others == 0 { std::mem::take(&mut rules) } else { rules.split_off(others) };
        let scrub = rules.partition_point(|rule| rule.kind == RuleKind::Scrub);
        let (scrub, translation) = rules.split_at_mut(scrub);
        self.each(scrub, depth)?;
        if depth == 0
            && let Some(form) = self.form
        {
            for (number, rule) in self.ether.iter().enumerate() {
                ether::tree(self.listing.text(), rule, (number, 0), form);
            }
        }
        for kind in translation.chunk_by_mut(|one, next| one.kind == next.kind) {
            self.each(kind, depth)?;
        }
        let made = self.tables.made.len();
        let mut filter = self.optimizer.ruleset(filter, self.tables);
        if self.form.is_some() {
            self.listing.extend(self.tables.made[made..].iter().map(print::table));
        }
        self.each(&mut filter, depth)?;
        if rules.is_empty() {
            return Ok(filter);
        }
        rules.append(&mut filter);
        Ok(rules)
    }

    fn each(&mut self, rules: &mut [Rule], depth: usize) -> Fallible<()> {
        for (number, rule) in rules.iter_mut().enumerate() {
            self.one(rule, number, depth)?;
        }
        Ok(())
    }

    fn one(&mut self, rule: &mut Rule, number: usize, depth: usize) -> Fallible<()> {
        label::number(rule, number).map_err(|_| {
            let text = "expand_label: label too long";
            Box::new(Diagnostic::fatal(Code::Label, text).title(format!(
                "a label or tag of rule {number} is too long with its number in it"
            )))
        })?;
        let below = rule.anchor.as_mut().and_then(|anchor| anchor.rules.take());
        let has_rules = below.as_ref().is_some_and(|rules| !rules.is_empty());
        if let Some(form) = self.form {
            print::opening(self.listing.text(), rule, has_rules, (number, depth), form);
        }
        if let (Some(anchor), Some(below)) = (&mut rule.anchor, below) {
            anchor.rules = Some(self.settle(below, depth + 1)?);
            if has_rules && self.form.is_some() {
                print::closing(self.listing.text(), depth);
            }
        }
        Ok(())
    }
}
