//! Log of a run, printed when the run fails.

use std::collections::VecDeque;

use pfapi::units::Uptime;

use crate::segment::Segment;

/// Lines that are kept.
const LINES: usize = 60_000;

/// One thing that happened.
#[derive(Clone, Debug)]
enum Line {
    /// A packet was seen at a place.
    Packet(&'static str, Segment),
    /// Anything else.
    Note(String),
}

/// The last things that happened.
#[derive(Clone, Debug, Default)]
pub struct Log(VecDeque<(Uptime, Line)>);

impl Log {
    fn push(&mut self, now: Uptime, line: Line) {
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        self.0.push_back((now, line));
    }

    /// Notes a packet.
    pub fn packet(&mut self, now: Uptime, place: &'static str, packet: &[u8]) {
        match Segment::parse(packet) {
            Some(segment) => self.push(now, Line::Packet(place, segment)),
            None => self.note(now, format!("{place} {} octets, not TCP", packet.len())),
        }
    }

    /// Notes anything else.
    pub fn note(&mut self, now: Uptime, text: impl Into<String>) {
        self.push(now, Line::Note(text.into()));
    }

    /// Prints everything to standard error.
    pub fn print(&self) {
        for (at, line) in &self.0 {
            let micros = at.as_nanos() / 1_000;
            let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
            match line {
                Line::Packet(place, segment) => {
                    eprintln!("{seconds:5}.{micros:06} {place:<9} {segment}");
                }
                Line::Note(text) => eprintln!("{seconds:5}.{micros:06} -- {text}"),
            }
        }
    }
}
