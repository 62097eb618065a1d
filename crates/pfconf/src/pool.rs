//! Pools of `nat-to`, `rdr-to`, `binat-to`, `af-to` and of the routing options, before their rules
//! are expanded.
//!
//! Source: pf.conf(5) "POOLS"; OpenBSD sbin/pfctl/parse.y `redirspec`, `redirpool`, `pool_opt`,
//! `hashkey`.

use std::hash::{BuildHasher, Hasher};

use pfapi::ruleset::PoolKind;

use crate::address::{Host, World, host_item};
use crate::criteria::{PortSpan, c_number, decimal_text, pool_port};
use crate::diag::{Code, Diagnostic};
use crate::freebsd::route_hosts;
use crate::md5::md5;
use crate::parser::{Fallible, Pair, Rule, place, string};
use crate::scan::Statement;

/// A pool as written.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "words of the language, in any combination")]
pub(crate) struct PoolSpec {
    /// Addresses; empty for the destination of `af-to` without `to`.
    pub(crate) hosts: Vec<Host>,
    pub(crate) port: Option<PortSpan>,
    pub(crate) kind: Option<PoolKind>,
    pub(crate) sticky: bool,
    pub(crate) static_port: bool,
    /// `map-e-portset`: offset, length and identifier.
    pub(crate) map_e: Option<(u8, u8, u16)>,
    pub(crate) endpoint_independent: bool,
    pub(crate) prefer_ipv6_nexthop: bool,
    /// Family that `af-to` asks for.
    pub(crate) af: Option<pfapi::addr::Af>,
}

impl PoolSpec {
    /// No addresses.
    pub(crate) const fn empty() -> Self {
        Self {
            hosts: Vec::new(),
            port: None,
            kind: None,
            sticky: false,
            static_port: false,
            map_e: None,
            endpoint_independent: false,
            prefer_ipv6_nexthop: false,
            af: None,
        }
    }
}

impl PoolSpec {
    /// Leaves the addresses of the family, which the first one that has any decides where nothing
    /// else has.
    pub(crate) fn keep_family(&mut self, af: &mut Option<pfapi::addr::Af>) {
        *af = af.or_else(|| self.hosts.iter().find_map(|host| host.af));
        if let Some(af) = *af {
            self.hosts.retain(|host| host.af.is_none_or(|found| found == af));
        }
    }
}

/// Reads a `redirection` or `routing` node.
///
/// # Errors
/// The message about the first part that cannot be.
pub(crate) fn pool(world: World, statement: &Statement, pair: &Pair) -> Fallible<PoolSpec> {
    let mut spec = PoolSpec::empty();
    for part in pair.clone().into_inner() {
        match part.as_rule() {
            Rule::pool_hosts => spec.hosts = pool_hosts(world, statement, &part)?,
            Rule::route_hosts => spec.hosts = route_hosts(world, statement, &part)?,
            Rule::pool_port => {
                for value in part.into_inner() {
                    if value.as_rule() == Rule::port_value {
                        spec.port = Some(pool_port(world, statement, &value)?);
                    }
                }
            }
            Rule::pool_option => pool_option(statement, &part, &mut spec)?,
            _ => {}
        }
    }
    Ok(spec)
}

fn pool_hosts(world: World, statement: &Statement, pair: &Pair) -> Fallible<Vec<Host>> {
    let mut hosts = Vec::new();
    for part in pair.clone().into_inner().flatten() {
        if part.as_rule() != Rule::pool_host {
            continue;
        }
        let listed = pair.clone().into_inner().any(|part| part.as_rule() == Rule::pool_list);
        let found = host_item(world, statement, &part)?;
        let simple = matches!(
            found.first().map(|host| &host.addr),
            Some(pfapi::ruleset::AddrMatch::Net(_) | pfapi::ruleset::AddrMatch::Any)
        );
        if listed && hosts.is_empty() && !simple && !world.dialect.is_freebsd() {
            // The blank at the end is pfctl's.
            let text = "only addresses can be listed for redirection pools ";
            return Err(Box::new(
                Diagnostic::error(Code::Translation, text)
                    .at(&place(statement, &part), "no address")
                    .line_at(statement.next_token(part.as_span().end()))
                    .help("a table or an interface stands alone, without braces"),
            ));
        }
        hosts.extend(found);
    }
    Ok(hosts)
}

fn pool_option(statement: &Statement, pair: &Pair, spec: &mut PoolSpec) -> Fallible<()> {
    let here = place(statement, pair);
    let again = |what: &str| {
        Err(Box::new(
            Diagnostic::error(Code::Twice, format!("{what} cannot be redefined"))
                .at(&here, "given a second time"),
        ))
    };
    let Some(word) = pair.clone().into_inner().next() else { return Ok(()) };
    let kind = match word.as_rule() {
        Rule::kw_static_port => {
            if std::mem::replace(&mut spec.static_port, true) {
                return again("static-port");
            }
            return Ok(());
        }
        Rule::kw_sticky_address => {
            if std::mem::replace(&mut spec.sticky, true) {
                return again("sticky-address");
            }
            return Ok(());
        }
        Rule::kw_endpoint_independent => {
            if std::mem::replace(&mut spec.endpoint_independent, true) {
                return again("endpoint-independent");
            }
            return Ok(());
        }
        Rule::kw_prefer_ipv6_nexthop => {
            if std::mem::replace(&mut spec.prefer_ipv6_nexthop, true) {
                return again("prefer-ipv6-nexthop");
            }
            return Ok(());
        }
        Rule::map_e_portset => {
            if spec.map_e.is_some() {
                return again("map-e-portset");
            }
            spec.map_e = Some(map_e(statement, &word, spec.kind.is_some())?);
            return Ok(());
        }
        Rule::kw_bitmask => PoolKind::Bitmask,
        Rule::kw_random => PoolKind::Random,
        Rule::kw_round_robin => PoolKind::RoundRobin,
        Rule::kw_least_states => PoolKind::LeastStates,
        _ => PoolKind::SourceHash(hash_key(statement, pair)?),
    };
    if spec.kind.replace(kind).is_some() {
        return again("pool type");
    }
    Ok(())
}

/// The ports of a customer of MAP-E.
fn map_e(statement: &Statement, pair: &Pair, has_kind: bool) -> Fallible<(u8, u8, u16)> {
    let wrong = |text: &str| {
        Box::new(
            Diagnostic::error(Code::Translation, text)
                .at(&place(statement, pair), "written as offset/length/identifier"),
        )
    };
    if has_kind {
        return Err(wrong("map-e-portset cannot be used with address pools"));
    }
    let mut numbers = Vec::new();
    for word in pair.clone().into_inner().filter(|part| part.as_rule() == Rule::numstr) {
        let text = decimal_text(&word);
        numbers.push(c_number(&text).ok_or_else(|| wrong(&format!("{text} is not a number")))?);
    }
    let &[offset, len, psid] = numbers.as_slice() else { return Err(wrong("Invalid MAP-E PSID")) };
    let small = |number: u64| u8::try_from(number).ok().filter(|&number| number < 16);
    let Some(offset) = small(offset).filter(|&offset| offset > 0) else {
        return Err(wrong("MAP-E PSID offset must be 1-15"));
    };
    let Some(len) = small(len).filter(|&len| offset + len <= 16) else {
        return Err(wrong("Invalid MAP-E PSID length"));
    };
    if len == 0 {
        return Err(wrong("PSID Length = 0: this means you do not need MAP-E"));
    }
    let psid = u16::try_from(psid).map_err(|_| wrong("Invalid MAP-E PSID"))?;
    Ok((offset, len, psid))
}

/// The key of `source-hash`: hexadecimal, the digest of a text, or random.
fn hash_key(statement: &Statement, pair: &Pair) -> Fallible<[u32; 4]> {
    let words: Vec<String> = pair
        .clone()
        .into_inner()
        .filter(|part| part.as_rule() == Rule::string)
        .map(|part| string(&part))
        .collect();
    if words.is_empty() {
        return Ok(random_key());
    }
    let text = words.join(" ");
    let wrong = |message: &str| {
        Box::new(
            Diagnostic::error(Code::Translation, message)
                .at(&place(statement, pair), "this key")
                .help("a key is `0x` and 32 hexadecimal digits, or any other word"),
        )
    };
    if let Some(digits) = text.strip_prefix("0x") {
        if text.len() != 34 {
            return Err(wrong("hex key must be 128 bits (32 hex digits) long"));
        }
        let key = u128::from_str_radix(digits, 16).map_err(|_| wrong("invalid hex key"))?;
        return Ok(words_of(key.to_be_bytes()));
    }
    Ok(words_of(md5(text.as_bytes())))
}

fn words_of(octets: [u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, four) in words.iter_mut().zip(octets.chunks_exact(4)) {
        *word = four.iter().fold(0, |word, &octet| word << 8 | u32::from(octet));
    }
    words
}

/// A key that nobody knows, from the seeds that the standard library takes from the system.
fn random_key() -> [u32; 4] {
    let mut key = [0; 4];
    for pair in key.chunks_exact_mut(2) {
        let random = std::hash::RandomState::new().build_hasher().finish();
        pair[0] = (random >> 32) as u32;
        pair[1] = (random & 0xffff_ffff) as u32;
    }
    key
}
