//! One DICOM Part-10 file: pixels of a phantom, coded as its modality and syntax ask, and the
//! attributes that a scanner would write, the patient's identity included.

use anyhow::{Context, Result, anyhow};
use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::phantom::Plane;
use super::rle;

/// How pixels are coded in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    ExplicitLittle,
    ImplicitLittle,
    Rle,
    /// JPEG baseline, 8 bits: lossy.
    Jpeg,
}

impl Syntax {
    fn uid(self) -> &'static str {
        match self {
            Self::ExplicitLittle => uids::EXPLICIT_VR_LITTLE_ENDIAN,
            Self::ImplicitLittle => uids::IMPLICIT_VR_LITTLE_ENDIAN,
            Self::Rle => uids::RLE_LOSSLESS,
            Self::Jpeg => uids::JPEG_BASELINE8_BIT,
        }
    }
}

/// Pixels as stored.
pub struct Pixels {
    pub rows: usize,
    pub columns: usize,
    pub photometric: &'static str,
    pub bits_allocated: u16,
    pub bits_stored: u16,
    pub signed: bool,
    /// Interleaved samples; a signed one as its two's complement.
    pub samples: Vec<u16>,
    pub samples_per_pixel: u16,
    /// Slope and intercept, window centres and widths.
    pub rescale: Option<(&'static str, &'static str)>,
    pub window: Option<(String, String)>,
}

impl Pixels {
    /// One channel of 8 to 16 bits: `scale` maps a value to what is stored.
    pub fn grey(
        plane: &Plane,
        photometric: &'static str,
        bits: u16,
        scale: impl Fn(f64) -> f64,
    ) -> Self {
        let top = f64::from((1_u32 << bits) - 1);
        Self {
            rows: plane.rows,
            columns: plane.columns,
            photometric,
            bits_allocated: if bits > 8 { 16 } else { 8 },
            bits_stored: bits,
            signed: false,
            samples: plane
                .values
                .iter()
                .map(|value| scale(*value).round().clamp(0.0, top) as u16)
                .collect(),
            samples_per_pixel: 1,
            rescale: None,
            window: None,
        }
    }

    /// Signed 16-bit values, such as a scanner's.
    pub fn signed(plane: &Plane, scale: impl Fn(f64) -> f64) -> Self {
        let stored = |value: f64| scale(value).round().clamp(-32_768.0, 32_767.0) as i16;
        Self {
            signed: true,
            samples: plane
                .values
                .iter()
                .map(|value| stored(*value).cast_unsigned())
                .collect(),
            ..Self::grey(plane, "MONOCHROME2", 16, |_| 0.0)
        }
    }

    /// Red, green and blue of 8 bits, interleaved.
    pub fn colour(planes: &[Plane; 3]) -> Self {
        let [red, green, blue] = planes;
        let byte = |value: &f64| (value * 255.0).round().clamp(0.0, 255.0) as u16;
        let pixels = red.values.iter().zip(&green.values).zip(&blue.values);
        Self {
            samples: pixels
                .flat_map(|((red, green), blue)| [byte(red), byte(green), byte(blue)])
                .collect(),
            samples_per_pixel: 3,
            photometric: "RGB",
            ..Self::grey(red, "RGB", 8, |_| 0.0)
        }
    }

    /// The byte planes of RLE: for each sample of a pixel, its most significant byte first.
    fn planes(&self) -> Vec<Vec<u8>> {
        let channels = usize::from(self.samples_per_pixel);
        let channel = |channel: usize| self.samples.iter().skip(channel).step_by(channels.max(1));
        let mut planes = Vec::new();
        for index in 0..channels {
            if self.bits_allocated == 16 {
                planes.push(channel(index).map(|sample| (sample >> 8) as u8).collect());
            }
            planes.push(channel(index).map(|sample| (sample & 0xff) as u8).collect());
        }
        planes
    }

    fn bytes(&self) -> Vec<u8> {
        self.samples
            .iter()
            .map(|sample| (sample & 0xff) as u8)
            .collect()
    }

    fn jpeg(&self) -> Result<Vec<u8>> {
        let kind = if self.samples_per_pixel == 3 {
            ColorType::Rgb
        } else {
            ColorType::Luma
        };
        let mut coded = Vec::new();
        let (width, height) = (u16::try_from(self.columns)?, u16::try_from(self.rows)?);
        let mut encoder = Encoder::new(&mut coded, 92);
        // Half the columns of colour: what YBR_FULL_422 says.
        encoder.set_sampling_factor(SamplingFactor::F_2_1);
        encoder.encode(&self.bytes(), width, height, kind)?;
        if coded.len() % 2 == 1 {
            coded.push(0);
        }
        Ok(coded)
    }
}

/// A text attribute of the file.
pub type Attribute = (Tag, VR, String);

/// Encodes the file: 128 bytes, `DICM`, the meta group, the data set.
pub fn encode(syntax: Syntax, attributes: &[Attribute], pixels: &Pixels) -> Result<Vec<u8>> {
    let mut object = InMemDicomObject::new_empty();
    for (tag, vr, value) in attributes {
        object.put(DataElement::new(*tag, *vr, value.as_str()));
    }
    let jpeg_colour = syntax == Syntax::Jpeg && pixels.samples_per_pixel == 3;
    let photometric = if jpeg_colour {
        "YBR_FULL_422"
    } else {
        pixels.photometric
    };
    object.put(DataElement::new(
        tags::PHOTOMETRIC_INTERPRETATION,
        VR::CS,
        photometric,
    ));
    if pixels.samples_per_pixel > 1 {
        number(&mut object, tags::PLANAR_CONFIGURATION, 0);
    }
    number(
        &mut object,
        tags::SAMPLES_PER_PIXEL,
        pixels.samples_per_pixel,
    );
    number(&mut object, tags::ROWS, u16::try_from(pixels.rows)?);
    number(&mut object, tags::COLUMNS, u16::try_from(pixels.columns)?);
    number(&mut object, tags::BITS_ALLOCATED, pixels.bits_allocated);
    number(&mut object, tags::BITS_STORED, pixels.bits_stored);
    number(&mut object, tags::HIGH_BIT, pixels.bits_stored - 1);
    number(
        &mut object,
        tags::PIXEL_REPRESENTATION,
        u16::from(pixels.signed),
    );
    if let Some((slope, intercept)) = pixels.rescale {
        object.put(DataElement::new(tags::RESCALE_INTERCEPT, VR::DS, intercept));
        object.put(DataElement::new(tags::RESCALE_SLOPE, VR::DS, slope));
    }
    if let Some((centre, width)) = &pixels.window {
        object.put(DataElement::new(
            tags::WINDOW_CENTER,
            VR::DS,
            centre.as_str(),
        ));
        object.put(DataElement::new(tags::WINDOW_WIDTH, VR::DS, width.as_str()));
    }
    if syntax == Syntax::Jpeg {
        object.put(DataElement::new(
            tags::LOSSY_IMAGE_COMPRESSION,
            VR::CS,
            "01",
        ));
    }
    put_pixels(&mut object, syntax, pixels)?;
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax.uid());
    let file = object.with_meta(meta).context("making a DICOM file")?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).context("making a DICOM file")?;
    Ok(bytes)
}

fn number(object: &mut InMemDicomObject, tag: Tag, value: u16) {
    object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
}

fn put_pixels(object: &mut InMemDicomObject, syntax: Syntax, pixels: &Pixels) -> Result<()> {
    let fragment = match syntax {
        Syntax::Rle => Some(
            rle::encode(&pixels.planes(), pixels.columns)
                .ok_or_else(|| anyhow!("an image without pixels"))?,
        ),
        Syntax::Jpeg => Some(pixels.jpeg()?),
        Syntax::ExplicitLittle | Syntax::ImplicitLittle => None,
    };
    if let Some(fragment) = fragment {
        let sequence = PixelFragmentSequence::new(vec![0_u32], vec![fragment]);
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, sequence));
    } else if pixels.bits_allocated == 16 {
        let words = PrimitiveValue::U16(pixels.samples.iter().copied().collect());
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, words));
    } else {
        let mut bytes = pixels.bytes();
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
        // In implicit VR, pixel data are always OW.
        let vr = if syntax == Syntax::ImplicitLittle {
            VR::OW
        } else {
            VR::OB
        };
        object.put(DataElement::new(
            tags::PIXEL_DATA,
            vr,
            PrimitiveValue::from(bytes),
        ));
    }
    Ok(())
}
