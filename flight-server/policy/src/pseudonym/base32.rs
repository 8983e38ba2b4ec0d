//! 128 bits as 26 characters of lowercase base32 without padding (RFC 4648, section 6).

/// Characters of a pseudonym, always.
pub const SHOWN_CHARS: usize = 26;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Two characters for ten bits: half the look-ups.
static PAIRS: [[u8; 2]; 1024] = {
    let mut pairs = [[0; 2]; 1024];
    let mut bits = 0;
    while bits < 1024 {
        pairs[bits] = [ALPHABET[bits >> 5], ALPHABET[bits & 31]];
        bits += 1;
    }
    pairs
};

/// Five bits of a character, or 255 for a character that is none.
static VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut value = 0;
    while value < 32 {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

pub fn encode(code: &[u8; 16], shown: &mut [u8; SHOWN_CHARS]) {
    let code = u128::from_be_bytes(*code);
    // Six pairs, six pairs, and the last eight bits with two zero bits behind them.
    let (first, second, last) = (
        (code >> 68) as u64,
        (code >> 8) as u64,
        (code as u8) as usize,
    );
    let (pairs, _) = shown.as_chunks_mut::<2>();
    for (index, pair) in pairs.iter_mut().enumerate() {
        let bits = match index {
            0..6 => (first >> (50 - 10 * index)) as usize,
            6..12 => (second >> (110 - 10 * index)) as usize,
            _ => last << 2,
        };
        *pair = PAIRS[bits & 1023];
    }
}

/// None unless the text is exactly what [`encode`] writes.
pub fn decode(shown: &[u8]) -> Option<[u8; 16]> {
    let shown: &[u8; SHOWN_CHARS] = shown.try_into().ok()?;
    let (last, before) = shown.split_last()?;
    let mut code: u128 = 0;
    for character in before {
        let value = VALUES[usize::from(*character)];
        if value > 31 {
            return None;
        }
        code = (code << 5) | u128::from(value);
    }
    let value = VALUES[usize::from(*last)];
    // Of the last five bits, two are padding and must be zero.
    if value > 31 || value & 3 != 0 {
        return None;
    }
    Some(((code << 3) | u128::from(value >> 2)).to_be_bytes())
}
