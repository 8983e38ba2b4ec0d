//! Free text: what the finder of identifying spans finds, and what nobody can look through.

use std::collections::HashSet;

use hubflight_compute::text::{Kind, spans};

use super::{Column, Content, Finding, Verdict};

const RULE: &str = "free_text";
/// Distinct values of a column of text that pass unseen.
const DISTINCT_MAX: usize = 1_000;
/// Characters of a label.
const CHARS_MAX: usize = 128;
/// Text of a column that is looked through.
const BYTES_MAX: usize = 4 << 20;

/// Refuses columns of text in which numbers of persons, phones or addresses stand, and asks where
/// there are names, or more text than labels have.
pub fn find(content: &Content<'_>) -> Vec<Finding> {
    let found = content.columns().flat_map(|column| {
        let read = Read::of(&column);
        let mut found = read.kinds();
        found.extend(read.amount());
        let name = column.name().to_owned();
        let named = spans(&name).iter().any(|span| identifies(span.kind));
        if named {
            found.push(Finding::new(
                RULE,
                Verdict::Asks,
                "its name looks like one of a person; give it another with AS",
            ));
        }
        if is_formula(&name) {
            found.push(Finding::new(
                RULE,
                Verdict::Asks,
                "its name begins as a formula of a spreadsheet; give it another with AS",
            ));
        }
        found.into_iter().map(move |one| one.of_column(&name))
    });
    found.collect()
}

/// What identifies a person, other than a date or a place, which labels may have.
fn identifies(kind: Kind) -> bool {
    match kind {
        Kind::Nom | Kind::Tel | Kind::Nir | Kind::Adresse | Kind::Mail => true,
        Kind::Date | Kind::Ville | Kind::Hopital => false,
    }
}

/// What a spreadsheet computes when it opens a file of text (OWASP, "CSV injection"). A number with a
/// sign is a number.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
        && text.parse::<f64>().is_err()
        && text.chars().count() > 1
}

/// The distinct values of a column, as far as they are looked through.
struct Read<'a> {
    values: HashSet<&'a str>,
    /// There was more.
    is_cut: bool,
}

impl<'a> Read<'a> {
    fn of(column: &Column<'a>) -> Self {
        let mut read = Self {
            values: HashSet::new(),
            is_cut: false,
        };
        let mut bytes = 0;
        for text in column.texts() {
            if !read.values.insert(text) {
                continue;
            }
            bytes += text.len();
            if bytes > BYTES_MAX {
                read.is_cut = true;
                break;
            }
        }
        read
    }

    fn kinds(&self) -> Vec<Finding> {
        let mut numbers = 0_usize;
        let mut names = 0_usize;
        for value in &self.values {
            let found = spans(value);
            let has = |wanted: fn(Kind) -> bool| found.iter().any(|span| wanted(span.kind));
            numbers += usize::from(has(|kind| {
                matches!(kind, Kind::Nir | Kind::Tel | Kind::Mail)
            }));
            names += usize::from(has(|kind| matches!(kind, Kind::Nom | Kind::Adresse)));
        }
        let mut found = Vec::new();
        let formulas = self.values.iter().filter(|value| is_formula(value)).count();
        if formulas > 0 {
            let text = format!(
                "{formulas} values begin as a formula of a spreadsheet, which computes them where \
                 it opens a text file; put a letter before them"
            );
            found.push(Finding::new(RULE, Verdict::Asks, text));
        }
        if numbers > 0 {
            let text =
                format!("{numbers} values hold numbers of persons, phones or mail addresses");
            found.push(Finding::new(RULE, Verdict::Refuses, text));
        }
        if names > 0 {
            let text = format!("{names} values look like names or addresses of persons");
            found.push(Finding::new(RULE, Verdict::Asks, text));
        }
        found
    }

    fn amount(&self) -> Option<Finding> {
        let is_long = |text: &&str| text.chars().count() > CHARS_MAX;
        let text = if self.is_cut {
            format!("it has more than {BYTES_MAX} bytes of text, which nobody looks through")
        } else if self.values.iter().any(is_long) {
            format!("it has texts of more than {CHARS_MAX} characters; a label is shorter")
        } else if self.values.len() > DISTINCT_MAX {
            format!("it has more than {DISTINCT_MAX} different texts; group them")
        } else {
            return None;
        };
        Some(Finding::new(RULE, Verdict::Asks, text))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::super::tests::{Case, integers, texts};
    use super::*;
    use crate::airlock::lineage::Origin;

    fn verdict_of(value: &str) -> Option<Verdict> {
        let case = Case::new([("a", Origin::Key, texts(["75", value]))]);
        super::super::verdict(&case.found(find))
    }

    #[test]
    fn what_identifies_somebody_does_not_leave() {
        for number in [
            "joindre au 06 12 34 56 78",
            "contact : jean.dupont@example.org",
            "NIR 2 85 05 78 006 084 91",
        ] {
            assert_eq!(verdict_of(number), Some(Verdict::Refuses), "{number}");
        }
        assert_eq!(verdict_of("vu par le Dr Jean DUPONT"), Some(Verdict::Asks));
        for label in ["75", "I21", "femme", "Infarctus aigu du myocarde", ""] {
            assert_eq!(verdict_of(label), None, "{label}");
        }
    }

    #[test]
    fn formulas_of_spreadsheets_ask() {
        for formula in [
            "=1+1",
            "+1+1",
            "-2+3",
            "@SUM(1)",
            "\t=1",
            "\r=1",
            "=cmd|' /C calc'!A0",
        ] {
            assert_eq!(verdict_of(formula), Some(Verdict::Asks), "{formula}");
            let case = Case::new([(formula, Origin::Count, integers([12]))]);
            assert_eq!(case.found(find).len(), 1, "{formula}");
        }
        for label in ["-", "+", "-1", "+1.5", "-1e3", "a=1", "1-2"] {
            assert_eq!(verdict_of(label), None, "{label}");
        }
    }

    #[test]
    fn more_text_than_labels_have_asks() {
        assert_eq!(verdict_of(&"mot ".repeat(33)), Some(Verdict::Asks));
        let many = StringArray::from_iter_values((0..1_001).map(|i| format!("l{i}")));
        let case = Case::new([("a", Origin::Key, Arc::new(many) as _)]);
        assert_eq!(case.found(find).len(), 1);
        let few = StringArray::from_iter_values((0..2_000).map(|i| format!("l{}", i % 999)));
        assert!(Case::new([("a", Origin::Key, Arc::new(few) as _)]).is_clean(find));
        let vast = StringArray::from_iter_values([&"x".repeat(3 << 20), &"y".repeat(3 << 20)]);
        let case = Case::new([("a", Origin::Key, Arc::new(vast) as _)]);
        assert!(case.found(find)[0].text.contains("looks through"));
    }

    #[test]
    fn names_of_columns_are_text() {
        let case = Case::new([("Dr Jean DUPONT", Origin::Count, integers([12]))]);
        assert_eq!(case.found(find).len(), 1);
    }
}
