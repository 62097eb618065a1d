//! Rulesets: what they allow is a [`Policy`], how they say it is random.

use pfapi::addr::Prefix;
use pfapi::check::{CheckedRuleset, check};
use pfapi::limit::{Limit, Limits};
use pfapi::port::PortMatch;
use pfapi::ruleset::{
    Action, AddrMatch, BlockAnswer, Draft, InterfaceMatch, Options, Rule, SyncookieMode,
    Syncookies, TableDef, TableEntry, TcpFlagsMatch, Watermarks, proto,
};
use pfapi::timeout::{Timeout, Timeouts};
use pfapi::units::Direction;

use crate::rng::Rng;
use crate::router::SERVER_SIDE;

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
        for &port in &self.open {
            let mut inbound = Rule::new(Action::Pass);
            inbound.proto = Some(proto::TCP);
            inbound.flags = Some(TcpFlagsMatch::S_SA);
            inbound.to.port =
                Some(rng.pick(&[PortMatch::Equal(port), PortMatch::Range(port, port)]));
            inbound.label = Some(format!("port {port}"));
            let in_two = rng.chance(500);
            if in_two {
                inbound.direction = Some(Direction::In);
                let mut outbound = inbound.clone();
                outbound.direction = Some(Direction::Out);
                outbound.interface =
                    Some(InterfaceMatch { negated: false, name: SERVER_SIDE.to_owned() });
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
        AddrMatch::Table("nowhere".to_owned())
    } else {
        AddrMatch::Net(nowhere())
    };
    rule
}
