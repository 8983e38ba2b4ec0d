"""The verbs of Flight that Flight SQL does not need: paths, lists, cancelling and renewing tickets,
the end of a session, names of requests."""

import datetime
import os
import time

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from pyarrow import flight

from conftest import any_message, field, statement_query


class Names(flight.ClientMiddlewareFactory):
    """Gives each call a name and keeps what it is called in the answer."""

    def __init__(self, name):
        self.name, self.told = name, []

    def start_call(self, info):
        factory = self

        class Middleware(flight.ClientMiddleware):
            def sending_headers(self):
                return {"x-request-id": factory.name} if factory.name else {}

            def received_headers(self, headers):
                factory.told += headers.get("x-request-id", [])

        return Middleware()


class Caller:
    """A demo account on the level of Flight."""

    def __init__(self, hub, account, middleware=(), **options):
        self.client = flight.FlightClient(f"grpc+tcp://{hub.flight}", middleware=list(middleware), **options)
        self.options = flight.FlightCallOptions(
            headers=[self.client.authenticate_basic_token(account, f"{account}-demo")])

    def info(self, what):
        descriptor = what if isinstance(what, flight.FlightDescriptor) else flight.FlightDescriptor.for_command(statement_query(what))
        return self.client.get_flight_info(descriptor, self.options)

    def read(self, ticket):
        return self.client.do_get(ticket, self.options).read_all()

    def act(self, name, body=b""):
        return [one.body.to_pybytes() for one in self.client.do_action(flight.Action(name, body), self.options)]

    def list(self, pattern=b""):
        return list(self.client.list_flights(pattern, self.options))


def path(*names):
    return flight.FlightDescriptor.for_path(*names)


def code_of(call):
    with pytest.raises(Exception) as caught:
        call()
    return str(caught.value)


# --- tables as flights ---

def test_the_tables_that_one_sees_are_flights(hub):
    caller = Caller(hub, "researcher")
    listed = caller.list()
    names = [tuple(part.decode() for part in info.descriptor.path) for info in listed]
    assert names == sorted(names) and all(name[0] == "readmission" for name in names)
    with hub.connect("researcher") as connection:
        objects = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    browsed = {(one["catalog_name"], schema["db_schema_name"], table["table_name"])
               for one in objects for schema in one["catalog_db_schemas"] for table in schema["db_schema_tables"]}
    assert set(names) == browsed
    # No project, no tables; no rows, no flights.
    assert Caller(hub, "visitor").list() == []
    assert {info.descriptor.path[1] for info in Caller(hub, "epidemiologist").list()} == {b"hub", b"information_schema"}
    assert all(not info.endpoints and info.total_records == -1 for info in listed)
    few = caller.list(b"snds.t\\_mco\\__")
    assert [info.descriptor.path[2] for info in few] == [b"t_mco_a", b"t_mco_b", b"t_mco_d"]
    # What is told is what is given, less what tools are told besides.
    info = caller.info(few[0].descriptor)
    assert info.schema.equals(few[0].schema, check_metadata=False)
    rows = caller.read(info.endpoints[0].ticket)
    assert rows.num_rows == hub.query("researcher", "SELECT count(*) AS n FROM snds.t_mco_a")["n"][0].as_py() > 0
    assert caller.client.get_schema(few[0].descriptor, caller.options).schema.equals(rows.schema, check_metadata=False)


def test_hidden_tables_and_columns_are_no_flights(hub):
    listed = {info.descriptor.path[2]: info.schema for info in Caller(hub, "researcher").list(b"snds.%")}
    assert "ben_dcd_dte" not in listed[b"ir_ben_r"].names
    assert "ben_dcd_dte" in {info.descriptor.path[2]: info.schema for info in Caller(hub, "hospital").list(b"snds.%")}[b"ir_ben_r"].names
    caller = Caller(hub, "researcher")
    refusals = {code_of(lambda names=names: caller.info(path(*names))).split("debug context")[0].replace(".".join(names), "X")
                for names in (("readmission", "cardio", "ecg"), ("readmission", "nothing", "there"))}
    assert len(refusals) == 1, refusals
    for names in (("linked", "snds", "t_mco_b"), ("readmission", "snds", 't_mco_b" WHERE true OR "x'), ("",), ("a",) * 4, ()):
        code_of(lambda names=names: caller.info(path(*names)))
    assert code_of(lambda: caller.list(b"\xff\xfe"))
    # Aggregates only: no rows, whatever they are asked by.
    assert "aggregate" in code_of(lambda: Caller(hub, "epidemiologist").info(path("surveillance", "snds", "t_mco_b")))


# --- tickets ---

def test_a_change_gives_an_empty_result(hub):
    """It has run when its FlightInfo comes; the ticket there runs nothing, however often it is redeemed."""
    caller, other = Caller(hub, "researcher"), Caller(hub, "hospital")
    caller.info("CREATE OR REPLACE TABLE space.counted (a INT)")
    info = caller.info("INSERT INTO space.counted VALUES (1), (2)")
    assert (len(info.schema), info.total_records, info.app_metadata) == (0, 2, b"")
    usage = "SELECT count(*) AS n FROM hub.usage"
    before = hub.query("researcher", usage)["n"][0].as_py()
    (endpoint,) = info.endpoints
    for whose in (caller, caller, other):
        nothing = whose.read(endpoint.ticket)
        assert (nothing.num_rows, nothing.num_columns) == (0, 0)
    # The query before, at most.
    assert hub.query("researcher", usage)["n"][0].as_py() <= before + 1
    assert hub.query("researcher", "SELECT count(*) AS n FROM space.counted")["n"].to_pylist() == [2]
    with pytest.raises(flight.FlightUnauthenticatedError):
        caller.client.do_get(endpoint.ticket).read_all()
    assert cancel(caller, info) == NOT_CANCELLABLE
    code_of(lambda: renewed(caller, endpoint))
    caller.info("DROP TABLE space.counted")


def renewed(caller, endpoint):
    (reply,) = caller.act("RenewFlightEndpoint", field(1, endpoint.serialize()))
    return flight.FlightEndpoint.deserialize(reply)


def test_tickets_tell_when_they_expire_and_are_renewed(hub):
    caller = Caller(hub, "researcher")
    info = caller.info("SELECT 1 AS one")
    (endpoint,) = info.endpoints
    left = endpoint.expiration_time.as_py() - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(minutes=9) < left <= datetime.timedelta(minutes=10)
    assert not endpoint.locations
    time.sleep(1.1)
    again = renewed(caller, endpoint)
    gained = again.expiration_time.as_py() - endpoint.expiration_time.as_py()
    assert datetime.timedelta(seconds=1) < gained < datetime.timedelta(seconds=30)
    for ticket in (endpoint.ticket, again.ticket):
        assert caller.read(ticket)["one"].to_pylist() == [1]
    # Nobody else's, nothing that is none, and no metadata.
    other = Caller(hub, "hospital")
    text = code_of(lambda: renewed(other, endpoint))
    junk = flight.FlightEndpoint(flight.Ticket(any_message("TicketStatementQuery", field(1, b"junk"))), [])
    assert text.split("debug context")[0] == code_of(lambda: renewed(other, junk)).split("debug context")[0]
    catalogs = flight.FlightDescriptor.for_command(any_message("CommandGetCatalogs", b""))
    (metadata,) = caller.info(catalogs).endpoints
    assert metadata.expiration_time is None
    code_of(lambda: renewed(caller, metadata))


def cancel(caller, info):
    (reply,) = caller.act("CancelFlightInfo", field(1, info.serialize()))
    return reply


CANCELLED, NOT_CANCELLABLE = b"\x08\x01", b"\x08\x03"


def test_what_is_cancelled_before_it_is_fetched_is_not_fetched(hub):
    caller = Caller(hub, "researcher")
    info = caller.info("SELECT 1 AS one")
    again = renewed(caller, info.endpoints[0])
    code_of(lambda: cancel(Caller(hub, "hospital"), info))
    assert caller.read(info.endpoints[0].ticket).num_rows == 1
    assert cancel(caller, info) == CANCELLED
    for ticket in (info.endpoints[0].ticket, again.ticket):
        with pytest.raises(flight.FlightCancelledError):
            caller.read(ticket)
    code_of(lambda: renewed(caller, again))
    catalogs = flight.FlightDescriptor.for_command(any_message("CommandGetCatalogs", b""))
    assert cancel(caller, caller.info(catalogs)) == NOT_CANCELLABLE
    entries = hub.query("researcher", "SELECT outcome, error_kind FROM hub.audit ORDER BY seq DESC LIMIT 12").to_pylist()
    assert entries.count({"outcome": "refused", "error_kind": "cancelled"}) == 2, entries


# --- sessions ---

SLOW = "SELECT count(*) FROM generate_series(1, 100000000000) AS a(n) WHERE n % 7 = 3"


def test_a_session_that_is_closed_ends_what_it_runs(hub):
    caller, other = Caller(hub, "researcher"), Caller(hub, "researcher")
    prepare = any_message("ActionCreatePreparedStatementRequest", field(1, b"SELECT 1 AS one"))
    (reply,) = caller.act("CreatePreparedStatement", prepare)
    start = reply.index(b"\x0a\x10", reply.index(b"Result")) + 2
    handle = any_message("CommandPreparedStatementQuery", field(1, reply[start:start + 16]))
    prepared = flight.FlightDescriptor.for_command(handle)
    assert caller.read(caller.info(prepared).endpoints[0].ticket).num_rows == 1
    reader = caller.client.do_get(caller.info(SLOW).endpoints[0].ticket, caller.options)
    time.sleep(0.5)
    assert other.act("CloseSession")
    started = time.monotonic()
    assert caller.act("CloseSession")
    # `read_all` would make an interrupt from the keyboard of it, wherever it came from.
    with pytest.raises(flight.FlightCancelledError):
        reader.read_chunk()
    assert time.monotonic() - started < 2
    code_of(lambda: caller.info(prepared))
    assert caller.read(caller.info("SELECT 1 AS one").endpoints[0].ticket).num_rows == 1


def test_options_have_their_types(hub):
    with hub.connect("researcher") as connection:
        database = connection.adbc_connection
        prefix = "adbc.flight.sql.session.option."
        connection.adbc_connection.set_options(**{prefix + "priority": "batch", prefix + "statement_seconds": "50"})
        assert database.get_option(prefix + "priority") == "batch"
        assert database.get_option_int(prefix + "statement_seconds") == 50
        with pytest.raises(Exception):
            connection.adbc_connection.set_options(**{prefix + "priority": "now"})
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 AS one")
            assert cursor.fetchone() == (1,)


@pytest.mark.parametrize("sql, is_update", [("SELECT 1", False), ("CREATE TABLE space.never AS SELECT 1 AS a", True)])
def test_prepared_statements_say_whether_they_change_something(hub, sql, is_update):
    message = any_message("ActionCreatePreparedStatementRequest", field(1, sql.encode()))
    (reply,) = Caller(hub, "researcher").act("CreatePreparedStatement", message)
    assert reply.endswith(bytes([4 << 3, is_update]))


# --- names of requests ---

@pytest.mark.parametrize("name", ["trace-4711", None])
def test_requests_have_names(hub, name):
    names = Names(name)
    caller = Caller(hub, "researcher", [names])
    names.told.clear()
    caller.read(caller.info("SELECT 1 AS one").endpoints[0].ticket)
    code_of(lambda: caller.info("SELECT nothing FROM nowhere"))
    assert len(names.told) == 3, names.told
    assert set(names.told) == {name} if name else len(set(names.told)) == 3


# --- what tools ask ---

FLIGHT = "arrow.flight.protocol.FlightService"


def test_anybody_may_ask_whether_the_server_serves(hub):
    with grpc.insecure_channel(hub.flight) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", FLIGHT):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(health.Watch(health_pb2.HealthCheckRequest()))
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        for wrong, code in (("snds.t_mco_b", grpc.StatusCode.NOT_FOUND), ("x" * 10_000, grpc.StatusCode.OUT_OF_RANGE)):
            with pytest.raises(grpc.RpcError) as caught:
                health.Check(health_pb2.HealthCheckRequest(service=wrong))
            assert caught.value.code() == code, caught.value


def test_callers_may_ask_what_is_offered(hub):
    client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    _, bearer = client.authenticate_basic_token("visitor", "visitor-demo")
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=FLIGHT)
    imported = reflection_pb2.ServerReflectionRequest(file_by_filename="google/protobuf/timestamp.proto")
    everything = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(hub.flight) as channel:
        older, ask = (channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString) for version in ("v1alpha", "v1"))
        answers = list(ask(iter([imported, question]), metadata=[("authorization", bearer.decode())]))
        pool = DescriptorPool()
        for answer in answers:
            (file,) = answer.file_descriptor_response.file_descriptor_proto
            pool.AddSerializedFile(file)
        methods = {method.name for method in pool.FindServiceByName(FLIGHT).methods}
        assert {"GetFlightInfo", "PollFlightInfo", "DoGet", "DoPut", "ListFlights"} <= methods
        (answer,) = older(iter([everything]), metadata=[("authorization", bearer.decode())])
        names = {service.name for service in answer.list_services_response.service}
        assert {FLIGHT, "grpc.health.v1.Health"} <= names
        for call in (older, ask):
            for metadata in ([], [("authorization", "Bearer " + "A" * 200)]):
                with pytest.raises(grpc.RpcError) as caught:
                    list(call(iter([question]), metadata=metadata))
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


# --- what computes for long ---

NUMBERS = "(SELECT n, n % 2 AS k FROM generate_series(1, 2000000) AS s(n))"
ENDLESS = {
    # Judges pairs of rows, of which none is asked for.
    "nested loop": f"SELECT count(*) FROM {NUMBERS} a, {NUMBERS} b WHERE a.n + b.n = -1",
    "hash": f"SELECT count(*) FROM {NUMBERS} a JOIN {NUMBERS} b ON a.k = b.k AND a.n + b.n = -1",
    # Makes rows of rows that it holds, and sums them up.
    "cross": f"SELECT sum(a.n * b.n % 7) FROM {NUMBERS} a, {NUMBERS} b",
    "lists": "SELECT sum(x) FROM (SELECT unnest(range(1, 100000)) AS x FROM generate_series(1, 100000000) AS s(n))",
}


def seconds_of(process):
    """Of the processors, that a process took since it began."""
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("name", ENDLESS)
def test_what_computes_for_long_keeps_nobody_waiting_and_ends(hub, name):
    """Operators that let go of their thread for no row stop with their statement, and others go on."""
    caller, other = Caller(hub, "researcher"), Caller(hub, "hospital")
    infos = [caller.info(ENDLESS[name]) for _ in range(4)]
    readers = [caller.client.do_get(info.endpoints[0].ticket, caller.options) for info in infos]
    time.sleep(1)
    busy = seconds_of(hub.process)
    for _ in range(3):
        started = time.monotonic()
        assert other.read(other.info("SELECT count(*) AS n FROM snds.t_mco_b").endpoints[0].ticket)["n"][0].as_py() > 0
        assert time.monotonic() - started < 3
    time.sleep(0.5)
    assert seconds_of(hub.process) - busy > 0.3, "it does not compute for long"
    # One is cancelled, of one the session is closed, and who reads the others is gone.
    assert cancel(caller, infos[0]) == CANCELLED
    with pytest.raises(flight.FlightCancelledError):
        readers[0].read_chunk()
    readers[2].cancel()
    assert caller.act("CloseSession")
    with pytest.raises(flight.FlightCancelledError):
        readers[1].read_chunk()
    del readers
    deadline = time.monotonic() + 10
    while True:
        before = seconds_of(hub.process)
        time.sleep(0.5)
        if seconds_of(hub.process) - before < 0.2:
            break
        assert time.monotonic() < deadline, "it computes on"


def test_a_long_silence_is_broken_by_batches_of_no_rows(tmp_path):
    """They cost nothing: the usage is that of an answer that comes at once."""
    from test_transactions import serve
    served = serve(tmp_path, "keep_alive_seconds = 1")
    client = flight.FlightClient(f"grpc://{served.hub.flight}")
    options = flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {served.token}".encode())], timeout=180)

    def chunks(sql):
        info = client.get_flight_info(flight.FlightDescriptor.for_command(statement_query(sql)), options)
        reader, read = client.do_get(info.endpoints[0].ticket, options), []
        while True:
            try:
                read.append(reader.read_chunk().data)
            except StopIteration:
                assert all(chunk.schema == info.schema for chunk in read)
                return read

    try:
        slow = chunks("SELECT count(*) AS n FROM generate_series(1, 40000) AS a, generate_series(1, 40000) AS b "
                      "WHERE a.value * b.value % 7 = 3")
        quick = chunks("SELECT count(*) AS n FROM generate_series(1, 3) AS a")
        print(len(slow), "batches")
        assert [chunk.num_rows for chunk in quick] == [1]
        assert [chunk.num_rows for chunk in slow] == [0] * (len(slow) - 1) + [1] and len(slow) > 1
        used = chunks("SELECT rows_returned, bytes_returned FROM hub.usage ORDER BY started_at")
        used = [row for chunk in used for row in chunk.to_pylist()][:2]
        assert used[0] == used[1] and used[0]["rows_returned"] == 1 and used[0]["bytes_returned"] > 0, used
    finally:
        client.close()
        served.hub.stop()
