//! Proofs that an entry is in the log.

use hubflight_audit::{
    Checkpoint, Collector, Frontier, Hash, Tile, Tiles, VerifierKey, inclusion_ranges,
    verify_inclusion,
};
use hubflight_store::Store;
use sqlx::{AnyConnection, Row};

use super::append::Head;
use super::row::row_of_statement;
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

/// What the log says of a statement's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedText {
    /// SHA-256 of the text, in hexadecimal.
    pub sql_sha256: Option<String>,
    /// That the entry which says so is in the log.
    pub proof: InclusionProof,
}

/// The first entry of a statement whose payload was not erased; none where there is none.
///
/// # Errors
/// [`LedgerError::Unproven`] where it is not the entry that was signed.
pub async fn recorded_text(
    store: &Store,
    statement_id: &str,
) -> Result<Option<RecordedText>, LedgerError> {
    let mut connection = store.pool().acquire().await?;
    let row = row_of_statement(&mut connection, statement_id).await?;
    drop(connection);
    let Some(row) = row else {
        return Ok(None);
    };
    let proof = prove_inclusion(store, row.seq).await?;
    if !row.is_as_hashed() || row.leaf_hash != Some(proof.leaf_hash) {
        return Err(LedgerError::Unproven(row.seq));
    }
    let sql_sha256 = row.sql_sha256;
    Ok(Some(RecordedText { sql_sha256, proof }))
}

/// The proof of an entry against the log's head. It reads every leaf hash once.
///
/// # Errors
/// [`LedgerError::NoEntry`], [`LedgerError::Unproven`] where the log was altered.
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
    each_leaf(&mut connection, size, seq, |leaf| {
        collector.push(leaf);
        Ok(())
    })
    .await?;
    let path = collector.finish().ok_or(LedgerError::Unproven(seq))?;
    if !verify_inclusion(&leaf_hash, index, size, &path, &head.frontier.root()) {
        return Err(LedgerError::Unproven(seq));
    }
    Ok(InclusionProof {
        seq,
        index,
        leaf_hash,
        path,
        note: head.note,
    })
}

/// The tree of the newest checkpoint as files by C2SP tlog-tiles, without entries: hashes tell
/// nothing of anybody. `write` takes the path and the content of each; the checkpoint comes last.
///
/// # Errors
/// [`LedgerError::LeavesAltered`], without a checkpoint; [`LedgerError::Tile`] of `write`.
pub async fn tiles(
    store: &Store,
    mut write: impl FnMut(&str, &[u8]) -> std::io::Result<()>,
) -> Result<u64, LedgerError> {
    let mut connection = store.pool().acquire().await?;
    let head = Head::peek(&mut connection).await?;
    let size = head.frontier.size();
    let (mut tiles, mut tree) = (Tiles::default(), Frontier::default());
    each_leaf(&mut connection, size, 0, |leaf| {
        tree.push(leaf);
        let full = tiles.push(leaf);
        full.iter()
            .try_for_each(|tile| write_tile(&mut write, tile))
    })
    .await?;
    if tree != head.frontier {
        return Err(LedgerError::LeavesAltered);
    }
    for tile in tiles.rest() {
        write_tile(&mut write, &tile)?;
    }
    let checkpoint = Tile {
        path: "checkpoint".to_owned(),
        bytes: head.note.into_bytes(),
    };
    write_tile(&mut write, &checkpoint)?;
    Ok(size)
}

fn write_tile(
    write: &mut impl FnMut(&str, &[u8]) -> std::io::Result<()>,
    tile: &Tile,
) -> Result<(), LedgerError> {
    write(&tile.path, &tile.bytes).map_err(|error| LedgerError::Tile {
        path: tile.path.clone(),
        reason: error.to_string(),
    })
}

/// The first `size` leaf hashes in order; `seq` is the entry that errors are about.
async fn each_leaf(
    connection: &mut AnyConnection,
    size: u64,
    seq: i64,
    mut take: impl FnMut(Hash) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    // Entries are numbered from 1; a row before them was never taken into the log.
    let (mut after, mut left) = (0, size);
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
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        for row in rows.iter().take(wanted) {
            let hash: Option<Vec<u8>> = row.try_get("leaf_hash")?;
            let hash = hash.and_then(|hash| hash.try_into().ok());
            take(hash.ok_or(LedgerError::Unproven(seq))?)?;
            after = row.try_get("seq")?;
            left -= 1;
        }
    }
    Ok(())
}
