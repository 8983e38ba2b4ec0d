"""Rows that clients send for a table of the space (CommandStatementIngest): by the drivers that people
use, and by clients that no driver is."""

import datetime
import decimal
import re
import subprocess
import sys
import time

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from conftest import any_message, field, start_demo
from test_protocol import told
from test_revocation import END_SECONDS_MAX, WAYS, write
from test_zones import serve

CREATE, FAIL = 1, 2
EXISTS = {"fail": 1, "append": 2, "replace": 3}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("ingest") / "hub")
    yield running
    running.stop()


def varint(number, value):
    return bytes([number << 3, value])


def ingest(table, missing=CREATE, existing="fail", schema=None, catalog=None, more=b""):
    """The command, written by hand."""
    body = field(1, varint(1, missing) + varint(2, EXISTS[existing])) + field(2, table.encode())
    for number, name in ((3, schema), (4, catalog)):
        body += field(number, name.encode()) if name is not None else b""
    return any_message("CommandStatementIngest", body + more)


class Sender:
    def __init__(self, hub, account, password=None):
        self.client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
        self.header = self.client.authenticate_basic_token(account, password or f"{account}-demo")

    def options(self, **more):
        return flight.FlightCallOptions(headers=[self.header], **more)

    def open(self, command, schema, **more):
        descriptor = flight.FlightDescriptor.for_command(command)
        return self.client.do_put(descriptor, schema, self.options(**more))

    def put(self, command, batches, **more):
        writer, reader = self.open(command, batches[0].schema, **more)
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        answer = reader.read()
        writer.close()
        return answer


def every_type():
    paris = pa.timestamp("us", "Europe/Paris")
    moment = datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc)
    return pa.table({
        "id": pa.array([1, 2, None], pa.int64()), "petit": pa.array([-1, None, 127], pa.int8()),
        "âge": pa.array([3.5, None, float("inf")]), "nom": pa.array(["Zoé", "", None]),
        "vrai": pa.array([True, None, False]), "jour": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1900, 1, 1)]),
        "quand": pa.array([moment, None, moment], paris),
        "prix": pa.array([decimal.Decimal("1234567890.12"), None, decimal.Decimal("-0.01")], pa.decimal128(20, 2)),
        "octets": pa.array([b"\x00\xff", None, b""]), "valeurs": pa.array([[1.0, None], None, []], pa.list_(pa.float32())),
        "point": pa.array([{"x": 1, "y": "a"}, None, {"x": None, "y": None}]),
        "code": pa.array(["I10", "E11", None]).dictionary_encode(),
    })


def plain(table):
    return table.set_column(table.schema.get_field_index("code"), "code", table["code"].cast(pa.string()))


def refused(words, send):
    """Go's driver tells of its stream alone where it still writes when it is refused: it sends again."""
    for _ in range(10):
        with pytest.raises(Exception) as told:
            send()
        if not str(told.value).endswith("EOF (Unknown; FlightSQL.BulkIngest.Execute)"):
            break
    assert words in str(told.value)


def test_what_adbc_sends_comes_back(own):
    sent = every_type()
    with own.connect("hospital") as connection, connection.cursor() as cursor:
        assert cursor.adbc_ingest("types", sent, mode="create") == 3
        seen = own.query("hospital", "SELECT * FROM space.types")
        assert seen.to_pylist() == plain(sent).to_pylist()
        assert seen.schema.equals(plain(sent).schema, check_metadata=False), seen.schema
        refused("exists already", lambda: cursor.adbc_ingest("types", sent, mode="create"))
        assert cursor.adbc_ingest("types", sent, mode="append") == 3
        assert cursor.adbc_ingest("types", sent, mode="create_append", db_schema_name="space") == 3
        assert own.query("hospital", "SELECT count(*) AS n FROM space.types")["n"].to_pylist() == [9]
        assert cursor.adbc_ingest("types", sent.slice(0, 1), mode="replace") == 1
        assert own.query("hospital", "SELECT id FROM space.types")["id"].to_pylist() == [1]
        refused("does not exist", lambda: cursor.adbc_ingest("nothing", sent, mode="append"))
        refused("temporary", lambda: cursor.adbc_ingest("t", sent, mode="create", temporary=True))


def test_polars_pandas_and_duckdb_write_tables(own):
    with own.connect("hospital") as connection:
        frame = pl.DataFrame({"ben": ["a", "b"], "n": [1, 2]})
        assert frame.write_database("space.from_polars", connection, engine="adbc") == 2
        with connection.cursor() as cursor:
            frame = pd.DataFrame({"day": pd.to_datetime(["2024-01-01", None]), "kind": pd.Categorical(["x", "y"])})
            cursor.adbc_ingest("from_pandas", pa.Table.from_pandas(frame), mode="create")
            # A reader: rows that are never together in the client's memory.
            made = duckdb.sql("SELECT range AS n, 'p' || (range % 7) AS person, random() AS x FROM range(300000)")
            rows = made.to_arrow_reader(50_000)
            assert cursor.adbc_ingest("from_duckdb", rows, mode="create") == 300_000
    assert own.query("hospital", "SELECT * FROM space.from_polars ORDER BY n").to_pylist() == [
        {"ben": "a", "n": 1}, {"ben": "b", "n": 2}]
    assert own.query("hospital", "SELECT day, kind FROM space.from_pandas ORDER BY kind").to_pylist() == [
        {"day": datetime.datetime(2024, 1, 1), "kind": "x"}, {"day": None, "kind": "y"}]
    assert own.query("hospital", "SELECT count(*) AS n, sum(n) AS s, count(DISTINCT person) AS p FROM space.from_duckdb"
                     ).to_pylist() == [{"n": 300_000, "s": 299_999 * 150_000, "p": 7}]


def test_it_is_recorded_as_a_change_is(own):
    with own.connect("hospital") as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("traced", pa.table({"a": [1, 2]}), mode="create")
    row = own.query("hospital", "SELECT event, outcome, columns FROM hub.audit WHERE columns LIKE '%space.traced%'").to_pylist()
    assert [one["event"] for one in row] and all("written" in one["columns"] for one in row), row
    # What is refused too, before a row was read.
    before = own.query("hospital", "SELECT count(*) AS n FROM hub.audit WHERE outcome = 'refused'")["n"][0].as_py()
    told(lambda: Sender(own, "visitor").put(ingest("x"), [pa.record_batch({"a": [1]})]))
    told(lambda: Sender(own, "hospital").put(ingest("x", schema="data"), [pa.record_batch({"a": [1]})]))
    after = own.query("hospital", "SELECT count(*) AS n FROM hub.audit WHERE outcome IN ('refused', 'error')")["n"][0].as_py()
    assert after > before


def test_only_the_space_of_ones_own_project_is_written(own):
    rows = [pa.record_batch({"a": [1]})]
    sender = Sender(own, "hospital")
    # The way is open for what is one's own.
    sender.put(ingest("mine", schema="space"), rows)
    assert own.query("hospital", "SELECT a FROM space.mine")["a"].to_pylist() == [1]
    cases = [
        ("t_mco_b", "snds", None), ("new", "snds", None), ("ecg", "cardio", None), ("tables", "hub", None),
        ("tables", "information_schema", None), ("x", "exports", None), ("x", "sample", None), ("x", "nothing", None),
        ("mine", "space", "readmission"), ("x", "space", "ecg_ai"), ("x", "space", "admin"), ("", "space", None),
        ("a\nb", "space", None), ("x", "", None),
    ]
    for table, schema, catalog in cases:
        for existing in EXISTS:
            kind, text = told(lambda: sender.put(ingest(table, CREATE, existing, schema, catalog), rows))
            assert kind in ("ArrowInvalid", "ArrowKeyError", "KeyError"), (table, schema, catalog, kind, text)
            assert "panicked" not in text and "DataFusion" not in text, text
    # What exists elsewhere is told as what does not.
    known, unknown = (told(lambda name=name: sender.put(ingest("mine", CREATE, "append", "space", name), rows))
                      for name in ("readmission", "readmissiom"))
    assert known[1].replace("readmission", "X") == unknown[1].replace("readmissiom", "X")
    assert own.query("hospital", "SELECT count(*) AS n FROM space.mine")["n"].to_pylist() == [1]
    # A catalog of another project in the header is its space, for its members only.
    header = {DatabaseOptions.RPC_CALL_HEADER_PREFIX.value + "catalog": "readmission"}
    with pytest.raises(Exception), own.connect("hospital", **header) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("t", pa.table({"a": [1]}), mode="create")


def test_a_catalog_alone_names_what_no_catalog_does(tmp_path):
    """What the default schema has is refused, also where its catalog is said, and no table of that name is made."""
    hub = serve(tmp_path, 'zone = "inside"')
    try:
        sender, rows = Sender(hub, "alice", hub.tokens["rows"]), [pa.record_batch({"a": [1]})]
        for catalog in (None, "rows"):
            for existing in EXISTS:
                kind, text = told(lambda: sender.put(ingest("stays", CREATE, existing, catalog=catalog), rows))
                assert kind == "ArrowInvalid" and "`clinic` is a dataset" in text, (catalog, existing, kind, text)
        sender.put(ingest("mine", CREATE, "append", catalog="rows"), rows)
        told(lambda: sender.put(ingest("mine", CREATE, "append", catalog="aggregates"), rows))
        with hub.connect("alice", password=hub.tokens["rows"]) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT a FROM space.mine")
            assert cursor.fetchall() == [(1,)]
            with pytest.raises(Exception, match="does not exist"):
                cursor.execute("SELECT * FROM space.stays")
    finally:
        hub.stop()


def test_names_are_names_and_no_paths_or_sql(own):
    sender = Sender(own, "hospital")
    for name in ("../../etc/passwd", "a\"; DROP TABLE space.x; --", "%2e%2e", "Ünïcode 表"):
        sender.put(ingest(name), [pa.record_batch({name: [7]})])
        quoted = name.replace('"', '""')
        assert own.query("hospital", f'SELECT "{quoted}" AS a FROM space."{quoted}"')["a"].to_pylist() == [7]
    folders = {path.name for path in (own.dir / "state" / "spaces").rglob("*") if path.is_file()}
    assert all(re.fullmatch(r"[0-9a-f-]{36}\.parquet", name) for name in folders), folders


def test_an_upload_that_breaks_off_leaves_nothing(own):
    """Of a client that is killed while it sends."""
    program = (
        "import sys, time, pyarrow as pa; from pyarrow import flight\n"
        "client = flight.FlightClient(sys.argv[1]); header = client.authenticate_basic_token('hospital', 'hospital-demo')\n"
        "rows = pa.record_batch({'a': list(range(10000))})\n"
        "writer, _ = client.do_put(flight.FlightDescriptor.for_command(bytes.fromhex(sys.argv[2])), rows.schema,\n"
        "                          flight.FlightCallOptions(headers=[header]))\n"
        "for n in range(10_000):\n"
        "    writer.write_batch(rows)\n"
        "    if n == 50: print('sent', flush=True)\n"
        "    time.sleep(0.01)\n")
    child = subprocess.Popen([sys.executable, "-c", program, f"grpc+tcp://{own.flight}", ingest("cut").hex()],
                             stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "sent\n"
    child.kill()
    child.wait()
    deadline = time.monotonic() + 10
    while True:
        running = own.query("hospital", "SELECT state FROM hub.queries").column("state").to_pylist()
        if running.count("running") <= 1:
            break
        assert time.monotonic() < deadline, running
        time.sleep(0.1)
    assert own.error("hospital", "SELECT * FROM space.cut")[0] == "NOT_FOUND"
    left = [path.name for path in (own.dir / "state" / "spaces").rglob("*.tmp")]
    assert not left, left


BIG = 400 << 20


def memory(hub):
    status = (line.split() for line in open(f"/proc/{hub.process.pid}/status"))
    return next(int(line[1]) << 10 for line in status if line[0] == "VmHWM:")


def nulls(rows):
    return pa.Array.from_buffers(pa.null(), rows, [None])


@pytest.mark.parametrize("bomb", ["lz4", "zstd", "dictionary", "nulls", "hollow"])
def test_bombs_are_not_stored(own, bomb):
    more = {}
    if bomb in ("lz4", "zstd"):
        batch = pa.record_batch({"a": pa.array([" " * BIG])})
        more["write_options"] = pa.ipc.IpcWriteOptions(compression=bomb)
    elif bomb == "dictionary":
        texts = pa.array(["x" * (1 << 20)])
        batch = pa.record_batch({"a": pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int8()), texts)})
    elif bomb == "nulls":
        # As many as pyarrow sends in one message.
        batch = pa.record_batch([nulls((1 << 31) - 1)], names=["a"])
    else:
        kind = pa.list_(pa.null(), 1 << 30)
        batch = pa.record_batch([pa.Array.from_buffers(kind, 1, [None], children=[nulls(1 << 30)])], names=["a"])
    before = memory(own)
    kind, text = told(lambda: Sender(own, "hospital").put(ingest(f"bomb_{bomb}"), [batch], **more))
    assert "panicked" not in text and kind != "FlightInternalError", (kind, text)
    assert memory(own) - before < BIG // 2
    assert own.error("hospital", f"SELECT * FROM space.bomb_{bomb}")[0] == "NOT_FOUND"
    # A dictionary that is not one is stored as its values.
    if bomb == "dictionary":
        texts = pa.array(["x" * 100, "y"])
        rows = pa.record_batch({"a": pa.DictionaryArray.from_arrays(pa.array([0, 1] * 5_000, pa.int8()), texts)})
        Sender(own, "hospital").put(ingest("coded"), [rows])
        assert own.query("hospital", "SELECT count(DISTINCT a) AS n FROM space.coded")["n"].to_pylist() == [2]


def test_formulas_and_one_row_tables_tell_nothing_in_aggregates(tmp_path):
    """Who may see aggregates only joins no rows of their own with them; outside, what is stored is not read."""
    hub = serve(tmp_path, 'zone = "inside"')
    try:
        rows = [pa.record_batch({"person": [1], "ward": ["=1+1"]})]
        sender = Sender(hub, "alice", hub.tokens["aggregates"])
        sender.put(ingest("one"), rows)
        with hub.connect("alice", password=hub.tokens["aggregates"]) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT ward FROM space.one")
            assert cursor.fetch_arrow_table()["ward"].to_pylist() == ["=1+1"]
            with pytest.raises(Exception, match="aggregate"):
                cursor.execute("SELECT count(*) FROM clinic.stays JOIN space.one USING (person)")
    finally:
        hub.stop()
    hub = serve(tmp_path, "")
    try:
        sender = Sender(hub, "alice", hub.tokens["rows"])
        sender.put(ingest("outside"), [pa.record_batch({"a": [1]})])
        # What is stored is read inside alone.
        with pytest.raises(Exception, match="outside"):
            with hub.connect("alice", password=hub.tokens["rows"]) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT a FROM space.outside")
    finally:
        hub.stop()


@pytest.mark.parametrize("way", WAYS)
def test_a_right_that_ends_during_an_upload_ends_it(own, way):
    withdraw, restore, _, _ = WAYS[way]
    rows = pa.record_batch({"a": list(range(1_000))})
    writer, reader = Sender(own, "researcher").open(ingest(f"late_{way}"), rows.schema)
    for _ in range(20):
        writer.write_batch(rows)
    write(own, withdraw)
    began = time.monotonic()
    with pytest.raises((pa.ArrowException, flight.FlightError, OSError)) as caught:
        while time.monotonic() - began < 10:
            writer.write_batch(rows)
            time.sleep(0.02)
        writer.done_writing()
        reader.read()
    assert time.monotonic() - began < END_SECONDS_MAX + 0.5, repr(caught.value)
    with pytest.raises((pa.ArrowException, flight.FlightError)):
        reader.read()
        writer.close()
    if restore:
        write(own, restore)
    deadline = time.monotonic() + 5
    while "NOT_FOUND" != (status := own.error("researcher", f"SELECT * FROM space.late_{way}")[0]):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def test_an_upload_has_the_time_of_a_statement(own):
    rows = pa.record_batch({"a": [1]})
    writer, reader = Sender(own, "hospital").open(ingest("slow"), rows.schema, timeout=1.0)
    began = time.monotonic()
    with pytest.raises((pa.ArrowException, flight.FlightError, OSError)):
        while time.monotonic() - began < 10:
            writer.write_batch(rows)
            time.sleep(0.05)
    assert time.monotonic() - began < 5
    del writer, reader
    assert own.error("hospital", "SELECT * FROM space.slow")[0] == "NOT_FOUND"
