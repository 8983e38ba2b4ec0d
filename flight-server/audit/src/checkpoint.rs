//! Checkpoints (C2SP `tlog-checkpoint`): what the log was at one time, as the text of a note.
//!
//! ```text
//! hubflight-audit/6d0c…       origin: the name of the key
//! 20852163                    entries
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//! time 2026-11-22T00:00:04Z   an extension line
//! seal 2026-11-21             another, where it is the seal of that day
//! ```

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use data_encoding::BASE64;

use crate::{AuditError, Hash, Signer, VerifierKey};

/// The state of the log at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub size: u64,
    pub root: Hash,
    /// By the clock of who signs it.
    pub at: DateTime<Utc>,
    /// The day, in UTC, all of whose entries it covers, and which was over when it was made.
    pub seal: Option<NaiveDate>,
}

impl Checkpoint {
    pub fn sign(&self, signer: &Signer) -> String {
        let mut text = format!(
            "{}\n{}\n{}\ntime {}\n",
            signer.key().name(),
            self.size,
            BASE64.encode(&self.root),
            self.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        );
        if let Some(day) = self.seal {
            text.push_str(&format!("seal {day}\n"));
        }
        signer.sign(&text)
    }

    /// Reads a note that the key has signed.
    ///
    /// # Errors
    /// [`AuditError::Note`], [`AuditError::Signature`].
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, AuditError> {
        let text = key.open(note)?;
        let mut lines = text.lines();
        if lines.next() != Some(key.name()) {
            return Err(AuditError::Note("it is of another log"));
        }
        let size = lines.next().and_then(|line| {
            let size: u64 = line.parse().ok()?;
            (size.to_string() == line).then_some(size)
        });
        let root = lines.next().and_then(|line| {
            let bytes = BASE64.decode(line.as_bytes()).ok()?;
            bytes.try_into().ok()
        });
        let (mut at, mut seal) = (None, None);
        for line in lines {
            match line.split_once(' ') {
                Some(("time", time)) => {
                    at = DateTime::parse_from_rfc3339(time).ok().map(Into::into)
                }
                Some(("seal", day)) => {
                    let day: Result<NaiveDate, _> = day.parse();
                    seal = Some(day.map_err(|_| AuditError::Note("its day is not a date"))?);
                }
                _ => {}
            }
        }
        Ok(Self {
            size: size.ok_or(AuditError::Note("its second line is not a size"))?,
            root: root.ok_or(AuditError::Note("its third line is not a hash"))?,
            at: at.ok_or(AuditError::Note("it has no time"))?,
            seal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed() {
        let signer = Signer::of_hub(&[1; 32]).expect("a signer");
        let mut checkpoint = Checkpoint {
            size: 20_852_163,
            root: [9; 32],
            at: "2026-11-22T00:00:04.000123Z".parse().expect("a time"),
            seal: None,
        };
        for seal in [None, NaiveDate::from_ymd_opt(2026, 11, 21)] {
            checkpoint.seal = seal;
            let note = checkpoint.sign(&signer);
            let read = Checkpoint::open(&note, signer.key()).expect("opens");
            assert_eq!(read, checkpoint, "{note}");
        }
    }

    #[test]
    fn another_form_is_refused() {
        let signer = Signer::of_hub(&[1; 32]).expect("a signer");
        let name = signer.key().name().to_owned();
        let root = BASE64.encode(&[0; 32]);
        let time = "time 2026-11-22T00:00:04Z";
        for text in [
            format!("other\n1\n{root}\n{time}\n"),
            format!("{name}\n01\n{root}\n{time}\n"),
            format!("{name}\n-1\n{root}\n{time}\n"),
            format!("{name}\n1\nAAAA\n{time}\n"),
            format!("{name}\n1\n{root}\n"),
            format!("{name}\n1\n{root}\n{time}\nseal yesterday\n"),
        ] {
            let read = Checkpoint::open(&signer.sign(&text), signer.key());
            assert!(matches!(read, Err(AuditError::Note(_))), "{text}: {read:?}");
        }
    }
}
