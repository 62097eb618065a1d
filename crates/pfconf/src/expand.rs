//! Expands the lists of a rule: one rule for each combination.
//!
//! Order, outermost first: interface, protocol, ICMP type, source, destination, source port,
//! destination port, system, user, group. Combinations of two families are left out. Source:
//! OpenBSD sbin/pfctl/parse.y `expand_rule`, `rule_consistent`.

use std::collections::BTreeSet;

use pfapi::addr::Af;
use pfapi::check::{LABEL_MAX, RULES_MAX, TAG_MAX, check_rule};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    AddrMatch, Endpoint, IcmpMatch, IdMatch, InterfaceMatch, Pool, RdomainMatch, Route, Rule,
    RuleKind, StatePolicy, proto,
};
use pfapi::units::Direction;

use crate::address::{Host, HostWords, World};
use crate::dialect::Dialect;
use crate::faults::Faults;
use crate::fingerprint::{Fingerprints, OsMatch};
use crate::freebsd::check_binat_to;
use crate::label::fill;
use crate::pool::PoolSpec;
use crate::redirect::{AutoTables, Chosen, Purpose, apply, collapse};
use crate::rules::{On, RuleSpec};

/// The lists of a rule; an empty one stands for "any", once.
#[derive(Clone, Copy)]
struct Lists<'s> {
    interfaces: &'s [On],
    protocols: &'s [u8],
    icmp: &'s [IcmpMatch],
    from: &'s [Host],
    to: &'s [Host],
    from_ports: &'s [PortMatch],
    to_ports: &'s [PortMatch],
    systems: &'s [String],
    users: &'s [IdMatch],
    groups: &'s [IdMatch],
}

/// From here on a list of rules grows by a quarter, and not to twice its length.
const MANY: usize = 1_000;

/// How many lists there are.
const LISTS: usize = 10;

/// Lists from the outermost to the innermost, as places in [`Lists::lengths`].
const fn order(dialect: Dialect) -> [usize; LISTS] {
    match dialect {
        Dialect::OpenBsd => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        // Source, its port and its system, then the destination and its port.
        Dialect::FreeBsd | Dialect::MacOs => [0, 1, 2, 3, 5, 7, 4, 6, 8, 9],
    }
}

impl Lists<'_> {
    const fn lengths(&self) -> [usize; LISTS] {
        [
            self.interfaces.len(),
            self.protocols.len(),
            self.icmp.len(),
            self.from.len(),
            self.to.len(),
            self.from_ports.len(),
            self.to_ports.len(),
            self.systems.len(),
            self.users.len(),
            self.groups.len(),
        ]
    }
}

/// The pools of a rule.
#[derive(Clone, Copy)]
struct Pools<'s> {
    nat: Option<&'s PoolSpec>,
    rdr: Option<&'s PoolSpec>,
    route: Option<&'s PoolSpec>,
    binat: bool,
}

/// Where expanded rules go.
pub(crate) struct Target<'t> {
    /// The ruleset that the rule is in.
    pub(crate) rules: &'t mut Vec<Rule>,
    pub(crate) tables: &'t mut AutoTables,
    /// Combinations so far, of all rulesets together: what they cost is bounded, whether they
    /// become rules or not.
    pub(crate) looked_at: &'t mut usize,
    /// Database for `os`.
    pub(crate) fingerprints: Option<&'t Fingerprints>,
}

struct Expander<'t, 's> {
    world: World<'s>,
    spec: &'s RuleSpec,
    target: Target<'t>,
    faults: Faults,
    /// Dynamic addresses that were in rules for IPv4: whether they are of the destination, and
    /// their place in the list.
    shortened: BTreeSet<(bool, usize)>,
}

/// Appends the rules that `spec` stands for, and gives what is wrong with them.
pub(crate) fn expand(world: World, spec: &RuleSpec, target: Target) -> Faults {
    let lists = Lists {
        interfaces: &spec.interfaces,
        protocols: &spec.protocols,
        icmp: spec.icmp.as_ref().map(|(_, types)| types.as_slice()).unwrap_or_default(),
        from: &spec.from.hosts,
        to: &spec.to.hosts,
        from_ports: &spec.from.ports,
        to_ports: &spec.to.ports,
        systems: &spec.systems,
        users: &spec.users,
        groups: &spec.groups,
    };
    let pools = Pools {
        nat: spec.nat.as_ref(),
        rdr: spec.rdr.as_ref(),
        route: spec.route.as_ref().map(|(_, pool)| pool),
        binat: spec.binat,
    };
    let mut faults = Faults::default();
    let count = lists.lengths().into_iter().fold(1_usize, |n, len| n.saturating_mul(len.max(1)));
    if count.saturating_add(*target.looked_at) > RULES_MAX {
        faults.too_many(count, *target.looked_at);
        return faults;
    }
    // A list that outweighs all rules before it gets the room that it needs, and no more.
    if count > target.rules.len().max(8) {
        target.rules.reserve_exact(count);
    }
    if target.rules.len() >= MANY && target.rules.len() + count > target.rules.capacity() {
        target.rules.reserve_exact(count.max(target.rules.len() / 4));
    }
    let shortened = BTreeSet::new();
    let mut expander = Expander { world, spec, target, faults, shortened };
    expander.all(&spec.rule, lists, pools);
    expander.faults
}

impl Expander<'_, '_> {
    /// Expands lists; nothing added is a fault.
    fn all(&mut self, template: &Rule, lists: Lists, pools: Pools) {
        let lengths = lists.lengths();
        let mut at = [0; LISTS];
        let mut wrong = false;
        let mut added = false;
        loop {
            if *self.target.looked_at >= RULES_MAX {
                self.faults.too_many(RULES_MAX, *self.target.looked_at);
                return;
            }
            *self.target.looked_at += 1;
            self.one(template, lists, at, pools, &mut wrong, &mut added);
            let full = self.target.tables.is_full();
            let end = full || self.faults.is_fatal();
            if end || !next(&mut at, lengths, order(self.world.dialect)) {
                break;
            }
        }
        if !added && !self.faults.is_fatal() {
            self.faults.nothing_left();
        }
    }

    /// One combination. `wrong` stays set once something was wrong, as in pfctl.
    fn one(
        &mut self,
        template: &Rule,
        lists: Lists,
        at: [usize; LISTS],
        pools: Pools,
        wrong: &mut bool,
        added: &mut bool,
    ) {
        let mut rule = template.clone();
        let asked = rule.af;
        let rdr = self.pool(pools.rdr, &mut rule, Purpose::Target, wrong);
        let source = if rule.kind == RuleKind::Binat { Purpose::Both } else { Purpose::Source };
        let nat = self.pool(pools.nat, &mut rule, source, wrong);
        let route = self.pool(pools.route, &mut rule, Purpose::Route, wrong);
        let any = Host::any();
        let from = lists.from.get(at[3]).unwrap_or(&any);
        let to = lists.to.get(at[4]).unwrap_or(&any);
        if from.rare.via.is_some() || to.rare.via.is_some() {
            self.fault("@if syntax not permitted in from or to", wrong);
        }
        if !place(&mut rule, lists.interfaces.get(at[0]), from, to) {
            return;
        }
        rule.proto = lists.protocols.get(at[1]).copied();
        rule.icmp = lists.icmp.get(at[2]).copied();
        rule.from = end(from, lists.from_ports.get(at[5]), rule.af);
        rule.to = end(to, lists.to_ports.get(at[6]), rule.af);
        if self.world.dialect.is_freebsd() {
            self.shorten(&mut rule.from, rule.af, (false, at[3]));
            self.shorten(&mut rule.to, rule.af, (true, at[4]));
        }
        self.owners(&mut rule, lists, at);
        if !self.fill_names(&mut rule) {
            return;
        }
        if rule.af == Some(Af::Inet) {
            for len in [from.rare.too_long, to.rare.too_long].into_iter().flatten() {
                *wrong = true;
                self.faults.netmask(len);
            }
        }
        let tcp = rule.proto.is_none_or(|number| number == proto::TCP);
        if !tcp {
            rule.flags = None;
            if matches!(rule.state, StatePolicy::Modulate | StatePolicy::Synproxy) {
                rule.state = StatePolicy::Keep;
            }
        }
        if let (Some((af, _)), true) = (&self.spec.icmp, rule.icmp.is_some()) {
            let wanted = if *af == Af::Inet { proto::ICMP } else { proto::ICMPV6 };
            if rule.proto != Some(wanted) {
                self.fault("icmp-type mismatch", wrong);
            }
        }
        let direction = rule.direction;
        if pools.binat {
            if let (Some(nat), true) = (&nat, self.world.dialect.is_freebsd()) {
                let is_list = at[3] + 1 < lists.from.len();
                check_binat_to(&rule, nat, is_list, |text| self.fault(text, wrong));
            } else {
                self.check_binat(&rule, nat.as_ref().map(|nat| &nat.addr), asked, wrong);
            }
            rule.direction = Some(Direction::Out);
        }
        let port = rule.to.port;
        let nat = self.applied(pools.nat, nat, source, port, wrong);
        let rdr = self.applied(pools.rdr, rdr, Purpose::Target, port, wrong);
        let route = self.applied(pools.route, route, Purpose::Route, port, wrong);
        let kind = self.spec.route.as_ref().map(|&(kind, _)| kind);
        let route = kind.zip(route).map(|(kind, pool)| Route { kind, pool });
        translate(&mut rule, nat, rdr, route);
        let openbsd = self.world.dialect == Dialect::OpenBsd;
        if self.world.dialect != Dialect::MacOs
            && rule.state == StatePolicy::Synproxy
            && rule.direction != Some(Direction::In)
        {
            self.faults.synproxy_outbound();
        }
        let mut inconsistent = false;
        check_rule(&rule, self.world.dialect, &mut |mistake| {
            inconsistent = true;
            self.faults.note(mistake.to_string(), Some(mistake));
        });
        let sticky = rule.route.as_ref().is_some_and(|route| route.pool.sticky);
        if !openbsd && sticky && rule.state == StatePolicy::None {
            // The rule is kept, and the file refused.
            self.faults.note("'sticky-address' requires 'keep state'".to_owned(), None);
        }
        if inconsistent || *wrong {
            self.faults.line("skipping rule due to errors".to_owned());
        } else {
            *added = true;
            share(&mut rule, self.target.rules.last());
            if !pools.binat {
                self.target.rules.push(rule);
                return;
            }
            self.target.rules.push(rule.clone());
        }
        if pools.binat && !*wrong {
            rule.direction = direction;
            self.inbound(rule, from, lists, at, pools);
        }
    }

    /// The rule for what comes in to the address that `binat-to` gives.
    fn inbound(
        &mut self,
        mut rule: Rule,
        from: &Host,
        lists: Lists,
        at: [usize; LISTS],
        pools: Pools,
    ) {
        let (Some(nat), Some(spec)) = (rule.nat.take(), pools.nat) else { return };
        rule.direction = Some(Direction::In);
        rule.rdr = None;
        rule.route = None;
        let rare = HostWords { via: None, weight: None, ..(*from.rare).clone() };
        let inside = Host { addr: rule.from.addr.clone(), rare: rare.into(), ..from.clone() };
        let back = PoolSpec { hosts: vec![inside], static_port: false, ..spec.clone() };
        let outside = [Host { addr: nat.addr.clone(), ..Host::any() }];
        // As in pfctl, lists go on from where the outbound rule is in them.
        let lists = Lists {
            interfaces: rest(lists.interfaces, at[0]),
            protocols: rest(lists.protocols, at[1]),
            icmp: rest(lists.icmp, at[2]),
            from: match lists.to.get(at[4]) {
                Some(Host { addr: AddrMatch::Dynamic(_), .. }) => &lists.to[at[4]..=at[4]],
                _ => rest(lists.to, at[4]),
            },
            to: &outside,
            from_ports: rest(lists.to_ports, at[6]),
            to_ports: rest(lists.from_ports, at[5]),
            systems: rest(lists.systems, at[7]),
            users: rest(lists.users, at[8]),
            groups: rest(lists.groups, at[9]),
        };
        let pools = Pools { nat: None, rdr: Some(&back), route: None, binat: false };
        self.all(&rule, lists, pools);
    }

    /// A dynamic address that was in a rule for IPv4 keeps the prefix length of that family in the
    /// rules after it, as in FreeBSD's pfctl.
    fn shorten(&mut self, end: &mut Endpoint, af: Option<Af>, item: (bool, usize)) {
        let AddrMatch::Dynamic(dynamic) = &mut end.addr else { return };
        if af == Some(Af::Inet) && dynamic.prefix_len.is_none() {
            self.shortened.insert(item);
        } else if self.shortened.contains(&item) {
            dynamic.prefix_len = Some(32);
        }
    }

    /// The system of a combination, and whose its socket is.
    fn owners(&self, rule: &mut Rule, lists: Lists, at: [usize; LISTS]) {
        if let Some(name) = lists.systems.get(at[7]) {
            rule.rare.os = Some(self.os(name).to_string());
        }
        if let Some(&user) = lists.users.get(at[8]) {
            rule.rare.user = Some(user);
        }
        if let Some(&group) = lists.groups.get(at[9]) {
            rule.rare.group = Some(group);
        }
    }

    /// What a name behind `os` means; without a database none is known.
    fn os(&self, name: &str) -> OsMatch {
        self.target.fingerprints.map_or(OsMatch::NoMatch, |known| known.find(name))
    }

    fn fault(&mut self, text: &str, wrong: &mut bool) {
        *wrong = true;
        self.faults.note(text.to_owned(), None);
    }

    fn pool(
        &mut self,
        spec: Option<&PoolSpec>,
        rule: &mut Rule,
        purpose: Purpose,
        wrong: &mut bool,
    ) -> Option<Chosen> {
        let dialect = self.world.dialect;
        collapse(spec, rule, purpose, dialect, self.target.tables).unwrap_or_else(|text| {
            self.fault(&text, wrong);
            Some(Chosen::of(AddrMatch::Any))
        })
    }

    fn applied(
        &mut self,
        spec: Option<&PoolSpec>,
        addr: Option<Chosen>,
        purpose: Purpose,
        target_port: Option<PortMatch>,
        wrong: &mut bool,
    ) -> Option<Pool> {
        match apply(spec?, addr?, purpose, self.world.dialect.is_freebsd(), target_port) {
            Ok(pool) => Some(pool),
            Err(text) => {
                self.fault(&text, wrong);
                Some(Pool::new(AddrMatch::Any))
            }
        }
    }

    fn check_binat(
        &mut self,
        rule: &Rule,
        nat: Option<&AddrMatch>,
        asked: Option<Af>,
        wrong: &mut bool,
    ) {
        let Some(nat) = nat else { return };
        let multiple = |addr: &AddrMatch| match addr {
            AddrMatch::Dynamic(dynamic) => dynamic.is_multiple(),
            _ => false,
        };
        let fixed = |addr: &AddrMatch| {
            matches!(addr, AddrMatch::Any | AddrMatch::Net(_) | AddrMatch::Dynamic(_))
        };
        let source = &rule.from.addr;
        match source {
            AddrMatch::Table(name) => self.fault(
                &format!("invalid use of table <{name}> as the source address of a binat-to rule"),
                wrong,
            ),
            AddrMatch::Dynamic(dynamic) if dynamic.is_multiple() => self.fault(
                &format!(
                    "invalid use of interface ({}) as the source address of a binat-to rule",
                    dynamic.interface
                ),
                wrong,
            ),
            _ if !fixed(source) || !fixed(nat) => {
                self.fault("binat-to requires a specified source and redirect address", wrong);
            }
            _ => {}
        }
        if multiple(source) || multiple(nat) {
            self.fault("dynamic interfaces must be used with :0 in a binat-to rule", wrong);
        }
        let maskless = |addr: &AddrMatch| {
            !matches!(addr, AddrMatch::Net(_) | AddrMatch::Dynamic(_) | AddrMatch::Range(..))
        };
        if asked.is_some() && (maskless(source) || maskless(nat)) {
            // The spelling is pfctl's.
            let text = "source and redir addresess must have a matching network mask in binat-rule";
            self.fault(text, wrong);
        }
        if matches!(nat, AddrMatch::Table(_)) {
            let text = "tables cannot be used as the redirect address of a binat-to rule";
            self.fault(text, wrong);
        }
        if rule.direction.is_some() {
            self.fault("binat-to cannot be specified with a direction", wrong);
        }
    }

    /// Replaces the macros of labels and tags; `false` where the result is too long.
    fn fill_names(&mut self, rule: &mut Rule) -> bool {
        let sources = self.world.sources;
        let mut fits = true;
        // What has no macros in it stays shared, and so does what is not written to.
        let mut filled = |template: &str, max: usize, rule: &Rule| {
            let text = fill(template, rule, sources);
            fits &= text.as_deref().unwrap_or(template).len() <= max;
            text
        };
        if let Some(text) = rule.label.as_ref().and_then(|label| filled(label, LABEL_MAX, rule)) {
            rule.label = Some(text.into());
        }
        if rule.label.as_ref().is_some_and(|label| label.is_empty()) {
            rule.label = None;
        }
        if !rule.freebsd.more_labels.is_empty() {
            for label in std::mem::take(&mut rule.freebsd.more_labels) {
                let label = filled(&label, LABEL_MAX, rule).unwrap_or(label);
                rule.freebsd.more_labels.push(label);
            }
        }
        if let Some(text) = rule.tag.as_ref().and_then(|tag| filled(tag, TAG_MAX, rule)) {
            rule.tag = Some(text.into());
        }
        if rule.tag.as_ref().is_some_and(|tag| tag.is_empty()) {
            rule.tag = None;
        }
        let tagged = rule.tagged.as_ref().map(|tagged| tagged.name.as_str());
        if let Some(name) = tagged.and_then(|name| filled(name, TAG_MAX, rule))
            && let Some(tagged) = &mut rule.tagged
        {
            tagged.name = name;
        }
        if rule.tagged.as_ref().is_some_and(|tagged| tagged.name.is_empty()) {
            rule.tagged = None;
        }
        if !fits {
            self.faults.label_too_long();
        }
        fits
    }
}

/// Gives a rule its pools. What is not said must not take room, and stays shared.
fn translate(rule: &mut Rule, nat: Option<Pool>, rdr: Option<Pool>, route: Option<Route>) {
    if let Some(pool) = nat {
        rule.nat = Some(pool.into());
    }
    if let Some(pool) = rdr {
        rule.rdr = Some(pool.into());
    }
    if let Some(route) = route {
        rule.route = Some(route.into());
    }
}

/// Makes a rule share with the one before it what is the same in both.
fn share(rule: &mut Rule, before: Option<&Rule>) {
    let Some(before) = before else { return };
    rule.common.join(&before.common);
    if let (Some(interface), Some(before)) = (&mut rule.interface, &before.interface) {
        interface.join(before);
    }
}

/// The list from where an item of it is; an empty one stays so.
fn rest<T>(list: &[T], at: usize) -> &[T] {
    list.get(at..).unwrap_or_default()
}

/// Moves on to the next combination, the last list first.
fn next(at: &mut [usize; LISTS], lengths: [usize; LISTS], order: [usize; LISTS]) -> bool {
    for list in order.into_iter().rev() {
        at[list] += 1;
        if at[list] < lengths[list] {
            return true;
        }
        at[list] = 0;
    }
    false
}

/// Sets family and interface; `false` where the addresses do not go together.
fn place(rule: &mut Rule, on: Option<&On>, from: &Host, to: &Host) -> bool {
    for fixed in [from.af, to.af].into_iter().flatten() {
        if *rule.af.get_or_insert(fixed) != fixed {
            return false;
        }
    }
    let negated = match on {
        Some(On::Interface(interface)) => {
            // The empty name stands for no interface.
            rule.interface = Some(interface.clone()).filter(|found| !found.name.is_empty());
            interface.negated
        }
        Some(&On::Rdomain { negated, id }) => {
            rule.interface = None;
            rule.rare.rdomain = Some(RdomainMatch { negated, id });
            negated
        }
        None => {
            if !matches!((&from.rare.scope, &to.rare.scope), (None, None)) {
                rule.interface = None;
            }
            false
        }
    };
    for scope in [&from.rare.scope, &to.rare.scope].into_iter().flatten() {
        match &rule.interface {
            Some(interface) if interface.name != *scope => return false,
            Some(_) => {}
            None => {
                let interface = InterfaceMatch { negated, name: scope.clone() };
                rule.interface = Some(interface.into());
            }
        }
    }
    true
}

fn end(host: &Host, port: Option<&PortMatch>, af: Option<Af>) -> Endpoint {
    let mut addr = host.addr.clone();
    if let AddrMatch::Dynamic(dynamic) = &mut addr
        && af == Some(Af::Inet)
        && dynamic.prefix_len.is_some_and(|len| len >= 32)
    {
        dynamic.prefix_len = None;
    }
    Endpoint { negated: host.negated, addr, port: port.copied() }
}
