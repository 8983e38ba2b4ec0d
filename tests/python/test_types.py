"""Every type of Arrow in (rows for a table, parameters) and out (results): extremes and NULL, to the bit,
with the tools that people use. What a tool itself cannot is named, and stays named only while it is so."""

import datetime
from decimal import Decimal

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import flight

from conftest import any_message, field, statement_query
from test_ingest import Sender, ingest


def of(kind, *values):
    """The values as what a type stores: beyond what Python's own types hold."""
    stored = {"date32": pa.int32(), "time32": pa.int32()}.get(str(kind).partition("[")[0], pa.int64())
    return pa.array(values, stored).cast(kind)


LEAST, MOST = -(1 << 63), (1 << 63) - 1
SUMMER = 1_719_835_200  # 2024-07-01T12:00:00Z
ARRAYS = {
    "null": pa.nulls(3), "bool": pa.array([True, None, False]),
    **{f"int{n}": pa.array([-(1 << n - 1), None, (1 << n - 1) - 1], f"int{n}") for n in (8, 16, 32, 64)},
    **{f"uint{n}": pa.array([0, None, (1 << n) - 1], f"uint{n}") for n in (8, 16, 32, 64)},
    "float16": pa.array([-65504.0, None, float("nan")], pa.float16()),
    "float32": pa.array([-3.4028234663852886e38, None, float("-inf")], pa.float32()),
    "float64": pa.array([5e-324, None, -0.0]),
    "decimal32": pa.array([Decimal("9999999.99"), None, Decimal("-0.01")], pa.decimal32(9, 2)),
    "decimal64": pa.array([Decimal("9999999999999999.99"), None, Decimal("-0.01")], pa.decimal64(18, 2)),
    "decimal128": pa.array([Decimal("9" * 38), None, Decimal("-" + "9" * 38)], pa.decimal128(38, 0)),
    "decimal128 of fractions": pa.array([Decimal("0." + "0" * 37 + "1"), None, Decimal("-0." + "9" * 38)], pa.decimal128(38, 38)),
    "decimal128 of thousands": pa.array([Decimal("1E+4"), None, Decimal("-1E+3")], pa.decimal128(10, -3)),
    "decimal256": pa.array([Decimal("9" * 66 + "." + "9" * 10), None, Decimal(0)], pa.decimal256(76, 10)),
    "utf8": pa.array(["é€😀\0\n", None, ""]), "large_utf8": pa.array(["é", None, ""], pa.large_string()),
    "utf8_view": pa.array(["é" * 20, None, ""], pa.string_view()),
    "binary": pa.array([b"\x00\xff", None, b""]), "large_binary": pa.array([b"\x00\xff", None, b""], pa.large_binary()),
    "binary_view": pa.array([b"\x00\xff" * 20, None, b""], pa.binary_view()),
    "fixed_size_binary": pa.array([b"abc", None, b"\0\0\0"], pa.binary(3)),
    "date32": of(pa.date32(), -(1 << 31), None, (1 << 31) - 1),
    "date64": pa.array([datetime.date(1, 1, 1), None, datetime.date(9999, 12, 31)], pa.date64()),
    "time32[s]": of(pa.time32("s"), 0, None, 86_399), "time32[ms]": of(pa.time32("ms"), 0, None, 86_399_999),
    "time64[us]": of(pa.time64("us"), 0, None, 86_399_999_999), "time64[ns]": of(pa.time64("ns"), 0, None, 86_399_999_999_999),
    **{f"timestamp[{unit}]": of(pa.timestamp(unit), LEAST, None, MOST) for unit in ("s", "ms", "us", "ns")},
    **{f"timestamp[{unit}, {zone}]": of(pa.timestamp(unit, zone), 0, None, SUMMER * 10 ** power) for unit, zone, power in (
        ("s", "UTC", 0), ("ms", "+02:00", 3), ("us", "Europe/Paris", 6), ("ns", "Asia/Kathmandu", 9))},
    **{f"duration[{unit}]": of(pa.duration(unit), LEAST, None, MOST) for unit in ("s", "ms", "us", "ns")},
    "interval": pa.array([pa.MonthDayNano([1, -2, 3]), None, pa.MonthDayNano([-(1 << 31), (1 << 31) - 1, MOST])]),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int64())),
    "large_list": pa.array([[1, None], None, []], pa.large_list(pa.int64())),
    "fixed_size_list": pa.array([[1, 2], None, [None, 4]], pa.list_(pa.int64(), 2)),
    "list_view": pa.array([[1, 2], None, []], pa.list_view(pa.int64())),
    "large_list_view": pa.array([[1, 2], None, []], pa.large_list_view(pa.int64())),
    "struct": pa.array([{"x": 1, "é": "a"}, None, {"x": None, "é": None}]),
    "list of structs": pa.array([[{"x": [1.5]}], None, [None]], pa.list_(pa.struct([("x", pa.list_(pa.float32()))]))),
    "map": pa.array([[("a", 1), ("b", None)], None, []], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["I10", None, "E11"]).dictionary_encode(),
    "ordered dictionary": pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), pa.array(["a", "b"]), ordered=True),
    "dictionary of numbers": pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.uint16()), pa.array([10**12, 5])),
    "dense_union": pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, None]), pa.array(["a"])]),
    "sparse_union": pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, None]), pa.array(["a", "b", "c"])]),
    "run_end_encoded": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None])),
    "uuid": pa.array([b"0123456789abcdef", None, b"\0" * 16], pa.uuid()),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}', None, "[]"])),
    "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())),
    "opaque": pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "geometry", "x"), pa.array([b"a", None, b""])),
}

NOT_TAKEN = "column 1 of {} has type .*, which is not taken; send plain values"
NOT_KEPT = "column `v` has type .*, which a table cannot hold; cast it to another type"
# What is refused as a parameter, and as rows for a table.
UNBOUND = dict.fromkeys(["list_view", "large_list_view", "run_end_encoded"], NOT_TAKEN)
UNIONS = {"dense_union": ["1", "a", None], "sparse_union": ["1", "b", None]}
UNKEPT = UNBOUND | dict.fromkeys(UNIONS, NOT_TAKEN) | dict.fromkeys(["interval", "decimal128 of thousands"], NOT_KEPT)
# What comes back as another type: views and dictionaries as their values, extensions as what they store.
PLAIN = {"utf8_view": pa.string(), "binary_view": pa.binary()}
KEPT = {name: array for name, array in ARRAYS.items() if name not in UNKEPT}


def plain(name, array):
    """What of an array comes back."""
    if isinstance(array, pa.ExtensionArray):
        return array.storage
    if isinstance(array, pa.DictionaryArray):
        return array.dictionary_decode()
    return array.cast(PLAIN.get(name, array.type))


def one_array(column):
    return column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def same(seen, sent):
    """Whether two arrays are equal to the bit: NaN is NaN, and -0 is not 0."""
    seen = one_array(seen)
    if seen.type != sent.type:
        return False
    if pa.types.is_floating(sent.type):
        bits = f"uint{sent.type.bit_width}"
        return seen.view(bits).equals(sent.view(bits))
    return seen.equals(sent)


@pytest.fixture(scope="module")
def connection(hub):
    with hub.connect("researcher") as made:
        yield made
        with made.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS space.types_of_arrow")
            cursor.execute("DROP TABLE IF EXISTS space.type_of_arrow")


def fetch(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()["v"]


def keep(connection, array):
    """What is read of a table whose rows were sent."""
    with connection.cursor() as cursor:
        assert cursor.adbc_ingest("type_of_arrow", pa.table({"v": array}), mode="replace", db_schema_name="space") == len(array)
    return fetch(connection, "SELECT v FROM space.type_of_arrow")


def bind(connection, array, sql="SELECT ? AS v"):
    with connection.cursor() as cursor:
        cursor.adbc_prepare(sql)
        cursor.adbc_statement.bind(pa.record_batch({"v": array}))
        handle, _ = cursor.adbc_statement.execute_query()
        return pa.RecordBatchReader._import_from_c(handle.address).read_all()["v"]


@pytest.mark.parametrize("name", ARRAYS)
def test_rows_for_a_table(connection, name):
    if name in UNKEPT:
        with pytest.raises(Exception, match="INVALID_ARGUMENT.*" + UNKEPT[name].format("the rows for a table")):
            keep(connection, ARRAYS[name])
        return
    seen = keep(connection, ARRAYS[name])
    assert same(seen, stored(name)), (seen, stored(name))


@pytest.mark.parametrize("name", ARRAYS)
def test_parameters(connection, name):
    if name in UNBOUND:
        with pytest.raises(Exception, match="INVALID_ARGUMENT.*" + UNBOUND[name].format("the bound parameters")):
            bind(connection, ARRAYS[name])
        return
    if name in UNIONS:
        # Each value is of its own type.
        assert bind(connection, ARRAYS[name], "SELECT CAST(? AS VARCHAR) AS v").to_pylist() == UNIONS[name]
        # But a result has one type, whichever row it is of.
        with pytest.raises(Exception, match="has type Int64 with the first row of parameters and Utf8 with another"):
            bind(connection, ARRAYS[name])
        return
    seen = bind(connection, ARRAYS[name])
    assert same(seen, plain(name, ARRAYS[name])), seen


# --- results ---

RESULTS = {
    "NULL": pa.nulls(1), "true": pa.array([True]), "arrow_cast(-128, 'Int8')": pa.array([-128], pa.int8()),
    "arrow_cast(65535, 'UInt16')": pa.array([65535], pa.uint16()),
    "arrow_cast('18446744073709551615', 'UInt64')": pa.array([(1 << 64) - 1], pa.uint64()),
    "arrow_cast(-0.0, 'Float16')": pa.array([-0.0], pa.float16()), "CAST('NaN' AS REAL)": pa.array([float("nan")], pa.float32()),
    "CAST('4.9e-324' AS DOUBLE)": pa.array([5e-324]),
    "arrow_cast('-0.01', 'Decimal32(9, 2)')": pa.array([Decimal("-0.01")], pa.decimal32(9, 2)),
    "arrow_cast('9999999999999999.99', 'Decimal64(18, 2)')": pa.array([Decimal("9999999999999999.99")], pa.decimal64(18, 2)),
    "CAST('-" + "9" * 28 + ".0123456789' AS DECIMAL(38, 10))": pa.array([Decimal("-" + "9" * 28 + ".0123456789")], pa.decimal128(38, 10)),
    "arrow_cast('" + "9" * 40 + ".5', 'Decimal256(50, 1)')": pa.array([Decimal("9" * 40 + ".5")], pa.decimal256(50, 1)),
    "'é😀'": pa.array(["é😀"]), "arrow_cast('é', 'LargeUtf8')": pa.array(["é"], pa.large_string()),
    "X'00ff'": pa.array([b"\x00\xff"]), "arrow_cast('x', 'LargeBinary')": pa.array([b"x"], pa.large_binary()),
    "arrow_cast(X'000102', 'FixedSizeBinary(3)')": pa.array([b"\0\1\2"], pa.binary(3)),
    "DATE '0001-01-01'": pa.array([datetime.date(1, 1, 1)]),
    "arrow_cast('2024-02-29', 'Date64')": pa.array([datetime.date(2024, 2, 29)], pa.date64()),
    "arrow_cast('23:59:59', 'Time32(Second)')": of(pa.time32("s"), 86_399),
    "TIME '23:59:59.999999999'": of(pa.time64("ns"), 86_399_999_999_999),
    "arrow_cast('9999-12-31T23:59:59', 'Timestamp(Second, None)')": of(pa.timestamp("s"), 253_402_300_799),
    "TIMESTAMP '1969-12-31T23:59:59.999999999'": of(pa.timestamp("ns"), -1),
    "arrow_cast('2024-07-01T12:00:00Z', 'Timestamp(Microsecond, Some(\"Europe/Paris\"))')": of(
        pa.timestamp("us", "Europe/Paris"), SUMMER * 1_000_000),
    "arrow_cast(7, 'Duration(Second)')": of(pa.duration("s"), 7),
    "INTERVAL '1 month 2 days 3.000000004 seconds'": pa.array([pa.MonthDayNano([1, 2, 3_000_000_004])]),
    "[1, NULL]": pa.array([[1, None]], pa.list_(pa.int64())),
    "arrow_cast([1, 2], 'LargeList(Int64)')": pa.array([[1, 2]], pa.large_list(pa.int64())),
    "arrow_cast([1, 2], 'FixedSizeList(2, Int64)')": pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
    "named_struct('x', 1, 'é', 'a')": pa.array([{"x": 1, "é": "a"}]),
    "MAP {'a': 1, 'b': NULL}": pa.array([[("a", 1), ("b", None)]], pa.map_(pa.string(), pa.int64())),
    # Only for those who ask: what drivers of before 2025 do not read.
    "arrow_cast('x', 'Utf8View')": pa.array(["x"]), "arrow_cast('x', 'BinaryView')": pa.array([b"x"]),
    "arrow_cast('x', 'Dictionary(Int32, Utf8)')": pa.array(["x"]), "arrow_cast([1, 2], 'ListView(Int64)')": pa.array([[1, 2]]),
    "arrow_cast('x', 'RunEndEncoded(\"run_ends\": Int32, \"values\": Utf8)')": pa.array(["x"]),
}


@pytest.mark.parametrize("expression", RESULTS)
def test_results(connection, hub, expression):
    expected = RESULTS[expression]
    for where in ("", " WHERE 1 + 1 = 2", " WHERE false"):
        seen = fetch(connection, f"SELECT {expression} AS v{where}")
        assert same(seen, expected.slice(0, 0 if "false" in where else 1)), (where, seen)
    # The reader of C++.
    seen = hub.stream("researcher", f"SELECT {expression} AS v").read_all()["v"]
    assert same(seen, expected), seen


@pytest.mark.parametrize("text, unit, kind", [("1 month", "YearMonth", "month_interval"), ("1 day", "DayTime", "day_time_interval")])
def test_intervals_that_python_does_not_read(connection, text, unit, kind):
    """pyarrow has no values of these types; that they come, and as what, can be told."""
    seen = fetch(connection, f"SELECT arrow_cast(t, 'Interval({unit})') AS v FROM (VALUES ('{text}'), (NULL)) AS s(t)")
    assert [str(seen.type), len(seen), seen.null_count] == [kind, 2, 1]


def test_views_for_those_who_ask(hub):
    with hub.connect("researcher") as own:
        own.adbc_connection.set_options(**{"adbc.flight.sql.session.optionbool.wire.views": "true"})
        for name in ("utf8_view", "binary_view"):
            assert same(bind(own, ARRAYS[name]), ARRAYS[name]), name


# --- what else sends and reads ---

def polars_reads(connection, sql):
    return pl.read_database(sql, connection).to_arrow()


def polars_writes(connection, table):
    pl.from_arrow(table).write_database("space.type_of_arrow", connection, engine="adbc", if_table_exists="replace")


def pandas_reads(connection, sql):
    frame = pd.read_sql(sql, connection, dtype_backend="pyarrow")
    return pa.table({name: pa.array(frame[name].array) for name in frame})


def pandas_writes(connection, table):
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    frame.to_sql("type_of_arrow", connection, schema="space", if_exists="replace", index=False)


def duckdb_reads(connection, sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows = cursor.fetch_record_batch()  # noqa: F841 - DuckDB finds it by its name
        return duckdb.sql("SELECT * FROM rows").to_arrow_table()


def duckdb_writes(connection, sent):
    with connection.cursor() as cursor:
        rows = duckdb.sql("SELECT * FROM sent").to_arrow_reader(1_000)
        cursor.adbc_ingest("type_of_arrow", rows, mode="replace", db_schema_name="space")


READERS = {"polars": polars_reads, "pandas": pandas_reads, "DuckDB": duckdb_reads}
WRITERS = {"polars": polars_writes, "pandas": pandas_writes, "DuckDB": duckdb_writes}

# What a tool itself cannot, by type. The first two hold for reading and writing.
POLARS = {
    "decimal256": "polars has decimals of 128 bits",
    **dict.fromkeys(["timestamp[s]", "duration[s]"], "polars counts in milliseconds, where the least and the most seconds overflow"),
}
DUCKDB = {
    "float16": "DuckDB has no such number", "decimal256": "DuckDB has decimals of 128 bits",
    **dict.fromkeys([f"duration[{unit}]" for unit in ("s", "ms", "us", "ns")],
                    "DuckDB makes intervals of months, days and microseconds of durations"),
}
CANNOT_READ = {
    "polars": POLARS | dict.fromkeys(["decimal32", "decimal64"], "polars reads them as if they had 128 bits"),
    "DuckDB": DUCKDB,
}
CANNOT_WRITE = {
    "polars": POLARS | {"null": "polars gives a column without a type a buffer that Arrow's Go refuses"},
    "DuckDB": DUCKDB | {"uuid": "DuckDB sends its UUIDs as text"},
}


def exact(seen, array):
    """Whether what a tool gives has the values of an array, whichever type of Arrow it keeps them as."""
    seen = one_array(seen)
    if pa.types.is_dictionary(seen.type):
        seen = seen.dictionary_decode()
    if isinstance(seen, pa.ExtensionArray):
        seen = seen.storage
    return same(seen.cast(array.type), array)


def inexact(read, array):
    """Whether one type fails or comes back as something else; polars' panics are no `Exception`."""
    try:
        return not exact(read(), array)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return True


def stored(name):
    # NULL has no type in a table: it is text.
    return pa.nulls(3, pa.string()) if name == "null" else plain(name, KEPT[name])


@pytest.mark.parametrize("tool", READERS)
def test_tools_read_each_type(connection, tool):
    cannot = CANNOT_READ.get(tool, {})
    with connection.cursor() as cursor:
        cursor.adbc_ingest("types_of_arrow", pa.table(KEPT), mode="replace", db_schema_name="space")
    sql = 'SELECT "{}" FROM space.types_of_arrow'
    seen = READERS[tool](connection, sql.format('", "'.join(KEPT.keys() - cannot.keys())))
    for name in KEPT.keys() - cannot.keys():
        assert exact(seen[name], stored(name)), (name, seen[name])
    assert [name for name in cannot if not inexact(
        lambda: READERS[tool](connection, sql.format(name))[name], stored(name))] == [], "the tool can read these now"


@pytest.mark.parametrize("tool", WRITERS)
def test_tools_write_each_type(connection, tool):
    cannot = CANNOT_WRITE.get(tool, {})
    WRITERS[tool](connection, pa.table({name: array for name, array in KEPT.items() if name not in cannot}))
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM space.type_of_arrow")
        seen = cursor.fetch_arrow_table()
    for name in KEPT.keys() - cannot.keys():
        assert exact(seen[name], stored(name)), (name, seen[name])

    def written(name):
        WRITERS[tool](connection, pa.table({"v": KEPT[name]}))
        return fetch(connection, "SELECT v FROM space.type_of_arrow")

    assert [name for name in cannot if not inexact(lambda: written(name), stored(name))] == [], "the tool can write these now"


def test_flight_writes_and_reads_all_types_at_once(hub):
    """pyarrow.flight alone: one table of all types, sent and fetched as it is."""
    table = pa.table(KEPT)
    sender = Sender(hub, "researcher")
    sender.put(ingest("types_of_arrow", existing="replace", schema="space"), table.to_batches())
    info = sender.client.get_flight_info(
        flight.FlightDescriptor.for_command(statement_query("SELECT * FROM space.types_of_arrow")), sender.options())
    seen = sender.client.do_get(info.endpoints[0].ticket, sender.options()).read_all()
    assert seen.schema.equals(info.schema)
    for name in KEPT:
        assert same(seen[name], stored(name)), name


def test_types_are_told_before_a_row_is_read(hub):
    """GetTables' schema of a table is the one of its rows."""
    sender = Sender(hub, "researcher")
    sender.put(ingest("types_of_arrow", existing="replace", schema="space"), pa.table(KEPT).to_batches())
    command = any_message("CommandGetTables", field(2, b"space") + field(3, b"types\\_of\\_arrow") + bytes([5 << 3, 1]))
    info = sender.client.get_flight_info(flight.FlightDescriptor.for_command(command), sender.options())
    listed = sender.client.do_get(info.endpoints[0].ticket, sender.options()).read_all().to_pylist()
    assert [row["table_name"] for row in listed] == ["types_of_arrow"]
    told = pa.ipc.read_schema(pa.py_buffer(listed[0]["table_schema"]))
    rows = hub.query("researcher", "SELECT * FROM space.types_of_arrow WHERE false")
    assert told.equals(rows.schema, check_metadata=False)
