//! What the plan says: columns that are made from identifiers, rows that are not counted.

use super::{Content, Finding, Verdict};
use crate::airlock::lineage::Origin;

const RULE: &str = "origin";

/// Refuses columns that are made from an identifier, and asks where the plan leaves a doubt.
pub fn find(content: &Content<'_>) -> Vec<Finding> {
    let made = content.columns().filter_map(|column| {
        let text = match column.origin {
            Origin::Person => "it is made from an identifier of persons; leave it out, or count it",
            Origin::Identifier => "it is made from an identifier; leave it out, or count it",
            _ => return None,
        };
        Some(Finding::new(RULE, Verdict::Refuses, text).of_column(column.name()))
    });
    let doubts = content.study.doubts.iter();
    let doubts = doubts.map(|doubt| Finding::new(RULE, Verdict::Asks, doubt.text()));
    made.chain(doubts).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Case, integers};
    use super::*;
    use crate::airlock::lineage::Doubt;

    #[test]
    fn identifiers_are_refused_and_doubts_ask() {
        let case = |origin| Case::new([("a", origin, integers([1]))]);
        for origin in [Origin::Person, Origin::Identifier] {
            let found = case(origin).found(find);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].verdict, Verdict::Refuses);
            assert_eq!(found[0].column.as_deref(), Some("a"));
        }
        for origin in [
            Origin::Plain,
            Origin::Key,
            Origin::Persons,
            Origin::Count,
            Origin::Measure,
            Origin::Published,
        ] {
            assert!(case(origin).is_clean(find), "{origin:?}");
        }
        let mut doubted = case(Origin::Key);
        doubted.study.doubts.extend([Doubt::Rows, Doubt::Subquery]);
        let found = doubted.found(find);
        assert!(found.len() == 2 && found.iter().all(|one| one.verdict == Verdict::Asks));
    }
}
