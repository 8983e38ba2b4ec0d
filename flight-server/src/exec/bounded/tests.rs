use arrow::record_batch::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;

use super::account::Account;
use super::*;
use crate::error::ErrorKind;
use crate::exec::functions::with_permitted_functions;
use crate::exec::watched::{batch_rows, watched};

fn session() -> SessionContext {
    let builder = with_permitted_functions(SessionStateBuilder::new());
    SessionContext::new_with_state(builder.build())
}

async fn one(sql: &str) -> crate::error::Result<String> {
    let context = session();
    let batches = context.sql(sql).await?.collect().await?;
    let column = batches[0].column(0);
    let shown = arrow::util::display::array_value_to_string(column, 0)?;
    Ok(shown)
}

#[tokio::test]
async fn what_would_be_too_large_is_refused_before_it_is_made() {
    for sql in [
        "SELECT octet_length(repeat('x', 2000000000))",
        "SELECT octet_length(repeat(v, 100000000)) FROM (VALUES ('ab'), ('c')) t(v)",
        "SELECT octet_length(lpad('x', 2147483647, 'y'))",
        "SELECT octet_length(rpad('x', 2147483647))",
        "SELECT cardinality(range(0, 2000000000))",
        "SELECT cardinality(range(2000000000))",
        "SELECT cardinality(generate_series(9223372036854775807, 0, -3))",
        "SELECT cardinality(range(TIMESTAMP '2020-01-01', TIMESTAMP '2021-01-01', INTERVAL '1 millisecond'))",
        "SELECT cardinality(generate_series(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 day')) + cardinality(range(10000000))",
        "SELECT cardinality(array_repeat(1, 2000000000))",
        "SELECT cardinality(array_repeat('', 2000000000))",
        "SELECT cardinality(list_repeat(array_repeat(1, 100000), 100000))",
        "SELECT cardinality(array_resize([1], 2000000000, 7))",
        "SELECT octet_length(replace(repeat('x', 1000000), 'x', repeat('y', 1000000)))",
        "SELECT octet_length(regexp_replace(repeat('x', 1000000), 'x', repeat('y', 1000000), 'g'))",
        "SELECT octet_length(regexp_replace(repeat('x', 4000000), '.', 'yyyyyyyy', 'g'))",
        "SELECT octet_length(concat(v, v, v)) FROM (SELECT repeat('x', 10000000) AS v)",
        "SELECT octet_length(concat_ws(v, '', '', '')) FROM (SELECT repeat('x', 10000000) AS v)",
        "SELECT octet_length(array_to_string(range(1000000), repeat('x', 1000000)))",
    ] {
        let error = one(sql).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{sql}: {error}");
    }
    let both_ways =
        "SELECT range(DATE '2020-01-01', DATE '2020-02-01', INTERVAL '1 month -31 days')";
    let error = one(both_ways).await.expect_err(both_ways);
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn what_is_of_usual_size_is_made() {
    for (sql, expected) in [
        ("SELECT repeat('ab', 3)", "ababab"),
        ("SELECT octet_length(repeat('x', 16777216))", "16777216"),
        ("SELECT repeat('x', -1)", ""),
        ("SELECT repeat(NULL, 3) IS NULL", "true"),
        ("SELECT lpad('7', 3, '0')", "007"),
        ("SELECT rpad('é', 3, 'à')", "éàà"),
        ("SELECT range(3)", "[0, 1, 2]"),
        ("SELECT range(3, 0)", "[]"),
        ("SELECT generate_series(5, 1, -2)", "[5, 3, 1]"),
        (
            "SELECT cardinality(range(DATE '2020-01-01', DATE '2021-01-01', INTERVAL '1 month'))",
            "12",
        ),
        (
            "SELECT cardinality(generate_series(DATE '1900-01-01', DATE '2100-01-01', INTERVAL '1 day'))",
            "73050",
        ),
        ("SELECT array_repeat('x', 2)", "[x, x]"),
        ("SELECT array_resize([1], 2, 7)", "[1, 7]"),
        ("SELECT replace('aXbX', 'X', '--')", "a--b--"),
        (
            "SELECT regexp_replace('a1b2', '([0-9])', '<\\1>', 'g')",
            "a<1>b<2>",
        ),
        ("SELECT concat('a', NULL, 'b')", "ab"),
        ("SELECT concat_ws('-', 'a', NULL, 'b')", "a-b"),
        ("SELECT array_to_string([1, NULL, 3], ',', '?')", "1,?,3"),
        (
            "SELECT sum(octet_length(regexp_replace(repeat('x', 50000), 'y', 'zz', 'g') || v)) FROM (SELECT CAST(value AS TEXT) AS v FROM range(5000))",
            "250018890",
        ),
    ] {
        assert_eq!(one(sql).await.expect(sql), expected, "{sql}");
    }
}

#[test]
fn rows_are_cut_where_they_could_be_too_much() {
    assert!(parts(&[]).is_empty());
    let whole = 0_usize..3;
    assert_eq!(parts(&[1, 2, 3]), [whole]);
    let half = PART_BYTES_MAX / 2 + 1;
    assert_eq!(parts(&[half, half, 1, half]), [0_usize..1, 1..3, 3..4]);
}

#[tokio::test]
async fn a_batch_that_is_made_in_parts_is_the_same() {
    let sql = "SELECT sum(octet_length(regexp_replace(t, '^a', '0123456789', 'g'))) FROM \
               (SELECT repeat('a', 10000) || value AS t FROM range(10000))";
    // 10 000 texts of 10 000 letters and a number, of which one letter became ten.
    assert_eq!(one(sql).await.expect(sql), "100128890");
}

/// A query in which each of so many subqueries does `step` to the column `a` of the one inside.
fn nested(inner: &str, step: &str, depth: usize) -> String {
    (0..depth).fold(inner.to_owned(), |sql, _| {
        format!("SELECT {step} AS a FROM ({sql}) s")
    })
}

/// What doubles its argument ends at a bound, constants and columns alike.
#[tokio::test]
async fn growth_by_nesting_is_refused() {
    const TEXTS: [&str; 2] = [
        "SELECT repeat('x', 100) AS a",
        "SELECT repeat(CAST(value AS TEXT), 100) AS a FROM range(3)",
    ];
    const LISTS: [&str; 2] = [
        "SELECT range(100) AS a",
        "SELECT array_repeat(value, 100) AS a FROM range(3)",
    ];
    const NUMBERS: [&str; 2] = ["SELECT 1 AS a", "SELECT value AS a FROM range(3)"];
    let growing = [
        (TEXTS, "a || a"),
        (TEXTS, "arrow_cast(a, 'LargeUtf8') || a"),
        (TEXTS, "arrow_cast(a, 'Utf8View') || a"),
        (TEXTS, "concat(a, a)"),
        (TEXTS, "encode(CAST(a AS BYTEA), 'hex')"),
        (TEXTS, "overlay(a PLACING a FROM 1 FOR 0)"),
        (TEXTS, "regexp_replace(a, '^(.*)$', '\\1\\1')"),
        (LISTS, "a || a"),
        (LISTS, "array_concat(a, a)"),
        (LISTS, "flatten([a, a])"),
        (NUMBERS, "make_array(a, a)"),
        (NUMBERS, "[a, a]"),
    ];
    for (inners, step) in growing {
        for inner in inners {
            let sql = nested(inner, step, 22);
            let error = one(&sql).await.expect_err(step);
            let kind = error.kind;
            assert_eq!(kind, ErrorKind::ResourceExhausted, "{step}: {error}");
        }
    }
}

/// Types double too, and are computed before any value is.
#[tokio::test]
async fn types_that_double_are_refused() {
    for step in [
        "struct(a, a)",
        "named_struct('l', a, 'r', a)",
        "{'l': a, 'r': a}",
        "(a, a)",
        "arrays_zip([a], [a])",
        "map(['k'], [struct(a, a)])",
        "map([a], [a])",
        "MAP {a: a}",
    ] {
        let begun = std::time::Instant::now();
        let sql = nested("SELECT 1 AS a", step, 20);
        let error = one(&sql).await.expect_err(step);
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{step}: {error}");
        assert!(
            error.to_string().contains("nested types"),
            "{step}: {error}"
        );
        assert!(begun.elapsed().as_secs() < 20, "{step}");
    }
}

#[tokio::test]
async fn names_and_values_stay_as_they_were() {
    for (sql, expected) in [
        ("SELECT 'a' || 1 || NULL IS NULL", "true"),
        ("SELECT 'a' || 1", "a1"),
        ("SELECT [1] || [2]", "[1, 2]"),
        ("SELECT [1] || 2", "[1, 2]"),
        ("SELECT v || '-' || v FROM (VALUES ('x')) t(v)", "x-x"),
        ("SELECT {'l': 1, 'r': 'x'}['r']", "x"),
        ("SELECT MAP {'l': 1, 'r': 2}['r']", "2"),
        (
            "SELECT octet_length(CASE WHEN v THEN repeat('x', 100000) ELSE 'y' END) \
             FROM (VALUES (true), (false)) t(v)",
            "100000",
        ),
        (
            "SELECT sum(octet_length(a)) FROM (SELECT repeat('x', 100000) AS a FROM range(100))",
            "10000000",
        ),
    ] {
        assert_eq!(one(sql).await.expect(sql), expected, "{sql}");
    }
    let batches = session()
        .sql("SELECT v || 'x', upper(v || v) FROM (VALUES ('a')) t(v)")
        .await
        .expect("planned")
        .collect()
        .await
        .expect("runs");
    let schema = batches[0].schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["t.v || Utf8(\"x\")", "upper(t.v || t.v)"]);
}

fn session_of(account: Account) -> SessionContext {
    let context = session();
    set(&context, account);
    context
}

fn set(context: &SessionContext, account: Account) {
    let state = context.state_ref();
    let mut state = state.write();
    state.config_mut().options_mut().extensions.insert(account);
}

/// Of table functions, which make their rows as the plan was made.
fn set_rows(context: &SessionContext, rows: usize) {
    let state = context.state_ref();
    let mut state = state.write();
    let config = state.config().clone().with_batch_size(rows);
    *state.config_mut() = config;
}

/// Together: values that are small alone, in many columns or rows.
#[tokio::test]
async fn results_are_in_the_statements_memory_until_they_are_dropped() {
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(64 << 20));
    let run = async |sql: &str| run_in(sql, &pool).await;
    let columns: Vec<String> = (0..20)
        .map(|i| format!("repeat(v, {}) AS c{i}", 1_000 + i))
        .collect();
    let many = format!(
        "SELECT {} FROM (SELECT CAST(value AS TEXT) AS v FROM range(8000))",
        columns.join(", ")
    );
    for sql in [
        many.as_str(),
        "SELECT repeat('x', 1000000) AS a FROM range(8000)",
        "SELECT CASE WHEN value > 5 THEN repeat('x', 1000000) END AS a FROM range(8000)",
        "SELECT v || v AS a FROM (SELECT repeat(CAST(value AS TEXT), 3000) AS v FROM range(8000))",
    ] {
        let error = run(sql).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{sql}: {error}");
        assert_eq!(pool.reserved(), 0, "{sql}");
    }
    let held = "SELECT repeat(CAST(value AS TEXT), 2000) AS a FROM range(4000)";
    let batches = run(held).await.expect(held);
    assert!(pool.reserved() > 20 << 20, "{}", pool.reserved());
    let slice = batches[0].slice(0, 1);
    drop(batches);
    assert!(pool.reserved() > 20 << 20, "a slice keeps all of it");
    drop(slice);
    assert_eq!(pool.reserved(), 0);
}

#[test]
fn constants_of_one_statement_are_counted_together() {
    let account = Account::planning();
    let mut first = account.reserve("f", 160 << 10).expect("fits");
    assert!(account.reserve("f", 100 << 10).is_err());
    first.resize(8 << 10).expect("smaller");
    account.reserve("f", 240 << 10).expect("fits");
    assert!(account.reserve("f", 100 << 10).is_err(), "never given back");
}

/// DataFusion drops a projection that looks like the one beneath it.
#[tokio::test]
async fn a_step_that_is_written_twice_is_taken_twice() {
    for (inner, step, expected) in [
        ("SELECT 1 AS a", "a + 1", "4"),
        ("SELECT value AS a FROM range(1)", "a + 1", "3"),
        ("SELECT 'x' AS a", "a || a", "xxxxxxxx"),
        (
            "SELECT value AS a FROM range(1)",
            "[a, a]",
            "[[[0, 0], [0, 0]], [[0, 0], [0, 0]]]",
        ),
    ] {
        // Without a name of the subquery, so that both read the same column.
        let sql = nested(inner, step, 3).replace(") s", ")");
        assert_eq!(one(&sql).await.expect(&sql), expected, "{sql}");
        let filtered = format!("SELECT {step} AS a FROM ({inner})");
        let sql = format!("SELECT {step} AS a FROM ({filtered}) WHERE a IS NOT NULL");
        let one_less = one(&nested(inner, step, 2)).await.expect(step);
        assert_eq!(one(&sql).await.expect(&sql), one_less, "{sql}");
    }
}

fn pool_of(bytes: usize) -> Arc<dyn MemoryPool> {
    Arc::new(GreedyMemoryPool::new(bytes))
}

/// Plans and runs a statement the way the engine does.
async fn run_in(sql: &str, pool: &Arc<dyn MemoryPool>) -> crate::error::Result<Vec<RecordBatch>> {
    let context = session_of(Account::planning());
    let environment = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(pool));
    let environment = environment.build_arc()?;
    let plan = context.sql(sql).await?.into_optimized_plan()?;
    let rows = batch_rows(&plan)?;
    set(&context, Account::running(Arc::clone(pool)));
    set_rows(&context, rows);
    // With the options that functions see.
    let state = context.state();
    let planner = state.query_planner();
    let plan = planner.create_physical_plan(&plan, &state).await?;
    let task = TaskContext::default()
        .with_session_config(state.config().clone())
        .with_runtime(environment);
    let batches = collect(watched(plan)?, Arc::new(task)).await?;
    Ok(batches)
}

/// What operators copy or keep without counting it, which took gigabytes.
#[tokio::test]
async fn what_operators_would_make_uncounted_is_refused() {
    const TEXT: &str = "arrow_cast(repeat(CAST(a.value AS TEXT), 16000000), 'LargeUtf8')";
    const CONSTANT: &str = "arrow_cast(repeat('x', 16000000), 'LargeUtf8')";
    let of_text = |sql: &str| {
        let sql = sql.replace("TEXT()", TEXT).replace("CONSTANT()", CONSTANT);
        sql.replace("SMALL()", &format!("'{}'", "x".repeat(30_000)))
    };
    let mut otherwise = Vec::new();
    let separators: Vec<String> = (0..3)
        .map(|at| format!("string_agg(CAST(value + {at} AS TEXT), SMALL())"))
        .collect();
    let separators = format!("SELECT {} FROM range(8192)", separators.join(", "));
    let literals: Vec<String> = (0..12).map(|at| format!("SMALL() AS a{at}")).collect();
    let literals = format!("SELECT {} FROM range(8192)", literals.join(", "));
    let branches: Vec<String> = (0..12)
        .map(|at| format!("CASE WHEN value > {at} THEN SMALL() END AS a{at}"))
        .collect();
    let branches = format!("SELECT {} FROM range(8192)", branches.join(", "));
    let sums: Vec<String> = (0..1_000)
        .map(|at| format!("sum(value + {at}) OVER ()"))
        .collect();
    let sums = format!("SELECT {} FROM range(100000)", sums.join(", "));
    for sql in [
        // A subquery's value in every row.
        "SELECT count(a) FROM (SELECT (SELECT max(TEXT()) FROM range(1) a) || value AS a FROM range(8192))",
        "SELECT count(*) FROM range(8192) b WHERE CAST(b.value AS TEXT) < (SELECT max(TEXT()) FROM range(1) a)",
        // Rows of a join and of UNNEST.
        "SELECT count(octet_length(v) + b.value) FROM (SELECT TEXT() AS v FROM range(1) a) CROSS JOIN range(8192) b",
        "SELECT count(octet_length(v) + b.value) FROM (SELECT TEXT() AS v, a.value AS k FROM range(1) a) x JOIN range(8192) b ON x.k <= b.value",
        "SELECT count(octet_length(v) + u) FROM (SELECT TEXT() AS v, unnest(range(8192)) AS u FROM range(1) a)",
        // One value in many rows, which the next step copies.
        "SELECT count(arrow_cast(v, 'LargeUtf8')) FROM (SELECT arrow_cast(TEXT(), 'Utf8View') AS v FROM range(1) a) CROSS JOIN range(8192) b",
        "SELECT v FROM (SELECT arrow_cast(TEXT(), 'Utf8View') AS v FROM range(1) a) CROSS JOIN range(8192) b ORDER BY v, value LIMIT 1",
        // Constants as arguments.
        "SELECT max(CONSTANT()) FROM range(8192)",
        "SELECT max(arrow_cast(repeat((SELECT 'x'), 16000000), 'LargeUtf8')) FROM range(8192)",
        "SELECT first_value(value ORDER BY CONSTANT()) FROM range(8192)",
        separators.as_str(),
        // Constants as columns.
        "SELECT count(*) FROM range(8192) GROUP BY CONSTANT()",
        "SELECT count(*) FROM range(8192) GROUP BY GROUPING SETS ((CONSTANT()), (value))",
        "SELECT row_number() OVER (PARTITION BY CONSTANT()) FROM range(8192)",
        literals.as_str(),
        branches.as_str(),
        // A constant that is gone through for each row.
        "SELECT sum(array_position(range(1000000), value)) FROM range(8192)",
        "SELECT max(levenshtein(CAST(value AS TEXT), repeat('1', 15000000))) FROM range(8192)",
        "SELECT levenshtein(repeat('a', 1000000), repeat('b', 1000000))",
        "SELECT array_has_any(range(1000000), range(2000000, 3000000))",
        "SELECT max(split_part(repeat('1,', 7000000), ',', CAST(value AS INT) + 1)) FROM range(8192)",
        "SELECT string_agg(CAST(value AS TEXT), repeat('x', 200000)) FROM range(8192)",
        // Windows.
        "SELECT value, count(*) OVER () FROM range(40000000)",
        "SELECT max(c) FROM (SELECT count(*) OVER () AS c FROM range(2000000000))",
        sums.as_str(),
        "SELECT octet_length(max(t) OVER ()) FROM (SELECT repeat('x', CAST(value AS INT)) AS t FROM range(30000))",
    ] {
        let sql = of_text(sql);
        let made = run_in(&sql, &pool_of(512 << 20)).await;
        let kind = made.map_err(|error| error.kind).map(|_| "answered");
        if kind != Err(ErrorKind::ResourceExhausted) {
            otherwise.push(format!("{}: {kind:?}", sql.get(..200).unwrap_or(&sql)));
        }
    }
    assert!(otherwise.is_empty(), "{otherwise:#?}");
    for sql in [
        "SELECT count(*) FROM range(8192) WHERE regexp_like('a', '\\w{100}' || value)",
        "SELECT count(*) FROM range(8192) WHERE 'a' ~ ('\\w{100}' || value)",
        "SELECT count(regexp_replace('a', CAST(value AS TEXT), 'b')) FROM range(8192)",
        "SELECT count(*) FROM range(8192) WHERE 'a' ~ ('\\w{100}' || uuid())",
        "SELECT count(*) FROM range(8192) WHERE regexp_like('a', 'a', 'i)\\w{100}' || value || '(?i')",
        "SELECT count(regexp_match('a', 'a', 'i)' || value)) FROM range(8192)",
        "SELECT count(regexp_replace('a', 'a', 'b', 'i)' || value)) FROM range(8192)",
        "SELECT sum(regexp_count('a', 'a', 1, 'i)' || value)) FROM range(8192)",
        "SELECT sum(regexp_instr('a', 'a', 1, 1, 'i)' || value)) FROM range(8192)",
    ] {
        let error = run_in(sql, &pool_of(512 << 20)).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{sql}: {error}");
    }
}

/// The same statements where there is little of it.
#[tokio::test]
async fn what_operators_make_of_usual_rows_is_made() {
    for (sql, expected) in [
        (
            "SELECT sum(octet_length(a)) FROM (SELECT (SELECT max(repeat('x', 1000))) || value AS a FROM range(10))",
            "10010",
        ),
        (
            "SELECT count(*) FROM range(100) b WHERE CAST(b.value AS TEXT) < (SELECT max(CAST(value AS TEXT)) FROM range(9))",
            "78",
        ),
        (
            "SELECT sum(octet_length(v) + b.value) FROM (SELECT repeat('xy', 1000) AS v FROM range(2)) CROSS JOIN range(1000) b",
            "4999000",
        ),
        (
            "SELECT sum(u) FROM (SELECT repeat('x', 1000) AS v, unnest(range(100)) AS u FROM range(10))",
            "49500",
        ),
        (
            "SELECT sum(u) FROM (SELECT unnest(l) AS u FROM (SELECT unnest([[1, 2], [3]]) AS l))",
            "6",
        ),
        // What reviewers found to be refused without need.
        (
            "SELECT count(u) FROM (SELECT arrow_cast(value, 'Utf8') AS t, unnest(range(60000)) AS u FROM range(256))",
            "15360000",
        ),
        (
            "SELECT max(octet_length(d.t)) FROM (SELECT value % 3 AS k, string_agg(repeat('x', 1000), '') AS t FROM range(600) GROUP BY 1) d JOIN range(3) r ON d.k = r.value",
            "200000",
        ),
        (
            "SELECT max(round((SELECT avg(value) FROM range(4)), 1)) FROM range(10)",
            "1.5",
        ),
        (
            "SELECT cardinality(array_repeat(arrow_cast(CASE WHEN value < 0 THEN 'x' END, 'Dictionary(Int32, Utf8)'), 2)) FROM range(1)",
            "2",
        ),
        (
            "SELECT string_agg(CAST(value AS TEXT), ', ') FROM range(3)",
            "0, 1, 2",
        ),
        (
            "SELECT sum(array_position([5, 6, 7], value)) FROM range(8)",
            "6",
        ),
        (
            "SELECT sum(array_position(range(1000), value)) FROM range(8192)",
            "500500",
        ),
        (
            "SELECT max(levenshtein(CAST(value AS TEXT), repeat('1', 1000))) FROM range(100)",
            "1000",
        ),
        (
            "SELECT max(s) FROM (SELECT sum(value) OVER (PARTITION BY value % 2) AS s FROM range(100000))",
            "2500000000",
        ),
        (
            "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY value) AS n FROM range(100000))",
            "100000",
        ),
        (
            "SELECT max(octet_length(f)) FROM (SELECT first_value(t) OVER (PARTITION BY k ORDER BY t DESC) AS f FROM (SELECT repeat('x', CAST(value AS INT)) AS t, value % 3 AS k FROM range(100)))",
            "99",
        ),
        (
            "SELECT count(*) FROM range(100) WHERE CAST(value AS TEXT) ~ '^1'",
            "11",
        ),
        (
            "SELECT count(*) FROM (SELECT '^1' AS p) CROSS JOIN range(100) WHERE regexp_like(CAST(value AS TEXT), (SELECT '^1'))",
            "11",
        ),
        (
            "SELECT count(*) FROM range(20) WHERE CAST(value AS TEXT) ~ (SELECT min(p) FROM (VALUES ('^1')) t(p))",
            "11",
        ),
        (
            "SELECT max(octet_length(coalesce(CAST(nullif(value, 3) AS TEXT), repeat('x', 40000)))) FROM range(9)",
            "40000",
        ),
        // A subquery that is written twice is a column beneath.
        (
            "SELECT count(*) FROM (SELECT CAST(value AS TEXT) AS a, CAST(value + 1 AS TEXT) AS b FROM range(20)) WHERE a ~ (SELECT min(p) FROM (VALUES ('^1')) t(p)) OR b ~ (SELECT min(p) FROM (VALUES ('^1')) t(p))",
            "13",
        ),
        (
            "SELECT count(*) FROM range(20) WHERE regexp_like(CAST(value AS TEXT), '^1', 'i') AND regexp_replace(CAST(value AS TEXT), '1', CAST(value AS TEXT), 'g') <> ''",
            "11",
        ),
        // Constants that many rows are grouped, sorted and counted by.
        (
            "SELECT count(*) FROM range(100) GROUP BY arrow_cast(repeat('x', 300000), 'LargeUtf8')",
            "100",
        ),
        (
            "SELECT count(*) FROM range(100) GROUP BY ROLLUP (arrow_cast(repeat('x', 300000), 'LargeUtf8'))",
            "100",
        ),
        (
            "SELECT max(n) FROM (SELECT row_number() OVER (PARTITION BY arrow_cast(repeat('x', 300000), 'LargeUtf8') ORDER BY value) AS n FROM range(100))",
            "100",
        ),
        (
            "SELECT octet_length(max((SELECT repeat('x', 100000)))) FROM range(100)",
            "100000",
        ),
        (
            "SELECT max(octet_length(upper((SELECT repeat('x', 200000))))) FROM range(3)",
            "200000",
        ),
        (
            "SELECT sum(octet_length(t) + b.value) FROM (SELECT repeat('x', 100000 + CAST(value AS INT)) AS t FROM range(2)) CROSS JOIN range(1000) b",
            "201000000",
        ),
    ] {
        let batches = run_in(sql, &pool_of(512 << 20)).await.expect(sql);
        let batch = batches
            .iter()
            .find(|batch| batch.num_rows() > 0)
            .expect(sql);
        let shown = arrow::util::display::array_value_to_string(batch.column(0), 0);
        assert_eq!(shown.expect(sql), expected, "{sql}");
    }
}

/// What a join may make of a batch counts with what else the statement holds.
#[tokio::test]
async fn what_a_join_makes_is_in_the_statements_memory() {
    let sql = "SELECT sum(cardinality(v) + b.value) FROM \
               (SELECT array_repeat(value, 300000) AS v FROM range(1)) CROSS JOIN range(8192) b";
    let pool = pool_of(64 << 20);
    let error = run_in(sql, &pool).await.expect_err("64 rows of 2.4 MB");
    assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
    assert_eq!(pool.reserved(), 0);
    let pool = pool_of(512 << 20);
    let batches = run_in(sql, &pool).await.expect(sql);
    let shown = arrow::util::display::array_value_to_string(batches[0].column(0), 0);
    assert_eq!(shown.expect("a value"), "2491150336");
    assert_eq!(pool.reserved(), 0);
}

/// Lists of codes are no columns, however many there are.
#[tokio::test]
async fn a_long_list_of_codes_is_compared() {
    let codes: Vec<String> = (0..2_000).map(|code| format!("'{code}'")).collect();
    let sql = format!(
        "SELECT sum(CASE WHEN CAST(value AS TEXT) IN ({}) THEN 1 END) FROM range(5000)",
        codes.join(", ")
    );
    let batches = run_in(&sql, &pool_of(512 << 20)).await.expect("answered");
    let shown = arrow::util::display::array_value_to_string(batches[0].column(0), 0);
    assert_eq!(shown.expect("a value"), "2000");
}

/// Running windows keep what they wait with, and not what they gave.
#[tokio::test]
async fn a_running_window_over_much_is_read_through() {
    let sql =
        "SELECT max(n) FROM (SELECT lag(value) OVER (ORDER BY value) AS n FROM range(20000000))";
    let batches = run_in(sql, &pool_of(256 << 20)).await.expect(sql);
    let shown = arrow::util::display::array_value_to_string(batches[0].column(0), 0);
    assert_eq!(shown.expect(sql), "19999998");
}

#[tokio::test]
async fn batches_of_wide_values_have_fewer_rows() {
    let rows = async |sql: &str| {
        let plan = session().sql(sql).await.expect(sql).into_optimized_plan();
        batch_rows(&plan.expect(sql)).expect(sql)
    };
    for narrow in [
        "SELECT value, 'x' FROM range(5)",
        "SELECT sha256(CAST(value AS TEXT)) FROM range(5)",
        "SELECT value % 3, array_agg(value) FROM range(5) GROUP BY 1",
        "SELECT lead(upper(CAST(value AS TEXT))) OVER (ORDER BY replace(CAST(value AS TEXT), '1', '2')) FROM range(5)",
        "SELECT count(t) FROM (SELECT replace(CAST(value AS TEXT), '1', '2') AS t FROM range(5)) CROSS JOIN range(3)",
    ] {
        assert_eq!(rows(narrow).await, 8192, "{narrow}");
    }
    for wide in [
        "SELECT unnest(range(value, value + 5)) FROM range(5)",
        "SELECT count(l) FROM (SELECT array_repeat(value, 2) AS l FROM range(5)) CROSS JOIN range(3)",
        "SELECT count(t) FROM (SELECT repeat('x', CAST(value AS INT)) AS t FROM range(5)) CROSS JOIN range(3)",
        "SELECT lag(b) OVER () FROM (SELECT CAST(CAST(value AS TEXT) AS BYTEA) AS b FROM range(5))",
        "SELECT count(s) FROM (SELECT struct([value]) AS s FROM range(5)) CROSS JOIN range(3)",
    ] {
        assert!(rows(wide).await < 1_000, "{wide}");
    }
}
