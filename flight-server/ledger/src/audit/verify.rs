//! Verification of the log in a copy of the database, in one pass and bounded memory.
//!
//! Each entry's hashes are computed again from its columns; the tree is grown from the leaf
//! hashes as they are stored, so that one changed field is one finding. At the size of every
//! checkpoint, in the database and at the witness, the tree's root must be the one that was
//! signed: then every later state continues every earlier one. Then what the log says of other
//! tables is compared with them: usage records, executions, texts, their keys, purges.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, Utc};
use hubflight_audit::{Checkpoint, EMPTY_ROOT, Frontier, Hash, VerifierKey};
use hubflight_store::{Backend, Store};
use sqlx::AnyConnection;

use super::append::Head;
use super::checkpoints::{Checkpoints, Kept};
use super::executions;
use super::finding::{Finding, Flaw, Place};
use super::keys::Keys;
use super::purge::Purges;
use super::row::{AuditRow, rows_from};
use super::usage::{self, Stored};
use super::witness::{Witness, file_name};
use crate::LedgerError;

/// Findings that are told; more are counted.
const FINDINGS_MAX: usize = 1_000;
/// The newest checkpoints that the witness may not have yet.
const WITNESS_BEHIND_MAX: i64 = 3;

/// Notes of the witness that are read at once.
const READ_AT_ONCE: usize = 256;

/// What the log is verified against.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    pub key: VerifierKey,
    pub witness: Option<Witness>,
    /// Notes of checkpoints from elsewhere, as from a line of syslog, which the log must continue.
    pub given: Vec<String>,
}

/// What a verification read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub entries: u64,
    /// Entries whose payload was erased, as a purge allows.
    pub erased: u64,
    /// Executions that began and are not settled: they run, or their server died.
    pub open: u64,
    pub checkpoints: u64,
    /// Checkpoints at the witness.
    pub witnessed: u64,
    /// Checkpoints from elsewhere that the key has signed.
    pub given: u64,
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

/// The findings so far.
#[derive(Default)]
pub(super) struct Findings {
    told: Vec<Finding>,
    further: u64,
}

impl Findings {
    pub fn add(&mut self, finding: Finding) {
        if self.told.len() < FINDINGS_MAX {
            self.told.push(finding);
        } else {
            self.further += 1;
        }
    }
}

/// Verifies the log of a store, which is read as it was at one moment.
///
/// # Errors
/// Those of reading: whatever was tampered with is a finding.
pub async fn verify(store: &Store, options: &VerifyOptions) -> Result<Report, LedgerError> {
    // What the witness has is listed first, so that it is not ahead of a log that is in use.
    let files = match &options.witness {
        Some(witness) => witness.list().await?,
        None => Vec::new(),
    };
    let snapshot = match store.backend() {
        Backend::Sqlite => "BEGIN",
        Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    };
    let mut transaction = store.pool().begin_with(snapshot).await?;
    let newest: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(id), 0) FROM audit_checkpoints")
        .fetch_one(&mut *transaction)
        .await?;
    let verification = Verification {
        key: &options.key,
        purges: Purges::permitted(&mut transaction).await?,
        keys: Keys::default(),
        tree: Frontier::default(),
        is_broken: false,
        last_seq: 0,
        sound_seq: 0,
        checkpoints: Checkpoints::new(),
        due_at_witness: newest.saturating_sub(WITNESS_BEHIND_MAX),
        names: files.iter().map(|(_, name)| name.clone()).collect(),
        files: files.into(),
        notes: VecDeque::new(),
        witness: options.witness.as_ref(),
        given: VecDeque::new(),
        findings: Findings::default(),
        report: Report::default(),
    };
    verification
        .given(&options.given)
        .run(&mut transaction)
        .await
}

struct Verification<'a> {
    key: &'a VerifierKey,
    purges: Purges,
    keys: Keys,
    tree: Frontier,
    /// A leaf is missing or moved: no root after it can be compared.
    is_broken: bool,
    last_seq: i64,
    /// The entry up to which a signature has confirmed the tree.
    sound_seq: i64,
    checkpoints: Checkpoints,
    /// The newest checkpoint that the witness must have.
    due_at_witness: i64,
    names: BTreeSet<String>,
    files: VecDeque<(u64, String)>,
    /// The notes of the first of them.
    notes: VecDeque<Option<String>>,
    witness: Option<&'a Witness>,
    given: VecDeque<(u64, usize, String)>,
    findings: Findings,
    report: Report,
}

impl Verification<'_> {
    /// Takes notes from elsewhere, in order of what they cover.
    fn given(mut self, notes: &[String]) -> Self {
        let mut given = Vec::new();
        for (number, note) in (1..).zip(notes) {
            match Checkpoint::open(note, self.key) {
                Ok(signed) => given.push((signed.size, number, note.clone())),
                Err(_) => self.findings.add(Finding::Checkpoint {
                    place: Place::Given { number },
                    flaw: Flaw::Unsigned,
                }),
            }
        }
        given.sort_unstable();
        self.report.given = given.len() as u64;
        self.given = given.into();
        self
    }

    async fn run(mut self, connection: &mut AnyConnection) -> Result<Report, LedgerError> {
        let head = match Head::peek(connection).await {
            Err(LedgerError::AuditForged) => None,
            head => Some(head?),
        };
        let end = self.check_head(head.as_ref());
        let mut next = Some(i64::MIN);
        while let Some(from) = next {
            let rows = rows_from(connection, from).await?;
            next = rows.last().and_then(|last| last.seq.checked_add(1));
            let ids: Vec<String> = rows.iter().filter_map(|r| Some(r.usage()?.0)).collect();
            let usage = usage::stored(connection, &ids).await?;
            for row in &rows {
                let is_over = end.as_ref().is_some_and(|e| self.tree.size() >= e.size);
                if is_over && !self.is_broken {
                    self.findings.add(Finding::Appended { seq: row.seq });
                } else {
                    self.check_row(row, &usage);
                }
                self.last_seq = row.seq;
                self.compare_up_to(connection, self.tree.size()).await?;
            }
        }
        self.check_end(end.as_ref());
        // Checkpoints of more entries than there are.
        self.compare_up_to(connection, u64::MAX).await?;
        self.report.open = executions::compare(connection, &mut self.findings).await?;
        self.keys.compare(connection, &mut self.findings).await?;
        self.purges.compare(&mut self.findings);
        Ok(Report {
            root: self.tree.root(),
            findings: self.findings.told,
            further: self.findings.further,
            ..self.report
        })
    }

    /// What the head was signed for.
    fn check_head(&mut self, head: Option<&Head>) -> Option<Checkpoint> {
        let signed = head.and_then(|head| {
            if head.note.is_empty() {
                let empty = Checkpoint {
                    size: 0,
                    root: EMPTY_ROOT,
                    at: DateTime::<Utc>::MAX_UTC,
                    seal: None,
                };
                return (head.frontier.size() == 0).then_some(empty);
            }
            let signed = Checkpoint::open(&head.note, self.key).ok()?;
            let is_of_head = signed.size == head.frontier.size()
                && u64::try_from(head.last_seq) == Ok(signed.size);
            (is_of_head && signed.root == head.frontier.root()).then_some(signed)
        });
        if signed.is_none() {
            self.findings.add(Finding::HeadUnsigned);
        }
        signed
    }

    fn check_row(&mut self, row: &AuditRow, usage: &HashMap<String, Stored>) {
        self.report.entries += 1;
        let seq = row.seq;
        let (Some(leaf), Some(leaf_hash), Some(payload_hash)) =
            (row.leaf, row.leaf_hash, row.payload_hash)
        else {
            return self.findings.add(Finding::Forged { seq });
        };
        let expected = i64::try_from(self.tree.size()).unwrap_or(i64::MAX);
        if leaf != expected && !self.is_broken {
            self.is_broken = true;
            self.findings
                .add(match u64::try_from(leaf.saturating_sub(expected)) {
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
            self.findings.add(Finding::Changed { seq });
        }
        self.check_payload(row, &payload_hash);
        if let Some((id, digest)) = row.usage() {
            let stored = usage.get(&id);
            // Who used it is not in the digest, and is in the entry until it is erased.
            let is_as_written = stored.is_some_and(|stored| {
                let is_theirs = row.person.as_ref().is_none_or(|p| *p == stored.person);
                is_theirs && stored.digest == digest
            });
            if !is_as_written {
                self.findings.add(Finding::UsageChanged { seq });
            }
        }
        self.purges.read(row, self.tree.size());
        self.keys.read(row);
        self.tree.push(leaf_hash);
    }

    fn check_payload(&mut self, row: &AuditRow, payload_hash: &Hash) {
        let seq = row.seq;
        let finding = match row.salt {
            Some(salt) if row.payload().hash(&salt) != *payload_hash => {
                Some(Finding::PayloadChanged { seq })
            }
            Some(_) => (!row.has_its_text()).then_some(Finding::TextChanged { seq }),
            None if row.is_erased() && self.purges.allow(row.at) => {
                self.report.erased += 1;
                None
            }
            None => Some(Finding::Erased { seq }),
        };
        if let Some(finding) = finding {
            self.findings.add(finding);
        }
    }

    /// Compares the tree with the checkpoints of at most that many entries.
    async fn compare_up_to(
        &mut self,
        connection: &mut AnyConnection,
        size: u64,
    ) -> Result<(), LedgerError> {
        let rows = i64::try_from(size).unwrap_or(i64::MAX);
        let mut is_confirmed = false;
        while let Some(kept) = self.checkpoints.up_to(connection, rows).await? {
            is_confirmed |= self.compare_kept(kept);
        }
        while let Some((covers, file)) = self.files.pop_front_if(|(covers, _)| *covers <= size) {
            self.report.witnessed += 1;
            let note = self.note(&file).await?;
            let place = Place::Witness { file };
            is_confirmed |= self.compare(place, Some(covers), None, note.as_deref());
        }
        while let Some((covers, number, note)) = self.given.pop_front_if(|next| next.0 <= size) {
            let place = Place::Given { number };
            is_confirmed |= self.compare(place, Some(covers), None, Some(&note));
        }
        if is_confirmed {
            self.sound_seq = self.last_seq;
        }
        Ok(())
    }

    /// The note of the witness's next file; some are read at once.
    async fn note(&mut self, file: &str) -> Result<Option<String>, LedgerError> {
        let Some(witness) = self.witness else {
            return Ok(None);
        };
        if self.notes.is_empty() {
            let next = self.files.iter().take(READ_AT_ONCE - 1);
            let names = std::iter::once(file.to_owned()).chain(next.map(|(_, name)| name.clone()));
            self.notes = witness.read(names.collect()).await?.into();
        }
        Ok(self.notes.pop_front().flatten())
    }

    fn compare_kept(&mut self, kept: Kept) -> bool {
        self.report.checkpoints += 1;
        let place = Place::Store { id: kept.id };
        let covers = u64::try_from(kept.size).ok();
        let is_witnessed =
            covers.is_some_and(|size| self.names.contains(&file_name(size, &kept.note)));
        if self.witness.is_some() && kept.id <= self.due_at_witness && !is_witnessed {
            self.findings.add(Finding::Checkpoint {
                place: place.clone(),
                flaw: Flaw::Missing,
            });
        }
        self.compare(place, covers, Some(kept.seal), Some(&kept.note))
    }

    /// Compares a checkpoint with the entries read so far; answers whether it confirms them.
    /// `covers` and `seal` are what its place says of it.
    fn compare(
        &mut self,
        place: Place,
        covers: Option<u64>,
        seal: Option<Option<String>>,
        note: Option<&str>,
    ) -> bool {
        let signed = note.and_then(|note| Checkpoint::open(note, self.key).ok());
        let flaw = match signed {
            None => Flaw::Unsigned,
            Some(signed) => {
                self.purges.date(&signed);
                let day = signed.seal.map(|day| day.to_string());
                let size = signed.size;
                let is_altered = covers != Some(size) || seal.is_some_and(|seal| seal != day);
                match size.cmp(&self.tree.size()) {
                    _ if is_altered => Flaw::Altered,
                    Ordering::Greater => Flaw::Beyond { size },
                    Ordering::Less => return false,
                    Ordering::Equal if self.is_broken => return false,
                    Ordering::Equal if signed.root == self.tree.root() => return true,
                    Ordering::Equal => Flaw::Differs {
                        size,
                        from_seq: self.sound_seq + 1,
                        to_seq: self.last_seq,
                    },
                }
            }
        };
        self.findings.add(Finding::Checkpoint { place, flaw });
        false
    }

    fn check_end(&mut self, end: Option<&Checkpoint>) {
        let Some(end) = end else {
            return;
        };
        self.purges.date(end);
        let after_seq = self.last_seq;
        match end.size.checked_sub(self.tree.size()) {
            Some(0) if !self.is_broken && end.root != self.tree.root() => {
                let after_seq = self.sound_seq;
                self.findings.add(Finding::HeadDiffers { after_seq });
            }
            Some(count) if count > 0 && !self.is_broken => {
                self.findings.add(Finding::Truncated { after_seq, count });
            }
            _ => {}
        }
    }
}
