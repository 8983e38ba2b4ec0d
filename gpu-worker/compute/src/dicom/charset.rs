//! Specific Character Set (0008,0005), with the ISO 2022 escapes of PS3.5 section 6.1.2.5.

use dicom_encoding::text::{SpecificCharacterSet, TextCodec as _};

/// The character sets of one data set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Charset {
    /// The set in force at the beginning of each value.
    first: SpecificCharacterSet,
    /// True when escapes may switch to further sets.
    escapes: bool,
}

/// Escape sequences and the set that each of them calls (PS3.3 C.12.1.1.2, tables C.12-3 and
/// C.12-4). The multi-byte Japanese sets are decoded with their escape, as ISO-2022-JP.
const ESCAPES: &[(&[u8], &str)] = &[
    (b"\x1b(B", "ISO_IR 6"),
    (b"\x1b-A", "ISO_IR 100"),
    (b"\x1b-B", "ISO_IR 101"),
    (b"\x1b-C", "ISO_IR 109"),
    (b"\x1b-D", "ISO_IR 110"),
    (b"\x1b-L", "ISO_IR 144"),
    (b"\x1b-G", "ISO_IR 127"),
    (b"\x1b-F", "ISO_IR 126"),
    (b"\x1b-H", "ISO_IR 138"),
    (b"\x1b-M", "ISO_IR 148"),
    (b"\x1b-T", "ISO_IR 166"),
    (b"\x1b)I", "ISO_IR 13"),
    (b"\x1b(J", "ISO_IR 13"),
    (b"\x1b$B", "ISO 2022 IR 87"),
    (b"\x1b$(D", "ISO 2022 IR 87"),
    (b"\x1b$)C", "ISO 2022 IR 149"),
    (b"\x1b$)A", "ISO 2022 IR 58"),
];

impl Charset {
    /// From the value of Specific Character Set: codes separated by backslashes.
    pub fn new(value: &[u8]) -> Charset {
        let text = String::from_utf8_lossy(value);
        let mut codes = text.split('\\').map(|code| code.trim_matches([' ', '\0']));
        let first = codes.next().unwrap_or("");
        let known = SpecificCharacterSet::from_code(first);
        Charset {
            // Without a code, old devices write Latin-1 or UTF-8; `decode` tells them apart.
            first: known.unwrap_or_default(),
            escapes: codes.next().is_some() || first.starts_with("ISO 2022"),
        }
    }

    /// Decodes a value; bytes that the set does not have become U+FFFD, never an error.
    pub fn decode(&self, bytes: &[u8]) -> String {
        if bytes.is_ascii() && !bytes.contains(&0x1b) {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        if !self.escapes || !bytes.contains(&0x1b) {
            return decode_with(&self.first, bytes);
        }
        let mut out = String::new();
        let mut set = self.first.clone();
        let mut rest = bytes;
        while !rest.is_empty() {
            let escape = ESCAPES.iter().find(|(code, _)| rest.starts_with(code));
            let mut skip = 0;
            if let Some((code, name)) = escape {
                set = SpecificCharacterSet::from_code(name).unwrap_or_default();
                // The ISO-2022-JP decoder needs its escape; the others must not see theirs.
                if !matches!(*name, "ISO 2022 IR 87") {
                    rest = rest.get(code.len()..).unwrap_or(&[]);
                } else {
                    skip = code.len();
                }
            }
            let next = rest
                .iter()
                .skip(skip.max(1))
                .position(|b| *b == 0x1b)
                .map_or(rest.len(), |i| i + skip.max(1));
            let (piece, tail) = rest.split_at(next.min(rest.len()));
            if !matches!(piece, [] | [0x1b]) {
                out.push_str(&decode_with(&set, piece));
            }
            rest = tail;
        }
        out
    }
}

fn decode_with(set: &SpecificCharacterSet, bytes: &[u8]) -> String {
    if *set == SpecificCharacterSet::default() {
        // The default repertoire is ASCII; more than that is what an old device forgot to
        // declare, in practice UTF-8 or Latin-1.
        if let Ok(text) = std::str::from_utf8(bytes) {
            return text.to_string();
        }
        return bytes.iter().map(|b| char::from(*b)).collect();
    }
    set.decode(bytes)
        .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned())
}
