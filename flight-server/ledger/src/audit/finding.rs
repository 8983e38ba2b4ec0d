//! What a verification can find.

use std::fmt;

/// Where a checkpoint is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Store {
        id: i64,
    },
    Witness {
        file: String,
    },
    /// One that whoever verifies brought, counted from 1.
    Given {
        number: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Store { id } => write!(f, "checkpoint {id}"),
            Place::Witness { file } => write!(f, "witness file `{file}`"),
            Place::Given { number } => write!(f, "given checkpoint {number}"),
        }
    }
}

/// What is wrong with a checkpoint, or with the entries that it covers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("is no checkpoint that this key signed")]
    Unsigned,

    #[error("does not say what its row or its name says")]
    Altered,

    #[error(
        "covers {size} entries, more than there are: the last ones are gone, or the store was put \
         back to an earlier state"
    )]
    Beyond { size: u64 },

    #[error(
        "covers {size} entries with another root: one from {from_seq} to {to_seq} was replaced"
    )]
    Differs {
        size: u64,
        from_seq: i64,
        to_seq: i64,
    },

    #[error("is not at the witness")]
    Missing,
}

/// Something that is not as it was written, or that nobody signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("entry {seq}: a field was changed, or its leaf hash")]
    Changed { seq: i64 },

    #[error("entry {seq}: its person, client or text hash was changed, or its salt")]
    PayloadChanged { seq: i64 },

    #[error("entry {seq}: its payload was erased, and no purge allows it")]
    Erased { seq: i64 },

    #[error("entry {seq}: the sealed text of its statement was changed or removed")]
    TextChanged { seq: i64 },

    #[error("entry {seq}: the usage record of its execution was changed or removed, or a line")]
    UsageChanged { seq: i64 },

    #[error("entry {seq}: an execution began, and neither its outcome nor its record is there")]
    Vanished { seq: i64 },

    #[error("entry {seq}: an execution ended, and no entry says that it began as it ended")]
    Unannounced { seq: i64 },

    #[error(
        "execution {attempt} of statement `{statement_id}` is settled, and the log has no entry"
    )]
    Unlogged { statement_id: String, attempt: i64 },

    #[error("entry {seq}: it was never taken into the log")]
    Forged { seq: i64 },

    #[error("entry {seq}: it is leaf {leaf} where leaf {expected} is due; entries were moved")]
    Misplaced { seq: i64, leaf: i64, expected: i64 },

    #[error("entries are missing after entry {after_seq} and before entry {before_seq}: {count}")]
    Missing {
        after_seq: i64,
        before_seq: i64,
        count: u64,
    },

    #[error("entry {seq}: it comes after the signed end of the log")]
    Appended { seq: i64 },

    #[error("the last {count} entries are missing after entry {after_seq}")]
    Truncated { after_seq: i64, count: u64 },

    #[error("the log's head is not signed by this key")]
    HeadUnsigned,

    #[error(
        "the log's head was signed for other entries: one after entry {after_seq} was replaced"
    )]
    HeadDiffers { after_seq: i64 },

    #[error("{place} {flaw}")]
    Checkpoint { place: Place, flaw: Flaw },

    #[error("the purge of what is before {before} is not recorded in the log")]
    PurgeUnrecorded { before: String },

    #[error(
        "entry {seq}: it purged what is before {before}, which was younger than 12 months by the \
         checkpoints that follow"
    )]
    PurgeTooYoung { seq: i64, before: String },

    #[error("key {key} of `{holder}`, which texts are sealed to, is not recorded in the log")]
    KeyUnrecorded { holder: String, key: String },

    #[error("the newest key of `{holder}` is not the one that the log recorded last")]
    KeyNotInForce { holder: String },
}
