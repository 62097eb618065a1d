//! The calls of /dev/net/tun.
//!
//! Source: Linux include/uapi/linux/if_tun.h, drivers/net/tun.c.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// Path of the driver.
pub const DRIVER: &str = "/dev/net/tun";

/// Offloads from the fullest to the least set worth a header; (flags, whether UDP is in).
///
/// UDP segmentation came with Linux 6.2; a sandboxed kernel may know even less.
pub const OFFLOADS: [(u32, bool); 3] = [
    (CSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6, true),
    (CSUM | TSO4 | TSO6 | TSO_ECN, false),
    (CSUM, false),
];

const CSUM: u32 = 0x01;
const TSO4: u32 = 0x02;
const TSO6: u32 = 0x04;
const TSO_ECN: u32 = 0x08;
const USO4: u32 = 0x20;
const USO6: u32 = 0x40;

/// What a queue is opened with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFlags {
    /// A virtio-net header precedes each packet.
    pub header: bool,
    /// The device has several queues.
    pub multi_queue: bool,
}

/// Makes the device, or attaches one more queue to it, in the thread's network namespace.
///
/// The name has been checked to be 1 to 15 octets long.
///
/// # Errors
/// `ENOENT` without the driver, `EPERM`, `EBUSY` when the name is taken, `EINVAL` when the kernel
/// knows a flag not or the name belongs to a device of another kind.
pub fn open_queue(name: &str, flags: QueueFlags) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(DRIVER)?;
    // SAFETY: all fields of the structure are integers, arrays and unions of them, for which zero
    // is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One octet stays zero: it ends the name.
    let last = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..last].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    let mut bits = libc::IFF_TUN | libc::IFF_NO_PI;
    if flags.header {
        bits |= libc::IFF_VNET_HDR;
    }
    if flags.multi_queue {
        bits |= libc::IFF_MULTI_QUEUE;
    }
    // All of these bits lie in the lower half.
    request.ifr_ifru.ifru_flags = (bits & 0xffff) as libc::c_short;
    // SAFETY: the descriptor is open and `request` is a whole `ifreq`, read and written by the
    // kernel during the call only.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    check(result)?;
    Ok(file)
}

/// Sets the size of the header before each packet.
///
/// # Errors
/// `EINVAL` when the kernel wants a longer one.
pub fn set_header_octets(file: &File, octets: usize) -> io::Result<()> {
    let size = libc::c_int::try_from(octets).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open and the kernel only reads one int behind the pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })
}

/// Says which offloads we take.
///
/// # Errors
/// `EINVAL` when the kernel does not know one of them.
pub fn set_offload(file: &File, flags: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the argument is a plain number.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) })
}

/// A descriptor of our own on what another owner has open, made non-blocking.
///
/// # Errors
/// When the process has no descriptor left.
pub fn duplicate(owner: &impl AsRawFd) -> io::Result<File> {
    let number: RawFd = owner.as_raw_fd();
    // SAFETY: `owner` lives through this function and keeps its descriptor open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let file = File::from(borrowed.try_clone_to_owned()?);
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(file)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
