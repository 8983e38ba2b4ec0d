//! DICOM files made with another implementation (dicom-object), values computed by hand.

use dicom_core::smallvec::smallvec;
use dicom_core::value::{DataSetSequence, PixelFragmentSequence};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use hubflight_compute::dicom::{DicomError, WindowOptions, deidentify, json, tag_text, window};

type Object = InMemDicomObject;

pub fn text(tag: Tag, vr: VR, value: &str) -> DataElement<Object> {
    DataElement::new(tag, vr, PrimitiveValue::from(value))
}

fn short(tag: Tag, value: u16) -> DataElement<Object> {
    DataElement::new(tag, VR::US, PrimitiveValue::from(value))
}

/// What a test image is made of.
pub struct Spec {
    pub syntax: &'static str,
    pub rows: u16,
    pub columns: u16,
    pub samples: u16,
    pub allocated: u16,
    pub stored: u16,
    pub signed: bool,
    pub photometric: &'static str,
}

pub const CT: Spec = Spec {
    syntax: uids::EXPLICIT_VR_LITTLE_ENDIAN,
    rows: 2,
    columns: 3,
    samples: 1,
    allocated: 16,
    stored: 16,
    signed: true,
    photometric: "MONOCHROME2",
};

pub fn object(spec: &Spec) -> Object {
    InMemDicomObject::from_element_iter([
        text(tags::SOP_CLASS_UID, VR::UI, uids::CT_IMAGE_STORAGE),
        text(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4.5"),
        text(tags::PATIENT_NAME, VR::PN, "Dupont^Jean"),
        text(tags::PATIENT_ID, VR::LO, "P0001"),
        text(tags::MODALITY, VR::CS, "CT"),
        short(tags::ROWS, spec.rows),
        short(tags::COLUMNS, spec.columns),
        short(tags::SAMPLES_PER_PIXEL, spec.samples),
        short(tags::BITS_ALLOCATED, spec.allocated),
        short(tags::BITS_STORED, spec.stored),
        short(tags::HIGH_BIT, spec.stored - 1),
        short(tags::PIXEL_REPRESENTATION, u16::from(spec.signed)),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, spec.photometric),
    ])
}

pub fn file(object: Object, syntax: &str) -> Vec<u8> {
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    let mut bytes = Vec::new();
    if syntax == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
        return deflated(object);
    }
    object
        .with_meta(meta)
        .unwrap()
        .write_all(&mut bytes)
        .unwrap();
    bytes
}

/// Explicit VR little endian, its data set deflated and its transfer syntax renamed.
fn deflated(object: Object) -> Vec<u8> {
    use std::io::Read as _;
    let plain = file(object, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let length = u32::from_le_bytes(plain[140..144].try_into().unwrap()) as usize;
    let (meta, body) = plain.split_at(144 + length);
    let mut meta = meta.to_vec();
    let at = meta
        .windows(20)
        .position(|w| w == b"1.2.840.10008.1.2.1\0")
        .unwrap();
    meta.splice(at..at + 20, *b"1.2.840.10008.1.2.1.99");
    meta[at - 2] = 22;
    meta[140..144].copy_from_slice(&(length as u32 + 2).to_le_bytes());
    flate2::read::DeflateEncoder::new(body, flate2::Compression::default())
        .read_to_end(&mut meta)
        .unwrap();
    meta
}

fn words(values: &[i16]) -> DataElement<Object> {
    let values: Vec<u16> = values.iter().map(|v| v.cast_unsigned()).collect();
    DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(values.into()))
}

fn bytes(values: &[u8]) -> DataElement<Object> {
    DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::U8(values.into()))
}

fn fragments(parts: Vec<Vec<u8>>) -> DataElement<Object> {
    DataElement::new(
        tags::PIXEL_DATA,
        VR::OB,
        dicom_core::value::Value::PixelSequence(PixelFragmentSequence::new(
            Vec::<u32>::new(),
            parts,
        )),
    )
}

/// A CT slice of six pixels with rescale; extra elements replace those of the same tag.
pub fn ct(values: &[i16], extra: Vec<DataElement<Object>>) -> Vec<u8> {
    let mut object = object(&CT);
    object.put(text(tags::RESCALE_SLOPE, VR::DS, "2"));
    object.put(text(tags::RESCALE_INTERCEPT, VR::DS, "-1000"));
    for element in extra {
        object.put(element);
    }
    object.put(words(values));
    file(object, CT.syntax)
}

fn pixels(file: &[u8], options: WindowOptions) -> Vec<u8> {
    window(file, &options).unwrap().pixels
}

const VALUES: [i16; 6] = [-100, 0, 480, 500, 520, 1000];

#[test]
fn linear_window_by_hand() {
    // After rescale: -1200, -1000, -40, 0, 40, 1000. Centre 40, width 400:
    // lower edge 40 - 0.5 - 199.5 = -160, upper edge 239; in between
    // ((x - 39.5) / 399 + 0.5) * 255: -40 → 76.69, 0 → 102.26, 40 → 127.82.
    let options = WindowOptions {
        center: Some(40.0),
        width: Some(400.0),
        ..Default::default()
    };
    let expected = [0, 0, 77, 102, 128, 255];
    assert_eq!(pixels(&ct(&VALUES, vec![]), options), expected);
    let in_file = vec![
        text(tags::WINDOW_CENTER, VR::DS, "40\\300"),
        text(tags::WINDOW_WIDTH, VR::DS, "400\\1500"),
    ];
    assert_eq!(
        pixels(&ct(&VALUES, in_file), WindowOptions::default()),
        expected
    );
}

#[test]
fn the_edges_of_the_linear_window() {
    // Slope 1, intercept 0, centre 10, width 4: the edges are 8 and 11.
    // x <= 8 → 0; x = 9 → (-0.5/3 + 0.5) * 255 = 85; 10 → 170; x = 11 → 255.
    let extra = vec![
        text(tags::RESCALE_SLOPE, VR::DS, "1"),
        text(tags::RESCALE_INTERCEPT, VR::DS, "0"),
    ];
    let options = WindowOptions {
        center: Some(10.0),
        width: Some(4.0),
        ..Default::default()
    };
    assert_eq!(
        pixels(&ct(&[7, 8, 9, 10, 11, 12], extra.clone()), options),
        [0, 0, 85, 170, 255, 255]
    );
    // Width 1 is a threshold at centre - 0.5.
    let options = WindowOptions {
        width: Some(1.0),
        ..options
    };
    assert_eq!(
        pixels(&ct(&[7, 8, 9, 10, 11, 12], extra), options),
        [0, 0, 0, 255, 255, 255]
    );
}

#[test]
fn other_voi_functions() {
    let with = |function| {
        vec![
            text(tags::RESCALE_SLOPE, VR::DS, "1"),
            text(tags::RESCALE_INTERCEPT, VR::DS, "0"),
            text(tags::WINDOW_CENTER, VR::DS, "10"),
            text(tags::WINDOW_WIDTH, VR::DS, "4"),
            text(tags::VOILUT_FUNCTION, VR::CS, function),
        ]
    };
    let values = [7, 8, 9, 10, 11, 12];
    // Exact: (x - 10) / 4 + 0.5 → 0, 0, 0.25, 0.5, 0.75, 1.
    assert_eq!(
        pixels(&ct(&values, with("LINEAR_EXACT")), WindowOptions::default()),
        [0, 0, 64, 128, 191, 255]
    );
    // Sigmoid: 255 / (1 + exp(-(x - 10))).
    assert_eq!(
        pixels(&ct(&values, with("SIGMOID")), WindowOptions::default()),
        [12, 30, 69, 128, 186, 225]
    );
}

#[test]
fn without_a_window_the_range_is_shown() {
    // -1200 → 0, 1000 → 255, in between (x + 1200) / 2200 * 255.
    assert_eq!(
        pixels(&ct(&VALUES, vec![]), WindowOptions::default()),
        [0, 23, 134, 139, 144, 255]
    );
    assert_eq!(
        pixels(&ct(&[5; 6], vec![]), WindowOptions::default()),
        [0; 6]
    );
}

#[test]
fn monochrome1_is_inverted() {
    let extra = vec![text(
        tags::PHOTOMETRIC_INTERPRETATION,
        VR::CS,
        "MONOCHROME1",
    )];
    assert_eq!(
        pixels(&ct(&VALUES, extra), WindowOptions::default()),
        [255, 232, 121, 116, 111, 0]
    );
}

#[test]
fn bits_stored_below_bits_allocated() {
    // Twelve bits signed: 0xF800 in the file is 0x800, that is -2048; the high nibble is noise.
    let spec = Spec {
        stored: 12,
        rows: 1,
        columns: 2,
        ..CT
    };
    let mut object = object(&spec);
    object.put(words(&[0x7800u16.cast_signed(), 0x57FF]));
    object.put(text(tags::WINDOW_CENTER, VR::DS, "0"));
    object.put(text(tags::WINDOW_WIDTH, VR::DS, "4096"));
    // -2048 is the lower edge; 2047 > -0.5 + 2047.5 - is not, so ((2047.5) / 4095 + .5) = 1.
    assert_eq!(
        pixels(&file(object, spec.syntax), WindowOptions::default()),
        [0, 255]
    );
}

#[test]
fn transfer_syntaxes_agree() {
    let expected = pixels(&ct(&VALUES, vec![]), WindowOptions::default());
    for syntax in [
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        "1.2.840.10008.1.2.2",
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ] {
        let mut object = object(&CT);
        object.put(text(tags::RESCALE_SLOPE, VR::DS, "2"));
        object.put(text(tags::RESCALE_INTERCEPT, VR::DS, "-1000"));
        object.put(words(&VALUES));
        let file = file(object, syntax);
        assert_eq!(
            pixels(&file, WindowOptions::default()),
            expected,
            "{syntax}"
        );
        assert_eq!(
            tag_text(&file, "PatientName"),
            Ok(Some("Dupont^Jean".to_string()))
        );
        assert_eq!(
            tag_text(&file, "TransferSyntaxUID"),
            Ok(Some(syntax.to_string()))
        );
    }
    // A bare data set, without preamble and file meta group.
    let whole = ct(&VALUES, vec![]);
    let length = u32::from_le_bytes(whole[140..144].try_into().unwrap()) as usize;
    assert_eq!(
        pixels(&whole[144 + length..], WindowOptions::default()),
        expected
    );
}

/// PackBits: literal runs of at most 128 bytes, and runs of equal bytes.
fn pack_bits(plane: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < plane.len() {
        let run = plane[at..]
            .iter()
            .take(128)
            .take_while(|b| **b == plane[at])
            .count();
        if run > 1 {
            out.extend([(1 - run as i32) as i8 as u8, plane[at]]);
            at += run;
        } else {
            out.extend([0, plane[at]]);
            at += 1;
        }
    }
    if out.len() % 2 == 1 {
        out.push(0x80);
    }
    out
}

fn rle_fragment(planes: &[Vec<u8>]) -> Vec<u8> {
    let packed: Vec<Vec<u8>> = planes.iter().map(|plane| pack_bits(plane)).collect();
    let mut header = vec![packed.len() as u32];
    let mut offset = 64;
    for plane in &packed {
        header.push(offset);
        offset += plane.len() as u32;
    }
    header.resize(16, 0);
    let mut out: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    out.extend(packed.concat());
    out
}

pub fn rle_file() -> Vec<u8> {
    let mut object = object(&CT);
    object.put(text(tags::RESCALE_SLOPE, VR::DS, "2"));
    object.put(text(tags::RESCALE_INTERCEPT, VR::DS, "-1000"));
    let bytes = VALUES.map(i16::to_be_bytes);
    let planes = [0, 1].map(|i| bytes.iter().map(|b| b[i]).collect::<Vec<u8>>());
    object.put(fragments(vec![rle_fragment(&planes)]));
    file(object, uids::RLE_LOSSLESS)
}

#[test]
fn rle_of_sixteen_bits_and_of_colours() {
    let expected = pixels(&ct(&VALUES, vec![]), WindowOptions::default());
    assert_eq!(pixels(&rle_file(), WindowOptions::default()), expected);

    let spec = Spec {
        rows: 10,
        columns: 20,
        samples: 3,
        allocated: 8,
        stored: 8,
        signed: false,
        photometric: "RGB",
        ..CT
    };
    let planes: Vec<Vec<u8>> = (0..3u8)
        .map(|s| {
            (0..200u8)
                .map(|i| if i < 120 { 7 * s } else { i + s })
                .collect()
        })
        .collect();
    let mut object = object(&spec);
    object.put(fragments(vec![rle_fragment(&planes)]));
    let image = window(&file(object, uids::RLE_LOSSLESS), &WindowOptions::default()).unwrap();
    assert_eq!((image.rows, image.columns, image.samples), (10, 20, 3));
    let expected: Vec<u8> = (0..200)
        .flat_map(|i| planes.iter().map(move |plane| plane[i]))
        .collect();
    assert_eq!(image.pixels, expected);
}

fn gradient(x: usize, y: usize) -> [u8; 3] {
    [(x * 3) as u8, (y * 3) as u8, 200 - (x + y) as u8]
}

pub fn jpeg_file(samples: u16, photometric: &'static str) -> Vec<u8> {
    let (rows, columns) = (48usize, 64usize);
    let spec = Spec {
        rows: rows as u16,
        columns: columns as u16,
        samples,
        allocated: 8,
        stored: 8,
        signed: false,
        photometric,
        syntax: uids::JPEG_BASELINE8_BIT,
    };
    let mut raw = Vec::new();
    for y in 0..rows {
        for x in 0..columns {
            let colour = gradient(x, y);
            raw.extend(&colour[..usize::from(samples)]);
        }
    }
    let mut stream = Vec::new();
    let kind = if samples == 3 {
        jpeg_encoder::ColorType::Rgb
    } else {
        jpeg_encoder::ColorType::Luma
    };
    jpeg_encoder::Encoder::new(&mut stream, 98)
        .encode(&raw, columns as u16, rows as u16, kind)
        .unwrap();
    if stream.len() % 2 == 1 {
        stream.push(0);
    }
    let mut object = object(&spec);
    if samples == 1 {
        object.put(text(tags::WINDOW_CENTER, VR::DS, "128"));
        object.put(text(tags::WINDOW_WIDTH, VR::DS, "256"));
    }
    object.put(fragments(vec![stream]));
    file(object, spec.syntax)
}

#[test]
fn jpeg_baseline_in_grey_and_colour() {
    for (samples, photometric) in [(1, "MONOCHROME2"), (3, "YBR_FULL_422"), (3, "RGB")] {
        let image = window(&jpeg_file(samples, photometric), &WindowOptions::default()).unwrap();
        assert_eq!(
            (image.rows, image.columns, image.samples),
            (48, 64, usize::from(samples))
        );
        for (i, pixel) in image.pixels.chunks(image.samples).enumerate() {
            let truth = gradient(i % 64, i / 64);
            for (got, wanted) in pixel.iter().zip(truth) {
                assert!(
                    got.abs_diff(wanted) <= 8,
                    "{photometric} pixel {i}: {pixel:?} for {truth:?}"
                );
            }
        }
    }
}

/// A lossless JPEG stream (ITU-T T.81 annex H): predictor 1, one Huffman table that gives
/// each of the 17 categories a code of five bits.
fn lossless(values: &[u16], rows: usize, columns: usize, precision: u8) -> Vec<u8> {
    let mut out = vec![0xFF, 0xD8];
    out.extend([0xFF, 0xC3, 0, 11, precision]);
    out.extend((rows as u16).to_be_bytes());
    out.extend((columns as u16).to_be_bytes());
    out.extend([1, 1, 0x11, 0]);
    out.extend([0xFF, 0xC4, 0, 19 + 17, 0]);
    out.extend([0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(0..17u8);
    out.extend([0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 0, 0]);
    let (mut bits, mut count) = (0u64, 0);
    let mut put = |value: u64, length: u32, out: &mut Vec<u8>| {
        bits = bits << length | value & ((1 << length) - 1);
        count += length;
        while count >= 8 {
            let byte = (bits >> (count - 8)) as u8;
            out.push(byte);
            if byte == 0xFF {
                out.push(0);
            }
            count -= 8;
        }
    };
    for (i, value) in values.iter().enumerate() {
        let predicted = match (i / columns, i % columns) {
            (0, 0) => 1u16 << (precision - 1),
            (_, 0) => values[i - columns],
            _ => values[i - 1],
        };
        let difference = i32::from(value.wrapping_sub(predicted).cast_signed());
        let category = 32 - difference.unsigned_abs().leading_zeros();
        put(u64::from(category), 5, &mut out);
        if (1..16).contains(&category) {
            let low = if difference < 0 {
                difference - 1
            } else {
                difference
            };
            put(u64::from(low as u32), category, &mut out);
        }
    }
    put(0x7F, 7, &mut out);
    out.extend([0xFF, 0xD9]);
    if out.len() % 2 == 1 {
        out.push(0);
    }
    out
}

#[test]
fn jpeg_lossless_keeps_each_value() {
    let (rows, columns) = (16usize, 16usize);
    for (precision, signed) in [(12u8, false), (16, true), (8, false)] {
        let top = 1usize << precision;
        let values: Vec<u16> = (0..rows * columns)
            .map(|i| (i * 9973 % top) as u16)
            .collect();
        let spec = Spec {
            rows: 16,
            columns: 16,
            allocated: if precision == 8 { 8 } else { 16 },
            stored: u16::from(precision),
            signed,
            ..CT
        };
        let mut packed = object(&spec);
        packed.put(fragments(vec![lossless(&values, rows, columns, precision)]));
        let mut plain = object(&spec);
        if precision == 8 {
            let values: Vec<u8> = values.iter().map(|v| *v as u8).collect();
            plain.put(bytes(&values));
        } else {
            let values: Vec<i16> = values.iter().map(|v| v.cast_signed()).collect();
            plain.put(words(&values));
        }
        assert_eq!(
            pixels(
                &file(packed, uids::JPEG_LOSSLESS_SV1),
                WindowOptions::default()
            ),
            pixels(
                &file(plain, uids::EXPLICIT_VR_LITTLE_ENDIAN),
                WindowOptions::default()
            ),
            "precision {precision}"
        );
    }
}

#[test]
fn colours_pass() {
    let spec = Spec {
        rows: 1,
        columns: 2,
        samples: 3,
        allocated: 8,
        stored: 8,
        signed: false,
        photometric: "RGB",
        ..CT
    };
    let mut by_pixel = object(&spec);
    by_pixel.put(bytes(&[1, 2, 3, 4, 5, 6]));
    assert_eq!(
        pixels(&file(by_pixel, spec.syntax), WindowOptions::default()),
        [1, 2, 3, 4, 5, 6]
    );
    let mut by_plane = object(&spec);
    by_plane.put(short(tags::PLANAR_CONFIGURATION, 1));
    by_plane.put(bytes(&[1, 4, 2, 5, 3, 6]));
    assert_eq!(
        pixels(&file(by_plane, spec.syntax), WindowOptions::default()),
        [1, 2, 3, 4, 5, 6]
    );
    // YBR_FULL: luminance 100 without colour; Cr 28 above the middle is 1.402 * 28 = 39 of red.
    let mut ybr = object(&Spec {
        photometric: "YBR_FULL",
        ..spec
    });
    ybr.put(bytes(&[100, 128, 128, 100, 128, 156]));
    assert_eq!(
        pixels(&file(ybr, CT.syntax), WindowOptions::default()),
        [100, 100, 100, 139, 80, 100]
    );
}

#[test]
fn palettes_are_applied() {
    let spec = Spec {
        rows: 1,
        columns: 3,
        allocated: 8,
        stored: 8,
        signed: false,
        photometric: "PALETTE COLOR",
        ..CT
    };
    let mut object = object(&spec);
    for (i, (descriptor, data)) in [
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
    ]
    .into_iter()
    .enumerate()
    {
        object.put(DataElement::new(
            descriptor,
            VR::US,
            dicom_value!(U16, [2, 10, 16]),
        ));
        let colour = (i as u16 + 1) << 8;
        object.put(DataElement::new(
            data,
            VR::OW,
            dicom_value!(U16, [colour, colour * 16]),
        ));
    }
    object.put(bytes(&[9, 10, 11]));
    // Below the first entry the first counts; 16-bit entries lose their low byte.
    assert_eq!(
        pixels(&file(object, spec.syntax), WindowOptions::default()),
        [1, 2, 3, 1, 2, 3, 16, 32, 48]
    );
}

#[test]
fn modality_and_voi_tables() {
    let item = |descriptor: [u16; 3], data: Vec<u16>| {
        InMemDicomObject::from_element_iter([
            DataElement::new(
                tags::LUT_DESCRIPTOR,
                VR::US,
                PrimitiveValue::U16(descriptor.as_slice().into()),
            ),
            DataElement::new(tags::LUT_DATA, VR::US, PrimitiveValue::U16(data.into())),
        ])
    };
    let sequence =
        |tag, item: Object| DataElement::new(tag, VR::SQ, DataSetSequence::from(vec![item]));
    let modality = sequence(
        tags::MODALITY_LUT_SEQUENCE,
        item([3, 1, 16], vec![100, 200, 300]),
    );
    // Stored 0, 1, 2, 3, 4, 5 → 100, 100, 200, 300, 300, 300 → range shown.
    assert_eq!(
        pixels(
            &ct(&[0, 1, 2, 3, 4, 5], vec![modality]),
            WindowOptions::default()
        ),
        [0, 0, 128, 255, 255, 255]
    );
    let identity = vec![
        text(tags::RESCALE_SLOPE, VR::DS, "1"),
        text(tags::RESCALE_INTERCEPT, VR::DS, "0"),
        sequence(tags::VOILUT_SEQUENCE, item([4, 1, 8], vec![0, 10, 20, 255])),
    ];
    assert_eq!(
        pixels(
            &ct(&[0, 1, 2, 3, 4, 5], identity.clone()),
            WindowOptions::default()
        ),
        [0, 0, 10, 20, 255, 255]
    );
    // The caller's window comes before the file's table.
    let options = WindowOptions {
        center: Some(3.0),
        width: Some(1.0),
        ..Default::default()
    };
    assert_eq!(
        pixels(&ct(&[0, 1, 2, 3, 4, 5], identity), options),
        [0, 0, 0, 255, 255, 255]
    );
}

#[test]
fn frames_are_chosen_and_checked() {
    let spec = Spec {
        rows: 1,
        columns: 2,
        allocated: 8,
        stored: 8,
        signed: false,
        ..CT
    };
    let mut object = object(&spec);
    object.put(text(tags::NUMBER_OF_FRAMES, VR::IS, "3"));
    object.put(text(tags::WINDOW_CENTER, VR::DS, "128"));
    object.put(text(tags::WINDOW_WIDTH, VR::DS, "256"));
    object.put(bytes(&[1, 2, 3, 4, 5, 6]));
    let file = file(object, spec.syntax);
    for (frame, expected) in [(0, [1, 2]), (1, [3, 4]), (2, [5, 6])] {
        assert_eq!(
            pixels(
                &file,
                WindowOptions {
                    frame: Some(frame),
                    ..Default::default()
                }
            ),
            expected
        );
    }
    for frame in [-1, 3, i64::MAX, i64::MIN] {
        let error = window(
            &file,
            &WindowOptions {
                frame: Some(frame),
                ..Default::default()
            },
        );
        assert_eq!(error, Err(DicomError::Frame { frame, frames: 3 }));
    }
}

#[test]
fn frames_of_several_fragments() {
    let (rows, columns) = (16usize, 16usize);
    let streams: Vec<Vec<u8>> = (1..=3u16)
        .map(|f| lossless(&vec![f; rows * columns], rows, columns, 8))
        .collect();
    let spec = Spec {
        rows: 16,
        columns: 16,
        allocated: 8,
        stored: 8,
        signed: false,
        ..CT
    };
    let mut object = object(&spec);
    object.put(text(tags::NUMBER_OF_FRAMES, VR::IS, "3"));
    object.put(text(tags::WINDOW_CENTER, VR::DS, "128"));
    object.put(text(tags::WINDOW_WIDTH, VR::DS, "256"));
    // The second frame is cut into two fragments.
    let cut = (streams[1].len() / 4) * 2;
    let parts = vec![
        streams[0].clone(),
        streams[1][..cut].to_vec(),
        streams[1][cut..].to_vec(),
        streams[2].clone(),
    ];
    object.put(fragments(parts));
    let file = file(object, uids::JPEG_LOSSLESS_SV1);
    for frame in 0..3 {
        let options = WindowOptions {
            frame: Some(frame),
            ..Default::default()
        };
        assert_eq!(pixels(&file, options), vec![frame as u8 + 1; 256]);
    }
}

#[test]
fn resizing() {
    let spec = Spec {
        rows: 2,
        columns: 2,
        allocated: 8,
        stored: 8,
        signed: false,
        ..CT
    };
    let mut object = object(&spec);
    object.put(text(tags::WINDOW_CENTER, VR::DS, "128"));
    object.put(text(tags::WINDOW_WIDTH, VR::DS, "256"));
    object.put(bytes(&[0, 100, 200, 40]));
    let file = file(object, spec.syntax);
    // Half-pixel centres: the places are -0.25 → 0, 0.25, 0.75, 1.25 → 1.
    let options = WindowOptions {
        rows: Some(4),
        columns: Some(4),
        ..Default::default()
    };
    let expected = [
        0, 25, 75, 100, //
        50, 59, 76, 85, //
        150, 126, 79, 55, //
        200, 160, 80, 40,
    ];
    let image = window(&file, &options).unwrap();
    assert_eq!((image.rows, image.columns, image.decoded_pixels), (4, 4, 4));
    assert_eq!(image.pixels, expected);
    // One side: the proportions stay. 2×3 pixels to 6 columns is 4 rows.
    let image = window(
        &ct(&VALUES, vec![]),
        &WindowOptions {
            columns: Some(6),
            ..Default::default()
        },
    )
    .unwrap();
    assert_eq!((image.rows, image.columns), (4, 6));
    let image = window(
        &ct(&VALUES, vec![]),
        &WindowOptions {
            rows: Some(1),
            ..Default::default()
        },
    )
    .unwrap();
    assert_eq!((image.rows, image.columns), (1, 2));
}

#[test]
fn arguments_that_mean_nothing() {
    let file = ct(&VALUES, vec![]);
    for options in [
        WindowOptions {
            center: Some(f64::NAN),
            ..Default::default()
        },
        WindowOptions {
            width: Some(f64::NAN),
            ..Default::default()
        },
        WindowOptions {
            width: Some(0.5),
            ..Default::default()
        },
        WindowOptions {
            width: Some(-3.0),
            ..Default::default()
        },
        WindowOptions {
            width: Some(f64::INFINITY),
            ..Default::default()
        },
        WindowOptions {
            rows: Some(0),
            ..Default::default()
        },
        WindowOptions {
            columns: Some(-5),
            ..Default::default()
        },
        WindowOptions {
            rows: Some(i64::MAX),
            ..Default::default()
        },
    ] {
        assert!(
            matches!(window(&file, &options), Err(DicomError::Argument { .. })),
            "{options:?}"
        );
    }
    // 16384 × 16384 is too much although each side is allowed.
    let options = WindowOptions {
        rows: Some(16_384),
        columns: Some(16_384),
        ..Default::default()
    };
    assert!(matches!(
        window(&file, &options),
        Err(DicomError::TooLarge { .. })
    ));
}

#[test]
fn one_value_as_text() {
    let extra = vec![
        text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL"),
        text(tags::WINDOW_CENTER, VR::DS, "40\\ 300 "),
        DataElement::new(
            tags::PIXEL_ASPECT_RATIO,
            VR::IS,
            PrimitiveValue::from("1\\2"),
        ),
        DataElement::new(Tag(0x0018, 0x9087), VR::FD, PrimitiveValue::from(1000.5f64)),
        DataElement::new(
            tags::FRAME_INCREMENT_POINTER,
            VR::AT,
            PrimitiveValue::Tags(smallvec![Tag(0x0018, 0x1063)]),
        ),
        DataElement::new(
            tags::SMALLEST_IMAGE_PIXEL_VALUE,
            VR::SS,
            PrimitiveValue::from(-7i16),
        ),
        text(Tag(0x0009, 0x0010), VR::LO, "ACME"),
        DataElement::new(tags::STUDY_DESCRIPTION, VR::LO, PrimitiveValue::Empty),
    ];
    let file = ct(&VALUES, extra);
    for (tag, expected) in [
        ("PatientName", "Dupont^Jean"),
        ("(0010,0010)", "Dupont^Jean"),
        ("00100010", "Dupont^Jean"),
        ("0010,0010", "Dupont^Jean"),
        (" PatientID ", "P0001"),
        ("ImageType", "ORIGINAL\\PRIMARY\\AXIAL"),
        ("WindowCenter", "40\\300"),
        ("Rows", "2"),
        ("DiffusionBValue", "1000.5"),
        ("FrameIncrementPointer", "(0018,1063)"),
        ("SmallestImagePixelValue", "-7"),
        ("00090010", "ACME"),
        ("StudyDescription", ""),
        ("TransferSyntaxUID", uids::EXPLICIT_VR_LITTLE_ENDIAN),
        ("(0002,0002)", uids::CT_IMAGE_STORAGE),
        ("(7fe0,0010)", "12 bytes"),
    ] {
        assert_eq!(
            tag_text(&file, tag),
            Ok(Some(expected.to_string())),
            "{tag}"
        );
    }
    assert_eq!(tag_text(&file, "AccessionNumber"), Ok(None));
    assert_eq!(tag_text(&file, "00111111"), Ok(None));
    for tag in [
        "PatientNom",
        "",
        "(0010;0010)",
        "0010001",
        "001000100",
        "0010,00100",
        "é",
    ] {
        assert!(
            matches!(tag_text(&file, tag), Err(DicomError::UnknownTag { .. })),
            "{tag}"
        );
    }
}

#[test]
fn character_sets() {
    let with = |charset: &str, name: &[u8]| {
        let mut object = object(&CT);
        object.put(text(tags::SPECIFIC_CHARACTER_SET, VR::CS, charset));
        object.put(words(&VALUES));
        let file = file(object, CT.syntax);
        // The bytes of the name, put in by hand: eleven of them.
        let at = file.windows(11).position(|w| w == b"Dupont^Jean").unwrap();
        let mut file = file;
        let padded: Vec<u8> = name
            .iter()
            .copied()
            .chain(std::iter::repeat(b' '))
            .take(12)
            .collect();
        file.splice(at..at + 12, padded);
        file
    };
    let name = |file: &[u8]| tag_text(file, "PatientName").unwrap().unwrap();
    assert_eq!(
        name(&with("ISO_IR 100", b"Lef\xE8vre^Zo\xE9")),
        "Lefèvre^Zoé"
    );
    assert_eq!(name(&with("ISO_IR 192", "Zoé^Lœ".as_bytes())), "Zoé^Lœ");
    assert_eq!(name(&with("ISO_IR 144", b"\xBB\xEE\xDA^\xB8")), "Люк^И");
    // Two sets with escapes: Latin-1 after ASCII.
    assert_eq!(
        name(&with("ISO 2022 IR 6\\ISO 2022 IR 100", b"A\x1b-A\xE9\xE8")),
        "Aéè"
    );
    assert_eq!(
        name(&with("\\ISO 2022 IR 87", b"A=\x1b$B;3ED\x1b(B")),
        "A=山田"
    );
    // Undeclared bytes are shown as what old devices write.
    assert_eq!(name(&with("", b"Ren\xE9")), "René");
}

#[test]
fn json_model() {
    let nested = InMemDicomObject::from_element_iter([
        text(tags::CODE_VALUE, VR::SH, "113100"),
        text(tags::CODE_MEANING, VR::LO, "é"),
    ]);
    let extra = vec![
        text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
        text(tags::WINDOW_CENTER, VR::DS, "40\\300.5"),
        text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\\\AXIAL"),
        text(tags::INSTANCE_NUMBER, VR::IS, "7"),
        DataElement::new(
            tags::PROCEDURE_CODE_SEQUENCE,
            VR::SQ,
            DataSetSequence::from(vec![nested]),
        ),
        DataElement::new(tags::STUDY_DESCRIPTION, VR::LO, PrimitiveValue::Empty),
        DataElement::new(
            Tag(0x0009, 0x1001),
            VR::OB,
            PrimitiveValue::U8(smallvec![1, 2]),
        ),
    ];
    let got: serde_json::Value = serde_json::from_str(&json(&ct(&VALUES, extra)).unwrap()).unwrap();
    let expected = serde_json::json!({
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080008": {"vr": "CS", "Value": ["ORIGINAL", null, "AXIAL"]},
        "00080016": {"vr": "UI", "Value": [uids::CT_IMAGE_STORAGE]},
        "00080018": {"vr": "UI", "Value": ["1.2.3.4.5"]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00081030": {"vr": "LO"},
        "00081032": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["113100"]}, "00080104": {"vr": "LO", "Value": ["é"]}}]},
        "00091001": {"vr": "OB", "InlineBinary": "AQI="},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Dupont^Jean"}]},
        "00100020": {"vr": "LO", "Value": ["P0001"]},
        "00200013": {"vr": "IS", "Value": [7]},
        "00280002": {"vr": "US", "Value": [1]},
        "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]},
        "00280010": {"vr": "US", "Value": [2]},
        "00280011": {"vr": "US", "Value": [3]},
        "00280100": {"vr": "US", "Value": [16]},
        "00280101": {"vr": "US", "Value": [16]},
        "00280102": {"vr": "US", "Value": [15]},
        "00280103": {"vr": "US", "Value": [1]},
        "00281050": {"vr": "DS", "Value": [40.0, 300.5]},
        "00281052": {"vr": "DS", "Value": [-1000.0]},
        "00281053": {"vr": "DS", "Value": [2.0]},
    });
    assert_eq!(got, expected);
}

const KEY: [u8; 32] = [7; 32];

fn identified(instance: &str) -> Vec<u8> {
    let reference = InMemDicomObject::from_element_iter([
        text(
            tags::REFERENCED_SOP_CLASS_UID,
            VR::UI,
            uids::CT_IMAGE_STORAGE,
        ),
        text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, "1.2.3.4.5"),
        text(tags::OPERATORS_NAME, VR::PN, "Martin^Luc"),
    ]);
    ct(
        &VALUES,
        vec![
            text(tags::SOP_INSTANCE_UID, VR::UI, instance),
            text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3.4"),
            text(tags::PATIENT_BIRTH_DATE, VR::DA, "19540312"),
            text(tags::PATIENT_SEX, VR::CS, "F"),
            text(tags::STUDY_DATE, VR::DA, "20210312"),
            text(tags::ACQUISITION_DATE_TIME, VR::DT, "20210312101112"),
            text(tags::INSTITUTION_NAME, VR::LO, "CHU de Rennes"),
            text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Durand^Zoe"),
            text(tags::PATIENT_COMMENTS, VR::LT, "habite Lyon"),
            text(tags::STUDY_DESCRIPTION, VR::LO, "TDM de Mme Dupont"),
            text(tags::STATION_NAME, VR::SH, "SCAN1"),
            text(Tag(0x0009, 0x0010), VR::LO, "ACME"),
            text(Tag(0x0009, 0x1001), VR::LO, "Dupont"),
            text(Tag(0x0011, 0x1001), VR::UN, "Dupont"),
            // A name hidden behind a harmless VR.
            text(tags::PHYSICIANS_OF_RECORD, VR::LO, "Durand"),
            text(tags::BODY_PART_EXAMINED, VR::CS, "CHEST"),
            text(tags::KVP, VR::DS, "120"),
            DataElement::new(
                tags::REFERENCED_IMAGE_SEQUENCE,
                VR::SQ,
                DataSetSequence::from(vec![reference]),
            ),
            text(Tag(0x6000, 0x4000), VR::LT, "Dupont"),
        ],
    )
}

#[test]
fn deidentified_files_hold_no_identity() {
    let original = identified("1.2.3.4.5");
    let clean = deidentify(&original, &KEY).unwrap();
    for secret in [
        "Dupont", "P0001", "Durand", "Martin", "Rennes", "Lyon", "SCAN1", "ACME", "1954", "2021",
        "1.2.3.4",
    ] {
        let found = clean.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "`{secret}` is still there");
    }
    // Read by the other implementation.
    let object = dicom_object::from_reader(clean.as_slice()).unwrap();
    let value = |tag| {
        object
            .element(tag)
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(['\0', ' '])
            .to_string()
    };
    assert_eq!(value(tags::PATIENT_IDENTITY_REMOVED), "YES");
    assert_eq!(value(tags::BODY_PART_EXAMINED), "CHEST");
    assert_eq!(value(tags::KVP), "120");
    for emptied in [
        tags::PATIENT_NAME,
        tags::PATIENT_ID,
        tags::PATIENT_BIRTH_DATE,
        tags::PATIENT_SEX,
        tags::STUDY_DATE,
    ] {
        assert_eq!(value(emptied), "");
    }
    for removed in [
        tags::INSTITUTION_NAME,
        tags::PATIENT_COMMENTS,
        tags::ACQUISITION_DATE_TIME,
        tags::STUDY_DESCRIPTION,
    ] {
        assert!(object.element_opt(removed).unwrap().is_none());
    }
    assert!(
        object
            .element(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE)
            .unwrap()
            .items()
            .is_some()
    );
    assert_eq!(
        object.meta().transfer_syntax(),
        uids::EXPLICIT_VR_LITTLE_ENDIAN
    );
    assert_eq!(
        object.meta().media_storage_sop_class_uid(),
        uids::CT_IMAGE_STORAGE
    );
    let instance = value(tags::SOP_INSTANCE_UID);
    assert_eq!(
        object
            .meta()
            .media_storage_sop_instance_uid()
            .trim_end_matches('\0'),
        instance
    );
    assert!(instance.starts_with("2.25.") && instance.len() <= 64);
    let reference = &object
        .element(tags::REFERENCED_IMAGE_SEQUENCE)
        .unwrap()
        .items()
        .unwrap()[0];
    assert_eq!(
        reference
            .element(tags::REFERENCED_SOP_INSTANCE_UID)
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches('\0'),
        instance
    );
    assert_eq!(
        reference
            .element(tags::REFERENCED_SOP_CLASS_UID)
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches('\0'),
        uids::CT_IMAGE_STORAGE
    );
    assert_eq!(
        pixels(&clean, WindowOptions::default()),
        pixels(&original, WindowOptions::default())
    );
}

#[test]
fn uids_are_replaced_consistently_and_by_key() {
    let uid = |file: &[u8], tag: &str| tag_text(file, tag).unwrap().unwrap();
    let first = deidentify(&identified("1.2.3.4.5"), &KEY).unwrap();
    let second = deidentify(&identified("1.2.3.4.6"), &KEY).unwrap();
    assert_eq!(
        uid(&first, "StudyInstanceUID"),
        uid(&second, "StudyInstanceUID")
    );
    assert_ne!(
        uid(&first, "SOPInstanceUID"),
        uid(&second, "SOPInstanceUID")
    );
    let other_key = deidentify(&identified("1.2.3.4.5"), &[8; 32]).unwrap();
    assert_ne!(
        uid(&first, "StudyInstanceUID"),
        uid(&other_key, "StudyInstanceUID")
    );
    assert_eq!(first, deidentify(&identified("1.2.3.4.5"), &KEY).unwrap());
}

#[test]
fn deidentified_pixels_are_the_same_bytes() {
    for (original, head) in [
        (rle_file(), &[0xE0, 0x7F, 0x10, 0x00][..]),
        (jpeg_file(3, "YBR_FULL_422"), &[0xE0, 0x7F, 0x10, 0x00]),
        (identified("1.2.3.4.5"), &[0xE0, 0x7F, 0x10, 0x00]),
    ] {
        let clean = deidentify(&original, &KEY).unwrap();
        let tail = |file: &[u8]| {
            let at = file.windows(4).rposition(|w| w == head).unwrap();
            file[at..].to_vec()
        };
        assert_eq!(tail(&clean), tail(&original));
        assert_eq!(
            tag_text(&clean, "TransferSyntaxUID"),
            tag_text(&original, "TransferSyntaxUID")
        );
        assert!(dicom_object::from_reader(clean.as_slice()).is_ok());
    }
    // Other encodings of the data set survive too.
    for syntax in [uids::IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.2"] {
        let mut object = object(&CT);
        object.put(words(&VALUES));
        let original = file(object, syntax);
        let clean = deidentify(&original, &KEY).unwrap();
        assert_eq!(
            pixels(&clean, WindowOptions::default()),
            pixels(&original, WindowOptions::default())
        );
        assert_eq!(tag_text(&clean, "PatientName"), Ok(Some(String::new())));
        assert!(
            dicom_object::from_reader(clean.as_slice()).is_ok(),
            "{syntax}"
        );
    }
}

#[test]
fn burned_in_text_is_refused() {
    let file = ct(
        &VALUES,
        vec![text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES")],
    );
    assert_eq!(deidentify(&file, &KEY), Err(DicomError::BurnedIn));
}
