//! Numbers and addresses appended to text without the detour over `fmt`, which costs more than
//! everything else in printing a rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pfapi::addr::Prefix;
use pfapi::port::PortMatch;

use crate::print::put;

/// Appends a number.
pub(crate) fn put_number(text: &mut String, number: impl Into<u32>) {
    let mut rest: u32 = number.into();
    let mut digits = [0; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        let digit = (rest % 10) as u8;
        digits[at] = b'0' + digit;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

/// Appends an address.
pub(crate) fn put_ip(text: &mut String, addr: IpAddr) {
    match addr {
        IpAddr::V4(addr) => put_ipv4(text, addr),
        IpAddr::V6(addr) => put_ipv6(text, addr),
    }
}

fn put_ipv4(text: &mut String, addr: Ipv4Addr) {
    for (index, octet) in addr.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        let digit = |digit: u8| char::from(b'0' + digit % 10);
        if octet >= 100 {
            text.push(digit(octet / 100));
        }
        if octet >= 10 {
            text.push(digit(octet / 10));
        }
        text.push(digit(octet));
    }
}

/// The form of RFC 5952: `::` for the first of the longest runs of two or more zeros.
fn put_ipv6(text: &mut String, addr: Ipv6Addr) {
    if addr.to_ipv4_mapped().is_some() {
        return put(text, format_args!("{addr}"));
    }
    let segments = addr.segments();
    let zeros = longest_zeros(&segments);
    for (index, &segment) in segments.iter().enumerate() {
        if zeros.contains(&index) {
            if index == zeros.start {
                text.push_str("::");
            }
            continue;
        }
        if index > 0 && index != zeros.end {
            text.push(':');
        }
        put_hex(text, segment);
    }
}

/// The first of the longest runs of zeros; empty, behind all, if none has two.
fn longest_zeros(segments: &[u16; 8]) -> std::ops::Range<usize> {
    let mut longest = 8..8;
    let mut start = 0;
    for (index, &segment) in segments.iter().enumerate() {
        if segment != 0 {
            start = index + 1;
        } else if index > start && index + 1 - start > longest.len() {
            longest = start..index + 1;
        }
    }
    longest
}

fn put_hex(text: &mut String, number: u16) {
    let digits = (16 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let value = u32::from(number >> (4 * digit) & 15);
        text.push(char::from_digit(value, 16).unwrap_or('0'));
    }
}

/// Appends a prefix, without its length for a single address.
pub(crate) fn put_prefix(text: &mut String, prefix: Prefix) {
    put_ip(text, prefix.addr());
    if !prefix.is_host() {
        text.push('/');
        put_number(text, prefix.len());
    }
}

/// Appends a port condition.
pub(crate) fn put_port(text: &mut String, port: PortMatch) {
    let PortMatch::Equal(port) = port else { return put(text, format_args!("{port}")) };
    text.push_str("= ");
    put_number(text, port);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_text_as_display() {
        let shown = |put: &dyn Fn(&mut String)| {
            let mut text = String::new();
            put(&mut text);
            text
        };
        for number in [0, 1, 9, 10, 255, 65_535, 1_000_000, u32::MAX] {
            assert_eq!(shown(&|text| put_number(text, number)), number.to_string());
        }
        for prefix in ["0.0.0.0/0", "10.20.0.0/16", "192.0.2.255", "::/0", "2001:db8::1"] {
            let parsed: Prefix = prefix.parse().unwrap();
            assert_eq!(shown(&|text| put_prefix(text, parsed)), parsed.to_string());
        }
        // All places of zeros, and numbers of all lengths.
        for pattern in 0..256_u16 {
            let segments: [u16; 8] = std::array::from_fn(|at| {
                let number = [1, 0x10, 0xabc, 0xffff][(at + usize::from(pattern)) % 4];
                if pattern >> at & 1 == 0 { 0 } else { number }
            });
            let addr = Ipv6Addr::from(segments);
            assert_eq!(shown(&|text| put_ip(text, addr.into())), addr.to_string());
        }
        for addr in ["::ffff:192.0.2.1", "::192.0.2.1"] {
            let addr: IpAddr = addr.parse().unwrap();
            assert_eq!(shown(&|text| put_ip(text, addr)), addr.to_string());
        }
        for port in [PortMatch::Equal(80), PortMatch::Less(1), PortMatch::Range(1, 65_535)] {
            assert_eq!(shown(&|text| put_port(text, port)), port.to_string());
        }
    }
}
