//! Pseudonyms: identifiers re-keyed per project, linkage group and domain.
//!
//! An integer identifier is a 64-bit little-endian number followed by 64 zero bits, encrypted
//! as one block of AES-128 (FIPS 197): one-to-one, and a block whose decryption does not end
//! in zeros is recognised as nobody's pseudonym. A text or binary identifier is HMAC-SHA-256
//! (RFC 2104) truncated to 128 bits: not invertible. Both are shown as [`SHOWN_CHARS`]
//! characters of lowercase base32 without padding (RFC 4648). The keys of domains come from that of
//! the scope by HKDF-SHA-256 (RFC 5869). NULL stays NULL.

mod base32;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt};
use aes::{Aes128, Block};
use arrow::array::{
    Array, ArrayRef, AsArray, PrimitiveArray, StringArray, StringViewArray, UInt32Array,
    UInt64Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

pub use base32::SHOWN_CHARS;

/// Bytes of the zero padding that marks a decrypted block as a true pseudonym.
const PADDING_BYTES: usize = 8;
/// Distinct identifiers of one array: their characters must fit 32-bit offsets.
const DISTINCT_MAX: usize = (i32::MAX as usize) / SHOWN_CHARS;

/// The keys of one scope: a project's linkage group.
#[derive(Clone)]
pub struct LinkageKeys {
    secret: Secret,
    project: String,
    linkage_group: String,
}

/// What the keys of a scope follow from.
#[derive(Clone)]
pub struct Secret {
    /// Another for each scope and each generation of it.
    pub pseudonyms: Zeroizing<[u8; 32]>,
    /// One for the whole hub, for ever: noise that changed could be averaged away.
    pub cells: Zeroizing<[u8; 32]>,
}

impl LinkageKeys {
    pub fn new(secret: Secret, project: &str, linkage_group: &str) -> Self {
        Self {
            secret,
            project: project.to_owned(),
            linkage_group: linkage_group.to_owned(),
        }
    }

    /// The project and the linkage group that they are of.
    pub fn scope(&self) -> (&str, &str) {
        (&self.project, &self.linkage_group)
    }

    /// The cipher behind the keys of cells: one for the whole hub, whatever the project, so that
    /// the same persons give the same noise to everyone. No project has an empty name.
    pub fn cells(&self, domain: &str) -> Cipher {
        cipher(&self.secret.cells, ["", "cell keys", domain])
    }

    /// The cipher of one domain of identifiers (`person`, `stay`, …) in this scope.
    /// Equal arguments give equal pseudonyms; any other key gives unrelated ones.
    pub fn cipher(&self, domain: &str) -> Cipher {
        let scope = [self.project.as_str(), &self.linkage_group, domain];
        cipher(&self.secret.pseudonyms, scope)
    }
}

fn cipher(key: &[u8; 32], scope: [&str; 3]) -> Cipher {
    let hkdf = Hkdf::<Sha256>::new(Some(b"hubflight/pseudonym/1"), key);
    let derive = |purpose: &str, key: &mut [u8]| {
        let mut info = Vec::new();
        for part in scope.into_iter().chain([purpose]) {
            // With its length before it, no part can imitate the end of another.
            info.extend_from_slice(&(part.len() as u64).to_be_bytes());
            info.extend_from_slice(part.as_bytes());
        }
        hkdf.expand(&info, key)
            .expect("HKDF gives up to 8160 bytes");
    };
    let mut number_key = Zeroizing::new([0_u8; 16]);
    let mut text_key = Zeroizing::new([0_u8; 64]);
    let mut fingerprint = [0_u8; 16];
    derive("number", number_key.as_mut());
    derive("text", text_key.as_mut());
    derive("fingerprint", &mut fingerprint);
    Cipher {
        keys: Arc::new(Keys {
            number: Aes128::new(&(*number_key).into()),
            text: Hmac::<Sha256>::new(&(*text_key).into()),
            fingerprint,
        }),
    }
}

impl fmt::Debug for LinkageKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (project, linkage_group) = self.scope();
        write!(f, "LinkageKeys({project}, {linkage_group}, redacted)")
    }
}

/// The keyed one-to-one map of one domain. Cheap to clone; prints no secret.
#[derive(Clone)]
pub struct Cipher {
    keys: Arc<Keys>,
}

struct Keys {
    number: Aes128,
    text: Hmac<Sha256>,
    fingerprint: [u8; 16],
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cipher(redacted)")
    }
}

impl PartialEq for Cipher {
    fn eq(&self, other: &Self) -> bool {
        self.keys.fingerprint == other.keys.fingerprint
    }
}

impl Eq for Cipher {}

impl Hash for Cipher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.keys.fingerprint.hash(state);
    }
}

impl Cipher {
    /// Whether identifiers of this type can be shown: integers, text, bytes, and dictionaries
    /// of these.
    pub fn accepts(data_type: &DataType) -> bool {
        match data_type {
            DataType::Dictionary(_, values) => Self::accepts(values),
            other => is_number(other) || is_text(other),
        }
    }

    /// Derived from the key, of no use to find it: tells ciphers apart in digests.
    pub fn fingerprint(&self) -> [u8; 16] {
        self.keys.fingerprint
    }

    /// Pseudonyms of a column of identifiers, as long as the input, NULL where it is NULL.
    ///
    /// # Errors
    /// When [`Cipher::accepts`] does not hold, or above [`DISTINCT_MAX`] distinct runs.
    pub fn encrypt_array(&self, array: &dyn Array) -> Result<StringViewArray, ArrowError> {
        match array.data_type() {
            DataType::Int8 => self.numbers::<Int8Type>(array, |id| i64::from(id) as u64),
            DataType::Int16 => self.numbers::<Int16Type>(array, |id| i64::from(id) as u64),
            DataType::Int32 => self.numbers::<Int32Type>(array, |id| i64::from(id) as u64),
            DataType::Int64 => self.numbers::<Int64Type>(array, |id| id as u64),
            DataType::UInt8 => self.numbers::<UInt8Type>(array, u64::from),
            DataType::UInt16 => self.numbers::<UInt16Type>(array, u64::from),
            DataType::UInt32 => self.numbers::<UInt32Type>(array, u64::from),
            DataType::UInt64 => self.numbers::<UInt64Type>(array, |id| id),
            DataType::Utf8 => self.texts(array.as_string::<i32>().iter().map(bytes)),
            DataType::LargeUtf8 => self.texts(array.as_string::<i64>().iter().map(bytes)),
            DataType::Utf8View => self.texts(array.as_string_view().iter().map(bytes)),
            DataType::Binary => self.texts(array.as_binary::<i32>().iter()),
            DataType::LargeBinary => self.texts(array.as_binary::<i64>().iter()),
            DataType::BinaryView => self.texts(array.as_binary_view().iter()),
            DataType::FixedSizeBinary(_) => self.texts(array.as_fixed_size_binary().iter()),
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                let shown = self.encrypt_array(dictionary.values().as_ref())?;
                Ok(take(&shown, dictionary.keys(), None)?
                    .as_string_view()
                    .clone())
            }
            other => Err(ArrowError::InvalidArgumentError(format!(
                "identifiers of type {other} cannot be re-keyed; store them as integers or text"
            ))),
        }
    }

    /// A secret random number for each identifier of a column, NULL where it is NULL: what the
    /// noise of cells is made of.
    ///
    /// # Errors
    /// As [`Cipher::encrypt_array`].
    pub fn key_array(&self, array: &dyn Array) -> Result<UInt64Array, ArrowError> {
        let shown = self.encrypt_array(array)?;
        let key = |text: &str| {
            let block = base32::decode(text.as_bytes())?;
            Some(u64::from_le_bytes(block.first_chunk().copied()?))
        };
        Ok(shown.iter().map(|text| key(text?)).collect())
    }

    /// The identifier behind a pseudonym of an integer, or None for any other text: wrong
    /// length or alphabet, another key, a pseudonym of text. Identifiers of unsigned 64-bit
    /// columns come back with the same bits.
    pub fn decrypt(&self, shown: &str) -> Option<i64> {
        let mut block = Block::from(base32::decode(shown.as_bytes())?);
        self.keys.number.decrypt_block(&mut block);
        let (id, padding) = block.split_last_chunk::<PADDING_BYTES>()?;
        if *padding != [0; PADDING_BYTES] {
            return None;
        }
        Some(i64::from_le_bytes(id.try_into().ok()?))
    }

    fn numbers<T: ArrowPrimitiveType>(
        &self,
        array: &dyn Array,
        widen: impl Fn(T::Native) -> u64,
    ) -> Result<StringViewArray, ArrowError> {
        let array: &PrimitiveArray<T> = array.as_primitive();
        let mut runs = Runs::with_capacity(array.len());
        let values = array.values();
        match array.nulls().filter(|nulls| nulls.null_count() > 0) {
            None => {
                for value in values {
                    runs.push(widen(*value));
                }
            }
            Some(nulls) => {
                for (value, valid) in values.iter().zip(nulls) {
                    if valid {
                        runs.push(widen(*value));
                    } else {
                        runs.push_null();
                    }
                }
            }
        }
        let mut blocks: Vec<Block> = runs.distinct.iter().map(|id| block_of(*id)).collect();
        self.keys.number.encrypt_blocks(&mut blocks);
        assemble(
            blocks.iter().map(|block| block.0),
            runs.of_row,
            array.nulls(),
        )
    }

    fn texts<'a>(
        &self,
        values: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
    ) -> Result<StringViewArray, ArrowError> {
        let mut runs = Runs::with_capacity(values.len());
        let mut nulls = Vec::with_capacity(values.len());
        for value in values {
            nulls.push(value.is_some());
            match value {
                Some(value) => runs.push(value),
                None => runs.push_null(),
            }
        }
        let codes = runs.distinct.iter().map(|value| {
            let mut mac = self.keys.text.clone();
            mac.update(value);
            let mut code = [0_u8; 16];
            for (to, from) in code.iter_mut().zip(mac.finalize().into_bytes()) {
                *to = from;
            }
            code
        });
        assemble(codes, runs.of_row, Some(&NullBuffer::from(nulls)))
    }
}

/// The distinct values of consecutive rows, and which of them each row holds: claims are
/// sorted or clustered by person, so that most rows repeat the one before.
struct Runs<V> {
    distinct: Vec<V>,
    of_row: Vec<u32>,
}

impl<V: Copy + PartialEq> Runs<V> {
    fn with_capacity(rows: usize) -> Self {
        Self {
            distinct: Vec::with_capacity(rows),
            of_row: Vec::with_capacity(rows),
        }
    }

    fn push(&mut self, value: V) {
        if self.distinct.last() != Some(&value) {
            self.distinct.push(value);
        }
        // Arrays that would overflow here are refused in `assemble` by their number of runs.
        self.of_row.push((self.distinct.len() - 1) as u32);
    }

    fn push_null(&mut self) {
        self.of_row.push(0);
    }
}

/// Writes each code once and lets every row point to its own.
fn assemble(
    codes: impl ExactSizeIterator<Item = [u8; 16]>,
    of_row: Vec<u32>,
    nulls: Option<&NullBuffer>,
) -> Result<StringViewArray, ArrowError> {
    let distinct = codes.len();
    if distinct > DISTINCT_MAX {
        return Err(ArrowError::InvalidArgumentError(format!(
            "a batch of {distinct} identifiers is larger than {DISTINCT_MAX}; read it in parts"
        )));
    }
    if distinct == 0 {
        return Ok(StringViewArray::new_null(of_row.len()));
    }
    let mut characters = vec![0_u8; distinct * SHOWN_CHARS];
    for (to, code) in characters
        .as_chunks_mut::<SHOWN_CHARS>()
        .0
        .iter_mut()
        .zip(codes)
    {
        base32::encode(&code, to);
    }
    let ends = (0..=distinct).map(|run| (run * SHOWN_CHARS) as i32);
    let offsets = OffsetBuffer::new(ScalarBuffer::from_iter(ends));
    let shown = StringArray::try_new(offsets, Buffer::from_vec(characters), None)?;
    let shown = StringViewArray::from(&shown);
    if distinct == of_row.len() {
        return Ok(shown);
    }
    let of_row = UInt32Array::try_new(ScalarBuffer::from(of_row), nulls.cloned())?;
    let rows: ArrayRef = take(&shown, &of_row, None)?;
    Ok(rows.as_string_view().clone())
}

fn block_of(id: u64) -> Block {
    let mut block = [0_u8; 16];
    let (number, _) = block.split_at_mut(16 - PADDING_BYTES);
    number.copy_from_slice(&id.to_le_bytes());
    Block::from(block)
}

fn bytes(text: Option<&str>) -> Option<&[u8]> {
    text.map(str::as_bytes)
}

pub(crate) fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer()
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}
