//! Small cells: rows that count fewer persons than their dataset's threshold.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use super::{Content, Finding, Verdict};
use crate::airlock::lineage::{Grain, Origin};

const RULE: &str = "small_cells";

/// Asks where a row of cells counts fewer persons than it must, or so few rows that it cannot
/// count more. Published aggregates are protected already, and their noise makes small numbers
/// of large cells.
pub fn find(content: &Content<'_>) -> Vec<Finding> {
    if content.study.grain == Grain::Public {
        return Vec::new();
    }
    let min = i64::from(content.persons_min);
    let counts = content.columns().filter(|column| match column.origin {
        Origin::Persons | Origin::Count => true,
        // What was counted elsewhere, as in a table of the space, has no lineage.
        Origin::Plain => looks_counted(column.name()) && column.data_type().is_integer(),
        _ => false,
    });
    let small = counts.filter_map(|column| {
        let rows: usize = column
            .arrays()
            .map(|array| match cast(array, &DataType::Int64) {
                Ok(array) => below(array.as_primitive_opt::<Int64Type>(), min, column.origin),
                // Not a number of anything: nobody can tell.
                Err(_) => array.len(),
            })
            .sum();
        (rows > 0).then(|| {
            let text = format!("{rows} rows count fewer than {min}; merge them or leave them out");
            Finding::new(RULE, Verdict::Asks, text).of_column(column.name())
        })
    });
    small.collect()
}

/// Rows with a number from 1 on and below `min`; zero persons in a cell are one that should not
/// be there, zero of something else are many.
fn below(
    counts: Option<&arrow::array::PrimitiveArray<Int64Type>>,
    min: i64,
    origin: Origin,
) -> usize {
    let lowest = i64::from(origin != Origin::Persons);
    let small = |count: &i64| *count >= lowest && *count < min;
    counts.map_or(0, |counts| counts.iter().flatten().filter(small).count())
}

fn looks_counted(name: &str) -> bool {
    let name = name.to_lowercase();
    name == "n"
        || [
            "count", "nb", "nombre", "effectif", "persons", "patients", "total",
        ]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Case, integers, texts};
    use super::*;

    #[test]
    fn cells_below_the_threshold_ask() {
        let case = |origin, values: [i64; 3]| Case::new([("x", origin, integers(values))]);
        for origin in [Origin::Persons, Origin::Count] {
            assert!(case(origin, [11, 12, 4_000]).is_clean(find));
            for small in [1, 10] {
                let found = case(origin, [11, small, 4_000]).found(find);
                assert!(
                    found.len() == 1 && found[0].verdict == Verdict::Asks,
                    "{small}"
                );
            }
        }
        assert!(case(Origin::Count, [0, 11, 12]).is_clean(find));
        assert!(!case(Origin::Persons, [0, 11, 12]).is_clean(find));
        assert!(
            case(Origin::Key, [1, 2, 3]).is_clean(find),
            "a sex, a month"
        );
        assert!(
            case(Origin::Count, [3, 4, 5]).public().is_clean(find),
            "noise"
        );
    }

    #[test]
    fn what_was_counted_in_the_space_is_known_by_its_name() {
        let case = |name| Case::new([(name, Origin::Plain, integers([40, 3]))]);
        for name in ["n", "N", "nb_patients", "effectif", "count(*)"] {
            assert!(!case(name).is_clean(find), "{name}");
        }
        assert!(case("annee").is_clean(find));
        let text = Case::new([("count", Origin::Plain, texts(["3"]))]);
        assert!(text.is_clean(find), "no number");
    }
}
