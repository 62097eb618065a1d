use core::net::IpAddr;

use pfapi::units::{Direction, IfIndex, Uptime};
use pfengine::reply::complete_checksum;
use pfengine::wire::checksum::{Sum, ipv4_header_is_intact};
use pfengine::{Checksum, Gso, NextHop, Offload, Packet, Refragment};

use super::*;
use crate::testing::{Collected, ip, mend, packet, router, udp};

const NOW: Uptime = Uptime::from_secs(1);
const CLIENT: &str = "10.77.1.2";
const OUTSIDE: &str = "198.51.100.7";

/// Whether anything is to be sent when this packet has passed the inbound rules.
fn goes_on(router: &mut Router, now: Uptime, packet: &mut Packet) -> bool {
    router.forward(now, packet) != Onward::Nothing
}

#[test]
fn forwarding_counts_the_time_to_live_down() {
    let mut router = router();
    let mut packet = packet(&ip(CLIENT, OUTSIDE, 17, &udp(10)));
    assert!(goes_on(&mut router, NOW, &mut packet));
    assert_eq!(packet.meta.interface, IfIndex(1));
    assert_eq!(packet.meta.direction, Direction::Out);
    assert_eq!(packet.data()[8], 63);
    assert!(ipv4_header_is_intact(&packet.data()[..20]));
    assert_eq!(router.counters().get(Event::Forwarded), 1);
}

#[test]
fn every_time_to_live_keeps_the_checksum_right() {
    let mut router = router();
    for ttl in 2..=255 {
        let mut octets = ip(CLIENT, OUTSIDE, 17, &udp(10));
        octets[8] = ttl;
        mend(&mut octets);
        let mut packet = packet(&octets);
        assert!(goes_on(&mut router, NOW, &mut packet));
        assert_eq!(packet.data()[8], ttl - 1);
        assert!(ipv4_header_is_intact(&packet.data()[..20]), "{ttl}");
    }
}

#[test]
fn expired_packet_is_answered_from_the_arrival_interface() {
    let mut router = router();
    for ttl in [0, 1] {
        let mut octets = ip(CLIENT, OUTSIDE, 17, &udp(10));
        octets[8] = ttl;
        mend(&mut octets);
        let mut packet = packet(&octets);
        assert!(goes_on(&mut router, NOW, &mut packet));
        let data = packet.data();
        assert_eq!(packet.meta.interface, IfIndex(0));
        assert_eq!(data[12..20], [10, 77, 1, 1, 10, 77, 1, 2]);
        assert_eq!((data[9], data[20], data[21]), (1, 11, 0));
    }
    let mut octets = ip("fd77:1::2", "fd77:2::2", 17, &udp(10));
    octets[7] = 1;
    let mut packet = packet(&octets);
    assert!(goes_on(&mut router, NOW, &mut packet));
    let data = packet.data();
    assert_eq!((data[6], data[40], data[41]), (58, 3, 0));
}

#[test]
fn without_route_the_sender_hears_of_it() {
    let mut router = router();
    let mut packet = packet(&ip("fd77:1::2", "2001:db8::1", 17, &udp(10)));
    assert!(goes_on(&mut router, NOW, &mut packet));
    assert_eq!((packet.data()[40], packet.data()[41]), (1, 0));
    assert_eq!(router.counters().get(Event::NoRoute), 1);
}

#[test]
fn own_packets_go_where_rules_say() {
    let router = router();
    let mut packet = packet(&ip(OUTSIDE, CLIENT, 17, &udp(10)));
    assert_eq!(router.way_out(&packet), Some(IfIndex(0)), "by its destination");
    let hop = |addr: &str, interface, copy| {
        Some(NextHop { addr: addr.parse().unwrap(), interface, copy })
    };
    packet.meta.next_hop = hop("10.77.2.9", None, false);
    assert_eq!(router.way_out(&packet), Some(IfIndex(1)));
    packet.meta.next_hop = hop("2001:db8::1", Some(IfIndex(1)), false);
    assert_eq!(router.way_out(&packet), Some(IfIndex(1)), "whatever the routes say");
    packet.meta.next_hop = hop("10.77.2.9", None, true);
    assert_eq!(router.way_out(&packet), Some(IfIndex(0)), "only a copy goes there");
    assert_eq!(router.counters().get(Event::NoRoute), 0);
    packet.meta.next_hop = hop("2001:db8::1", None, false);
    assert_eq!(router.way_out(&packet), None);
    assert_eq!(router.counters().get(Event::NoRoute), 1);
}

#[test]
fn errors_are_limited_per_second() {
    let mut router = router();
    let mut sent = |second| {
        (0..250)
            .filter(|_| {
                let mut packet = packet(&ip("fd77:1::2", "2001:db8::1", 17, &udp(10)));
                goes_on(&mut router, Uptime::from_secs(second), &mut packet)
            })
            .count()
    };
    assert_eq!(sent(1), 100);
    assert_eq!(sent(2), 100);
    assert_eq!(router.counters().get(Event::ErrorLimited), 300);
}

#[test]
fn no_error_about_an_error() {
    let mut router = router();
    let mut packet = packet(&ip("fd77:1::2", "2001:db8::1", 58, &[1, 0, 0, 0, 0, 0, 0, 0]));
    assert!(!goes_on(&mut router, NOW, &mut packet));
}

/// A packet through the router, with outbound rules that do `rules` to it.
fn through(router: &mut Router, packet: &mut Packet, rules: impl Fn(&mut Packet)) -> Onward {
    let head = packet.data().to_vec();
    let (meta, arrival) = (packet.meta, packet.meta.interface);
    let may_not_fit = router.may_not_fit(packet);
    assert_eq!(router.forward(NOW, packet), Onward::Forwarded);
    let before = Before::of(packet, Some(arrival));
    rules(packet);
    let original = Original { head: &head, len: head.len(), meta: &meta };
    router.depart(NOW, packet, before, may_not_fit.then_some(original))
}

#[test]
fn packet_that_must_not_be_cut_is_answered_with_the_mtu() {
    let mut router = router();
    let mut octets = ip(CLIENT, OUTSIDE, 17, &udp(1253));
    assert_eq!(octets.len(), 1281);
    octets[6] = 0x40;
    mend(&mut octets);
    let mut big = packet(&octets);
    assert_eq!(through(&mut router, &mut big, |_| ()), Onward::Answer);
    let data = big.data();
    assert_eq!(big.meta.interface, IfIndex(0));
    assert_eq!((data[20], data[21], &data[24..28]), (3, 4, &[0, 0, 5, 0][..]));

    let mut big = packet(&ip("fd77:1::2", "fd77:2::2", 17, &udp(1233)));
    assert_eq!(through(&mut router, &mut big, |_| ()), Onward::Answer);
    let data = big.data();
    assert_eq!((data[40], data[41], &data[44..48]), (2, 0, &[0, 0, 5, 0][..]));
    assert_eq!(router.counters().get(Event::TooBig), 2);

    let mut fits = packet(&ip("fd77:1::2", "fd77:2::2", 17, &udp(1232)));
    assert_eq!(through(&mut router, &mut fits, |_| ()), Onward::Forwarded);
    assert_eq!(fits.meta.interface, IfIndex(1));
}

/// Outbound rules that translate the source, and may give another way.
fn translate(packet: &mut Packet, addr: &str, at: usize) {
    let octets = match addr.parse().unwrap() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    packet.data_mut()[at..at + octets.len()].copy_from_slice(&octets);
    if octets.len() == 4 {
        mend(packet.data_mut());
    }
}

#[test]
fn link_that_rules_choose_is_the_one_that_counts() {
    let hop =
        |addr: &str| Some(NextHop { addr: addr.parse().unwrap(), interface: None, copy: false });
    for (src, dst, hops, own) in [
        (OUTSIDE, CLIENT, ["10.77.2.9", "10.77.1.9"], ("10.77.1.1", 12)),
        ("fd77:9::2", "fd77:1::2", ["fd77:2::9", "fd77:1::9"], ("fd77:1::1", 8)),
    ] {
        let mut octets = ip(src, dst, 17, &udp(1300));
        let is_v4 = octets[0] >> 4 == 4;
        if is_v4 {
            octets[6] = 0x40;
            mend(&mut octets);
        }
        // Came in by the wide link, goes back there unless rules send it over the narrow one.
        let mut router = router();
        let mut small = packet(&octets);
        let narrow = through(&mut router, &mut small, |packet| {
            translate(packet, own.0, own.1);
            packet.meta.next_hop = hop(hops[0]);
        });
        // No route leads to the sender in IPv6: the error about what it has sent has no way.
        assert_eq!(narrow, if is_v4 { Onward::Answer } else { Onward::Nothing });
        if is_v4 {
            let data = small.data();
            assert_eq!((data[20], data[21]), (3, 4));
            assert_eq!(data[12..16], [10, 77, 1, 1], "from where the packet came in");
            assert_eq!(data[16..20], [198, 51, 100, 7], "to who has sent it");
            assert_eq!(data[28..56], octets[..28], "which sees its own packet");
        }
        let mut wide = packet(&octets);
        assert_eq!(
            through(&mut router, &mut wide, |packet| packet.meta.next_hop = hop(hops[1])),
            Onward::Forwarded
        );
        assert_eq!(wide.meta.interface, IfIndex(0));
        assert_eq!(router.counters().get(Event::TooBig), 1);
    }
}

#[test]
fn quote_is_the_packet_as_it_came() {
    let mut router = router();
    let octets = ip("fd77:1::2", "fd77:2::2", 17, &udp(1400));
    let mut big = packet(&octets);
    let end = through(&mut router, &mut big, |packet| {
        translate(packet, "fd77:2::1", 8);
        packet.data_mut()[40..48].fill(0xee);
    });
    assert_eq!(end, Onward::Answer);
    let data = big.data();
    assert_eq!(data.len(), 1280);
    let addr = |text: &str| text.parse::<core::net::Ipv6Addr>().unwrap().octets();
    assert_eq!(data[8..40], [addr("fd77:1::1"), addr("fd77:1::2")].concat());
    assert_eq!(data[48..], octets[..1232], "hop limit and all");
    assert_eq!(big.meta.interface, IfIndex(0));
}

/// Rules that finish a checksum leave one for what they have made of the packet.
#[test]
fn quote_has_the_checksum_of_what_was_sent() {
    let mut router = router();
    let (src, dst) = ("fd77:1::2".parse().unwrap(), "fd77:2::2".parse().unwrap());
    let mut octets = ip("fd77:1::2", "fd77:2::2", 17, &udp(1400));
    let pseudo = Sum::pseudo(src, dst, 17, 1408);
    octets[46..48].copy_from_slice(&pseudo.folded().to_be_bytes());
    let right = pseudo.plus(Sum::of(&octets[40..46])).plus(Sum::of(&octets[48..])).checksum();
    let mut big = packet(&octets);
    big.meta.offload.checksum = Checksum::Partial { start: 40, offset: 6 };
    let end = through(&mut router, &mut big, |packet| {
        translate(packet, "fd77:2::1", 8);
        assert!(complete_checksum(packet));
    });
    assert_eq!(end, Onward::Answer);
    assert_eq!(big.data()[94..96], right.to_be_bytes());
}

#[test]
fn no_error_about_what_nobody_has_sent() {
    let mut router = router();
    let mut last = vec![17, 0, 0x05, 0x78, 0, 0, 0, 1];
    last.extend(udp(1400));
    let mut big = packet(&ip("fd77:1::2", "fd77:2::2", 44, &last));
    let end = through(&mut router, &mut big, |packet| assert!(packet.resize(3000)));
    assert_eq!(end, Onward::Nothing, "a datagram out of fragments");
    assert_eq!(router.counters().get(Event::TooBig), 1);
    // Its fragments are cut as they came, which this link does not take.
    let mut last = packet(&ip("fd77:1::2", "fd77:2::2", 17, &udp(1000)));
    let end = through(&mut router, &mut last, |packet| {
        assert!(packet.resize(3000));
        packet.meta.refragment = Refragment::for_link(1400, 1);
    });
    assert_eq!(end, Onward::Nothing, "a datagram out of fragments that are too long");
    assert_eq!(router.counters().get(Event::TooBig), 2);
}

/// The filter adds timestamps to segments of a server that has none: in front of the packet, or
/// behind it where there is no room. The error is about what the server has sent.
#[test]
fn sender_leaves_room_for_what_the_filter_adds() {
    let families = [("fd77:1::2", "fd77:2::2"), (CLIENT, OUTSIDE)];
    // Segments that are too long, and segments that would fit as they were sent.
    for ((src, dst), payload, in_front) in families
        .into_iter()
        .flat_map(|ends| [1300, 1236].map(|len| (ends, len)))
        .flat_map(|(ends, len)| [true, false].map(|in_front| (ends, len, in_front)))
    {
        let is_v6 = src.contains(':');
        let header = if is_v6 { 40 } else { 20 };
        let mut router = router();
        let mut octets = ip(src, dst, 6, &vec![7; payload + 40 - header]);
        if !is_v6 {
            octets[6] = 0x40;
            mend(&mut octets);
        }
        let mut big = packet(&octets);
        let behind = header + 20;
        let end = through(&mut router, &mut big, |packet| {
            if in_front {
                assert!(packet.grow_front(12));
                packet.data_mut().copy_within(12..12 + behind, 0);
            } else {
                let len = packet.len();
                assert!(packet.resize(len + 12));
                packet.data_mut().copy_within(behind..len, behind + 12);
            }
            packet.data_mut()[behind..behind + 12].fill(0xee);
        });
        assert_eq!(end, Onward::Answer, "{src} {payload}");
        let data = big.data();
        if is_v6 {
            assert_eq!((data[40], data[41]), (2, 0));
            assert_eq!(data[44..48], (1280_u32 - 12).to_be_bytes());
        } else {
            assert_eq!((data[20], data[21]), (3, 4));
            assert_eq!(data[26..28], (1280_u16 - 12).to_be_bytes());
        }
        // But for the time to live, and the checksum over it.
        let quote = &data[header + 8..];
        let same = if is_v6 { 8..quote.len() } else { 12..quote.len() };
        assert_eq!(quote[..7], octets[..7]);
        assert_eq!(quote[same.clone()], octets[same]);
    }
}

#[test]
fn segments_in_one_piece_are_not_cut_as_a_datagram() {
    let router = router();
    let mut early = packet(&ip("fd77:1::2", "fd77:2::2", 6, &[0; 3000]));
    early.meta.interface = IfIndex(1);
    early.meta.offload.gso = Gso::Tcp { ecn: false };
    router.cut_for_link(&mut early, None);
    assert_eq!(early.meta.refragment, None);
    early.meta.offload.gso = Gso::None;
    router.cut_for_link(&mut early, None);
    assert!(early.meta.refragment.is_some());
}

#[test]
fn cut_that_rules_allow_is_made() {
    let mut router = router();
    let mut octets = ip(CLIENT, OUTSIDE, 17, &udp(1400));
    octets[6] = 0x40;
    mend(&mut octets);
    let mut big = packet(&octets);
    let end = through(&mut router, &mut big, |packet| {
        packet.data_mut()[6] = 0;
        mend(packet.data_mut());
    });
    assert_eq!((end, router.fragment_size(&big)), (Onward::Forwarded, Some(1280)));
}

#[test]
fn changed_destination_is_routed_again() {
    let mut router = router();
    for (dst, way) in [
        (CLIENT, Some(0)),
        ("10.77.2.9", Some(1)),
        ("203.0.113.1", Some(1)),
        ("224.0.0.1", None),
        ("127.0.0.1", None),
        ("10.77.2.255", None),
    ] {
        let mut packet = packet(&ip(CLIENT, OUTSIDE, 17, &udp(10)));
        let end = through(&mut router, &mut packet, |packet| translate(packet, dst, 16));
        assert_eq!((end == Onward::Forwarded).then_some(packet.meta.interface.0), way, "{dst}");
        assert!(way.is_none() || packet.data()[8] == 63, "one hop");
    }
    assert_eq!(router.counters().get(Event::Martian), 3);
    // Where rules give the way the destination does not matter.
    let mut given = packet(&ip(CLIENT, OUTSIDE, 17, &udp(10)));
    let _ = through(&mut router, &mut given, |packet| {
        translate(packet, CLIENT, 16);
        let addr = "10.77.2.9".parse().unwrap();
        packet.meta.next_hop = Some(NextHop { addr, interface: None, copy: false });
    });
    assert_eq!(given.meta.interface, IfIndex(1));
    let mut v6 = packet(&ip("fd77:1::2", "fd77:2::2", 17, &udp(10)));
    let end = through(&mut router, &mut v6, |packet| translate(packet, "fd77:1::9", 24));
    assert_eq!((end, v6.meta.interface), (Onward::Forwarded, IfIndex(0)));
}

#[test]
fn changed_destination_without_a_way_is_told() {
    let mut router = router();
    let mut lost = packet(&ip("fd77:1::2", "fd77:2::2", 17, &udp(10)));
    let end = through(&mut router, &mut lost, |packet| translate(packet, "2001:db8::1", 24));
    assert_eq!(end, Onward::Answer);
    let data = lost.data();
    assert_eq!((data[40], data[41], lost.meta.interface), (1, 0, IfIndex(0)));
    let addr = |text: &str| text.parse::<core::net::Ipv6Addr>().unwrap().octets();
    assert_eq!(data[8..24], addr("fd77:1::1"), "from where the packet came in");
    assert_eq!(router.counters().get(Event::NoRoute), 1);
}

#[test]
fn destination_changed_to_an_own_address_is_for_the_router() {
    let mut router = router();
    let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    let mut ping = packet(&ip(CLIENT, OUTSIDE, 1, &echo));
    let end = through(&mut router, &mut ping, |packet| translate(packet, "10.77.2.1", 16));
    assert_eq!((end, ping.meta.interface), (Onward::Answer, IfIndex(0)));
    assert_eq!(ping.data()[12..20], [10, 77, 2, 1, 10, 77, 1, 2]);
    assert_eq!(router.counters().get(Event::Local), 1);
}

#[test]
fn own_packet_is_cut_for_the_link_that_it_takes() {
    let mut router = router();
    let mut long = packet(&ip("fd77:1::1", "fd77:1::2", 17, &udp(1400)));
    let before = Before::of(&long, None);
    translate(&mut long, "fd77:2::2", 24);
    assert_eq!(router.depart(NOW, &mut long, before, None), Onward::Forwarded);
    assert_eq!(long.meta.interface, IfIndex(1));
    assert_eq!(long.meta.refragment.map(|cut| cut.longest(long.len())), Some(1280));
}

#[test]
fn super_packet_is_measured_by_its_segments() {
    let mut router = router();
    let mut tcp = vec![0; 20 + 20_000];
    tcp[12] = 0x50;
    let octets = ip("fd77:1::2", "fd77:2::2", 6, &tcp);
    for (gso_size, link) in [(1220, 1), (1221, 0)] {
        let mut packet = packet(&octets);
        packet.meta.offload =
            Offload { gso: Gso::Tcp { ecn: false }, gso_size, ..Offload::default() };
        let end = through(&mut router, &mut packet, |_| ());
        assert_eq!(end, if link == 0 { Onward::Answer } else { Onward::Forwarded });
        assert_eq!(packet.meta.interface, IfIndex(link), "{gso_size}");
        assert_eq!(router.fragment_size(&packet), None);
    }
}

#[test]
fn way_back_to_an_own_address_is_its_interface() {
    use pfengine::{Routes, Way};
    let table = router().routes();
    for (own, interface) in [("10.77.1.1", 0), ("10.77.2.1", 1), ("fd77:1::1", 0), ("fd77:2::1", 1)]
    {
        let own = own.parse().unwrap();
        assert_eq!(table.way_back(own), Way::Interface(IfIndex(interface)));
        assert_eq!(table.way_to(own), Way::Here);
    }
    assert_eq!(table.way_back(CLIENT.parse().unwrap()), Way::Interface(IfIndex(0)));
    assert_eq!(table.way_back("2001:db8::1".parse().unwrap()), Way::None);
}

#[test]
fn fragments_together_are_the_packet() {
    let mut router = router();
    let payload = udp(3000);
    let mut whole = packet(&ip(CLIENT, OUTSIDE, 17, &payload));
    assert!(goes_on(&mut router, NOW, &mut whole));
    let mtu = router.fragment_size(&whole).unwrap();
    assert_eq!(mtu, 1280);
    let mut ports = Collected::new();
    fragment(&mut whole, mtu, &mut ports).unwrap();
    assert_eq!(ports.sent.len(), 3);
    let mut again = Vec::new();
    for (at, (interface, piece)) in ports.sent.iter().enumerate() {
        let data = piece.data();
        assert_eq!(*interface, IfIndex(1));
        assert!(data.len() <= 1280 && ipv4_header_is_intact(&data[..20]));
        assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len());
        let word = u16::from_be_bytes([data[6], data[7]]);
        assert_eq!(usize::from(word & 0x1fff) * 8, again.len());
        assert_eq!(word & 0x2000 != 0, at < 2);
        again.extend_from_slice(&data[20..]);
    }
    assert_eq!(again, payload);
}

#[test]
fn fragment_of_a_fragment_keeps_offset_and_copied_options() {
    let mut octets = ip(CLIENT, OUTSIDE, 17, &[7; 2000]);
    // Record route (not copied) and loose source route (copied) behind the fixed header.
    octets.splice(20..20, [7, 7, 4, 1, 1, 1, 1, 131, 7, 4, 2, 2, 2, 2, 0, 0]);
    octets[0] = 0x49;
    octets[2..4].copy_from_slice(&2036_u16.to_be_bytes());
    octets[6..8].copy_from_slice(&(0x2000_u16 + 100).to_be_bytes());
    mend(&mut octets);
    let mut whole = packet(&octets);
    let mut ports = Collected::new();
    fragment(&mut whole, 1280, &mut ports).unwrap();
    let [(_, first), (_, second)] = &ports.sent[..] else { panic!("{ports:?}") };
    assert_eq!(first.data()[..2], octets[..2]);
    assert_eq!(first.data()[6..8], (0x2000_u16 + 100).to_be_bytes());
    assert_eq!(second.data()[0], 0x47);
    assert_eq!(second.data()[20..28], [131, 7, 4, 2, 2, 2, 2, 0]);
    assert_eq!(second.data()[6..8], (0x2000_u16 + 100 + 155).to_be_bytes());
    assert!(ipv4_header_is_intact(&second.data()[..28]));
}

#[test]
fn lack_of_buffers_ends_the_cut() {
    let mut whole = packet(&ip(CLIENT, OUTSIDE, 17, &udp(3000)));
    let mut ports = Collected { buffers: 1, ..Collected::new() };
    assert_eq!(fragment(&mut whole, 1280, &mut ports), Err(FragmentError::NoBuffer));
}

#[test]
fn own_addresses_answer_like_a_host() {
    let mut router = router();
    let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    let mut ping = packet(&ip(CLIENT, "10.77.2.1", 1, &echo));
    assert!(goes_on(&mut router, NOW, &mut ping));
    assert_eq!(ping.meta.interface, IfIndex(0));
    assert_eq!(ping.data()[12..20], [10, 77, 2, 1, 10, 77, 1, 2]);
    assert_eq!(ping.data()[20], 0);

    let mut datagram = packet(&ip(CLIENT, "10.77.1.1", 17, &udp(10)));
    assert!(goes_on(&mut router, NOW, &mut datagram));
    assert_eq!((datagram.data()[20], datagram.data()[21]), (3, 3));

    let mut syn = vec![0x30, 0x39, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
    let (src, dst) = (CLIENT.parse().unwrap(), "10.77.1.1".parse().unwrap());
    let sum = pfengine::wire::checksum::Sum::pseudo(src, dst, 6, 20)
        .plus(pfengine::wire::checksum::Sum::of(&syn))
        .checksum();
    syn[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut syn = packet(&ip(CLIENT, "10.77.1.1", 6, &syn));
    assert!(goes_on(&mut router, NOW, &mut syn));
    assert_eq!(syn.data()[33], 0x14);
    assert_eq!(router.counters().get(Event::Local), 3);
}

#[test]
fn fragments_and_strange_protocols_to_own_addresses_are_dropped() {
    let mut router = router();
    let mut octets = ip(CLIENT, "10.77.1.1", 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    octets[6] = 0x20;
    mend(&mut octets);
    assert!(!goes_on(&mut router, NOW, &mut packet(&octets)));
    assert!(!goes_on(&mut router, NOW, &mut packet(&ip(CLIENT, "10.77.1.1", 47, &[0; 8]))));
    // Own address as the source, too: the answer would go nowhere.
    let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    assert!(!goes_on(&mut router, NOW, &mut packet(&ip("10.77.1.1", "10.77.1.1", 1, &echo))));
}

#[test]
fn martians_and_noise_do_not_reach_the_filter() {
    let router = router();
    let admit = |src: &str, dst: &str| router.admit(&packet(&ip(src, dst, 17, &udp(1))));
    assert!(admit(CLIENT, OUTSIDE));
    assert!(admit(CLIENT, "10.77.1.1"));
    assert!(admit("fd77:1::2", "2001:db8::1"));
    for (src, dst) in [
        ("127.0.0.1", OUTSIDE),
        ("0.0.0.0", OUTSIDE),
        ("224.0.0.1", OUTSIDE),
        ("255.255.255.255", OUTSIDE),
        (CLIENT, "127.0.0.1"),
        (CLIENT, "0.0.0.0"),
        (CLIENT, "240.0.0.1"),
        ("::1", "fd77:1::2"),
        ("ff02::1", "fd77:1::2"),
        ("::ffff:10.0.0.1", "fd77:1::2"),
        ("fd77:1::2", "::1"),
    ] {
        assert!(!admit(src, dst), "{src} > {dst}");
    }
    assert_eq!(router.counters().get(Event::Martian), 11);
    for (src, dst) in [
        ("fe80::1", "ff02::2"),
        ("::", "ff02::16"),
        ("fd77:1::2", "fe80::1"),
        (CLIENT, "224.0.0.22"),
        (CLIENT, "255.255.255.255"),
        (CLIENT, "10.77.2.255"),
    ] {
        assert!(!admit(src, dst), "{src} > {dst}");
    }
    assert_eq!(router.counters().get(Event::Noise), 6);
}

/// A route that is longer than the special networks, or as long, opens what lies in it; the
/// broadcast addresses of interfaces and senders that nobody can be stay closed.
#[test]
fn routes_to_groups_let_noise_in() {
    let mut config = crate::testing::config();
    let special =
        ["239.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "10.77.1.255/32", "ff05::/16"];
    config.routes.extend(special.map(|to| crate::config::Route {
        to: to.parse().unwrap(),
        dev: IfIndex(1),
        ..config.routes[0]
    }));
    let mut router = Router::new(&RouterOptions { facts: &config.facts(), routes: &config.routes });
    for (src, dst, way) in [
        (CLIENT, "239.1.2.3", Some(1)),
        (CLIENT, "224.0.0.5", Some(1)),
        (CLIENT, "255.255.255.255", Some(1)),
        ("fd77:1::2", "ff05::2", Some(1)),
        ("fd77:1::2", "ff02::2", None),
        (CLIENT, "10.77.1.255", None),
        ("fe80::1", "ff05::2", None),
        ("224.0.0.1", "239.1.2.3", None),
    ] {
        let mut packet = packet(&ip(src, dst, 17, &udp(1)));
        assert_eq!(router.admit(&packet), way.is_some(), "{src} > {dst}");
        if way.is_some() {
            assert_eq!(router.forward(NOW, &mut packet), Onward::Forwarded);
            assert_eq!(Some(packet.meta.interface.0), way);
        }
    }
}

#[test]
fn malformed_packets_are_dropped_behind_the_filter() {
    let mut router = router();
    let good = ip(CLIENT, OUTSIDE, 17, &udp(10));
    for cut in 0..good.len() {
        let mut short = packet(&good[..cut]);
        assert!(router.admit(&short));
        assert!(!goes_on(&mut router, NOW, &mut short), "{cut}");
    }
    for first in [0x00, 0x44, 0x4f, 0x55, 0xff] {
        let mut octets = good.clone();
        octets[0] = first;
        assert!(!goes_on(&mut router, NOW, &mut packet(&octets)), "{first:x}");
    }
}
