//! Devices and I/O loop against the real kernel: two network namespaces, a TUN device in each,
//! and a thread that carries packets from one to the other.
//!
//! Needs root, /dev/net/tun and ip(8); says in one line that it was skipped where they are not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pfapi::units::IfIndex;
use pfd::io::{DeviceStats, IoLoop, IoMethod, IoOptions, Waker};
use pfd::sys::netns;
use pfd::tun::{Backend, Tun, TunError, TunOptions};
use pfengine::{Batch, Checksum, Gso, Offload};

const A: IfIndex = IfIndex(0);
const B: IfIndex = IfIndex(1);

/// A network namespace that lives as long as the value.
struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Makes one; `None`, and a line that says so, where tests of this kind cannot run.
    fn make(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let reason = if !rustix::process::geteuid().is_root() {
            "not root"
        } else if !Path::new("/dev/net/tun").exists() {
            "no /dev/net/tun"
        } else {
            let name = format!("pfio{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
            if ip(&["netns", "add", &name]) {
                let file = File::open(netns::path_of(&name)).unwrap();
                ip(&["-n", &name, "link", "set", "lo", "up"]);
                return Some(Self { name, file });
            }
            "cannot make network namespaces"
        };
        eprintln!("skipped: {test}: {reason}");
        None
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::inside(Some(&self.file), work).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let output = Command::new("ip").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn open(netns: &Netns, backend: Backend, last: u8) -> Tun {
    let peer = vec![
        (IpAddr::from([10, 91, 0, last]), 24),
        (IpAddr::from([0xfd91, 0, 0, 0, 0, 0, 0, u16::from(last)]), 64),
    ];
    let netns = Some(netns.name.clone());
    Tun::open(&TunOptions { backend, netns, peer, ..TunOptions::new("pfio0") }).unwrap()
}

/// Two namespaces and a thread that forwards between them.
struct Wire {
    a: Netns,
    b: Netns,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<Vec<DeviceStats>>>,
}

impl Wire {
    fn make(test: &str, backends: [Backend; 2], method: IoMethod) -> Option<Self> {
        let (a, b) = (Netns::make(test)?, Netns::make(test)?);
        let tuns = [open(&a, backends[0], 1), open(&b, backends[1], 2)];
        let ports = vec![tuns[0].port(A, 0).unwrap(), tuns[1].port(B, 0).unwrap()];
        let mut io = IoLoop::new(ports, &IoOptions { method, ..IoOptions::default() }).unwrap();
        assert_eq!(io.method(), method);
        let stop = Arc::new(AtomicBool::new(false));
        let waker = io.waker();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut batch = Batch::new();
            while !stopped.load(Relaxed) {
                io.turn(&mut batch, None).unwrap();
                for packet in batch.packets.drain(..) {
                    let to = if packet.meta.interface == A { B } else { A };
                    io.send(to, packet);
                }
            }
            drop(tuns);
            io.stats().map(|(_, stats)| stats).collect()
        });
        Some(Self { a, b, stop, waker, thread: Some(thread) })
    }

    /// Ends the thread and says what it counted.
    fn end(mut self) -> Vec<DeviceStats> {
        self.stop.store(true, Relaxed);
        self.waker.wake();
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Octets that tell their position.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at / 1021).to_le_bytes()[0]).collect()
}

fn transfer(wire: &Wire, server: &str, octets: usize) {
    let server: SocketAddr = server.parse().unwrap();
    let listener = wire.b.inside(|| TcpListener::bind(server)).unwrap();
    let sender = thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut received = vec![];
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let limit = Duration::from_secs(10);
        let mut stream = wire.a.inside(|| TcpStream::connect_timeout(&server, limit)).unwrap();
        stream.set_write_timeout(Some(limit)).unwrap();
        stream.write_all(&pattern(octets)).unwrap();
        drop(stream);
        receiver.join().unwrap()
    });
    assert!(sender == pattern(octets), "{server}: what arrived is not what was sent");
}

#[test]
fn tcp_arrives_whole_over_every_pair_of_backends() {
    for method in [IoMethod::Uring, IoMethod::ReadWrite] {
        for backends in [
            [Backend::Offload, Backend::Offload],
            [Backend::Offload, Backend::Plain],
            [Backend::Plain, Backend::Offload],
            [Backend::Plain, Backend::Plain],
        ] {
            let Some(wire) = Wire::make("tcp", backends, method) else { return };
            transfer(&wire, "10.91.0.2:5001", 5_000_000);
            transfer(&wire, "[fd91::2]:5001", 5_000_000);
            let stats = wire.end();
            let longest = stats[0].rx_octets / stats[0].rx_packets;
            // Super-packets came in, and left in pieces where the other side takes none.
            assert_eq!(longest > 1500, backends[0] == Backend::Offload, "{stats:?}");
            if backends == [Backend::Offload, Backend::Plain] {
                assert!(stats[1].tx_packets > stats[0].rx_packets, "{stats:?}");
            }
            for device in stats {
                assert_eq!((device.rx_errors, device.tx_errors, device.tx_drops), (0, 0, 0));
            }
        }
    }
}

#[test]
fn datagrams_keep_their_order() {
    for method in [IoMethod::Uring, IoMethod::ReadWrite] {
        let backends = [Backend::Offload, Backend::Offload];
        let Some(wire) = Wire::make("order", backends, method) else { return };
        let receiver = wire.b.inside(|| UdpSocket::bind("10.91.0.2:5002")).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let sender = wire.a.inside(|| UdpSocket::bind("10.91.0.1:0")).unwrap();
        sender.connect("10.91.0.2:5002").unwrap();
        let mut number = 0_u32;
        // Bursts of more than a batch, but less than the device's queue and the socket hold.
        for _ in 0..50 {
            let first = number;
            for number in first..first + 150 {
                sender.send(&number.to_le_bytes()).unwrap();
            }
            for _ in 0..150 {
                let mut octets = [0; 4];
                receiver.recv(&mut octets).unwrap();
                assert_eq!(u32::from_le_bytes(octets), number);
                number += 1;
            }
        }
        wire.end();
    }
}

/// A UDP super-packet of `count` datagrams of 100 octets, its checksum partial.
fn udp_super_packet(count: usize) -> (Vec<u8>, Offload) {
    let len = 28 + count * 100;
    let octets = u16::try_from(len).unwrap();
    let mut data = vec![0x45, 0];
    data.extend(octets.to_be_bytes());
    data.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 91, 0, 1, 10, 91, 0, 2]);
    let sum = data
        .chunks(2)
        .fold(0_u32, |sum, word| sum + u32::from(u16::from_be_bytes([word[0], word[1]])));
    let header = !u16::try_from((sum >> 16) + (sum & 0xffff)).unwrap();
    data[10..12].copy_from_slice(&header.to_be_bytes());
    let pseudo = 0x0a5b + 1 + 0x0a5b + 2 + 17 + (octets - 20);
    data.extend(4000_u16.to_be_bytes());
    data.extend(5003_u16.to_be_bytes());
    data.extend((octets - 20).to_be_bytes());
    data.extend(pseudo.to_be_bytes());
    for number in 0..count {
        data.extend([number.to_le_bytes()[0]; 100]);
    }
    let checksum = Checksum::Partial { start: 20, offset: 6 };
    (data, Offload { gso: Gso::Udp, gso_size: 100, checksum })
}

#[test]
fn udp_super_packets_arrive_as_datagrams() {
    for backend in [Backend::Auto, Backend::Plain] {
        for method in [IoMethod::Uring, IoMethod::ReadWrite] {
            let Some(netns) = Netns::make("udp super-packet") else { return };
            let tun = open(&netns, backend, 2);
            let receiver = netns.inside(|| UdpSocket::bind("10.91.0.2:5003")).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let options = IoOptions { method, ..IoOptions::default() };
            let mut io = IoLoop::new(vec![tun.port(A, 0).unwrap()], &options).unwrap();
            let (data, offload) = udp_super_packet(60);
            let mut packet = io.buffer().unwrap();
            packet.fill(&data);
            packet.meta.offload = offload;
            io.send(A, packet);
            io.turn(&mut Batch::new(), Some(Duration::ZERO)).unwrap();
            for number in 0..60 {
                let mut octets = [0; 200];
                assert_eq!(receiver.recv(&mut octets).unwrap(), 100);
                assert_eq!(octets[..100], [number; 100]);
            }
        }
    }
}

#[test]
fn sleep_ends_by_timeout_and_by_wake() {
    let Some(netns) = Netns::make("sleep") else { return };
    let tun = open(&netns, Backend::Auto, 1);
    let mut io = IoLoop::new(vec![tun.port(A, 0).unwrap()], &IoOptions::default()).unwrap();
    let mut batch = Batch::new();
    let begin = Instant::now();
    io.turn(&mut batch, Some(Duration::ZERO)).unwrap();
    assert!(begin.elapsed() < Duration::from_millis(50));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(100) {
        io.turn(&mut batch, Some(Duration::from_millis(100))).unwrap();
    }
    let waker = io.waker();
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        waker.wake();
    });
    // Ends, or the test hangs.
    io.turn(&mut batch, None).unwrap();
    other.join().unwrap();
}

#[test]
fn device_vanishes_with_its_owner() {
    let Some(netns) = Netns::make("drop") else { return };
    for backend in [Backend::Auto, Backend::Plain] {
        let tun = open(&netns, backend, 1);
        let io = IoLoop::new(vec![tun.port(A, 0).unwrap()], &IoOptions::default()).unwrap();
        assert!(ip(&["-n", &netns.name, "link", "show", "pfio0"]));
        drop(tun);
        drop(io);
        // The ring lets go of its files a little later.
        let begin = Instant::now();
        while netns.inside(|| Path::new("/proc/sys/net/ipv4/conf/pfio0").exists()) {
            assert!(begin.elapsed() < Duration::from_secs(5), "the device is still there");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn loop_survives_the_deletion_of_a_device() {
    for method in [IoMethod::Uring, IoMethod::ReadWrite] {
        let Some(netns) = Netns::make("deletion") else { return };
        let tun = open(&netns, Backend::Auto, 1);
        let options = IoOptions { method, ..IoOptions::default() };
        let mut io = IoLoop::new(vec![tun.port(A, 0).unwrap()], &options).unwrap();
        assert!(ip(&["-n", &netns.name, "link", "delete", "pfio0"]));
        let mut batch = Batch::new();
        let begin = Instant::now();
        for _ in 0..3 {
            io.turn(&mut batch, Some(Duration::from_millis(20))).unwrap();
            let mut packet = io.buffer().unwrap();
            packet.fill(&[0x45; 20]);
            io.send(A, packet);
        }
        assert!(begin.elapsed() >= Duration::from_millis(20), "the loop spins on a dead device");
        io.turn(&mut batch, Some(Duration::ZERO)).unwrap();
        assert!(io.stats().all(|(_, stats)| stats.tx_errors >= 1));
    }
}

#[test]
fn each_queue_of_a_device_is_its_own_port() {
    let Some(netns) = Netns::make("queues") else { return };
    for backend in [Backend::Auto, Backend::Plain] {
        let netns = Some(netns.name.clone());
        let options = TunOptions { netns, backend, queues: 2, ..TunOptions::new("pfio1") };
        let tun = Tun::open(&options).unwrap();
        assert_eq!(tun.queues().len(), 2);
        assert!(tun.port(A, 1).is_some());
        assert!(tun.port(A, 2).is_none());
    }
}

#[test]
fn a_taken_name_is_told_with_the_way_out() {
    let Some(netns) = Netns::make("name") else { return };
    let first = open(&netns, Backend::Auto, 1);
    for name in ["pfio0", "lo"] {
        for backend in [Backend::Auto, Backend::Offload, Backend::Plain] {
            let netns = Some(netns.name.clone());
            let options = TunOptions { netns, backend, ..TunOptions::new(name) };
            let error = Tun::open(&options).unwrap_err();
            assert!(matches!(error, TunError::NameTaken { .. }), "{name}: {error}");
        }
    }
    drop(first);
    let options = TunOptions { netns: Some("/dev/null".into()), ..TunOptions::new("pfio0") };
    let error = Tun::open(&options).unwrap_err();
    assert!(matches!(error, TunError::NotANamespace { .. }), "{error}");
}
