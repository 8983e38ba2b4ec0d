//! Reads DICOM Part 10 files and bare data sets into elements that borrow the bytes.
//!
//! The crates that parse DICOM trust the lengths that a file declares: they reserve memory
//! for them before reading, and recurse without a limit. Files of strangers need neither, so
//! this reader checks each length against the bytes that are there and bounds the nesting.
//! It copies nothing; a file is parsed in microseconds however large its pixels are.

use std::borrow::Cow;
use std::io::Read as _;

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};

use super::DicomError;

/// Sequences within sequences; real files have fewer than ten.
pub const NESTING_MAX: usize = 32;
/// Elements and items of one file, sequences included.
pub const ELEMENTS_MAX: usize = 4 << 20;
/// Size of a deflated data set once inflated.
pub const INFLATED_BYTES_MAX: u64 = 1 << 30;

/// Retired by the standard, still in archives.
const EXPLICIT_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// How the elements of a data set are encoded (PS3.5 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    pub explicit: bool,
    pub big_endian: bool,
}

const EXPLICIT: Coding = Coding {
    explicit: true,
    big_endian: false,
};
const IMPLICIT: Coding = Coding {
    explicit: false,
    big_endian: false,
};

impl Coding {
    pub fn u16(self, bytes: [u8; 2]) -> u16 {
        if self.big_endian {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        }
    }

    pub fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    pub fn u64(self, bytes: [u8; 8]) -> u64 {
        if self.big_endian {
            u64::from_be_bytes(bytes)
        } else {
            u64::from_le_bytes(bytes)
        }
    }
}

/// A value as it stands in the file.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Bytes(&'a [u8]),
    Items(Vec<DataSet<'a>>),
    /// Encapsulated pixel data: the basic offset table, then the fragments.
    Fragments {
        offsets: &'a [u8],
        fragments: Vec<&'a [u8]>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Element<'a> {
    pub tag: Tag,
    pub vr: VR,
    pub value: Value<'a>,
    /// How the bytes of the value are encoded; sequences of unknown VR are always implicit.
    pub coding: Coding,
}

impl<'a> Element<'a> {
    /// The bytes of a value that is no sequence.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Elements in the order of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct DataSet<'a> {
    pub elements: Vec<Element<'a>>,
}

impl<'a> DataSet<'a> {
    pub fn get(&self, tag: Tag) -> Option<&Element<'a>> {
        self.elements.iter().find(|element| element.tag == tag)
    }
}

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

/// Header of one element.
struct Header {
    tag: Tag,
    vr: VR,
    length: u32,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    elements: usize,
    /// Pixel Representation, which decides whether `US or SS` is signed in implicit VR.
    signed: bool,
}

impl<'a> Cursor<'a> {
    fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor {
            bytes,
            at: 0,
            elements: 0,
            signed: false,
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or(&[])
    }

    fn malformed(&self, what: &'static str) -> DicomError {
        DicomError::Malformed { what, at: self.at }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DicomError> {
        let end = self
            .at
            .checked_add(length)
            .ok_or_else(|| self.malformed(what))?;
        let taken = self
            .bytes
            .get(self.at..end)
            .ok_or_else(|| DicomError::Truncated { what, at: self.at })?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DicomError> {
        let bytes = self.take(N, what)?;
        bytes.try_into().map_err(|_| self.malformed(what))
    }

    fn peek_tag(&self, coding: Coding) -> Option<Tag> {
        let [a, b, c, d] = self.rest().get(..4)?.try_into().ok()?;
        Some(Tag(coding.u16([a, b]), coding.u16([c, d])))
    }

    fn count(&mut self) -> Result<(), DicomError> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(DicomError::TooLarge {
                what: "number of elements",
                limit: ELEMENTS_MAX as u64,
            });
        }
        Ok(())
    }

    /// The file meta group, always explicit VR little endian; stops at the first other group.
    fn meta(&mut self) -> Result<DataSet<'a>, DicomError> {
        let mut meta = DataSet::default();
        while self.peek_tag(EXPLICIT).is_some_and(|tag| tag.group() == 2) {
            meta.elements.push(self.element(EXPLICIT, 0)?);
        }
        Ok(meta)
    }

    /// Elements until `end`, an item delimiter or the end of the bytes.
    fn data_set(
        &mut self,
        coding: Coding,
        end: Option<usize>,
        depth: usize,
    ) -> Result<DataSet<'a>, DicomError> {
        let mut data = DataSet::default();
        loop {
            if end.is_some_and(|end| self.at >= end) {
                break;
            }
            let Some(tag) = self.peek_tag(coding) else {
                // Fewer than four bytes after the last element: padding of sloppy writers.
                if depth > 0 && end.is_none() {
                    return Err(DicomError::Truncated {
                        what: "sequence item",
                        at: self.at,
                    });
                }
                break;
            };
            if tag.group() == 0xFFFE {
                if end.is_none() && depth > 0 && tag == ITEM_END {
                    self.take(8, "item delimiter")?;
                    break;
                }
                if depth == 0 {
                    // Trailing padding or a stray delimiter after the data set.
                    break;
                }
                return Err(self.malformed("item"));
            }
            if depth == 0 && tag == Tag(0, 0) && self.rest().iter().all(|b| *b == 0) {
                break;
            }
            let element = self.element(coding, depth)?;
            if element.tag == tags::PIXEL_REPRESENTATION {
                self.signed = matches!(element.bytes(), Some([1, 0] | [0, 1]));
            }
            data.elements.push(element);
        }
        Ok(data)
    }

    fn header(&mut self, coding: Coding) -> Result<Header, DicomError> {
        let group = coding.u16(self.array("tag")?);
        let tag = Tag(group, coding.u16(self.array("tag")?));
        if !coding.explicit {
            let length = coding.u32(self.array("length")?);
            return Ok(Header {
                tag,
                vr: self.implied_vr(tag),
                length,
            });
        }
        let letters: [u8; 2] = self.array("value representation")?;
        if !letters.iter().all(u8::is_ascii_uppercase) {
            self.at -= 2;
            return Err(self.malformed("value representation"));
        }
        // A VR of a later edition of the standard has the long form (PS3.5 section 6.2.2).
        let vr = VR::from_binary(letters).unwrap_or(VR::UN);
        let long = matches!(
            vr,
            VR::OB
                | VR::OD
                | VR::OF
                | VR::OL
                | VR::OV
                | VR::OW
                | VR::SQ
                | VR::SV
                | VR::UC
                | VR::UN
                | VR::UR
                | VR::UT
                | VR::UV
        );
        let length = if long {
            self.take(2, "length")?;
            coding.u32(self.array("length")?)
        } else {
            u32::from(coding.u16(self.array("length")?))
        };
        Ok(Header { tag, vr, length })
    }

    /// The VR of an element whose file does not say it, from the dictionary.
    fn implied_vr(&self, tag: Tag) -> VR {
        if tag.group() % 2 == 1 {
            let creator = (0x0010..=0x00FF).contains(&tag.element());
            return if creator { VR::LO } else { VR::UN };
        }
        let Some(entry) = StandardDataDictionary.by_tag(tag) else {
            return if tag.element() == 0 { VR::UL } else { VR::UN };
        };
        match entry.vr() {
            VirtualVr::Xs if self.signed => VR::SS,
            VirtualVr::Xs => VR::US,
            other => other.relaxed(),
        }
    }

    fn element(&mut self, coding: Coding, depth: usize) -> Result<Element<'a>, DicomError> {
        self.count()?;
        let Header { tag, vr, length } = self.header(coding)?;
        let mut element = Element {
            tag,
            vr,
            value: Value::Bytes(&[]),
            coding,
        };
        let pixels = tag == tags::PIXEL_DATA || (coding.explicit && matches!(vr, VR::OB | VR::OW));
        if length == UNDEFINED && pixels {
            element.value = self.fragments(coding)?;
        } else if length == UNDEFINED {
            // Unknown VR with undefined length: a sequence in implicit VR (PS3.5 section 6.2.2).
            let inner = if vr == VR::UN { IMPLICIT } else { coding };
            element.vr = VR::SQ;
            element.coding = inner;
            element.value = Value::Items(self.items(inner, None, depth + 1)?);
        } else if vr == VR::SQ {
            let end = self.end_of(length, "sequence")?;
            element.value = Value::Items(self.items(coding, Some(end), depth + 1)?);
        } else {
            element.value = Value::Bytes(self.take(length as usize, "value")?);
            if vr == VR::UN && coding.explicit {
                self.known(&mut element, depth);
            }
        }
        Ok(element)
    }

    /// An element of unknown VR that the dictionary knows: a relay that did not know it kept
    /// its bytes in implicit VR little endian (PS3.5 section 6.2.2).
    fn known(&self, element: &mut Element<'a>, depth: usize) {
        let vr = self.implied_vr(element.tag);
        let Some(bytes) = element.bytes().filter(|_| vr != VR::UN && element.tag.group() % 2 == 0) else {
            return;
        };
        if vr == VR::SQ {
            let mut inner = Cursor::new(bytes);
            inner.signed = self.signed;
            // What is no sequence after all stays as it is.
            let Ok(items) = inner.items(IMPLICIT, Some(bytes.len()), depth + 1) else {
                return;
            };
            element.value = Value::Items(items);
        }
        element.vr = vr;
        element.coding = IMPLICIT;
    }

    fn end_of(&self, length: u32, what: &'static str) -> Result<usize, DicomError> {
        self.at
            .checked_add(length as usize)
            .filter(|end| *end <= self.bytes.len())
            .ok_or(DicomError::Truncated { what, at: self.at })
    }

    fn items(
        &mut self,
        coding: Coding,
        end: Option<usize>,
        depth: usize,
    ) -> Result<Vec<DataSet<'a>>, DicomError> {
        if depth > NESTING_MAX {
            return Err(DicomError::TooLarge {
                what: "nesting of sequences",
                limit: NESTING_MAX as u64,
            });
        }
        let mut items = Vec::new();
        while end.is_none_or(|end| self.at < end) {
            self.count()?;
            let group = coding.u16(self.array("item")?);
            let tag = Tag(group, coding.u16(self.array("item")?));
            let length = coding.u32(self.array("item length")?);
            match tag {
                SEQUENCE_END => break,
                ITEM if length == UNDEFINED => items.push(self.data_set(coding, None, depth)?),
                ITEM => {
                    let item_end = self.end_of(length, "item")?;
                    items.push(self.data_set(coding, Some(item_end), depth)?);
                    if self.at != item_end {
                        return Err(self.malformed("item length"));
                    }
                }
                _ => return Err(self.malformed("item")),
            }
        }
        Ok(items)
    }

    fn fragments(&mut self, coding: Coding) -> Result<Value<'a>, DicomError> {
        let mut offsets: Option<&'a [u8]> = None;
        let mut fragments = Vec::new();
        loop {
            self.count()?;
            if self.rest().is_empty() && !fragments.is_empty() {
                // The last delimiter is missing in files that were cut off by a few bytes.
                break;
            }
            let group = coding.u16(self.array("fragment")?);
            let tag = Tag(group, coding.u16(self.array("fragment")?));
            let length = coding.u32(self.array("fragment length")?);
            match tag {
                SEQUENCE_END => break,
                ITEM => {
                    let bytes = self.take(length as usize, "fragment")?;
                    if offsets.is_none() {
                        offsets = Some(bytes);
                    } else {
                        fragments.push(bytes);
                    }
                }
                _ => return Err(self.malformed("fragment")),
            }
        }
        Ok(Value::Fragments {
            offsets: offsets.unwrap_or(&[]),
            fragments,
        })
    }
}
