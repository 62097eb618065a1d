//! The system calls that no safe crate offers: packet sockets, `sendmmsg`, one socket option.
//!
//! All `unsafe` of the load tools is here. Every function takes and gives owned or borrowed
//! values whose lifetimes the compiler checks; no pointer survives a call.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

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
        let name = CString::new(interface)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "interface name with NUL"))?;
        // SAFETY: `name` is a NUL-terminated string that lives during the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            let error = io::Error::last_os_error();
            return Err(io::Error::new(error.kind(), format!("interface {interface}: {error}")));
        }
        // SAFETY: the call takes no pointers. Protocol 0 means that the socket receives nothing.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        set_int(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        set_int(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 16 << 20)?;
        // SAFETY: `sockaddr_ll` is a plain C struct for which all zeros is a value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        let protocol = if ipv4 { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
        address.sll_family = libc::AF_PACKET.cast_unsigned() as u16;
        address.sll_protocol = (protocol.cast_unsigned() as u16).to_be();
        address.sll_ifindex = index.cast_signed();
        Ok(Self { fd, address })
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

/// Lets `bind` choose an address only, so that the port is taken at `connect`, where the four-tuple
/// is known: one source address then has ports for every destination.
///
/// # Errors
///
/// When the descriptor is no IP socket.
pub fn bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set_int(socket: &impl AsFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
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
