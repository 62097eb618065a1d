//! `pfctl log`: packets that rules log, as they are logged, in pcap form.
//!
//! The daemon keeps the records of late; this asks for new ones a few times a second. Who reads too
//! slowly loses records and is told how many, and packets never wait.
//! Sources: draft-ietf-opsawg-pcap; libpcap pcap/dlt.h `DLT_PFLOG`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use pfapi::control::{DEFAULT_SOCKET, LogPage, LoggedPacket, Request, Response};

use crate::client::{Client, ClientError};
use crate::console::{Console, printable};
use crate::exit::Exit;

/// How long to wait when nothing was new.
const PAUSE: Duration = Duration::from_millis(100);
/// The header of the stream: microseconds, version 2.4, longest record, link type 117; all numbers
/// little-endian.
const PCAP_HEADER: [u8; 24] =
    [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x8b, 0, 1, 0, 117, 0, 0, 0];

pub fn command() -> Command {
    Command::new("log")
        .about("Write packets that rules log to standard output, as they are logged (pcap)")
        .after_help("Example: pfctl log | tcpdump -n -e -ttt -r -")
        .arg(
            Arg::new("socket")
                .short('p')
                .value_name("SOCKET")
                .help("Control socket of the daemon")
                .default_value(DEFAULT_SOCKET)
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("interface")
                .value_name("pflogN")
                .help("Log interface that rules name with `log (to pflogN)`")
                .default_value("pflog0")
                .value_parser(interface),
        )
}

/// The number of a `pflogN`.
fn interface(text: &str) -> Result<u8, String> {
    let number = text.strip_prefix("pflog").and_then(|number| number.parse().ok());
    number.ok_or_else(|| "log interfaces are pflog0 to pflog255".to_owned())
}

pub fn run(matches: &ArgMatches, console: &mut Console<'_>) -> Exit {
    let (Some(socket), Some(&interface)) =
        (matches.get_one::<PathBuf>("socket"), matches.get_one::<u8>("interface"))
    else {
        return Exit::Usage;
    };
    follow(socket, interface, console)
}

/// Follows the log until the reader or the daemon goes away.
fn follow(socket: &Path, interface: u8, console: &mut Console<'_>) -> Exit {
    let mut client = match Client::connect(socket) {
        Ok(client) => client,
        Err(error) => return fail(&error, Exit::NoDaemon, console),
    };
    let mut page = match ask(&mut client, interface, None) {
        Ok(page) => page,
        Err(stop) => return stop.report(console),
    };
    // At once, so that a reader that waits for the header goes on.
    if console.out.write_all(&PCAP_HEADER).and_then(|()| console.out.flush()).is_err() {
        return Exit::ClosedPipe;
    }
    loop {
        let next = match ask(&mut client, interface, Some(page.next)) {
            Ok(next) => next,
            Err(stop) => return stop.report(console),
        };
        let lost = next.missed + next.dropped.saturating_sub(page.dropped);
        if lost > 0 {
            console.warn(format_args!("{lost} records lost"));
        }
        for packet in &next.records {
            let Some(octets) = record(packet) else {
                console.warn("the daemon sent a record that is none");
                return Exit::Failure;
            };
            if console.out.write_all(&octets).and_then(|()| console.out.flush()).is_err() {
                return Exit::ClosedPipe;
            }
        }
        if next.next == page.next {
            thread::sleep(PAUSE);
        }
        page = next;
    }
}

/// Why the daemon gives no more records.
enum Stop {
    Broken(ClientError),
    Refused(String),
}

impl Stop {
    fn report(self, console: &mut Console<'_>) -> Exit {
        match self {
            Self::Broken(error) => fail(&error, Exit::NoDaemon, console),
            Self::Refused(message) => {
                console.warn(printable(&message));
                Exit::Failure
            }
        }
    }
}

fn ask(client: &mut Client, interface: u8, from: Option<u64>) -> Result<LogPage, Stop> {
    match client.call(&Request::Log { interface, from }) {
        Ok(Response::Log { page }) => Ok(page),
        Ok(Response::Failed { message, .. }) => Err(Stop::Refused(message)),
        Ok(_) => Err(Stop::Refused("the daemon gave an answer to another question".to_owned())),
        Err(error) => Err(Stop::Broken(error)),
    }
}

fn fail(error: &ClientError, exit: Exit, console: &mut Console<'_>) -> Exit {
    console.warn(error);
    if let Some(hint) = error.hint() {
        console.warn(hint);
    }
    exit
}

/// A record with its header; `None` when the octets are no hexadecimal number.
fn record(packet: &LoggedPacket) -> Option<Vec<u8>> {
    let digits = packet.octets.as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    let mut octets = Vec::with_capacity(16 + pairs.len());
    octets.extend(word(packet.time_us / 1_000_000));
    octets.extend(word(packet.time_us % 1_000_000));
    octets.extend(word(pairs.len() as u64));
    octets.extend(packet.len.to_le_bytes());
    for &[high, low] in pairs {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        octets.push(u8::try_from(digit(high)? << 4 | digit(low)?).ok()?);
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_pcap() {
        let packet = LoggedPacket { time_us: 3_000_009, len: 300, octets: "0aff".to_owned() };
        let expected = [3, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 44, 1, 0, 0, 10, 255];
        assert_eq!(record(&packet).unwrap(), expected);
        for octets in ["0", "0g", "é"] {
            assert_eq!(record(&LoggedPacket { octets: octets.to_owned(), ..packet.clone() }), None);
        }
    }

    #[test]
    fn only_log_interfaces_are_taken() {
        assert_eq!(interface("pflog255"), Ok(255));
        for wrong in ["pflog256", "pflog", "tun0", "pflog-1"] {
            assert!(interface(wrong).is_err(), "{wrong}");
        }
    }
}
