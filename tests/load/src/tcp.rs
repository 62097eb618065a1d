//! What the kernel knows about a TCP connection, and where its sequence numbers begin.
//!
//! Sources: Linux include/uapi/linux/tcp.h (`struct tcp_info`, `TCP_REPAIR`), tcp(7).

use std::io;
use std::os::fd::AsFd;

use serde::Serialize;

use crate::sys::{get_octets, set_int};

/// One end of a connection, as `ss -ti` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "one per option, as the kernel gives them")]
pub struct End {
    /// Largest segment that this end sends, in octets, options not counted.
    pub snd_mss: u32,
    /// Shift of the windows that this end sends; 0 without the option, too.
    pub rcv_wscale: u8,
    /// Shift of the windows that this end receives.
    pub snd_wscale: u8,
    /// The option was agreed on.
    pub wscale: bool,
    /// The option was agreed on.
    pub sack: bool,
    /// The option was agreed on.
    pub timestamps: bool,
    /// Explicit congestion notification was agreed on.
    pub ecn: bool,
    /// Segments sent again.
    pub retransmits: u32,
}

/// Octets of `struct tcp_info` that are read here; the kernel's is longer.
const LENGTH: usize = 104;

impl End {
    /// Asks the kernel.
    ///
    /// # Errors
    ///
    /// When the descriptor is no TCP socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let mut octets = [0; LENGTH];
        if get_octets(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut octets)? < LENGTH {
            return Err(io::Error::other("TCP_INFO is shorter than it was in Linux 3"));
        }
        Ok(Self::parse(&octets))
    }

    fn parse(octets: &[u8; LENGTH]) -> Self {
        let word = |at: usize| {
            u32::from_ne_bytes(
                octets[at..at + 4].try_into().expect("four octets of a range of four"),
            )
        };
        let (options, scales) = (octets[5], octets[6]);
        let has = |bit: u8| options & bit != 0;
        // The two shifts are bit fields: the compiler puts the first one low on little-endian
        // machines and high on the others.
        let (first, second) = (scales & 0xf, scales >> 4);
        let (snd_wscale, rcv_wscale) =
            if cfg!(target_endian = "little") { (first, second) } else { (second, first) };
        Self {
            snd_mss: word(16),
            rcv_wscale,
            snd_wscale,
            wscale: has(4),
            sack: has(2),
            timestamps: has(1),
            ecn: has(8),
            retransmits: word(100),
        }
    }
}

/// Makes a socket that is not yet connected begin with this sequence number.
///
/// # Errors
///
/// Without the capability `CAP_NET_ADMIN`.
pub fn begin_at(socket: &impl AsFd, sequence: u32) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1)?;
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, SEND_QUEUE)?;
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, sequence.cast_signed())?;
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF_NO_PROBE)
}

/// Sequence number of the next octet that a connected socket expects to receive.
///
/// # Errors
///
/// Without the capability `CAP_NET_ADMIN`.
pub fn expected_sequence(socket: &impl AsFd) -> io::Result<u32> {
    sequence(socket, RECV_QUEUE)
}

/// Sequence number of the next octet that is given to a connected socket to send.
///
/// # Errors
///
/// Without the capability `CAP_NET_ADMIN`.
pub fn next_sequence(socket: &impl AsFd) -> io::Result<u32> {
    sequence(socket, SEND_QUEUE)
}

fn sequence(socket: &impl AsFd, queue: i32) -> io::Result<u32> {
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1)?;
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue)?;
    let mut octets = [0; 4];
    get_octets(socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, &mut octets)?;
    set_int(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF_NO_PROBE)?;
    Ok(u32::from_ne_bytes(octets))
}

/// `TCP_RECV_QUEUE` and `TCP_SEND_QUEUE` of the kernel's header.
const RECV_QUEUE: i32 = 1;
const SEND_QUEUE: i32 = 2;
/// Ends repair without the segment that would tell the peer.
const REPAIR_OFF_NO_PROBE: i32 = -1;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn both_ends_of_a_loopback_connection_agree() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let (near, far) = (End::of(&near).unwrap(), End::of(&far).unwrap());
        assert_eq!((near.snd_wscale, near.rcv_wscale), (far.rcv_wscale, far.snd_wscale));
        assert_eq!((near.sack, near.timestamps, near.ecn), (far.sack, far.timestamps, far.ecn));
        assert!(near.snd_mss > 500 && near.retransmits == 0, "{near:?}");
    }

    #[test]
    fn fields_lie_where_the_kernel_puts_them() {
        let mut octets = [0; LENGTH];
        octets[5] = 1 | 8;
        octets[6] = if cfg!(target_endian = "little") { 0x73 } else { 0x37 };
        octets[16..20].copy_from_slice(&1448_u32.to_ne_bytes());
        octets[100..104].copy_from_slice(&2_u32.to_ne_bytes());
        let wanted = End {
            snd_mss: 1448,
            rcv_wscale: 7,
            snd_wscale: 3,
            wscale: false,
            sack: false,
            timestamps: true,
            ecn: true,
            retransmits: 2,
        };
        assert_eq!(End::parse(&octets), wanted);
    }
}
