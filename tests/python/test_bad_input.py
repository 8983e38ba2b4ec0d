"""Bad input: each a clear error of the right status, and the server alive."""

import socket
import subprocess
import time
import urllib.request

import pyarrow as pa
import pytest

from bad_input import Calls, Field, Watch, change, data, message, parts, text, ticket_of
from conftest import any_message, binary, statement_query


@pytest.mark.parametrize("account, password", [
    ("researcher", "wrong"), ("nobody", "nobody-demo"), ("researcher", ""),
    ("researcher", "hubpat_aaaaaaaaaaaaaaaa_bbbbbbbb"),
])
def test_wrong_logins_read_alike(hub, account, password):
    with pytest.raises(Exception) as caught:
        with hub.connect(account, password=password) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert "UNAUTHENTICATED" in str(caught.value)
    assert "not valid" in str(caught.value)


def test_unknown_project(hub):
    with pytest.raises(Exception) as caught:
        hub.query("researcher", "SELECT 1", catalog="linked")
    hidden = str(caught.value)
    with pytest.raises(Exception) as caught:
        hub.query("researcher", "SELECT 1", catalog="linkee")
    assert hidden.replace("linked", "X") == str(caught.value).replace("linkee", "X")


@pytest.mark.parametrize("sql, status", [
    ("SELEC 1", "INVALID_ARGUMENT"),
    (" ", "INVALID_ARGUMENT"),
    ("SELECT 1; SELECT 2", "INVALID_ARGUMENT"),
    ("SELECT nothing FROM snds.t_mco_b", "INVALID_ARGUMENT"),
    ("SELECT * FROM snds.nothing", "NOT_FOUND"),
    ("SELECT * FROM nothing.at.all", "NOT_FOUND"),
    ("SELECT CAST(dgn_pal AS INT) FROM snds.t_mco_b", "INVALID_ARGUMENT"),
    ("SELECT 1 / 0", "INVALID_ARGUMENT"),
    ("SELECT ecg_rpeaks('text', 500)", "INVALID_ARGUMENT"),
    ("SELECT ecg_rpeaks(fs => 500)", "INVALID_ARGUMENT"),
    ("SELECT dicom_window(nothing => 1)", "INVALID_ARGUMENT"),
    ("COPY (SELECT 1) TO '/tmp/hubflight-leak.csv'", "INVALID_ARGUMENT"),
    ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "INVALID_ARGUMENT"),
    ("SELECT * FROM '/etc/passwd'", "NOT_FOUND"),
    ("SET datafusion.execution.batch_size = 1", "INVALID_ARGUMENT"),
    ("EXPLAIN ANALYZE SELECT 1", "INVALID_ARGUMENT"),
    ("SELECT * FROM information_schema.df_settings", "NOT_FOUND"),
    ("DELETE FROM snds.t_mco_b", "INVALID_ARGUMENT"),
    ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "INVALID_ARGUMENT"),
    ("SELECT '" + "x" * 2_000_000 + "'", "INVALID_ARGUMENT"),
])
def test_statements_that_cannot_run(hub, sql, status):
    found, text = hub.error("researcher", sql)
    assert found == status, text
    for inner in ("DataFusion", "panicked", "/data/", ".parquet", "Arrow error"):
        assert inner not in text
    assert hub.query("researcher", "SELECT 1 AS alive")["alive"][0].as_py() == 1


def test_a_huge_text_and_an_empty_one(hub):
    rows = hub.query("hospital", "SELECT text_deidentify(repeat('M. Dupont habite ici. ', 20000)) AS v")
    assert "Dupont" not in rows["v"][0].as_py()


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        ended = subprocess.run(
            [binary("flight-server"), "demo", "--once", "--dir", str(tmp_path / "d"), "--scale", "0.01",
             "--flight-addr", address, "--http-addr", "127.0.0.1:0", "--worker-addr", "127.0.0.1:0"],
            capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert address in ended.stderr


def test_a_configuration_with_an_unknown_key_is_refused(tmp_path):
    file = tmp_path / "hub.toml"
    file.write_text("[server]\nflihgt = '127.0.0.1:0'\n")
    ended = subprocess.run(
        [binary("flight-server"), "serve", "--config", str(file)], capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "flihgt" in ended.stderr and "hub.toml" in ended.stderr


def test_http_pages(hub):
    def get(path):
        with urllib.request.urlopen(f"http://{hub.http}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()

    assert get("/healthz")[0] == 200
    assert get("/readyz")[0] == 200
    status, page = get("/")
    assert status == 200
    for needle in (hub.flight, "jdbc:arrow-flight-sql", "adbc_driver_flightsql", "useEncryption=false"):
        assert needle in page
    status, metrics = get("/metrics")
    assert status == 200 and "hubflight_" in metrics
    with pytest.raises(urllib.error.HTTPError):
        get("/etc/passwd")


# --- size ---

@pytest.fixture()
def calls(hub):
    made = Calls(hub)
    yield made
    made.close()


@pytest.mark.parametrize("sql", [
    "SELECT '" + "x" * (10 << 20) + "'", "(" * (10 << 20), "SELECT 1;" * (1 << 20), "SELECT '" + "é" * (16 << 20) + "'",
], ids=lambda sql: sql[:8])
def test_ten_megabytes_of_sql_are_refused_before_they_are_read(hub, calls, sql):
    began = time.monotonic()
    with Watch(hub, 400):
        for answer in (change(calls, sql), calls.act(
                "CreatePreparedStatement", any_message("ActionCreatePreparedStatementRequest", message(text(1, sql))))):
            assert answer.code == "INVALID_ARGUMENT" and f"{len(sql.encode())} bytes" in answer.text, answer
        # More than a descriptor of SQL can have.
        for long in (sql, "x" * (65 << 20)):
            answer = calls.info(statement_query(long))
            assert answer.code == "INVALID_ARGUMENT" and "GetFlightInfo" in answer.text and "too large" in answer.text, answer
        # The largest message that is read at all.
        answer = calls.act("CancelFlightInfo", bytes(65 << 20))
        assert answer.code == "OUT_OF_RANGE" and "too large" in answer.text, answer
    assert time.monotonic() - began < 15


MANY = 100_000
LISTED = "SELECT count(*) AS n FROM (SELECT 7 AS a) WHERE a IN (" + ", ".join("?" * MANY) + ")"
VALUED = "SELECT count(*) AS n FROM (VALUES " + ", ".join(["(?)"] * MANY) + ") AS v(a) WHERE a IS NOT NULL"


def bound(calls, handle, count):
    row = pa.record_batch([pa.array([index]) for index in range(count)], names=[""] * count)
    command = any_message("CommandPreparedStatementQuery", message(Field(1, handle)))
    told = calls.send("DoPut", data(command=command), *(data(*one) for one in parts(row)))
    return told if told.code != "OK" else calls.info(command)


@pytest.mark.parametrize("sql", [LISTED, VALUED], ids=["IN", "VALUES"])
def test_a_hundred_thousand_parameters_are_bound_or_refused_by_their_number(hub, calls, sql):
    with Watch(hub, 1_500):
        began = time.monotonic()
        handle = calls.prepare(sql)
        unbound = calls.run(sql)
        assert unbound.code == "INVALID_ARGUMENT" and "parameter" in unbound.text, unbound
        for wrong in (MANY - 1, 1):
            answer = bound(calls, handle, wrong)
            assert answer.code == "INVALID_ARGUMENT" and f"{MANY} parameters" in answer.text, answer
        answer = bound(calls, handle, MANY)
        assert answer.code == "OK", answer
        answer = calls.redeem(ticket_of(answer.replies[0]))
        assert answer.code == "OK" and len(answer.replies) == 2, answer
        # Three rows of them are more values than may be bound.
        rows = pa.record_batch([pa.array([1, 2, 3])] * MANY, names=[""] * MANY)
        command = any_message("CommandPreparedStatementQuery", message(Field(1, handle)))
        answer = calls.send("DoPut", data(command=command), *(data(*one) for one in parts(rows)))
        assert answer.code == "RESOURCE_EXHAUSTED" and "values" in answer.text, answer
        assert time.monotonic() - began < 40


@pytest.mark.parametrize("rows, columns", [(10_000, 20), (1_000, 100), (1, 2_000)])
def test_parameters_count_by_their_bytes_and_not_by_those_of_their_message(hub, calls, rows, columns):
    """Columns share the body of the message that they came in, which was counted for each of them."""
    handle = calls.prepare("SELECT " + ", ".join("?" * columns))
    batch = pa.record_batch([pa.array([f"a text of some thirty bytes {index}" for index in range(rows)])] * columns, names=[""] * columns)
    sent = parts(batch)
    assert sum(len(body) for _, body in sent) < 8 << 20
    command = any_message("CommandPreparedStatementQuery", message(Field(1, handle)))
    answer = calls.send("DoPut", data(command=command), *(data(*one) for one in sent))
    assert answer.code == "OK", answer


@pytest.mark.parametrize("name", ["$1001", "$100000", "$18446744073709551616", "$0", "$-1", "$a"])
def test_parameters_beyond_those_that_are_numbered(hub, calls, name):
    answer = calls.run(f"SELECT {name}")
    assert answer.code == "INVALID_ARGUMENT" and ("placeholder" in answer.text or "parameter" in answer.text), answer


def wide(part, head="SELECT ", tail="", bytes_max=(1 << 20) - 100):
    """As many parts as fit in the longest statement."""
    made, size = [], len(head) + len(tail)
    while size < bytes_max:
        made.append(part(len(made)))
        size += len(made[-1]) + 1
    return head + ",".join(made[:-1]) + tail


# What the planner would take minutes and gigabytes for: parts, and what stands around them.
WIDE = {
    "columns": (lambda i: f"1 a{i}",), "columns of a table": (lambda i: f"dgn_pal a{i}", "SELECT ", " FROM snds.t_mco_b"),
    "the same": (lambda i: "1",), "stars": (lambda i: "*", "SELECT ", " FROM snds.t_mco_b"),
    "stars of a name": (lambda i: "t.*", "SELECT ", " FROM snds.t_mco_b t"), "calls": (lambda i: f"abs({i})",),
    "windows": (lambda i: f"sum({i}) OVER ()",), "sums": (lambda i: f"sum(value+{i})", "SELECT ", " FROM generate_series(1, 3)"),
    "orders": (lambda i: "1", "SELECT dgn_pal FROM snds.t_mco_b ORDER BY "), "parameters": (lambda i: "?",),
    "groups": (lambda i: f"value+{i}", "SELECT count(*) FROM generate_series(1, 3) GROUP BY "),
    "in a view": (lambda i: f"1 a{i}", "WITH v AS (SELECT ", ") SELECT count(*) FROM v"),
    "in a subquery": (lambda i: f"{i}", "SELECT 1 WHERE 1 IN (SELECT a FROM (SELECT 1 AS a) ORDER BY ", ")"),
    "many lists": (lambda i: f"(SELECT {'1, ' * 999}1) t{i}", "SELECT 1 FROM ", "", 1 << 19),
    "a cube": (lambda i: f"c{i}", "SELECT count(*) FROM snds.t_mco_b GROUP BY CUBE (", ")", 200),
    "cubes": (lambda i: "CUBE (a, b)", "SELECT count(*) FROM (SELECT 1 a, 2 b) GROUP BY ", "", 300),
}


@pytest.mark.parametrize("what", WIDE)
def test_a_statement_of_a_million_columns_is_refused_at_once(hub, calls, what):
    sql = wide(*WIDE[what])
    # A million tokens and what the parser makes of them.
    with Watch(hub, 800):
        began = time.monotonic()
        answer = calls.run(sql)
        seconds = time.monotonic() - began
    assert answer.code == "INVALID_ARGUMENT" and ("items" in answer.text or "grouping sets" in answer.text), answer
    assert seconds < 30


def steps(step, times, inner):
    """An expression in which `step` is nested."""
    for _ in range(times):
        inner = step.replace("{}", inner)
    return inner


def test_what_is_written_twice_again_and_again_is_refused_at_once(hub, calls):
    """Thirty steps that the optimiser writes out at each use would be all memory."""
    def nested(step, times=30):
        return f"SELECT count(*) AS n FROM snds.ir_ben_r WHERE {steps(step, times, 'ben_sex_cod = 1')}"

    computed = "WITH q0 AS (SELECT ben_sex_cod = 1 AS b, ben_sex_cod = 2 AS c FROM snds.ir_ben_r)"
    for step in range(30):
        computed += f", q{step + 1} AS (SELECT (b AND c) OR (NOT b AND NOT c) AS b, c FROM q{step})"
    with Watch(hub):
        for sql in (nested("(({}) BETWEEN false AND (ben_sex_cod = 2))"), nested("coalesce({}, ben_sex_cod = 2)"),
                    nested("(abs(coalesce(({})::INT, 0)) = 1)", 10), nested("(date_part('year', to_date((({})::INT)::TEXT, '%Y')) IN (1, 2, 3))", 10),
                    nested("CASE WHEN {} THEN ben_sex_cod = 2 ELSE ben_sex_cod = 1 END"),
                    nested("((({})::TEXT) ~ 'foo|bar|baz|quux')"), f"{computed} SELECT count(*) AS n FROM q30 WHERE b",
                    f"{computed} SELECT count(*) AS n FROM q30 WHERE EXISTS (SELECT 1 FROM snds.ir_ben_r t WHERE (t.ben_sex_cod = 1) = q30.c AND q30.b)"):
            answer = calls.run(sql)
            assert answer.code == "INVALID_ARGUMENT" and "parts" in answer.text, (sql, answer)
        for sql in (nested("(({}) IS DISTINCT FROM (ben_sex_cod = 2))"), f"{computed} SELECT count(b) AS n FROM q30"):
            assert calls.run(sql).code == "OK", sql


# What the parser reads, or the planner looks at, twice as often at each step: hours at thirty.
LOOKED_AT = {
    "a call of another name": ("length(({})::TEXT)", "1"), "rows in a row": ("row({})", "1"), "a power": ("pow({}, 1)", "1"),
    "types of cases": ("abs(CASE WHEN true THEN {} ELSE 0 END)", "1"), "conditions of cases": ("CASE WHEN ({})::INT = 1 THEN 1 END", "1"), "subqueries": ("(SELECT {})", "1"), "extremes": ("(SELECT max({}))", "1"),
    "any of it": ("(1 = ANY (SELECT {} FROM (VALUES (1)) v(z)))::INT", "1"), "a list": ("(1 IN (SELECT {} FROM (VALUES (1)) v(z)))::INT", "1"),
    "casts and an error": ("CAST({} AS INT)", "1 +"), "places and an error": ("position({} IN 'a')", "'a' ||"),
    "floors and an error": ("(floor(CAST({} AS DOUBLE)) = 1)", "1 +"), "negations and an error": ("NOT ({})", "1 +"),
    "tables and an error": ("(SELECT 1 FROM (SELECT {}) s)", "1 +"), "joins and an error": ("(SELECT 1 FROM ((SELECT {}) s))", "1 +"),
    "arrays and an error": ("ARRAY[{}]", "1 +"), "dots and an error": ("a.{}", "[1 +]", 60), "intervals and an error": ("INTERVAL {}", ")"), "more than the parser's own limit": ("convert({}, INT)", "1", 135),
}


@pytest.mark.parametrize("what", LOOKED_AT)
def test_what_is_looked_at_again_and_again_is_refused_at_once(hub, calls, what):
    step, inner, *times = LOOKED_AT[what]
    with Watch(hub):
        began = time.monotonic()
        answer = calls.run(f"SELECT {steps(step, times[0] if times else 30, inner)} AS a")
        assert answer.code == "INVALID_ARGUMENT", answer
        # Or the mistake itself, where it is told in time.
        assert any(said in answer.text for said in ("nested too deep", "nested so deep", "parser error")), answer
        assert time.monotonic() - began < 20
        # A few of them are no trouble.
        answer = calls.run(f"SELECT {steps(step, 4, inner)} AS a")
    assert answer.code in ("OK", "INVALID_ARGUMENT") and " deep" not in answer.text, answer


# Long, and no more than that.
FITS = {
    "a list of numbers": (lambda i: f"{i}", "SELECT 1 AS a WHERE 1 IN (", ")"), "a row": (lambda i: f"{i}", "VALUES (", ")"),
    "rows": (lambda i: f"({i})", "VALUES "), "arguments": (lambda i: "'a'", "SELECT octet_length(concat(", "))", 400_000),
    "items": (lambda i: "1", "SELECT array_length([", "])", 200_000), "a comment": (lambda i: "x" * 1_000, "SELECT 1 /*", "*/"),
    "a name": (lambda i: "x" * 1_000, 'SELECT 1 AS "', '"'), "a text": (lambda i: "x" * 1_000, "SELECT octet_length('", "')"),
    "columns": (lambda i: f"{i} AS c{i}", "SELECT ", "", 30_000),
    "a cube": (str, f"SELECT count(*) FROM (SELECT 1 AS {', 1 AS '.join('abcdefghijkl')}) GROUP BY CUBE ({', '.join('abcdefghijkl')})", "", 0),
}


@pytest.mark.parametrize("what", FITS)
def test_a_statement_of_a_megabyte_runs_where_its_lists_are_values(hub, calls, what):
    sql = wide(*FITS[what])
    with Watch(hub, 1_000):
        answer = calls.run(sql)
    assert answer.code == "OK" and len(answer.replies) >= 2, (answer.code, answer.text)


def test_modifiers_of_groups_are_not_passed_over(hub, calls):
    """The planner does not know them, and would answer as if they were not there."""
    answer = calls.run("SELECT a, count(*) AS n FROM (SELECT 1 AS a) GROUP BY a WITH ROLLUP")
    assert answer.code == "INVALID_ARGUMENT" and "ROLLUP (" in answer.text, answer
    answer = calls.run("SELECT a, count(*) AS n FROM (SELECT 1 AS a) GROUP BY ROLLUP (a)")
    assert answer.code == "OK", answer
