//! The display pipeline: modality LUT, window, photometric interpretation, size.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use super::DicomError;
use super::open::Opened;
use super::pixels::{Frame, Layout};
use super::reader::{DataSet, Element, Value};
use super::resize::resized;
use super::value::{first_number, first_string};

/// Rows and columns of a resized image.
pub const RESIZED_SIDE_MAX: i64 = 16_384;

/// What the caller chooses; what is `None` comes from the file.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WindowOptions {
    pub center: Option<f64>,
    pub width: Option<f64>,
    pub rows: Option<i64>,
    pub columns: Option<i64>,
    /// Counted from 0.
    pub frame: Option<i64>,
}

/// An image of 8-bit samples, rows first, samples of a pixel side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub pixels: Vec<u8>,
    pub rows: usize,
    pub columns: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub samples: usize,
    /// Pixels of the frame before it was resized: the unit of work.
    pub decoded_pixels: u64,
}

/// One frame as it would be displayed, 0 to 255.
///
/// Grey images: the modality LUT (rescale slope and intercept, or its sequence), then the
/// VOI transformation of PS3.3 C.11.2.1.2 with the centre and width of the caller, else the
/// first of the file, else the first VOI LUT of the file, else the lowest to the highest
/// value of the frame; `LINEAR`, `LINEAR_EXACT` and `SIGMOID` are honoured, and a width in
/// the file that the standard forbids counts as none. MONOCHROME1 is inverted. Results are
/// rounded to the nearest integer. Colour images pass as 8-bit red, green, blue; YBR_FULL,
/// YBR_FULL_422 and palettes are converted.
///
/// `rows` and `columns` resize by bilinear interpolation between pixel centres at half
/// integers, without anti-aliasing; if only one is given the proportions stay.
///
/// # Errors
/// Anything that is not a readable image, a frame that does not exist, sizes over
/// [`super::FRAME_SAMPLES_MAX`] and arguments that mean nothing (a width below 1, NaN).
pub fn window(content: &[u8], options: &WindowOptions) -> Result<Image, DicomError> {
    check(options)?;
    let opened = Opened::new(content)?;
    let data = opened.data()?;
    let layout = Layout::new(&data)?;
    let wanted = options.frame.unwrap_or(0);
    let index = u32::try_from(wanted)
        .ok()
        .filter(|index| *index < layout.frames);
    let index = index.ok_or(DicomError::Frame {
        frame: wanted,
        frames: layout.frames,
    })?;
    let frame = layout.frame(&opened, &data, index)?;
    let pixels = match layout.photometric.as_str() {
        "PALETTE COLOR" => palette(&data, &frame)?,
        _ if layout.samples == 3 => colours(&layout, &frame),
        "MONOCHROME1" | "MONOCHROME2" => grey(&data, &layout, &frame, index, options)?,
        _ => {
            return Err(DicomError::Invalid {
                what: "photometric interpretation (0028,0004)",
            });
        }
    };
    let image = Image {
        samples: pixels.len() / layout.pixels(),
        pixels,
        rows: layout.rows,
        columns: layout.columns,
        decoded_pixels: layout.pixels() as u64,
    };
    resized(image, options.rows, options.columns)
}

fn check(options: &WindowOptions) -> Result<(), DicomError> {
    let wrong = |what, value: String, hint| Err(DicomError::Argument { what, value, hint });
    if let Some(center) = options.center.filter(|center| !center.is_finite()) {
        return wrong("center", center.to_string(), "give a finite number");
    }
    if let Some(width) = options
        .width
        .filter(|width| !(width.is_finite() && *width >= 1.0))
    {
        return wrong("width", width.to_string(), "give a number of at least 1");
    }
    for (what, side) in [("rows", options.rows), ("columns", options.columns)] {
        if let Some(side) = side.filter(|side| !(1..=RESIZED_SIDE_MAX).contains(side)) {
            return wrong(what, side.to_string(), "give a number from 1 to 16384");
        }
    }
    Ok(())
}

/// VOI LUT Function (0028,1056).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

/// A window of PS3.3 C.11.2.1.2.
#[derive(Clone, Copy, Debug)]
struct Voi {
    center: f64,
    width: f64,
    function: Function,
}

impl Voi {
    /// Maps a value after the modality LUT to 0..=255, not rounded.
    fn apply(&self, x: f64) -> f64 {
        const TOP: f64 = 255.0;
        let (c, w) = (self.center, self.width);
        match self.function {
            Function::Linear => {
                if x <= c - 0.5 - (w - 1.0) / 2.0 {
                    0.0
                } else if x > c - 0.5 + (w - 1.0) / 2.0 {
                    TOP
                } else {
                    ((x - (c - 0.5)) / (w - 1.0) + 0.5) * TOP
                }
            }
            Function::LinearExact => {
                if x <= c - w / 2.0 {
                    0.0
                } else if x > c + w / 2.0 {
                    TOP
                } else {
                    ((x - c) / w + 0.5) * TOP
                }
            }
            Function::Sigmoid => TOP / (1.0 + (-4.0 * (x - c) / w).exp()),
        }
    }
}

/// A lookup table of the modality or VOI (PS3.3 C.11.1.1.1).
struct Table {
    first: i64,
    entries: Vec<f64>,
    bits: u32,
}

impl Table {
    /// From an item with LUT Descriptor and LUT Data.
    fn new(item: &DataSet<'_>, signed: bool) -> Option<Table> {
        let descriptor = item.get(tags::LUT_DESCRIPTOR)?;
        let words = words(descriptor)?;
        let [length, first, bits] = words.get(..3)?.try_into().ok()?;
        let length = if length == 0 {
            65_536
        } else {
            usize::from(length)
        };
        let first = if signed || descriptor.vr == dicom_core::VR::SS {
            i64::from(first.cast_signed())
        } else {
            i64::from(first)
        };
        let data = item.get(tags::LUT_DATA)?;
        let entries = entries(data, length, u32::from(bits))?;
        Some(Table {
            first,
            entries,
            bits: u32::from(bits),
        })
    }

    /// Values outside the table take its first or last entry.
    fn get(&self, x: f64) -> f64 {
        let last = self.entries.len() as i64 - 1;
        let index = (x as i64).saturating_sub(self.first).clamp(0, last);
        self.entries.get(index as usize).copied().unwrap_or(0.0)
    }
}

/// The 16-bit words of an element, whatever its VR.
fn words(element: &Element<'_>) -> Option<Vec<u16>> {
    let (pairs, _) = element.bytes()?.as_chunks::<2>();
    Some(pairs.iter().map(|pair| element.coding.u16(*pair)).collect())
}

/// `length` table entries of 8 or 16 bits; tables of 8 bits are packed in some files.
fn entries(data: &Element<'_>, length: usize, bits: u32) -> Option<Vec<f64>> {
    let bytes = data.bytes()?;
    let entries: Vec<f64> = if bits <= 8 && bytes.len() < length * 2 {
        bytes.iter().take(length).map(|b| f64::from(*b)).collect()
    } else {
        words(data)?
            .into_iter()
            .take(length)
            .map(f64::from)
            .collect()
    };
    (!entries.is_empty() && (1..=16).contains(&bits)).then_some(entries)
}

/// The item that describes this frame: its own functional group, the shared one, or the
/// data set itself.
fn functional<'d, 'a>(data: &'d DataSet<'a>, index: u32, sequence: Tag) -> Option<&'d DataSet<'a>> {
    let items = |data: &'d DataSet<'a>, tag: Tag| match data.get(tag).map(|e| &e.value) {
        Some(Value::Items(items)) => items.as_slice(),
        _ => &[],
    };
    let own = items(data, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE).get(index as usize);
    let shared = items(data, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE).first();
    [own, shared]
        .into_iter()
        .flatten()
        .find_map(|group| items(group, sequence).first())
}

fn first_item<'d, 'a>(data: &'d DataSet<'a>, tag: Tag) -> Option<&'d DataSet<'a>> {
    match &data.get(tag)?.value {
        Value::Items(items) => items.first(),
        _ => None,
    }
}

fn grey(
    data: &DataSet<'_>,
    layout: &Layout,
    frame: &Frame,
    index: u32,
    options: &WindowOptions,
) -> Result<Vec<u8>, DicomError> {
    let modality = first_item(data, tags::MODALITY_LUT_SEQUENCE)
        .and_then(|item| Table::new(item, layout.signed));
    let rescale =
        functional(data, index, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE).unwrap_or(data);
    let slope = first_number(rescale, tags::RESCALE_SLOPE)
        .filter(|slope| *slope != 0.0)
        .unwrap_or(1.0);
    let intercept = first_number(rescale, tags::RESCALE_INTERCEPT).unwrap_or(0.0);
    let value = |stored: i32| {
        let stored = (i64::from(stored) + layout.offset()) as f64;
        match &modality {
            Some(table) => table.get(stored),
            None => stored * slope + intercept,
        }
    };
    let (low, high) = frame
        .values
        .iter()
        .fold((i32::MAX, i32::MIN), |(low, high), v| {
            (low.min(*v), high.max(*v))
        });
    let inverted = layout.photometric == "MONOCHROME1";
    let voi = functional(data, index, tags::FRAME_VOILUT_SEQUENCE).unwrap_or(data);
    let lut = voi_table(voi, options, layout, slope, intercept);
    let window = chosen_window(voi, options, || {
        if modality.is_some() {
            let values = frame.values.iter().map(|v| value(*v));
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
                (l.min(v), h.max(v))
            })
        } else {
            let (a, b) = (value(low), value(high));
            (a.min(b), a.max(b))
        }
    });
    let display = |stored: i32| -> u8 {
        let x = value(stored);
        let y = match &lut {
            Some(table) => table.get(x) * 255.0 / f64::from((1u32 << table.bits) - 1),
            None => window.apply(x),
        };
        let y = y.round().clamp(0.0, 255.0) as u8;
        if inverted { 255 - y } else { y }
    };
    // A table pays off when values repeat, which they do in all but the smallest images.
    let range = i64::from(high) - i64::from(low);
    if range < frame.values.len() as i64 {
        let table: Vec<u8> = (low..=high).map(display).collect();
        let shown = |v: &i32| {
            table
                .get(v.wrapping_sub(low) as usize)
                .copied()
                .unwrap_or(0)
        };
        return Ok(frame.values.iter().map(shown).collect());
    }
    Ok(frame.values.iter().map(|v| display(*v)).collect())
}

/// The first VOI LUT of the file, when neither the caller nor the file has a window.
fn voi_table(
    voi: &DataSet<'_>,
    options: &WindowOptions,
    layout: &Layout,
    slope: f64,
    intercept: f64,
) -> Option<Table> {
    if options.center.is_some() || options.width.is_some() || file_window(voi).is_some() {
        return None;
    }
    let signed = layout.signed || (intercept < 0.0 && slope > 0.0);
    Table::new(first_item(voi, tags::VOILUT_SEQUENCE)?, signed)
}

fn function_of(voi: &DataSet<'_>) -> Function {
    match first_string(voi, tags::VOILUT_FUNCTION).as_deref() {
        Some("LINEAR_EXACT") => Function::LinearExact,
        Some("SIGMOID") => Function::Sigmoid,
        _ => Function::Linear,
    }
}

/// Centre and width of the file, if both are there and the standard allows them.
fn file_window(voi: &DataSet<'_>) -> Option<Voi> {
    let function = function_of(voi);
    let center = first_number(voi, tags::WINDOW_CENTER)?;
    let width = first_number(voi, tags::WINDOW_WIDTH)?;
    let allowed = if function == Function::Linear {
        width >= 1.0
    } else {
        width > 0.0
    };
    allowed.then_some(Voi {
        center,
        width,
        function,
    })
}

/// The window to use; `range` gives the lowest and highest value of the frame.
fn chosen_window(
    voi: &DataSet<'_>,
    options: &WindowOptions,
    range: impl Fn() -> (f64, f64),
) -> Voi {
    let known = file_window(voi);
    let fallback = || {
        let (low, high) = range();
        // With these, LINEAR maps the lowest value to 0 and the highest to 255.
        let (center, width) = ((low + high + 1.0) / 2.0, high - low + 1.0);
        (center, width)
    };
    match (options.center, options.width, known) {
        (None, None, Some(known)) => known,
        (None, None, None) => {
            let (center, width) = fallback();
            Voi {
                center,
                width,
                function: Function::Linear,
            }
        }
        (center, width, known) => {
            let other = || known.map_or_else(fallback, |known| (known.center, known.width));
            Voi {
                center: center.unwrap_or_else(|| other().0),
                width: width.unwrap_or_else(|| other().1),
                function: function_of(voi),
            }
        }
    }
}

/// Three samples as 8-bit red, green, blue.
fn colours(layout: &Layout, frame: &Frame) -> Vec<u8> {
    let shift = layout.stored.saturating_sub(8);
    let eight = |v: &i32| ((i64::from(*v) + layout.offset()) >> shift).clamp(0, 255) as u8;
    if !frame.ycc {
        return frame.values.iter().map(eight).collect();
    }
    let (pixels, _) = frame.values.as_chunks::<3>();
    pixels
        .iter()
        .flat_map(|[y, cb, cr]| rgb(eight(y), eight(cb), eight(cr)))
        .collect()
}

/// YBR_FULL to RGB (PS3.3 C.7.6.3.1.2, ITU-R BT.601 full range).
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (f64::from(y), f64::from(cb) - 128.0, f64::from(cr) - 128.0);
    let eight = |v: f64| v.round().clamp(0.0, 255.0) as u8;
    [
        eight(y + 1.402 * cr),
        eight(y - 0.344_136 * cb - 0.714_136 * cr),
        eight(y + 1.772 * cb),
    ]
}

/// PALETTE COLOR to red, green, blue (PS3.3 C.7.9).
fn palette(data: &DataSet<'_>, frame: &Frame) -> Result<Vec<u8>, DicomError> {
    let missing = DicomError::Missing {
        what: "palette that is supported (0028,1101 and 0028,1201)",
    };
    let mut tables = Vec::with_capacity(3);
    for (descriptor, data_tag) in [
        (
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
        (
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
        (
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
    ] {
        let header = data
            .get(descriptor)
            .and_then(words)
            .ok_or(missing.clone())?;
        let [length, first, bits] = header
            .get(..3)
            .and_then(|h| h.try_into().ok())
            .ok_or(missing.clone())?;
        let length = if length == 0 {
            65_536
        } else {
            usize::from(length)
        };
        let entries = data
            .get(data_tag)
            .and_then(|element| entries(element, length, u32::from(bits)))
            .ok_or(missing.clone())?;
        tables.push(Table {
            first: i64::from(first),
            entries,
            bits: u32::from(bits),
        });
    }
    let eight = |table: &Table, v: i32| {
        let entry = table.get(f64::from(v)) as u32;
        (entry >> table.bits.saturating_sub(8)).min(255) as u8
    };
    Ok(frame
        .values
        .iter()
        .flat_map(|v| tables.iter().map(|table| eight(table, *v)))
        .collect())
}
