//! Files that are cut, altered or made to harm: an error for each, never a panic, and no
//! memory from a length that the file only claims.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};
use hubflight_compute::dicom::{DicomError, WindowOptions, deidentify, json, tag_text, window};

use crate::dicom::{CT, ct, file, jpeg_file, object, rle_file, text};
use crate::random::Random;

fn all(bytes: &[u8]) {
    // Results may be values or errors; reaching the end is the test.
    let _ = json(bytes);
    let _ = tag_text(bytes, "PatientName");
    let _ = window(bytes, &WindowOptions::default());
    let _ = deidentify(bytes, &[0; 32]);
}

fn samples() -> Vec<Vec<u8>> {
    let values = [1, 2, 3, 4, 5, 6];
    let mut deflated = object(&CT);
    deflated.put(text(tags::WINDOW_CENTER, VR::DS, "1"));
    vec![
        ct(&values, vec![]),
        rle_file(),
        jpeg_file(1, "MONOCHROME2"),
        jpeg_file(3, "YBR_FULL_422"),
        file(deflated, uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN),
    ]
}

#[test]
fn files_cut_at_each_byte() {
    for sample in samples() {
        for end in 0..sample.len().min(3000) {
            all(&sample[..end]);
        }
    }
}

#[test]
fn altered_bytes() {
    let mut random = Random(99);
    for sample in samples() {
        for _ in 0..1500 {
            let mut bytes = sample.clone();
            for _ in 0..=random.below(4) {
                let at = 128 + random.below(bytes.len() - 128);
                bytes[at] = match random.below(3) {
                    0 => bytes[at] ^ 1 << random.below(8),
                    1 => 0xFF,
                    _ => random.next() as u8,
                };
            }
            all(&bytes);
        }
    }
}

#[test]
fn no_files_at_all() {
    let mut random = Random(5);
    for length in [0, 1, 3, 4, 7, 8, 100, 131, 132, 133, 140, 1000] {
        let noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        all(&noise);
        let mut prefixed = vec![0; 128];
        prefixed.extend(b"DICM");
        prefixed.extend(&noise);
        all(&prefixed);
    }
    assert_eq!(json(b""), Err(DicomError::NotDicom));
    assert_eq!(
        json(b"hello, this is no DICOM file at all"),
        Err(DicomError::NotDicom)
    );
}

fn explicit(body: &[u8]) -> Vec<u8> {
    let mut bytes = file(object(&CT), CT.syntax);
    bytes.extend(body);
    bytes
}

#[test]
fn nesting_is_bounded() {
    // A sequence in a sequence, a hundred thousand deep: sixteen bytes each.
    let mut body = Vec::new();
    for _ in 0..100_000 {
        body.extend([
            0x40, 0x00, 0x75, 0x02, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF,
        ]);
        body.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }
    assert!(matches!(
        json(&explicit(&body)),
        Err(DicomError::TooLarge { .. })
    ));
}

#[test]
fn claimed_lengths_cost_nothing() {
    // Four gigabytes of pixels, of text, of a fragment, of a sequence.
    for element in [
        &[
            0xE0, 0x7F, 0x10, 0x00, b'O', b'W', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF,
        ][..],
        &[
            0x40, 0x00, 0x60, 0xA1, b'U', b'T', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF,
        ],
        &[
            0x40, 0x00, 0x75, 0x02, b'S', b'Q', 0, 0, 0xF0, 0xFF, 0xFF, 0xFF,
        ],
        &[
            0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0x00,
            0xE0, 0xF0, 0xFF, 0xFF, 0xFF,
        ],
    ] {
        assert!(matches!(
            json(&explicit(element)),
            Err(DicomError::Truncated { .. })
        ));
    }
}

#[test]
fn huge_images_are_refused_before_memory() {
    let mut big = object(&CT);
    for tag in [tags::ROWS, tags::COLUMNS] {
        big.put(dicom_core::DataElement::new(
            tag,
            VR::US,
            dicom_core::PrimitiveValue::from(65_535u16),
        ));
    }
    big.put(dicom_core::DataElement::new(
        tags::PIXEL_DATA,
        VR::OW,
        dicom_core::PrimitiveValue::U16(vec![0; 8].into()),
    ));
    let bytes = file(big, CT.syntax);
    assert!(matches!(
        window(&bytes, &WindowOptions::default()),
        Err(DicomError::TooLarge { .. })
    ));
    // An image of the allowed size that is not there.
    let mut short = object(&CT);
    for tag in [tags::ROWS, tags::COLUMNS] {
        short.put(dicom_core::DataElement::new(
            tag,
            VR::US,
            dicom_core::PrimitiveValue::from(8_000u16),
        ));
    }
    short.put(dicom_core::DataElement::new(
        tags::PIXEL_DATA,
        VR::OW,
        dicom_core::PrimitiveValue::U16(vec![0; 8].into()),
    ));
    let bytes = file(short, CT.syntax);
    assert!(matches!(
        window(&bytes, &WindowOptions::default()),
        Err(DicomError::Invalid { .. })
    ));
}

#[test]
fn images_without_pixels_or_with_an_unknown_syntax() {
    let bytes = file(object(&CT), CT.syntax);
    assert!(matches!(
        window(&bytes, &WindowOptions::default()),
        Err(DicomError::Missing { .. })
    ));
    let jpeg2000 = {
        let bytes = rle_file();
        // 1.2.840.10008.1.2.5 becomes …1.2.9, which no edition of the standard has.
        let at = bytes
            .windows(19)
            .position(|w| w == b"1.2.840.10008.1.2.5")
            .unwrap();
        let mut bytes = bytes;
        bytes[at + 18] = b'9';
        bytes
    };
    let error = window(&jpeg2000, &WindowOptions::default()).unwrap_err();
    assert_eq!(
        error,
        DicomError::TransferSyntax {
            uid: "1.2.840.10008.1.2.9".to_string()
        }
    );
    // Its attributes can be read all the same.
    assert_eq!(
        tag_text(&jpeg2000, "PatientID"),
        Ok(Some("P0001".to_string()))
    );
}

#[test]
fn messages_are_for_users() {
    let bytes = ct(&[1, 2, 3, 4, 5, 6], vec![]);
    let errors = [
        json(b"").unwrap_err(),
        json(&bytes[..bytes.len() - 3]).unwrap_err(),
        tag_text(&bytes, "Nonsense").unwrap_err(),
        window(
            &bytes,
            &WindowOptions {
                frame: Some(9),
                ..Default::default()
            },
        )
        .unwrap_err(),
        window(
            &bytes,
            &WindowOptions {
                width: Some(0.0),
                ..Default::default()
            },
        )
        .unwrap_err(),
    ];
    for error in errors {
        let message = error.to_string();
        assert!(
            !message.ends_with('.') && !message.contains("::"),
            "{message}"
        );
        assert!(
            !message.contains("Dupont") && !message.contains("P0001"),
            "{message}"
        );
    }
}
