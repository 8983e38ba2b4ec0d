"""Scenarios of Arrow's integration suite (by their names there) with Arrow's C++ client, as far as it
speaks them: `tests/go` has all, with Go's. `test_flight.py` has middleware and expiration_time."""

import pyarrow as pa
import pytest
from pyarrow import flight

from test_flight import Caller, path


def without(error, text, reason):
    """Skips where the server refuses what it does not offer, in just these words."""
    if text in str(error):
        pytest.skip(f"server: {reason}")
    raise error


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


@pytest.mark.parametrize("password", ["researcher-demo", "wrong"])
def test_auth_basic_proto(hub, password):
    client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    with pytest.raises(flight.FlightUnauthenticatedError):
        client.get_flight_info(path("snds", "ir_cim_v"))
    try:
        client.authenticate(BasicProto("researcher", password))
    except flight.FlightUnauthenticatedError as error:
        if password == "wrong":
            return
        without(error, "log in", "a handshake does not read the message `BasicAuth`, only the header `authorization`")
    assert password != "wrong"
    info = client.get_flight_info(path("snds", "ir_cim_v"))
    assert client.do_get(info.endpoints[0].ticket).read_all().num_rows > 0


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


def test_do_exchange_echo(hub):
    caller = Caller(hub, "researcher")
    writer, reader = caller.client.do_exchange(flight.FlightDescriptor.for_command(b"echo"), caller.options)
    sent = pa.record_batch({"a": [1, 2, 3]})
    try:
        writer.begin(sent.schema)
        writer.write_with_metadata(sent, b"first")
        writer.write_metadata(b"second")
        writer.done_writing()
        chunk = reader.read_chunk()
        assert chunk.data.equals(sent) and chunk.app_metadata.to_pybytes() == b"first"
        assert reader.read_chunk().app_metadata.to_pybytes() == b"second"
        with pytest.raises(StopIteration):
            reader.read_chunk()
    except (pa.ArrowNotImplementedError, NotImplementedError) as error:
        without(error, "DoExchange is not offered", "DoExchange is not offered")
    finally:
        try:
            writer.close()
        except pa.ArrowException:
            pass  # told above
