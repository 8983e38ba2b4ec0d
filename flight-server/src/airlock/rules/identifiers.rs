//! Values that look like identifiers, wherever they came from: a table of the space has no
//! lineage, and a value may have been written by hand.

use hubflight_policy::pseudonym::SHOWN_CHARS;

use super::{Content, Finding, Verdict};

const RULE: &str = "identifiers";

/// Refuses columns of text with a pseudonym in them, and names of columns that are one.
pub fn find(content: &Content<'_>) -> Vec<Finding> {
    let columns = content
        .columns()
        .filter(|column| holds_pseudonym(column.name()) || column.texts().any(holds_pseudonym));
    columns
        .map(|column| {
            let text = "it holds pseudonyms; leave them out, or count them";
            Finding::new(RULE, Verdict::Refuses, text).of_column(&shown(column.name()))
        })
        .collect()
}

/// The name of a column, unless that is what is found.
fn shown(name: &str) -> String {
    match holds_pseudonym(name) {
        true => "…".to_owned(),
        false => name.to_owned(),
    }
}

/// True where a text has a run of characters that is as long as a pseudonym and of its alphabet,
/// in either case. Words are shorter.
fn holds_pseudonym(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|run| {
        let is_shown = |c: char| c.is_ascii_alphabetic() || ('2'..='7').contains(&c);
        run.len() == SHOWN_CHARS && run.chars().all(is_shown)
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Case, integers, texts};
    use super::*;
    use crate::airlock::lineage::Origin;

    const PSEUDONYM: &str = "q3zm7ab2c4defghijklmnopqrs";

    #[test]
    fn pseudonyms_are_found_wherever_they_stand() {
        let case = |value: &str| Case::new([("a", Origin::Plain, texts(["x", value]))]);
        for value in [
            PSEUDONYM.to_owned(),
            PSEUDONYM.to_uppercase(),
            format!("patient {PSEUDONYM}, 2 stays"),
            format!("{PSEUDONYM}/1"),
        ] {
            let found = case(&value).found(find);
            assert!(
                found.len() == 1 && found[0].verdict == Verdict::Refuses,
                "{value}"
            );
        }
        for value in [
            "75",
            "anticonstitutionnellement",
            "aaaabbbbccccddddeeee23456",
            "aaaabbbbccccddddeeee2345678",
            "aaaabbbbccccddddeeee018901",
        ] {
            assert!(case(value).is_clean(find), "{value}");
        }
    }

    #[test]
    fn the_name_of_a_column_is_content_too() {
        let case = Case::new([(PSEUDONYM, Origin::Plain, integers([1]))]);
        let found = case.found(find);
        assert_eq!(found.len(), 1);
        assert!(!format!("{found:?}").contains(PSEUDONYM), "{found:?}");
    }
}
