//! Which operating system sent a SYN.
//!
//! Source: OpenBSD sys/net/pf_osfp.c `pf_osfp_fingerprint_hdr`, `pf_osfp_find`.

use std::collections::BTreeMap;

use pfapi::addr::Af;
use pfapi::osfp::{Fingerprint, OPTIONS_MAX, OsName, Quantity, TcpOption, WindowSize};

use crate::packet_desc::{PacketDesc, Transport};
use crate::wire::build::TCP_HEADER;
use crate::wire::build::flags::{ACK, SYN};
use crate::wire::bytes::{be16, be32};
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER};

/// Most hops between the sender and here.
const HOPS_MAX: u8 = 40;

/// What a SYN tells of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SynFacts {
    af: Af,
    window: u16,
    ttl: u8,
    dont_fragment: bool,
    /// As an IPv4 packet.
    size: u16,
    options: [TcpOption; OPTIONS_MAX],
    count: usize,
    mss: u16,
    wscale: u16,
    timestamp_zero: bool,
}

impl SynFacts {
    /// Reads a SYN; `None` for other packets and for options that no fingerprint knows.
    pub fn read(data: &[u8], desc: &PacketDesc) -> Option<Self> {
        let Transport::Tcp(tcp) = desc.transport else { return None };
        if tcp.flags & (SYN | ACK) != SYN {
            return None;
        }
        let total = u16::try_from(desc.total).ok()?;
        let (ttl, dont_fragment, size) = match desc.af {
            Af::Inet => (*data.get(8)?, data.get(6)? & 0x40 != 0, total),
            // The header of IPv6 is 20 octets longer.
            Af::Inet6 => {
                (*data.get(7)?, true, total - u16::try_from(IPV6_HEADER - IPV4_HEADER).ok()?)
            }
        };
        let mut facts = Self {
            af: desc.af,
            window: tcp.window,
            ttl,
            dont_fragment,
            size,
            options: [TcpOption::NoOperation; OPTIONS_MAX],
            count: 0,
            mss: 0,
            wscale: 0,
            timestamp_zero: false,
        };
        facts.read_options(data.get(desc.l4 + TCP_HEADER..desc.l4 + tcp.header)?)?;
        Some(facts)
    }

    fn read_options(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some(&kind) = rest.first() {
            let (option, length) = match kind {
                // End of the list.
                0 => break,
                1 => (TcpOption::NoOperation, 1),
                _ => {
                    let length = usize::from(*rest.get(1)?);
                    if length < 2 || length > rest.len() {
                        return None;
                    }
                    let option = match kind {
                        // An option that is too short for its value has none.
                        2 => {
                            self.mss = if length < 4 { 0 } else { be16(rest, 2)? };
                            TcpOption::MaximumSegmentSize
                        }
                        3 => {
                            self.wscale = if length < 3 { 0 } else { u16::from(*rest.get(2)?) };
                            TcpOption::WindowScale
                        }
                        4 => TcpOption::SelectiveAck,
                        8 => {
                            self.timestamp_zero = length >= 10 && be32(rest, 2)? == 0;
                            TcpOption::Timestamp
                        }
                        _ => return None,
                    };
                    (option, length)
                }
            };
            *self.options.get_mut(self.count)? = option;
            self.count += 1;
            rest = &rest[length..];
        }
        Some(())
    }

    /// Whether an entry with the same options fits.
    fn fits(&self, entry: &Fingerprint) -> bool {
        self.ttl <= entry.ttl
            && entry.ttl - self.ttl <= HOPS_MAX
            // IPv6 has no such bit; pfctl sends each entry a second time for it, with the bit set.
            && (self.af == Af::Inet6 || self.dont_fragment == entry.dont_fragment)
            && self.timestamp_zero == entry.timestamp_zero
            && is(entry.size, self.size)
            && is(entry.mss, self.mss)
            && is(entry.wscale, self.wscale)
            && self.window_fits(entry.window)
    }

    fn window_fits(&self, wanted: WindowSize) -> bool {
        let window = u32::from(self.window);
        let times = |factor: u16, unit: u16| window == u32::from(factor) * u32::from(unit);
        match wanted {
            WindowSize::Octets(octets) => is(octets, self.window),
            WindowSize::TimesMss(_) | WindowSize::TimesMtu(_) if self.mss == 0 => false,
            // A path with a smaller MTU lowers the MSS on the way; the sender counted with 1460.
            WindowSize::TimesMss(factor) => times(factor, self.mss) || times(factor, 1_460),
            WindowSize::TimesMtu(factor) => {
                times(factor, self.mss.saturating_add(40)) || times(factor, 1_500)
            }
        }
    }
}

fn is(wanted: Quantity, found: u16) -> bool {
    match wanted {
        Quantity::Any => true,
        Quantity::Is(value) => found == value,
        Quantity::MultipleOf(unit) => unit != 0 && found.is_multiple_of(unit),
    }
}

/// The database: the first entry that fits decides.
#[derive(Clone, Debug, Default)]
pub struct Fingerprints {
    /// In their order; no two ask the same.
    entries: Vec<Fingerprint>,
    /// Positions of the entries with the same options, ascending: packets are compared with these
    /// alone.
    by_options: BTreeMap<Vec<TcpOption>, Vec<u32>>,
}

impl Fingerprints {
    /// A database. Entries that ask the same are one entry with the systems of all, as in OpenBSD
    /// sys/net/pf_osfp.c `pf_osfp_add`.
    #[must_use]
    pub fn new(entries: &[Fingerprint]) -> Self {
        let mut database = Self::default();
        for entry in entries {
            let like = database.by_options.entry(entry.options.clone()).or_default();
            let same = like.iter().find(|&&at| {
                let known = &database.entries[at as usize];
                *entry == Fingerprint { systems: entry.systems.clone(), ..known.clone() }
            });
            if let Some(&at) = same {
                database.entries[at as usize].systems.extend_from_slice(&entry.systems);
            } else if let Ok(at) = u32::try_from(database.entries.len()) {
                like.push(at);
                database.entries.push(entry.clone());
            }
        }
        database
    }

    /// The entries in their order.
    #[must_use]
    pub fn entries(&self) -> &[Fingerprint] {
        &self.entries
    }

    /// The first entry that fits.
    pub(super) fn find(&self, facts: &SynFacts) -> Option<u32> {
        let mut like = self.by_options.get(&facts.options[..facts.count])?.iter().copied();
        like.find(|&at| facts.fits(&self.entries[at as usize]))
    }

    /// The systems that `os` in a rule means.
    pub(super) fn wanted(&self, name: &str) -> CompiledOs {
        if name.eq_ignore_ascii_case("unknown") {
            return CompiledOs::Unknown;
        }
        let covers = |system: &OsName| {
            [
                OsName { subtype: None, ..system.clone() },
                OsName { version: None, subtype: None, ..system.clone() },
                system.clone(),
            ]
            .iter()
            .map(ToString::to_string)
            .any(|known| known.eq_ignore_ascii_case(name))
        };
        let fits = |entry: &Fingerprint| entry.systems.iter().any(covers);
        let entries = (0u32..).zip(&self.entries).filter(|(_, entry)| fits(entry));
        CompiledOs::Entries(entries.map(|(at, _)| at).collect())
    }
}

/// `os`
#[derive(Clone, Debug)]
pub(super) enum CompiledOs {
    /// `unknown`: no entry fits, or the packet is no SYN.
    Unknown,
    /// Positions in the database, ascending.
    Entries(Box<[u32]>),
}

impl CompiledOs {
    /// Whether a packet matches for which this entry was found.
    pub fn matches(&self, found: Option<u32>) -> bool {
        match (self, found) {
            (Self::Unknown, found) => found.is_none(),
            (Self::Entries(entries), Some(found)) => entries.binary_search(&found).is_ok(),
            (Self::Entries(_), None) => false,
        }
    }
}
