//! DICOM Part 10 files and bare data sets: finds the file meta group and the data set, and
//! how the data set is encoded.

use std::borrow::Cow;
use std::io::Read as _;

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};

use super::DicomError;
use super::reader::{Coding, Cursor, DataSet, EXPLICIT, Element, IMPLICIT};

/// Size of a deflated data set once inflated.
pub const INFLATED_BYTES_MAX: u64 = 1 << 30;

/// Retired by the standard, still in archives.
const EXPLICIT_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// A file whose data set is inflated if it was deflated, but not parsed yet.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    /// The file meta group (0002), empty for a bare data set.
    pub meta: DataSet<'a>,
    /// UID of the transfer syntax, as declared or, for a bare data set, as recognised.
    pub syntax: String,
    pub coding: Coding,
    body: Cow<'a, [u8]>,
}

impl<'a> Opened<'a> {
    /// Finds the file meta group and the data set.
    pub fn new(content: &'a [u8]) -> Result<Opened<'a>, DicomError> {
        let start = match (content.get(128..132), content.get(..4)) {
            (Some(b"DICM"), _) => 132,
            (_, Some(b"DICM")) => 4,
            _ => 0,
        };
        let mut cursor = Cursor::new(content.get(start..).unwrap_or(&[]));
        let meta = cursor.meta()?;
        let rest = cursor.rest();
        if start == 0 && meta.elements.is_empty() {
            let coding = recognise(rest).ok_or(DicomError::NotDicom)?;
            let syntax = match (coding.explicit, coding.big_endian) {
                (true, true) => EXPLICIT_BIG_ENDIAN,
                (true, false) => uids::EXPLICIT_VR_LITTLE_ENDIAN,
                _ => uids::IMPLICIT_VR_LITTLE_ENDIAN,
            };
            return Ok(Opened {
                meta,
                syntax: syntax.to_string(),
                coding,
                body: Cow::Borrowed(rest),
            });
        }
        let declared = meta
            .get(tags::TRANSFER_SYNTAX_UID)
            .and_then(Element::bytes)
            .map(|bytes| String::from_utf8_lossy(bytes))
            .map(|uid| uid.trim_matches(['\0', ' ']).to_string());
        let (syntax, coding, body) = match declared {
            Some(uid) if !uid.is_empty() => {
                let (coding, deflated) = coding_of(&uid)?;
                let body = if deflated {
                    Cow::Owned(inflate(rest)?)
                } else {
                    Cow::Borrowed(rest)
                };
                (uid, actual(coding, &body), body)
            }
            // A file without a transfer syntax breaks the standard; what it holds tells it.
            _ => {
                let coding = recognise(rest).ok_or(DicomError::NotDicom)?;
                let uid = if coding.explicit {
                    uids::EXPLICIT_VR_LITTLE_ENDIAN
                } else {
                    uids::IMPLICIT_VR_LITTLE_ENDIAN
                };
                (uid.to_string(), coding, Cow::Borrowed(rest))
            }
        };
        Ok(Opened {
            meta,
            syntax,
            coding,
            body,
        })
    }

    /// Parses the data set.
    pub fn data(&self) -> Result<DataSet<'_>, DicomError> {
        let mut cursor = Cursor::new(&self.body);
        cursor.data_set(self.coding, None, 0)
    }
}

/// Coding of a transfer syntax, and whether its data set is deflated.
fn coding_of(uid: &str) -> Result<(Coding, bool), DicomError> {
    match uid {
        uids::IMPLICIT_VR_LITTLE_ENDIAN => Ok((IMPLICIT, false)),
        EXPLICIT_BIG_ENDIAN => Ok((
            Coding {
                explicit: true,
                big_endian: true,
            },
            false,
        )),
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => Ok((EXPLICIT, true)),
        // Each other standard transfer syntax encodes its elements like this one.
        _ if uid.starts_with("1.2.840.10008.") => Ok((EXPLICIT, false)),
        _ => Err(DicomError::TransferSyntax {
            uid: super::shown(uid),
        }),
    }
}

/// Some writers declare a transfer syntax that is explicit and encode without VRs.
fn actual(coding: Coding, body: &[u8]) -> Coding {
    match body.get(4..6) {
        Some(letters) if coding.explicit && !letters.iter().all(u8::is_ascii_uppercase) => IMPLICIT,
        _ => coding,
    }
}

/// Recognises the coding of a bare data set by its first element, which is in a low group.
fn recognise(bytes: &[u8]) -> Option<Coding> {
    let head: [u8; 8] = bytes.get(..8)?.try_into().ok()?;
    let [g0, g1, _, e1, v0, v1, ..] = head;
    let explicit = VR::from_binary([v0, v1]).is_some();
    let little = u16::from_le_bytes([g0, g1]);
    let big = u16::from_be_bytes([g0, g1]);
    const GROUP_MAX: u16 = 0x0040;
    if (2..=GROUP_MAX).contains(&little) && (explicit || e1 < 0x80) {
        return Some(Coding {
            explicit,
            big_endian: false,
        });
    }
    ((2..=GROUP_MAX).contains(&big) && explicit).then_some(Coding {
        explicit,
        big_endian: true,
    })
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, DicomError> {
    let mut out = Vec::new();
    let limit = INFLATED_BYTES_MAX + 1;
    let result = flate2::read::DeflateDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut out);
    if out.len() as u64 > INFLATED_BYTES_MAX {
        return Err(DicomError::TooLarge {
            what: "inflated data set",
            limit: INFLATED_BYTES_MAX,
        });
    }
    // Some writers leave a byte too many after the stream; what was inflated is parsed.
    if result.is_err() && out.is_empty() {
        return Err(DicomError::Malformed {
            what: "deflated data set",
            at: 0,
        });
    }
    Ok(out)
}
