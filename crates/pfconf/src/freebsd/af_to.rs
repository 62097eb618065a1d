//! `af-to`, as FreeBSD reads it.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `filter_opt`, `remove_invalid_hosts`.

use crate::diag::{Code, Diagnostic};
use crate::filter::twice;
use crate::parser::{Fallible, Pair, Rule};
use crate::pool::PoolSpec;
use crate::rules::{RuleSpec, family};
use crate::scan::Place;

/// Notes the pools of an `af_to` node. Addresses of the other family are left out of them.
///
/// # Errors
/// The message about pools that nothing is left of, a missing family, or a second such option.
pub(crate) fn af_to(
    pair: &Pair,
    here: Place,
    mut source: PoolSpec,
    mut target: Option<PoolSpec>,
    spec: &mut RuleSpec,
) -> Fallible<()> {
    let wrong = |text: &str, label: &str| {
        Box::new(Diagnostic::error(Code::Translation, text).at(&here, label))
    };
    if spec.nat.is_some() {
        return Err(twice("cannot respecify af-to", &here));
    }
    let mut af =
        pair.clone().into_inner().find(|p| p.as_rule() == Rule::family).map(|p| family(&p));
    if af.is_none() {
        let mut error = wrong("no address family specified", "the family that packets get");
        *error = error.help("write `af-to inet from …` or `af-to inet6 from …`");
        return Err(error);
    }
    for pool in std::iter::once(&mut source).chain(&mut target) {
        pool.af = af;
        pool.keep_family(&mut af);
        if pool.hosts.is_empty() {
            let text = "af-to addresses must be in the target address family";
            return Err(wrong(text, "these addresses"));
        }
    }
    spec.nat = Some(source);
    if target.is_some() {
        spec.rdr = target;
    }
    spec.af_to = true;
    spec.places.add("af-to", here);
    Ok(())
}
