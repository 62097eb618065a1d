//! The limit: two TUN devices, the daemon's own packet I/O, and nothing in between.
//!
//! What the firewall needs beyond the numbers printed here is the price of filtering. With
//! `--answer-syn` it answers SYNs with a SYN|ACK of a fixed sequence number instead: the limit of
//! what a SYN flood defence can reach over TUN.
#![forbid(unsafe_code)]

mod syn;

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use pfapi::units::IfIndex;
use pfd::io::{IoLoop, IoMethod, IoOptions};
use pfd::tun::{Backend, Tun, TunOptions};
use pfengine::Batch;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Forwards packets between two TUN devices without looking at them.
#[derive(Debug, Parser)]
struct Arguments {
    /// First device: its name, then the namespace and the addresses of the kernel's side.
    #[arg(long, value_name = "NAME[,NETNS[,ADDRESS/LENGTH]...]")]
    a: End,
    /// Second device; with --answer-syn it may be left out.
    #[arg(
        long,
        value_name = "NAME[,NETNS[,ADDRESS/LENGTH]...]",
        required_unless_present = "answer_syn"
    )]
    b: Option<End>,
    /// How the devices are driven.
    #[arg(long, value_enum, default_value = "auto")]
    backend: BackendWord,
    /// How packets move.
    #[arg(long, value_enum, default_value = "auto")]
    io: IoWord,
    /// Largest packet, in octets.
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Empty turns of reading before the thread sleeps.
    #[arg(long)]
    spin: Option<u32>,
    /// Processor to stay on.
    #[arg(long)]
    cpu: Option<usize>,
    /// Seconds after which the numbers are printed.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Answers TCP SYNs on the device that they came from; drops everything else.
    #[arg(long)]
    answer_syn: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum BackendWord {
    Auto,
    Offload,
    Plain,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IoWord {
    Auto,
    Uring,
    Rw,
}

/// A device as the command line names it.
#[derive(Clone, Debug)]
struct End {
    name: String,
    netns: Option<String>,
    peer: Vec<(IpAddr, u8)>,
}

impl std::str::FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(',');
        let name = words.next().unwrap_or_default().to_owned();
        let netns = words.next().filter(|word| !word.is_empty()).map(str::to_owned);
        let peer = words
            .map(|word| {
                let (address, prefix) =
                    word.split_once('/').ok_or_else(|| format!("{word}: no prefix length"))?;
                Ok((
                    address.parse().map_err(|error| format!("{word}: {error}"))?,
                    prefix.parse().map_err(|error| format!("{word}: {error}"))?,
                ))
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { name, netns, peer })
    }
}

const A: IfIndex = IfIndex(0);
const B: IfIndex = IfIndex(1);

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pf-forwarder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(cpu) = arguments.cpu {
        stay_on(cpu)?;
    }
    let mut tuns = vec![open(&arguments.a, arguments)?];
    if let Some(b) = &arguments.b {
        tuns.push(open(b, arguments)?);
    }
    let ports = tuns.iter().zip([A, B]).filter_map(|(tun, index)| tun.port(index, 0)).collect();
    let defaults = IoOptions::default();
    let options = IoOptions {
        method: match arguments.io {
            IoWord::Auto => IoMethod::Auto,
            IoWord::Uring => IoMethod::Uring,
            IoWord::Rw => IoMethod::ReadWrite,
        },
        spin: arguments.spin.unwrap_or(defaults.spin),
        ..defaults
    };
    let mut io = IoLoop::new(ports, &options)?;
    eprintln!("ready");
    let begin = Instant::now();
    let cpu_begin = cpu_time();
    forward(&mut io, Duration::from_secs(arguments.seconds), arguments.answer_syn)?;
    let cpu = cpu_time().saturating_sub(cpu_begin);
    report(&io, &tuns, begin.elapsed(), cpu);
    Ok(())
}

fn open(end: &End, arguments: &Arguments) -> Result<Tun, pfd::tun::TunError> {
    Tun::open(&TunOptions {
        mtu: arguments.mtu,
        backend: match arguments.backend {
            BackendWord::Auto => Backend::Auto,
            BackendWord::Offload => Backend::Offload,
            BackendWord::Plain => Backend::Plain,
        },
        netns: end.netns.clone(),
        peer: end.peer.clone(),
        ..TunOptions::new(&end.name)
    })
}

/// The whole work: what comes from one device goes to the other.
fn forward(io: &mut IoLoop, time: Duration, answer_syn: bool) -> io::Result<()> {
    let end = Instant::now() + time;
    let mut batch = Batch::new();
    let mut turns = 0_u32;
    loop {
        io.turn(&mut batch, Some(Duration::from_millis(100)))?;
        let idle = batch.packets.is_empty();
        for mut packet in batch.packets.drain(..) {
            let from = packet.meta.interface;
            if !answer_syn {
                io.send(if from == A { B } else { A }, packet);
            } else if syn::answer(&mut packet) {
                io.send(from, packet);
            } else {
                io.recycle(packet);
            }
        }
        turns = turns.wrapping_add(1);
        // Reading the clock on every turn would be part of what is measured.
        if (idle || turns.is_multiple_of(64)) && Instant::now() >= end {
            return Ok(());
        }
    }
}

fn report(io: &IoLoop, tuns: &[Tun], wall: Duration, cpu: Duration) {
    let mut packets = 0;
    let mut octets = 0;
    let mut devices = vec![];
    for ((_, stats), tun) in io.stats().zip(tuns) {
        packets += stats.rx_packets;
        octets += stats.rx_octets;
        devices.push(json!({
            "name": tun.name(),
            "offload": tun.offloads().header,
            "udp_offload": tun.offloads().udp,
            "rx_packets": stats.rx_packets,
            "rx_octets": stats.rx_octets,
            "rx_errors": stats.rx_errors,
            "tx_packets": stats.tx_packets,
            "tx_octets": stats.tx_octets,
            "tx_drops": stats.tx_drops,
            "tx_errors": stats.tx_errors,
        }));
    }
    let method = if io.method() == IoMethod::Uring { "uring" } else { "rw" };
    let cpu_ns = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
    println!(
        "{}",
        json!({
            "io": method,
            "wall_s": wall.as_secs_f64(),
            "cpu_s": cpu.as_secs_f64(),
            "packets": packets,
            "octets": octets,
            "cpu_ns_per_packet": cpu_ns.checked_div(packets),
            "devices": devices,
        })
    );
}

/// Processor time of this thread, the kernel's work for it included.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_word_by_word() {
        let end: End = "tun0,client,10.0.0.2/24,fd00::2/64".parse().unwrap();
        assert_eq!(end.name, "tun0");
        assert_eq!(end.netns.as_deref(), Some("client"));
        assert_eq!(end.peer.len(), 2);
        let end: End = "tun0,,10.0.0.2/24".parse().unwrap();
        assert_eq!((end.netns, end.peer.len()), (None, 1));
        assert!("tun0,,10.0.0.2".parse::<End>().is_err());
    }
}
