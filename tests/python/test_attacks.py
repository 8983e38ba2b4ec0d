"""Statements and messages made to bring the server down, and what must answer them."""

import re
import time

import pyarrow as pa
import pytest

# Operators that compute, one after the other: about as many as are taken.
DEEP = 990
TOO_DEEP = 300_000


def nested_with(depth):
    return "WITH c AS (" * depth + "SELECT 1 AS x" + ") SELECT * FROM c" * depth


def doubled(levels):
    parts = ["c0 AS (SELECT 1 AS x)"]
    parts += [f"c{i} AS (SELECT a.x FROM c{i - 1} a JOIN c{i - 1} b ON a.x = b.x)" for i in range(1, levels)]
    return f"WITH {', '.join(parts)} SELECT count(*) FROM c{levels - 1}"


@pytest.mark.parametrize("sql", [
    "SELECT 1" + "+1" * TOO_DEEP,
    "SELECT count(*) FROM snds.t_mco_b WHERE " + " OR ".join(["dgn_pal = 'A0'"] * 20_000),
    "SELECT 1" + " UNION ALL SELECT 1" * 40_000,
    "SELECT 1" + "::INT" * 100_000,
    "SELECT 1 WHERE " + "NOT " * 100_000 + "true",
    "SELECT " + "-" * 50_000 + "1",
    "SELECT " + "- " * 100_000 + "1",
    "SELECT " + "(1, " * 50_000 + "1" + ")" * 50_000,
    "SELECT " + "CASE WHEN true THEN " * 20_000 + "1" + " END" * 20_000,
    "SELECT a" + "[1]" * 100_000 + " FROM (SELECT [1] AS a)",
    "SELECT a" + ".b" * 100_000 + " FROM (SELECT 1 AS a)",
    "SELECT 1 FROM " + ", ".join(f"(SELECT 1) t{i}" for i in range(20_000)),
    "SELECT 1 FROM " + " CROSS JOIN ".join(f"(SELECT 1) t{i}" for i in range(5_000)),
    "SELECT 1; " * 50_000,
    "SELECT " + "CASE WHEN a > 1 THEN " * 40 + "1" + " END" * 40 + " FROM (SELECT value AS a FROM generate_series(1, 3))",
    "SELECT " + "coalesce(a, " * 60 + "1" + ")" * 60 + " FROM (SELECT nullif(value, 2) AS a FROM generate_series(1, 3))",
    nested_with(100),
    nested_with(22),
    doubled(40),
    "SELECT octet_length(repeat('x', 2000000000))",
    "SELECT octet_length(lpad('x', 2147483647, 'y'))",
    "SELECT array_length(range(0, 2000000000))",
    "SELECT array_length(array_repeat(1, 2000000000))",
], ids=lambda sql: sql[:24])
def test_a_statement_that_would_exhaust_the_server_is_refused_at_once(hub, sql):
    started = time.monotonic()
    _, text = hub.error("researcher", sql)
    # The gRPC code: ADBC has no status for an exhausted resource.
    assert re.search(r"\((InvalidArgument|ResourceExhausted);", text), text
    assert time.monotonic() - started < 5, text
    assert hub.query("researcher", "SELECT 1 AS alive")["alive"][0].as_py() == 1


@pytest.mark.parametrize("sql, expected", [
    ("SELECT 1" + "+1" * DEEP + " AS v", DEEP + 1),
    ("SELECT count(*) AS v FROM (SELECT 'A1' AS d) WHERE " + " OR ".join(["d = 'A0'"] * 1_300), 0),
    ("SELECT count(*) AS v FROM (SELECT 1" + " UNION ALL SELECT 1" * 1_000 + ")", 1_001),
    ("SELECT count(*) AS v FROM (SELECT 'A1' AS d) WHERE d IN (" + ", ".join(["'A1'"] * 20_000) + ")", 1),
    ("SELECT max(" + "CASE WHEN a < 9 THEN " * 13 + "a" + " END" * 13 + ") AS v FROM (SELECT value AS a FROM generate_series(1, 3))", 3),
    (nested_with(8).replace("SELECT 1 AS x", "SELECT 1 AS v"), 1),
], ids=lambda value: str(value)[:24])
def test_what_is_just_allowed_runs(hub, sql, expected):
    assert hub.query("researcher", sql)["v"][0].as_py() == expected


def bind(hub, sql, batches):
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        cursor.adbc_prepare(sql)
        cursor.adbc_statement.bind_stream(pa.RecordBatchReader.from_batches(batches[0].schema, batches))
        handle, _ = cursor.adbc_statement.execute_query()
        return pa.RecordBatchReader._import_from_c(handle.address).read_all()


def test_a_length_that_a_client_claims_is_not_believed(hub):
    """A compressed buffer begins with its inflated size: a lie there must not be allocated."""
    from pyarrow import flight
    from conftest import any_message, field

    client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    options = flight.FlightCallOptions(
        headers=[client.authenticate_basic_token("researcher", "researcher-demo")],
        write_options=pa.ipc.IpcWriteOptions(compression="lz4"))
    create = any_message("ActionCreatePreparedStatementRequest", field(1, b"SELECT CAST(? AS VARCHAR) AS v"))
    reply = next(iter(client.do_action(flight.Action("CreatePreparedStatement", create), options))).body.to_pybytes()
    # The handle is the first field of the result inside the Any.
    inside = reply[reply.index(b"\x12", reply.index(b"Result")) + 1:]
    size = inside[0] & 127 | (inside[1] << 7 if inside[0] & 128 else 0)
    result = inside[2 if inside[0] & 128 else 1:][:size]
    handle = result[2:2 + result[1]]
    descriptor = flight.FlightDescriptor.for_command(any_message("CommandPreparedStatementQuery", field(1, handle)))
    batch = pa.record_batch({"": pa.array(["x" * 10_000_000])})
    with pytest.raises(pa.ArrowInvalid, match="compressed"):
        writer, reader = client.do_put(descriptor, batch.schema, options)
        writer.write_batch(batch)
        writer.done_writing()
        reader.read()
        writer.close()
    assert bind(hub, "SELECT CAST(? AS VARCHAR) AS v", [pa.record_batch({"a": pa.array(["x"])})])["v"].to_pylist() == ["x"]


def test_placeholders_take_their_values_in_the_order_of_the_text(hub):
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT value AS v FROM generate_series(1, 5) ORDER BY value OFFSET ? LIMIT ?", (1, 3))
        assert cursor.fetch_arrow_table()["v"].to_pylist() == [2, 3, 4]


def test_a_parameter_without_a_type_takes_that_of_its_value(hub):
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        for value in (1, "é", 2.5):
            cursor.execute("SELECT ? AS x", (value,))
            assert cursor.fetch_arrow_table()["x"].to_pylist() == [value]


def test_a_refused_preparation_is_recorded(hub):
    def probes():
        return hub.query("researcher", "SELECT count(*) AS n FROM hub.audit WHERE outcome = 'refused'")["n"][0].as_py()

    before = probes()
    with hub.connect("researcher") as connection, connection.cursor() as cursor, pytest.raises(Exception):
        cursor.adbc_prepare("SELECT * FROM cardio.ecg")
    assert probes() == before + 1


def test_streams_that_nobody_reads_leave_places_for_others(hub):
    endless = "SELECT value, repeat('x', 1000) AS t FROM generate_series(1, 100000000)"
    unread = [hub.stream("hospital", endless) for _ in range(8)]
    started = time.monotonic()
    assert hub.query("researcher", "SELECT 1 AS alive")["alive"][0].as_py() == 1
    assert time.monotonic() - started < 5
    for reader in unread:
        reader.cancel()
    assert hub.query("hospital", "SELECT 1 AS alive")["alive"][0].as_py() == 1
