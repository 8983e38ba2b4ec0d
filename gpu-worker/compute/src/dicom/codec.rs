//! Decompression of one frame.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::DicomError;

/// What a JPEG frame decodes to.
pub(crate) struct Decoded {
    /// Samples, interleaved by pixel.
    pub values: Vec<u16>,
    /// True when the stream itself says that its colours are YCbCr.
    pub ycc: Option<bool>,
}

/// Decodes an RLE Lossless frame (PS3.5 annex G) to `planes` segments of `pixels` bytes, in
/// the order of the file: for each sample the most significant byte first.
pub(crate) fn rle(
    fragment: &[u8],
    pixels: usize,
    planes: usize,
) -> Result<Vec<Vec<u8>>, DicomError> {
    const HEADER_BYTES: usize = 64;
    let wrong = |what| DicomError::Codec { what };
    let header = fragment.get(..HEADER_BYTES).ok_or(wrong("RLE header"))?;
    let (words, _) = header.as_chunks::<4>();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word) as usize);
    let count = words.next().unwrap_or(0);
    if count != planes || count > 15 {
        return Err(wrong("number of RLE segments"));
    }
    let mut offsets: Vec<usize> = words.take(count).collect();
    offsets.push(fragment.len());
    let mut out = Vec::with_capacity(planes);
    for pair in offsets.windows(2) {
        let [from, to] = pair else { continue };
        let segment = fragment
            .get(*from..*to)
            .ok_or(wrong("RLE segment offset"))?;
        out.push(pack_bits(segment, pixels).ok_or(wrong("RLE segment"))?);
    }
    Ok(out)
}

/// Expands PackBits to exactly `length` bytes; what follows them is padding.
fn pack_bits(segment: &[u8], length: usize) -> Option<Vec<u8>> {
    // A run of 128 takes two bytes, so the result cannot exceed 64 times the segment.
    if length > segment.len().saturating_mul(64) {
        return None;
    }
    let mut out = Vec::with_capacity(length);
    let mut at = 0;
    while out.len() < length {
        let control = segment.get(at)?.cast_signed();
        at += 1;
        match control {
            0..=127 => {
                let count = control as usize + 1;
                let literal = segment.get(at..(at + count).min(segment.len()))?;
                if literal.len() < count.min(length - out.len()) {
                    return None;
                }
                out.extend_from_slice(literal);
                at += count;
            }
            -128 => {}
            _ => {
                let byte = *segment.get(at)?;
                at += 1;
                let count = usize::from(control.unsigned_abs()) + 1;
                out.resize(out.len() + count, byte);
            }
        }
    }
    out.truncate(length);
    Some(out)
}

/// Decodes a JPEG frame (baseline, extended with 8 bits, lossless) of known size. Colours stay
/// as they are encoded; the caller knows the photometric interpretation.
pub(crate) fn jpeg(
    bytes: &[u8],
    rows: usize,
    columns: usize,
    samples: usize,
) -> Result<Decoded, DicomError> {
    // The decoder indexes tables by what it reads; hostile streams must cost only their row.
    catch_unwind(AssertUnwindSafe(|| {
        jpeg_frame(bytes, rows, columns, samples)
    }))
    .unwrap_or(Err(DicomError::Codec {
        what: "JPEG stream",
    }))
}

fn jpeg_frame(
    bytes: &[u8],
    rows: usize,
    columns: usize,
    samples: usize,
) -> Result<Decoded, DicomError> {
    use jpeg_decoder::{ColorTransform, Decoder, Error, PixelFormat};
    let wrong = |error: Error| DicomError::Codec {
        what: match error {
            Error::Unsupported(_) => "this kind of JPEG is not supported",
            _ => "JPEG stream",
        },
    };
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().map_err(wrong)?;
    let info = decoder.info().ok_or(DicomError::Codec {
        what: "JPEG header",
    })?;
    let (found, wide) = match info.pixel_format {
        PixelFormat::L8 => (1, false),
        PixelFormat::L16 => (1, true),
        PixelFormat::RGB24 => (3, false),
        PixelFormat::CMYK32 => (4, false),
    };
    let size = (usize::from(info.height), usize::from(info.width));
    if size != (rows, columns) || found != samples {
        return Err(DicomError::Codec {
            what: "the size of the JPEG frame is not that of the image",
        });
    }
    let width = if wide { 2 } else { 1 };
    // Blocks are padded to multiples of sixteen, and planes are held beside the result.
    decoder.set_max_decoding_buffer_size((rows + 64) * (columns + 64) * samples * width * 2);
    if samples == 3 {
        // "RGB" leaves the components as they are and interleaves them.
        decoder.set_color_transform(ColorTransform::RGB);
    }
    let pixels = decoder.decode().map_err(wrong)?;
    let values: Vec<u16> = if wide {
        let (pairs, _) = pixels.as_chunks::<2>();
        pairs.iter().map(|pair| u16::from_ne_bytes(*pair)).collect()
    } else {
        pixels.iter().map(|byte| u16::from(*byte)).collect()
    };
    if values.len() != rows * columns * samples {
        return Err(DicomError::Codec {
            what: "length of the JPEG frame",
        });
    }
    Ok(Decoded {
        values,
        ycc: declared_ycc(bytes),
    })
}

/// What the application segments of a JPEG stream say: Adobe's transform flag, else JFIF,
/// which is always YCbCr.
fn declared_ycc(bytes: &[u8]) -> Option<bool> {
    let mut at = 2;
    let mut jfif = None;
    loop {
        let marker = bytes.get(at..at + 4)?;
        let (code, length) = match marker {
            [0xFF, 0xFF, ..] => {
                at += 1;
                continue;
            }
            [0xFF, code, high, low] => (*code, usize::from(u16::from_be_bytes([*high, *low]))),
            _ => return jfif,
        };
        let body = bytes.get(at + 4..).unwrap_or(&[]);
        match code {
            0xEE if body.starts_with(b"Adobe") => return body.get(11).map(|flag| *flag == 1),
            0xE0 if body.starts_with(b"JFIF\0") => jfif = Some(true),
            0xDA | 0xD9 => return jfif,
            _ => {}
        }
        at += 2 + length;
    }
}
