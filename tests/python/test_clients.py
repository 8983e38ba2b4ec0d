"""Clients that people use: ADBC with polars, pandas and DuckDB; prepared statements; the space."""

import datetime
import decimal

import duckdb
import polars
import pyarrow as pa
import pytest


def test_polars_pandas_and_duckdb_read_results(hub):
    sql = "SELECT dgn_pal, count(*) AS n FROM snds.t_mco_b GROUP BY 1 ORDER BY n DESC, 1 LIMIT 5"
    with hub.connect("researcher") as connection:
        frame = polars.read_database(sql, connection)
        with connection.cursor() as cursor:
            cursor.execute(sql)
            pandas_frame = cursor.fetch_df()
        with connection.cursor() as cursor:
            cursor.execute(sql)
            reader = cursor.fetch_record_batch()
            total = duckdb.sql("SELECT sum(n) FROM reader").fetchall()[0][0]
    assert frame["n"].to_list() == pandas_frame["n"].tolist()
    assert total == sum(frame["n"].to_list())


def test_catalogs_and_schemas_browse(hub):
    with hub.connect("hospital") as connection:
        objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        assert [catalog["catalog_name"] for catalog in objects] == ["linked"]
        schemas = {s["db_schema_name"]: s for s in objects[0]["catalog_db_schemas"]}
        assert {"snds", "cardio", "imaging", "reports", "space", "hub"} <= set(schemas)
        stays = next(t for t in schemas["snds"]["db_schema_tables"] if t["table_name"] == "t_mco_b")
        names = [column["column_name"] for column in stays["table_columns"]]
        assert names[:3] and "ent_dat" in names
        schema = connection.adbc_get_table_schema("t_mco_b", db_schema_filter="snds", catalog_filter="linked")
        assert schema.field("ent_dat").type == pa.date32()
        assert {"TABLE", "VIEW", "SYSTEM TABLE"} == set(connection.adbc_get_table_types())
        assert connection.adbc_get_info()["vendor_name"] == "Hubflight"


@pytest.mark.parametrize("marker", ["?", "$1"])
def test_prepared_statements_bind_parameters(hub, marker):
    sql = f"SELECT count(*) AS n FROM snds.ir_ben_r WHERE ben_nai_ann < {marker}"
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        counts = []
        for year in (1900, 1950, 2100):
            cursor.execute(sql, (year,))
            counts.append(cursor.fetch_arrow_table()["n"][0].as_py())
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_several_rows_of_parameters_are_all_executed(hub):
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        cursor.adbc_prepare("SELECT CAST(? AS BIGINT) * 2 AS doubled")
        cursor.adbc_statement.bind(pa.record_batch({"a": pa.array([1, 2, 3])}))
        handle, _ = cursor.adbc_statement.execute_query()
        table = pa.RecordBatchReader._import_from_c(handle.address).read_all()
    assert table["doubled"].to_pylist() == [2, 4, 6]


def test_the_types_that_reach_a_client_are_plain(hub):
    table = hub.query("hospital", "SELECT ben_idt, exe_soi_dtd, prs_nat_ref, prs_pai_mnt FROM snds.er_prs_f LIMIT 10")
    assert [field.type for field in table.schema] == [pa.string(), pa.date32(), pa.int32(), pa.decimal128(12, 2)]
    row = hub.query("hospital", "SELECT CAST(1.10 AS DECIMAL(12,2)) AS d, DATE '2020-02-29' AS day, 'é' AS t").to_pylist()[0]
    assert row == {"d": decimal.Decimal("1.10"), "day": datetime.date(2020, 2, 29), "t": "é"}


def test_the_space_keeps_what_a_project_makes(hub):
    def run(sql, parameters=None):
        with hub.connect("researcher") as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.rowcount

    run("DROP TABLE IF EXISTS space.stays")
    run("CREATE TABLE space.stays AS SELECT ben_idt, ent_dat, dgn_pal FROM snds.t_mco_b WHERE dgn_pal LIKE 'I%'")
    count = hub.query("researcher", "SELECT count(*) AS n FROM space.stays")["n"][0].as_py()
    assert count == hub.query("researcher", "SELECT count(*) AS n FROM snds.t_mco_b WHERE dgn_pal LIKE 'I%'")["n"][0].as_py() > 0
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        assert cursor.adbc_statement is not None
        cursor.execute("CREATE OR REPLACE TABLE space.notes (id INT NOT NULL, note VARCHAR)")
        cursor.execute("INSERT INTO space.notes VALUES (1, 'a'), (2, NULL), (3, 'c')")
        cursor.execute("UPDATE space.notes SET note = 'b' WHERE note IS NULL")
        cursor.execute("DELETE FROM space.notes WHERE id = 3")
    assert hub.query("researcher", "SELECT * FROM space.notes ORDER BY id").to_pylist() == [
        {"id": 1, "note": "a"}, {"id": 2, "note": "b"}]
    run("CREATE OR REPLACE VIEW space.cardiac AS SELECT dgn_pal, count(*) AS n FROM snds.t_mco_b GROUP BY 1")
    assert hub.query("researcher", "SELECT sum(n) AS n FROM space.cardiac")["n"][0].as_py() > 0
    assert hub.error("hospital", "SELECT * FROM space.stays")[0] == "NOT_FOUND"
    for table in ("stays", "notes"):
        run(f"DROP TABLE space.{table}")
    run("DROP VIEW space.cardiac")
    assert hub.error("researcher", "SELECT * FROM space.notes")[0] == "NOT_FOUND"


def test_get_schema_and_the_stream_agree(hub):
    for sql in ["SELECT count(*) AS n, max(ent_dat) AS d FROM snds.t_mco_b", "SELECT * FROM snds.ir_cim_v LIMIT 3",
                "SELECT 1 AS a UNION ALL SELECT 2.5", "SHOW TABLES", "SELECT 1 AS x WHERE false"]:
        with hub.connect("researcher") as connection, connection.cursor() as cursor:
            said = cursor.adbc_execute_schema(sql)
            cursor.execute(sql)
            assert cursor.fetch_arrow_table().schema.equals(said, check_metadata=False), sql


def test_results_say_of_which_type_and_table_their_columns_are(hub):
    sql = ("SELECT p.prs_pai_mnt, prs_pai_mnt + 1 AS more, b.ben_idt, TIMESTAMPTZ '2024-01-01 00:00:00' AS t FROM snds.er_prs_f p "
           "JOIN snds.ir_ben_r AS b USING (ben_idt) LIMIT 1")
    schema = hub.stream("researcher", sql).schema
    told = lambda name: {key.decode().removeprefix("ARROW:FLIGHT:SQL:"): value.decode()  # noqa: E731
                         for key, value in schema.field(name).metadata.items()}
    paid, more = told("prs_pai_mnt"), told("more")
    assert (paid["TYPE_NAME"], paid["PRECISION"], paid["SCALE"]) == ("DECIMAL", "12", "2")
    assert more["TYPE_NAME"] == "DECIMAL" and "TABLE_NAME" not in more and more["IS_SEARCHABLE"] == "0"
    assert told("t")["TYPE_NAME"] == "TIMESTAMP WITH TIME ZONE"
    assert (paid["TABLE_NAME"], told("ben_idt")["TABLE_NAME"]) == ("er_prs_f", "ir_ben_r")
    # Of what a query is called nobody knows what stands behind it.
    schema = hub.stream("researcher", "SELECT q.ben_idt FROM (SELECT * FROM snds.ir_ben_r) q LIMIT 1").schema
    assert "TABLE_NAME" not in told("ben_idt")
    schema = hub.stream("researcher", "SELECT ben_idt FROM ir_ben_r LIMIT 1").schema
    assert [told("ben_idt")[key] for key in ("CATALOG_NAME", "DB_SCHEMA_NAME", "TABLE_NAME", "IS_READ_ONLY")] == [
        "readmission", "snds", "ir_ben_r", "1"]


def test_decimals_are_exact_where_they_are_asked_for(hub):
    table = hub.query("researcher", """SELECT 12345678901234567890.0123456789 AS long,
        CAST(-0.1 AS DECIMAL(38, 20)) AS cast, 1.1 AS plain, x = 0.3000000000000000000000001 AS beside,
        x > 0.5 AS more, sum(1.5) OVER () AS total
        FROM (VALUES (CAST(0.3 AS DOUBLE)), ('NaN'::DOUBLE), (1e300)) AS t(x) ORDER BY x""")
    assert table["long"][0].as_py() == decimal.Decimal("12345678901234567890.0123456789")
    assert table["cast"][0].as_py() == decimal.Decimal("-0.1") and table.schema.field("plain").type == pa.float64()
    # Doubles stay doubles beside them: NaN and 1e300 are no decimals.
    assert table["beside"].to_pylist() == [True, False, False] and table["more"].to_pylist() == [False, True, True]


def test_no_rows_of_parameters_are_no_rows(hub):
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        for sql in ("SELECT CAST(? AS BIGINT) AS a", "SELECT ben_idt FROM snds.ir_ben_r WHERE ben_nai_ann = ?"):
            cursor.adbc_prepare(sql)
            empty = pa.RecordBatchReader.from_batches(
                pa.schema([("a", pa.int64())]), [pa.record_batch({"a": pa.array([], pa.int64())})])
            cursor.adbc_statement.bind_stream(empty)
            handle, _ = cursor.adbc_statement.execute_query()
            assert pa.RecordBatchReader._import_from_c(handle.address).read_all().num_rows == 0


def test_moments_with_time_zone_have_one(hub):
    sql = "SELECT CAST('2024-07-01T12:00:00+02:00' AS TIMESTAMP WITH TIME ZONE) AS t, TIMESTAMPTZ '2024-07-01 10:00:00' AS u"
    table = hub.query("researcher", sql)
    assert [field.type.tz for field in table.schema] == ["UTC", "UTC"]
    assert table["t"][0].as_py() == table["u"][0].as_py()
