//! De-identification of a DICOM file at ingest.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _};

use super::DicomError;
use super::open::Opened;
use super::profile::{Action, action, is_pixels};
use super::reader::{Coding, DataSet, Element, Value};
use super::value::first_string;

/// Our own implementation class, a UUID-derived UID.
const IMPLEMENTATION_CLASS_UID: &str = "2.25.211530287398402350937265126740938745231";
const METHOD: &str = "PS3.15 basic profile; UIDs by keyed hash";

/// A copy of the file after the essentials of the Basic Application Level Confidentiality
/// Profile (PS3.15 annex E): identifying attributes are emptied or removed, also within
/// sequences; names, dates, times, free text, private attributes, overlays and curves go;
/// each UID that is not the standard's own becomes `2.25.` and the first 128 bits of its
/// HMAC-SHA-256 under `uid_key`, so that files of one study still belong together. The
/// transfer syntax stays and the pixel data are copied byte for byte: text burned into the
/// pixels is not removed, and a file that declares such text is refused.
pub fn deidentify(content: &[u8], uid_key: &[u8; 32]) -> Result<Vec<u8>, DicomError> {
    let opened = Opened::new(content)?;
    let data = opened.data()?;
    if first_string(&data, tags::BURNED_IN_ANNOTATION)
        .is_some_and(|v| v.eq_ignore_ascii_case("YES"))
    {
        return Err(DicomError::BurnedIn);
    }
    let mut body = Vec::with_capacity(content.len());
    let coding = coding_to_write(&opened);
    let mut elements: Vec<Cleaned<'_>> = data
        .elements
        .iter()
        // Numbers in another byte order than the file's come from relays; none is needed.
        .filter(|element| element.coding.big_endian == coding.big_endian)
        .filter_map(|element| clean(element, uid_key))
        .collect();
    let ours = [
        Cleaned::text(tags::PATIENT_IDENTITY_REMOVED, VR::CS, "YES"),
        Cleaned::text(tags::DEIDENTIFICATION_METHOD, VR::LO, METHOD),
        Cleaned {
            tag: tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
            vr: VR::SQ,
            content: Content::Items(vec![vec![
                Cleaned::text(tags::CODE_VALUE, VR::SH, "113100"),
                Cleaned::text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "DCM"),
                Cleaned::text(
                    tags::CODE_MEANING,
                    VR::LO,
                    "Basic Application Confidentiality Profile",
                ),
            ]]),
        },
        Cleaned::text(
            tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED,
            VR::CS,
            "REMOVED",
        ),
    ];
    elements.retain(|element| !ours.iter().any(|new| new.tag == element.tag));
    elements.extend(ours);
    elements.sort_by_key(|element| element.tag);
    write(&elements, coding, &mut body);
    let class = first_string(&data, tags::SOP_CLASS_UID).unwrap_or_default();
    let instance = first_string(&data, tags::SOP_INSTANCE_UID).map(|uid| replaced(&uid, uid_key));
    // What was deflated is written inflated: nobody reads deflated files faster.
    let syntax = match opened.syntax.as_str() {
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN => uids::EXPLICIT_VR_LITTLE_ENDIAN,
        other => other,
    };
    let mut file = header(syntax, &class, &instance.unwrap_or_default());
    file.append(&mut body);
    Ok(file)
}

/// What the transfer syntax prescribes, which is not always what the file does.
fn coding_to_write(opened: &Opened<'_>) -> Coding {
    Coding {
        explicit: opened.syntax != uids::IMPLICIT_VR_LITTLE_ENDIAN,
        ..opened.coding
    }
}

/// An element that may be written.
struct Cleaned<'a> {
    tag: Tag,
    vr: VR,
    content: Content<'a>,
}

enum Content<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Items(Vec<Vec<Cleaned<'a>>>),
    Fragments {
        offsets: &'a [u8],
        fragments: &'a [&'a [u8]],
    },
}

impl Cleaned<'_> {
    fn text(tag: Tag, vr: VR, text: &str) -> Cleaned<'static> {
        Cleaned {
            tag,
            vr,
            content: Content::Owned(text.as_bytes().to_vec()),
        }
    }
}

/// The element as the profile leaves it, or `None` when it is removed.
fn clean<'a>(element: &'a Element<'a>, key: &[u8; 32]) -> Option<Cleaned<'a>> {
    let keep = |content| {
        Some(Cleaned {
            tag: element.tag,
            vr: element.vr,
            content,
        })
    };
    let action = action(element.tag, declared_vr(element));
    match (&element.value, action) {
        (_, Action::Remove) => None,
        (Value::Items(_), Action::Empty) => keep(Content::Items(Vec::new())),
        (_, Action::Empty) => keep(Content::Owned(Vec::new())),
        (Value::Items(items), _) => keep(Content::Items(
            items.iter().map(|item| clean_all(item, key)).collect(),
        )),
        (Value::Fragments { offsets, fragments }, _) => {
            keep(Content::Fragments { offsets, fragments })
        }
        (Value::Bytes(bytes), Action::Uid) => keep(Content::Owned(replace_uids(bytes, key))),
        (Value::Bytes(bytes), Action::Keep) => keep(Content::Borrowed(bytes)),
    }
}

fn clean_all<'a>(data: &'a DataSet<'a>, key: &[u8; 32]) -> Vec<Cleaned<'a>> {
    data.elements
        .iter()
        .filter_map(|element| clean(element, key))
        .collect()
}

/// The VR by which the profile judges: that of the dictionary, since a file may declare a
/// harmless one for a name, or else the file's own.
fn declared_vr(element: &Element<'_>) -> VR {
    if is_pixels(element.tag) {
        return element.vr;
    }
    let entry = StandardDataDictionary.by_tag(element.tag);
    entry
        .and_then(|entry| entry.vr().exact())
        .unwrap_or(element.vr)
}

fn replace_uids(bytes: &[u8], key: &[u8; 32]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let uids: Vec<String> = text
        .split('\\')
        .map(|uid| uid.trim_matches([' ', '\0']))
        .map(|uid| replaced(uid, key))
        .collect();
    uids.join("\\").into_bytes()
}

/// The standard's own UIDs (classes, syntaxes, frames of reference) stay.
fn replaced(uid: &str, key: &[u8; 32]) -> String {
    if uid.is_empty() || uid.starts_with("1.2.840.10008.") {
        return uid.to_string();
    }
    #[allow(clippy::unwrap_used)] // HMAC takes keys of any length
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(uid.as_bytes());
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    let number = digest
        .iter()
        .take(16)
        .fold(0u128, |n, byte| n << 8 | u128::from(*byte));
    format!("2.25.{number}")
}

/// Preamble, prefix and file meta group.
fn header(syntax: &str, class: &str, instance: &str) -> Vec<u8> {
    let mut meta = vec![
        Cleaned {
            tag: tags::FILE_META_INFORMATION_VERSION,
            vr: VR::OB,
            content: Content::Borrowed(&[0, 1]),
        },
        Cleaned::text(tags::MEDIA_STORAGE_SOP_CLASS_UID, VR::UI, class),
        Cleaned::text(tags::MEDIA_STORAGE_SOP_INSTANCE_UID, VR::UI, instance),
        Cleaned::text(tags::TRANSFER_SYNTAX_UID, VR::UI, syntax),
        Cleaned::text(
            tags::IMPLEMENTATION_CLASS_UID,
            VR::UI,
            IMPLEMENTATION_CLASS_UID,
        ),
    ];
    meta.sort_by_key(|element| element.tag);
    let coding = Coding {
        explicit: true,
        big_endian: false,
    };
    let mut group = Vec::new();
    write(&meta, coding, &mut group);
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    let length = Cleaned {
        tag: tags::FILE_META_INFORMATION_GROUP_LENGTH,
        vr: VR::UL,
        content: Content::Owned((group.len() as u32).to_le_bytes().to_vec()),
    };
    write(&[length], coding, &mut file);
    file.append(&mut group);
    file
}

fn put_u16(value: u16, coding: Coding, out: &mut Vec<u8>) {
    out.extend(if coding.big_endian {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    });
}

fn put_u32(value: u32, coding: Coding, out: &mut Vec<u8>) {
    out.extend(if coding.big_endian {
        value.to_be_bytes()
    } else {
        value.to_le_bytes()
    });
}

fn put_tag(tag: Tag, coding: Coding, out: &mut Vec<u8>) {
    put_u16(tag.group(), coding, out);
    put_u16(tag.element(), coding, out);
}

const UNDEFINED: u32 = u32::MAX;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// Encodes elements; sequences get undefined lengths.
fn write(elements: &[Cleaned<'_>], coding: Coding, out: &mut Vec<u8>) {
    for element in elements {
        let bytes: &[u8] = match &element.content {
            Content::Borrowed(bytes) => bytes,
            Content::Owned(bytes) => bytes,
            Content::Items(items) => {
                put_header(element.tag, VR::SQ, UNDEFINED, coding, out);
                for item in items {
                    put_tag(ITEM, coding, out);
                    put_u32(UNDEFINED, coding, out);
                    write(item, coding, out);
                    put_tag(ITEM_END, coding, out);
                    put_u32(0, coding, out);
                }
                put_tag(SEQUENCE_END, coding, out);
                put_u32(0, coding, out);
                continue;
            }
            Content::Fragments { offsets, fragments } => {
                put_header(element.tag, element.vr, UNDEFINED, coding, out);
                for fragment in std::iter::once(offsets).chain(fragments.iter()) {
                    put_tag(ITEM, coding, out);
                    put_u32(fragment.len() as u32, coding, out);
                    out.extend_from_slice(fragment);
                }
                put_tag(SEQUENCE_END, coding, out);
                put_u32(0, coding, out);
                continue;
            }
        };
        let odd = bytes.len() % 2;
        put_header(
            element.tag,
            element.vr,
            (bytes.len() + odd) as u32,
            coding,
            out,
        );
        out.extend_from_slice(bytes);
        if odd == 1 {
            let text = super::value::is_text(element.vr) && element.vr != VR::UI;
            out.push(if text { b' ' } else { 0 });
        }
    }
}

fn put_header(tag: Tag, vr: VR, length: u32, coding: Coding, out: &mut Vec<u8>) {
    put_tag(tag, coding, out);
    if !coding.explicit {
        put_u32(length, coding, out);
        return;
    }
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
    // A value that is too long for the short form of its VR is of unknown VR (section 6.2.2).
    let too_long = !long && length > u32::from(u16::MAX);
    let vr = if too_long { VR::UN } else { vr };
    out.extend(vr.to_bytes());
    if long || too_long {
        out.extend([0, 0]);
        put_u32(length, coding, out);
    } else {
        put_u16(length as u16, coding, out);
    }
}
