//! Values of elements as text and numbers.

use dicom_core::VR;
use dicom_dictionary_std::tags;

use super::charset::Charset;
use super::reader::{DataSet, Element};

/// One number of a binary value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Unsigned(u64),
    Single(f32),
    Double(f64),
}

impl Number {
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(n) => n as f64,
            Number::Unsigned(n) => n as f64,
            Number::Single(n) => f64::from(n),
            Number::Double(n) => n,
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Int(n) => write!(f, "{n}"),
            Number::Unsigned(n) => write!(f, "{n}"),
            Number::Single(n) => write!(f, "{n}"),
            Number::Double(n) => write!(f, "{n}"),
        }
    }
}

/// The character set that a data set declares, else the one around it.
pub(crate) fn charset(data: &DataSet<'_>, outer: &Charset) -> Charset {
    match data
        .get(tags::SPECIFIC_CHARACTER_SET)
        .and_then(Element::bytes)
    {
        Some(value) => Charset::new(value),
        None => outer.clone(),
    }
}

/// True for VRs whose values are text.
pub(crate) fn is_text(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::ST
            | VR::TM
            | VR::UC
            | VR::UI
            | VR::UR
            | VR::UT
    )
}

/// True where the Specific Character Set applies (PS3.5 section 6.1.2.3).
fn is_encoded(vr: VR) -> bool {
    matches!(
        vr,
        VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT
    )
}

/// Values of a text element: split at backslashes where the VR allows several values, without
/// the padding that the VR declares insignificant.
pub(crate) fn strings(element: &Element<'_>, charset: &Charset) -> Vec<String> {
    let bytes = element.bytes().unwrap_or(&[]);
    let text = if is_encoded(element.vr) {
        charset.decode(bytes)
    } else {
        Charset::default().decode(bytes)
    };
    let whole = matches!(element.vr, VR::ST | VR::LT | VR::UT | VR::UR);
    if whole {
        let text = text.trim_end_matches([' ', '\0']);
        return if text.is_empty() {
            Vec::new()
        } else {
            vec![text.to_string()]
        };
    }
    let text = text.trim_end_matches([' ', '\0']);
    if text.is_empty() {
        return Vec::new();
    }
    text.split('\\')
        .map(|part| match element.vr {
            VR::UC => part.trim_end_matches([' ', '\0']),
            _ => part.trim_matches([' ', '\0']),
        })
        .map(str::to_string)
        .collect()
}

/// Values of a binary element, or `None` for VRs that are no numbers.
pub(crate) fn numbers(element: &Element<'_>) -> Option<Vec<Number>> {
    let bytes = element.bytes()?;
    let coding = element.coding;
    let two = |make: fn(u16) -> Number| -> Vec<Number> {
        let (chunks, _) = bytes.as_chunks::<2>();
        chunks.iter().map(|c| make(coding.u16(*c))).collect()
    };
    let four = |make: fn(u32) -> Number| -> Vec<Number> {
        let (chunks, _) = bytes.as_chunks::<4>();
        chunks.iter().map(|c| make(coding.u32(*c))).collect()
    };
    let eight = |make: fn(u64) -> Number| -> Vec<Number> {
        let (chunks, _) = bytes.as_chunks::<8>();
        chunks.iter().map(|c| make(coding.u64(*c))).collect()
    };
    Some(match element.vr {
        VR::US | VR::OW => two(|n| Number::Unsigned(u64::from(n))),
        VR::SS => two(|n| Number::Int(i64::from(n.cast_signed()))),
        VR::UL | VR::OL => four(|n| Number::Unsigned(u64::from(n))),
        VR::SL => four(|n| Number::Int(i64::from(n.cast_signed()))),
        VR::FL | VR::OF => four(|n| Number::Single(f32::from_bits(n))),
        VR::FD | VR::OD => eight(|n| Number::Double(f64::from_bits(n))),
        VR::UV | VR::OV => eight(Number::Unsigned),
        VR::SV => eight(|n| Number::Int(n.cast_signed())),
        _ => return None,
    })
}

/// First number of an element, text (`DS`, `IS`) or binary; NaN and infinities are none.
pub(crate) fn first_number(data: &DataSet<'_>, tag: dicom_core::Tag) -> Option<f64> {
    let element = data.get(tag)?;
    let value = match numbers(element) {
        Some(numbers) => numbers.first()?.as_f64(),
        None => strings(element, &Charset::default())
            .first()?
            .parse()
            .ok()?,
    };
    value.is_finite().then_some(value)
}

/// First text of an element; an empty one is none.
pub(crate) fn first_string(data: &DataSet<'_>, tag: dicom_core::Tag) -> Option<String> {
    let strings = strings(data.get(tag)?, &Charset::default());
    strings.into_iter().next().filter(|text| !text.is_empty())
}
