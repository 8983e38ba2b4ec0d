"""Attacks through the protocol: commands that are no SQL, messages that grow, and one text that
many ask at once. Each is shown to be one where nothing protects."""

import gzip
import json
import struct
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import flight, substrait
from pyarrow._substrait import _parse_json_plan

from attack_hub import number, rows, serve_attacked
from conftest import any_message, field, statement_query
from flight_client import Client
from test_bounds import DATA, END_HEADERS, END_STREAM, HEADERS, Http2
from test_differential import CANARY, CANARY_NUMBER, connect, issue_token


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    running = serve_attacked(tmp_path_factory.mktemp("protocol"))
    yield running
    running.stop()
    complaints = [line for line in running.log.read_text().splitlines() if " ERROR " in line]
    assert not complaints, "the server complained:\n" + "\n".join(complaints[:20])


def alive(hub):
    return number(hub, "narrow", "SELECT 1 AS alive") == 1


# --- Substrait ---

def plan_of(*names):
    """A plan that reads the codes of a table of all stays."""
    return _parse_json_plan(json.dumps({"version": {"minorNumber": 54, "producer": "x"}, "relations": [{"root": {
        "names": ["code"], "input": {"read": {
            "baseSchema": {"names": ["code"], "struct": {
                "types": [{"string": {"nullability": "NULLABILITY_NULLABLE"}}], "nullability": "NULLABILITY_REQUIRED"}},
            "namedTable": {"names": list(names)}}}}}]}).encode()).to_pybytes()


def file_plan(path):
    """A plan that reads a file of the server."""
    return _parse_json_plan(json.dumps({"version": {"minorNumber": 54, "producer": "x"}, "relations": [{"root": {
        "names": ["code"], "input": {"read": {
            "baseSchema": {"names": ["code"], "struct": {
                "types": [{"string": {"nullability": "NULLABILITY_NULLABLE"}}], "nullability": "NULLABILITY_REQUIRED"}},
            "localFiles": {"items": [{"uriFile": f"file://{path}", "parquet": {}}]}}}}}]}).encode()).to_pybytes()


def substrait_message(plan):
    return field(1, plan) + field(2, b"0.54.0")


def told(call):
    with pytest.raises((pa.ArrowException, flight.FlightError, KeyError, NotImplementedError)) as caught:
        call()
    return type(caught.value).__name__, str(caught.value).split(". gRPC client")[0]


@pytest.mark.parametrize("plan", ["named", "unqualified", "file", "junk", "empty"])
def test_substrait_plans_are_refused(hub, plan):
    file = f"{hub.dir}/files/stays/0.parquet"
    made = {"named": plan_of("narrow", "data", "stays"), "unqualified": plan_of("stays"), "file": file_plan(file),
            "junk": b"\xff" * 1_000, "empty": b""}[plan]
    if plan in ("named", "unqualified"):
        read = substrait.run_query(pa.py_buffer(made), table_provider=lambda names, schema: pq.read_table(file, columns=["code"]))
        assert CANARY in str(read.read_all()["code"].to_pylist()), "no attack"
    client = hub.clients["narrow"]
    command = any_message("CommandStatementSubstraitPlan", field(1, substrait_message(made)))
    create = any_message("ActionCreatePreparedSubstraitPlanRequest", field(1, substrait_message(made)))
    descriptor = flight.FlightDescriptor.for_command(command)

    def put():
        writer, reader = client.client.do_put(descriptor, pa.schema([("a", pa.int64())]), client.options)
        writer.done_writing()
        reader.read()
        writer.close()

    for call in (lambda: client.info(command), lambda: client.client.get_schema(descriptor, client.options),
                 lambda: client.redeem(command), put,
                 lambda: client.act("CreatePreparedSubstraitPlan", create)):
        kind, text = told(call)
        assert kind in ("NotImplementedError", "ArrowNotImplementedError", "ArrowInvalid"), (kind, text)
        assert not any(inner in text for inner in (CANARY, "parquet", "panicked", "DataFusion", "failed on this request")), text
    # The driver of real clients.
    with connect(hub, "narrow") as connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_substrait_plan(made)
        with pytest.raises(Exception, match="Unimplemented|not offered|InvalidArgument"):
            cursor.adbc_statement.execute_query()
    assert alive(hub)


@pytest.mark.parametrize("name", [
    "CommandStatementIngest", "CommandStatementUpdate", "CommandStatementQuery", "CommandPreparedStatementQuery",
    "CommandPreparedStatementUpdate", "CommandStatementSubstraitPlan", "ActionBeginTransactionRequest", "TicketStatementQuery",
    "CommandNothing", "ActionCancelQueryRequest",
])
def test_a_ticket_is_no_command(hub, name):
    """What was not planned as somebody's is not fetched: commands that are sent where tickets go."""
    client = hub.clients["narrow"]
    sql = f"SELECT code FROM stays WHERE code LIKE '{CANARY}%'"
    assert CANARY in str(rows(hub, "raw", sql)), "no attack"
    for body in (field(1, sql.encode()), field(1, b"stays") + field(2, b"data"), b"", b"\x0a\xff\xff\xff\xff\x0f"):
        kind, text = told(lambda body=body: client.redeem(any_message(name, body)))
        assert CANARY not in text and "failed on this request" not in text, text
    assert alive(hub)


@pytest.mark.parametrize("action", [
    "CreatePreparedSubstraitPlan", "BeginSavepoint", "EndSavepoint", "begintransaction",
    "Shutdown", "HealthCheck", "", "createpreparedstatement", "CreatePreparedStatement ", "hub.cancel",
])
def test_actions_that_are_not_listed_are_refused(hub, action):
    client = hub.clients["narrow"]
    names = [one.type for one in client.client.list_actions(client.options)]
    assert "CreatePreparedStatement" in names and action not in names
    kind, text = told(lambda: client.act(action, any_message("ActionBeginTransactionRequest", b"")))
    assert "not offered" in text, text
    assert alive(hub)


# --- what grows ---

def memory(hub):
    """The largest that the server ever was, in bytes."""
    status = (line.split() for line in open(f"/proc/{hub.process.pid}/status"))
    return next(int(line[1]) << 10 for line in status if line[0] == "VmHWM:")


FRAME_BYTES_MAX = 16_384
BOMB_BYTES = 400 << 20
SIZE = "SELECT octet_length(CAST(? AS VARCHAR)) AS n"


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_rows_are_not_inflated(hub, codec):
    batch = pa.record_batch({"": pa.array([" " * BOMB_BYTES])})
    options = pa.ipc.IpcWriteOptions(compression=codec)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    sent = sink.getvalue()
    assert sent.size < 4 << 20, "no bomb"
    assert pa.ipc.open_stream(sent).read_all().nbytes > BOMB_BYTES, "no attack"
    before = memory(hub)
    client = hub.clients["narrow"]
    handle = client.prepare(SIZE)
    for command in ("CommandPreparedStatementQuery", "CommandPreparedStatementUpdate"):
        descriptor = flight.FlightDescriptor.for_command(any_message(command, field(1, handle)))
        call = flight.FlightCallOptions(
            headers=[(b"authorization", f"Bearer {hub.tokens['narrow']}".encode())], write_options=options)

        def put():
            writer, reader = client.client.do_put(descriptor, batch.schema, call)
            writer.write_batch(batch)
            writer.done_writing()
            reader.read()
            writer.close()

        kind, text = told(put)
        assert "compressed" in text, (kind, text)
    assert memory(hub) - before < BOMB_BYTES // 4
    # What is as large as it says is taken.
    with connect(hub, "narrow") as connection, connection.cursor() as cursor:
        cursor.execute(SIZE, (" " * 1_000,))
        assert cursor.fetch_arrow_table()["n"].to_pylist() == [1_000]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "identity", "x"])
def test_compressed_messages_are_not_inflated(hub, encoding):
    """gRPC's own compression: a flag before the message, and a header that names how."""
    # Less than the window that a connection begins with, in frames of the size that it takes.
    body = gzip.compress(b"\x08\x02" + field(2, statement_query("SELECT 1 --" + " " * (60 << 20))), 9)
    assert len(body) < 64_000 < 60 << 20 < len(gzip.decompress(body)), "no bomb"
    before = memory(hub)
    wire = Http2(hub.flight)
    wire.call(1, "GetFlightInfo", authorization=f"Bearer {hub.tokens['narrow']}")
    descriptor = b"\x08\x02" + field(2, statement_query("SELECT 1"))
    wire.message(1, descriptor)
    assert wire.next(10)[:2] == (HEADERS, END_HEADERS), "a message as it should be is answered by data"
    wire.close()
    wire = Http2(hub.flight)
    wire.call(1, "GetFlightInfo", authorization=f"Bearer {hub.tokens['narrow']}", grpc_encoding=encoding)
    sent = b"\1" + struct.pack(">I", len(body)) + body
    for first in range(0, len(sent), FRAME_BYTES_MAX):
        wire.frame(DATA, END_STREAM if first + FRAME_BYTES_MAX >= len(sent) else 0, 1, sent[first:first + FRAME_BYTES_MAX])
    answered = wire.next(10)
    assert answered == (HEADERS, END_HEADERS | END_STREAM, 1), "an error before any data"
    wire.close()
    assert memory(hub) - before < 32 << 20
    assert alive(hub)


# --- one text ---

TEXTS = [
    "SELECT count(*) AS n, max(birth_year) AS m FROM persons", "SELECT count(*) AS n, max(entered) AS m FROM stays",
    "SELECT min(pid) AS n, max(pid) AS m FROM persons", "SELECT count(DISTINCT code) AS n, count(*) AS m FROM diagnoses",
    "SELECT * FROM space.mine", "SELECT count(*) AS n, min(commune) AS m FROM space.seen",
]


def test_one_text_of_several_projects_at_once(hub):
    """Nothing is remembered by a text alone: neither plans, nor rows, nor prepared statements."""
    projects = ("rows", "rows_too", "narrow", "raw")
    expected = {}
    for project in projects:
        with connect(hub, project) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE space.mine AS SELECT '{project}' AS n, 1 AS m")
            cursor.execute("CREATE VIEW space.seen AS SELECT * FROM persons")
        expected[project] = [rows(hub, project, text) for text in TEXTS]
    for number_, text in enumerate(TEXTS):
        answers = [str(expected[project][number_]) for project in projects]
        assert len(set(answers)) >= 2, f"all see the same of {text}"
    assert len({str(expected[project][2]) for project in projects}) == 4
    wrong = []

    def ask(project, seed):
        client = Client(hub, hub.tokens[project])
        handles = [client.prepare(text) for text in TEXTS]
        for turn in range(25):
            at = (turn * 7 + seed) % len(TEXTS)
            direct = client.run(TEXTS[at])
            prepared = client.redeem(client.info_prepared(handles[at]).endpoints[0].ticket.ticket)
            for seen in (direct.table, prepared):
                if seen is None or seen.to_pylist() != expected[project][at]:
                    wrong.append((project, TEXTS[at], direct.text or seen.to_pylist()))
        client.close()

    threads = [threading.Thread(target=ask, args=(project, seed)) for seed, project in enumerate(projects * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:5]


def test_handles_and_tickets_of_others_at_once(hub):
    """Another person's, and one's own of another project, while they are in use."""
    bob = Client(hub, issue_token(hub.config, "bob", "narrow"))
    alice, elsewhere = hub.clients["narrow"], hub.clients["raw"]
    sql = f"SELECT count(*) AS n FROM stays WHERE n = {CANARY_NUMBER}"
    assert number(hub, "raw", sql) > 0 == number(hub, "narrow", sql), "no attack"
    ticket, handle = elsewhere.ticket(sql), elsewhere.prepare(sql)
    assert elsewhere.redeem(ticket)["n"].to_pylist() == [number(hub, "raw", sql)]
    # Alice carries them into the project that sees less, and Bob has them from her.
    for client in (alice, bob):
        kind, text = told(lambda: client.redeem(ticket))
        assert kind in ("FlightUnauthorizedError", "ArrowInvalid"), (kind, text)
        try:
            answer = client.redeem(client.info_prepared(handle).endpoints[0].ticket.ticket)["n"].to_pylist()
        except (pa.ArrowException, flight.FlightError, KeyError):
            answer = None
        assert answer in (None, [0]), "a handle carries rights"
    for message in (any_message("ActionCancelQueryRequest", field(1, alice.ticket(sql))),):
        told(lambda: bob.act("CancelQuery", message))
    bob.close()
