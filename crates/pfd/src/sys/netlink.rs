//! The few requests to the kernel's routing socket that a device needs: up, MTU, addresses.
//!
//! Source: rtnetlink(7), Linux include/uapi/linux/{netlink,rtnetlink,if_link,if_addr}.h.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink,
    recv, send, socket_with,
};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection: the address can be used at once.
const IFA_F_NODAD: u32 = 0x02;
const IFF_UP: u32 = 0x1;
/// Octets of `struct nlmsghdr`.
const HEADER: usize = 16;

/// A socket for requests, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens the socket.
    ///
    /// # Errors
    /// What the kernel says, of descriptors or of sandboxes without netlink.
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // zero: NETLINK_ROUTE
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Index of the interface `name`.
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub fn index_of(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// Sets MTU and queue length, and brings the interface up.
    ///
    /// # Errors
    /// `EINVAL` when the MTU is out of the device's range.
    pub fn bring_up(&mut self, index: u32, mtu: u32, queue_packets: u32) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, 0);
        // struct ifinfomsg: family, padding, type, index, flags, mask of the flags to change
        request.bytes(&[0, 0]);
        request.bytes(&0_u16.to_ne_bytes());
        request.bytes(&index.to_ne_bytes());
        request.bytes(&IFF_UP.to_ne_bytes());
        request.bytes(&IFF_UP.to_ne_bytes());
        request.attribute(IFLA_MTU, &mtu.to_ne_bytes());
        request.attribute(IFLA_TXQLEN, &queue_packets.to_ne_bytes());
        self.ask(request)
    }

    /// Adds an address, or leaves it as it is when it is there.
    ///
    /// # Errors
    /// What the kernel says of the address, for instance that IPv6 is switched off.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let family = match address {
            IpAddr::V4(_) => libc::AF_INET,
            IpAddr::V6(_) => libc::AF_INET6,
        };
        let mut request = Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
        // struct ifaddrmsg: family, prefix length, flags (the old, short ones), scope, index
        request.bytes(&[u8::try_from(family).unwrap_or(0), prefix, 0, 0]);
        request.bytes(&index.to_ne_bytes());
        match address {
            IpAddr::V4(v4) => {
                request.attribute(IFA_LOCAL, &v4.octets());
                request.attribute(IFA_ADDRESS, &v4.octets());
            }
            IpAddr::V6(v6) => request.attribute(IFA_ADDRESS, &v6.octets()),
        }
        request.attribute(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
        self.ask(request)
    }

    /// Sends a request and waits for its acknowledgement.
    fn ask(&mut self, request: Request) -> io::Result<()> {
        self.sequence += 1;
        let octets = request.finish(self.sequence);
        send(&self.socket, &octets, SendFlags::empty())?;
        let mut answer = [0_u8; 4096];
        loop {
            let (len, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            if let Some(result) = acknowledgement(&answer[..len], self.sequence) {
                return result;
            }
        }
    }
}

/// The result in an acknowledgement of request `sequence`; `None` when it is something else.
fn acknowledgement(octets: &[u8], sequence: u32) -> Option<io::Result<()>> {
    let kind = u16::from_ne_bytes(*octets.get(4..)?.first_chunk()?);
    let of = u32::from_ne_bytes(*octets.get(8..)?.first_chunk()?);
    let code = i32::from_ne_bytes(*octets.get(HEADER..)?.first_chunk()?);
    match (kind == NLMSG_ERROR && of == sequence, code) {
        (false, _) => None,
        (true, 0) => Some(Ok(())),
        (true, code) => Some(Err(io::Error::from_raw_os_error(-code))),
    }
}

/// A request under construction.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16, flags: u16) -> Self {
        let mut octets = vec![0; 4];
        octets.extend(kind.to_ne_bytes());
        octets.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        octets.extend([0; 8]);
        Self(octets)
    }

    fn bytes(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes(&len.to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[0..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_states_its_length_and_pads_attributes() {
        let mut request = Request::new(RTM_NEWLINK, 0);
        request.attribute(IFLA_MTU, &[1, 2, 3]);
        let octets = request.finish(7);
        assert_eq!(octets.len(), HEADER + 8);
        assert_eq!(u32::from_ne_bytes(*octets.first_chunk().unwrap()), 24);
        assert_eq!(
            octets[HEADER..],
            [7_u16.to_ne_bytes(), IFLA_MTU.to_ne_bytes(), [1, 2], [3, 0]].concat()
        );
    }

    #[test]
    fn acknowledgement_of_another_request_is_passed_over() {
        let mut octets = [0_u8; 36];
        octets[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        octets[8..12].copy_from_slice(&4_u32.to_ne_bytes());
        octets[16..20].copy_from_slice(&(-libc::ENODEV).to_ne_bytes());
        assert!(acknowledgement(&octets, 5).is_none());
        let error = acknowledgement(&octets, 4).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(acknowledgement(&octets[..18], 4).is_none());
    }
}
