//! Stored pixel values of one frame.

use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};

use super::DicomError;
use super::codec;
use super::open::Opened;
use super::reader::{DataSet, Value};
use super::value::{first_number, first_string, numbers};

/// Samples of one decoded frame (8192 × 8192 in grey).
pub const FRAME_SAMPLES_MAX: usize = 64 << 20;

const TOO_SHORT: DicomError = DicomError::Invalid {
    what: "length of its pixel data: it is too short for its size",
};

/// Attributes that describe the pixels (PS3.3 C.7.6.3).
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub rows: usize,
    pub columns: usize,
    pub samples: usize,
    pub allocated: usize,
    pub stored: usize,
    pub high_bit: usize,
    pub signed: bool,
    pub planar: bool,
    pub frames: u32,
    pub photometric: String,
}

/// Values of one frame, interleaved by pixel; colours as they are encoded.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub values: Vec<i32>,
    /// True when three samples are YCbCr.
    pub ycc: bool,
}

impl Layout {
    pub fn new(data: &DataSet<'_>) -> Result<Layout, DicomError> {
        let number = |tag: Tag| first_number(data, tag);
        let size = |tag: Tag, what: &'static str| match number(tag) {
            None => Err(DicomError::Missing { what }),
            Some(n) if n >= 1.0 && n <= f64::from(u16::MAX) => Ok(n as usize),
            Some(_) => Err(DicomError::Invalid { what }),
        };
        let rows = size(tags::ROWS, "number of rows (0028,0010)")?;
        let columns = size(tags::COLUMNS, "number of columns (0028,0011)")?;
        let allocated = size(tags::BITS_ALLOCATED, "number of bits allocated (0028,0100)")?;
        let samples = number(tags::SAMPLES_PER_PIXEL).map_or(1, |n| n as usize);
        let stored = number(tags::BITS_STORED).map_or(allocated, |n| n as usize);
        let high_bit = number(tags::HIGH_BIT).map_or(stored.wrapping_sub(1), |n| n as usize);
        if !matches!(allocated, 1 | 8 | 16 | 32) {
            return Err(DicomError::Invalid {
                what: "number of bits allocated (0028,0100)",
            });
        }
        if stored == 0 || stored > allocated || high_bit >= allocated || high_bit + 1 < stored {
            return Err(DicomError::Invalid {
                what: "number of bits stored (0028,0101)",
            });
        }
        if !matches!(samples, 1 | 3) || (samples == 3 && allocated < 8) {
            return Err(DicomError::Invalid {
                what: "number of samples (0028,0002)",
            });
        }
        if rows * columns * samples > FRAME_SAMPLES_MAX {
            return Err(DicomError::TooLarge {
                what: "number of pixels of a frame",
                limit: FRAME_SAMPLES_MAX as u64,
            });
        }
        let frames = match number(tags::NUMBER_OF_FRAMES) {
            None => 1,
            Some(n) if n >= 1.0 && n <= f64::from(i32::MAX) => n as u32,
            Some(_) => {
                return Err(DicomError::Invalid {
                    what: "number of frames (0028,0008)",
                });
            }
        };
        let default = if samples == 3 { "RGB" } else { "MONOCHROME2" };
        Ok(Layout {
            rows,
            columns,
            samples,
            allocated,
            stored,
            high_bit,
            signed: number(tags::PIXEL_REPRESENTATION) == Some(1.0),
            planar: number(tags::PLANAR_CONFIGURATION) == Some(1.0),
            frames,
            photometric: first_string(data, tags::PHOTOMETRIC_INTERPRETATION)
                .unwrap_or_else(|| default.to_string()),
        })
    }

    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// The stored value within the bits allocated: shifted, masked, its sign extended.
    fn value(&self, raw: u32) -> i32 {
        let shifted = raw >> (self.high_bit + 1 - self.stored);
        let unused = 32 - self.stored as u32;
        let left = shifted << unused;
        if self.signed {
            left.cast_signed() >> unused
        } else {
            // In order: all 32 bits would not fit, so they are moved down by `offset`.
            (i64::from(left >> unused) - self.offset()) as i32
        }
    }

    /// What was taken from the stored values so that they fit.
    pub fn offset(&self) -> i64 {
        if self.stored == 32 && !self.signed {
            1 << 31
        } else {
            0
        }
    }

    /// Decodes frame `index`, counted from 0.
    pub fn frame(
        &self,
        opened: &Opened<'_>,
        data: &DataSet<'_>,
        index: u32,
    ) -> Result<Frame, DicomError> {
        let element = data.get(tags::PIXEL_DATA).ok_or(DicomError::Missing {
            what: "pixel data (7FE0,0010)",
        })?;
        match &element.value {
            Value::Bytes(bytes) => {
                let big_endian = element.coding.big_endian;
                if big_endian && self.allocated <= 8 && element.vr == VR::OW {
                    // Bytes travel in pairs, as the words that they were written as.
                    let mut bytes = bytes.to_vec();
                    bytes.chunks_exact_mut(2).for_each(<[u8]>::reverse);
                    return self.native(&bytes, big_endian, index);
                }
                self.native(bytes, big_endian, index)
            }
            Value::Fragments { offsets, fragments } => {
                let extended = data.get(tags::EXTENDED_OFFSET_TABLE).and_then(numbers);
                let extended: Vec<usize> = extended
                    .unwrap_or_default()
                    .into_iter()
                    .map(|n| n.as_f64() as usize)
                    .collect();
                let starts = if extended.is_empty() {
                    basic_offsets(offsets)
                } else {
                    extended
                };
                let bytes = frame_bytes(fragments, &starts, self.frames, index)?;
                self.encapsulated(&opened.syntax, &bytes)
            }
            Value::Items(_) => Err(DicomError::Invalid {
                what: "pixel data (7FE0,0010)",
            }),
        }
    }

    fn encapsulated(&self, syntax: &str, bytes: &[u8]) -> Result<Frame, DicomError> {
        match syntax {
            uids::RLE_LOSSLESS => self.rle(bytes),
            uids::JPEG_BASELINE8_BIT
            | uids::JPEG_EXTENDED12_BIT
            | uids::JPEG_LOSSLESS
            | uids::JPEG_LOSSLESS_SV1 => {
                let decoded = codec::jpeg(bytes, self.rows, self.columns, self.samples)?;
                let ycc = if self.photometric.starts_with("YBR") {
                    decoded.ycc != Some(false)
                } else {
                    // Colours that are declared RGB but compressed as JFIF are YCbCr: lossy
                    // encoders convert by default, and the stream knows better.
                    decoded.ycc == Some(true) && syntax == uids::JPEG_BASELINE8_BIT
                };
                let mut values: Vec<i32> = Vec::with_capacity(decoded.values.len());
                values.extend(decoded.values.iter().map(|v| self.value(u32::from(*v))));
                Ok(Frame { values, ycc })
            }
            _ => Err(DicomError::TransferSyntax {
                uid: super::shown(syntax),
            }),
        }
    }

    fn rle(&self, bytes: &[u8]) -> Result<Frame, DicomError> {
        if self.allocated < 8 {
            return Err(DicomError::Codec {
                what: "RLE of single bits",
            });
        }
        let width = self.allocated / 8;
        let pixels = self.pixels();
        let planes = codec::rle(bytes, pixels, self.samples * width)?;
        let mut values = vec![0i32; pixels * self.samples];
        for (sample, parts) in planes.chunks(width).enumerate() {
            let slots = values.iter_mut().skip(sample).step_by(self.samples);
            for (i, slot) in slots.enumerate() {
                let raw = parts
                    .iter()
                    .filter_map(|part| part.get(i))
                    .fold(0u32, |raw, byte| raw << 8 | u32::from(*byte));
                *slot = self.value(raw);
            }
        }
        Ok(Frame {
            values,
            ycc: self.photometric.starts_with("YBR"),
        })
    }

    /// Pixels of one bit; the first is the least significant bit (PS3.5 section 8.1.1).
    fn bits(&self, bytes: &[u8], index: u32) -> Result<Frame, DicomError> {
        let count = self.pixels() * self.samples;
        let from = (index as usize).checked_mul(count).ok_or(TOO_SHORT)?;
        let to = from.checked_add(count).ok_or(TOO_SHORT)?;
        if bytes.len().saturating_mul(8) < to {
            return Err(TOO_SHORT);
        }
        let bit = |i: usize| {
            let byte = bytes.get(i / 8).copied().unwrap_or(0);
            i32::from(byte >> (i % 8) & 1)
        };
        Ok(Frame {
            values: (from..to).map(bit).collect(),
            ycc: false,
        })
    }

    /// Pixels that are not compressed.
    fn native(&self, bytes: &[u8], big_endian: bool, index: u32) -> Result<Frame, DicomError> {
        let count = self.pixels() * self.samples;
        if self.allocated == 1 {
            return self.bits(bytes, index);
        }
        let width = self.allocated / 8;
        let subsampled = self.photometric == "YBR_FULL_422";
        let length = if subsampled {
            self.pixels() * 2 * width
        } else {
            count * width
        };
        let from = (index as usize).checked_mul(length).ok_or(TOO_SHORT)?;
        let frame = from
            .checked_add(length)
            .and_then(|to| bytes.get(from..to))
            .ok_or(TOO_SHORT)?;
        let mut values: Vec<i32> = Vec::with_capacity(count);
        match (width, big_endian) {
            (1, _) => values.extend(frame.iter().map(|b| self.value(u32::from(*b)))),
            (2, false) => {
                let (pairs, _) = frame.as_chunks::<2>();
                values.extend(
                    pairs
                        .iter()
                        .map(|b| self.value(u32::from(u16::from_le_bytes(*b)))),
                );
            }
            (2, true) => {
                let (pairs, _) = frame.as_chunks::<2>();
                values.extend(
                    pairs
                        .iter()
                        .map(|b| self.value(u32::from(u16::from_be_bytes(*b)))),
                );
            }
            (_, little_or_big) => {
                let (words, _) = frame.as_chunks::<4>();
                let read = if little_or_big {
                    u32::from_be_bytes
                } else {
                    u32::from_le_bytes
                };
                values.extend(words.iter().map(|b| self.value(read(*b))));
            }
        }
        if subsampled {
            values = upsampled(&values);
        } else if self.planar && self.samples == 3 {
            values = interleaved(&values, self.pixels());
        }
        Ok(Frame {
            values,
            ycc: self.photometric.starts_with("YBR"),
        })
    }
}

/// Y1 Y2 Cb Cr for each two pixels (PS3.3 C.7.6.3.1.2) → Y Cb Cr for each pixel.
fn upsampled(values: &[i32]) -> Vec<i32> {
    let (quads, _) = values.as_chunks::<4>();
    quads
        .iter()
        .flat_map(|[y1, y2, cb, cr]| [*y1, *cb, *cr, *y2, *cb, *cr])
        .collect()
}

fn interleaved(planes: &[i32], pixels: usize) -> Vec<i32> {
    let mut out = vec![0; planes.len()];
    for (sample, plane) in planes.chunks(pixels).enumerate() {
        for (slot, value) in out.iter_mut().skip(sample).step_by(3).zip(plane) {
            *slot = *value;
        }
    }
    out
}

fn basic_offsets(table: &[u8]) -> Vec<usize> {
    let (words, _) = table.as_chunks::<4>();
    words
        .iter()
        .map(|w| u32::from_le_bytes(*w) as usize)
        .collect()
}

/// The compressed bytes of one frame: one fragment a frame, all fragments of a single frame,
/// or as the offset table says (PS3.5 section A.4).
fn frame_bytes<'a>(
    fragments: &[&'a [u8]],
    starts: &[usize],
    frames: u32,
    index: u32,
) -> Result<std::borrow::Cow<'a, [u8]>, DicomError> {
    let missing = DicomError::Missing {
        what: "compressed pixels for this frame",
    };
    let at = index as usize;
    if fragments.len() == frames as usize {
        return fragments.get(at).map(|f| (*f).into()).ok_or(missing);
    }
    if frames == 1 {
        return Ok(fragments.concat().into());
    }
    let first_of = |frame: usize| -> Option<usize> {
        if starts.is_empty() {
            // Without a table, a JPEG frame begins where a fragment starts with SOI.
            let starts = fragments
                .iter()
                .enumerate()
                .filter(|(_, f)| f.starts_with(&[0xFF, 0xD8]));
            return starts.map(|(i, _)| i).nth(frame);
        }
        const ITEM_HEADER_BYTES: usize = 8;
        let wanted = *starts.get(frame)?;
        let mut offset = 0;
        for (i, fragment) in fragments.iter().enumerate() {
            if offset == wanted {
                return Some(i);
            }
            offset += fragment.len() + ITEM_HEADER_BYTES;
        }
        None
    };
    let from = first_of(at).ok_or(missing.clone())?;
    let to = first_of(at + 1).unwrap_or(fragments.len());
    fragments
        .get(from..to)
        .map(|parts| parts.concat().into())
        .ok_or(missing)
}
