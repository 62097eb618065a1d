//! MD5, for the keys of `source-hash` that are given as text.
//!
//! The digest spreads a text over 128 bits, so that a printed key equals pfctl's; nothing here
//! relies on it being hard to invert. Source: RFC 1321.

const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

/// The digest of `message`.
pub(crate) fn md5(message: &[u8]) -> [u8; 16] {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let bits = (message.len() as u64).wrapping_mul(8);
    let mut padded = message.to_vec();
    padded.push(0x80);
    while padded.len() % 64 != 56 {
        padded.push(0);
    }
    padded.extend(bits.to_le_bytes());
    for block in padded.chunks_exact(64) {
        state = compress(state, block);
    }
    let mut digest = [0; 16];
    for (four, word) in digest.chunks_exact_mut(4).zip(state) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

#[expect(clippy::many_single_char_names, reason = "the letters of the RFC")]
fn compress(state: [u32; 4], block: &[u8]) -> [u32; 4] {
    let mut words = [0_u32; 16];
    for (word, four) in words.iter_mut().zip(block.chunks_exact(4)) {
        *word = four.iter().rev().fold(0, |word, &octet| word << 8 | u32::from(octet));
    }
    let [mut a, mut b, mut c, mut d] = state;
    for step in 0..64 {
        let round = step / 16;
        let (mixed, index) = match round {
            0 => ((b & c) | (!b & d), step),
            1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
            2 => (b ^ c ^ d, (3 * step + 5) % 16),
            _ => (c ^ (b | !d), (7 * step) % 16),
        };
        let sum = a.wrapping_add(mixed).wrapping_add(constant(step)).wrapping_add(words[index]);
        let turned = sum.rotate_left(SHIFTS[round][step % 4]);
        (a, d, c, b) = (d, c, b, b.wrapping_add(turned));
    }
    let [w, x, y, z] = state;
    [w.wrapping_add(a), x.wrapping_add(b), y.wrapping_add(c), z.wrapping_add(d)]
}

/// The integer part of 2^32 times the sine of `step + 1`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the value lies below 2^32 by definition, and steps below 64"
)]
fn constant(step: usize) -> u32 {
    (((step + 1) as f64).sin().abs() * 4_294_967_296.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(message: &str) -> String {
        format!("{:032x}", u128::from_be_bytes(md5(message.as_bytes())))
    }

    #[test]
    fn digests_of_rfc_1321() {
        assert_eq!(hex(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex("abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(hex(&"1234567890".repeat(8)), "57edf4a22be3c955ac49da2e2107b67a");
    }
}
