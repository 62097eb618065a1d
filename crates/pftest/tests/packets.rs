//! Packets in words: what is built is what is read, and what is printed is what was said.

use pftest::packet::{Variables, checksums_are_right, dissect};
use pftest::{NoFiles, Scenario};

/// Texts of packets that have one way to be written.
const PACKETS: &[&str] = &[
    "tcp 198.51.100.1:4000 > 192.0.2.1:80 S ttl 64 tos 0 ipid 4660 seq 5 ack 0 win 100 opts [mss 1460, nop, wscale 7, sackok, ts 1:2] len 0",
    "tcp [2001:db8::1]:1 > [2001:db8::2]:2 FRPAUEW ttl 1 tos 8 flow 77 seq 1 ack 2 win 3 urg 9 len 2 data 0x6869",
    "udp 10.0.0.1:53 > 10.0.0.2:5353 ttl 64 tos 0 ipid 4660 df len 0",
    "icmp 10.0.0.1 > 10.0.0.2 echo-request ttl 64 tos 0 ipid 4660 seq 2 code 0 id 7 len 4 data 0x00010203",
    "icmp6 fe80::1 > ff02::1 router-solicitation ttl 255 tos 0 flow 0 seq 0 code 0 id 0 len 0",
    "ip 10.0.0.1 > 10.0.0.2 proto 47 ttl 64 tos 0 ipid 4660 len 3 data 0x010203",
    "ip 10.0.0.1 > 10.0.0.2 proto 17 ttl 64 tos 0 ipid 9 more off 8 len 8 data 0x0001020304050607",
    "udp [2001:db8::1]:1 > [2001:db8::2]:2 ttl 64 tos 0 flow 0 ext [hop, dst] len 1 data 0x00",
    "icmp 10.0.0.9 > 10.0.0.1 unreach ttl 64 tos 0 ipid 4660 code 4 mtu 1400 quote { udp 10.0.0.1:5 > 10.0.0.2:6 ttl 64 tos 0 ipid 4660 len 0 }",
];

#[test]
fn packets_survive_the_way_through_octets() {
    for text in PACKETS {
        let packet = pftest::packet::parse(text).unwrap();
        let octets = packet.build(&Variables::default()).unwrap();
        assert!(checksums_are_right(&octets), "{text}");
        let seen = dissect(&octets);
        assert_eq!(seen.to_string(), *text);
        packet.compare(&octets, &mut Variables::default()).unwrap();
    }
}

#[test]
fn a_changed_octet_is_seen() {
    for text in PACKETS {
        // Extension headers are compared by name only.
        if text.contains("ext") {
            continue;
        }
        let packet = pftest::packet::parse(text).unwrap();
        let octets = packet.build(&Variables::default()).unwrap();
        for at in 0..octets.len() {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            let difference = packet.compare(&changed, &mut Variables::default());
            assert!(difference.is_err(), "octet {at} of {text}");
        }
    }
}

#[test]
fn hostile_octets_are_dissected_without_harm() {
    for text in PACKETS {
        let packet = pftest::packet::parse(text).unwrap();
        let octets = packet.build(&Variables::default()).unwrap();
        for len in 0..octets.len() {
            let _ = dissect(&octets[..len]).to_string();
        }
        for at in 0..octets.len() {
            for value in [0, 1, 0x0f, 0x7f, 0xff] {
                let mut changed = octets.clone();
                changed[at] = value;
                let _ = dissect(&changed).to_string();
                let _ = checksums_are_right(&changed);
            }
        }
    }
}

#[test]
fn rules_may_come_from_a_block_and_tables_from_a_file() {
    let text = "\
# a block of rules
file \"bad\":
    198.51.100.66
    2001:db8:1::/48
config:
    table <bad> persist file \"bad\"
    pass            # everybody
    block in from <bad>

in em0 udp 198.51.100.66:1 > 192.0.2.1:53 -> drop match
in em0 udp 198.51.100.67:1 > 192.0.2.1:53 -> em1
in em0 udp [2001:db8:1::9]:1 > [2001:db8:2::1]:53 -> drop match
expect table bad has 198.51.100.66 lacks 198.51.100.67 addresses 2
";
    let scenario = Scenario::parse("x.pft", text).unwrap();
    assert_eq!(scenario.title, "a block of rules");
    pftest::run(&scenario, &NoFiles).unwrap();
}
