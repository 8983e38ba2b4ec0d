//! Verification of the log in a copy of the database, in one pass and bounded memory.
//!
//! Each entry's hashes are computed again from its columns; the tree is grown from the leaf
//! hashes as they are stored, so that one changed field is one finding. At the size of every
//! checkpoint, in the database and at the witness, the tree's root must be the one that was
//! signed: then every later state continues every earlier one.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;

use hubflight_audit::{Checkpoint, EMPTY_ROOT, Frontier, Hash, VerifierKey};
use hubflight_store::{Backend, Store, instant};
use sqlx::{AnyConnection, Row};

use super::append::Head;
use super::finding::Finding;
use super::row::{AuditRow, rows_after};
use super::witness::Witness;
use crate::LedgerError;

/// Findings that are told; more are counted.
const FINDINGS_MAX: usize = 1_000;
/// Checkpoints that are read at once.
const CHECKPOINTS_AT_ONCE: i64 = 256;

/// What the log is verified against.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    pub key: VerifierKey,
    pub witness: Option<PathBuf>,
}

/// What a verification read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    /// Entries whose payload was erased, as a purge allows.
    pub erased: u64,
    pub checkpoints: u64,
    /// Checkpoints at the witness.
    pub witnessed: u64,
    pub root: Hash,
    /// The first 1,000.
    pub findings: Vec<Finding>,
    /// Findings that are not told.
    pub further: u64,
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies the log of a store, which is read as it was at one moment.
///
/// # Errors
/// Those of reading: whatever was tampered with is a finding.
pub async fn verify(store: &Store, options: &VerifyOptions) -> Result<Report, LedgerError> {
    let witness = options.witness.clone().map(Witness::new).transpose()?;
    // What the witness has is listed first, so that it is not ahead of a log that is in use.
    let files = witness.as_ref().map(Witness::list).transpose()?;
    let snapshot = match store.backend() {
        Backend::Sqlite => "BEGIN",
        Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    };
    let mut transaction = store.pool().begin_with(snapshot).await?;
    let verification = Verification {
        key: &options.key,
        purged_before: purges(&mut transaction).await?,
        purges_seen: BTreeSet::new(),
        tree: Frontier::default(),
        is_broken: false,
        last_seq: 0,
        sound_seq: 0,
        checkpoints: Checkpoints::default(),
        files: files.unwrap_or_default().into(),
        witness,
        report: Report {
            root: EMPTY_ROOT,
            ..Report::default()
        },
    };
    verification.run(&mut transaction).await
}

/// The ends of the periods that may be erased.
async fn purges(connection: &mut AnyConnection) -> Result<BTreeSet<i64>, LedgerError> {
    let rows = sqlx::query("SELECT before_at FROM audit_purges")
        .fetch_all(connection)
        .await?;
    let ends = rows.iter().map(|row| row.try_get("before_at"));
    Ok(ends.collect::<Result<_, _>>()?)
}

/// A row of `audit_checkpoints`.
struct Kept {
    id: i64,
    size: i64,
    seal: Option<String>,
    note: String,
}

/// The checkpoints of the database in order of their size, read some at a time.
#[derive(Default)]
struct Checkpoints {
    next: VecDeque<Kept>,
    after: (i64, i64),
    is_whole: bool,
}

impl Checkpoints {
    /// The next one, if it covers at most that many entries.
    async fn up_to(
        &mut self,
        connection: &mut AnyConnection,
        size: i64,
    ) -> Result<Option<Kept>, LedgerError> {
        if self.next.is_empty() && !self.is_whole {
            let rows = sqlx::query(
                "SELECT id, size, seal, note FROM audit_checkpoints \
                 WHERE size > $1 OR (size = $1 AND id > $2) ORDER BY size, id LIMIT $3",
            )
            .bind(self.after.0)
            .bind(self.after.1)
            .bind(CHECKPOINTS_AT_ONCE)
            .fetch_all(connection)
            .await?;
            self.is_whole = rows.is_empty();
            for row in &rows {
                let kept = Kept {
                    id: row.try_get("id")?,
                    size: row.try_get("size")?,
                    seal: row.try_get("seal")?,
                    note: row.try_get("note")?,
                };
                self.after = (kept.size, kept.id);
                self.next.push_back(kept);
            }
        }
        Ok(self.next.pop_front_if(|kept| kept.size <= size))
    }
}

struct Verification<'a> {
    key: &'a VerifierKey,
    purged_before: BTreeSet<i64>,
    /// Ends of purges that the log itself records.
    purges_seen: BTreeSet<i64>,
    tree: Frontier,
    /// A leaf is missing or moved: no root after it can be compared.
    is_broken: bool,
    last_seq: i64,
    /// The entry up to which a signature has confirmed the tree.
    sound_seq: i64,
    checkpoints: Checkpoints,
    files: VecDeque<(u64, String)>,
    witness: Option<Witness>,
    report: Report,
}

impl Verification<'_> {
    async fn run(mut self, connection: &mut AnyConnection) -> Result<Report, LedgerError> {
        let head = match Head::peek(connection).await {
            Err(LedgerError::AuditForged) => None,
            head => Some(head?),
        };
        let end = self.check_head(head.as_ref());
        loop {
            let rows = rows_after(connection, self.last_seq).await?;
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                if end.is_some_and(|(size, _)| self.tree.size() >= size) && !self.is_broken {
                    self.find(Finding::Appended { seq: row.seq });
                    self.last_seq = row.seq;
                    continue;
                }
                self.check_row(row);
                self.last_seq = row.seq;
                self.compare_roots(connection).await?;
            }
        }
        self.check_end(end);
        self.check_rest(connection).await?;
        let unrecorded: Vec<i64> = self
            .purged_before
            .difference(&self.purges_seen)
            .copied()
            .collect();
        for before in unrecorded {
            let before = instant(before)?.to_rfc3339();
            self.find(Finding::PurgeUnrecorded { before });
        }
        self.report.root = self.tree.root();
        Ok(self.report)
    }

    fn find(&mut self, finding: Finding) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        } else {
            self.report.further += 1;
        }
    }

    /// The size and root that the head was signed for.
    fn check_head(&mut self, head: Option<&Head>) -> Option<(u64, Hash)> {
        let signed = head.and_then(|head| {
            if head.note.is_empty() {
                return (head.frontier.size() == 0).then_some((0, EMPTY_ROOT));
            }
            let signed = Checkpoint::open(&head.note, self.key).ok()?;
            let is_of_head = signed.size == head.frontier.size();
            (is_of_head && signed.root == head.frontier.root())
                .then_some((signed.size, signed.root))
        });
        if signed.is_none() {
            self.find(Finding::HeadUnsigned);
        }
        signed
    }

    fn check_row(&mut self, row: &AuditRow) {
        self.report.entries += 1;
        let seq = row.seq;
        let (Some(leaf), Some(leaf_hash), Some(payload_hash)) =
            (row.leaf, row.leaf_hash, row.payload_hash)
        else {
            return self.find(Finding::Forged { seq });
        };
        let expected = i64::try_from(self.tree.size()).unwrap_or(i64::MAX);
        if leaf != expected && !self.is_broken {
            self.is_broken = true;
            self.find(match u64::try_from(leaf.saturating_sub(expected)) {
                Ok(count) => Finding::Missing {
                    after_seq: self.last_seq,
                    before_seq: seq,
                    count,
                },
                Err(_) => Finding::Misplaced {
                    seq,
                    leaf,
                    expected,
                },
            });
        }
        if row.entry().leaf_hash(&payload_hash) != leaf_hash {
            self.find(Finding::Changed { seq });
        }
        self.check_payload(row, &payload_hash);
        self.tree.push(leaf_hash);
        if row.is_purge() {
            let detail = row.detail.as_deref().unwrap_or_default();
            let detail: Option<serde_json::Value> = serde_json::from_str(detail).ok();
            let before = detail.and_then(|detail| detail.get("before_at")?.as_i64());
            self.purges_seen.extend(before);
        }
    }

    fn check_payload(&mut self, row: &AuditRow, payload_hash: &Hash) {
        let seq = row.seq;
        let is_purged = |at: i64| self.purged_before.last().is_some_and(|before| at < *before);
        let finding = match row.salt {
            Some(salt) if row.payload().hash(&salt) != *payload_hash => {
                Some(Finding::PayloadChanged { seq })
            }
            Some(_) => {
                // The text may be older than the entry, and be erased when the entry is not yet.
                let is_as_written = match &row.text {
                    Some((_, sha256)) if *sha256 == row.sealed_sha256 => true,
                    Some((opened_at, None)) => is_purged(*opened_at),
                    Some(_) => false,
                    None => row.statement_id.is_none(),
                };
                (!is_as_written).then_some(Finding::TextChanged { seq })
            }
            None if row.is_erased() && is_purged(row.at) => {
                self.report.erased += 1;
                None
            }
            None => Some(Finding::Erased { seq }),
        };
        if let Some(finding) = finding {
            self.find(finding);
        }
    }

    /// Compares the tree with the checkpoints of its size.
    async fn compare_roots(&mut self, connection: &mut AnyConnection) -> Result<(), LedgerError> {
        let size = self.tree.size();
        let rows = i64::try_from(size).unwrap_or(i64::MAX);
        let mut confirmed = false;
        while let Some(kept) = self.checkpoints.up_to(connection, rows).await? {
            confirmed |= self.compare_kept(&kept);
        }
        while let Some((_, file)) = self.files.pop_front_if(|(covers, _)| *covers <= size) {
            confirmed |= self.compare_file(file);
        }
        if confirmed {
            self.sound_seq = self.last_seq;
        }
        Ok(())
    }

    /// Whether a checkpoint confirms the tree.
    fn compare_kept(&mut self, kept: &Kept) -> bool {
        self.report.checkpoints += 1;
        let id = kept.id;
        let Ok(signed) = Checkpoint::open(&kept.note, self.key) else {
            self.find(Finding::CheckpointUnsigned { id });
            return false;
        };
        let seal = signed.seal.map(|day| day.to_string());
        if u64::try_from(kept.size) != Ok(signed.size) || seal != kept.seal {
            self.find(Finding::CheckpointAltered { id });
            return false;
        }
        let beyond = |size| Finding::CheckpointBeyond { id, size };
        let differs = |size, from_seq, to_seq| Finding::CheckpointDiffers {
            id,
            size,
            from_seq,
            to_seq,
        };
        self.confirms(&signed, beyond, differs)
    }

    fn compare_file(&mut self, file: String) -> bool {
        self.report.witnessed += 1;
        let note = self.witness.as_ref().and_then(|w| w.read(&file));
        let signed = note.and_then(|note| Checkpoint::open(&note, self.key).ok());
        let Some(signed) = signed else {
            self.find(Finding::WitnessUnsigned { file });
            return false;
        };
        let beyond = |size| Finding::WitnessBeyond {
            file: file.clone(),
            size,
        };
        let differs = |size, from_seq, to_seq| Finding::WitnessDiffers {
            file: file.clone(),
            size,
            from_seq,
            to_seq,
        };
        self.confirms(&signed, beyond, differs)
    }

    /// Whether a signed tree is the one of the entries read so far; what to find where it is not.
    fn confirms(
        &mut self,
        signed: &Checkpoint,
        beyond: impl Fn(u64) -> Finding,
        differs: impl Fn(u64, i64, i64) -> Finding,
    ) -> bool {
        let size = signed.size;
        if size > self.tree.size() {
            self.find(beyond(size));
            return false;
        }
        if size < self.tree.size() || self.is_broken {
            return false;
        }
        if signed.root == self.tree.root() {
            return true;
        }
        self.find(differs(size, self.sound_seq + 1, self.last_seq));
        false
    }

    fn check_end(&mut self, end: Option<(u64, Hash)>) {
        let Some((size, root)) = end else {
            return;
        };
        let after_seq = self.last_seq;
        match size.checked_sub(self.report.entries) {
            Some(0) if !self.is_broken && root != self.tree.root() => {
                let after_seq = self.sound_seq;
                self.find(Finding::HeadDiffers { after_seq });
            }
            Some(count) if count > 0 && !self.is_broken => {
                self.find(Finding::Truncated { after_seq, count });
            }
            _ => {}
        }
    }

    /// Checkpoints of more entries than there are.
    async fn check_rest(&mut self, connection: &mut AnyConnection) -> Result<(), LedgerError> {
        while let Some(kept) = self.checkpoints.up_to(connection, i64::MAX).await? {
            self.compare_kept(&kept);
        }
        while let Some((_, file)) = self.files.pop_front() {
            self.compare_file(file);
        }
        Ok(())
    }
}
