//! A device as its I/O loop sees it, and how a turn's reads are shared out between devices.

use std::sync::Arc;

use pfapi::units::{Direction, IfIndex};
use pfengine::{Batch, Packet};

use super::{DeviceCounters, DeviceStats, vnet};
use crate::tun::{HEADER_OCTETS, Port, Queue};

/// One device of an I/O loop.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) interface: IfIndex,
    pub(super) queue: Queue,
    /// Reads that would have found a packet, guessed from the last turn.
    pub(super) want: usize,
    /// Reads allowed in this turn.
    pub(super) grant: usize,
    /// Packets read in this turn.
    pub(super) got: usize,
    /// What this turn has counted so far.
    pub(super) turn: DeviceStats,
    pub(super) counters: Arc<DeviceCounters>,
    /// The interface was deleted under us.
    pub(super) gone: bool,
}

impl Device {
    pub(super) fn new(port: Port) -> Self {
        Self {
            interface: port.interface,
            queue: port.queue,
            want: Batch::SIZE,
            grant: 0,
            got: 0,
            turn: DeviceStats::default(),
            counters: Arc::default(),
            gone: false,
        }
    }

    /// Octets of the device's header before each packet.
    pub(super) fn header_octets(&self) -> usize {
        if self.queue.offloads.header { HEADER_OCTETS } else { 0 }
    }

    /// Makes a packet of the `octets` read in front of `packet`'s start, header included; false
    /// when they make no sense.
    pub(super) fn accept(&mut self, packet: &mut Packet, octets: usize) -> bool {
        let header_octets = self.header_octets();
        let start = packet.headroom();
        packet.set_span(start - header_octets, octets);
        let offload = match packet.data().first_chunk() {
            _ if header_octets == 0 => Some(pfengine::Offload::default()),
            Some(header) => vnet::decode(*header),
            None => None,
        };
        let Some(offload) = offload.filter(|_| octets > header_octets) else {
            self.turn.rx_errors += 1;
            packet.set_span(start, 0);
            return false;
        };
        packet.set_span(start, octets - header_octets);
        packet.meta.interface = self.interface;
        packet.meta.direction = Direction::In;
        packet.meta.offload = offload;
        self.turn.rx_packets += 1;
        self.turn.rx_octets += packet.len() as u64;
        self.got += 1;
        true
    }

    /// Notes what a failed read or write says of the device.
    pub(super) fn note_failure(&mut self, error: i32) {
        if error == libc::EBADFD {
            self.gone = true;
        }
    }

    /// Guesses how many reads the next turn is worth.
    ///
    /// A device that had a packet for every read surely has more; otherwise the guess doubles, so
    /// that it grows to a full batch in six turns, and an idle device costs two empty reads.
    pub(super) fn adapt(&mut self) {
        if self.grant == 0 {
            return;
        }
        self.want =
            if self.got >= self.grant { Batch::SIZE } else { (self.got * 2 + 2).min(Batch::SIZE) };
    }
}

/// Shares `budget` reads out between the devices, each at most what it wants.
///
/// Everybody gets an equal share; what some leave goes to the others, beginning with device
/// `first`, which the caller moves on every turn.
pub(super) fn share_out(devices: &mut [Device], budget: usize, first: usize) {
    let count = devices.len().max(1);
    let share = budget / count;
    let mut left = budget;
    for device in devices.iter_mut() {
        device.got = 0;
        device.grant = if device.gone { 0 } else { device.want.min(share) };
        left -= device.grant;
    }
    for turn in 0..devices.len() {
        let device = &mut devices[(first + turn) % count];
        if !device.gone {
            let more = (device.want - device.grant).min(left);
            device.grant += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::tun::Offloads;

    fn device(want: usize, header: bool) -> Device {
        let file = Arc::new(File::open("/dev/null").unwrap());
        let queue = Queue { file, offloads: Offloads { header, udp: header }, mtu: 1500 };
        Device { want, ..Device::new(Port { interface: IfIndex(3), queue }) }
    }

    fn grants(wants: &[usize], budget: usize, first: usize) -> Vec<usize> {
        let mut devices: Vec<_> = wants.iter().map(|&want| device(want, false)).collect();
        share_out(&mut devices, budget, first);
        devices.iter().map(|device| device.grant).collect()
    }

    #[test]
    fn reads_are_shared_fairly() {
        assert_eq!(grants(&[64, 64], 64, 0), [32, 32]);
        assert_eq!(grants(&[64, 2], 64, 0), [62, 2]);
        assert_eq!(grants(&[2, 2, 2], 64, 0), [2, 2, 2]);
        assert_eq!(grants(&[64, 64, 64], 64, 1), [21, 22, 21]);
        assert_eq!(grants(&[64, 64, 64], 2, 1), [0, 2, 0]);
        assert_eq!(grants(&[], 64, 0), [0; 0]);
        assert_eq!(grants(&[64, 64], 0, 0), [0, 0]);
    }

    #[test]
    fn a_device_that_is_gone_gets_no_reads() {
        let mut devices = [device(64, false), device(64, false)];
        devices[0].note_failure(libc::EBADFD);
        share_out(&mut devices, 64, 0);
        assert_eq!((devices[0].grant, devices[1].grant), (0, 64));
    }

    #[test]
    fn header_without_packet_is_an_error() {
        let mut device = device(64, true);
        let mut packet = Packet::new(128, 2048);
        assert!(!device.accept(&mut packet, HEADER_OCTETS));
        assert!(!device.accept(&mut packet, 3));
        assert!(device.accept(&mut packet, HEADER_OCTETS + 20));
        assert_eq!((packet.len(), packet.headroom()), (20, 128));
        assert_eq!(packet.meta.interface, IfIndex(3));
        assert_eq!(
            (device.turn.rx_errors, device.turn.rx_packets, device.turn.rx_octets),
            (2, 1, 20)
        );
    }
}
