//! Signed notes (C2SP `signed-note`) with Ed25519: a text, an empty line, signature lines.

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use crate::AuditError;

/// Signature type of Ed25519 in keys of notes.
const ED25519_TYPE: u8 = 1;
const SIGNATURE_START: &str = "\u{2014} ";
const NAME_BYTES_MAX: usize = 200;

/// A name and the public key that signs under it. Printed as `name+id+key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    fn new(name: &str, public: [u8; 32]) -> Result<Self, AuditError> {
        if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || name.contains(|c: char| c.is_whitespace() || c == '+')
        {
            return Err(AuditError::Key("its name is empty or holds a space or `+`"));
        }
        Ok(Self {
            name: name.to_owned(),
            public,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([b'\n', ED25519_TYPE]);
        hasher.update(self.public);
        let digest: [u8; 32] = hasher.finalize().into();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// The text of a note that this key has signed. Signatures of other keys are passed over.
    ///
    /// # Errors
    /// [`AuditError::Note`], [`AuditError::Signature`].
    pub fn open<'n>(&self, note: &'n str) -> Result<&'n str, AuditError> {
        let (text, signatures) = note
            .rsplit_once("\n\n")
            .ok_or(AuditError::Note("it has no signature"))?;
        // The text ends with its last line's end.
        let text = note
            .get(..=text.len())
            .ok_or(AuditError::Note("it has no text"))?;
        if !signatures.ends_with('\n') {
            return Err(AuditError::Note("its last line is not whole"));
        }
        let prefix = format!("{SIGNATURE_START}{} ", self.name);
        let mine = signatures.lines().filter_map(|line| {
            let bytes = BASE64.decode(line.strip_prefix(&prefix)?.as_bytes()).ok()?;
            bytes.strip_prefix(&self.id()).map(<[u8]>::to_vec)
        });
        let key = UnparsedPublicKey::new(&ED25519, self.public);
        let mut signed = false;
        for signature in mine {
            key.verify(text.as_bytes(), &signature)
                .map_err(|_| AuditError::Signature(self.name.clone()))?;
            signed = true;
        }
        if signed {
            Ok(text)
        } else {
            Err(AuditError::Signature(self.name.clone()))
        }
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = [&[ED25519_TYPE], &self.public[..]].concat();
        let id = HEXLOWER.encode(&self.id());
        write!(f, "{}+{id}+{}", self.name, BASE64.encode(&key))
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = AuditError;

    fn from_str(text: &str) -> Result<Self, AuditError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(AuditError::Key("it must read `name+id+key`"));
        };
        let bytes = BASE64
            .decode(key.as_bytes())
            .map_err(|_| AuditError::Key("it is not base64"))?;
        let public = bytes
            .strip_prefix(&[ED25519_TYPE])
            .and_then(|rest| rest.try_into().ok())
            .ok_or(AuditError::Key("it is not an Ed25519 key"))?;
        let verifier = Self::new(name, public)?;
        if HEXLOWER.encode(&verifier.id()) != id {
            return Err(AuditError::Key("its parts do not belong together"));
        }
        Ok(verifier)
    }
}

/// Signs notes under a name. Its key never prints.
pub struct Signer {
    pair: Ed25519KeyPair,
    key: VerifierKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.key)
    }
}

impl Signer {
    /// The key pair of a secret seed.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, AuditError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| AuditError::Key("its seed is not valid"))?;
        let public = public_of(&pair)?;
        let key = VerifierKey::new(name, public)?;
        Ok(Self { pair, key })
    }

    /// The key pair of a hub's audit log; its name follows from the public key, so that no two
    /// hubs share one.
    pub fn of_hub(seed: &[u8; 32]) -> Result<Self, AuditError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| AuditError::Key("its seed is not valid"))?;
        let public = public_of(&pair)?;
        let digest: [u8; 32] = Sha256::digest(public).into();
        let name = format!("hubflight-audit/{}", HEXLOWER.encode(&digest[..8]));
        let key = VerifierKey::new(&name, public)?;
        Ok(Self { pair, key })
    }

    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// Signs a text, which must end with a line end.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let signed = [&self.key.id()[..], signature.as_ref()].concat();
        format!(
            "{text}\n{SIGNATURE_START}{} {}\n",
            self.key.name,
            BASE64.encode(&signed)
        )
    }
}

fn public_of(pair: &Ed25519KeyPair) -> Result<[u8; 32], AuditError> {
    pair.public_key()
        .as_ref()
        .try_into()
        .map_err(|_| AuditError::Key("its public key has another length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the package `golang.org/x/mod/sumdb/note`, which the format comes from.
    const SEED: &str = "gQoUAtUUbI2E8kQzMPVAgOv5juF9nHT2JS/F1ccoMXM=";
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
         then you don't know what your problem is.\n";
    const SIGNATURE: &str = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZIn\
         NIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_published_note() {
        let key: VerifierKey = KEY.parse().expect("a key");
        assert_eq!(key.to_string(), KEY);
        let note = format!("{TEXT}\n{SIGNATURE}");
        assert_eq!(key.open(&note), Ok(TEXT));
    }

    #[test]
    fn the_published_key_signs_as_published() {
        let seed = BASE64.decode(SEED.as_bytes()).expect("base64");
        let seed: [u8; 32] = seed.try_into().expect("32 bytes");
        let signer = Signer::new("PeterNeumann", &seed).expect("a signer");
        assert_eq!(signer.key().to_string(), KEY);
        assert_eq!(signer.sign(TEXT), format!("{TEXT}\n{SIGNATURE}"));
    }

    #[test]
    fn nothing_else_opens() {
        let signer = Signer::of_hub(&[7; 32]).expect("a signer");
        let other = Signer::of_hub(&[8; 32]).expect("a signer");
        assert_ne!(signer.key().name(), other.key().name());
        let note = signer.sign("a\nb\n");
        assert_eq!(signer.key().open(&note), Ok("a\nb\n"));
        assert!(other.key().open(&note).is_err());
        for place in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[place] ^= 1;
            if let Ok(altered) = String::from_utf8(bytes) {
                assert!(signer.key().open(&altered).is_err(), "byte {place}");
            }
        }
        for (length, _) in note.char_indices() {
            assert!(
                signer.key().open(&note[..length]).is_err(),
                "length {length}"
            );
        }
        // A second signature of somebody else's is passed over, one of ours that fails is not.
        let both = format!(
            "{note}{}",
            other.sign("a\nb\n").rsplit_once("\n\n").expect("signed").1
        );
        assert_eq!(signer.key().open(&both), Ok("a\nb\n"));
        assert!(KEY.replace("c74f", "c74e").parse::<VerifierKey>().is_err());
    }
}
