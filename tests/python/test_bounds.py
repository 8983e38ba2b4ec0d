"""What one client may take up: before it is known, while it does not read, and while it sends.

Clients of Arrow read ahead and write whole messages, so that here are two that do not: HTTP/2 by
hand, as an attacker writes it."""

import socket
import struct
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import flight

from conftest import any_message, field, statement_query

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
STREAMS, WINDOW = 3, 4


def integer(value: int) -> bytes:
    """A length of HPACK with a prefix of 7 bits (RFC 7541, section 5.1)."""
    if value < 127:
        return bytes([value])
    value -= 127
    out = [127]
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


class Http2:
    """A connection that sends what it is told, and reads frames."""

    def __init__(self, address: str, window: int | None = None, source: str = ""):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), source_address=(source, 0))
        self.settings: dict[int, int] = {}
        body = b"" if window is None else struct.pack(">HI", WINDOW, window)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(SETTINGS, 0, 0, body)

    def frame(self, kind: int, flags: int, stream: int, body: bytes):
        self.socket.sendall(struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body)

    def call(self, stream: int, verb: str, **headers: str):
        names = {":method": "POST", ":scheme": "http", ":authority": "hub",
                 ":path": f"/arrow.flight.protocol.FlightService/{verb}",
                 "content-type": "application/grpc", "te": "trailers",
                 **{name.replace("_", "-"): value for name, value in headers.items()}}
        block = b"".join(
            b"\0" + b"".join(integer(len(text)) + text.encode() for text in pair) for pair in names.items())
        self.frame(HEADERS, END_HEADERS, stream, block)

    def message(self, stream: int, message: bytes):
        self.frame(DATA, END_STREAM, stream, b"\0" + struct.pack(">I", len(message)) + message)

    def exactly(self, count: int) -> bytes:
        read = b""
        while len(read) < count:
            more = self.socket.recv(count - len(read))
            if not more:
                raise EOFError
            read += more
        return read

    def next(self, seconds: float):
        """The next frame that is no housekeeping: kind, flags, stream; none if it does not come."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                head = self.exactly(9)
                body = self.exactly(int.from_bytes(head[:3], "big"))
            except (TimeoutError, EOFError):
                return None
            kind, flags, stream = head[3], head[4], struct.unpack(">I", head[5:])[0]
            if kind == SETTINGS and not flags & ACK:
                self.settings.update(struct.unpack(">HI", body[at:at + 6]) for at in range(0, len(body), 6))
                self.frame(SETTINGS, ACK, 0, b"")
            elif kind == PING and not flags & ACK:
                self.frame(PING, ACK, 0, body)
            elif kind in (DATA, HEADERS, RESET, GOAWAY):
                return kind, flags, stream
        return None

    def close(self):
        self.socket.close()


def login(hub, account: str) -> tuple[flight.FlightClient, str]:
    client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    return client, client.authenticate_basic_token(account, f"{account}-demo")[1].decode()


def test_calls_of_one_connection_are_bounded(hub):
    wire = Http2(hub.flight)
    wire.next(0.5)
    assert 0 < wire.settings[STREAMS] <= 256, wire.settings
    assert wire.settings.get(WINDOW, 65_535) <= 1 << 20
    wire.close()


@pytest.mark.parametrize("verb", ["GetFlightInfo", "GetSchema", "DoGet", "DoAction", "DoPut"])
def test_who_is_not_known_is_answered_before_their_message_is_read(hub, verb):
    claimed = b"\0" + struct.pack(">I", 60 << 20) + b"x" * 1_000
    for authorization in (None, "Bearer nonsense"):
        wire = Http2(hub.flight)
        wire.call(1, verb, **({"authorization": authorization} if authorization else {}))
        wire.frame(DATA, 0, 1, claimed)
        answered = wire.next(5)
        assert answered == (HEADERS, END_HEADERS | END_STREAM, 1), (authorization, answered)
        wire.close()


def test_who_is_known_is_read(hub):
    _, bearer = login(hub, "researcher")
    wire = Http2(hub.flight)
    wire.call(1, "DoAction", authorization=bearer)
    wire.frame(DATA, 0, 1, b"\0" + struct.pack(">I", 60 << 20) + b"x" * 1_000)
    assert wire.next(0.5) is None, "it waits for the rest"
    wire.close()


def late(hub) -> int:
    sql = "SELECT count(*) AS n FROM hub.usage WHERE error_kind = 'deadline_exceeded'"
    return hub.query("epidemiologist", sql)["n"][0].as_py()


def test_results_that_nobody_reads_settle_and_take_up_their_persons_places(hub):
    client, bearer = login(hub, "epidemiologist")
    options = flight.FlightCallOptions(headers=[(b"authorization", bearer.encode())])
    # Three frames, which the server makes at once; a transport may take the first of them although
    # the client has no room for a byte, but not the last.
    large = "SELECT value AS one FROM generate_series(1, 400000)"
    descriptor = flight.FlightDescriptor.for_command(statement_query(large))
    before = late(hub)
    wire = Http2(hub.flight, window=0)
    started = time.monotonic()
    for number in range(8):
        ticket = client.get_flight_info(descriptor, options).endpoints[0].ticket.ticket
        wire.call(2 * number + 1, "DoGet", authorization=bearer, grpc_timeout="4S")
        wire.message(2 * number + 1, field(1, ticket))
    for _ in range(8):
        kind, flags, _ = wire.next(4)
        assert kind == HEADERS and not flags & END_STREAM, "it streams"
    # They are this person's places, and nobody else's.
    assert hub.query("researcher", "SELECT 1 AS one")["one"].to_pylist() == [1]
    assert time.monotonic() - started < 3.5, "too slow to tell"
    assert hub.query("epidemiologist", "SELECT 1 AS one")["one"].to_pylist() == [1]
    assert time.monotonic() - started > 3.5, "no place was taken up"
    deadline = time.monotonic() + 5
    while late(hub) < before + 8:
        assert time.monotonic() < deadline, "not settled while the client is there"
        time.sleep(0.1)
    wire.close()


def prepared(client, options, sql: bytes) -> bytes:
    """The handle of a prepared statement: the first field of the result inside the Any."""
    create = any_message("ActionCreatePreparedStatementRequest", field(1, sql))
    reply = next(iter(client.do_action(flight.Action("CreatePreparedStatement", create), options))).body.to_pybytes()
    inside = reply[reply.index(b"\x12", reply.index(b"Result")) + 1:]
    size = inside[0] & 127 | (inside[1] << 7 if inside[0] & 128 else 0)
    result = inside[2 if inside[0] & 128 else 1:][:size]
    return result[2:2 + result[1]]


def test_dictionaries_that_no_row_uses_are_not_kept_without_end(hub):
    client, bearer = login(hub, "researcher")
    options = flight.FlightCallOptions(headers=[(b"authorization", bearer.encode())])
    handle = prepared(client, options, b"SELECT CAST(? AS VARCHAR) AS v")
    descriptor = flight.FlightDescriptor.for_command(any_message("CommandPreparedStatementQuery", field(1, handle)))

    def send(batches):
        writer, reader = client.do_put(descriptor, batches[0].schema, options)
        try:
            for batch in batches:
                writer.write_batch(batch)
            writer.done_writing()
            return reader.read()
        finally:
            writer.close()

    def coded(seed: int, length: int, rows: int):
        words = pa.array([f"{seed} " + "x" * length])
        return pa.record_batch({"": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), words)})

    assert send([coded(1, 10, 1)]) is not None
    with pytest.raises(pa.ArrowException, match="bytes of parameters"):
        send([coded(seed, 4 << 20, 0) for seed in range(20)])
    with pytest.raises(pa.ArrowException, match="rows"):
        send([coded(1, 10, 0)] * 25_000)


def resident(hub, what: str) -> int:
    """MiB of the server's memory: `VmRSS` is now, `VmHWM` the peak since it was reset."""
    status = Path(f"/proc/{hub.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) >> 10


def nested(inner: str, step: str, depth: int) -> str:
    for _ in range(depth):
        inner = f"SELECT {step} AS a FROM ({inner}) s"
    return inner


CONSTANT = "arrow_cast(repeat('x', 16000000), 'LargeUtf8')"
GROWING = {
    "constant text": nested("SELECT repeat('x', 1000) AS a", "a || a", 22),
    "text": nested("SELECT repeat(CAST(value AS VARCHAR), 500) AS a FROM range(100)", "a || a", 22),
    "list": nested("SELECT array_repeat(value, 1000) AS a FROM range(100)", "array_concat(a, a)", 22),
    "literal list": nested("SELECT value AS a FROM range(100)", "[a, a]", 22),
    "struct": nested("SELECT value AS a FROM range(100)", "struct(a, a)", 22),
    "literal struct": nested("SELECT value AS a FROM range(100)", "{'l': a, 'r': a}", 22),
    "hexadecimal": nested("SELECT repeat(CAST(value AS VARCHAR), 500) AS a FROM range(100)",
                          "encode(CAST(a AS BYTEA), 'hex')", 22),
    "many constants": "SELECT " + ", ".join(f"repeat('x', {9_000_000 + i}) AS c{i}" for i in range(400)),
    "one constant in many rows": "SELECT repeat('x', 16000000) AS a FROM range(8192)",
    "CASE": "SELECT CASE WHEN value > 3 THEN repeat('x', 16000000) END AS a FROM range(8192)",
    "grouped by a constant": f"SELECT count(*) FROM range(8192) GROUP BY {CONSTANT}",
    "sorted by a constant": f"SELECT row_number() OVER (PARTITION BY {CONSTANT}) FROM range(8192)",
    "the largest constant": f"SELECT max({CONSTANT}) FROM range(8192)",
    "the largest of a subquery": "SELECT max(" + CONSTANT.replace("'x'", "(SELECT 'x')") + ") FROM range(8192)",
    "separators": "SELECT " + ", ".join(f"string_agg(CAST(value + {i} AS VARCHAR), '{'x' * 20_000}')" for i in range(20))
                  + " FROM range(8192)",
    "many literals": "SELECT " + ", ".join(f"'{'x' * 4_000}' AS c{i}" for i in range(200)) + " FROM range(8192)",
    "many branches": "SELECT " + ", ".join(f"CASE WHEN value >= {i} THEN '{'x' * 4_000}' END AS c{i}" for i in range(200))
                     + " FROM range(8192)",
    "sums over windows": "SELECT " + ", ".join(f"sum(value + {i}) OVER ()" for i in range(1_000)) + " FROM range(10000000)",
    "a count over a window": "SELECT max(c) FROM (SELECT count(*) OVER () AS c FROM range(2000000000))",
    "patterns": "SELECT count(*) FROM range(8192) WHERE 'a' ~ ('\\w{100}' || uuid())",
    "flags": "SELECT count(*) FROM range(8192) WHERE regexp_like('a', 'a', 'i)\\w{100}' || value || '(?i')",
    "a list for each row": "SELECT sum(array_position(range(1000000), value)) FROM range(8192)",
    "WITH RECURSIVE": "WITH RECURSIVE r AS (SELECT 'x' AS a, 0 AS n UNION ALL "
                      "SELECT a || a, n + 1 FROM r WHERE n < 40) SELECT max(octet_length(a)) FROM r",
}
# The memory of a query where nothing else is configured, and what a server takes besides.
GROWTH_MIB_MAX = 2_048 + 300


@pytest.mark.parametrize("what", GROWING)
def test_what_doubles_is_refused_before_it_fills_the_memory(hub, what):
    Path(f"/proc/{hub.process.pid}/clear_refs").write_text("5")
    before, started = resident(hub, "VmRSS"), time.monotonic()
    status, text = hub.error("researcher", GROWING[what])
    peak, seconds = resident(hub, "VmHWM") - before, time.monotonic() - started
    print(f"{what}: {peak} MiB more at most, {seconds:.1f} s: {text[:100]}")
    assert any(kind in text for kind in ("ResourceExhausted", "InvalidArgument")), text
    assert peak < GROWTH_MIB_MAX and seconds < 30
    assert hub.query("researcher", "SELECT 'a' || 1 AS a")["a"].to_pylist() == ["a1"]
