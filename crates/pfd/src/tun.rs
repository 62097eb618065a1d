//! TUN devices: making one, naming it, giving it addresses, finding it a network namespace.
//!
//! Life-cycle: a device comes with [`Tun::open`] and goes with the last descriptor on it, that is
//! when the [`Tun`] and every I/O loop that serves it are dropped. It never outlives the process.
//! Invariants: all queues of a device have the same header size and the same offloads.
//! Sources: Linux Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use pfapi::units::IfIndex;

use crate::sys::netlink::Netlink;
use crate::sys::netns;
use crate::sys::tundev::{self, QueueFlags};

/// Packets that the kernel queues for us on a device: the prototype's bursts of 64 fit many times,
/// and at a million packets per second it is one millisecond.
const QUEUE_PACKETS: u32 = 1000;

/// Octets of the virtio-net header before each packet of a device with offload.
pub(crate) const HEADER_OCTETS: usize = 10;

/// What a device should look like.
#[derive(Clone, Debug)]
pub struct TunOptions {
    /// Name of the interface, as in pf.conf.
    pub name: String,
    /// Largest packet, in octets.
    pub mtu: u32,
    /// How the device is driven.
    pub backend: Backend,
    /// Network namespace of the kernel's side: a name below /run/netns or an absolute path.
    pub netns: Option<String>,
    /// Addresses with prefix length of the kernel's side.
    pub peer: Vec<(IpAddr, u8)>,
    /// Queues, one per engine thread; zero means one.
    pub queues: u16,
}

impl TunOptions {
    /// A device with one queue, an MTU of 1500 octets, no addresses, in the caller's namespace.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mtu: 1500,
            backend: Backend::Auto,
            netns: None,
            peer: Vec::new(),
            queues: 1,
        }
    }
}

/// How a device is driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// With offload where the kernel grants it, else without.
    #[default]
    Auto,
    /// With a virtio-net header: super-packets and partial checksums; an error where refused.
    Offload,
    /// One IP packet per read, checksums complete.
    Plain,
}

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The TUN driver is not there.
    #[error("no /dev/net/tun: load the module (modprobe tun), or give the container the device")]
    NoDriver,
    /// The process may not make devices.
    #[error("interface {name}: not permitted: run as root or with CAP_NET_ADMIN")]
    Permission {
        /// The interface.
        name: String,
    },
    /// Another interface has the name.
    #[error(
        "interface {name}: the name is taken: stop the program that holds it, or delete it with `ip {}link delete {name}`",
        namespace_words(netns.as_deref())
    )]
    NameTaken {
        /// The interface.
        name: String,
        /// The namespace, as configured.
        netns: Option<String>,
    },
    /// The kernel would not take the name.
    #[error(
        "interface name {name:?} is invalid: 1 to 15 octets without blank, `/`, `:` or `%`, and not `.` or `..`"
    )]
    NameInvalid {
        /// The name.
        name: String,
    },
    /// The namespace is not there.
    #[error(
        "interface {name}: no network namespace {path}: make it with `ip netns add`, or correct `netns`"
    )]
    NoNamespace {
        /// The interface.
        name: String,
        /// Where it was looked for.
        path: String,
    },
    /// The file is no network namespace.
    #[error(
        "interface {name}: {path} is no network namespace: name one that `ip netns list` shows"
    )]
    NotANamespace {
        /// The interface.
        name: String,
        /// Where it was looked for.
        path: String,
    },
    /// An address that cannot be put on an interface.
    #[error("interface {name}: address {address}/{prefix} is invalid: {hint}")]
    AddressInvalid {
        /// The interface.
        name: String,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// The way out.
        hint: &'static str,
    },
    /// The kernel refuses offload, and it was asked for.
    #[error(
        "interface {name}: the kernel refuses offload ({source}): use backend \"auto\" or \"plain\""
    )]
    NoOffload {
        /// The interface.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Some other step failed.
    #[error("interface {name}: cannot {step}: {source}")]
    Step {
        /// The interface.
        name: String,
        /// What was tried.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A TUN device that is up.
#[derive(Debug)]
pub struct Tun {
    name: String,
    queues: Vec<Queue>,
}

/// One queue of a device; clones share it.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(crate) file: Arc<File>,
    pub(crate) offloads: Offloads,
    pub(crate) mtu: u32,
}

/// What the kernel takes off our hands on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// A virtio-net header precedes each packet; partial checksums and TCP super-packets pass.
    pub header: bool,
    /// UDP super-packets pass too.
    pub udp: bool,
}

/// A queue as an I/O loop serves it.
#[derive(Clone, Debug)]
pub struct Port {
    /// The interface's index in the engine's list.
    pub interface: IfIndex,
    /// Its queue.
    pub queue: Queue,
}

impl Tun {
    /// Makes a device, configures it and brings it up.
    ///
    /// # Errors
    /// [`TunError`], with the way out in its text. Nothing is left behind.
    pub fn open(options: &TunOptions) -> Result<Self, TunError> {
        let TunOptions { name, netns, peer, .. } = options;
        check_name(name)?;
        for &(address, prefix) in peer {
            check_address(name, address, prefix)?;
        }
        let namespace = netns.as_deref().map(|netns| open_namespace(name, netns)).transpose()?;
        netns::inside(namespace.as_ref(), || Self::open_here(options)).map_err(|source| {
            match (source.raw_os_error(), netns) {
                (Some(libc::EINVAL), Some(netns)) => TunError::NotANamespace {
                    name: name.clone(),
                    path: netns::path_of(netns).display().to_string(),
                },
                (Some(libc::EPERM), _) => TunError::Permission { name: name.clone() },
                _ => TunError::step(name, "enter its network namespace", source),
            }
        })?
    }

    /// Makes the device in the network namespace of this thread: it need not be moved then, and
    /// its name must be free only there.
    fn open_here(options: &TunOptions) -> Result<Self, TunError> {
        let name = &options.name;
        let queues = open_queues(options)?;
        let mut netlink = Netlink::open()
            .map_err(|source| TunError::step(name, "open a netlink socket", source))?;
        let index = netlink
            .index_of(name)
            .map_err(|source| TunError::step(name, "find the device just made", source))?;
        silence_ipv6(name);
        netlink
            .bring_up(index, options.mtu, QUEUE_PACKETS)
            .map_err(|source| TunError::step(name, "set its mtu and bring it up", source))?;
        for &(address, prefix) in &options.peer {
            netlink.add_address(index, address, prefix).map_err(|source| {
                match (source.raw_os_error(), address) {
                    (Some(libc::EACCES | libc::EOPNOTSUPP), IpAddr::V6(_)) => {
                        TunError::AddressInvalid {
                            name: name.clone(),
                            address,
                            prefix,
                            hint: "IPv6 is switched off here: set sysctl \
                                   net.ipv6.conf.all.disable_ipv6=0, or leave the address out",
                        }
                    }
                    _ => TunError::step(name, "add a peer address", source),
                }
            })?;
        }
        Ok(Self { name: name.clone(), queues })
    }

    /// Name of the interface.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel takes off our hands on this device.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.queues.first().map_or(Offloads::default(), |queue| queue.offloads)
    }

    /// Queues of the device, one per engine thread.
    #[must_use]
    pub fn queues(&self) -> &[Queue] {
        &self.queues
    }

    /// The queue of engine thread `worker`, to be given to its I/O loop; `None` when there are
    /// fewer queues.
    #[must_use]
    pub fn port(&self, interface: IfIndex, worker: usize) -> Option<Port> {
        Some(Port { interface, queue: self.queues.get(worker)?.clone() })
    }
}

impl TunError {
    fn step(name: &str, step: &'static str, source: io::Error) -> Self {
        Self::Step { name: name.into(), step, source }
    }

    /// What an error of the driver means for the device that was asked for.
    fn of_driver(options: &TunOptions, source: io::Error) -> Self {
        let TunOptions { name, netns, .. } = options.clone();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::NoDriver,
            Some(libc::EPERM | libc::EACCES) => Self::Permission { name },
            Some(libc::EBUSY | libc::EEXIST) => Self::NameTaken { name, netns },
            // A device of another kind, or one made with other flags.
            Some(libc::EINVAL) if is_there(&name) => Self::NameTaken { name, netns },
            _ => Self::Step { name, step: "make the device", source },
        }
    }
}

/// Words for `ip` that name a namespace, with a blank behind them.
fn namespace_words(netns: Option<&str>) -> String {
    netns.map_or_else(String::new, |netns| format!("-n {netns} "))
}

/// Whether an interface of that name exists in this thread's namespace.
fn is_there(name: &str) -> bool {
    Netlink::open().and_then(|netlink| netlink.index_of(name)).is_ok()
}

/// The kernel's rule for names, and `%` besides, from which it would make a name of its own.
fn check_name(name: &str) -> Result<(), TunError> {
    let valid = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|octet| {
            octet.is_ascii_whitespace() || matches!(octet, b'/' | b':' | b'%' | 0 | 0x0b)
        });
    if valid { Ok(()) } else { Err(TunError::NameInvalid { name: name.into() }) }
}

fn check_address(name: &str, address: IpAddr, prefix: u8) -> Result<(), TunError> {
    let (longest, broadcast) = match address {
        IpAddr::V4(v4) => (32, v4.is_broadcast()),
        IpAddr::V6(_) => (128, false),
    };
    let hint = if prefix > longest {
        "the prefix is longer than the address: at most 32 for IPv4, 128 for IPv6"
    } else if address.is_unspecified() || address.is_multicast() || broadcast {
        "an interface needs an address of a single host"
    } else {
        return Ok(());
    };
    Err(TunError::AddressInvalid { name: name.into(), address, prefix, hint })
}

fn open_namespace(name: &str, netns: &str) -> Result<File, TunError> {
    let path = netns::path_of(netns);
    File::open(&path).map_err(|source| {
        let shown = path.display().to_string();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                TunError::NoNamespace { name: name.into(), path: shown }
            }
            io::ErrorKind::PermissionDenied => TunError::Permission { name: name.into() },
            _ => TunError::step(name, "open its network namespace", source),
        }
    })
}

/// Opens all queues, with the fullest offload that the options ask for and the kernel grants.
fn open_queues(options: &TunOptions) -> Result<Vec<Queue>, TunError> {
    let name = &options.name;
    if options.backend != Backend::Plain {
        match open_all(options, true) {
            Err(source) if source.raw_os_error() == Some(libc::EINVAL) && !is_there(name) => {
                if options.backend == Backend::Offload {
                    return Err(TunError::NoOffload { name: name.clone(), source });
                }
            }
            result => return result.map_err(|source| TunError::of_driver(options, source)),
        }
    }
    let queues = if options.queues > 1 {
        open_all(options, false)
    } else {
        open_plain(options).map(|queue| vec![queue])
    };
    queues.map_err(|source| TunError::of_driver(options, source))
}

/// Opens every queue of the device by our own calls; `EINVAL`, and no device left, when the kernel
/// refuses the header.
fn open_all(options: &TunOptions, header: bool) -> io::Result<Vec<Queue>> {
    let flags = QueueFlags { header, multi_queue: options.queues > 1 };
    (0..options.queues.max(1))
        .map(|_| {
            let file = tundev::open_queue(&options.name, flags)?;
            let offloads = if header { negotiate(&file)? } else { Offloads::default() };
            Ok(Queue { file: Arc::new(file), offloads, mtu: options.mtu })
        })
        .collect()
}

/// Agrees on header and offload, from the fullest set down.
fn negotiate(file: &File) -> io::Result<Offloads> {
    tundev::set_header_octets(file, HEADER_OCTETS)?;
    let mut refusal = None;
    for (flags, udp) in tundev::OFFLOADS {
        match tundev::set_offload(file, flags) {
            Ok(()) => return Ok(Offloads { header: true, udp }),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::InvalidInput.into()))
}

/// Opens a device with one queue and no offload.
fn open_plain(options: &TunOptions) -> io::Result<Queue> {
    let device = tun_tap::Iface::without_packet_info(&options.name, tun_tap::Mode::Tun)?;
    let file = tundev::duplicate(&device)?;
    Ok(Queue { file: Arc::new(file), offloads: Offloads::default(), mtu: options.mtu })
}

/// Keeps the kernel from talking on its own on a link where nobody asked it to: no link-local
/// address, no router solicitation, no detection of duplicates.
///
/// Best effort: without IPv6, or with /proc read-only, the device works all the same.
fn silence_ipv6(name: &str) {
    const NO_ADDRESS: &str = "1";
    for (key, value) in [
        ("addr_gen_mode", NO_ADDRESS),
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
        ("accept_dad", "0"),
    ] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{key}"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_refuses_are_told_apart() {
        for good in ["tun0", "a", "lan.7", "0123456789abcde"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "0123456789abcdef", "a/b", "a b", "tun%d", "eth0:1"] {
            assert!(matches!(check_name(bad), Err(TunError::NameInvalid { .. })), "{bad}");
        }
    }

    #[test]
    fn addresses_of_no_single_host_are_refused() {
        for (address, prefix, good) in [
            ("10.0.0.1", 32, true),
            ("10.0.0.1", 33, false),
            ("0.0.0.0", 0, false),
            ("224.0.0.1", 4, false),
            ("255.255.255.255", 32, false),
            ("fd00::1", 128, true),
            ("fd00::1", 129, false),
            ("ff02::1", 64, false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(check_address("t", address, prefix).is_ok(), good, "{address}/{prefix}");
        }
    }

    #[test]
    fn missing_namespace_is_named_in_full() {
        let options = TunOptions { netns: Some("no-such-netns".into()), ..TunOptions::new("t0") };
        let error = Tun::open(&options).unwrap_err();
        assert!(matches!(error, TunError::NoNamespace { .. }));
        assert!(error.to_string().contains("/run/netns/no-such-netns"), "{error}");
    }
}
