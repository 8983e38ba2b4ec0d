//! Text to statements, within a number of steps. The parser of sqlparser 0.62 tries one reading of a
//! form after another, each to its end: thirty nested casts around a mistake, a chain of forty dots
//! before one, or `FROM (` in `FROM (` take longer than anybody waits, and it has no way to be stopped.
//! But it asks its dialect something at each step. So that is where they are counted, and where one
//! too many unwinds out of it.

use std::any::TypeId;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

use crate::error::{Error, Result};

/// Depth of nesting that the parser accepts.
const NESTING_MAX: usize = 128;
/// Steps, beside [`STEPS_PER_BYTE`]: each takes some hundred nanoseconds, with what is done between them.
const STEPS_MAX: u64 = 10_000_000;
/// Statements without a mistake take less than half as many.
const STEPS_PER_BYTE: u64 = 100;

/// The statements of a text.
///
/// # Errors
/// `InvalidArgument` for what is no SQL, and for what takes too many steps to read.
pub fn statements(sql: &str) -> Result<VecDeque<Statement>> {
    let bytes = u64::try_from(sql.len()).unwrap_or(u64::MAX);
    let dialect = Counting {
        left: Cell::new(STEPS_MAX.saturating_add(bytes.saturating_mul(STEPS_PER_BYTE))),
    };
    let read = || {
        DFParserBuilder::new(sql)
            .with_dialect(&dialect)
            .with_recursion_limit(NESTING_MAX)
            .build()?
            .parse_statements()
    };
    // Nothing that it leaves behind is looked at again.
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(statements) => Ok(statements?),
        Err(end) if end.is::<TooManySteps>() => Err(Error::invalid(
            "the statement has a mistake, or is nested so deep that where it has one cannot be told in \
             time; try its innermost parts by themselves, or give its steps names in one WITH",
        )),
        Err(panic) => resume_unwind(panic),
    }
}

/// What unwinds.
struct TooManySteps;

/// [`GenericDialect`], which counts what it is asked.
#[derive(Debug)]
struct Counting {
    left: Cell<u64>,
}

impl Counting {
    fn step(&self) {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => resume_unwind(Box::new(TooManySteps)),
        }
    }
}

/// What the generic dialect says, a step each.
macro_rules! as_generic {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool {
            self.step();
            GenericDialect.$name()
        })*
    };
}

impl Dialect for Counting {
    /// The parser takes it for the generic one.
    fn dialect(&self) -> TypeId {
        self.step();
        GenericDialect.dialect()
    }

    fn parse_prefix(&self, _: &mut Parser) -> Option<std::result::Result<Expr, ParserError>> {
        self.step();
        None
    }

    fn get_next_precedence(&self, _: &Parser) -> Option<std::result::Result<u8, ParserError>> {
        self.step();
        None
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    // All that the generic dialect says otherwise than the trait.
    as_generic! {
        allow_extract_custom
        allow_extract_single_quotes
        support_map_literal_syntax
        supports_array_join_syntax
        supports_array_typedef_with_brackets
        supports_asc_desc_in_column_definition
        supports_bitwise_shift_operators
        supports_comma_separated_set_assignments
        supports_comma_separated_trim
        supports_comment_on
        supports_comment_optimizer_hint
        supports_connect_by
        supports_constraint_keyword_without_name
        supports_create_index_with_clause
        supports_create_view_comment_syntax
        supports_cte_without_as
        supports_data_type_signed_suffix
        supports_detach
        supports_dictionary_syntax
        supports_empty_projections
        supports_explain_with_utility_options
        supports_extract_comma_syntax
        supports_filter_during_aggregation
        supports_from_first_select
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_install
        supports_interpolate
        supports_interval_options
        supports_key_column_option
        supports_left_associative_joins_without_parens
        supports_limit_by
        supports_limit_comma
        supports_load_extension
        supports_match_against
        supports_match_recognize
        supports_multiline_comment_hints
        supports_named_fn_args_with_assignment_operator
        supports_nested_comments
        supports_optimize_table
        supports_parens_around_table_factor
        supports_parenthesized_set_variables
        supports_partition_by_after_order_by
        supports_pipe_operator
        supports_prewhere
        supports_projection_trailing_commas
        supports_quote_delimited_string
        supports_select_format
        supports_select_item_multi_column_alias
        supports_select_wildcard_except
        supports_select_wildcard_exclude
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_select_wildcard_replace
        supports_set_names
        supports_settings
        supports_start_transaction_modifier
        supports_string_escape_constant
        supports_struct_literal
        supports_try_convert
        supports_unicode_string_literal
        supports_update_order_by
        supports_user_host_grantee
        supports_values_as_table_factor
        supports_window_clause_named_window_reference
        supports_window_function_null_treatment_arg
        supports_with_fill
        supports_xml_expressions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(sql: &str) -> u64 {
        let dialect = Counting {
            left: Cell::new(u64::MAX),
        };
        let parser = DFParserBuilder::new(sql)
            .with_dialect(&dialect)
            .with_recursion_limit(NESTING_MAX);
        let parsed = parser
            .build()
            .and_then(|mut parser| parser.parse_statements());
        parsed.expect(sql);
        u64::MAX - dialect.left.get()
    }

    fn nested(step: &str, times: usize, inner: &str) -> String {
        let expr = (0..times).fold(inner.to_owned(), |expr, _| step.replace("{}", &expr));
        format!("SELECT {expr}")
    }

    #[test]
    fn statements_without_a_mistake_take_few_steps() {
        for honest in [
            format!("SELECT 1 IN ({})", vec!["1"; 10_000].join(",")),
            format!("VALUES {}", vec!["(1,'a',-1)"; 3_000].join(",")),
            format!("SELECT {} FROM t", vec!["a.b"; 3_000].join(",")),
            format!("SELECT {} FROM t", vec!["f(a)+1"; 3_000].join(",")),
            format!("SELECT 1 FROM t WHERE {}", vec!["a=1"; 1_000].join(" OR ")),
            nested("(SELECT * FROM (SELECT {} FROM t) s)", 12, "a"),
            nested("CASE WHEN a THEN CAST({} AS INT) END", 20, "a"),
        ] {
            let per_byte = steps(&honest) / u64::try_from(honest.len()).expect("short");
            assert!(
                per_byte < STEPS_PER_BYTE / 2,
                "{per_byte}: {}",
                &honest[..40]
            );
        }
    }

    #[test]
    fn what_is_read_again_and_again_is_given_up() {
        for (step, inner) in [
            ("CAST({} AS INT)", "b +"),
            ("CONVERT({}, INT)", "b +"),
            ("FLOOR({})", "b +"),
            ("substr({}, 1)", "b +"),
            ("OVERLAY({} PLACING a FROM 1)", "b +"),
            ("POSITION({} IN a)", "b +"),
            ("(floor(CAST({} AS DOUBLE)) = 1)", "b +"),
            ("(SELECT 1 FROM ({}) s)", "b +"),
            ("(SELECT 1 FROM a AS select, (SELECT {}) s)", "b +"),
            ("(SELECT 1 FROM a JOIN (SELECT {}) s ON true)", "b +"),
            ("(SELECT 1 FROM a AS x STRAIGHT_JOIN (SELECT {}) s)", "b +"),
            ("(SELECT * FROM ((SELECT * FROM {})))", "(("),
            ("NOT ({})", "b +"),
            ("NOT -({})", "b +"),
            ("ARRAY[{}]", "b +"),
            ("CASE [{}] WHEN 1 THEN 1 END", "b +"),
            ("EXTRACT(DAY, {})", "b +"),
            ("a IN ((SELECT {}))", "b +"),
            ("a IN (SELECT ({}))", "b +"),
            ("a IN (VALUES ({}))", "b +"),
            ("f(a, b := {})", "b +"),
            ("a.CAST({} AS INT)", "b +"),
            ("a.b[{}]", "b +"),
            ("INTERVAL {}", ")"),
            ("a.{}", "[1+]"),
        ] {
            let error = statements(&nested(step, 40, inner))
                .expect_err(step)
                .to_string();
            let said = error.contains("nested so deep") || error.contains("recursion limit");
            assert!(said || error.contains("parser error"), "{step}: {error}");
        }
        // The parser's own limit is a mistake as well.
        let deep = statements(&nested("convert({}, int)", 135, "b")).expect_err("deep");
        assert!(deep.to_string().contains("nested so deep"), "{deep}");
        assert!(statements("SELECT 1 +").is_err());
        assert_eq!(statements("SELECT 1").expect("SQL").len(), 1);
    }
}
