//! The system calls that no safe crate offers: packet sockets, `sendmmsg`, TUN devices, socket options.
//!
//! All `unsafe` of the load tools is here. Every function takes and gives owned or borrowed
//! values whose lifetimes the compiler checks; no pointer survives a call.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

/// Packets per `sendmmsg`. More gain nothing (measured: 64 and 256 are equal).
pub const BATCH_MAX: usize = 64;

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets that the device took.
    pub taken: u64,
    /// Packets that it refused because its queue was full.
    pub refused: u64,
}

/// Sends whole IP packets through one interface, past the queueing discipline.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    address: libc::sockaddr_ll,
}

impl PacketSocket {
    /// Opens a socket on an interface of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or without the capability `CAP_NET_RAW`.
    pub fn open(interface: &str, ipv4: bool) -> io::Result<Self> {
        let fd = packet_socket()?;
        set_int(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        set_int(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 16 << 20)?;
        let protocol = if ipv4 { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
        Ok(Self { fd, address: packet_address(interface, protocol)? })
    }

    /// Sends to this Ethernet address; needed where the interface is no TUN device.
    pub fn set_next_hop(&mut self, address: [u8; 6]) {
        self.address.sll_halen = 6;
        self.address.sll_addr[..6].copy_from_slice(&address);
    }

    /// Sends the packets of `length` octets each that lie one behind the other in `packets`, at
    /// most [`BATCH_MAX`].
    ///
    /// # Errors
    ///
    /// When the device is down or gone. A full queue is no error but counted.
    ///
    /// # Panics
    ///
    /// When `length` is 0.
    pub fn send_batch(&mut self, packets: &mut [u8], length: usize) -> io::Result<Sent> {
        // SAFETY: both are plain C structs for which all zeros (null pointers, length 0) is a value.
        let (mut parts, mut messages): ([libc::iovec; BATCH_MAX], [libc::mmsghdr; BATCH_MAX]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut count = 0;
        for (packet, part) in packets.chunks_exact_mut(length).zip(&mut parts) {
            part.iov_base = packet.as_mut_ptr().cast();
            part.iov_len = length;
            count += 1;
        }
        for (message, part) in messages.iter_mut().zip(&mut parts) {
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = (&raw mut self.address).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
        }
        let mut sent = Sent::default();
        let mut next = 0;
        while next < count {
            let rest = &mut messages[next..count];
            // SAFETY: `rest` holds exactly that many initialised headers, each with one part that
            // points into `packets` and the address in `self`; all three are borrowed by this
            // call, and the kernel writes nothing but `msg_len`.
            let result = unsafe {
                libc::sendmmsg(self.fd.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0)
            };
            if let Ok(taken) = usize::try_from(result) {
                sent.taken += taken as u64;
                next += taken;
                continue;
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOBUFS | libc::EAGAIN) => {
                    sent.refused += 1;
                    next += 1;
                }
                Some(libc::EINTR) => {}
                _ => return Err(error),
            }
        }
        Ok(sent)
    }
}

/// Sees the IP packets that go through one interface, in both directions.
#[derive(Debug)]
pub struct Sniffer {
    fd: OwnedFd,
}

impl Sniffer {
    /// Opens one on an interface of the calling thread's network namespace. Packets that come from
    /// now on are kept, up to 16 MiB, until they are asked for.
    ///
    /// # Errors
    ///
    /// When there is no such interface, or without the capability `CAP_NET_RAW`.
    pub fn open(interface: &str) -> io::Result<Self> {
        let fd = packet_socket()?;
        set_int(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20)?;
        let address = packet_address(interface, libc::ETH_P_ALL)?;
        // SAFETY: `address` is a whole `sockaddr_ll` that lives during the call.
        let result = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(Self { fd }) } else { Err(io::Error::last_os_error()) }
    }

    /// The next packet, whole or as much as fits; `None` when none came within the time.
    ///
    /// # Errors
    ///
    /// When the interface has gone.
    pub fn next<'a>(
        &self,
        buffer: &'a mut [u8],
        patience: Duration,
    ) -> io::Result<Option<&'a [u8]>> {
        let mut polled = [PollFd::new(&self.fd, PollFlags::IN)];
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        if rustix::event::poll(&mut polled, Some(&patience))? == 0 {
            return Ok(None);
        }
        let (_, length) =
            rustix::net::recv(&self.fd, &mut *buffer, rustix::net::RecvFlags::empty())?;
        Ok(Some(&buffer[..length.min(buffer.len())]))
    }
}

fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers. Protocol 0 means that the socket receives nothing until
    // it is bound to another one.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn packet_address(interface: &str, protocol: i32) -> io::Result<libc::sockaddr_ll> {
    let name = CString::new(interface)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "interface name with NUL"))?;
    // SAFETY: `name` is a NUL-terminated string that lives during the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(error.kind(), format!("interface {interface}: {error}")));
    }
    // SAFETY: `sockaddr_ll` is a plain C struct for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET.cast_unsigned() as u16;
    address.sll_protocol = (protocol.cast_unsigned() as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    Ok(address)
}

/// Makes a TUN device in the calling thread's network namespace: one IP packet per read and write,
/// no header before it, never waiting. The device goes when the descriptor does.
///
/// # Errors
///
/// When the name is taken or too long, or without the capability `CAP_NET_ADMIN`.
pub fn open_tun(name: &str) -> io::Result<OwnedFd> {
    let flags =
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open("/dev/net/tun", flags, rustix::fs::Mode::empty())?;
    // SAFETY: `ifreq` is a plain C struct for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "name of the interface too long"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
    // SAFETY: the kernel reads and writes one `ifreq`, which lives during the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Lets `bind` choose an address only, so that the port is taken at `connect`, where the four-tuple
/// is known: one source address then has ports for every destination.
///
/// # Errors
///
/// When the descriptor is no IP socket.
pub fn bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Sets a socket option that is one integer.
///
/// # Errors
///
/// What the kernel says.
pub fn set_int(socket: &impl AsFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<c_int>()` octets from `value`, which lives on the stack
    // during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads a socket option into `value`; returns how many octets the kernel wrote.
///
/// # Errors
///
/// What the kernel says.
pub fn get_octets(
    socket: &impl AsFd,
    level: i32,
    option: i32,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets into `value`, and the count into `length`;
    // both are borrowed by this call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}
