//! What a verification can find.

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

    #[error("checkpoint {id} is not signed by this key")]
    CheckpointUnsigned { id: i64 },

    #[error("checkpoint {id} does not say what its row says")]
    CheckpointAltered { id: i64 },

    #[error(
        "checkpoint {id}, of {size} entries, has another root: one from {from_seq} to \
             {to_seq} was replaced"
    )]
    CheckpointDiffers {
        id: i64,
        size: u64,
        from_seq: i64,
        to_seq: i64,
    },

    #[error("checkpoint {id} covers {size} entries, more than there are; the last ones are gone")]
    CheckpointBeyond { id: i64, size: u64 },

    #[error("witness file `{file}` is no checkpoint that this key signed")]
    WitnessUnsigned { file: String },

    #[error(
        "witness file `{file}`, of {size} entries, has another root: one from {from_seq} to \
             {to_seq} was replaced"
    )]
    WitnessDiffers {
        file: String,
        size: u64,
        from_seq: i64,
        to_seq: i64,
    },

    #[error(
        "witness file `{file}` covers {size} entries, more than there are; the store was put \
             back to an earlier state"
    )]
    WitnessBeyond { file: String, size: u64 },

    #[error("the purge of what is before {before} is not recorded in the log")]
    PurgeUnrecorded { before: String },
}
