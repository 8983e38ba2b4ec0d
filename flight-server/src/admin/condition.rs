//! The condition of a habilitation's filter or cohort as administrators read it: whole, a line for
//! each part. Stored identifiers leave nothing but their number and a keyed digest, which changes
//! with them and which nobody can find them by.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::{Comparison, Predicate, Value};
use hubflight_store::Secrets;
use sha2::Sha256;

use crate::error::{Error, Result};

/// Bytes of a digest that are shown.
const DIGEST_BYTES: usize = 16;
/// Values of a list in one line.
const LINE_VALUES: usize = 10;

/// What tells which columns hold identifiers.
pub(super) struct Reader<'a> {
    /// None where nobody describes it: then any column may.
    pub dataset: Option<&'a Dataset>,
    pub table: &'a str,
    pub secrets: &'a Secrets,
}

impl Reader<'_> {
    /// A condition as lines, each further in than what it is part of.
    pub fn lines(&self, predicate: &Predicate) -> Result<String> {
        let mut text = String::new();
        self.write(predicate, 1, &mut text)?;
        Ok(text)
    }

    fn write(&self, predicate: &Predicate, depth: usize, text: &mut String) -> Result<()> {
        text.push('\n');
        text.push_str(&"    ".repeat(depth));
        let mut parts = |word: &str, parts: &[Predicate]| {
            text.push_str(word);
            let mut parts = parts.iter();
            parts.try_for_each(|part| self.write(part, depth + 1, text))
        };
        match predicate {
            Predicate::And(all) => parts("all of", all)?,
            Predicate::Or(any) => parts("any of", any)?,
            Predicate::Not(part) => parts("not", std::slice::from_ref(&**part))?,
            Predicate::IsNull { column } => text.push_str(&format!("{column:?} is null")),
            Predicate::Compare { column, op, value } => {
                let values = self.values(column, std::slice::from_ref(value), depth)?;
                text.push_str(&format!("{column:?} {} {values}", sign(*op)));
            }
            Predicate::In { column, values } => {
                let values = self.values(column, values, depth)?;
                text.push_str(&format!("{column:?} in {values}"));
            }
            Predicate::Between { column, low, high } => {
                let values = self.values(column, &[low.clone(), high.clone()], depth)?;
                text.push_str(&format!("{column:?} between {values}"));
            }
        }
        Ok(())
    }

    fn values(&self, column: &str, values: &[Value], depth: usize) -> Result<String> {
        let table = self
            .dataset
            .and_then(|it| Some((it, it.table(self.table)?)));
        if table.is_none_or(|(dataset, table)| dataset.identifier(table, column).is_some()) {
            let digest = self.digest(values)?;
            return Ok(match values.len() {
                1 => format!("1 value, digest {digest}"),
                many => format!("{many} values, digest {digest}"),
            });
        }
        let lines: Vec<String> = values
            .chunks(LINE_VALUES)
            .map(|values| values.iter().map(shown).collect::<Vec<_>>().join(", "))
            .collect();
        Ok(lines.join(&format!(",\n{}", "    ".repeat(depth + 1))))
    }

    fn digest(&self, values: &[Value]) -> Result<String> {
        let text = serde_json::to_vec(values)
            .map_err(|error| Error::internal("a condition cannot be written", &error))?;
        let key = self.secrets.derive("conditions")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key[..])
            .map_err(|error| Error::internal("a key has the wrong length", &error))?;
        mac.update(&text);
        let hash = mac.finalize().into_bytes();
        Ok(HEXLOWER.encode(&hash[..DIGEST_BYTES]))
    }
}

fn sign(op: Comparison) -> &'static str {
    match op {
        Comparison::Eq => "=",
        Comparison::Ne => "<>",
        Comparison::Lt => "<",
        Comparison::Le => "<=",
        Comparison::Gt => ">",
        Comparison::Ge => ">=",
    }
}

/// Texts are quoted and escaped: nothing in them begins a line or moves a cursor.
fn shown(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(value) => format!("{value:?}"),
        Value::Date(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use hubflight_rights::dataset::{Dataset, Format, PersonPath, Table};

    use super::*;

    fn table(name: &str, person: PersonPath) -> Table {
        Table {
            name: name.into(),
            remarks: String::new(),
            location: name.into(),
            format: Format::Csv,
            person,
            primary_key: Vec::new(),
            foreign_keys: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// `acts` leads to `persons` by `who`.
    fn dataset() -> Dataset {
        let on = vec![("who".to_owned(), "id".to_owned())];
        let table_of = "persons".to_owned();
        Dataset {
            name: "d".into(),
            title: String::new(),
            producer: "x".into(),
            version: 1,
            synthetic: true,
            persons_min: 11,
            tables: vec![
                table("persons", PersonPath::Column("id".into())),
                table(
                    "acts",
                    PersonPath::Parent {
                        table: table_of,
                        on,
                    },
                ),
            ],
        }
    }

    fn told(dataset: Option<&Dataset>, condition: &str) -> String {
        let reader = Reader {
            dataset,
            table: "acts",
            secrets: &Secrets::new([3; 32]),
        };
        let condition: Predicate = serde_json::from_str(condition).expect("a condition");
        reader.lines(&condition).expect("told")
    }

    #[test]
    fn a_condition_is_told_whole_and_in_lines() {
        let condition = r#"{"or": [
            {"and": [{"between": {"column": "age", "low": {"int": 3}, "high": {"int": 5}}},
                     {"not": {"is_null": {"column": "ward"}}}]},
            {"in": {"column": "ward", "values": [{"text": "a\n+ b\u202e"}, {"text": "l'O"}]}}]}"#;
        let expected = "
    any of
        all of
            \"age\" between 3, 5
            not
                \"ward\" is null
        \"ward\" in \"a\\n+ b\\u{202e}\", \"l'O\"";
        assert_eq!(told(Some(&dataset()), condition), expected);
        let many: Vec<String> = (0..25).map(|n| format!(r#"{{"int": {n}}}"#)).collect();
        let many = format!(
            r#"{{"in": {{"column": "age", "values": [{}]}}}}"#,
            many.join(",")
        );
        let many = told(Some(&dataset()), &many);
        assert_eq!(many.lines().count(), 4, "{many}");
        assert!(many.ends_with("23, 24"), "{many}");
    }

    #[test]
    fn stored_identifiers_are_told_by_number_and_digest() {
        let of = |column: &str, last: u32| {
            format!(
                r#"{{"in": {{"column": "{column}", "values": [{{"int": 2551175}}, {{"int": {last}}}]}}}}"#
            )
        };
        let dataset = dataset();
        let first = told(Some(&dataset), &of("who", 77_123));
        assert!(first.contains("\"who\" in 2 values, digest "), "{first}");
        assert!(
            !first.contains("2551175") && !first.contains("77123"),
            "{first}"
        );
        assert_eq!(first, told(Some(&dataset), &of("who", 77_123)));
        assert_ne!(first, told(Some(&dataset), &of("who", 77_124)));
        assert!(told(Some(&dataset), &of("age", 1)).contains("2551175"));
        // Where nobody says which columns are identifiers, each may be one.
        assert!(!told(None, &of("age", 1)).contains("2551175"));
    }
}
