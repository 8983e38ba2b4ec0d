//! What the server is and can do, code by code of the Flight SQL protocol.
//!
//! Every code has a value: some clients fail on one that is missing. The match in [`value`]
//! has no default, so a code that a later protocol adds does not compile until it is answered.
//! Functions and keywords come from the planner's own registries.

mod words;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, MapArray, RecordBatch, StructArray, UnionArray, new_empty_array,
};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, UnionFields, UnionMode};
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedResultSetConcurrency, SqlSupportedResultSetType,
    SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions,
    SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use datafusion::execution::SessionState;

use self::words::{Kind, conversions, functions, keywords};
use super::prepared::IDLE_MAX;
use crate::config::Limits;
use crate::error::{Error, Result};

/// The protocol keeps codes below this for itself; ours would start here.
const CODES_END: u32 = 10_000;

/// The schema of the answer: that of Arrow's own implementations. The crate's builder calls the
/// fields of its map otherwise, which Java does not find, and leaves nullability to chance.
pub fn layout() -> SchemaRef {
    let values = Field::new("value", DataType::Union(values(), UnionMode::Dense), false);
    let name = Field::new("info_name", DataType::UInt32, false);
    Arc::new(Schema::new(vec![name, values]))
}

fn values() -> UnionFields {
    let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
    let entry = Fields::from(vec![
        Field::new("key", DataType::Int32, false),
        Field::new("value", list(DataType::Int32), true),
    ]);
    let entries = Field::new("entries", DataType::Struct(entry), false);
    UnionFields::from_fields(vec![
        Field::new("string_value", DataType::Utf8, false),
        Field::new("bool_value", DataType::Boolean, false),
        Field::new("bigint_value", DataType::Int64, false),
        Field::new("int32_bitmask", DataType::Int32, false),
        Field::new("string_list", list(DataType::Utf8), false),
        Field::new(
            "int32_to_int32_list_map",
            DataType::Map(Arc::new(entries), false),
            false,
        ),
    ])
}

/// What the crate's builder made, in [`layout`].
fn laid_out(built: &RecordBatch) -> Result<RecordBatch> {
    let (_, kinds, offsets, children) = built.column(1).as_union().clone().into_parts();
    let mut values_of = Vec::new();
    for (kind, field) in values().iter() {
        let index = usize::try_from(kind).unwrap_or(usize::MAX);
        let child = children.get(index).cloned();
        values_of.push(match (field.data_type(), child) {
            (_, None) => new_empty_array(field.data_type()),
            (DataType::Map(entries, ordered), Some(map)) => {
                let (_, offsets, pairs, nulls, _) = map.as_map().clone().into_parts();
                let (_, columns, _) = pairs.into_parts();
                let pairs = match entries.data_type() {
                    DataType::Struct(fields) => {
                        StructArray::try_new(fields.clone(), columns, None)?
                    }
                    other => return Err(Error::internal("a map without entries", other)),
                };
                Arc::new(MapArray::try_new(
                    Arc::clone(entries),
                    offsets,
                    pairs,
                    nulls,
                    *ordered,
                )?)
            }
            (_, Some(child)) => child,
        });
    }
    let union = UnionArray::try_new(values(), kinds, offsets, values_of)?;
    let columns: Vec<ArrayRef> = vec![Arc::clone(built.column(0)), Arc::new(union)];
    Ok(RecordBatch::try_new(layout(), columns)?)
}

/// The codes of a request, each once, in order; none asks for all.
///
/// # Errors
/// `InvalidArgument` for a code that the protocol does not know.
pub fn requested(codes: &[u32]) -> Result<BTreeSet<u32>> {
    if codes.is_empty() {
        return Ok((0..CODES_END)
            .filter(|code| info(*code).is_some())
            .collect());
    }
    match codes.iter().find(|code| info(**code).is_none()) {
        None => Ok(codes.iter().copied().collect()),
        Some(code) => Err(Error::invalid(format!(
            "`{code}` is no code of server information; ask for codes of the Flight SQL \
             protocol, or for none to have them all"
        ))),
    }
}

/// The values of the codes that are asked for.
pub fn answer(codes: &[u32], state: &SessionState, limits: &Limits) -> Result<RecordBatch> {
    let mut builder = SqlInfoDataBuilder::new();
    for info in requested(codes)?.into_iter().filter_map(info) {
        match value(info, limits) {
            Value::Bool(value) => builder.append(info, value),
            Value::Text(value) => builder.append(info, value),
            Value::Bits(value) => builder.append(info, value),
            Value::Count(value) => builder.append(info, value),
            Value::Words(words) => builder.append(info, words(state)),
            Value::Conversions => builder.append(info, conversions()),
        }
    }
    let built = builder.build().and_then(|data| data.record_batch(None));
    let failed = |error: FlightError| Error::internal("server information cannot be built", &error);
    laid_out(&built.map_err(failed)?)
}

fn info(code: u32) -> Option<SqlInfo> {
    SqlInfo::try_from(i32::try_from(code).ok()?).ok()
}

/// A value, as the protocol types it.
enum Value {
    Bool(bool),
    Text(&'static str),
    /// An ordinal or a bit mask.
    Bits(i32),
    Count(i64),
    Words(fn(&SessionState) -> Vec<String>),
    Conversions,
}

fn value(info: SqlInfo, limits: &Limits) -> Value {
    use SqlInfo as I;
    match info {
        I::FlightSqlServerName => Value::Text("Hubflight"),
        I::FlightSqlServerVersion => Value::Text(env!("CARGO_PKG_VERSION")),
        I::FlightSqlServerArrowVersion => Value::Text(arrow::ARROW_VERSION),
        I::FlightSqlServerStatementTimeout => Value::Bits(handle_timeout_ms()),
        I::FlightSqlServerTransactionTimeout => {
            let seconds = limits.transaction_idle_seconds_max;
            Value::Bits(i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX))
        }
        I::SqlIdentifierQuoteChar => Value::Text("\""),
        I::SqlSearchStringEscape => Value::Text("\\"),
        I::SqlExtraNameCharacters => Value::Text("#@$"),
        I::SqlSchemaTerm => Value::Text("schema"),
        I::SqlProcedureTerm => Value::Text("procedure"),
        I::SqlCatalogTerm => Value::Text("project"),
        I::FlightSqlServerSubstraitMinVersion | I::FlightSqlServerSubstraitMaxVersion => {
            Value::Text("")
        }
        I::SqlKeywords => Value::Words(|_| keywords()),
        I::SqlNumericFunctions => Value::Words(|state| functions(state, Kind::Numeric)),
        I::SqlStringFunctions => Value::Words(|state| functions(state, Kind::Text)),
        I::SqlDatetimeFunctions => Value::Words(|state| functions(state, Kind::Time)),
        I::SqlSystemFunctions => Value::Words(|state| functions(state, Kind::Other)),
        I::SqlSupportsConvert => Value::Conversions,
        I::SqlMaxStatementLength => Value::Count(count(limits.sql_bytes_max)),
        // The protocol writes int32, but the JDBC driver reads an int64 and fails on another.
        I::SqlDefaultTransactionIsolation => {
            Value::Count(i64::from(SqlTransactionIsolationLevel::SqlTransactionNone as i32))
        }
        // No limit of its own.
        I::SqlMaxBinaryLiteralLength
        | I::SqlMaxCharLiteralLength
        | I::SqlMaxColumnNameLength
        | I::SqlMaxColumnsInGroupBy
        | I::SqlMaxColumnsInIndex
        | I::SqlMaxColumnsInOrderBy
        | I::SqlMaxColumnsInSelect
        | I::SqlMaxColumnsInTable
        | I::SqlMaxConnections
        | I::SqlMaxCursorNameLength
        | I::SqlMaxIndexLength
        | I::SqlDbSchemaNameLength
        | I::SqlMaxProcedureNameLength
        | I::SqlMaxCatalogNameLength
        | I::SqlMaxRowSize
        | I::SqlMaxStatements
        | I::SqlMaxTableNameLength
        | I::SqlMaxTablesInSelect
        | I::SqlMaxUsernameLength => Value::Count(0),
        I::FlightSqlServerSql
        | I::FlightSqlServerBulkIngestion
        | I::FlightSqlServerIngestTransactionsSupported
        | I::FlightSqlServerCancel
        | I::SqlDdlTable
        | I::SqlSupportsColumnAliasing
        | I::SqlNullPlusNullIsNull
        | I::SqlSupportsTableCorrelationNames
        | I::SqlSupportsExpressionsInOrderBy
        | I::SqlSupportsOrderByUnrelated
        | I::SqlSupportsLikeEscapeClause
        | I::SqlSupportsNonNullableColumns
        | I::SqlCatalogAtStart
        | I::SqlCorrelatedSubqueriesSupported
        | I::SqlMaxRowSizeIncludesBlobs
        | I::SqlBatchUpdatesSupported => Value::Bool(true),
        I::FlightSqlServerReadOnly
        | I::FlightSqlServerSubstrait
        | I::SqlDdlCatalog
        | I::SqlDdlSchema
        // A table whose right has ended is listed, but selecting from it is refused.
        | I::SqlAllTablesAreSelectable
        | I::SqlSupportsDifferentTableCorrelationNames
        // Keys are documentation: nothing enforces them.
        | I::SqlSupportsIntegrityEnhancementFacility
        | I::SqlSelectForUpdateSupported
        | I::SqlStoredProceduresSupported
        // Transactions are begun and ended by actions, not in SQL; the JDBC driver, which reads
        // this one, has commits that do nothing.
        | I::SqlTransactionsSupported
        | I::SqlDataDefinitionCausesTransactionCommit
        | I::SqlDataDefinitionsInTransactionsIgnored
        | I::SqlSavepointsSupported
        | I::SqlNamedParametersSupported
        | I::SqlLocatorsUpdateCopy
        | I::SqlStoredFunctionsUsingCallSyntaxSupported => Value::Bool(false),
        I::FlightSqlServerTransaction
        | I::SqlIdentifierCase
        | I::SqlQuotedIdentifierCase
        | I::SqlNullOrdering
        | I::SqlSupportedGroupBy
        | I::SqlSupportedGrammar
        | I::SqlAnsi92SupportedLevel
        | I::SqlOuterJoinsSupportLevel
        | I::SqlSchemasSupportedActions
        | I::SqlCatalogsSupportedActions
        | I::SqlSupportedPositionedCommands
        | I::SqlSupportedSubqueries
        | I::SqlSupportedUnions
        | I::SqlSupportedTransactionsIsolationLevels
        | I::SqlSupportedResultSetTypes
        | I::SqlSupportedConcurrenciesForResultSetUnspecified
        | I::SqlSupportedConcurrenciesForResultSetForwardOnly
        | I::SqlSupportedConcurrenciesForResultSetScrollSensitive
        | I::SqlSupportedConcurrenciesForResultSetScrollInsensitive => Value::Bits(bits(info)),
    }
}

/// Ordinals and bit masks; 0 where there is none of a thing.
fn bits(info: SqlInfo) -> i32 {
    /// ANSI 92's entry level, which the crate does not name.
    const ANSI92_ENTRY_SQL: i32 = 0;
    let mask = |bits: &[i32]| bits.iter().fold(0, |mask, bit| mask | 1 << bit);
    match info {
        SqlInfo::FlightSqlServerTransaction => SqlSupportedTransaction::Transaction as i32,
        // New names are kept in small letters; existing ones are found whatever their case.
        SqlInfo::SqlIdentifierCase => {
            SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32
        }
        // Quoted names keep their case and are told apart by it, which the protocol has no
        // better word for.
        SqlInfo::SqlQuotedIdentifierCase => {
            SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32
        }
        SqlInfo::SqlNullOrdering => SqlNullOrdering::SqlNullsSortedHigh as i32,
        SqlInfo::SqlSupportedGroupBy => mask(&[
            SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
            SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
        ]),
        SqlInfo::SqlSupportedGrammar => mask(&[SupportedSqlGrammar::SqlMinimumGrammar as i32]),
        SqlInfo::SqlAnsi92SupportedLevel => mask(&[ANSI92_ENTRY_SQL]),
        // The protocol's text says ordinal, but drivers test bits.
        SqlInfo::SqlOuterJoinsSupportLevel => mask(&[
            SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
            SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
        ]),
        SqlInfo::SqlSupportedSubqueries => mask(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
            SqlSupportedSubqueries::SqlSubqueriesInQuantifieds as i32,
        ]),
        SqlInfo::SqlSupportedUnions => mask(&[
            SqlSupportedUnions::SqlUnion as i32,
            SqlSupportedUnions::SqlUnionAll as i32,
        ]),
        SqlInfo::SqlSupportedTransactionsIsolationLevels => mask(&[
            SqlTransactionIsolationLevel::SqlTransactionNone as i32,
            SqlTransactionIsolationLevel::SqlTransactionReadCommitted as i32,
        ]),
        SqlInfo::SqlSupportedResultSetTypes => {
            mask(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32])
        }
        SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly => {
            mask(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32])
        }
        _ => 0,
    }
}

/// How long an unused prepared statement is kept for sure.
fn handle_timeout_ms() -> i32 {
    i32::try_from(IDLE_MAX.as_millis()).unwrap_or(i32::MAX)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Int32Type, Int64Type, UInt32Type};
    use arrow_flight::sql::SqlSupportsConvert;
    use datafusion::prelude::SessionContext;

    use crate::error::ErrorKind;

    /// Codes that version 59 of the protocol's crate declares, counted in its source.
    const CODES: usize = 91;

    fn state() -> SessionState {
        SessionContext::new().state()
    }

    fn ask(codes: &[u32]) -> RecordBatch {
        answer(codes, &state(), &Limits::default()).expect("known codes")
    }

    /// The value of one code, and which child of the union holds it.
    fn one(info: SqlInfo) -> (i8, ArrayRef) {
        let batch = ask(&[info as u32]);
        assert_eq!(batch.num_rows(), 1);
        let union = batch.column(1).as_union();
        (union.type_id(0), union.value(0))
    }

    fn words(info: SqlInfo) -> Vec<String> {
        let (kind, value) = one(info);
        assert_eq!(kind, 4, "{info:?} is a list");
        let list = value.as_list::<i32>().value(0);
        list.as_string::<i32>()
            .iter()
            .flatten()
            .map(str::to_owned)
            .collect()
    }

    fn number(info: SqlInfo) -> i32 {
        let (kind, value) = one(info);
        assert_eq!(kind, 3, "{info:?} is an int32");
        value.as_primitive::<Int32Type>().value(0)
    }

    #[test]
    fn every_code_has_a_value() {
        let batch = ask(&[]);
        assert_eq!(batch.schema(), layout());
        let codes = batch
            .column(0)
            .as_primitive::<UInt32Type>()
            .values()
            .to_vec();
        assert_eq!(codes.len(), CODES);
        assert!(codes.is_sorted());
        assert_eq!((codes.first(), codes.last()), (Some(&0), Some(&576)));
    }

    #[test]
    fn codes_are_answered_once_in_order_and_unknown_ones_refused() {
        let batch = ask(&[504, 0, 504]);
        assert_eq!(batch.schema(), layout());
        assert_eq!(
            batch
                .column(0)
                .as_primitive::<UInt32Type>()
                .values()
                .to_vec(),
            [0, 504]
        );
        for wrong in [12, 577, 10_000, u32::MAX] {
            let error = answer(&[0, wrong], &state(), &Limits::default()).expect_err("unknown");
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
        }
    }

    /// The classes that the JDBC driver casts to, where it fails on another.
    #[test]
    fn values_have_the_types_that_drivers_read() {
        for code in 541..=561 {
            let info = info(code).expect("a code");
            let expected = if info == SqlInfo::SqlMaxRowSizeIncludesBlobs {
                1
            } else {
                2
            };
            assert_eq!(one(info).0, expected, "{info:?}");
        }
        assert_eq!(one(SqlInfo::SqlDefaultTransactionIsolation).0, 2);
        assert_eq!(one(SqlInfo::SqlSupportsConvert).0, 5);
        assert_eq!(one(SqlInfo::SqlCatalogTerm).0, 0);
        assert_eq!(one(SqlInfo::FlightSqlServerReadOnly).0, 1);
        let joins = number(SqlInfo::SqlOuterJoinsSupportLevel);
        assert_eq!(
            joins >> (SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32) & 1,
            1
        );
        let (_, length) = one(SqlInfo::SqlMaxStatementLength);
        assert_eq!(length.as_primitive::<Int64Type>().value(0), 1 << 20);
        assert_eq!(number(SqlInfo::FlightSqlServerStatementTimeout), 3_600_000);
    }

    #[test]
    fn every_function_is_in_one_list() {
        let lists = [
            SqlInfo::SqlNumericFunctions,
            SqlInfo::SqlStringFunctions,
            SqlInfo::SqlDatetimeFunctions,
            SqlInfo::SqlSystemFunctions,
        ]
        .map(words);
        let holds = |list: usize, name: &str| lists[list].iter().any(|found| found == name);
        assert!(holds(0, "sqrt") && holds(1, "upper") && holds(1, "regexp_like"));
        assert!(holds(2, "date_trunc") && holds(3, "coalesce") && holds(3, "sum"));
        let state = state();
        for name in state.scalar_functions().keys() {
            let places = (0..4).filter(|list| holds(*list, name)).count();
            assert!(places == 1, "`{name}` is in {places} lists");
        }
    }

    #[test]
    fn keywords_are_words_that_need_quotes() {
        let keywords = words(SqlInfo::SqlKeywords);
        assert!(keywords.is_sorted());
        for word in ["SELECT", "FROM", "WHERE", "INSERT", "HAVING"] {
            assert!(keywords.iter().any(|found| found == word), "{word}");
        }
        // Columns of these names are common and need none.
        for word in ["TEXT", "VERSION", "NAME"] {
            assert!(!keywords.iter().any(|found| found == word), "{word}");
        }
    }

    async fn row(sql: &str) -> datafusion::error::Result<String> {
        let batches = SessionContext::new().sql(sql).await?.collect().await?;
        let text = |batch: &RecordBatch| {
            let column = batch.column(0);
            let rows = 0..batch.num_rows();
            rows.map(|row| arrow::util::display::array_value_to_string(column, row))
                .collect::<std::result::Result<Vec<_>, _>>()
        };
        let texts = batches
            .iter()
            .map(text)
            .collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(texts.concat().join(" "))
    }

    /// What is claimed of SQL, tried on the planner.
    #[tokio::test]
    async fn claims_hold() {
        let t = "(VALUES (1), (NULL), (2)) AS t(a)";
        for (sql, expected) in [
            // Nulls sort high.
            (format!("SELECT a FROM {t} ORDER BY a"), "1 2 "),
            (format!("SELECT a FROM {t} ORDER BY a DESC"), " 2 1"),
            // Null concatenated is null.
            ("SELECT ('x' || NULL) IS NULL".into(), "true"),
            // The escape of patterns is the backslash.
            (r"SELECT 'a_b' LIKE 'a\_b' ESCAPE '\'".into(), "true"),
            (r"SELECT 'axb' LIKE 'a\_b' ESCAPE '\'".into(), "false"),
            // Names: unquoted ones fold to lower case, quoted ones keep theirs; extra letters.
            (r#"SELECT A FROM (SELECT 1 AS "a", 2 AS "A")"#.into(), "1"),
            ("SELECT a#@$ FROM (SELECT 3 AS a#@$)".into(), "3"),
            // Grouping by what is not selected, ordering by expressions and the unrelated.
            (
                format!("SELECT count(*) FROM {t} GROUP BY a + 1 ORDER BY a + 1"),
                "1 1 1",
            ),
            // Subqueries: in comparisons, IN, ANY and ALL; correlated EXISTS.
            (
                format!("SELECT a FROM {t} WHERE a = (SELECT max(column1) FROM (VALUES (1), (2)))"),
                "2",
            ),
            (format!("SELECT a FROM {t} WHERE a IN (SELECT 1)"), "1"),
            (
                format!("SELECT a FROM {t} WHERE a = ANY (SELECT * FROM (VALUES (2), (7)))"),
                "2",
            ),
            (
                format!("SELECT a FROM {t} WHERE a < ALL (SELECT * FROM (VALUES (2), (7)))"),
                "1",
            ),
            (
                "SELECT x.a FROM (VALUES (1), (2)) x(a) WHERE EXISTS (SELECT 1 FROM \
                 (VALUES (2)) y(a) WHERE y.a = x.a)"
                    .into(),
                "2",
            ),
            ("SELECT 1 UNION SELECT 1".into(), "1"),
            ("SELECT 1 UNION ALL SELECT 1".into(), "1 1"),
            (
                "SELECT count(*) FROM (VALUES (1)) x(a) FULL JOIN (VALUES (2)) y(a) ON x.a = y.a"
                    .into(),
                "2",
            ),
        ] {
            assert_eq!(row(&sql).await.expect(&sql), expected, "{sql}");
        }
    }

    #[tokio::test]
    async fn conversions_are_those_of_cast() {
        let map = conversions();
        assert_eq!(map.len(), 20);
        let converts = |from: SqlSupportsConvert, to: SqlSupportsConvert| {
            map.get(&(from as i32))
                .is_some_and(|targets| targets.contains(&(to as i32)))
        };
        use SqlSupportsConvert as C;
        assert!(converts(C::SqlConvertVarchar, C::SqlConvertInteger));
        assert_eq!(
            row("SELECT CAST('1' AS INTEGER)").await.expect("casts"),
            "1"
        );
        assert!(!converts(C::SqlConvertDate, C::SqlConvertBit));
        assert!(
            row("SELECT CAST(DATE '2026-01-31' AS BOOLEAN)")
                .await
                .is_err()
        );
    }
}
