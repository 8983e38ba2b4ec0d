//! AES-256-GCM on the numbered chunks of one file.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// Bytes that a chunk grows by when it is sealed.
pub const TAG_BYTES: usize = 16;

/// Seals and opens the chunks of one file. The key is of this file alone, so that a chunk's
/// number is a nonce that comes once.
#[derive(Clone)]
pub struct ChunkCipher {
    key: LessSafeKey,
    /// What each chunk is bound to besides its place.
    header: Vec<u8>,
}

impl std::fmt::Debug for ChunkCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkCipher([redacted])")
    }
}

/// A chunk's place in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub number: u32,
    pub is_last: bool,
}

impl Place {
    /// Seven zeros, the number, and whether it is the last.
    fn nonce(self) -> Nonce {
        let [a, b, c, d] = self.number.to_be_bytes();
        let nonce: [u8; NONCE_LEN] = [0, 0, 0, 0, 0, 0, 0, a, b, c, d, u8::from(self.is_last)];
        Nonce::assume_unique_for_key(nonce)
    }
}

impl ChunkCipher {
    pub fn new(key: &[u8; 32], header: &[u8]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes");
        Self {
            key: LessSafeKey::new(key),
            header: header.to_vec(),
        }
    }

    /// Seals a chunk in place and appends its tag. A place is sealed once.
    pub fn seal(&self, place: Place, chunk: &mut Vec<u8>) -> std::io::Result<()> {
        let aad = Aad::from(&self.header);
        self.key
            .seal_in_place_append_tag(place.nonce(), aad, chunk)
            .map_err(|_| std::io::Error::other("a chunk is too long to be sealed"))
    }

    /// Opens the chunk that begins `from` bytes into `buffer` and ends with it, moves it to the
    /// front, and answers its length; `None` where it is not what was sealed for that place. The
    /// buffer's contents are nothing to use then.
    #[must_use]
    pub fn open(&self, place: Place, buffer: &mut [u8], from: usize) -> Option<usize> {
        let aad = Aad::from(&self.header);
        let opened = self.key.open_within(place.nonce(), aad, buffer, from..);
        opened.ok().map(|plain| plain.len())
    }
}
