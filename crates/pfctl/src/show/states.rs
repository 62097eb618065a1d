//! `-s states`.
//!
//! Source: OpenBSD sbin/pfctl/pf_print_state.c `print_state`, `print_host`, `print_seq`.

use std::io::{self, Write};
use std::net::IpAddr;

use pfapi::control::{OTHER_LEVELS, PeerReport, StateMarks, StateReport, TCP_LEVELS};
use pfapi::ruleset::proto;
use pfapi::units::Direction;

use super::names::{HostNames, protocol};
use crate::console::printable;

/// Level while pf answers the initiator for the other end.
const PROXY_SRC: u8 = 11;
/// Level while pf connects to the other end.
const PROXY_DST: u8 = 12;
/// Prints one state; `verbosity` is how often `-v` was given.
///
/// # Errors
/// Failures of `out`.
pub fn print(
    out: &mut dyn Write,
    state: &StateReport,
    verbosity: u8,
    names: &mut HostNames,
) -> io::Result<()> {
    // The key that the near side sees comes first, the other one in brackets.
    let (mut near, mut far) = (state.wire, state.stack);
    let (left, right) = match state.direction {
        Direction::Out => (&state.src, &state.dst),
        Direction::In => {
            (near, far) = (state.stack, state.wire);
            (&state.dst, &state.src)
        }
    };
    if is_icmp(state.proto) {
        // The type stands at the end that was asked; a type that af-to changed is not shown.
        let end = usize::from(state.direction == Direction::In);
        far[end].1 = near[end].1;
    }
    // Behind af-to the packets run the other way.
    let turned = near[0].0.is_ipv4() != far[0].0.is_ipv4();
    if turned {
        far.swap(0, 1);
    }
    let arrow = if turned || state.direction == Direction::Out { "->" } else { "<-" };
    write!(out, "{} ", printable(&state.interface))?;
    match protocol(state.proto) {
        Some(name) => write!(out, "{name} ")?,
        None => write!(out, "{} ", state.proto)?,
    }
    print_end(out, near[1], far[1], names)?;
    let hop = |out: &mut dyn Write, direction| match state.next_hop {
        Some(hop) if state.direction == direction => write!(out, " {{{hop}}}"),
        _ => Ok(()),
    };
    hop(out, Direction::In)?;
    write!(out, " {arrow} ")?;
    print_end(out, near[0], far[0], names)?;
    hop(out, Direction::Out)?;
    writeln!(out, "       {}", levels(state.proto, left.level, right.level))?;
    if verbosity > 0 {
        print_details(out, state, left, right)?;
    }
    if verbosity > 1 {
        writeln!(out, "   id: {:016x} creatorid: {:08x}", state.id, state.creator)?;
    }
    Ok(())
}

const fn is_icmp(number: u8) -> bool {
    matches!(number, proto::ICMP | proto::ICMPV6)
}

fn print_end(
    out: &mut dyn Write,
    first: (IpAddr, u16),
    second: (IpAddr, u16),
    names: &mut HostNames,
) -> io::Result<()> {
    print_host(out, first, names)?;
    if first != second {
        out.write_all(b" (")?;
        print_host(out, second, names)?;
        out.write_all(b")")?;
    }
    Ok(())
}

fn print_host(
    out: &mut dyn Write,
    (addr, port): (IpAddr, u16),
    names: &mut HostNames,
) -> io::Result<()> {
    match names.get(addr) {
        Some(name) => write!(out, "{name}")?,
        None => write!(out, "{addr}")?,
    }
    match (port, addr) {
        (0, _) => Ok(()),
        (_, IpAddr::V4(_)) => write!(out, ":{port}"),
        (_, IpAddr::V6(_)) => write!(out, "[{port}]"),
    }
}

/// The text behind the addresses; levels in the order of the hosts.
fn levels(number: u8, left: u8, right: u8) -> String {
    let either = |level| left == level || right == level;
    let pair = |names: &[&str]| {
        let (left, right) = (names.get(usize::from(left))?, names.get(usize::from(right))?);
        Some(format!("{left}:{right}"))
    };
    match number {
        proto::TCP => pair(&TCP_LEVELS).unwrap_or_else(|| {
            if either(PROXY_SRC) {
                "PROXY:SRC".to_owned()
            } else if either(PROXY_DST) {
                "PROXY:DST".to_owned()
            } else {
                format!("<BAD STATE LEVELS {left}:{right}>")
            }
        }),
        // ICMPv6 is not excepted in pfctl either.
        proto::ICMP => format!("{left}:{right}"),
        _ => pair(&OTHER_LEVELS).unwrap_or_else(|| format!("{left}:{right}")),
    }
}

fn print_details(
    out: &mut dyn Write,
    state: &StateReport,
    left: &PeerReport,
    right: &PeerReport,
) -> io::Result<()> {
    if state.proto == proto::TCP {
        let scaled = left.wscale.is_some() && right.wscale.is_some();
        let peer = |peer: &PeerReport| {
            let window = peer.seqhi.wrapping_sub(peer.seqlo);
            let shift = peer.wscale.filter(|_| scaled).map(|shift| format!(" wscale {shift}"));
            let diff = (peer.seqdiff != 0).then(|| format!("(+{})", peer.seqdiff));
            let [diff, shift] = [diff, shift].map(Option::unwrap_or_default);
            format!("[{} + {window}]{diff}{shift}", peer.seqlo)
        };
        writeln!(out, "   {}  {}", peer(left), peer(right))?;
    }
    let [packets, packets_back] = state.packets;
    let [bytes, bytes_back] = state.bytes;
    write!(
        out,
        "   age {}, expires in {}, {packets}:{packets_back} pkts, {bytes}:{bytes_back} bytes",
        clock(state.age_s),
        clock(state.expires_s)
    )?;
    if let Some(anchor) = state.anchor {
        write!(out, ", anchor {anchor}")?;
    }
    if let Some(rule) = state.rule {
        write!(out, ", rule {rule}")?;
    }
    let StateMarks { sloppy, pflow, source_track, sticky_address } = state.marks;
    let marks = [
        (sloppy, "sloppy"),
        (pflow, "pflow"),
        (source_track, "source-track"),
        (sticky_address, "sticky-address"),
    ];
    for (_, word) in marks.into_iter().filter(|&(set, _)| set) {
        write!(out, ", {word}")?;
    }
    writeln!(out)
}

/// Seconds as `hh:mm:ss`; hours grow beyond two digits.
pub(super) fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::addr::Af;

    fn end(text: &str) -> (IpAddr, u16) {
        let socket: std::net::SocketAddr = text.parse().unwrap();
        (socket.ip(), socket.port())
    }

    fn peer(level: u8) -> PeerReport {
        PeerReport { level, seqlo: 0, seqhi: 0, seqdiff: 0, wscale: None }
    }

    fn state(number: u8, direction: Direction, wire: [&str; 2], levels: [u8; 2]) -> StateReport {
        let wire = wire.map(end);
        StateReport {
            id: 0x65a1_b2c3_0000_0001,
            creator: 0x9f8e_7d6c,
            interface: "all".to_owned(),
            af: Af::of(wire[0].0),
            proto: number,
            direction,
            wire,
            stack: wire,
            src: peer(levels[0]),
            dst: peer(levels[1]),
            age_s: 631,
            expires_s: 86_380,
            packets: [120, 98],
            bytes: [9120, 88_120],
            rule: Some(4),
            anchor: None,
            next_hop: None,
            marks: StateMarks::default(),
        }
    }

    fn text(state: &StateReport, verbosity: u8) -> String {
        let mut out = Vec::new();
        print(&mut out, state, verbosity, &mut HostNames::new(false)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keys_and_levels_stand_in_pf_order() {
        let inbound = ["203.0.113.7:50122", "198.51.100.1:22"];
        assert_eq!(
            text(&state(proto::TCP, Direction::In, inbound, [4, 4]), 0),
            "all tcp 198.51.100.1:22 <- 203.0.113.7:50122       ESTABLISHED:ESTABLISHED\n"
        );
        let mut redirected =
            state(proto::TCP, Direction::In, ["203.0.113.7:50123", "198.51.100.1:80"], [4, 2]);
        redirected.stack[1] = end("10.0.0.80:8080");
        assert_eq!(
            text(&redirected, 0),
            "all tcp 10.0.0.80:8080 (198.51.100.1:80) <- 203.0.113.7:50123       \
             SYN_SENT:ESTABLISHED\n"
        );
        let mut translated =
            state(proto::UDP, Direction::Out, ["203.0.113.53:53", "198.51.100.1:61022"], [2, 1]);
        translated.stack[1] = end("10.0.0.5:5353");
        assert_eq!(
            text(&translated, 0),
            "all udp 198.51.100.1:61022 (10.0.0.5:5353) -> 203.0.113.53:53       \
             MULTIPLE:SINGLE\n"
        );
        let proxied = ["203.0.113.9:40000", "198.51.100.1:443"];
        assert_eq!(
            text(&state(proto::TCP, Direction::In, proxied, [PROXY_DST, 0]), 0),
            "all tcp 198.51.100.1:443 <- 203.0.113.9:40000       PROXY:DST\n"
        );
    }

    #[test]
    fn other_families_protocols_and_levels() {
        let mut six = state(proto::TCP, Direction::Out, ["[2001:db8::1]:80", "[::1]:9"], [11, 0]);
        six.interface = "tun0".to_owned();
        assert_eq!(text(&six, 0), "tun0 tcp ::1[9] -> 2001:db8::1[80]       PROXY:SRC\n");
        six.src.level = 13;
        assert!(text(&six, 0).ends_with("       <BAD STATE LEVELS 13:0>\n"));
        let raw = ["192.0.2.1:0", "192.0.2.2:0"];
        assert_eq!(
            text(&state(proto::ICMPV6, Direction::Out, ["[::1]:0", "[::2]:0"], [0, 0]), 0),
            "all ipv6-icmp ::2 -> ::1       NO_TRAFFIC:NO_TRAFFIC\n"
        );
        assert_eq!(
            text(&state(200, Direction::Out, raw, [1, 0]), 0),
            "all 200 192.0.2.2 -> 192.0.2.1       SINGLE:NO_TRAFFIC\n"
        );
        assert_eq!(
            text(&state(proto::UDP, Direction::Out, raw, [7, 0]), 0),
            "all udp 192.0.2.2 -> 192.0.2.1       7:0\n"
        );
    }

    #[test]
    fn pings_show_their_type_at_the_end_that_is_asked() {
        let ping = state(proto::ICMP, Direction::In, ["10.1.0.5:20", "192.0.2.1:8"], [0, 0]);
        assert_eq!(text(&ping, 0), "all icmp 192.0.2.1:8 <- 10.1.0.5:20       0:0\n");
        let mut ping = state(proto::ICMP, Direction::Out, ["192.0.2.1:8", "192.0.2.2:77"], [0, 0]);
        ping.stack[1] = end("10.1.0.5:20");
        let shown = "all icmp 192.0.2.2:77 (10.1.0.5:20) -> 192.0.2.1:8       0:0\n";
        assert_eq!(text(&ping, 0), shown);
        // A type makes no brackets.
        ping.stack[0].1 = 128;
        assert_eq!(text(&ping, 0), shown);
    }

    #[test]
    fn af_to_turns_the_key_in_brackets() {
        let wire = ["[2001:db8::fe]:20", "[64:ff9b::cb00:71fe]:128"];
        let mut ping = state(proto::ICMPV6, Direction::In, wire, [0, 0]);
        ping.stack = ["203.0.113.254:8", "203.0.113.1:33"].map(end);
        assert_eq!(
            text(&ping, 0),
            "all ipv6-icmp 203.0.113.1:33 (2001:db8::fe[20]) -> 203.0.113.254:8 \
             (64:ff9b::cb00:71fe[33])       NO_TRAFFIC:NO_TRAFFIC\n"
        );
    }

    #[test]
    fn verbose_lines() {
        let inbound = ["203.0.113.7:50122", "198.51.100.1:22"];
        let mut shown = state(proto::TCP, Direction::In, inbound, [4, 4]);
        shown.dst = PeerReport {
            level: 4,
            seqlo: 287_454_021,
            seqhi: 287_518_261,
            seqdiff: 0,
            wscale: Some(7),
        };
        shown.src = PeerReport {
            level: 4,
            seqlo: 3_735_928_560,
            seqhi: 3_735_929_062,
            seqdiff: 99,
            wscale: Some(8),
        };
        let lines = text(&shown, 2);
        assert_eq!(
            lines.split_once('\n').unwrap().1,
            "   [287454021 + 64240] wscale 7  [3735928560 + 502](+99) wscale 8\n   \
             age 00:10:31, expires in 23:59:40, 120:98 pkts, 9120:88120 bytes, rule 4\n   \
             id: 65a1b2c300000001 creatorid: 9f8e7d6c\n"
        );
        shown.src.wscale = None;
        shown.rule = None;
        shown.age_s = 360_000;
        let lines = text(&shown, 1);
        assert_eq!(
            lines.split_once('\n').unwrap().1,
            "   [287454021 + 64240]  [3735928560 + 502](+99)\n   \
             age 100:00:00, expires in 23:59:40, 120:98 pkts, 9120:88120 bytes\n"
        );
    }

    #[test]
    fn details_end_with_rules_and_marks() {
        let ends = ["203.0.113.7:50122", "198.51.100.1:22"];
        let mut shown = state(proto::UDP, Direction::In, ends, [1, 0]);
        shown.anchor = Some(2);
        shown.next_hop = Some("192.0.2.9".parse().unwrap());
        shown.marks = StateMarks { sloppy: true, source_track: true, ..StateMarks::default() };
        let lines = text(&shown, 1);
        assert!(lines.starts_with("all udp 198.51.100.1:22 {192.0.2.9} <- 203.0.113.7:50122"));
        assert!(lines.ends_with(", anchor 2, rule 4, sloppy, source-track\n"), "{lines}");
    }

    #[test]
    fn window_may_wrap_around_zero() {
        let mut shown = state(proto::TCP, Direction::Out, ["192.0.2.1:1", "192.0.2.2:2"], [4, 4]);
        shown.src.seqlo = u32::MAX;
        shown.src.seqhi = 9;
        assert!(text(&shown, 1).contains("   [4294967295 + 10]  [0 + 0]\n"));
    }
}
