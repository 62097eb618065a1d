//! The records of late, for who follows the log over the control socket.

use std::collections::VecDeque;
use std::fmt::Write;

use pfapi::control::{LogPage, LoggedPacket};

/// Octets of records that are kept at most.
const OCTETS_MAX: usize = 4 << 20;
/// Octets of records in one page; twice that as text stays below the longest frame.
const PAGE_MAX: usize = 256 << 10;

/// Records of late, oldest first.
#[derive(Debug, Default)]
pub struct Ring {
    records: VecDeque<Record>,
    /// Number of the oldest record.
    first: u64,
    octets: usize,
    /// Records that did not even come here.
    dropped: u64,
}

#[derive(Debug)]
struct Record {
    interface: u8,
    time_us: u64,
    len: usize,
    octets: Box<[u8]>,
}

impl Ring {
    /// Adds a record; the oldest ones make room for it.
    pub fn push(&mut self, interface: u8, time_us: u64, octets: &[u8], len: usize) {
        self.octets += octets.len();
        self.records.push_back(Record { interface, time_us, len, octets: octets.into() });
        while self.octets > OCTETS_MAX {
            let Some(oldest) = self.records.pop_front() else { return };
            self.octets -= oldest.octets.len();
            self.first += 1;
        }
    }

    /// Counts records that were lost on the way here.
    pub const fn lose(&mut self, lost: u64) {
        self.dropped += lost;
    }

    /// Records for one `pflogN` from number `from` on, as many as fit into an answer; without a
    /// number none, but the number to ask for next.
    #[must_use]
    pub fn page(&self, interface: u8, from: Option<u64>) -> LogPage {
        let end = self.first + self.records.len() as u64;
        // Numbers of another run of the daemon may lie behind the end.
        let from = from.unwrap_or(end).min(end);
        let missed = self.first.saturating_sub(from);
        let mut next = from.max(self.first);
        let mut records = Vec::new();
        let mut octets = 0;
        let skip = usize::try_from(next - self.first).unwrap_or(usize::MAX);
        for record in self.records.iter().skip(skip) {
            if record.interface == interface {
                octets += record.octets.len();
                if octets > PAGE_MAX {
                    break;
                }
                records.push(LoggedPacket {
                    time_us: record.time_us,
                    len: u32::try_from(record.len).unwrap_or(u32::MAX),
                    octets: hex(&record.octets),
                });
            }
            next += 1;
        }
        LogPage { next, missed, dropped: self.dropped, records }
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(2 * octets.len()), |mut text, octet| {
        // Writing to a string does not fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_sees_its_interface_and_what_it_missed() {
        let mut ring = Ring::default();
        ring.push(0, 1, &[0xab], 1);
        let start = ring.page(0, None);
        assert_eq!((start.next, start.missed, start.records.len()), (1, 0, 0));
        ring.push(1, 2, &[1], 1);
        ring.push(0, 3, &[0x0c, 0xd0], 9);
        ring.lose(7);
        let page = ring.page(0, Some(start.next));
        let expected = LoggedPacket { time_us: 3, len: 9, octets: "0cd0".to_owned() };
        assert_eq!(page, LogPage { next: 3, missed: 0, dropped: 7, records: vec![expected] });
        assert_eq!(ring.page(0, Some(3)).records, []);
        // A number from another run.
        assert_eq!(ring.page(0, Some(99)).next, 3);
    }

    #[test]
    fn ring_is_bounded_and_pages_fit_a_frame() {
        let mut ring = Ring::default();
        for _ in 0..10_000 {
            ring.push(0, 0, &[0; 2_000], 2_000);
        }
        assert!(ring.octets <= OCTETS_MAX);
        let page = ring.page(0, Some(0));
        assert_eq!(page.missed, ring.first);
        let frame = serde_json::to_vec(&page).unwrap();
        assert!(frame.len() < pfapi::control::FRAME_MAX - 1_000);
        assert_eq!(page.next, ring.first + page.records.len() as u64);
    }
}
