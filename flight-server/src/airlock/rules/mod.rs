//! What is looked for in a package before it may leave: each rule is a function of the content
//! and of what the plan says of it.
//!
//! A finding refuses, or asks a second person. Its text names columns and tells what to do, and
//! never holds a value.

mod cells;
mod identifiers;
mod numbers;
mod origin;
mod shape;
mod text;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Schema};
use serde::{Deserialize, Serialize};

use super::lineage::{Origin, Study};

/// What a finding does to the package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A second person decides.
    Asks,
    Refuses,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub rule: String,
    pub verdict: Verdict,
    /// Where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    pub text: String,
}

impl Finding {
    pub fn new(rule: &str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            rule: rule.to_owned(),
            verdict,
            column: None,
            text: text.into(),
        }
    }

    pub fn of_column(self, column: &str) -> Self {
        Self {
            column: Some(column.to_owned()),
            ..self
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.column {
            Some(column) => write!(f, "column `{column}`: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What a package would hold.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub schema: &'a Schema,
    pub batches: &'a [RecordBatch],
    pub study: &'a Study,
    /// Distinct persons that a row must count.
    pub persons_min: u32,
}

type Rule = fn(&Content<'_>) -> Vec<Finding>;

const RULES: [Rule; 6] = [
    origin::find,
    identifiers::find,
    text::find,
    cells::find,
    numbers::find,
    shape::find,
];

/// What all rules find.
pub fn judge(content: &Content<'_>) -> Vec<Finding> {
    RULES.iter().flat_map(|rule| rule(content)).collect()
}

/// The worst of the findings; none where there are none.
pub fn verdict(findings: &[Finding]) -> Option<Verdict> {
    findings.iter().map(|finding| finding.verdict).max()
}

/// A column with what the plan says of it.
struct Column<'a> {
    content: &'a Content<'a>,
    index: usize,
    field: &'a FieldRef,
    origin: Origin,
}

impl<'a> Content<'a> {
    fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    fn columns(&'a self) -> impl Iterator<Item = Column<'a>> {
        let fields = self.schema.fields().iter().enumerate();
        fields.map(|(index, field)| Column {
            content: self,
            index,
            field,
            origin: self
                .study
                .columns
                .get(index)
                .copied()
                .unwrap_or(Origin::Plain),
        })
    }
}

impl<'a> Column<'a> {
    fn name(&self) -> &'a str {
        self.field.name()
    }

    fn data_type(&self) -> &'a DataType {
        self.field.data_type()
    }

    fn arrays(&self) -> impl Iterator<Item = &'a ArrayRef> + use<'a> {
        let index = self.index;
        let batches = self.content.batches.iter();
        batches.filter_map(move |batch| batch.columns().get(index))
    }

    /// The values of a column of text; none of any other.
    fn texts(&self) -> Box<dyn Iterator<Item = &'a str> + 'a> {
        match self.data_type() {
            DataType::Utf8 => Box::new(
                self.arrays()
                    .filter_map(|array| array.as_string_opt::<i32>())
                    .flat_map(|array| array.iter().flatten()),
            ),
            DataType::LargeUtf8 => Box::new(
                self.arrays()
                    .filter_map(|array| array.as_string_opt::<i64>())
                    .flat_map(|array| array.iter().flatten()),
            ),
            _ => Box::new(std::iter::empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};

    use super::*;
    use crate::airlock::lineage::{Doubt, Grain};

    /// What one rule, or all of them, make of columns of cells that count persons.
    pub(super) struct Case {
        batch: RecordBatch,
        pub study: Study,
    }

    impl Case {
        pub fn new<const N: usize>(columns: [(&str, Origin, ArrayRef); N]) -> Self {
            let arrays = columns
                .iter()
                .map(|(name, _, array)| (*name, Arc::clone(array), true));
            let batch = RecordBatch::try_from_iter_with_nullable(arrays).expect("valid");
            let study = Study {
                grain: Grain::Cells,
                columns: columns.iter().map(|(_, origin, _)| *origin).collect(),
                doubts: BTreeSet::new(),
            };
            Self { batch, study }
        }

        pub fn public(mut self) -> Self {
            self.study.grain = Grain::Public;
            self
        }

        pub fn found(&self, rule: Rule) -> Vec<Finding> {
            // Two batches, so that no rule looks at the first only.
            let half = self.batch.num_rows() / 2;
            let rest = self.batch.num_rows() - half;
            let batches = [self.batch.slice(0, half), self.batch.slice(half, rest)];
            let schema = self.batch.schema();
            rule(&Content {
                schema: &schema,
                batches: &batches,
                study: &self.study,
                persons_min: 11,
            })
        }

        pub fn is_clean(&self, rule: Rule) -> bool {
            self.found(rule).is_empty()
        }
    }

    pub(super) fn texts<const N: usize>(values: [&str; N]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    pub(super) fn integers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(values))
    }

    #[test]
    fn a_table_of_counts_passes_and_the_worst_finding_counts() {
        let cells = || {
            Case::new([
                ("dpt", Origin::Key, texts(["75", "13", "2A"])),
                ("persons", Origin::Persons, integers([120, 11, 45])),
            ])
        };
        assert!(cells().is_clean(judge));
        assert_eq!(verdict(&cells().found(judge)), None);
        let mut doubted = cells();
        doubted.study.doubts.insert(Doubt::Joined);
        assert_eq!(verdict(&doubted.found(judge)), Some(Verdict::Asks));
        let mut identified = doubted;
        identified.study.columns[0] = Origin::Person;
        assert_eq!(verdict(&identified.found(judge)), Some(Verdict::Refuses));
    }

    /// What is smuggled past all rules but one: without that one it would leave.
    #[test]
    fn each_rule_holds_back_what_the_others_let_pass() {
        let plain = |value: &str| Case::new([("a", Origin::Plain, texts([value]))]);
        let doubles = Arc::new(Float64Array::from(vec![0.1 + 0.2]));
        let smuggled: [(Rule, Case); 8] = [
            (
                origin::find,
                Case::new([("n", Origin::Person, integers([1]))]),
            ),
            (identifiers::find, plain("q3zm7ab2c4defghijklmnopqrs")),
            (text::find, plain("=HYPERLINK(A1)")),
            (text::find, plain("vu par le Dr Jean DUPONT")),
            (
                cells::find,
                Case::new([("n", Origin::Persons, integers([10]))]),
            ),
            (
                numbers::find,
                Case::new([("x", Origin::Measure, doubles as ArrayRef)]),
            ),
            (
                shape::find,
                Case::new([("x", Origin::Plain, integers(0..100))]),
            ),
            (
                shape::find,
                Case::new([("x".repeat(64).as_str(), Origin::Key, integers([1]))]),
            ),
        ];
        let mut needed = BTreeSet::new();
        for (index, (only, case)) in smuggled.iter().enumerate() {
            assert!(!case.is_clean(judge), "case {index} leaves");
            for (rule, find) in RULES.iter().enumerate() {
                if std::ptr::fn_addr_eq(*find, *only) {
                    assert!(!case.is_clean(*find), "case {index}");
                    needed.insert(rule);
                } else {
                    assert!(case.is_clean(*find), "case {index} is found by rule {rule}");
                }
            }
        }
        assert_eq!(needed.len(), RULES.len(), "each rule is needed");
    }

    #[test]
    fn no_finding_tells_a_value() {
        let secret = "aaaabbbbccccddddeeee234567";
        let case = Case::new([
            (
                "a",
                Origin::Plain,
                texts([secret, "M. Jean Dupont, 06 12 34 56 78"]),
            ),
            ("n", Origin::Persons, integers([3, 7_777])),
        ]);
        let found = case.found(judge);
        assert!(found.len() >= 3, "{found:?}");
        let text = serde_json::to_string(&found).expect("writes");
        for value in [secret, "Dupont", "7777", "06 12"] {
            assert!(!text.contains(value), "{text}");
        }
        let read: Vec<Finding> = serde_json::from_str(&text).expect("reads");
        assert_eq!(read, found);
    }
}
