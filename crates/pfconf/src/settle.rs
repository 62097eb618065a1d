//! From expanded rules to the ruleset that is loaded: optimized, numbered, listed.
//!
//! Rulesets are settled from the outside in, as pfctl loads them: that is the order of automatic
//! tables and of the listing. Source: OpenBSD sbin/pfctl/pfctl.c `pfctl_load_ruleset`,
//! sbin/pfctl/parse.y `pfctl_expand_label_nr`.

use pfapi::ruleset::Rule;

use crate::compile::Compiled;
use crate::diag::{Code, Diagnostic};
use crate::label;
use crate::optimize::Optimizer;
use crate::print;
use crate::redirect::AutoTables;
use crate::source::Sources;

/// What settling needs, and what it fills.
pub(crate) struct Settler<'a, 'o> {
    pub(crate) optimizer: &'a mut Optimizer<'o>,
    pub(crate) sources: &'a dyn Sources,
    pub(crate) tables: &'a mut AutoTables,
    pub(crate) compiled: &'a mut Compiled,
}

impl Settler<'_, '_> {
    /// Settles a ruleset and those in it.
    ///
    /// # Errors
    /// A name that is too long with the number of its rule in it.
    pub(crate) fn settle(
        &mut self,
        rules: Vec<Rule>,
        depth: usize,
    ) -> Result<Vec<Rule>, Diagnostic> {
        let made = self.tables.made.len();
        let mut rules = self.optimizer.ruleset(rules, self.tables);
        for table in &self.tables.made[made..] {
            self.compiled.both(vec![print::table(table)]);
        }
        for (number, rule) in rules.iter_mut().enumerate() {
            self.one(rule, number, depth)?;
        }
        Ok(rules)
    }

    fn one(&mut self, rule: &mut Rule, number: usize, depth: usize) -> Result<(), Diagnostic> {
        label::number(rule, number).map_err(|_| {
            Diagnostic::fatal(Code::Label, "expand_label: label too long")
                .title(format!("a label or tag of rule {number} is too long with its number in it"))
        })?;
        let below = rule.anchor.as_mut().and_then(|anchor| anchor.rules.take());
        let has_rules = below.as_ref().is_some_and(|rules| !rules.is_empty());
        let Compiled { listing, numbered, .. } = self.compiled;
        print::opening(rule, has_rules, (number, depth), self.sources, listing, numbered);
        if let (Some(anchor), Some(below)) = (&mut rule.anchor, below) {
            anchor.rules = Some(self.settle(below, depth + 1)?);
            if has_rules {
                self.compiled.both(vec![format!("{}}}", "  ".repeat(depth))]);
            }
        }
        Ok(())
    }
}
