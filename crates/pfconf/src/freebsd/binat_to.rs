//! What `binat-to` wants of its addresses on FreeBSD.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `check_binat_redirspec`.

use pfapi::ruleset::{AddrMatch, Rule};

use crate::redirect::Chosen;

/// Longest name of a table that leaves its netmask empty, as pfctl keeps both in one place.
const SHORT_NAME: usize = 16;

/// Reports what one combination of a rule with `binat-to` gets wrong; `is_list` when it has more
/// than one source.
pub(crate) fn check_binat_to(
    rule: &Rule,
    nat: &Chosen,
    is_list: bool,
    mut report: impl FnMut(&str),
) {
    let source = &rule.from.addr;
    if is_list {
        report("invalid use of table as the source address of a binat-to rule");
    }
    let no_tables = "tables cannot be used as the redirect address of a binat-to rule";
    if !nat.more.is_empty() {
        report(no_tables);
    }
    match source {
        AddrMatch::Table(name) => {
            report(&format!(
                "invalid use of table <{name}> as the source address of a binat-to rule"
            ));
        }
        AddrMatch::Dynamic(dynamic) if dynamic.is_multiple() => report(&format!(
            "invalid use of interface ({}) as the source address of a binat-to rule",
            dynamic.interface
        )),
        _ if !is_address(source) || !is_address(&nat.addr) => {
            report("binat-to requires a specified source and redirect address");
        }
        _ => {}
    }
    if is_multiple(source) || is_multiple(&nat.addr) {
        report("dynamic interfaces must be used with:0 in a binat-to rule");
    }
    if has_no_mask(source) || has_no_mask(&nat.addr) {
        report("source and redir addresses must have a matching network mask in binat-rule");
    }
    if matches!(nat.addr, AddrMatch::Table(_)) {
        report(no_tables);
    }
    if rule.direction.is_some() {
        report("binat-to cannot be specified with a direction");
    }
}

const fn is_address(addr: &AddrMatch) -> bool {
    matches!(addr, AddrMatch::Any | AddrMatch::Net(_) | AddrMatch::Dynamic(_))
}

fn is_multiple(addr: &AddrMatch) -> bool {
    match addr {
        AddrMatch::Dynamic(dynamic) => dynamic.is_multiple(),
        _ => false,
    }
}

fn has_no_mask(addr: &AddrMatch) -> bool {
    match addr {
        AddrMatch::Net(prefix) => prefix.len() == 0,
        AddrMatch::Dynamic(_) | AddrMatch::Range(..) => false,
        AddrMatch::Table(name) => name.len() <= SHORT_NAME,
        _ => true,
    }
}
