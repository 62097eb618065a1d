//! One round with the kernel: the writes of the last batch, then the reads of the next.
//!
//! With io_uring all of it is one system call; without, one call per packet. Measured with 64
//! writes and 64 reads per round: on an Intel Xeon a fifth less time per small packet than single
//! calls, on an AMD EPYC with Safe RET a sixth more. Bulk TCP showed no difference beyond the noise
//! of a busy machine. Larger rounds gain nothing; registered buffers gained nothing clear either,
//! and would pin the whole pool.

use std::fs::File;
use std::io;

use pfengine::{Batch, Packet};
use rustix::io::Errno;

use super::device::{Device, share_out};
use super::event_loop::IoLoop;
use crate::sys::uring::{Completion, Operation, Ring};

/// Writes per round: a batch, its answers and what else the engine had to say.
pub(super) const ROUND: usize = 192;

/// Times that a packet for a full device is tried again before it is dropped.
const TRIES: u32 = 3;

/// How packets move.
#[derive(Debug)]
pub(super) enum Driver {
    Uring(Box<Ring>),
    ReadWrite,
}

impl Driver {
    /// Operations of a ring: a round of writes and a batch of reads.
    pub(super) const OPERATIONS: usize = ROUND + Batch::SIZE;
}

impl IoLoop {
    /// Writes what is queued; reads into `batch`, when there is one.
    pub(super) fn exchange(&mut self, batch: Option<&mut Batch>) -> io::Result<()> {
        if let Driver::Uring(_) = self.driver {
            let result = self.exchange_by_uring(batch);
            if result.is_err() {
                self.driver = Driver::ReadWrite;
            }
            return result;
        }
        self.exchange_by_calls(batch);
        Ok(())
    }

    fn exchange_by_uring(&mut self, mut batch: Option<&mut Batch>) -> io::Result<()> {
        let mut unsupported = false;
        loop {
            let Self { driver, devices, outgoing, stalled, pool, .. } = self;
            let Driver::Uring(ring) = driver else {
                return Ok(());
            };
            while ring.room() > Batch::SIZE
                && let Some((position, mut packet)) = outgoing.pop_front()
            {
                let start = packet.headroom();
                let end = start + packet.len();
                debug_assert!(end <= packet.storage_mut().len(), "span within buffer");
                ring.push(Operation::Write, position, packet, start..end);
            }
            let last = outgoing.is_empty();
            let reading = if last { batch.take() } else { None };
            if let Some(batch) = &reading {
                let budget = (Batch::SIZE - batch.packets.len()).min(pool.ready());
                share_out(devices, budget, self.first);
                for (position, device) in devices.iter().enumerate() {
                    for _ in 0..device.grant {
                        let Some(mut packet) = pool.take() else { break };
                        let start = packet.headroom() - device.header_octets();
                        let end = packet.storage_mut().len();
                        ring.push(Operation::Read, position, packet, start..end);
                    }
                }
            }
            ring.run()?;
            let mut reading = reading;
            for Completion { operation, device: position, mut packet, result } in ring.finish() {
                let device = &mut devices[position];
                if result == -libc::EOPNOTSUPP {
                    unsupported = true;
                }
                match (operation, usize::try_from(result)) {
                    (Operation::Read, Ok(octets)) => {
                        if device.accept(&mut packet, octets)
                            && let Some(batch) = &mut reading
                        {
                            batch.packets.push(packet);
                            continue;
                        }
                    }
                    (Operation::Read, Err(_)) => note_read_failure(device, -result),
                    (Operation::Write, Ok(_)) => {
                        count_sent(device, &packet);
                        drop_overtaken(stalled, position, |packet| {
                            device.turn.tx_drops += 1;
                            pool.give(packet);
                        });
                    }
                    (Operation::Write, Err(_)) => match -result {
                        libc::EAGAIN | libc::EOPNOTSUPP => {
                            stalled.push((position, packet));
                            continue;
                        }
                        error => note_write_failure(device, error),
                    },
                }
                pool.give(packet);
            }
            if reading.is_some() {
                devices.iter_mut().for_each(Device::adapt);
            }
            for (position, packet) in stalled.drain(..) {
                write_one(&mut devices[position], &packet);
                pool.give(packet);
            }
            if last {
                break;
            }
        }
        if unsupported {
            // The driver of an old kernel cannot promise not to wait.
            self.driver = Driver::ReadWrite;
        }
        Ok(())
    }

    fn exchange_by_calls(&mut self, batch: Option<&mut Batch>) {
        while let Some((position, packet)) = self.outgoing.pop_front() {
            write_one(&mut self.devices[position], &packet);
            self.pool.give(packet);
        }
        let Some(batch) = batch else { return };
        let Self { devices, pool, .. } = self;
        for device in devices.iter_mut() {
            // An empty read ends the device's share: there is no need to guess.
            device.want = Batch::SIZE;
        }
        share_out(devices, (Batch::SIZE - batch.packets.len()).min(pool.ready()), self.first);
        for device in devices.iter_mut() {
            for _ in 0..device.grant {
                let Some(mut packet) = pool.take() else { return };
                let start = packet.headroom() - device.header_octets();
                let file: &File = &device.queue.file;
                match rustix::io::read(file, &mut packet.storage_mut()[start..]) {
                    Ok(octets) => {
                        if device.accept(&mut packet, octets) {
                            batch.packets.push(packet);
                        } else {
                            pool.give(packet);
                        }
                    }
                    Err(error) => {
                        note_read_failure(device, error.raw_os_error());
                        pool.give(packet);
                        break;
                    }
                }
            }
        }
    }
}

/// Writes one packet, trying again a few times when the device is full.
fn write_one(device: &mut Device, packet: &Packet) {
    for _ in 0..TRIES {
        let file: &File = &device.queue.file;
        match rustix::io::write(file, packet.data()) {
            Ok(_) => return count_sent(device, packet),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return note_write_failure(device, error.raw_os_error()),
        }
    }
    device.turn.tx_drops += 1;
}

fn count_sent(device: &mut Device, packet: &Packet) {
    device.turn.tx_packets += 1;
    device.turn.tx_octets += (packet.len() - device.header_octets()) as u64;
}

fn note_write_failure(device: &mut Device, error: i32) {
    device.turn.tx_errors += 1;
    device.note_failure(error);
}

fn note_read_failure(device: &mut Device, error: i32) {
    if !matches!(error, libc::EAGAIN | libc::EINTR | libc::EOPNOTSUPP) {
        device.turn.rx_errors += 1;
        device.note_failure(error);
    }
}

/// Drops the packets that a later one for the same device has just overtaken: sent now, they
/// would arrive out of order.
fn drop_overtaken(
    stalled: &mut Vec<(usize, Packet)>,
    position: usize,
    mut drop_one: impl FnMut(Packet),
) {
    let mut at = 0;
    while at < stalled.len() {
        if stalled[at].0 == position {
            drop_one(stalled.remove(at).1);
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overtaken_packets_of_the_device_are_dropped_in_order() {
        let packet = |mark| {
            let mut packet = Packet::new(0, 1);
            packet.meta.mark = mark;
            packet
        };
        let mut stalled = vec![(0, packet(1)), (1, packet(2)), (0, packet(3))];
        let mut dropped = vec![];
        drop_overtaken(&mut stalled, 0, |packet| dropped.push(packet.meta.mark));
        assert_eq!(dropped, [1, 3]);
        assert_eq!(stalled.len(), 1);
        assert_eq!(stalled[0].1.meta.mark, 2);
    }
}
