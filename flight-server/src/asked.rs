//! What was asked, as the audit keeps it: the text of a statement with the parameters that were
//! bound to it, so that it proves which person a prepared statement was run for.
//!
//! A statement without parameters is its SQL, as it was sent. One with parameters is
//!
//! ```text
//! NUL "asked 1 " <bytes of the SQL> " " <bytes of the parameters> LF <SQL> LF <parameters>
//! ```
//!
//! with both lengths as decimal numbers, and the parameters as the Arrow IPC stream that was run
//! ([`parameters::encode`]), in base64 (RFC 4648, padded). Parameters of more than a mebibyte are
//! kept as `"sha256:"` and the digest of that stream in hexadecimal. A text that begins with NUL
//! is written in this form even without parameters, so that every record reads in one way only.
//! The statement's `sql_sha256` is over this text, and this text is sealed.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use datafusion::common::ScalarValue;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::plan::parameters;

const MARK: &str = "\0asked 1 ";
const DIGEST_MARK: &str = "sha256:";
/// Longer parameters, which are data to be written rather than a question, are kept as their
/// digest.
const PARAMETERS_KEPT_BYTES_MAX: usize = 1 << 20;

/// A statement as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub sql: String,
    /// A line for each row of parameters, its values in the order of the placeholders; empty
    /// where none were bound.
    pub parameters: String,
}

/// The text that is hashed and sealed.
pub fn encode<'a>(sql: &'a str, parameters: &[u8]) -> Cow<'a, str> {
    if parameters.is_empty() && !sql.starts_with('\0') {
        return Cow::Borrowed(sql);
    }
    let kept = match parameters.len() <= PARAMETERS_KEPT_BYTES_MAX {
        true => STANDARD.encode(parameters),
        false => format!(
            "{DIGEST_MARK}{}",
            HEXLOWER.encode(&Sha256::digest(parameters))
        ),
    };
    let (text, bound) = (sql.len(), parameters.len());
    Cow::Owned(format!("{MARK}{text} {bound}\n{sql}\n{kept}"))
}

/// What [`encode`] wrote, readable.
///
/// # Errors
/// `InvalidArgument` where it is not of that form.
pub fn decode(text: &str) -> Result<Asked> {
    let Some(marked) = text.strip_prefix(MARK) else {
        return Ok(Asked {
            sql: text.to_owned(),
            parameters: String::new(),
        });
    };
    let (sql, bytes, kept) = parts(marked).ok_or_else(unreadable)?;
    let parameters = match kept.strip_prefix(DIGEST_MARK) {
        Some(digest) => format!("{bytes} bytes of parameters with the SHA-256 {digest}"),
        None => {
            let stream = STANDARD.decode(kept).map_err(|_| unreadable())?;
            if stream.len() != bytes {
                return Err(unreadable());
            }
            lines(&stream)?
        }
    };
    Ok(Asked {
        sql: sql.to_owned(),
        parameters,
    })
}

/// SQL, bytes of the parameters, and what is kept of them.
fn parts(marked: &str) -> Option<(&str, usize, &str)> {
    let (lengths, rest) = marked.split_once('\n')?;
    let (text, bound) = lengths.split_once(' ')?;
    let (sql, kept) = rest.split_at_checked(text.parse().ok()?)?;
    Some((sql, bound.parse().ok()?, kept.strip_prefix('\n')?))
}

fn lines(stream: &[u8]) -> Result<String> {
    let rows = parameters::decode(stream)?;
    let lines = rows.iter().map(|row| {
        let values = row.iter().enumerate();
        let values = values.map(|(index, value)| format!("${} = {}", index + 1, readable(value)));
        values.collect::<Vec<_>>().join(", ")
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// A value on one line, text in quotes.
fn readable(value: &ScalarValue) -> String {
    match value.try_as_str() {
        Some(Some(text)) => format!("{text:?}"),
        Some(None) => "NULL".to_owned(),
        None => format!("{value:?}").replace(['\n', '\r'], " "),
    }
}

fn unreadable() -> Error {
    Error::invalid("the text of the statement is not as this version writes it")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn bound(names: &[&str]) -> Vec<u8> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("", DataType::Utf8, true),
            Field::new("", DataType::Int64, true),
        ]));
        let numbers = Int64Array::from(vec![None; names.len()]);
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(StringArray::from(names.to_vec())),
            Arc::new(numbers),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("valid");
        parameters::encode(&schema, &[batch]).expect("encodes")
    }

    #[test]
    fn sql_alone_is_kept_as_it_is() {
        for sql in ["SELECT 1", "", "SELECT 'é\n0 0\n'"] {
            assert_eq!(encode(sql, &[]), sql);
            let asked = decode(sql).expect("reads");
            assert_eq!((asked.sql.as_str(), asked.parameters.as_str()), (sql, ""));
        }
    }

    #[test]
    fn each_person_who_is_asked_for_makes_another_record() {
        let sql = "SELECT * FROM t WHERE ben_idt = $1 OR 'é\n' = $1 OR n = $2";
        let (one, other) = (bound(&["ADA", "o'b\"\n"]), bound(&["EVE", "o'b\"\n"]));
        let texts = [&one, &other].map(|bytes| encode(sql, bytes));
        assert_ne!(texts[0], texts[1]);
        let asked = decode(&texts[0]).expect("reads");
        assert_eq!(asked.sql, sql);
        let lines: Vec<&str> = asked.parameters.lines().collect();
        assert_eq!(lines.len(), 2, "a line a row: {lines:?}");
        assert!(lines[0].starts_with("$1 = \"ADA\", $2 = "), "{lines:?}");
        // Nothing that somebody sends as SQL reads as if parameters had been bound to it.
        let forged = texts[0].to_string();
        let kept = encode(&forged, &[]);
        assert_ne!(kept, forged);
        let asked = decode(&kept).expect("reads");
        assert_eq!(asked.sql, forged);
        assert_eq!(asked.parameters, "");
    }

    #[test]
    fn long_parameters_are_kept_as_their_digest() {
        let long = "x".repeat(PARAMETERS_KEPT_BYTES_MAX);
        let (one, other) = (bound(&[&long]), bound(&[&long, "y"]));
        let texts = [&one, &other].map(|bytes| encode("SELECT $1", bytes));
        assert_ne!(texts[0], texts[1]);
        for text in texts {
            assert!(text.len() < 200);
            let asked = decode(&text).expect("reads");
            assert_eq!(asked.sql, "SELECT $1");
            assert!(asked.parameters.contains("SHA-256"));
        }
    }

    #[test]
    fn what_is_cut_or_altered_is_refused() {
        let text = encode("SELECT $1", &bound(&["a"])).into_owned();
        for wrong in [
            &text[..text.len() - 4],
            &text[..12],
            MARK,
            "\0asked 1 9 9\nSELECT",
            "\0asked 1 x 9\nSELECT $1\nAAAA",
            "\0asked 1 99999999999999999999 9\nSELECT $1\nAAAA",
        ] {
            assert!(decode(wrong).is_err(), "{wrong:?}");
        }
    }
}
