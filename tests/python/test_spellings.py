"""How R, pandas, SQLAlchemy, DBeaver, Tableau, Power BI and epidemiologists write SQL: each spelling
gives what DuckDB gives in process, or what PostgreSQL documents; what is not to be had says so."""

import datetime as dt
import math
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

VISITS = pa.table({
    "id": pa.array([1, 2, 3, 4, 5, 6], pa.int64()),
    "name": ["Zoé", "Émile", "noël", "Anaïs", "Luc", None],
    "unit": ["CARDIO", "CARDIO", "PNEUMO", "PNEUMO", "ORL", None],
    "born": [dt.date(1950, 1, 31), dt.date(1962, 2, 28), dt.date(1980, 12, 31), dt.date(2000, 2, 29),
             dt.date(2024, 1, 1), None],
    "seen": pa.array([dt.datetime(2024, 3, 31, 1, 30), dt.datetime(2024, 10, 27, 4, 30, 15, 250000),
                      dt.datetime(2023, 12, 31, 23, 59, 59), dt.datetime(2024, 1, 1), dt.datetime(2024, 6, 15, 12),
                      None], pa.timestamp("us")),
    "cost": pa.array([Decimal("10.50"), Decimal("20.25"), None, Decimal("7.00"), Decimal("0.10"), Decimal("3.33")],
                     pa.decimal128(10, 2)),
    "score": [0.5, 1.5, -2.25, None, 100.0, 0.1],
    "tags": pa.array([["a", "b"], ["b"], [], None, ["c", "a", "a"], ["é"]], pa.list_(pa.string())),
    "codes": ["I50,J44", "I50", "", "Z01, J44", None, "x"],
})

# As DuckDB answers them; `T` is the table above.
SAME = r"""
SELECT id::VARCHAR, '12'::int + 1, '2024-02-29'::date, cost::double FROM T
SELECT seen::date, seen::time, seen FROM T ORDER BY id
SELECT count(*), count(*), id, id FROM T GROUP BY id ORDER BY id
SELECT seen::date AS day FROM T WHERE id < 6 ORDER BY date_part('hour', seen)
SELECT seen::date, count(*) FROM T WHERE id < 6 GROUP BY seen ORDER BY max(seen)
SELECT seen::date, count(*) FROM T GROUP BY seen HAVING seen > TIMESTAMP '2024-10-27 04:00:00'
SELECT seen::date FROM T WHERE id < 6 QUALIFY row_number() OVER (ORDER BY date_part('hour', seen) DESC) = 1
SELECT id::VARCHAR AS word FROM T ORDER BY abs(id - 4), id
SELECT id FROM T WHERE name ILIKE 'é%' OR name NOT ILIKE '%A%' ORDER BY id
SELECT name ~ '^[A-Z]', name ~* '^z', name !~ 'o' FROM T ORDER BY id
SELECT name SIMILAR TO '(Z|L).*' FROM T ORDER BY id
SELECT name ~~ 'Z%', name !~~ 'Z%', name ~~* 'z%' FROM T ORDER BY id
SELECT name ^@ 'Z' FROM T ORDER BY id
SELECT DISTINCT ON (unit) unit, id FROM T ORDER BY unit, id DESC
SELECT DISTINCT ON (unit, unit) unit, id FROM T ORDER BY unit, id DESC
SELECT id, unit FROM T QUALIFY row_number() OVER (PARTITION BY unit ORDER BY id) = 1 ORDER BY id
SELECT count(*) FILTER (WHERE cost > 5), sum(cost) FILTER (WHERE unit = 'CARDIO') FROM T
SELECT unit, count(*) FROM T GROUP BY ALL ORDER BY ALL
SELECT unit u, count(*) n FROM T GROUP BY 1 HAVING n > 1 ORDER BY n, u
SELECT a.id FROM T a JOIN T b USING (id) ORDER BY id
SELECT id FROM T a NATURAL JOIN (SELECT id FROM T WHERE id < 3) b ORDER BY id
SELECT a.id, l.n FROM T a CROSS JOIN LATERAL (SELECT count(*) AS n FROM T b WHERE b.unit = a.unit) l ORDER BY 1
SELECT a.id, l.n FROM T a LEFT JOIN LATERAL (SELECT max(b.id) AS n FROM T b WHERE b.unit = a.unit) l ON true ORDER BY 1
SELECT id FROM T a SEMI JOIN (SELECT 1 AS id) b USING (id)
SELECT a.id FROM T a ANTI JOIN (SELECT 1 AS id) b ON a.id = b.id ORDER BY 1
SELECT a.id, b.id FROM T a FULL OUTER JOIN (SELECT 9 AS id) b ON a.id = b.id ORDER BY 1, 2
SELECT EXTRACT(year FROM seen), EXTRACT(DOW FROM born), EXTRACT(isodow FROM born), EXTRACT(epoch FROM seen) FROM T ORDER BY id
SELECT EXTRACT(week FROM born), EXTRACT(quarter FROM born), EXTRACT(doy FROM born) FROM T ORDER BY id
SELECT year(born), month(born), day(born), quarter(born), week(born), dayofweek(born), dayofyear(born) FROM T ORDER BY id
SELECT hour(seen), minute(seen), second(seen), weekday(born), isodow(born), weekofyear(born) FROM T ORDER BY id
SELECT date_part('year', born), date_part('hour', seen), epoch(seen) FROM T ORDER BY id
SELECT dayname(born), monthname(born) FROM T ORDER BY id
SELECT date_trunc('month', seen), datetrunc('week', seen) FROM T ORDER BY id
SELECT date_diff('day', born, DATE '2024-06-01'), date_diff('year', born, DATE '2024-06-01') FROM T ORDER BY id
SELECT datediff('month', born, DATE '2024-06-01'), date_diff('week', born, DATE '2024-06-03') FROM T ORDER BY id
SELECT date_diff('hour', seen, TIMESTAMP '2024-06-01 00:00'), date_diff('quarter', born, DATE '1950-04-01') FROM T ORDER BY id
SELECT age(DATE '2024-06-01', born), age(TIMESTAMP '2024-06-01', TIMESTAMP '2023-01-15') FROM T ORDER BY id
SELECT date_part('year', age(DATE '2024-06-01', born)) FROM T ORDER BY id
SELECT last_day(born) FROM T ORDER BY id
SELECT date_add(seen, INTERVAL 1 MONTH) FROM T ORDER BY id
SELECT strftime(born, '%d/%m/%Y'), strftime(seen, '%Y-%m-%d %H:%M:%S') FROM T ORDER BY id
SELECT strptime('31/12/2023 12:30', '%d/%m/%Y %H:%M')
SELECT make_date(2024, 2, 29), CURRENT_DATE = current_date, now() = CURRENT_TIMESTAMP
SELECT seen + INTERVAL '1' YEAR, seen + INTERVAL '1 month 2 days', seen - INTERVAL 3 DAY, seen - INTERVAL '90 minutes' FROM T ORDER BY id
SELECT born + 1, born - 1, DATE '2024-03-01' - born FROM T ORDER BY id
SELECT TIMESTAMP '2024-03-01 12:00' > seen, '2024-03-01 12:00'::timestamp FROM T ORDER BY id
SELECT seen BETWEEN '2024-01-01' AND '2024-12-31', born > '2000-01-01' FROM T ORDER BY id
SELECT time_bucket(INTERVAL '1 day', seen), time_bucket(INTERVAL '1 week', seen) FROM T ORDER BY id
SELECT time_bucket(INTERVAL '1 mon', seen), time_bucket(INTERVAL '2 yrs', seen), time_bucket(INTERVAL 3 MONTH, seen) FROM T ORDER BY id
SELECT string_agg(name, ', ' ORDER BY id), listagg(name, '; ' ORDER BY id), group_concat(name, ';' ORDER BY id) FROM T
SELECT array_agg(id ORDER BY id DESC), list(id ORDER BY id) FROM T
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY score), percentile_cont(0.25) WITHIN GROUP (ORDER BY id) FROM T
SELECT quantile_cont(score, 0.5), median(score), median(id) FROM T
SELECT stddev(score), stddev_samp(score), stddev_pop(score), variance(score), var_samp(score), var_pop(score) FROM T
SELECT corr(id, score), covar_samp(id, score), regr_slope(score, id), regr_r2(score, id), regr_count(score, id) FROM T
SELECT bool_and(id > 0), bool_or(id > 5), count_if(id > 2), approx_count_distinct(unit) FROM T
SELECT any_value(1), first(unit ORDER BY id), last(name ORDER BY id) FROM T WHERE id < 4
SELECT arg_max(name, id), arg_min(name, id), max_by(name, cost), min_by(name, cost) FROM T
SELECT arg_max(name, cost), max_by(name, -cost), min_by(name, cost) FROM T WHERE cost IS NULL
SELECT max_by(name, cost) FILTER (WHERE unit = 'PNEUMO'), max_by(name, cost) FILTER (WHERE id = 3) FROM T
SELECT count(DISTINCT unit), sum(DISTINCT id % 2), count() FROM T
SELECT regexp_matches(name, '^[A-Z]'), regexp_full_match(name, 'Zo.') FROM T ORDER BY id
SELECT regexp_replace(name, '[éÉ]', 'e', 'g') FROM T ORDER BY id
SELECT regexp_extract(codes, '([A-Z])(\d+)', 2), regexp_extract(codes, '[A-Z]\d+'), regexp_extract(codes, '([A-Z])\d', 1) FROM T ORDER BY id
SELECT regexp_extract(codes, '[[:alpha:](]+'), regexp_extract('a(b]c', '[^](]+\((.)', 1) FROM T ORDER BY id
SELECT string_split('a,b', ','), str_split('a', ','), string_to_array('x y', ' ')
SELECT list_contains(tags, 'a'), array_contains(tags, 'b'), list_has(tags, 'c'), array_length(tags) FROM T WHERE id < 3 ORDER BY id
SELECT tags[1], tags[-1], list_sort(tags), list_position(tags, 'b') FROM T WHERE id < 3 ORDER BY id
SELECT list_has_any(tags, ['b', 'z']), list_has_all(tags, ['a']) FROM T WHERE id < 3 ORDER BY id
SELECT list_value(1, 2), [1, 2, 3], ARRAY[1, 4], list_concat([1], [2]), array_append([1], 2), list_distinct([1, 1])
SELECT list_sum([1, 2, 3]), list_min([3, 1]), list_max([3, 1]), cardinality([1, 2]), array_to_string(['a', 'b'], '-')
SELECT id, unnest(tags) AS tag FROM T ORDER BY 1, 2
SELECT * FROM unnest([1, 2, 3]) AS u(a)
SELECT n FROM generate_series(1, 10, 3) AS g(n)
SELECT n FROM range(3) AS r(n)
SELECT d FROM generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-03', INTERVAL '1 day') AS g(d)
VALUES (1, 'a'), (2, 'b')
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(n, c)
WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT * FROM a UNION ALL SELECT * FROM b ORDER BY x
WITH a(x) AS MATERIALIZED (SELECT 1), b AS NOT MATERIALIZED (SELECT 2) SELECT x FROM a
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT n FROM r
SELECT id, sum(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM T ORDER BY id
SELECT id, sum(id) OVER w, lag(id) OVER w FROM T WINDOW w AS (ORDER BY id) ORDER BY id
SELECT id, count(*) OVER (ORDER BY seen RANGE BETWEEN INTERVAL '30 days' PRECEDING AND CURRENT ROW) FROM T WHERE seen IS NOT NULL ORDER BY id
SELECT id, sum(id) OVER (ORDER BY unit GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM T ORDER BY id
SELECT id, rank() OVER (ORDER BY unit NULLS FIRST), ntile(2) OVER (ORDER BY id), percent_rank() OVER (ORDER BY id) FROM T ORDER BY id
SELECT id, lead(id, 2, 0) OVER (ORDER BY id), last_value(cost IGNORE NULLS) OVER (ORDER BY id) FROM T ORDER BY id
SELECT unit FROM T EXCEPT SELECT 'ORL' ORDER BY 1
SELECT unit FROM T EXCEPT ALL SELECT 'CARDIO' ORDER BY 1
SELECT unit, 1 FROM T INTERSECT ALL SELECT unit, 1 FROM T WHERE id > 1 ORDER BY 1
SELECT * EXCLUDE (name, unit, tags) FROM T ORDER BY id
SELECT * REPLACE (id * 10 AS id) FROM (SELECT id, name FROM T) ORDER BY id
SELECT t.* FROM T t ORDER BY t.id
FROM T SELECT id ORDER BY id
FROM (SELECT 1 AS a)
SELECT id FROM T ORDER BY id FETCH FIRST 2 ROWS ONLY
SELECT id FROM T ORDER BY id OFFSET 2 ROWS FETCH NEXT 1 ROW ONLY
SELECT id FROM T ORDER BY id LIMIT 2 OFFSET 1
SELECT id FROM T ORDER BY id LIMIT ALL OFFSET 4
SELECT name FROM T ORDER BY name NULLS FIRST
SELECT name FROM T ORDER BY name COLLATE "C" DESC NULLS LAST
SELECT id FROM T WHERE unit IS DISTINCT FROM 'CARDIO' AND (unit = 'ORL') IS NOT TRUE ORDER BY id
SELECT COALESCE(name, '?'), NULLIF(unit, 'ORL'), GREATEST(id, 3), LEAST(id, 3), IFNULL(unit, 'x') FROM T ORDER BY id
SELECT if(id > 2, 'a', 'b'), CASE unit WHEN 'ORL' THEN 1 ELSE 0 END FROM T ORDER BY id
SELECT try_cast('x' AS INT), TRY_CAST('12' AS INT), CAST(2 AS TEXT), 't'::bool, true::int
SELECT 1_000_000, x'C3A9', E'a\tb\'c', $$it's$$, $tag$a$b$tag$, 'that''s'
SELECT 1 -- a comment, '
SELECT /* a /* nested */ comment */ 1;
SELECT 12345678901234567890.0123456789, CAST(1.005 AS DECIMAL(9, 3)), '1.10'::DECIMAL(9, 2)
SELECT CAST(1.26 AS DECIMAL(9, 1)) * score FROM T ORDER BY id
SELECT TRY_CAST(1e3 AS DECIMAL(9, 1)), CAST(2e-1 AS DECIMAL(9, 1)), CAST(- -1.5 AS DECIMAL(9, 1))
SELECT 1e3, .5, 2 ^ 3, (2 ^ 3) * 2, 7 % 3, 5 & 3, 5 | 3, 1 << 4
SELECT round(2.567, 2), ceil(1.2), ceiling(1.6), floor(-1.2), mod(7, 3), sign(-3), abs(-2), mod(id, 4) FROM T ORDER BY id
SELECT pow(2, 3), power(2, 0.5), sqrt(2), cbrt(27), ln(2), log10(100), log2(8), exp(1), pi(), degrees(pi())
SELECT score > 0.1, score = 0.1, score * 2.0, score = 0.10000000000000000555 AS same FROM T ORDER BY id
SELECT upper(name), lower(name), length(name), strlen(name), reverse(name) FROM T ORDER BY id
SELECT substr(name, 2, 2), substring(name, 2), left(name, 2), right(name, 2), left(name, -1) FROM T ORDER BY id
SELECT position('o' IN name), strpos(name, 'é'), instr(name, 'l') FROM T ORDER BY id
SELECT trim(BOTH 'x' FROM 'xxaxx'), ltrim('  a'), rtrim('a  '), trim(LEADING '0' FROM '0012')
SELECT lpad('7', 3, '0'), rpad('7', 3, '0'), repeat('ab', 2), replace('aba', 'a', 'c'), translate('abc', 'ab', 'xy')
SELECT split_part('a,b,c', ',', 2), concat('a', NULL, 1), concat_ws('-', 'a', NULL, 'b'), 'a' || 1 || NULL
SELECT starts_with(name, 'Z'), prefix(name, 'Z'), suffix(name, 'l'), contains(name, 'o') FROM T ORDER BY id
SELECT strip_accents(name), lower(strip_accents(name)) = 'zoe' FROM T ORDER BY id
SELECT ascii('é'), chr(233), md5('a'), levenshtein('kitten', 'sitting')
SELECT id, id IN (1, 2) FROM T WHERE id NOT IN (SELECT 3) AND EXISTS (SELECT 1) ORDER BY id
SELECT id FROM T WHERE id = ANY([1, 2]) OR id > ALL (SELECT 5) ORDER BY id
SELECT id FROM T WHERE (id, unit) IN ((1, 'CARDIO'), (2, 'ORL')) ORDER BY id
SELECT unit, count(*), grouping(unit) FROM T WHERE unit IS NOT NULL GROUP BY ROLLUP (unit) ORDER BY 1
SELECT unit, flag, count(*) FROM (SELECT unit, id > 2 AS flag FROM T WHERE unit = 'ORL') GROUP BY CUBE (unit, flag) ORDER BY 1, 2
SELECT DISTINCT unit FROM T ORDER BY unit
SELECT factorial(5), gcd(12, 18), lcm(4, 6), radians(180), atan2(1, 1), gen_random_uuid() IS NOT NULL, random() < 1
SELECT overlay('abcd' PLACING 'xx' FROM 2 FOR 2), POSITION('é' IN 'café') WHERE true
""".strip().splitlines()

# What PostgreSQL documents, where DuckDB has no such spelling or another answer.
DOCUMENTED = [
    ("SELECT to_char(DATE '2024-02-29', 'DD/MM/YYYY'), to_char(TIMESTAMP '2024-02-29 13:05:09', 'HH24:MI:SS')",
     [("29/02/2024", "13:05:09")]),
    ("SELECT to_char(DATE '2024-02-09', 'dd/mm/yyyy'), to_char(TIMESTAMP '2024-02-09 15:05:09', 'FMHH12:MI pm, FMDD FMMonth yy')",
     [("09/02/2024", "3:05 pm, 9 February 24")]),
    ("SELECT to_date('31/12/2023', 'DD/MM/YYYY'), to_timestamp('2023-12-31 10:30', 'YYYY-MM-DD HH24:MI')",
     [(dt.date(2023, 12, 31), dt.datetime(2023, 12, 31, 10, 30))]),
    ("SELECT 0xFF, 0b101, 0o17, 0x1F + 1", [(255, 5, 15, 32)]),
    ("SELECT 7 / 2, -7 / 2, sum(id) / count(*) FROM T", [(3, -3, 3)]),
    ("SELECT substr('abc', -2), btrim('xax', 'x'), initcap('jean-luc')", [("abc", "a", "Jean-Luc")]),
    ("SELECT string_agg(name, ', ') WITHIN GROUP (ORDER BY id) FROM T", [("Zoé, Émile, noël, Anaïs, Luc",)]),
    ("SELECT every(id > 0), regexp_like('abc', 'b'), regexp_count('abab', 'a'), unaccent('Hôtel') FROM T", [(True, True, 2, "Hotel")]),
    ("SELECT regexp_substr('I50,J44', 'J[0-9]+'), regexp_substr('I50', 'J')", [("J44", None)]),
    ("SELECT unit FROM T ORDER BY unit DESC LIMIT 1", [(None,)]),
    ("SELECT encode('é'::bytea, 'hex'), to_hex(255), sha256('a') IS NOT NULL", [("c3a9", "ff", True)]),
    ("SELECT CAST('2024-07-01T12:00:00Z' AS TIMESTAMP WITH TIME ZONE) = TIMESTAMPTZ '2024-07-01 14:00:00+02:00'", [(True,)]),
    ("SELECT date_bin(INTERVAL '15 minutes', TIMESTAMP '2020-02-11 15:44:17', TIMESTAMP '2001-01-01')",
     [(dt.datetime(2020, 2, 11, 15, 30),)]),
    ("SELECT current_schema(), current_database(), CURRENT_CATALOG", [("snds", "readmission", "readmission")]),
    ("SELECT current_user, session_user", [("researcher", "researcher")]),
    ('SELECT id AS "Numéro", name AS PRÉNOM FROM T WHERE id < 3 ORDER BY prénom DESC', [(2, "Émile"), (1, "Zoé")]),
    ("SELECT id FROM T WHERE id = 1 IS DISTINCT FROM true AND id < 3 OR id = 6 ORDER BY id", [(2,), (6,)]),
    ("SELECT id, row_number() OVER (w ORDER BY id) FROM T WINDOW w AS (PARTITION BY unit) ORDER BY id",
     [(1, 1), (2, 2), (3, 1), (4, 2), (5, 1), (6, 1)]),
    ("SELECT id, lag(id) OVER b FROM T WINDOW a AS (PARTITION BY unit), b AS (a ORDER BY id) ORDER BY id",
     [(1, None), (2, 1), (3, None), (4, 3), (5, None), (6, None)]),
    ("SELECT id FROM T WINDOW w AS (PARTITION BY unit ORDER BY id) QUALIFY row_number() OVER w = 2 ORDER BY id", [(2,), (4,)]),
    ("SELECT u.id FROM T u WHERE EXISTS (SELECT 1 FROM (SELECT id::INT FROM T QUALIFY row_number() OVER (ORDER BY id) = 1) q WHERE q.id = u.id)",
     [(1,)]),
    ("SELECT iif(1 > 2, 'a', 'b'), nvl(NULL, 'c'), strftime('%Y', DATE '2024-05-01')", [("b", "c", "2024")]),
]

# What is not to be had, and how the refusal begins.
LACKING = [
    ("SELECT a.id, l.n FROM T a, LATERAL (SELECT a.id * 2 AS n) l", "not available in SQL here"),
    ("SELECT id, u.tag FROM T, unnest(tags) AS u(tag)", "not available in SQL here"),
    ("SELECT id FROM T WHERE id BETWEEN SYMMETRIC 4 AND 2", "SQL: sql parser error"),
    ("SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM T", "Invalid function 'percentile_disc'"),
    ("SELECT mode() WITHIN GROUP (ORDER BY unit) FROM T", "Invalid function 'mode'"),
    ("SELECT regexp_extract_all(codes, '[A-Z]') FROM T", "Invalid function 'regexp_extract_all'"),
    ("SELECT list_transform([1, 2], x -> x * 2)", "Invalid function 'list_transform'"),
    ("SELECT [x * 2 FOR x IN [1, 2]]", "SQL: sql parser error"),
    ("SELECT * RENAME (id AS number) FROM T", "not available in SQL here"),
    ("SELECT COLUMNS('^id') FROM T", "Invalid function 'columns'"),
    ("SELECT id FROM T WHERE (id, unit) IN (SELECT id, unit FROM T)", "Too many columns"),
    ("SELECT id x, x + 1 FROM T", "column `x` does not exist"),
    ("SELECT id FROM T WHERE unit ISNULL", "SQL: sql parser error"),
    ("SELECT * FROM T PIVOT (count(*) FOR unit IN ('ORL'))", "not available in SQL here"),
    ("SELECT ARRAY(SELECT id FROM T)", "Invalid function 'array'"),
    ("SELECT g FROM generate_series(1, 3) g", "column `g` does not exist"),
    ("SELECT name COLLATE \"fr_FR\" FROM T", "not available in SQL here"),
    ("SELECT 2 * 3 ^ 2", "what `^` binds is not clear"),
    ("SELECT time_bucket(INTERVAL '1 month 1 day', seen) FROM T", "`time_bucket` takes an INTERVAL"),
    ("SELECT time_bucket(to_days(1), seen) FROM T", "`time_bucket` takes an INTERVAL"),
    ("SELECT 10 // 4", "not available in SQL here"),
    ("SELECT id NOT IN (SELECT 3) FROM T", "not available in SQL here"),
    ("SELECT format('{}', 1)", "Invalid function 'format'"),
    ("SELECT DISTINCT unit FROM T EXCEPT ALL SELECT unit FROM T", "`EXCEPT ALL` and `INTERSECT ALL` take"),
    ("SELECT ARRAY(SELECT 1) EXCEPT ALL SELECT 1", "`EXCEPT ALL` and `INTERSECT ALL` take"),
    ("SELECT id FROM T TABLESAMPLE BERNOULLI (10)", "`TABLESAMPLE` is not available"),
    ("SELECT id FROM (SELECT id FROM T) q TABLESAMPLE BERNOULLI (10)", "`TABLESAMPLE` is not available"),
    ("SELECT sum(2)(id) FROM T", "`sum` is called with two lists of arguments"),
    ("SELECT to_char(born, 'YYYY Month') FROM T", "pattern `YYYY Month` has letters"),
    ("SELECT to_char(seen, 'HH24hMI') FROM T", "pattern `HH24hMI` has letters"),
    ("SELECT date_format(born, 'yyyy-MM-dd') FROM T", "pattern `yyyy-MM-dd` has letters"),
    ("SELECT max_by(name, (SELECT 1)) FROM T", "`max_by` is by a column"),
    ("SELECT id FROM T FOR UPDATE", "`FOR …` is not available"),
    ("SELECT unit, count(*) FROM T GROUP BY unit WITH ROLLUP", "`GROUP BY … WITH` is not available"),
    ("SELECT sum(id) OVER (w ORDER BY id) FROM T", "window `w` is not defined"),
    ("SELECT seen::date FROM T ORDER BY date_part('hour', seen)", "give the cast a name of its own"),
    ("SELECT a.id::INT FROM T a JOIN T b USING (id) QUALIFY row_number() OVER (ORDER BY id) = 1", "write the column with its table"),
    ("SELECT sum(id) OVER (w PARTITION BY unit) FROM T WINDOW w AS (ORDER BY id)", "a window that begins with `w`"),
    ("SELECT sum(id) OVER w FROM T WINDOW w AS (ORDER BY (SELECT 1))", "window `w` has a query in it"),
    ("SELECT unit, count(*) FROM T GROUP BY ALL WITH ROLLUP", "`GROUP BY ALL WITH` is not available"),
    ("SELECT random() FROM T EXCEPT ALL SELECT 1.0", "`EXCEPT ALL` and `INTERSECT ALL` take"),
    ("TABLE T", "SQL: sql parser error"),
]


def of(sql):
    words = sql.replace("FROM T", "FROM space.visits").replace(" JOIN T ", " JOIN space.visits ")
    return words.replace("TABLE T", "TABLE space.visits")


def plain(value):
    """A value that compares with DuckDB's: numbers of whatever type by what they are worth."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float, Decimal)):
        return "nan" if math.isnan(value) else value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def same(left, right):
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) or isinstance(right, float):
        numbers = all(isinstance(value, (int, float, Decimal)) for value in (left, right))
        return left == right if not numbers else math.isclose(left, right, rel_tol=1e-12)
    return left == right


def rows(table):
    return [plain(row) for row in zip(*(column.to_pylist() for column in table.columns))]


@pytest.fixture(scope="module")
def duck():
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA space")
    connection.register("visits", VISITS)
    connection.execute("CREATE TABLE space.visits AS SELECT * FROM visits")
    return connection


@pytest.fixture(scope="module")
def cursor(hub):
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("visits", VISITS, mode="replace", db_schema_name="space")
        yield cursor
        cursor.execute("DROP TABLE space.visits")


@pytest.mark.parametrize("sql", SAME)
def test_answers_are_duckdbs(cursor, duck, sql):
    cursor.execute(of(sql))
    found = rows(cursor.fetch_arrow_table())
    expected = rows(duck.execute(of(sql)).to_arrow_table())
    assert expected and same(found, expected), f"{found}\n{expected}"


@pytest.mark.parametrize("sql, expected", DOCUMENTED)
def test_answers_are_postgresqls(cursor, sql, expected):
    cursor.execute(of(sql))
    assert same(rows(cursor.fetch_arrow_table()), [plain(row) for row in expected])


@pytest.mark.parametrize("sql, text", LACKING)
def test_what_is_not_to_be_had_says_so(hub, cursor, sql, text):
    status, told = hub.error("researcher", of(sql))
    assert status == "INVALID_ARGUMENT" and text in told, told


def test_a_pattern_that_is_no_constant_is_refused(hub, cursor):
    for sql in ("SELECT regexp_extract(name, codes) FROM T", "SELECT regexp_full_match(name, name) FROM T",
                "SELECT date_diff(unit, born, born) FROM T", "SELECT date_diff('fortnight', born, born) FROM T"):
        status, _ = hub.error("researcher", of(sql))
        assert status == "INVALID_ARGUMENT", sql


def test_a_statement_does_not_grow_by_how_it_is_spelled(hub, cursor):
    """Nothing that is rewritten is written twice: nested calls stay as many as were sent."""
    for call in ("if({} > 0, 1, 2)", "date_diff('day', DATE '2024-01-01', DATE '2024-01-01' + {})", "mod({}, 7)",
                 "length(regexp_extract({}::TEXT, '1'))"):
        sql = "1"
        for _ in range(12):
            sql = call.format(sql)
        cursor.execute(f"SELECT {sql} AS a")
        assert cursor.fetch_arrow_table().num_rows == 1


@pytest.mark.parametrize("sql", [
    "FROM T", "SELECT seen::date, seen::time, count(*), count(*) FROM T GROUP BY ALL", "SELECT id FROM T a SEMI JOIN (SELECT 1 AS id) b USING (id)",
    "SELECT unit FROM T EXCEPT ALL SELECT 'CARDIO'", "SELECT id FROM T ORDER BY ALL FETCH FIRST 2 ROWS ONLY",
    "SELECT 12345678901234567890.0123456789 AS long, 0xFF AS hex, 1_000 AS thousand, 2 ^ 3 AS cube",
    "SELECT max_by(name, cost) AS dear, count_if(id > 2) AS many, listagg(unit, ',') WITHIN GROUP (ORDER BY id) AS units FROM T",
    "SELECT regexp_extract(codes, '([A-Z])(\\d+)', 2) AS digits, to_char(born, 'DD/MM/YYYY') AS day FROM T",
    "SELECT id FROM T WHERE unit IS DISTINCT FROM 'ORL' AND id > 1 OR id = 5", "WITH a AS MATERIALIZED (SELECT 1 AS ÉTÉ) SELECT été FROM a",
])
def test_a_view_keeps_what_was_spelled(cursor, sql):
    """The text of a view is read anew each time."""
    cursor.execute(of(sql))
    expected = sorted(map(repr, rows(cursor.fetch_arrow_table())))
    cursor.execute(f"CREATE OR REPLACE VIEW space.spelled AS {of(sql)}")
    cursor.execute("SELECT * FROM space.SPELLED")
    assert sorted(map(repr, rows(cursor.fetch_arrow_table()))) == expected
    cursor.execute("DROP VIEW space.spelled")
