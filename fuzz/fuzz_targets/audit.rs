//! What `admin audit` reads of others: keys, checkpoints and sealed texts. None of them ends the
//! process, nothing is taken for signed or sealed that was not, and what was signed is read as it
//! would be written.
#![no_main]

use std::sync::LazyLock;

use chrono::Datelike;
use hubflight_audit::{Checkpoint, Frontier, Signer, TextKey, VerifierKey, open_text, seal_text};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::of_hub(&[7; 32]).expect("a signer"));
static READER: LazyLock<TextKey> = LazyLock::new(|| TextKey::generate().expect("random bytes"));

fuzz_target!(|data: &[u8]| {
    // Sealed texts and the tree's frontier are bytes.
    assert!(open_text(data, Uuid::nil(), &READER).is_err());
    let sealed = seal_text(data, Uuid::nil(), &[READER.public()]).expect("seals");
    let opened = open_text(&sealed, Uuid::nil(), &READER);
    assert_eq!(opened.as_deref(), Ok(data));
    if let Some((size, hashes)) = data.split_first_chunk::<8>() {
        let size = u64::from_le_bytes(*size);
        if let Ok(mut frontier) = Frontier::from_bytes(size, hashes) {
            assert_eq!(frontier.to_bytes(), hashes);
            frontier.root();
            if size < u64::MAX {
                frontier.push([0; 32]);
            }
        }
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse().as_ref(), Ok(&key));
    }
    if let Ok(key) = TextKey::parse(text) {
        let again = TextKey::parse(&key.reveal()).expect("as it was revealed");
        assert_eq!(again.public(), key.public());
    }
    assert!(SIGNER.key().open(text).is_err(), "nobody signed it");
    let note = SIGNER.sign(&format!("{}\n{text}\n", SIGNER.key().name()));
    let Ok(checkpoint) = Checkpoint::open(&note, SIGNER.key()) else {
        return;
    };
    // RFC 3339 writes no other years, which an offset leads to.
    if !(0..=9999).contains(&checkpoint.at.year()) {
        return;
    }
    // Digits below a microsecond are not written again.
    let written = checkpoint.sign(&SIGNER);
    let read = Checkpoint::open(&written, SIGNER.key()).expect("as it was written");
    assert_eq!((read.size, read.root), (checkpoint.size, checkpoint.root));
    assert_eq!(read.seal, checkpoint.seal);
    assert_eq!(read.sign(&SIGNER), written);
});
