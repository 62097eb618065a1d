//! `-s Sources`.
//!
//! Source: OpenBSD sbin/pfctl/pfctl_parser.c `print_src_node`.

use std::io::{self, Write};
use std::net::IpAddr;

use pfapi::control::{MappedUse, SourceReport};

use super::names::HostNames;
use super::states::clock;

/// Prints one source node; with `-v` its age and what it has counted.
///
/// # Errors
/// Failures of `out`.
pub fn print(
    out: &mut dyn Write,
    node: &SourceReport,
    verbosity: u8,
    names: &mut HostNames,
) -> io::Result<()> {
    let SourceReport { states, connections, rate_thousandths, rate_seconds, .. } = node;
    let (whole, tenths) = (rate_thousandths / 1_000, rate_thousandths % 1_000 / 100);
    let mut name = |addr: IpAddr| names.get(addr).map_or_else(|| addr.to_string(), str::to_owned);
    let addr = name(node.addr);
    let mapped = node.mapped.map(|(use_of, mapped)| {
        let word = match use_of {
            MappedUse::Nat => "nat-to",
            MappedUse::Rdr => "rdr-to",
            MappedUse::Route => "route-to",
        };
        format!(" {word} {}", name(mapped))
    });
    let mapped = mapped.unwrap_or_default();
    writeln!(
        out,
        "{addr}{mapped} ( states {states}, connections {connections}, rate {whole}.{tenths}/{rate_seconds}s )"
    )?;
    if verbosity == 0 {
        return Ok(());
    }
    write!(out, "   age {}", clock(node.age_s))?;
    if let Some(expires) = node.expires_s {
        write!(out, ", expires in {}", clock(expires))?;
    }
    write!(out, ", {} pkts, {} bytes", node.packets, node.bytes)?;
    if let Some(rule) = node.rule {
        write!(out, ", rule {rule}")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_look_as_pfctl_prints_them() {
        let mut node = SourceReport {
            addr: "203.0.113.7".parse().unwrap(),
            mapped: None,
            states: 3,
            connections: 2,
            rate_thousandths: 933,
            rate_seconds: 30,
            age_s: 131,
            expires_s: None,
            packets: 51,
            bytes: 4_032,
            rule: Some(4),
        };
        let text = |node: &SourceReport, verbosity| {
            let mut out = Vec::new();
            print(&mut out, node, verbosity, &mut HostNames::new(false)).unwrap();
            String::from_utf8(out).unwrap()
        };
        let first = "203.0.113.7 ( states 3, connections 2, rate 0.9/30s )\n";
        assert_eq!(text(&node, 0), first);
        let second = "   age 00:02:11, 51 pkts, 4032 bytes, rule 4\n";
        assert_eq!(text(&node, 1), format!("{first}{second}"));
        (node.states, node.expires_s, node.rule) = (0, Some(10), None);
        let second = "   age 00:02:11, expires in 00:00:10, 51 pkts, 4032 bytes\n";
        assert!(text(&node, 1).ends_with(second));
    }
}
