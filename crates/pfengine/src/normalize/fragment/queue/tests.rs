use super::*;
use crate::normalize::fragment::cache::Key;
use crate::packet_desc::PacketDesc;

/// Header of a first fragment over IPv4: 20 octets, "don't fragment" clear.
fn head_v4() -> Vec<u8> {
    let mut head = vec![0x45, 0, 0, 0, 0, 7, 0x20, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
    let sum = Sum::of(&head).checksum();
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    head
}

fn head_v6() -> Vec<u8> {
    let mut head = vec![0x60, 0, 0, 0, 0, 0, 44, 64];
    head.extend([0x20; 32]);
    head
}

fn key(head: &[u8]) -> Key {
    let mut whole = head.to_vec();
    if whole[0] >> 4 == 4 {
        whole[3] = 20;
        whole[6] = 0;
        whole[10..12].fill(0);
        whole[9] = 47;
        let sum = Sum::of(&whole).checksum();
        whole[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        whole[6] = 47;
    }
    Key::new(&PacketDesc::parse(&whole).unwrap(), 0, 7)
}

struct Rig {
    queue: Queue,
    head: Vec<u8>,
}

impl Rig {
    fn v4() -> Self {
        Self { queue: Queue::new(Af::Inet), head: head_v4() }
    }

    fn v6() -> Self {
        Self { queue: Queue::new(Af::Inet6), head: head_v6() }
    }

    /// Adds octets `start..end`, all equal to `fill`.
    fn add(&mut self, start: usize, end: usize, more: bool, fill: u8) -> Added {
        let data = vec![fill; end - start];
        let added = self.queue.add(&Arriving {
            key: key(&self.head),
            start,
            more,
            data: &data,
            head: (start == 0).then_some(&self.head),
            next_at: 6,
            next: 17,
        });
        self.check();
        added
    }

    fn check(&self) {
        let pieces = &self.queue.pieces;
        assert!(pieces.windows(2).all(|pair| pair[0].end() <= pair[1].start));
        assert_eq!(self.queue.covered, pieces.iter().map(|piece| piece.data().len()).sum());
        assert_eq!(self.queue.memory, pieces.iter().map(Piece::memory).sum());
        for part in 0..PARTS {
            let counted = pieces.iter().filter(|piece| piece.start / PART_OCTETS == part).count();
            assert_eq!(usize::from(self.queue.per_part[part]), counted);
        }
    }

    fn whole(&self) -> Vec<u8> {
        let mut packet = Packet::new(0, 70_000);
        self.queue.write(&mut packet, 9).unwrap();
        packet.data()[self.head.len()..].to_vec()
    }
}

fn runs(runs: &[(usize, u8)]) -> Vec<u8> {
    runs.iter().flat_map(|&(count, fill)| vec![fill; count]).collect()
}

#[test]
fn order_does_not_matter() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for mut rig in [Rig::v4(), Rig::v6()] {
            let parts = [(0, 16, true, 1), (16, 24, true, 2), (24, 29, false, 3)];
            for (at, part) in order.into_iter().enumerate() {
                let (start, end, more, fill) = parts[part];
                let expected = if at == 2 { Added::Whole } else { Added::Kept };
                assert_eq!(rig.add(start, end, more, fill), expected);
            }
            assert_eq!(rig.whole(), runs(&[(16, 1), (8, 2), (5, 3)]));
        }
    }
}

#[test]
fn first_comer_wins_at_the_front_and_last_comer_behind() {
    let mut rig = Rig::v4();
    assert_eq!(rig.add(0, 16, true, 1), Added::Kept);
    assert_eq!(rig.add(24, 40, true, 2), Added::Kept);
    // Octets 8 to 15 are there; 24 to 31 are taken from the older fragment behind.
    assert_eq!(rig.add(8, 32, true, 3), Added::Kept);
    assert_eq!(rig.add(40, 48, false, 4), Added::Whole);
    assert_eq!(rig.whole(), runs(&[(16, 1), (16, 3), (8, 2), (8, 4)]));
}

#[test]
fn covered_fragments_are_replaced() {
    let mut rig = Rig::v4();
    assert_eq!(rig.add(0, 8, true, 1), Added::Kept);
    assert_eq!(rig.add(16, 24, true, 2), Added::Kept);
    assert_eq!(rig.add(32, 40, true, 3), Added::Kept);
    assert_eq!(rig.add(8, 40, true, 4), Added::Kept);
    assert_eq!(rig.queue.pieces(), 2);
    assert_eq!(rig.add(40, 41, false, 5), Added::Whole);
    assert_eq!(rig.whole(), runs(&[(8, 1), (32, 4), (1, 5)]));
}

#[test]
fn duplicates_over_ipv4_change_nothing() {
    let mut rig = Rig::v4();
    assert_eq!(rig.add(0, 16, true, 1), Added::Kept);
    assert_eq!(rig.add(0, 16, true, 2), Added::Duplicate);
    assert_eq!(rig.add(8, 16, true, 2), Added::Duplicate);
    assert_eq!(rig.add(16, 20, false, 3), Added::Whole);
    assert_eq!(rig.whole(), runs(&[(16, 1), (4, 3)]));
}

#[test]
fn every_overlap_over_ipv6_ruins_the_datagram() {
    for (start, end) in [(0, 16), (8, 16), (8, 24), (0, 24), (8, 32), (16, 32), (24, 40)] {
        let mut rig = Rig::v6();
        assert_eq!(rig.add(0, 16, true, 1), Added::Kept);
        assert_eq!(rig.add(24, 32, true, 2), Added::Kept);
        assert_eq!(rig.add(start, end, true, 3), Added::Ruined, "{start}..{end}");
    }
}

/// Fragments that contradict what is known of the end of the datagram.
#[test]
fn contradictions_about_the_end_are_refused() {
    let cases = [
        // Known: the end at 32. Beyond it; at it with more to come; before it and the last, too.
        (false, (32, 40, true)),
        (false, (24, 40, false)),
        (false, (16, 32, true)),
        (false, (8, 16, false)),
        // Known: more to come behind 32. The last one ends there, or before.
        (true, (8, 16, false)),
        (true, (16, 32, false)),
    ];
    for (more, (start, end, new_more)) in cases {
        let mut v4 = Rig::v4();
        assert_eq!(v4.add(24, 32, more, 1), Added::Kept);
        assert_eq!(v4.add(start, end, new_more, 2), Added::Refused, "{start}..{end}");
        assert_eq!(v4.queue.pieces(), 1);
        let mut v6 = Rig::v6();
        assert_eq!(v6.add(24, 32, more, 1), Added::Kept);
        assert_eq!(v6.add(start, end, new_more, 2), Added::Ruined, "{start}..{end}");
    }
}

#[test]
fn part_of_a_datagram_holds_64_fragments() {
    for mut rig in [Rig::v4(), Rig::v6()] {
        for at in 0..64 {
            assert_eq!(rig.add(at * 16, at * 16 + 8, true, 1), Added::Kept);
        }
        // The next part has its own count.
        assert_eq!(rig.add(4096, 4104, true, 1), Added::Kept);
        assert_eq!(rig.add(64 * 16, 64 * 16 + 8, true, 1), Added::Ruined);
    }
}

/// FreeBSD's tests/sys/netpfil/pf/frag-overlimit.py: a fragment that loses its front may come to
/// lie in the next part, and must find room there.
#[test]
fn fragment_that_moves_into_a_full_part_ruins_the_datagram() {
    let mut rig = Rig::v4();
    for at in 0..64 {
        assert_eq!(rig.add(4_096 + at * 16, 4_096 + at * 16 + 8, true, 1), Added::Kept);
    }
    assert_eq!(rig.add(4_080, 4_096, true, 1), Added::Kept);
    assert_eq!(rig.add(4_000, 4_088, true, 2), Added::Kept);
    let mut full = Rig::v4();
    for at in 0..64 {
        assert_eq!(full.add(4_104 + at * 16, 4_104 + at * 16 + 8, true, 1), Added::Kept);
    }
    assert_eq!(full.add(4_080, 4_104, true, 1), Added::Kept);
    assert_eq!(full.add(4_000, 4_096, true, 2), Added::Ruined);
}

#[test]
fn header_of_the_whole_is_that_of_the_first_fragment() {
    let mut rig = Rig::v4();
    rig.add(8, 13, false, 2);
    rig.add(0, 8, true, 1);
    let mut packet = Packet::new(0, 100);
    rig.queue.write(&mut packet, 9).unwrap();
    assert_eq!(packet.len(), 33);
    assert_eq!(packet.data()[2..8], [0, 33, 0, 7, 0, 0]);
    assert!(crate::wire::checksum::ipv4_header_is_intact(&packet.data()[..20]));
    assert_eq!(packet.meta.refragment, None);

    let mut rig = Rig::v6();
    rig.add(8, 13, false, 2);
    rig.add(0, 8, true, 1);
    let mut packet = Packet::new(0, 100);
    rig.queue.write(&mut packet, 9).unwrap();
    assert_eq!(packet.data()[4..8], [0, 13, 17, 64]);
    assert_eq!(packet.meta.refragment, Refragment::new(40, 6, 8, 9));
}

#[test]
fn datagrams_that_no_packet_can_hold_are_short() {
    let mut rig = Rig::v4();
    assert_eq!(rig.add(0, 32_768, true, 1), Added::Kept);
    assert_eq!(rig.add(32_768, 65_516, false, 1), Added::Whole);
    let mut packet = Packet::new(0, 70_000);
    assert_eq!(rig.queue.write(&mut packet, 9), Err(Reason::Short));
    // IPv6 does not count its first header, so one octet less than 64 KiB fits.
    let mut rig = Rig::v6();
    assert_eq!(rig.add(0, 32_768, true, 1), Added::Kept);
    assert_eq!(rig.add(32_768, 65_535, false, 1), Added::Whole);
    assert_eq!(rig.queue.write(&mut packet, 9), Ok(()));
    assert_eq!(rig.queue.write(&mut Packet::new(0, 2_048), 9), Err(Reason::Memory));
}
