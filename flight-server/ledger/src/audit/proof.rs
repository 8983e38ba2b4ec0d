//! Proofs that an entry is in the log.

use hubflight_audit::{
    Checkpoint, Collector, Hash, VerifierKey, inclusion_ranges, verify_inclusion,
};
use hubflight_store::Store;
use sqlx::Row;

use super::append::Head;
use crate::LedgerError;

/// Leaf hashes that are read at once.
const LEAVES_AT_ONCE: i64 = 4_096;

/// What shows that an entry is in the log that a note signs, to whoever has the entry, the note
/// and the public key, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    pub seq: i64,
    /// Place of the leaf, from 0.
    pub index: u64,
    pub leaf_hash: Hash,
    /// From the leaf up (RFC 6962 §2.1.1).
    pub path: Vec<Hash>,
    pub note: String,
}

impl InclusionProof {
    pub fn verify(&self, key: &VerifierKey) -> bool {
        Checkpoint::open(&self.note, key).is_ok_and(|signed| {
            let (size, root) = (signed.size, &signed.root);
            verify_inclusion(&self.leaf_hash, self.index, size, &self.path, root)
        })
    }
}

/// The proof of an entry against the log's head. It reads every leaf hash once.
///
/// # Errors
/// [`LedgerError::NoEntry`].
pub async fn prove_inclusion(store: &Store, seq: i64) -> Result<InclusionProof, LedgerError> {
    let mut connection = store.pool().acquire().await?;
    let head = Head::peek(&mut connection).await?;
    let missing = || LedgerError::NoEntry(seq);
    let row = sqlx::query("SELECT leaf, leaf_hash FROM audit WHERE seq = $1")
        .bind(seq)
        .fetch_optional(&mut *connection)
        .await?
        .ok_or_else(missing)?;
    let (leaf, hash): (Option<i64>, Option<Vec<u8>>) =
        (row.try_get("leaf")?, row.try_get("leaf_hash")?);
    let index = leaf.and_then(|leaf| u64::try_from(leaf).ok());
    let index = index.ok_or_else(missing)?;
    let leaf_hash: Hash = hash
        .and_then(|hash| hash.try_into().ok())
        .ok_or_else(missing)?;
    let size = head.frontier.size();
    let ranges = inclusion_ranges(index, size).ok_or_else(missing)?;
    let mut collector = Collector::new(ranges);
    let (mut after, mut left) = (i64::MIN, size);
    while left > 0 {
        let rows =
            sqlx::query("SELECT seq, leaf_hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2")
                .bind(after)
                .bind(LEAVES_AT_ONCE)
                .fetch_all(&mut *connection)
                .await?;
        if rows.is_empty() {
            break;
        }
        for row in rows
            .iter()
            .take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            let hash: Option<Vec<u8>> = row.try_get("leaf_hash")?;
            let hash = hash.and_then(|hash| hash.try_into().ok());
            collector.push(hash.ok_or(LedgerError::Corrupt { what: "audit leaf" })?);
            after = row.try_get("seq")?;
            left -= 1;
        }
    }
    let path = collector
        .finish()
        .ok_or(LedgerError::Corrupt { what: "audit log" })?;
    Ok(InclusionProof {
        seq,
        index,
        leaf_hash,
        path,
        note: head.note,
    })
}
