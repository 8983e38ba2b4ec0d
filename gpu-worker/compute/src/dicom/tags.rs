//! Attributes as text: one value, or the whole data set in the DICOM JSON model.

use base64::Engine as _;
use dicom_core::dictionary::{DataDictionary as _, DataDictionaryEntry as _, TagRange};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use serde_json::{Map, Value as Json, json as object};

use super::DicomError;
use super::charset::Charset;
use super::open::Opened;
use super::reader::{DataSet, Element, Value};
use super::value::{Number, charset, is_text, numbers, strings};

/// The data set in the DICOM JSON model (PS3.18 annex F) without the pixel data: text in the
/// declared character set, `IS` and `DS` as numbers where they are ones, binary values inline.
pub fn json(content: &[u8]) -> Result<String, DicomError> {
    let opened = Opened::new(content)?;
    let data = opened.data()?;
    Ok(sorted(Json::Object(data_set(&data, &Charset::default()))))
}

/// The value of one element as text; several values are joined by `\`. `None` when the file
/// has no such element. `tag` is a keyword (`PatientName`), `(0010,0010)`, `0010,0010` or
/// `00100010`; the file meta group works too.
pub fn tag_text(content: &[u8], tag: &str) -> Result<Option<String>, DicomError> {
    let wanted = parse_tag(tag)?;
    let opened = Opened::new(content)?;
    if wanted.group() == 2 {
        let element = opened.meta.get(wanted);
        return Ok(element.map(|element| text(element, &Charset::default())));
    }
    let data = opened.data()?;
    let charset = charset(&data, &Charset::default());
    Ok(data.get(wanted).map(|element| text(element, &charset)))
}

/// Reads a tag as `tag_text` describes it.
pub(crate) fn parse_tag(text: &str) -> Result<Tag, DicomError> {
    let unknown = || DicomError::UnknownTag {
        tag: super::shown(text),
    };
    let trimmed = text.trim();
    let bare = trimmed
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or(trimmed);
    let digits: String = match bare.split_once(',') {
        Some((group, element)) if group.trim().len() == 4 && element.trim().len() == 4 => {
            format!("{}{}", group.trim(), element.trim())
        }
        Some(_) => return Err(unknown()),
        None => bare.to_string(),
    };
    if digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        let number = u32::from_str_radix(&digits, 16).map_err(|_| unknown())?;
        return Ok(Tag((number >> 16) as u16, number as u16));
    }
    let entry = StandardDataDictionary.by_name(bare).ok_or_else(unknown)?;
    match entry.tag_range() {
        TagRange::Single(tag) => Ok(tag),
        // A repeating group (overlays): the first of them.
        other => Ok(other.inner()),
    }
}

fn text(element: &Element<'_>, charset: &Charset) -> String {
    match &element.value {
        Value::Items(items) => sorted(Json::Array(
            items
                .iter()
                .map(|item| Json::Object(data_set(item, charset)))
                .collect(),
        )),
        Value::Fragments { fragments, .. } => format!("{} fragments", fragments.len()),
        Value::Bytes(bytes) => {
            if element.tag == tags::PIXEL_DATA {
                return format!("{} bytes", bytes.len());
            }
            if is_text(element.vr) {
                return strings(element, charset).join("\\");
            }
            if element.vr == VR::AT {
                return attribute_tags(element)
                    .iter()
                    .map(|tag| format!("({:04X},{:04X})", tag.group(), tag.element()))
                    .collect::<Vec<_>>()
                    .join("\\");
            }
            match numbers(element).filter(|_| !is_bulk(element.vr)) {
                Some(numbers) => numbers
                    .iter()
                    .map(Number::to_string)
                    .collect::<Vec<_>>()
                    .join("\\"),
                None => base64::engine::general_purpose::STANDARD.encode(bytes),
            }
        }
    }
}

/// By name at every depth, whatever other crates of a build make of the order of JSON.
fn sorted(mut json: Json) -> String {
    json.sort_all_objects();
    json.to_string()
}

/// VRs that the JSON model writes as `InlineBinary`.
fn is_bulk(vr: VR) -> bool {
    matches!(
        vr,
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN
    )
}

fn attribute_tags(element: &Element<'_>) -> Vec<Tag> {
    let (chunks, _) = element.bytes().unwrap_or(&[]).as_chunks::<4>();
    let coding = element.coding;
    chunks
        .iter()
        .map(|[a, b, c, d]| Tag(coding.u16([*a, *b]), coding.u16([*c, *d])))
        .collect()
}

fn data_set(data: &DataSet<'_>, outer: &Charset) -> Map<String, Json> {
    let charset = charset(data, outer);
    data.elements
        .iter()
        // Pixels are bulk; group lengths are no attributes (PS3.18 section F.2.2).
        .filter(|element| !is_pixels(element.tag) && element.tag.element() != 0)
        .map(|element| {
            let key = format!("{:04X}{:04X}", element.tag.group(), element.tag.element());
            (key, attribute(element, &charset))
        })
        .collect()
}

fn is_pixels(tag: Tag) -> bool {
    matches!(
        tag,
        tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA
    )
}

fn attribute(element: &Element<'_>, charset: &Charset) -> Json {
    let vr = element.vr.to_string();
    let values: Vec<Json> = match &element.value {
        Value::Items(items) => items
            .iter()
            .map(|item| Json::Object(data_set(item, charset)))
            .collect(),
        Value::Fragments { .. } => Vec::new(),
        Value::Bytes([]) => Vec::new(),
        Value::Bytes(bytes) if is_bulk(element.vr) => {
            let base64 =
                base64::engine::general_purpose::STANDARD.encode(little_endian(element, bytes));
            return object!({ "vr": vr, "InlineBinary": base64 });
        }
        Value::Bytes(_) => scalars(element, charset),
    };
    if values.is_empty() {
        object!({ "vr": vr })
    } else {
        object!({ "vr": vr, "Value": values })
    }
}

fn scalars(element: &Element<'_>, charset: &Charset) -> Vec<Json> {
    if element.vr == VR::AT {
        return attribute_tags(element)
            .iter()
            .map(|tag| Json::String(format!("{:04X}{:04X}", tag.group(), tag.element())))
            .collect();
    }
    if let Some(numbers) = numbers(element) {
        return numbers.into_iter().map(number).collect();
    }
    strings(element, charset)
        .into_iter()
        .map(|text| match element.vr {
            _ if text.is_empty() => Json::Null,
            VR::PN => person(&text),
            VR::IS => text.parse::<i64>().map_or(Json::String(text), Json::from),
            VR::DS => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => Json::from(value),
                _ => Json::String(text),
            },
            _ => Json::String(text),
        })
        .collect()
}

fn number(number: Number) -> Json {
    match number {
        Number::Int(n) => Json::from(n),
        Number::Unsigned(n) => Json::from(n),
        Number::Single(n) if n.is_finite() => Json::from(f64::from(n)),
        Number::Double(n) if n.is_finite() => Json::from(n),
        // PS3.18 section F.2.2: NaN and infinities are strings.
        Number::Single(_) | Number::Double(_) => {
            let value = number.as_f64();
            Json::from(if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "inf"
            } else {
                "-inf"
            })
        }
    }
}

/// A person name by its component groups.
fn person(name: &str) -> Json {
    let keys = ["Alphabetic", "Ideographic", "Phonetic"];
    let groups = name
        .split('=')
        .zip(keys)
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, key)| (key.to_string(), Json::from(group)));
    Json::Object(groups.collect())
}

/// Inline binary is little endian whatever the file is (PS3.18 section F.2.7).
fn little_endian<'a>(element: &Element<'_>, bytes: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
    let width = match element.vr {
        VR::OW => 2,
        VR::OF | VR::OL => 4,
        VR::OD | VR::OV => 8,
        _ => 1,
    };
    if !element.coding.big_endian || width == 1 {
        return bytes.into();
    }
    let mut swapped = bytes.to_vec();
    swapped.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    swapped.into()
}
