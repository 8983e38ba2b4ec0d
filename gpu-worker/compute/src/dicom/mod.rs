//! DICOM files: their attributes as text, their pixels through the display pipeline, and
//! their de-identification. Everything works on bytes in memory and expects hostile ones.

mod charset;
mod codec;
mod deidentify;
mod open;
mod pixels;
mod profile;
mod reader;
mod resize;
mod tags;
mod value;
mod window;

pub use deidentify::deidentify;
pub use open::INFLATED_BYTES_MAX;
pub use pixels::FRAME_SAMPLES_MAX;
pub use reader::{ELEMENTS_MAX, NESTING_MAX};
pub use tags::{json, tag_text};
pub use window::{Image, RESIZED_SIDE_MAX, WindowOptions, window};

/// Why a file could not be used. The texts hold no value of the file but identifiers of
/// syntaxes and keywords.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DicomError {
    #[error(
        "not a DICOM file: neither the prefix `DICM` nor a data set was found; give the bytes of a DICOM file"
    )]
    NotDicom,
    #[error("the DICOM file ends within a {what} at byte {at}; give the whole file")]
    Truncated { what: &'static str, at: usize },
    #[error("the DICOM file has a wrong {what} at byte {at}; check the file")]
    Malformed { what: &'static str, at: usize },
    #[error("the {what} of the DICOM file is over the limit of {limit}")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("transfer syntax `{uid}` is not supported; convert the file to an uncompressed one")]
    TransferSyntax { uid: String },
    #[error(
        "unknown DICOM tag `{tag}`; use a keyword such as `PatientID` or a tag such as `(0010,0020)`"
    )]
    UnknownTag { tag: String },
    #[error("the DICOM file has no {what}")]
    Missing { what: &'static str },
    #[error("the DICOM file has an impossible {what}")]
    Invalid { what: &'static str },
    #[error("frame `{frame}` does not exist; the DICOM file has {frames}")]
    Frame { frame: i64, frames: u32 },
    #[error("{what} `{value}` is not allowed; {hint}")]
    Argument {
        what: &'static str,
        value: String,
        hint: &'static str,
    },
    #[error("the compressed pixels cannot be decoded: {what}")]
    Codec { what: &'static str },
    #[error(
        "the DICOM file declares text burned into its pixels; remove it before publishing the file"
    )]
    BurnedIn,
}

/// A text from outside, shortened to what a message may hold.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 64;
    text.chars()
        .take(SHOWN_CHARS_MAX)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
