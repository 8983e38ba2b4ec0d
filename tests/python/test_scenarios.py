"""Scenarios of Arrow's integration suite (by their names there) with Arrow's C++ client, as far as it
speaks them: `tests/go` has all, with Go's. `test_flight.py` has middleware and expiration_time."""

import pyarrow as pa
import pytest
from pyarrow import flight

from test_flight import Caller, path


class BasicProto(flight.ClientAuthHandler):
    """Sends a `BasicAuth` in the handshake's payload, and its answer with each call."""

    def __init__(self, name, password):
        super().__init__()
        self.basic, self.token = flight.BasicAuth(name, password), None

    def authenticate(self, outgoing, incoming):
        outgoing.write(self.basic.serialize())
        self.token = incoming.read()

    def get_token(self):
        return self.token


def test_auth_basic_proto(hub):
    client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    with pytest.raises(flight.FlightUnauthenticatedError):
        client.get_flight_info(path("snds", "ir_cim_v"))
    with pytest.raises(flight.FlightUnauthenticatedError):
        flight.FlightClient(f"grpc+tcp://{hub.flight}").authenticate(BasicProto("researcher", "wrong"))
    client.authenticate(BasicProto("researcher", "researcher-demo"))
    info = client.get_flight_info(path("snds", "ir_cim_v"))
    assert client.do_get(info.endpoints[0].ticket).read_all().num_rows > 0


def test_a_login_is_as_short_as_one_is(hub):
    client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    with pytest.raises(pa.ArrowInvalid, match="may have 4096 bytes"):
        client.authenticate(BasicProto("researcher", "x" * 5_000))


def rows_in_order(caller, info):
    """What is ordered is read endpoint by endpoint."""
    return [row for endpoint in info.endpoints for row in caller.read(endpoint.ticket)["n"].to_pylist()]


def test_ordered(hub):
    caller = Caller(hub, "researcher")
    info = caller.info("SELECT n FROM generate_series(1, 20000) AS s(n) ORDER BY n DESC")
    assert rows_in_order(caller, info) == list(range(20_000, 0, -1))
    assert info.ordered


def test_location_reuse_connection(hub):
    caller = Caller(hub, "researcher")
    for endpoint in caller.info("SELECT * FROM snds.t_mco_b").endpoints:
        assert not endpoint.locations or [one.uri for one in endpoint.locations] == [b"arrow-flight-reuse-connection://?"]
        caller.read(endpoint.ticket)


def test_expiration_time_list_actions(hub):
    caller = Caller(hub, "researcher")
    listed = [one.type for one in caller.client.list_actions(caller.options)]
    assert listed.count("CancelFlightInfo") == listed.count("RenewFlightEndpoint") == 1
    assert len(set(listed)) == len(listed)


def test_expiration_time_do_get(hub):
    caller = Caller(hub, "researcher")
    info = caller.info("SELECT n FROM generate_series(1, 3) AS s(n) ORDER BY n")
    assert all(endpoint.expiration_time is not None for endpoint in info.endpoints)
    for _ in range(2):
        assert rows_in_order(caller, info) == [1, 2, 3]


def test_app_metadata_flight_info_endpoint(hub):
    """Arrow's mock echoes the command of the descriptor, which its client has and `info.descriptor` tells. Here
    both say which statement it is: it can be looked up, and cancelled by its own person alone."""
    caller = Caller(hub, "researcher")
    info = caller.info("SELECT 1 AS one")
    assert [endpoint.app_metadata for endpoint in info.endpoints] == [info.app_metadata]
    name = info.app_metadata.decode()
    look = f"SELECT person FROM hub.queries WHERE statement_id = '{name}'"
    assert hub.query("researcher", look)["person"].to_pylist() == ["researcher"]
    with pytest.raises(Exception):
        hub_change(hub, "hospital", f"CALL hub.cancel('{name}')")
    assert caller.read(info.endpoints[0].ticket)["one"].to_pylist() == [1]
    assert caller.info("SELECT 1 AS one").app_metadata != info.app_metadata


def hub_change(hub, account, sql):
    with hub.connect(account) as connection, connection.cursor() as cursor:
        cursor.execute(sql)


def exchange(caller, command=b"echo"):
    return caller.client.do_exchange(flight.FlightDescriptor.for_command(command), caller.options)


def test_do_exchange_echo(hub):
    writer, reader = exchange(Caller(hub, "researcher"))
    sent = pa.record_batch({"a": [1, 2, 3]})
    with writer:
        writer.begin(sent.schema)
        writer.write_with_metadata(sent, b"first")
        chunk = reader.read_chunk()
        assert chunk.data.equals(sent) and chunk.app_metadata.to_pybytes() == b"first"
        writer.write_metadata(b"second")
        assert reader.read_chunk().app_metadata.to_pybytes() == b"second"
        for _ in range(100):
            writer.write_batch(sent)
            assert reader.read_chunk().data.equals(sent)
        writer.done_writing()
        with pytest.raises(StopIteration):
            reader.read_chunk()


def closed(writer):
    try:
        writer.close()
    except (pa.ArrowException, NotImplementedError):
        pass  # told before


@pytest.mark.parametrize("command, batch, told", [
    (b"SELECT 1", pa.record_batch({"a": [1]}), "the command `echo` alone"),
    (b"echo", pa.record_batch({"a": [0] * 20_000}), "may have 65536"),
])
def test_what_is_not_echoed(hub, command, batch, told):
    caller = Caller(hub, "researcher")
    writer, reader = exchange(caller, command)
    with pytest.raises(Exception, match=told):
        writer.begin(batch.schema)
        writer.write_batch(batch)
        writer.done_writing()
        while True:
            reader.read_chunk()
    closed(writer)


def test_an_echo_is_for_callers_and_takes_up_their_calls(hub):
    stranger = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    writer, reader = stranger.do_exchange(flight.FlightDescriptor.for_command(b"echo"))
    with pytest.raises(flight.FlightUnauthenticatedError):
        reader.read_chunk()
    closed(writer)
    schema = pa.schema([("a", pa.int64())])
    # A connection has as many calls as a person: one more is of another.
    callers = [Caller(hub, "hospital", generic_options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(3)]
    begun = []
    try:
        # Silent ones, each a call of its person.
        with pytest.raises(Exception, match="of your calls are under way"):
            for index in range(200):
                begun.append(exchange(callers[index % 3]))
                begun[-1][0].begin(schema)
                assert begun[-1][1].schema == schema
        assert len(begun) > 100
    finally:
        for writer, reader in begun:
            reader.cancel()
