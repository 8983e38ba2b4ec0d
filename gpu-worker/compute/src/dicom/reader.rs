//! Parses data sets into elements that borrow the bytes.
//!
//! The crates that parse DICOM trust the lengths that a file declares: they reserve memory
//! for them before reading, and recurse without a limit. Files of strangers need neither, so
//! this reader checks each length against the bytes that are there and bounds the nesting.
//! It copies nothing; a file is parsed in microseconds however large its pixels are.

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _, VirtualVr};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};

use super::DicomError;

/// Sequences within sequences; real files have fewer than ten.
pub const NESTING_MAX: usize = 32;
/// Elements and items of one file, sequences included.
pub const ELEMENTS_MAX: usize = 4 << 20;

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

pub(crate) const EXPLICIT: Coding = Coding {
    explicit: true,
    big_endian: false,
};
pub(crate) const IMPLICIT: Coding = Coding {
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

/// Header of one element.
struct Header {
    tag: Tag,
    vr: VR,
    length: u32,
}

pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    elements: usize,
    /// Pixel Representation, which decides whether `US or SS` is signed in implicit VR.
    signed: bool,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor {
            bytes,
            at: 0,
            elements: 0,
            signed: false,
        }
    }

    pub fn rest(&self) -> &'a [u8] {
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
            .ok_or(DicomError::Truncated { what, at: self.at })?;
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
    pub fn meta(&mut self) -> Result<DataSet<'a>, DicomError> {
        let mut meta = DataSet::default();
        while self.peek_tag(EXPLICIT).is_some_and(|tag| tag.group() == 2) {
            meta.elements.push(self.element(EXPLICIT, 0)?);
        }
        Ok(meta)
    }

    /// Elements until `end`, an item delimiter or the end of the bytes.
    pub fn data_set(
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
        let Some(bytes) = element
            .bytes()
            .filter(|_| vr != VR::UN && element.tag.group().is_multiple_of(2))
        else {
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
