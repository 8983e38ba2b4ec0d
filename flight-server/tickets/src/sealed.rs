//! Authenticated encryption of what clients carry for us: tickets and tokens.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::TryRng;
use rand::rngs::SysRng;

use crate::TicketError;

const NONCE_BYTES: usize = 24;

/// Seals bytes for one purpose; what was sealed for another purpose does not open.
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    purpose: &'static [u8],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer([redacted])")
    }
}

impl Sealer {
    pub fn new(key: &[u8; 32], purpose: &'static [u8]) -> Self {
        Self {
            cipher: XChaCha20Poly1305::new(key.into()),
            purpose,
        }
    }

    /// Random nonce, then XChaCha20-Poly1305 (RFC 8439 with a 192-bit nonce).
    ///
    /// # Errors
    /// [`TicketError::Random`], [`TicketError::Seal`].
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, TicketError> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload {
            msg: plain,
            aad: self.purpose,
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(TicketError::Seal)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// `None` for anything that this hub did not seal for this purpose.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: body,
            aad: self.purpose,
        };
        self.cipher.decrypt(&XNonce::from(*nonce), payload).ok()
    }
}

/// Random bytes of the operating system.
///
/// # Errors
/// [`TicketError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], TicketError> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(TicketError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_purpose_open() {
        let sealer = Sealer::new(&[1; 32], b"ticket");
        let sealed = sealer.seal(b"hello").expect("seals");
        assert_eq!(sealer.open(&sealed).as_deref(), Some(&b"hello"[..]));
        assert_eq!(Sealer::new(&[2; 32], b"ticket").open(&sealed), None);
        assert_eq!(Sealer::new(&[1; 32], b"token").open(&sealed), None);
        for position in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[position] ^= 1;
            assert_eq!(sealer.open(&altered), None, "byte {position}");
        }
        for length in 0..sealed.len() {
            assert_eq!(sealer.open(&sealed[..length]), None, "length {length}");
        }
    }
}
