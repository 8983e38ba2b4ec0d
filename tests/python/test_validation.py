"""The cases of ADBC's validation suites (connections, metadata, statements, ingest), asked of this server
through the driver manager, on the level of the driver: as the suites do, and as R's `adbi` and others do."""

import threading

import adbc_driver_flightsql
import pyarrow as pa
import pytest
from adbc_driver_manager import (
    AdbcConnection, AdbcDatabase, AdbcStatement, GetObjectsDepth, NotSupportedError, ProgrammingError)

SPACE_TABLE = "validated"


@pytest.fixture
def database(hub):
    with AdbcDatabase(driver=adbc_driver_flightsql._driver_path(), uri=hub.uri, username="researcher",
                      password="researcher-demo") as made:
        yield made


@pytest.fixture
def connection(database):
    with AdbcConnection(database) as made:
        yield made
        change(made, f"DROP TABLE IF EXISTS space.{SPACE_TABLE}")


@pytest.fixture
def statement(connection):
    with AdbcStatement(connection) as made:
        yield made


def rows_of(handle):
    return pa.RecordBatchReader._import_from_c(handle.address)


def schema_of(handle):
    return pa.Schema._import_from_c(handle.address)


def query(connection, sql):
    with AdbcStatement(connection) as statement:
        statement.set_sql_query(sql)
        return rows_of(statement.execute_query()[0]).read_all()


def change(connection, sql):
    with AdbcStatement(connection) as statement:
        statement.set_sql_query(sql)
        return statement.execute_update()


def ingest(connection, rows, mode="create", table=SPACE_TABLE, **options):
    with AdbcStatement(connection) as statement:
        statement.set_options(**{"adbc.ingest.target_table": table, "adbc.ingest.mode": f"adbc.ingest.mode.{mode}", **options})
        if isinstance(rows, pa.RecordBatch):
            statement.bind(rows)
        elif rows is not None:
            statement.bind_stream(rows.to_reader(max_chunksize=2))
        return statement.execute_update()


# --- connections ---

def test_connections_at_once(database):
    connections = [AdbcConnection(database) for _ in range(5)]
    answers = []
    threads = [threading.Thread(target=lambda one=one, n=n: answers.append((n, query(one, f"SELECT {n} AS n")["n"][0].as_py())))
               for n, one in enumerate(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in connections:
        one.close()
    assert sorted(answers) == [(n, n) for n in range(5)]


def test_the_driver_and_the_server_are_named(connection):
    info = {row["info_name"]: row["info_value"] for row in rows_of(connection.get_info()).read_all().to_pylist()}
    assert info[0] == "Hubflight" and info[1][0].isdigit()  # the server and its version
    assert "Flight SQL" in info[100]
    some = rows_of(connection.get_info([0])).read_all().to_pylist()
    assert [row["info_name"] for row in some] == [0]


def test_the_current_catalog_and_schema(database):
    with AdbcConnection(database) as connection:
        assert connection.get_option("adbc.connection.catalog") == "readmission"
        # There is none before one is chosen.
        with pytest.raises(ProgrammingError, match="NOT_FOUND"):
            connection.get_option("adbc.connection.db_schema")
        connection.set_options(**{"adbc.connection.db_schema": "snds"})
        assert connection.get_option("adbc.connection.db_schema") == "snds"
        assert query(connection, "SELECT count(*) > 0 AS some FROM t_mco_b")["some"].to_pylist() == [True]
        with pytest.raises(ProgrammingError, match="invalid value"):
            connection.set_options(**{"adbc.connection.catalog": "linked"})


# --- transactions ---

def manual(connection):
    """A connection whose changes wait for `commit`."""
    connection.set_autocommit(False)
    return connection


def test_commit_and_rollback_need_autocommit_off(connection):
    for call in (connection.commit, connection.rollback):
        with pytest.raises(ProgrammingError, match="INVALID_STATE"):
            call()
    # What it is already may be said again.
    connection.set_autocommit(True)


def test_what_is_rolled_back_is_gone(database, connection):
    change(connection, f"CREATE OR REPLACE TABLE space.{SPACE_TABLE} (a BIGINT)")
    with AdbcConnection(database) as own:
        manual(own)
        assert change(own, f"INSERT INTO space.{SPACE_TABLE} VALUES (1), (2)") == 2
        # Itself it sees them, others do not.
        assert query(own, f"SELECT a FROM space.{SPACE_TABLE}").num_rows == 2
        assert query(connection, f"SELECT a FROM space.{SPACE_TABLE}").num_rows == 0
        own.rollback()
        assert query(own, f"SELECT a FROM space.{SPACE_TABLE}").num_rows == 0
        # The next one begins by itself.
        change(own, f"INSERT INTO space.{SPACE_TABLE} VALUES (3)")
        own.commit()
        assert query(connection, f"SELECT a FROM space.{SPACE_TABLE}")["a"].to_pylist() == [3]


def test_autocommit_on_commits(database, connection):
    change(connection, f"CREATE OR REPLACE TABLE space.{SPACE_TABLE} (a BIGINT)")
    with AdbcConnection(database) as own:
        manual(own)
        change(own, f"INSERT INTO space.{SPACE_TABLE} VALUES (1)")
        own.set_autocommit(True)
        assert query(connection, f"SELECT a FROM space.{SPACE_TABLE}")["a"].to_pylist() == [1]
        change(own, f"INSERT INTO space.{SPACE_TABLE} VALUES (2)")
        assert query(connection, f"SELECT a FROM space.{SPACE_TABLE}").num_rows == 2


# --- metadata ---

@pytest.fixture
def described(connection):
    change(connection, f'CREATE OR REPLACE TABLE space.{SPACE_TABLE} (a BIGINT NOT NULL, "É" VARCHAR, strange_ DATE)')
    return connection


def objects(connection, depth="ALL", **filters):
    return rows_of(connection.get_objects(GetObjectsDepth[depth], **filters)).read_all().to_pylist()


def flat(found):
    """catalog.schema.table names, and the columns of each table."""
    return {(catalog["catalog_name"], schema["db_schema_name"], table["table_name"]): [
                column["column_name"] for column in table["table_columns"] or ()]
            for catalog in found for schema in catalog["catalog_db_schemas"] or () for table in schema["db_schema_tables"] or ()}


def test_objects_of_each_depth(described):
    catalogs = objects(described, "CATALOGS")
    assert [(one["catalog_name"], one["catalog_db_schemas"]) for one in catalogs] == [("readmission", None)]
    schemas = objects(described, "DB_SCHEMAS")[0]["catalog_db_schemas"]
    assert {"snds", "space", "hub"} <= {one["db_schema_name"] for one in schemas}
    assert all(one["db_schema_tables"] is None for one in schemas)
    tables = flat(objects(described, "TABLES"))
    assert tables[("readmission", "space", SPACE_TABLE)] == []
    assert flat(objects(described))[("readmission", "space", SPACE_TABLE)] == ["a", "É", "strange_"]


@pytest.mark.parametrize("filters, expected", [
    ({"catalog": "readmission"}, 1), ({"catalog": "nothing"}, 0), ({"catalog": "read%"}, 1), ({"catalog": ""}, 0),
    ({"db_schema": "space"}, 1), ({"db_schema": "sp_ce"}, 1), ({"db_schema": "s"}, 0), ({"table_name": "valid%"}, 1),
    ({"table_name": "valid_ted"}, 1), ({"table_name": "VALIDATED"}, 0), ({"table_types": ["TABLE"]}, 1), ({"table_types": ["VIEW"]}, 0),
    ({"table_types": ["nothing"]}, 0), ({"catalog": "readmission", "db_schema": "space", "table_name": SPACE_TABLE}, 1),
])
def test_objects_are_filtered(described, filters, expected):
    found = flat(objects(described, "TABLES", **filters))
    assert len([one for one in found if one[2] == SPACE_TABLE]) == expected


def test_columns_are_filtered_and_described(described):
    where = {"db_schema": "space", "table_name": SPACE_TABLE}
    # Flight SQL has no filter of columns: the driver's.
    assert flat(objects(described, column_name="strange%", **where)) == {("readmission", "space", SPACE_TABLE): ["strange_"]}
    assert flat(objects(described, column_name="É", **where)) == {("readmission", "space", SPACE_TABLE): ["É"]}
    (table,) = objects(described, **where)[0]["catalog_db_schemas"][0]["db_schema_tables"]
    assert [column["ordinal_position"] for column in table["table_columns"]] == [1, 2, 3]
    assert [column["xdbc_type_name"] for column in table["table_columns"]] == ["BIGINT", "VARCHAR", "DATE"]


def test_the_driver_asks_for_no_keys(connection):
    """Its `table_constraints` are empty for every server; JDBC and Go's client of Flight SQL list the keys."""
    (table,) = objects(connection, db_schema="snds", table_name="t_mco_b")[0]["catalog_db_schemas"][0]["db_schema_tables"]
    assert table["table_constraints"] == []


def test_table_types(connection):
    assert set(rows_of(connection.get_table_types()).read_all()["table_type"].to_pylist()) == {"TABLE", "VIEW", "SYSTEM TABLE"}


def test_schemas_of_tables(described):
    expected = pa.schema([pa.field("a", pa.int64(), nullable=False), ("É", pa.string()), ("strange_", pa.date32())])
    for catalog, schema in (("readmission", "space"), (None, "space"), (None, None)):
        assert schema_of(described.get_table_schema(catalog, schema, SPACE_TABLE)).equals(expected, check_metadata=False)
    for catalog, schema, table in ((None, "snds", SPACE_TABLE), ("linked", None, SPACE_TABLE), (None, None, "(SELECT 1)"), (None, None, "nothing")):
        with pytest.raises(ProgrammingError, match="NOT_FOUND|NotFound"):
            described.get_table_schema(catalog, schema, table)


def test_a_name_is_no_pattern_for_a_schema(connection):
    """What looks like a pattern is a name where one table is meant."""
    change(connection, 'CREATE OR REPLACE TABLE space."validat_d" (other INT)')
    change(connection, f"CREATE OR REPLACE TABLE space.{SPACE_TABLE} (mine INT)")
    try:
        assert schema_of(connection.get_table_schema(None, "space", "validat_d")).names == ["other"]
    finally:
        change(connection, 'DROP TABLE space."validat_d"')


def test_statistics_are_not_in_flight_sql(connection):
    with pytest.raises(NotSupportedError):
        connection.get_statistics()


# --- queries ---

@pytest.mark.parametrize("sql, column", [
    ("SELECT 42", pa.array([42])), ("SELECT 1 UNION ALL SELECT NULL ORDER BY 1", pa.array([1, None])),
    ("SELECT CAST(1.5 AS REAL)", pa.array([1.5], pa.float32())), ("SELECT 'SaShiSuSeSo'", pa.array(["SaShiSuSeSo"])),
    ("SELECT ''", pa.array([""])), ("SELECT true WHERE false", pa.array([], pa.bool_())),
    ("SELECT current_date() = CAST(now() AS DATE)", pa.array([True])), ("SELECT NULL", pa.nulls(1)),
    ("SELECT 42;", pa.array([42])), ("SELECT 42;;", pa.array([42])), ("SELECT 42; ;\n;", pa.array([42])),
    ("-- what is asked\nSELECT /* this */ 42", pa.array([42])),
])
def test_queries(statement, sql, column):
    statement.set_sql_query(sql)
    told = schema_of(statement.execute_schema())
    handle, count = statement.execute_query()
    reader = rows_of(handle)
    assert count in (-1, len(column))
    assert reader.schema.equals(told) and reader.schema.types == [column.type]
    assert reader.read_all().column(0).to_pylist() == column.to_pylist()


def test_errors_leave_statement_and_connection_usable(statement):
    for sql, text in (("SELEC 1", "SELEC"), ("SELECT nothing", "nothing"), ("SELECT * FROM nothing", "nothing"),
                      ("SELECT 1; SELECT 2", "one SQL statement")):
        for call in (statement.execute_schema, statement.execute_query):
            statement.set_sql_query(sql)
            with pytest.raises(ProgrammingError, match=f"(INVALID_ARGUMENT|NOT_FOUND).*{text}"):
                call()
    statement.set_sql_query("SELECT 1 AS one")
    assert rows_of(statement.execute_query()[0]).read_all().num_rows == 1


def test_nothing_is_no_statement(statement):
    for call in (statement.execute_query, statement.execute_update, statement.prepare, statement.execute_schema,
                 statement.get_parameter_schema, statement.execute_partitions):
        with pytest.raises(ProgrammingError, match="INVALID_STATE"):
            call()


def test_a_query_that_is_run_again_begins_anew(statement):
    statement.set_sql_query("SELECT n FROM generate_series(1, 3) AS s(n)")
    for _ in range(3):
        assert rows_of(statement.execute_query()[0]).read_all()["n"].to_pylist() == [1, 2, 3]
    statement.set_sql_query("SELECT 4 AS n")
    assert rows_of(statement.execute_query()[0]).read_all()["n"].to_pylist() == [4]


def test_results_are_independent(connection):
    """Two streams of one connection, read in turn."""
    with AdbcStatement(connection) as one, AdbcStatement(connection) as other:
        readers = []
        for statement, first in ((one, 0), (other, 100_000)):
            statement.set_sql_query(f"SELECT {first} + n AS n FROM generate_series(1, 50000) AS s(n)")
            readers.append(rows_of(statement.execute_query()[0]))
        found = [[], []]
        for _ in range(3):
            for seen, reader in zip(found, readers):
                seen += reader.read_next_batch()["n"].to_pylist()
        for seen, reader in zip(found, readers):
            seen += reader.read_all()["n"].to_pylist()
    assert [sorted(seen) for seen in found] == [list(range(first + 1, first + 50_001)) for first in (0, 100_000)]


def test_partitions_are_read_elsewhere(database, statement):
    statement.set_sql_query("SELECT n FROM generate_series(1, 30000) AS s(n)")
    parts, schema, _ = statement.execute_partitions()
    assert schema_of(schema).names == ["n"] and parts
    found = []
    for part in parts:
        with AdbcConnection(database) as other:
            found += rows_of(other.read_partition(part)).read_all()["n"].to_pylist()
    assert sorted(found) == list(range(1, 30_001))


def test_changes_count_their_rows(connection, statement):
    assert change(connection, f"CREATE OR REPLACE TABLE space.{SPACE_TABLE} (a BIGINT)") == 0
    assert change(connection, f"INSERT INTO space.{SPACE_TABLE} (a) VALUES (1), (2), (3), (4)") == 4
    assert change(connection, f"UPDATE space.{SPACE_TABLE} SET a = a + 1 WHERE a >= 4") == 1
    # A count and a stream of nothing, where rows are asked for.
    statement.set_sql_query(f"DELETE FROM space.{SPACE_TABLE} WHERE a < 3")
    handle, count = statement.execute_query()
    reader = rows_of(handle)
    assert (count, reader.read_all().num_rows) == (2, 0)
    assert query(connection, f"SELECT sum(a) AS s FROM space.{SPACE_TABLE}")["s"].to_pylist() == [8]


def test_a_cancelled_statement_ends(connection, statement):
    statement.set_sql_query("SELECT count(*) FROM generate_series(1, 100000000000) AS s(n) WHERE n % 7 = 3")
    reader = rows_of(statement.execute_query()[0])
    timer = threading.Timer(0.3, statement.cancel)
    timer.start()
    with pytest.raises(OSError, match="[Cc]ancel"):
        reader.read_next_batch()
    timer.join()
    assert query(connection, "SELECT 1 AS one").num_rows == 1


# --- prepared statements ---

def test_prepared_without_parameters(statement):
    statement.set_sql_query("SELECT 1 AS one")
    statement.prepare()
    # Serialised and of no field: nothing at all would be no schema (adbi#43).
    assert schema_of(statement.get_parameter_schema()).names == []
    for _ in range(2):
        assert rows_of(statement.execute_query()[0]).read_all().to_pydict() == {"one": [1]}


def test_the_schema_of_parameters(statement):
    statement.set_sql_query("SELECT ben_idt, ? AS x FROM snds.t_mco_b WHERE ent_dat > ? AND dgn_pal = ? LIMIT ?")
    statement.prepare()
    assert schema_of(statement.get_parameter_schema()).types == [pa.null(), pa.date32(), pa.string(), pa.int64()]
    with pytest.raises(ProgrammingError, match="INVALID_ARGUMENT"):
        statement.set_sql_query("SELECT ? WHERE $1 = 2")
        statement.prepare()


@pytest.mark.parametrize("rows", [
    pa.record_batch({"a": pa.array([1, None, 3]), "b": pa.array(["x", "", None])}),
    pa.record_batch({"a": pa.array([9_007_199_254_740_993]), "b": pa.array(["é"])}),
])
def test_a_query_runs_for_each_bound_row(statement, rows):
    statement.set_sql_query("SELECT CAST($1 AS BIGINT) AS a, $2 AS b")
    statement.prepare()
    statement.bind(rows)
    assert rows_of(statement.execute_query()[0]).read_all().to_pylist() == rows.to_pylist()
    # Of a stream of several batches as well, and in the order of the rows.
    statement.bind_stream(pa.Table.from_batches([rows] * 3).to_reader())
    assert rows_of(statement.execute_query()[0]).read_all().to_pylist() == rows.to_pylist() * 3


@pytest.mark.parametrize("sql, values, text", [
    ("? || ?", ["l'", "été"], "l'été"), ("? || ? || ?", ["a", "b", "c"], "abc"), ("(? || (?))", ["a", 1], "a1"),
    ("? || NULL", ["a"], None), ("?::VARCHAR || ?", [1, "b"], "1b"),
])
def test_parameters_without_a_type_of_their_own(statement, sql, values, text):
    statement.set_sql_query(f"SELECT {sql} AS t")
    statement.prepare()
    statement.bind(pa.record_batch({f"p{at}": [value] for at, value in enumerate(values)}))
    handle, _ = statement.execute_query()
    assert rows_of(handle).read_all()["t"].to_pylist() == [text]


def test_the_driver_binds_what_was_prepared(statement):
    """Without `prepare` it takes rows for those of a bulk ingest."""
    statement.set_sql_query("SELECT ? + 1 AS a")
    statement.bind(pa.record_batch({"x": pa.array([41])}))
    with pytest.raises(ProgrammingError, match="INVALID_STATE"):
        statement.execute_query()
    statement.prepare()
    statement.bind(pa.record_batch({"x": pa.array([41])}))
    assert rows_of(statement.execute_query()[0]).read_all()["a"].to_pylist() == [42]


def test_the_wrong_number_of_values(statement):
    statement.set_sql_query("SELECT ? AS a")
    statement.prepare()
    statement.bind(pa.record_batch({"a": [1], "b": [2]}))
    with pytest.raises(ProgrammingError, match="1 parameters and a row of 2 values"):
        statement.execute_query()
    # Of none the driver sends nothing, and the row of before is not the server's to remember.
    statement.set_sql_query("SELECT ? AS a")
    statement.prepare()
    with pytest.raises(ProgrammingError, match="INVALID_ARGUMENT.*bind a value"):
        rows_of(statement.execute_query()[0]).read_all()


def test_a_change_runs_for_each_bound_row(connection, statement):
    change(connection, f"CREATE OR REPLACE TABLE space.{SPACE_TABLE} (a BIGINT, b VARCHAR)")
    statement.set_sql_query(f"INSERT INTO space.{SPACE_TABLE} VALUES (?, ?)")
    statement.prepare()
    assert schema_of(statement.get_parameter_schema()).types == [pa.int64(), pa.string()]
    rows = pa.table({"a": [1, None, 3], "b": [None, "é", "z"]})
    statement.bind(rows.to_batches()[0])
    assert statement.execute_update() == 3
    statement.bind_stream(rows.to_reader(max_chunksize=1))
    assert statement.execute_update() == 3
    assert query(connection, f"SELECT * FROM space.{SPACE_TABLE} ORDER BY a NULLS FIRST, b").num_rows == 6
    statement.set_sql_query(f"DELETE FROM space.{SPACE_TABLE}")
    statement.prepare()
    assert statement.execute_update() == 6


# --- ingest ---

ROWS = pa.table({"ints": pa.array([42, -42, None]), "strs": pa.array(["é", None, ""])})


def kept(connection, table=SPACE_TABLE):
    return query(connection, f'SELECT * FROM space."{table}"')


def test_rows_are_appended(connection):
    assert ingest(connection, ROWS) == 3
    assert ingest(connection, ROWS.to_batches()[0], "append") == 3
    assert kept(connection).to_pylist() == ROWS.to_pylist() * 2


def test_a_table_is_replaced_with_other_columns(connection):
    assert ingest(connection, ROWS, "replace") == 3
    assert ingest(connection, pa.table({"other": [1.5]}), "replace") == 1
    assert kept(connection).to_pylist() == [{"other": 1.5}]


def test_a_table_is_made_or_appended_to(connection):
    for times in (1, 2):
        assert ingest(connection, ROWS, "create_append") == 3
        assert kept(connection).num_rows == 3 * times


@pytest.mark.parametrize("mode, rows, text", [
    ("create", ROWS, "exists already"),
    ("append", pa.table({"ints": ["x"], "strs": ["x"]}), "column `ints` has type Utf8"),
    ("append", pa.table({"ints": [1]}), "lack its column `strs`"),
    ("append", pa.table({"ints": [1], "strs": ["x"], "more": [1]}), "more"),
    ("create_append", pa.table({"other": [1]}), "`space.validated`"),
])
def test_rows_that_do_not_fit_change_nothing(connection, mode, rows, text):
    ingest(connection, ROWS)
    with pytest.raises(ProgrammingError, match=f"INVALID_ARGUMENT.*{text}"):
        ingest(connection, rows, mode)
    assert kept(connection).to_pylist() == ROWS.to_pylist()


def test_what_cannot_be_ingested(connection):
    with pytest.raises(ProgrammingError, match="does not exist; make it"):
        ingest(connection, ROWS, "append")
    with pytest.raises(ProgrammingError, match="must call Bind"):
        ingest(connection, None)
    with pytest.raises(NotSupportedError, match="temporary"):
        ingest(connection, ROWS, **{"adbc.ingest.temporary": "true"})


@pytest.mark.parametrize("target, told", [
    ({}, None), ({"adbc.ingest.target_db_schema": "space"}, None),
    ({"adbc.ingest.target_catalog": "readmission", "adbc.ingest.target_db_schema": "space"}, None),
    ({"adbc.ingest.target_catalog": "linked", "adbc.ingest.target_db_schema": "space"}, "does not exist in project"),
    ({"adbc.ingest.target_db_schema": "snds"}, "nobody can change"),
])
def test_the_target_of_rows(connection, target, told):
    if told is None:
        assert ingest(connection, ROWS, **target) == 3
        assert kept(connection).num_rows == 3
    else:
        with pytest.raises(ProgrammingError, match=told):
            ingest(connection, ROWS, **target)
        with pytest.raises(ProgrammingError, match="NOT_FOUND"):
            kept(connection)


def test_a_catalog_alone_is_a_target(connection):
    assert ingest(connection, ROWS, **{"adbc.ingest.target_catalog": "readmission"}) == 3
    assert kept(connection).num_rows == 3
    with pytest.raises(ProgrammingError, match="does not exist in project"):
        ingest(connection, ROWS, "append", **{"adbc.ingest.target_catalog": "linked"})


@pytest.mark.parametrize("name", ["My Table", "a.b", 'a"b', "SELECT", "été", "x" * 60])
def test_names_of_tables_and_columns_are_kept(connection, name):
    quoted = '"' + name.replace('"', '""') + '"'
    try:
        assert ingest(connection, pa.table({name: [1], name.upper() + "_": [2]}), "create", name) == 1
        assert query(connection, f"SELECT {quoted} AS v FROM space.{quoted}")["v"].to_pylist() == [1]
        assert schema_of(connection.get_table_schema(None, "space", name)).names == [name, name.upper() + "_"]
    finally:
        change(connection, f"DROP TABLE IF EXISTS space.{quoted}")


def test_other_connections_see_the_rows(database, connection):
    ingest(connection, ROWS)
    with AdbcConnection(database) as other:
        assert kept(other).num_rows == 3
        ingest(other, ROWS, "append")
    assert kept(connection).num_rows == 6


def test_many_columns_and_no_rows(connection):
    wide = pa.table({f"c{n}": pa.array([n]) for n in range(500)})
    assert ingest(connection, wide) == 1
    assert kept(connection).column_names == wide.column_names
    assert ingest(connection, wide.to_batches()[0].slice(0, 0), "replace") == 0
    assert kept(connection).num_rows == 0
    # Of a stream without a batch the driver sends nothing, not even what is to become of it.
    with pytest.raises(ProgrammingError, match="no descriptor"):
        ingest(connection, wide.slice(0, 0), "replace")


def test_columns_that_take_no_null(connection):
    strict = pa.table({"a": [1, 2]}, schema=pa.schema([pa.field("a", pa.int64(), nullable=False)]))
    assert ingest(connection, strict) == 2
    assert not schema_of(connection.get_table_schema(None, "space", SPACE_TABLE)).field("a").nullable
    told = f"column `a` of `space.{SPACE_TABLE}` is NOT NULL"
    with pytest.raises(ProgrammingError, match=told):
        ingest(connection, pa.table({"a": pa.array([1, None])}), "append")
    with pytest.raises(ProgrammingError, match=told):
        change(connection, f"UPDATE space.{SPACE_TABLE} SET a = NULL")
    for rows in ("VALUES (NULL)", "VALUES (3), (NULL)", "(a) VALUES (NULL)", "SELECT NULL", "SELECT max(a) FROM space.{0} WHERE a > 9"):
        with pytest.raises(ProgrammingError, match=told):
            change(connection, f"INSERT INTO space.{SPACE_TABLE} {rows.format(SPACE_TABLE)}")
    assert kept(connection)["a"].to_pylist() == [1, 2]
