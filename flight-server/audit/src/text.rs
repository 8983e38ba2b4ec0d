//! Texts that are sealed to the keys of those who may read them, and that whoever seals them
//! cannot read back.
//!
//! A sealed text is `HFT1`, an X25519 public key drawn for it, the number of its readers, for
//! each of them the first 8 bytes of the SHA-256 of their public key and the text's key wrapped
//! for them (48 bytes), then a nonce (24 bytes) and the text under XChaCha20-Poly1305, with all
//! that comes before and the statement's identifier as associated data. The wrapping key is
//! HKDF-SHA256 of the shared secret with both public keys in its info; it wraps one key once,
//! so that its nonce is zero.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, XChaCha20Poly1305, XNonce};
use data_encoding::{BASE64, HEXLOWER};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use crate::{AuditError, random};

const MAGIC: &[u8; 4] = b"HFT1";
const ID_BYTES: usize = 8;
const WRAPPED_BYTES: usize = 48;
const NONCE_BYTES: usize = 24;
const INFO: &[u8] = b"hubflight sealed text 1";
const SECRET_PREFIX: &str = "HUBFLIGHT-AUDIT-KEY-1 ";

/// The public key of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextPublicKey([u8; 32]);

impl TextPublicKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn id(&self) -> [u8; ID_BYTES] {
        let digest: [u8; 32] = Sha256::digest(self.0).into();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest[..ID_BYTES]);
        id
    }

    /// What the key is called in lists and in the audit.
    pub fn fingerprint(&self) -> String {
        HEXLOWER.encode(&self.id())
    }
}

/// The private key of a reader. The hub makes it, shows it once, and does not keep it.
pub struct TextKey(StaticSecret);

impl std::fmt::Debug for TextKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TextKey({})", self.public().fingerprint())
    }
}

impl TextKey {
    pub fn generate() -> Result<Self, AuditError> {
        let seed = Zeroizing::new(random::<32>()?);
        Ok(Self(StaticSecret::from(*seed)))
    }

    pub fn public(&self) -> TextPublicKey {
        TextPublicKey(PublicKey::from(&self.0).to_bytes())
    }

    /// The one line that its holder keeps.
    pub fn reveal(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.0.to_bytes());
        Zeroizing::new(format!("{SECRET_PREFIX}{}", BASE64.encode(&bytes[..])))
    }

    /// Reads what [`TextKey::reveal`] gave; lines before and after it are passed over.
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(SECRET_PREFIX))
            .ok_or(AuditError::Key(
                "no line of it begins `HUBFLIGHT-AUDIT-KEY-1`",
            ))?;
        let bytes = BASE64.decode(line.trim().as_bytes()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| AuditError::Key("it is not base64"))?;
        let seed: [u8; 32] = bytes[..]
            .try_into()
            .map_err(|_| AuditError::Key("it is not 32 bytes"))?;
        Ok(Self(StaticSecret::from(seed)))
    }
}

/// Seals a statement's text to its readers.
///
/// # Errors
/// [`AuditError::Key`] without readers, with over 255, or with a key that is no key.
pub fn seal_text(
    text: &[u8],
    statement_id: Uuid,
    readers: &[TextPublicKey],
) -> Result<Vec<u8>, AuditError> {
    let count = u8::try_from(readers.len()).map_err(|_| AuditError::Key("too many readers"))?;
    if count == 0 {
        return Err(AuditError::Key("there is no reader"));
    }
    let own = TextKey::generate()?;
    let text_key = Zeroizing::new(random::<32>()?);
    let mut sealed = [&MAGIC[..], own.public().as_bytes(), &[count]].concat();
    for reader in readers {
        let shared = own.0.diffie_hellman(&PublicKey::from(reader.0));
        let wrapping = wrapping_key(&shared, &own.public(), reader)?;
        let wrapped = ChaCha20Poly1305::new((&*wrapping).into())
            .encrypt(&Nonce::default(), &text_key[..])
            .map_err(|_| AuditError::SealedText)?;
        sealed.extend_from_slice(&reader.id());
        sealed.extend_from_slice(&wrapped);
    }
    let nonce: [u8; NONCE_BYTES] = random()?;
    let aad = [&sealed[..], statement_id.as_bytes()].concat();
    let payload = Payload {
        msg: text,
        aad: &aad,
    };
    let body = XChaCha20Poly1305::new((&*text_key).into())
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_| AuditError::SealedText)?;
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&body);
    Ok(sealed)
}

/// Opens a statement's text with a reader's key.
///
/// # Errors
/// [`AuditError::NotAReader`], [`AuditError::SealedText`] for what was altered or belongs to
/// another statement.
pub fn open_text(sealed: &[u8], statement_id: Uuid, key: &TextKey) -> Result<Vec<u8>, AuditError> {
    let malformed = AuditError::SealedText;
    let rest = sealed.strip_prefix(MAGIC).ok_or(malformed.clone())?;
    let (own, rest) = rest.split_first_chunk::<32>().ok_or(malformed.clone())?;
    let (&count, rest) = rest.split_first().ok_or(malformed.clone())?;
    let readers_bytes = usize::from(count) * (ID_BYTES + WRAPPED_BYTES);
    let (readers, body) = rest
        .split_at_checked(readers_bytes)
        .ok_or(malformed.clone())?;
    let (readers, _) = readers.as_chunks::<{ ID_BYTES + WRAPPED_BYTES }>();
    let public = key.public();
    let wrapped = readers.iter().find_map(|r| r.strip_prefix(&public.id()));
    let Some(wrapped) = wrapped else {
        let names = readers.iter().map(|r| HEXLOWER.encode(&r[..ID_BYTES]));
        return Err(AuditError::NotAReader(names.collect::<Vec<_>>().join(", ")));
    };
    let own = TextPublicKey(*own);
    let shared = key.0.diffie_hellman(&PublicKey::from(own.0));
    let wrapping = wrapping_key(&shared, &own, &public)?;
    let text_key = ChaCha20Poly1305::new((&*wrapping).into())
        .decrypt(&Nonce::default(), wrapped)
        .map(Zeroizing::new)
        .map_err(|_| malformed.clone())?;
    let text_key: Zeroizing<[u8; 32]> =
        Zeroizing::new(text_key[..].try_into().map_err(|_| malformed.clone())?);
    let (nonce, message) = body
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or(malformed.clone())?;
    let head = &sealed[..sealed.len() - body.len()];
    let aad = [head, statement_id.as_bytes()].concat();
    let payload = Payload {
        msg: message,
        aad: &aad,
    };
    XChaCha20Poly1305::new((&*text_key).into())
        .decrypt(&XNonce::from(*nonce), payload)
        .map_err(|_| malformed)
}

fn wrapping_key(
    shared: &SharedSecret,
    own: &TextPublicKey,
    reader: &TextPublicKey,
) -> Result<Zeroizing<[u8; 32]>, AuditError> {
    // A key of low order would give everybody the same secret.
    if !shared.was_contributory() {
        return Err(AuditError::Key("it is no X25519 key"));
    }
    let info = [INFO, &own.0, &reader.0].concat();
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, shared.as_bytes())
        .expand(&info, &mut key[..])
        .map_err(|_| AuditError::SealedText)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> TextKey {
        TextKey::generate().expect("a key")
    }

    #[test]
    fn each_reader_opens_and_nobody_else() {
        let (project, auditors, stranger) = (key(), key(), key());
        let id = Uuid::from_u128(5);
        let text = b"SELECT 'Marie' -- \xc3\xa9";
        let readers = [project.public(), auditors.public()];
        let sealed = seal_text(text, id, &readers).expect("sealed");
        for reader in [&project, &auditors] {
            let kept = TextKey::parse(&format!("# key\n{}\n", *reader.reveal())).expect("read");
            assert_eq!(open_text(&sealed, id, &kept).as_deref(), Ok(&text[..]));
        }
        let refused = open_text(&sealed, id, &stranger);
        assert!(matches!(refused, Err(AuditError::NotAReader(names))
            if names.contains(&project.public().fingerprint())));
        assert!(open_text(&sealed, Uuid::from_u128(6), &project).is_err());
        let again = seal_text(text, id, &readers).expect("sealed");
        assert_ne!(sealed, again);
    }

    #[test]
    fn nothing_altered_opens() {
        let (reader, id) = (key(), Uuid::from_u128(5));
        let sealed = seal_text(b"text", id, &[reader.public()]).expect("sealed");
        for place in (0..sealed.len()).step_by(3) {
            let mut altered = sealed.clone();
            altered[place] ^= 1;
            assert!(open_text(&altered, id, &reader).is_err(), "byte {place}");
            assert!(open_text(&sealed[..place], id, &reader).is_err());
        }
    }

    #[test]
    fn bad_keys_are_refused() {
        let id = Uuid::from_u128(5);
        assert!(seal_text(b"t", id, &[]).is_err());
        let zero = TextPublicKey::from_bytes([0; 32]);
        assert!(seal_text(b"t", id, &[zero]).is_err());
        assert!(TextKey::parse("AAAA").is_err());
        assert!(!format!("{:?}", key()).contains("HUBFLIGHT"));
    }
}
