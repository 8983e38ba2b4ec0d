"""What each tool of Python does with the hub, feature by feature: `tests/matrix.py` makes a table of it."""

import datetime
import threading
import time

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as flightsql
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions, StatementOptions
from adbc_driver_manager import AdbcConnection, AdbcDatabase, AdbcStatement, GetObjectsDepth
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyarrow import flight

from conftest import any_message, field, statement_query
from test_ingest import ingest as ingest_command

OPTION = "adbc.flight.sql.session.option."
SLOW = "SELECT count(*) AS n FROM generate_series(1, 100000000000) AS s(n) WHERE n % 7 = 3"
LONG = "SELECT n, repeat('x', 1000) AS t FROM generate_series(1, 100000000) AS s(n)"
# Each tool's own table: they run on one server.
TABLES = 0


def table_name():
    global TABLES
    TABLES += 1
    return f"of_tools_{TABLES}"


class Tool:
    """A tool, and why it cannot what it cannot."""

    cannot = {}

    def can(self, feature):
        if feature in self.cannot:
            pytest.skip(f"client: {self.cannot[feature]}")


class Dbapi(Tool):
    """ADBC's dbapi, and base of what works on its connection."""

    def connect(self, hub, account="researcher", *, token=None, authority=None, autocommit=True, **options):
        login = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"} if token else {
            "username": account, "password": f"{account}-demo"}
        if authority:
            login[DatabaseOptions.TLS_ROOT_CERTS.value] = authority
        scheme = "grpc+tls" if authority else "grpc"
        return flightsql.connect(f"{scheme}://{hub.flight}", db_kwargs={**login, **options}, autocommit=autocommit)

    def rows(self, connection, sql, parameters=None):
        """A result as an Arrow table."""
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()

    def change(self, connection, sql, parameters=None):
        with connection.cursor() as cursor:
            if isinstance(parameters, list):
                cursor.executemany(sql, parameters)
            else:
                cursor.execute(sql, parameters)
            return cursor.rowcount

    def tables(self, connection):
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        return {(schema["db_schema_name"], table["table_name"])
                for one in objects for schema in one["catalog_db_schemas"] for table in schema["db_schema_tables"]}

    def many(self, connection, sql, batch):
        """A query that runs for each row of parameters."""
        return self.rows(connection, sql, batch)

    def send(self, connection, table, rows):
        with connection.cursor() as cursor:
            assert cursor.adbc_ingest(table, rows, mode="replace", db_schema_name="space") == rows.num_rows

    def manual(self, hub):
        return self.connect(hub, autocommit=False)

    def stop(self, connection):
        """Begins what is slow, and stops it."""
        with connection.cursor() as cursor:
            cursor.execute(SLOW)
            threading.Timer(0.3, cursor.adbc_cancel).start()
            cursor.fetchall()

    def wait(self, connection):
        """Begins what is slow, and waits for half a second."""
        with connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{StatementOptions.TIMEOUT_FETCH.value: "0.5"})
            cursor.execute(SLOW)
            cursor.fetchall()

    def options(self, connection, **options):
        connection.adbc_connection.set_options(**{OPTION + name: value for name, value in options.items()})


def reader_of(statement):
    handle, _ = statement.execute_query()
    return pa.RecordBatchReader._import_from_c(handle.address)


class LowLevel(Dbapi):
    """The driver manager."""

    def connect(self, hub, account="researcher", *, token=None, authority=None, autocommit=True):
        login = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"} if token else {
            "username": account, "password": f"{account}-demo"}
        if authority:
            login[DatabaseOptions.TLS_ROOT_CERTS.value] = authority
        scheme = "grpc+tls" if authority else "grpc"
        made = AdbcConnection(AdbcDatabase(driver=adbc_driver_flightsql._driver_path(), uri=f"{scheme}://{hub.flight}", **login))
        if not autocommit:
            made.set_autocommit(False)
        return made

    def statement(self, connection, sql, parameters=None):
        statement = AdbcStatement(connection)
        statement.set_sql_query(sql)
        if parameters is not None:
            if not isinstance(parameters, pa.RecordBatch):
                rows = parameters if isinstance(parameters, list) else [parameters]
                parameters = pa.record_batch({str(n): pa.array(values) for n, values in enumerate(zip(*rows))})
            statement.prepare()
            statement.bind(parameters)
        return statement

    def rows(self, connection, sql, parameters=None):
        with self.statement(connection, sql, parameters) as statement:
            return reader_of(statement).read_all()

    def change(self, connection, sql, parameters=None):
        with self.statement(connection, sql, parameters) as statement:
            return statement.execute_update()

    def tables(self, connection):
        handle = connection.get_objects(GetObjectsDepth.TABLES)
        objects = pa.RecordBatchReader._import_from_c(handle.address).read_all().to_pylist()
        return {(schema["db_schema_name"], table["table_name"])
                for one in objects for schema in one["catalog_db_schemas"] for table in schema["db_schema_tables"]}

    def send(self, connection, table, rows):
        with AdbcStatement(connection) as statement:
            statement.set_options(**{"adbc.ingest.target_table": table, "adbc.ingest.target_db_schema": "space",
                                     "adbc.ingest.mode": "adbc.ingest.mode.replace"})
            statement.bind_stream(rows.to_reader())
            assert statement.execute_update() == rows.num_rows

    def manual(self, hub):
        return self.connect(hub, autocommit=False)

    def stop(self, connection):
        with self.statement(connection, SLOW) as statement:
            reader = reader_of(statement)
            threading.Timer(0.3, statement.cancel).start()
            reader.read_next_batch()

    def wait(self, connection):
        with self.statement(connection, SLOW) as statement:
            statement.set_options(**{StatementOptions.TIMEOUT_FETCH.value: "0.5"})
            reader_of(statement).read_next_batch()

    def options(self, connection, **options):
        connection.set_options(**{OPTION + name: value for name, value in options.items()})


class Calls:
    """A client of Flight, and what each of its calls carries."""

    def __init__(self, client, header):
        self.client, self.header, self.transaction = client, header, None

    def options(self, **more):
        return flight.FlightCallOptions(headers=[self.header], **more)

    def act(self, name, body):
        return [one.body.to_pybytes() for one in self.client.do_action(flight.Action(name, body), self.options())]

    def put(self, command, batch):
        writer, reader = self.client.do_put(flight.FlightDescriptor.for_command(command), batch.schema, self.options())
        if batch.num_columns:
            writer.write_batch(batch)
        writer.done_writing()
        answer = reader.read()
        writer.close()
        return answer.to_pybytes() if answer else b""

    def read(self, command, **more):
        info = self.client.get_flight_info(flight.FlightDescriptor.for_command(command), self.options())
        chunks = [self.client.do_get(one.ticket, self.options(**more)).read_chunk() for one in info.endpoints] if more else [
            self.client.do_get(one.ticket, self.options()).read_all() for one in info.endpoints]
        return chunks[0] if more else pa.concat_tables(chunks)

    def commit(self):
        self.end(1)

    def rollback(self):
        self.end(2)

    def begin(self):
        (reply,) = self.act("BeginTransaction", any_message("ActionBeginTransactionRequest", b""))
        # ActionBeginTransactionResult in an Any: its one field, to the end.
        self.transaction = reply[reply.index(b"Result") + 6:][4:]

    def end(self, how):
        self.act("EndTransaction", any_message("ActionEndTransactionRequest", field(1, self.transaction) + bytes([2 << 3, how])))
        self.begin()

    def close(self):
        self.client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Flight(Dbapi):
    """pyarrow.flight, with the messages of Flight SQL written by hand."""

    def connect(self, hub, account="researcher", *, token=None, authority=None):
        client = flight.FlightClient(f"grpc+tls://{hub.flight}", tls_root_certs=authority) if authority else flight.FlightClient(
            f"grpc+tcp://{hub.flight}")
        header = (b"authorization", f"Bearer {token}".encode()) if token else client.authenticate_basic_token(account, f"{account}-demo")
        return Calls(client, header)

    def prepared(self, connection, sql, parameters, command):
        reply = connection.act("CreatePreparedStatement", any_message("ActionCreatePreparedStatementRequest", field(1, sql.encode())))[0]
        start = reply.index(b"\x0a\x10", reply.index(b"Result")) + 2
        message = any_message(command, field(1, reply[start:start + 16]))
        if not isinstance(parameters, pa.RecordBatch):
            rows = parameters if isinstance(parameters, list) else [parameters]
            parameters = pa.record_batch({str(n): pa.array(values) for n, values in enumerate(zip(*rows))})
        return message, connection.put(message, parameters)

    def rows(self, connection, sql, parameters=None):
        if parameters is None:
            return connection.read(statement_query(sql))
        message, _ = self.prepared(connection, sql, parameters, "CommandPreparedStatementQuery")
        return connection.read(message)

    def change(self, connection, sql, parameters=None):
        if parameters is None:
            own = field(2, connection.transaction) if connection.transaction else b""
            answer = connection.put(any_message("CommandStatementUpdate", field(1, sql.encode()) + own), pa.record_batch({}))
        else:
            _, answer = self.prepared(connection, sql, parameters, "CommandPreparedStatementUpdate")
        # DoPutUpdateResult: a varint, of a small number here; nothing is 0.
        return answer[1] if answer else 0

    def tables(self, connection):
        listed = connection.client.list_flights(b"", connection.options())
        return {tuple(part.decode() for part in info.descriptor.path[1:]) for info in listed}

    def send(self, connection, table, rows):
        connection.put(ingest_command(table, existing="replace", schema="space"), rows.combine_chunks().to_batches()[0])

    def manual(self, hub):
        made = self.connect(hub)
        made.begin()
        return made

    def stop(self, connection):
        info = connection.client.get_flight_info(flight.FlightDescriptor.for_command(statement_query(SLOW)), connection.options())
        reader = connection.client.do_get(info.endpoints[0].ticket, connection.options())
        threading.Timer(0.3, lambda: connection.act("CancelFlightInfo", field(1, info.serialize()))).start()
        reader.read_chunk()

    def wait(self, connection):
        connection.read(statement_query(SLOW), timeout=0.5)

    def options(self, connection, **options):
        # SetSessionOptionsRequest: a map of names and values, of which field 1 is a text.
        body = b"".join(field(1, field(1, name.encode()) + field(2, field(1, value.encode()))) for name, value in options.items())
        assert connection.act("SetSessionOptions", body) in ([], [b""])


OF_ADBC = "rows go by ADBC's bulk ingest, which belongs to no transaction; changes are the ADBC cursor's"
READS = "it reads and writes tables; other changes are the ADBC cursor's"


class Polars(Dbapi):
    """polars on a connection of ADBC."""

    cannot = {"update count": READS, "transactions": OF_ADBC}

    def rows(self, connection, sql, parameters=None):
        options = {} if parameters is None else {"execute_options": {"parameters": parameters}}
        return pl.read_database(sql, connection, **options).to_arrow()

    def tables(self, connection):
        found = self.rows(connection, "SELECT table_schema, table_name FROM information_schema.tables").to_pylist()
        return {(row["table_schema"], row["table_name"]) for row in found}

    def send(self, connection, table, rows):
        assert pl.from_arrow(rows).write_database(f"space.{table}", connection, engine="adbc", if_table_exists="replace") == rows.num_rows

    def stop(self, connection):
        """Batches as they come: whoever leaves ends the statement."""
        batches = pl.read_database(LONG, connection, iter_batches=True, batch_size=1_000)
        assert next(batches).height > 0
        batches.close()
        del batches
        raise InterruptedError("cancelled by leaving")

    def wait(self, connection):
        self.options(connection, statement_seconds="1")
        self.rows(connection, SLOW)


class Pandas(Polars):
    """pandas on a connection of ADBC."""

    cannot = Polars.cannot | {
        "parameters": "pandas passes no parameters to ADBC; the ADBC cursor binds them, and `fetch_df` makes a frame",
        "many rows of parameters": "pandas passes no parameters to ADBC; the ADBC cursor binds them, and `fetch_df` makes a frame",
        "cancel": "`read_sql` over ADBC takes no `chunksize` and gives nothing to cancel by; the ADBC cursor has `adbc_cancel`"}

    def rows(self, connection, sql, parameters=None):
        return pa.Table.from_pandas(pd.read_sql(sql, connection, dtype_backend="pyarrow", params=parameters), preserve_index=False)

    def send(self, connection, table, rows):
        frame = rows.to_pandas(types_mapper=pd.ArrowDtype)
        assert frame.to_sql(table, connection, schema="space", if_exists="replace", index=False) == rows.num_rows


class DuckDB(Polars):
    """DuckDB over readers of ADBC."""

    cannot = {"update count": READS, "transactions": OF_ADBC}

    def rows(self, connection, sql, parameters=None):
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            rows = cursor.fetch_record_batch()  # noqa: F841 - DuckDB finds it by its name
            return duckdb.sql("SELECT * FROM rows").to_arrow_table()

    def send(self, connection, table, rows):
        with connection.cursor() as cursor:
            sent = duckdb.sql("SELECT * FROM rows").to_arrow_reader(1_000)
            assert cursor.adbc_ingest(table, sent, mode="replace", db_schema_name="space") == rows.num_rows

    def stop(self, connection):
        with connection.cursor() as cursor:
            cursor.execute(SLOW)
            rows = cursor.fetch_record_batch()  # noqa: F841
            threading.Timer(0.3, cursor.adbc_cancel).start()
            duckdb.sql("SELECT * FROM rows").fetchall()


TOOLS = {"dbapi": Dbapi(), "low level": LowLevel(), "flight": Flight(), "polars": Polars(), "pandas": Pandas(), "DuckDB": DuckDB()}


@pytest.fixture(params=TOOLS)
def tool(request):
    return TOOLS[request.param]


@pytest.fixture
def connection(tool, hub):
    with tool.connect(hub) as made:
        yield made


def test_password(tool, hub):
    with tool.connect(hub) as connection:
        assert tool.rows(connection, "SELECT 'é' AS e, 42 AS n").to_pylist() == [{"e": "é", "n": 42}]


def test_token(tool, hub):
    with tool.connect(hub) as login:
        token = tool.rows(login, "CALL hub.create_token('tools', 1)")["token"][0].as_py()
    with tool.connect(hub, token=token) as connection:
        assert tool.rows(connection, "SELECT 7 AS n")["n"].to_pylist() == [7]
    with pytest.raises(Exception, match="log in again|not valid"):
        with tool.connect(hub, token="hubpat_nothing") as connection:
            tool.rows(connection, "SELECT 7 AS n")


def authority_of_another():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1)).add_extension(
        x509.BasicConstraints(True, None), critical=True).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_tls(tool, tls_hub):
    authority = (tls_hub.dir / "tls/ca.pem").read_text()
    with tool.connect(tls_hub, authority=authority) as connection:
        assert tool.rows(connection, "SELECT true AS secret")["secret"].to_pylist() == [True]
    # Of another authority it is not trusted.
    with pytest.raises(Exception, match="(?i)certificate|handshake|tls|ssl|unavailable|could not finish"):
        with tool.connect(tls_hub, authority=authority_of_another()) as connection:
            tool.rows(connection, "SELECT 1 AS n")


def test_metadata(tool, connection):
    tables = tool.tables(connection)
    assert {("snds", "t_mco_b"), ("snds", "ir_ben_r"), ("hub", "usage")} <= tables
    assert not any(schema == "cardio" for schema, _ in tables), "another project's"


def test_query(tool, connection, hub):
    sql = "SELECT dgn_pal, count(*) AS n FROM snds.t_mco_b GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5"
    assert tool.rows(connection, sql).to_pylist() == hub.query("researcher", sql).to_pylist()
    many = tool.rows(connection, "SELECT n, 'x' || n AS t FROM generate_series(1, 200000) AS s(n)")
    assert many.num_rows == 200_000 and sum(many["n"].to_pylist()) == 20_000_100_000
    assert tool.rows(connection, "SELECT 1 AS n WHERE false").num_rows == 0


def test_parameters(tool, connection, hub):
    tool.can("parameters")
    sql = "SELECT count(*) AS n FROM snds.t_mco_b WHERE dgn_pal LIKE ? AND sej_nbj >= ?"
    expected = hub.query("researcher", "SELECT count(*) AS n FROM snds.t_mco_b WHERE dgn_pal LIKE 'I%' AND sej_nbj >= 2")
    assert tool.rows(connection, sql, ("I%", 2)).to_pylist() == expected.to_pylist() != [{"n": 0}]
    assert tool.rows(connection, "SELECT $1::VARCHAR || $2::VARCHAR AS t", ("l'", "été")).to_pylist() == [{"t": "l'été"}]


def test_many_rows_of_parameters(tool, connection):
    tool.can("many rows of parameters")
    batch = pa.record_batch({"a": pa.array([*range(500), None]), "b": pa.array([f"é{n}" for n in range(501)])})
    seen = tool.many(connection, "SELECT CAST($1 AS BIGINT) AS a, CAST($2 AS VARCHAR) AS b", batch)
    assert seen.to_pylist() == batch.to_pylist()


def test_pandas_still_passes_no_parameters(hub):
    pandas = TOOLS["pandas"]
    with pandas.connect(hub) as connection:
        with pytest.raises(NotImplementedError, match="params"):
            pandas.rows(connection, "SELECT ? AS n", (1,))
        with pytest.raises(NotImplementedError, match="chunksize"):
            pd.read_sql("SELECT 1 AS n", connection, chunksize=10)


def test_update_count(tool, connection):
    tool.can("update count")
    table = f"space.{table_name()}"
    assert tool.change(connection, f"CREATE OR REPLACE TABLE {table} (a BIGINT, b VARCHAR)") == 0
    assert tool.change(connection, f"INSERT INTO {table} VALUES (1, 'x'), (2, NULL), (3, 'z')") == 3
    assert tool.change(connection, f"INSERT INTO {table} VALUES (?, ?)", [(n, f"é{n}") for n in range(10, 30)]) == 20
    assert tool.change(connection, f"UPDATE {table} SET b = ? WHERE a < ?", ("y", 3)) == 2
    assert tool.change(connection, f"DELETE FROM {table} WHERE a > 100") == 0
    assert tool.rows(connection, f"SELECT count(*) AS n FROM {table} WHERE b = 'y'")["n"].to_pylist() == [2]
    tool.change(connection, f"DROP TABLE {table}")


def test_ingest(tool, connection, hub):
    table = table_name()
    sent = pa.table({"code": ["I50", None, "é"], "n": [1, 2, None], "x": [0.1, None, float("inf")]})
    for _ in range(2):
        tool.send(connection, table, sent)
    assert hub.query("researcher", f"SELECT * FROM space.{table}").to_pylist() == sent.to_pylist()
    TOOLS["low level"].change(TOOLS["low level"].connect(hub), f"DROP TABLE space.{table}")


def test_transactions(tool, hub):
    tool.can("transactions")
    table = f"space.{table_name()}"
    with tool.connect(hub) as other:
        tool.change(other, f"CREATE TABLE {table} (a BIGINT)")
        with tool.manual(hub) as own:
            assert tool.change(own, f"INSERT INTO {table} VALUES (1), (2)") == 2
            assert tool.rows(other, f"SELECT a FROM {table}").num_rows == 0
            own.rollback()
            tool.change(own, f"INSERT INTO {table} VALUES (3)")
            own.commit()
        assert tool.rows(other, f"SELECT a FROM {table}")["a"].to_pylist() == [3]
        tool.change(other, f"DROP TABLE {table}")


def running(hub):
    """How many statements of queries run, besides the one that asks."""
    return hub.query("researcher", "SELECT count(*) AS n FROM hub.queries WHERE state IN ('open', 'running') AND kind = 'query'")["n"][0].as_py()


def test_cancel(tool, connection, hub):
    tool.can("cancel")
    # What others have asked for and never fetched is open until its ticket ends.
    before = running(hub)
    started = time.monotonic()
    with pytest.raises(Exception, match="(?i)cancel"):
        tool.stop(connection)
    assert time.monotonic() - started < 5
    deadline = time.monotonic() + 5
    while running(hub) > before:
        assert time.monotonic() < deadline, "the statement goes on"
        time.sleep(0.05)
    assert tool.rows(connection, "SELECT 1 AS n")["n"].to_pylist() == [1]


def test_timeout(tool, connection, hub):
    started = time.monotonic()
    with pytest.raises(Exception, match="(?i)deadline exceeded|took longer|time-?out|timed out"):
        tool.wait(connection)
    assert time.monotonic() - started < 5
    assert tool.rows(connection, "SELECT 1 AS n")["n"].to_pylist() == [1]


def test_session_options(tool, connection):
    tool.options(connection, schema="snds", time_zone="Europe/Paris")
    assert tool.rows(connection, "SELECT count(*) > 0 AS some FROM t_mco_b")["some"].to_pylist() == [True]
    noon = "CAST(CAST('2024-07-01T12:00:00Z' AS TIMESTAMP WITH TIME ZONE) AS VARCHAR)"
    assert tool.rows(connection, f"SELECT {noon} AS t")["t"].to_pylist() == ["2024-07-01T14:00:00+02:00"]


def test_errors(tool, connection, hub):
    for sql, text in (("SELECT nothing FROM snds.t_mco_b", "column `nothing` does not exist"),
                      ("SELECT * FROM snds.nothing", "table `snds.nothing` does not exist"),
                      ("SELECT * FROM cardio.ecg", "table `cardio.ecg` does not exist")):
        with pytest.raises(Exception, match=text):
            tool.rows(connection, sql)
    with pytest.raises(Exception, match="not valid"):
        tool.rows(tool.connect(hub, "nobody"), "SELECT 1 AS n")
    with tool.connect(hub, "epidemiologist") as aggregates:
        with pytest.raises(Exception, match="only aggregates of dataset `snds`: ask for"):
            tool.rows(aggregates, "SELECT ben_idt FROM snds.t_mco_b")
    assert tool.rows(connection, "SELECT 1 AS n")["n"].to_pylist() == [1]
