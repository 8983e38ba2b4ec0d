"""What hostile clients are made of: protobuf and Arrow by hand, calls whose messages are any bytes, and a
watch over the server while they are at it."""

import os
import random
import re
import threading
import time
from dataclasses import dataclass, field as filled
from pathlib import Path

import grpc
import pyarrow as pa
from pyarrow import flight

from conftest import any_message, statement_query
from test_bounds import resident

# As `tests/run --long` sets it.
LONG = "HUBFLIGHT_DIFFERENTIAL" in os.environ
SERVICE = "/arrow.flight.protocol.FlightService/"
TYPE = "type.googleapis.com/arrow.flight.protocol.sql."
COMMAND = 2
# How long one call of a hostile client may take, and one of a client beside it.
CALL_SECONDS_MAX = 40
BESIDE_SECONDS_MAX = 20
# What a server takes besides for a while: buffers, threads, plans.
SLACK_MIB = 256
# Of what somebody sent that is no good; everything else is the server's fault.
REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "OUT_OF_RANGE", "ABORTED"}


# --- protobuf ---

def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def key(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


@dataclass(frozen=True)
class Field:
    """A field of a message: bytes, or a number."""

    number: int
    value: bytes | int
    # Wire types that decoders take for it besides its own: a list of numbers is bytes or numbers, and
    # entries of maps are read whatever they are said to be.
    besides: tuple | range = ()

    @property
    def wire(self) -> int:
        return 2 if isinstance(self.value, bytes) else 0

    @property
    def rest(self) -> bytes:
        """What follows the key."""
        return varint(len(self.value)) + self.value if isinstance(self.value, bytes) else varint(self.value)

    def __bytes__(self):
        return key(self.number, self.wire) + self.rest


def message(*fields: Field) -> bytes:
    return b"".join(map(bytes, fields))


def text(number: int, value: str) -> Field:
    return Field(number, value.encode())


def read(encoded: bytes):
    """The fields of a message that a server sent: number and value."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte, at = encoded[at], at + 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(encoded):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
            continue
        size = number() if tag & 7 == 2 else {1: 8, 5: 4}[tag & 7]
        yield tag >> 3, encoded[at:at + size]
        at += size


def descriptor(command: bytes) -> bytes:
    return message(Field(1, COMMAND), Field(2, command))


@dataclass(frozen=True)
class Bad:
    """A message made from a good one."""

    what: str
    sent: bytes
    # True where nobody can read it; otherwise it may have become another message.
    hopeless: bool


def spoiled(fields: list[Field], chance: random.Random):
    """A good message, spoiled in each way that there is."""
    whole, ends, at = message(*fields), set(), 0
    for one in fields:
        at += len(bytes(one))
        ends.add(at)
    places = range(1, len(whole)) if len(whole) < 40 else sorted(chance.sample(range(1, len(whole)), 24))
    for end in places:
        yield Bad(f"cut after {end}", whole[:end], end not in ends)
    for _ in range(0 if not whole else 500 if LONG else 16):
        flipped = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        yield Bad("flipped bits", bytes(flipped), False)
    for index, one in enumerate(fields):
        before, after = message(*fields[:index]), message(*fields[index + 1:])
        for wire in range(8):
            if wire != one.wire and wire not in one.besides:
                yield Bad(f"field {one.number} of wire type {wire}", before + key(one.number, wire) + one.rest + after, True)
        if one.wire == 2:
            for size in (len(whole) + 1, 2**31 - 1, 2**32, 2**63 - 1, 2**64 - 1):
                yield Bad(f"field {one.number} of {size} bytes", before + key(one.number, 2) + varint(size) + one.value + after, True)
        yield Bad(f"field {one.number} with a number without end", before + key(one.number, 0) + b"\xff" * 20 + after, True)
    yield Bad("a field without a number", whole + b"\x02\x00", True)
    yield Bad("groups in groups", whole + key(99, 3) * 100_000, True)
    yield Bad("an end without its group", whole + key(99, 4), True)
    yield Bad("a field from later", whole + bytes(Field(99, b"x" * 1000)) * 1000, False)


# --- Arrow ---

def parts(table, **options):
    """Headers and bodies as Arrow writes them: the schema, dictionaries, rows."""
    sink = pa.BufferOutputStream()
    batches = table.to_batches() if isinstance(table, pa.Table) else [table]
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write_batch(batch)
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    return [(one.metadata.to_pybytes(), one.body.to_pybytes() if one.body else b"") for one in reader]


def data(header=b"", body=b"", command=None, **more):
    """A message of Flight."""
    made = message(Field(1, message(Field(1, COMMAND), Field(2, command)))) if command else b""
    made += message(Field(2, header)) if header else b""
    made += message(Field(3, more["metadata"])) if "metadata" in more else b""
    return made + (message(Field(1000, body)) if body else b"")


def change(calls, sql):
    return calls.send("DoPut", data(command=any_message("CommandStatementUpdate", message(text(1, sql)))))


# --- calls ---

@dataclass
class Answer:
    code: str
    text: str
    replies: list[bytes] = filled(default_factory=list)

    @property
    def refused(self) -> bool:
        return self.code in REFUSALS


class Calls:
    """A person whose messages are any bytes, on a connection of their own."""

    def __init__(self, hub, account="researcher", bearer=None, authority=None):
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                   ("grpc.max_metadata_size", 16 << 20), ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        credentials = authority and grpc.ssl_channel_credentials(authority)
        address = f"localhost:{hub.flight.rsplit(':', 1)[1]}" if authority else hub.flight
        self.connect = lambda: (grpc.secure_channel(address, credentials, options) if authority
                                else grpc.insecure_channel(address, options))
        self.channel = self.connect()
        self.bearer = bearer or bearer_of(hub, account)
        self.metadata = [("authorization", self.bearer)]

    def send(self, verb: str, *sent: bytes, seconds=CALL_SECONDS_MAX, replies_max=1_000, path=SERVICE) -> Answer:
        """What a call is answered: its messages are sent as they are."""
        replies = []
        try:
            if len(sent) == 1:
                call = self.channel.unary_stream(path + verb)(sent[0], metadata=self.metadata, timeout=seconds)
            else:
                call = self.channel.stream_stream(path + verb)(iter(sent), metadata=self.metadata, timeout=seconds)
            for reply in call:
                replies.append(reply)
                if len(replies) > replies_max:
                    call.cancel()
                    break
            return Answer("OK", "", replies)
        except grpc.RpcError as error:
            return Answer(error.code().name, error.details() or "", replies)

    def reconnect(self):
        """On another connection: HTTP/2 of the server ends one of which it had to reset 1,024 streams, since
        they were sent more after they had been refused."""
        self.channel.close()
        self.channel = self.connect()

    def info(self, command: bytes) -> Answer:
        return self.send("GetFlightInfo", descriptor(command))

    def act(self, name: str, body: bytes) -> Answer:
        return self.send("DoAction", message(text(1, name), Field(2, body)))

    def ticket(self, sql: str) -> bytes:
        """The ticket of a query, as it stands in the endpoint."""
        answer = self.info(statement_query(sql))
        assert answer.code == "OK", answer
        return ticket_of(answer.replies[0])

    def redeem(self, ticket: bytes) -> Answer:
        return self.send("DoGet", message(Field(1, ticket)))

    def run(self, sql: str) -> Answer:
        """The answer of a query, of whichever call it is that refuses it."""
        told = self.info(statement_query(sql))
        return told if told.code != "OK" else self.redeem(ticket_of(told.replies[0]))

    def prepare(self, sql: str) -> bytes:
        answer = self.act("CreatePreparedStatement", any_message("ActionCreatePreparedStatementRequest", message(text(1, sql))))
        assert answer.code == "OK", answer
        (result,) = (value for number, value in read(answer.replies[0]) if number == 1)
        (inner,) = (value for number, value in read(result) if number == 2)
        return next(value for number, value in read(inner) if number == 1)

    def close(self):
        """Everything that was prepared and begun goes too."""
        self.act("CloseSession", b"")
        self.channel.close()


def ticket_of(info: bytes) -> bytes:
    """The ticket of the first endpoint of a flight info."""
    endpoint = next(value for number, value in read(info) if number == 3)
    ticket = next(value for number, value in read(endpoint) if number == 1)
    return next(value for number, value in read(ticket) if number == 1)


def sealed_in(ticket: bytes) -> bytes:
    """What is sealed: the handle in the message in the `Any`."""
    inner = next(value for number, value in read(ticket) if number == 2)
    return next(value for number, value in read(inner) if number == 1)


def chance(what) -> random.Random:
    """Random choices that are the same in each run of a test."""
    print(f"seed {what!r}")
    return random.Random(repr(what))


def bearer_of(hub, account: str, **more) -> str:
    scheme = "grpc+tls" if more else "grpc+tcp"
    host = f"localhost:{hub.flight.rsplit(':', 1)[1]}" if more else hub.flight
    with flight.FlightClient(f"{scheme}://{host}", **more) as client:
        return client.authenticate_basic_token(account, f"{account}-demo")[1].decode()


def alive(calls: Calls):
    """The server answers, and the same person as before."""
    answer = calls.redeem(calls.ticket("SELECT 1 AS alive"))
    assert answer.code == "OK" and len(answer.replies) >= 2, answer


# --- the server meanwhile ---

class Watch:
    """While it is open, another person asks for a row on connections of their own, again and again; then
    the server must have held little more than before, and kept that person waiting for a moment only."""

    def __init__(self, hub, mib_max=SLACK_MIB, account="epidemiologist", authority=None, bearer=None):
        self.hub, self.mib_max, self.authority = hub, mib_max, authority
        more = {"tls_root_certs": authority} if authority else {}
        self.bearer = bearer or bearer_of(hub, account, **more)
        self.ended, self.times, self.wrong = threading.Event(), [], []

    def ask(self):
        began = time.monotonic()
        calls = Calls(self.hub, bearer=self.bearer, authority=self.authority)
        try:
            alive(calls)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody else was hindered
            self.wrong.append(repr(error)[:500])
        calls.channel.close()
        self.times.append(time.monotonic() - began)

    def run(self):
        while not self.ended.is_set():
            self.ask()
            self.ended.wait(0.05)

    def __enter__(self):
        self.ask()
        Path(f"/proc/{self.hub.process.pid}/clear_refs").write_text("5")
        self.before = resident(self.hub, "VmRSS")
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, failed, *_):
        self.ended.set()
        self.thread.join(60)
        if failed:
            return
        self.ask()
        more = resident(self.hub, "VmHWM") - self.before
        said = f"{more} MiB more at most, {len(self.times)} others' queries, the slowest in {max(self.times):.2f} s"
        print(said)
        assert not self.thread.is_alive() and not self.wrong, self.wrong[:3]
        assert max(self.times) < BESIDE_SECONDS_MAX, said
        assert more < self.mib_max, said


def broken(hub, but=None):
    """What failed inside: panics are caught and answered, but stand in the log, which has colours."""
    said = re.sub(r"\x1b\[\d*m", "", hub.log.read_text(errors="replace")).splitlines()
    return [line for line in said if " ERROR " in line or "panicked" in line and not (but and but in line)]
