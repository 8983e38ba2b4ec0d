"""What R's `adbi` and `adbcflightsql` need. They are on CRAN, which the tests do without; they wrap the
driver that Python wraps, so their calls are made here, in their order."""

import pyarrow as pa
import pytest
from adbc_driver_manager import AdbcConnection, AdbcStatement, GetObjectsDepth, ProgrammingError

from conftest import any_message, field
from test_flight import Caller
from test_validation import change, database, ingest, manual, query, rows_of, schema_of  # noqa: F401 - a fixture

CARS = pa.table({"name": ["Mazda", "é", None], "mpg": [21.0, None, 22.8], "gear": pa.array([4, 4, None], pa.int32())})


@pytest.fixture
def connection(database):  # noqa: F811
    # `dbReadTable` names no schema: the page of clients says to choose one.
    with AdbcConnection(database, **{"adbc.connection.db_schema": "space"}) as made:
        yield made
        change(made, "DROP TABLE IF EXISTS space.cars")


def get_query(connection, sql, params=None):
    """dbGetQuery: prepared always, its parameters described always, bound where there are some."""
    with AdbcStatement(connection) as statement:
        statement.set_sql_query(sql)
        statement.prepare()
        asked = schema_of(statement.get_parameter_schema())
        if params is not None:
            assert len(asked) == len(params.schema)
            statement.bind_stream(params.to_reader())
        return rows_of(statement.execute_query()[0]).read_all()


def execute(connection, sql, params=None):
    """dbExecute."""
    with AdbcStatement(connection) as statement:
        statement.set_sql_query(sql)
        statement.prepare()
        schema_of(statement.get_parameter_schema())
        if params is not None:
            statement.bind_stream(params.to_reader())
        return statement.execute_update()


@pytest.mark.parametrize("sql", ["SELECT 1 AS one", "CREATE OR REPLACE TABLE space.cars (a INT)", "DELETE FROM space.cars"])
def test_no_parameters_are_a_schema_of_no_fields(hub, connection, sql):
    """Serialised: empty bytes made `dbGetQuery` fail (adbi#43)."""
    change(connection, "CREATE OR REPLACE TABLE space.cars (a INT)")
    (reply,) = Caller(hub, "researcher").act(
        "CreatePreparedStatement", any_message("ActionCreatePreparedStatementRequest", field(1, sql.encode())))
    # ActionCreatePreparedStatementResult: handle, dataset schema, parameter schema.
    at = reply.index(b"\x0a\x10", reply.index(b"Result")) + 18
    found = {}
    while at < len(reply):
        number, at = reply[at] >> 3, at + 1
        length, shift = 0, 0
        while True:
            length, shift, at = length | (reply[at] & 127) << shift, shift + 7, at + 1
            if not reply[at - 1] & 128:
                break
        if number in (2, 3):
            found[number] = reply[at:at + length]
            at += length
    assert len(pa.ipc.read_schema(pa.py_buffer(found[3]))) == 0
    # A query has columns, a change has none: that is how JDBC and others tell them apart.
    columns = len(pa.ipc.read_schema(pa.py_buffer(found[2]))) if found.get(2) else 0
    assert columns == (1 if sql.startswith("SELECT") else 0)


def test_queries_and_their_parameters(connection):
    assert get_query(connection, "SELECT 'é' AS e").to_pylist() == [{"e": "é"}]
    assert get_query(connection, "SELECT 1 AS a WHERE false").num_rows == 0
    rows = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    assert get_query(connection, "SELECT CAST(? AS BIGINT) AS a, CAST(? AS VARCHAR) AS b", rows).to_pylist() == rows.to_pylist()


def test_tables_are_written_and_read(connection):
    # dbWriteTable: rows as a stream, a table without a schema.
    assert ingest(connection, CARS, "create", "cars") == 3
    assert get_query(connection, 'SELECT * FROM "cars"').to_pylist() == CARS.to_pylist()
    with pytest.raises(ProgrammingError, match="exists already"):
        ingest(connection, CARS, "create", "cars")
    # dbAppendTable, dbListFields, dbExistsTable, dbRemoveTable.
    assert ingest(connection, CARS, "append", "cars") == 3
    assert get_query(connection, 'SELECT * FROM "cars" LIMIT 0').column_names == CARS.column_names
    found = rows_of(connection.get_objects(GetObjectsDepth.TABLES)).read_all().to_pylist()
    names = [table["table_name"] for schema in found[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]]
    assert "cars" in names
    execute(connection, 'DROP TABLE "cars"')
    with pytest.raises(ProgrammingError, match="NOT_FOUND"):
        get_query(connection, 'SELECT * FROM "cars"')


def test_a_table_that_was_written_is_read_without_its_schema(database):  # noqa: F811
    """The session has no schema, and its project one dataset, whose schema is the default one."""
    with AdbcConnection(database) as plain:
        ingest(plain, CARS, "replace", "cars")
        try:
            assert query(plain, 'SELECT * FROM "cars"').num_rows == 3
            assert query(plain, "SELECT cars.* FROM Cars").num_rows == 3
        finally:
            change(plain, 'DROP TABLE "cars"')


def test_changes_are_counted(connection):
    execute(connection, "CREATE OR REPLACE TABLE space.cars (a BIGINT, b VARCHAR)")
    assert execute(connection, "INSERT INTO space.cars VALUES (1, 'x'), (2, 'y')") == 2
    assert execute(connection, "INSERT INTO space.cars VALUES (?, ?)", pa.table({"a": [3, 4], "b": ["z", None]})) == 2
    assert execute(connection, "UPDATE space.cars SET b = ? WHERE a >= ?", pa.table({"b": ["w"], "a": [3]})) == 2
    assert execute(connection, "DELETE FROM space.cars") == 4


def test_types_that_nanoarrow_converts(connection):
    """No views, no dictionaries, no run ends, unless they are asked for."""
    table = get_query(connection, "SELECT * FROM snds.er_prs_f LIMIT 5")
    assert {str(kind).partition("(")[0] for kind in table.schema.types} <= {
        "string", "int16", "int32", "int64", "double", "date32[day]", "decimal128", "bool", "timestamp[us]"}


def test_begin_and_rollback(database):  # noqa: F811
    with AdbcConnection(database) as own:
        change(own, "CREATE OR REPLACE TABLE space.cars (a INT)")
        manual(own)
        change(own, "INSERT INTO space.cars VALUES (1)")
        own.rollback()
        own.set_autocommit(True)
        assert query(own, "SELECT a FROM space.cars").num_rows == 0
        change(own, "DROP TABLE space.cars")
