//! Rulesets: what they allow is a [`Policy`], how they say it is random.

use pfapi::addr::{Af, Prefix};
use pfapi::check::{CheckedRuleset, check};
use pfapi::limit::{Limit, Limits};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Draft, InterfaceMatch, Options, Pool, PoolPorts, Rule, Scrub,
    ServerOptions, SyncookieMode, Syncookies, TableDef, TableEntry, TcpFlagsMatch, Watermarks,
    proto,
};
use pfapi::shared::Shared;
use pfapi::timeout::{Timeout, Timeouts};
use pfapi::units::Direction;

use crate::model::Translation;
use crate::rng::Rng;
use crate::router::{CLIENT_SIDE, SERVER_SIDE, translation};

/// What a ruleset allows, and its settings.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Ports of servers that may be reached.
    pub open: Vec<u16>,
    /// Answer to everything else.
    pub block: BlockAnswer,
    /// `set limit states`.
    pub states: u32,
    /// `set syncookies`; `None` keeps what is in force.
    pub syncookies: Option<Syncookies>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// `nat-to`: servers see the router instead of the clients.
    pub nat: bool,
    /// `rdr-to`: a port of the router leads to the first server.
    pub redirect: bool,
    /// `scrub (reassemble tcp)`.
    pub reassemble_tcp: bool,
}

impl Default for Policy {
    /// Port 80 is open, all else dropped; waits are short enough for a simulation.
    fn default() -> Self {
        let mut timeouts = Timeouts::default();
        timeouts.set(Timeout::TcpEstablished, 600);
        timeouts.set(Timeout::TcpClosing, 300);
        Self {
            open: vec![80],
            block: BlockAnswer::Drop,
            states: 100_000,
            syncookies: None,
            timeouts,
            nat: false,
            redirect: false,
            reassemble_tcp: false,
        }
    }
}

impl Policy {
    /// With cookies for every SYN.
    #[must_use]
    pub fn always(self, classic: bool) -> Self {
        let setting = Syncookies {
            mode: SyncookieMode::Always,
            classic,
            watermarks: None,
            ..Syncookies::default()
        };
        Self { syncookies: Some(setting), ..self }
    }

    /// Where it has cookies, with these options of servers, right or wrong.
    #[must_use]
    pub fn with_server(self, server: ServerOptions) -> Self {
        let syncookies = self.syncookies.map(|setting| {
            let server = Some(server).filter(|_| !setting.classic);
            Syncookies { server, ..setting }
        });
        Self { syncookies, ..self }
    }

    /// With cookies from `start` to `end` half-open connections.
    #[must_use]
    pub fn adaptive(self, classic: bool, start: u32, end: u32) -> Self {
        let watermarks = Some(Watermarks { start, end });
        let setting = Syncookies {
            mode: SyncookieMode::Adaptive,
            classic,
            watermarks,
            ..Syncookies::default()
        };
        Self { syncookies: Some(setting), ..self }
    }

    /// With translation of sources, of destinations, or both.
    #[must_use]
    pub fn translated(self, nat: bool, redirect: bool) -> Self {
        Self { nat, redirect, ..self }
    }

    /// Adds the rules that translate.
    fn translate(&self, rules: &mut Vec<Rule>) {
        let Translation { outer, redirected, targets } = translation();
        for at in 0..2 {
            let mut rule = Rule::new(Action::Match);
            rule.af = Some(Af::of(outer[at]));
            rule.proto = Some(proto::TCP);
            if self.nat {
                let mut rule = rule.clone();
                rule.direction = Some(Direction::Out);
                rule.interface = Some(interface(SERVER_SIDE));
                let clients = if at == 0 { "10.0.0.0/8" } else { "fd00:1::/64" };
                rule.from.addr = AddrMatch::Net(clients.parse().expect("a prefix"));
                let mut pool = Pool::new(AddrMatch::Net(Prefix::host(outer[at])));
                pool.ports = Some(PoolPorts::NAT_DEFAULT);
                rule.nat = Some(pool.into());
                rules.push(rule);
            }
            if self.redirect {
                rule.direction = Some(Direction::In);
                rule.interface = Some(interface(CLIENT_SIDE));
                rule.to.addr = AddrMatch::Net(Prefix::host(redirected[at].0));
                rule.to.port = Some(PortMatch::Equal(redirected[at].1));
                let mut pool = Pool::new(AddrMatch::Net(Prefix::host(targets[at].0)));
                pool.ports = Some(PoolPorts::Range(targets[at].1, 0));
                rule.rdr = Some(pool.into());
                rules.push(rule);
            }
        }
    }

    /// A ruleset with this meaning.
    ///
    /// # Panics
    /// When the checks refuse it.
    #[must_use]
    pub fn ruleset(&self, rng: &mut Rng) -> CheckedRuleset {
        let mut limits = Limits::default();
        limits.set(Limit::States, self.states);
        let options = Options {
            limits,
            timeouts: self.timeouts,
            syncookies: self.syncookies,
            ..Options::default()
        };
        let mut rules = vec![Rule::new(Action::Block(self.block))];
        for _ in 0..rng.below(6) {
            rules.push(idle_rule(rng));
        }
        self.translate(&mut rules);
        if self.reassemble_tcp {
            let mut rule = Rule::new(Action::Match);
            rule.direction = rng.pick(&[None, Some(Direction::In), Some(Direction::Out)]);
            rule.scrub = Scrub { reassemble_tcp: true, ..Scrub::default() };
            rules.push(rule);
        }
        for &port in &self.open {
            let mut inbound = Rule::new(Action::Pass);
            inbound.proto = Some(proto::TCP);
            inbound.flags = Some(TcpFlagsMatch::S_SA);
            inbound.to.port =
                Some(rng.pick(&[PortMatch::Equal(port), PortMatch::Range(port, port)]));
            inbound.label = Some(format!("port {port}").into());
            let in_two = rng.chance(500);
            if in_two {
                inbound.direction = Some(Direction::In);
                let mut outbound = inbound.clone();
                outbound.direction = Some(Direction::Out);
                outbound.interface = Some(interface(SERVER_SIDE));
                rules.push(outbound);
            }
            inbound.quick = rng.chance(300);
            rules.push(inbound);
            for _ in 0..rng.below(3) {
                rules.push(idle_rule(rng));
            }
        }
        let tables = vec![((), idle_table())];
        check(Draft { options, tables, rules, ..Draft::default() }).expect("the ruleset is sound")
    }
}

fn interface(name: &str) -> Shared<InterfaceMatch> {
    InterfaceMatch { negated: false, name: name.to_owned() }.into()
}

/// A network that no packet of the simulation comes from or goes to.
fn nowhere() -> Prefix {
    "203.0.113.0/24".parse().expect("a prefix")
}

fn idle_table() -> TableDef {
    TableDef {
        name: "nowhere".to_owned(),
        persist: false,
        constant: false,
        counters: false,
        entries: Some(vec![TableEntry { prefix: nowhere(), negated: false }]),
        ..TableDef::default()
    }
}

/// A rule that decides nothing here.
fn idle_rule(rng: &mut Rng) -> Rule {
    let mut rule = Rule::new(rng.pick(&[
        Action::Match,
        Action::Pass,
        Action::Block(BlockAnswer::Drop),
        Action::Block(BlockAnswer::Return),
    ]));
    rule.direction = rng.pick(&[None, Some(Direction::In), Some(Direction::Out)]);
    rule.quick = rule.action != Action::Match && rng.chance(300);
    rule.from.addr = if rng.chance(500) {
        AddrMatch::Table("nowhere".into())
    } else {
        AddrMatch::Net(nowhere())
    };
    rule
}
