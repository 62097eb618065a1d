//! The packet log: records as readers of pflog(4) know them.
//!
//! Records wait in a buffer of fixed size until the caller drains it; when it is full, records
//! are lost and counted, and packets go on.
//! Source: OpenBSD sys/net/if_pflog.h, if_pflog.c `pflog_packet`.

use pfapi::addr::Af;
use pfapi::facts::Facts;
use pfapi::reason::Reason;
use pfapi::ruleset::{Action, RuleKind};
use pfapi::units::Direction;

use crate::nat::low32;
use crate::packet::Packet;
use crate::rules::{Addresses, LoadedRule};

/// What the first octet of the header says of its length.
const LENGTH: u8 = 100;
/// Octets of the header of a record.
pub const PFLOG_HEADER: usize = LENGTH as usize;
/// Octets of a packet that are kept: a whole one of an ordinary link.
const SNAP: usize = 2_048;
/// Octets of records that wait at most: every packet of a full batch, logged once.
const BUFFER: usize = 64 * (PFLOG_HEADER + SNAP);

/// Address families as OpenBSD numbers them, which tcpdump knows everywhere.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 24;
/// Actions of rules. Source: OpenBSD sys/net/pfvar.h `PF_PASS` and its neighbours.
const ACTION_PASS: u8 = 0;
const ACTION_BLOCK: u8 = 1;
const ACTION_NAT: u8 = 4;
const ACTION_BINAT: u8 = 6;
const ACTION_RDR: u8 = 8;
const ACTION_MATCH: u8 = 12;
/// Rule number of the default rule, and of "no rule inside an anchor".
const NO_NUMBER: u32 = u32::MAX;
const NO_UID: u32 = u32::MAX;
const NO_PID: u32 = 100_000;
/// Octets of the fields for names; the last one is zero.
const NAME: usize = 16;

/// One record of the packet log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// N of the `pflogN` that gets it.
    pub interface: u8,
    /// Header and the packet's first octets, as they stand in a file of link type 117.
    pub octets: &'a [u8],
    /// Octets of header and whole packet.
    pub len: usize,
}

/// Why a packet is logged.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    /// N of the `pflogN` that gets the record.
    pub interface: u8,
    /// The rule.
    pub rule: &'a LoadedRule,
    /// The anchor rule around it.
    pub anchor: Option<&'a LoadedRule>,
    /// What was decided.
    pub reason: Reason,
    /// User that owns the packet's socket, when the rule asks and it is known.
    pub uid: Option<u32>,
    /// Addresses after translation, when there is any.
    pub rewritten: Option<Addresses>,
}

/// Records that wait for the caller.
#[derive(Debug)]
pub struct LogBuffer {
    octets: Vec<u8>,
    /// Interface, length in `octets` and true length of each record.
    records: Vec<(u8, usize, usize)>,
    lost: u64,
}

impl LogBuffer {
    /// An empty buffer; it never grows.
    pub fn new() -> Self {
        let records = BUFFER / (PFLOG_HEADER + 20);
        Self { octets: Vec::with_capacity(BUFFER), records: Vec::with_capacity(records), lost: 0 }
    }

    /// Adds a record about a packet as it is now.
    pub fn add(&mut self, packet: &Packet, facts: &Facts, cause: &Cause<'_>) {
        let data = packet.data();
        let kept = &data[..data.len().min(SNAP)];
        let len = PFLOG_HEADER + kept.len();
        let full =
            self.octets.len() + len > BUFFER || self.records.len() == self.records.capacity();
        if full {
            self.lost += 1;
            return;
        }
        self.octets.extend_from_slice(&header(packet, facts, cause));
        self.octets.extend_from_slice(kept);
        self.records.push((cause.interface, len, PFLOG_HEADER + data.len()));
    }

    /// Whether there is anything to drain.
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.lost == 0
    }

    /// Hands out every record in order; gives how many were lost since the last call.
    pub fn drain(&mut self, mut each: impl FnMut(LogRecord<'_>)) -> u64 {
        let mut rest = &self.octets[..];
        for &(interface, kept, len) in &self.records {
            let (octets, behind) = rest.split_at(kept);
            rest = behind;
            each(LogRecord { interface, octets, len });
        }
        self.octets.clear();
        self.records.clear();
        core::mem::take(&mut self.lost)
    }
}

/// The header of a record; what OpenBSD writes in host order is little-endian.
fn header(packet: &Packet, facts: &Facts, cause: &Cause<'_>) -> [u8; PFLOG_HEADER] {
    let is_v6 = packet.data().first().is_some_and(|first| first >> 4 == 6);
    let family = number_of(if is_v6 { Af::Inet6 } else { Af::Inet });
    let number = cause.rule.listed.unwrap_or(NO_NUMBER);
    let (rule, subrule) = match cause.anchor {
        Some(anchor) => (anchor.listed.unwrap_or(NO_NUMBER), number),
        None => (number, NO_NUMBER),
    };
    let mut header = [0; PFLOG_HEADER];
    header[0] = LENGTH;
    header[1] = family;
    header[2] = action(cause);
    header[3] = cause.reason as u8;
    let interface = facts.interfaces.get(usize::from(packet.meta.interface.0));
    put_name(&mut header, 4, interface.map_or("", |interface| &interface.name));
    if cause.anchor.is_some() {
        put_name(&mut header, 20, cause.rule.path.rsplit('/').next().unwrap_or_default());
    }
    put(&mut header, 36, rule.to_be_bytes());
    put(&mut header, 40, subrule.to_be_bytes());
    put(&mut header, 44, cause.uid.unwrap_or(NO_UID).to_le_bytes());
    put(&mut header, 48, NO_PID.to_le_bytes());
    put(&mut header, 52, cause.rule.loader.uid.to_le_bytes());
    put(&mut header, 56, cause.rule.loader.pid.to_le_bytes());
    header[60] = match packet.meta.direction {
        Direction::In => 1,
        Direction::Out => 2,
    };
    header[62] = family;
    if let Some(new) = cause.rewritten {
        header[61] = 1;
        header[62] = number_of(new.af);
        for (at, addr) in [(64, new.src), (80, new.dst)] {
            match new.af {
                Af::Inet => put(&mut header, at, low32(addr).to_be_bytes()),
                Af::Inet6 => put(&mut header, at, addr.0.to_be_bytes()),
            }
        }
        put(&mut header, 96, new.sport.to_be_bytes());
        put(&mut header, 98, new.dport.to_be_bytes());
    }
    header
}

/// The number of a family in a record.
const fn number_of(af: Af) -> u8 {
    match af {
        Af::Inet => AF_INET,
        Af::Inet6 => AF_INET6,
    }
}

/// What became of the packet, as far as the record tells: any reason but `match` is that of a drop.
fn action(cause: &Cause<'_>) -> u8 {
    if cause.reason != Reason::Match {
        return ACTION_BLOCK;
    }
    match (cause.rule.rule.kind, cause.rule.rule.action) {
        (RuleKind::Nat, _) => ACTION_NAT,
        (RuleKind::Binat, _) => ACTION_BINAT,
        (RuleKind::Rdr, _) => ACTION_RDR,
        (_, Action::Pass) => ACTION_PASS,
        (_, Action::Block(_)) => ACTION_BLOCK,
        (_, Action::Match) => ACTION_MATCH,
    }
}

fn put<const N: usize>(header: &mut [u8], at: usize, value: [u8; N]) {
    header[at..at + N].copy_from_slice(&value);
}

fn put_name(header: &mut [u8], at: usize, name: &str) {
    let name = &name.as_bytes()[..name.len().min(NAME - 1)];
    header[at..at + name.len()].copy_from_slice(name);
}
