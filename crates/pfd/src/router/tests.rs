use pfapi::units::{Direction, IfIndex, Uptime};
use pfengine::wire::checksum::ipv4_header_is_intact;
use pfengine::{Gso, NextHop, Offload};

use super::*;
use crate::testing::{Collected, ip, mend, packet, router, udp};

const NOW: Uptime = Uptime::from_secs(1);
const CLIENT: &str = "10.77.1.2";
const OUTSIDE: &str = "198.51.100.7";

#[test]
fn forwarding_counts_the_time_to_live_down() {
    let mut router = router();
    let mut packet = packet(&ip(CLIENT, OUTSIDE, 17, &udp(10)));
    assert!(router.forward(NOW, &mut packet));
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
        assert!(router.forward(NOW, &mut packet));
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
        assert!(router.forward(NOW, &mut packet));
        let data = packet.data();
        assert_eq!(packet.meta.interface, IfIndex(0));
        assert_eq!(data[12..20], [10, 77, 1, 1, 10, 77, 1, 2]);
        assert_eq!((data[9], data[20], data[21]), (1, 11, 0));
    }
    let mut octets = ip("fd77:1::2", "fd77:2::2", 17, &udp(10));
    octets[7] = 1;
    let mut packet = packet(&octets);
    assert!(router.forward(NOW, &mut packet));
    let data = packet.data();
    assert_eq!((data[6], data[40], data[41]), (58, 3, 0));
}

#[test]
fn without_route_the_sender_hears_of_it() {
    let mut router = router();
    let mut packet = packet(&ip("fd77:1::2", "2001:db8::1", 17, &udp(10)));
    assert!(router.forward(NOW, &mut packet));
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
                router.forward(Uptime::from_secs(second), &mut packet)
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
    assert!(!router.forward(NOW, &mut packet));
}

#[test]
fn packet_that_must_not_be_cut_is_answered_with_the_mtu() {
    let mut router = router();
    let mut octets = ip(CLIENT, OUTSIDE, 17, &udp(1253));
    assert_eq!(octets.len(), 1281);
    octets[6] = 0x40;
    mend(&mut octets);
    let mut big = packet(&octets);
    assert!(router.forward(NOW, &mut big));
    let data = big.data();
    assert_eq!(big.meta.interface, IfIndex(0));
    assert_eq!((data[20], data[21], &data[24..28]), (3, 4, &[0, 0, 5, 0][..]));

    let mut big = packet(&ip("fd77:1::2", "fd77:2::2", 17, &udp(1233)));
    assert!(router.forward(NOW, &mut big));
    let data = big.data();
    assert_eq!((data[40], data[41], &data[44..48]), (2, 0, &[0, 0, 5, 0][..]));
    assert_eq!(router.counters().get(Event::TooBig), 2);

    let mut fits = packet(&ip("fd77:1::2", "fd77:2::2", 17, &udp(1232)));
    assert!(router.forward(NOW, &mut fits));
    assert_eq!(fits.meta.interface, IfIndex(1));
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
        assert!(router.forward(NOW, &mut packet));
        assert_eq!(packet.meta.interface, IfIndex(link), "{gso_size}");
        assert_eq!(router.fragment_size(&packet), None);
    }
}

#[test]
fn fragments_together_are_the_packet() {
    let mut router = router();
    let payload = udp(3000);
    let mut whole = packet(&ip(CLIENT, OUTSIDE, 17, &payload));
    assert!(router.forward(NOW, &mut whole));
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
    assert!(router.forward(NOW, &mut ping));
    assert_eq!(ping.meta.interface, IfIndex(0));
    assert_eq!(ping.data()[12..20], [10, 77, 2, 1, 10, 77, 1, 2]);
    assert_eq!(ping.data()[20], 0);

    let mut datagram = packet(&ip(CLIENT, "10.77.1.1", 17, &udp(10)));
    assert!(router.forward(NOW, &mut datagram));
    assert_eq!((datagram.data()[20], datagram.data()[21]), (3, 3));

    let mut syn = vec![0x30, 0x39, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
    let (src, dst) = (CLIENT.parse().unwrap(), "10.77.1.1".parse().unwrap());
    let sum = pfengine::wire::checksum::Sum::pseudo(src, dst, 6, 20)
        .plus(pfengine::wire::checksum::Sum::of(&syn))
        .checksum();
    syn[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut syn = packet(&ip(CLIENT, "10.77.1.1", 6, &syn));
    assert!(router.forward(NOW, &mut syn));
    assert_eq!(syn.data()[33], 0x14);
    assert_eq!(router.counters().get(Event::Local), 3);
}

#[test]
fn fragments_and_strange_protocols_to_own_addresses_are_dropped() {
    let mut router = router();
    let mut octets = ip(CLIENT, "10.77.1.1", 1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    octets[6] = 0x20;
    mend(&mut octets);
    assert!(!router.forward(NOW, &mut packet(&octets)));
    assert!(!router.forward(NOW, &mut packet(&ip(CLIENT, "10.77.1.1", 47, &[0; 8]))));
    // Own address as the source, too: the answer would go nowhere.
    let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    assert!(!router.forward(NOW, &mut packet(&ip("10.77.1.1", "10.77.1.1", 1, &echo))));
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

#[test]
fn malformed_packets_are_dropped_behind_the_filter() {
    let mut router = router();
    let good = ip(CLIENT, OUTSIDE, 17, &udp(10));
    for cut in 0..good.len() {
        let mut short = packet(&good[..cut]);
        assert!(router.admit(&short));
        assert!(!router.forward(NOW, &mut short), "{cut}");
    }
    for first in [0x00, 0x44, 0x4f, 0x55, 0xff] {
        let mut octets = good.clone();
        octets[0] = first;
        assert!(!router.forward(NOW, &mut packet(&octets)), "{first:x}");
    }
}
