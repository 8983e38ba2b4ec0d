//! The canonical form of an audit entry, which its leaf is the hash of.
//!
//! Version 1 is the byte 1, then the entry's fields in the order of [`Entry`], then the hash of
//! its payload. A field is its length in bytes (32 bits, big-endian), then its bytes: text in
//! UTF-8, numbers as 64 bits big-endian; an absent field is the length 2³² − 1 alone.
//!
//! What identifies somebody is the payload. The entry holds only its hash, which begins with
//! a random salt: once payload and salt are erased, nobody can tell what they were, not even by
//! trying every person, and the tree stays verifiable. The hash is SHA-256 of the label, the
//! salt and the fields of [`Payload`] in the same form.

use sha2::{Digest, Sha256};

use crate::{AuditError, Hash, leaf_hash, random};

const VERSION: u8 = 1;
const PAYLOAD_LABEL: &[u8] = b"hubflight audit payload 1";
const ABSENT: [u8; 4] = [0xff; 4];

/// 32 random bytes, drawn for one entry.
pub type Salt = [u8; 32];

/// What stays of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub seq: i64,
    /// Microseconds since 1970.
    pub at: i64,
    pub event: &'a str,
    pub project: Option<&'a str>,
    pub statement_id: Option<&'a str>,
    pub attempt: Option<i64>,
    /// JSON texts, byte by byte as they are stored.
    pub habilitations: &'a str,
    pub datasets: &'a str,
    pub columns: &'a str,
    pub outcome: &'a str,
    pub error_kind: Option<&'a str>,
    pub rows_returned: i64,
    pub bytes_returned: i64,
    pub detail: Option<&'a str>,
}

/// What of an entry can be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    pub person: Option<&'a str>,
    pub client: &'a str,
    /// Hexadecimal.
    pub sql_sha256: Option<&'a str>,
    /// SHA-256 of the sealed text of the statement, in hexadecimal.
    pub sealed_sha256: Option<&'a str>,
}

impl Entry<'_> {
    /// Hash of the leaf.
    pub fn leaf_hash(&self, payload: &Hash) -> Hash {
        leaf_hash(&self.canonical(payload))
    }

    /// The bytes that the leaf is the hash of.
    pub fn canonical(&self, payload: &Hash) -> Vec<u8> {
        let mut form = Form(Vec::with_capacity(512));
        form.0.push(VERSION);
        form.number(Some(self.seq));
        form.number(Some(self.at));
        form.text(Some(self.event));
        form.text(self.project);
        form.text(self.statement_id);
        form.number(self.attempt);
        form.text(Some(self.habilitations));
        form.text(Some(self.datasets));
        form.text(Some(self.columns));
        form.text(Some(self.outcome));
        form.text(self.error_kind);
        form.number(Some(self.rows_returned));
        form.number(Some(self.bytes_returned));
        form.text(self.detail);
        form.bytes(Some(payload));
        form.0
    }
}

impl Payload<'_> {
    pub fn hash(&self, salt: &Salt) -> Hash {
        let mut form = Form(Vec::with_capacity(256));
        form.bytes(Some(salt));
        form.text(self.person);
        form.text(Some(self.client));
        form.text(self.sql_sha256);
        form.text(self.sealed_sha256);
        let mut hasher = Sha256::new();
        hasher.update(PAYLOAD_LABEL);
        hasher.update(&form.0);
        hasher.finalize().into()
    }

    /// A salt for a new entry.
    pub fn salt() -> Result<Salt, AuditError> {
        random()
    }
}

struct Form(Vec<u8>);

impl Form {
    fn bytes(&mut self, value: Option<&[u8]>) {
        // A length that does not fit would be of a text of 4 GiB, which no store holds.
        match value.map(|bytes| (bytes, u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1))) {
            Some((bytes, length)) => {
                self.0.extend_from_slice(&length.to_be_bytes());
                self.0.extend_from_slice(bytes);
            }
            None => self.0.extend_from_slice(&ABSENT),
        }
    }

    fn text(&mut self, value: Option<&str>) {
        self.bytes(value.map(str::as_bytes));
    }

    fn number(&mut self, value: Option<i64>) {
        self.bytes(value.map(i64::to_be_bytes).as_ref().map(|bytes| &bytes[..]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use std::collections::HashSet;

    const ENTRY: Entry<'static> = Entry {
        seq: 7,
        at: 1,
        event: "statement",
        project: Some("p"),
        statement_id: Some("s"),
        attempt: Some(1),
        habilitations: "[]",
        datasets: "[]",
        columns: "{}",
        outcome: "ok",
        error_kind: None,
        rows_returned: 2,
        bytes_returned: 3,
        detail: None,
    };
    const PAYLOAD: Payload<'static> = Payload {
        person: Some("ada"),
        client: "c",
        sql_sha256: None,
        sealed_sha256: None,
    };

    /// The form is for ever: a change of it needs a new version.
    #[test]
    fn the_form_of_version_1() {
        let form = ENTRY.canonical(&[0xee; 32]);
        let expected = [
            "01",
            "000000080000000000000007",
            "000000080000000000000001",
            "0000000973746174656d656e74",
            "0000000170",
            "0000000173",
            "000000080000000000000001",
            "000000025b5d",
            "000000025b5d",
            "000000027b7d",
            "000000026f6b",
            "ffffffff",
            "000000080000000000000002",
            "000000080000000000000003",
            "ffffffff",
            "00000020",
            &"ee".repeat(32),
        ]
        .concat();
        assert_eq!(HEXLOWER.encode(&form), expected);
        assert_eq!(ENTRY.leaf_hash(&[0xee; 32]), leaf_hash(&form));
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let entries = [
            ENTRY,
            Entry { seq: 8, ..ENTRY },
            Entry { at: 2, ..ENTRY },
            Entry {
                event: "login",
                ..ENTRY
            },
            Entry {
                project: None,
                ..ENTRY
            },
            // A field's end is not the next one's beginning.
            Entry {
                project: Some("ps"),
                statement_id: Some(""),
                ..ENTRY
            },
            Entry {
                statement_id: None,
                ..ENTRY
            },
            Entry {
                attempt: None,
                ..ENTRY
            },
            Entry {
                habilitations: "[1]",
                ..ENTRY
            },
            Entry {
                datasets: "[1]",
                ..ENTRY
            },
            Entry {
                columns: "[]",
                ..ENTRY
            },
            Entry {
                outcome: "error",
                ..ENTRY
            },
            Entry {
                error_kind: Some(""),
                ..ENTRY
            },
            Entry {
                rows_returned: 3,
                ..ENTRY
            },
            Entry {
                bytes_returned: 4,
                ..ENTRY
            },
            Entry {
                detail: Some(""),
                ..ENTRY
            },
        ];
        let mut hashes: HashSet<Hash> = entries.iter().map(|e| e.leaf_hash(&[0; 32])).collect();
        hashes.insert(ENTRY.leaf_hash(&[1; 32]));
        assert_eq!(hashes.len(), entries.len() + 1);
        let payloads = [
            PAYLOAD,
            Payload {
                person: None,
                ..PAYLOAD
            },
            Payload {
                person: Some(""),
                ..PAYLOAD
            },
            Payload {
                client: "",
                ..PAYLOAD
            },
            Payload {
                sql_sha256: Some("00"),
                ..PAYLOAD
            },
            Payload {
                sealed_sha256: Some("00"),
                ..PAYLOAD
            },
        ];
        let mut hashes: HashSet<Hash> = payloads.iter().map(|p| p.hash(&[0; 32])).collect();
        hashes.insert(PAYLOAD.hash(&[1; 32]));
        assert_eq!(hashes.len(), payloads.len() + 1);
    }
}
