"""Connections that are none: silent, half open, flooded, reset at once, read by the byte. Others are
served meanwhile, nothing is kept of them, and each ends by itself or with its client."""

import os
import resource
import select
import socket
import ssl
import struct
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bad_input import LONG, SERVICE, Calls, Field, Watch, alive, bearer_of, broken, data, descriptor, key, message, varint
from bad_wire import CALL, CONTINUATION, FRAME_BYTES_MAX, Wire, header
from conftest import any_message, start, start_demo, statement_query
from test_bounds import ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RESET, SETTINGS
from test_differential import HEAD, issue_token, project

SILENT = 1_000
# Of one address a server serves no more that is told so, and tells as many that they are too many; others serve three
# quarters of all, and the tests make fewer from each.
PER_ADDRESS_MAX, TOLD_PER_ADDRESS_MAX, PER_ADDRESS_HERE = 256, 8, 200
# How long a client may take until its first byte, and that with what a loaded machine takes.
FIRST_BYTE_SECONDS_MIN, FIRST_BYTE_SECONDS_MAX = 10, 10 + 20
WINDOW_UPDATE, PRIORITY = 8, 2
REFUSED, CALM, PROTOCOL = 7, 11, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = b"\0\0\0\4\0\0\0\0\0"


@pytest.fixture(scope="module", autouse=True)
def enough_files():
    """Each connection is a file, here and there: as many as the system lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def hub(enough_files, tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("connections") / "hub", 0.01)
    yield running
    running.stop()
    assert not broken(running)


@pytest.fixture(scope="module")
def secret_hub(enough_files, tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("secret") / "hub", 0.01, "--tls")
    yield running
    running.stop()
    assert not broken(running)


@pytest.fixture
def narrow_hub(enough_files, tmp_path):
    """Its configuration says how many connections an address may have; alice's `bearer` opens it."""
    (tmp_path / "files" / "labels").mkdir(parents=True)
    pq.write_table(pa.table({"id": [1]}), tmp_path / "files" / "labels" / "0.parquet")
    config = tmp_path / "hub.toml"
    config.write_text(HEAD.replace("[limits]", f"[limits]\nconnections_per_address_max = {PER_ADDRESS_MAX}") + """
[[dataset]]
name = "data"
producer = "tests"
folder = "files"
table = [{ name = "labels", location = "labels/", person = "none" }]
""" + project("rows", "data"))
    running = start(["serve", "--config", str(config)], tmp_path, tmp_path / "serve.log")
    running.bearer = f"Bearer {issue_token(config, 'alice', 'rows')}"
    yield running
    running.stop()
    assert not broken(running)


def open_files(hub):
    return len(os.listdir(f"/proc/{hub.process.pid}/fd"))


def connect(hub, index=0):
    """From one of several addresses: each may have so many connections."""
    host, port = hub.flight.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10, source_address=(f"127.0.1.{1 + index // PER_ADDRESS_HERE}", 0))


def closed(sockets, seconds):
    """How many are closed from the other side in this time; what comes before is passed over."""
    waiting = {one.fileno(): one for one in sockets}
    poller = select.poll()
    for number in waiting:
        poller.register(number, select.POLLIN | select.POLLHUP | select.POLLERR)
    end = time.monotonic() + seconds
    while waiting and (left := end - time.monotonic()) > 0:
        for number, _ in poller.poll(left * 1_000):
            try:
                is_open = waiting[number].recv(1 << 16)
            except OSError:
                is_open = b""
            if not is_open:
                poller.unregister(number)
                waiting.pop(number)
    return len(sockets) - len(waiting)


def settled(hub, files, seconds=20):
    """The server holds no more files than before."""
    end = time.monotonic() + seconds
    while open_files(hub) > files + 8:
        assert time.monotonic() < end, (open_files(hub), files)
        time.sleep(0.05)


# --- connections that do not speak ---

def silent_ones(hub, until):
    """So many connections that say nothing, taken one slice after another: the listener's queue is short."""
    files, made = open_files(hub), []
    while len(made) < SILENT:
        made += [connect(hub, len(made)) for _ in range(100)]
        # Others come and go meanwhile.
        while open_files(hub) < files + len(made) - 8:
            assert time.monotonic() < until, "not all are taken"
            time.sleep(0.001)
    return made


def test_a_thousand_silent_connections_keep_nobody_waiting_and_are_closed(hub, secret_hub):
    """In the clear and where TLS is spoken, at the same time."""
    authority = (secret_hub.dir / "tls" / "ca.pem").read_bytes()
    files = {one.flight: open_files(one) for one in (hub, secret_hub)}
    with Watch(hub) as plain, Watch(secret_hub, authority=authority) as tls:
        began = time.monotonic()
        silent = [one for each in (hub, secret_hub) for one in silent_ones(each, began + FIRST_BYTE_SECONDS_MIN)]
        print(f"{len(silent)} taken in {time.monotonic() - began:.1f} s")
        asked = [len(watch.times) for watch in (plain, tls)]
        # While all of them are there, others come and go.
        while any(len(watch.times) < before + 3 for watch, before in zip((plain, tls), asked)):
            assert time.monotonic() < began + FIRST_BYTE_SECONDS_MIN, "nobody else was served, or too slowly to tell"
            time.sleep(0.05)
        assert closed(silent, 0.01) == 0
        assert closed(silent, FIRST_BYTE_SECONDS_MAX) == 2 * SILENT
    for one in silent:
        one.close()
    for one in (hub, secret_hub):
        settled(one, files[one.flight])


def test_connections_of_one_address_keep_nobody_else_waiting(narrow_hub):
    """Half as many again from one address as the server takes in all."""
    hub = narrow_hub
    files = open_files(hub)
    with Watch(hub, bearer=hub.bearer) as watch:
        made = [connect(hub) for _ in range(PER_ADDRESS_MAX)]
        # Who is one too many is told why.
        told = Wire(hub.flight, source=made[0].getsockname()[0])
        told.begin(1, {}, end=True)
        answer = told.answer(1)
        assert answer.code == "RESOURCE_EXHAUSTED" and "connections_per_address_max" in answer.text, answer
        for _ in range(20):
            made += [connect(hub) for _ in range(64)]
            time.sleep(0.02)
        # Long before those are closed who say nothing.
        left = len(made) - closed(made, 2)
        assert PER_ADDRESS_MAX <= left <= PER_ADDRESS_MAX + TOLD_PER_ADDRESS_MAX, left
        asked = len(watch.times)
        time.sleep(1)
        assert len(watch.times) > asked, "nobody else was served"
        assert closed([told.socket], 10) == 1, "who is told is served"
    for one in (*made, told):
        one.close()
    settled(hub, files)
    # The log says so once, and where to change it.
    assert hub.log.read_text(errors="replace").count("connections_per_address_max") == 1


def test_a_thousand_connections_leave_files_to_open(tmp_path):
    """With the soft limit that systemd and shells give, which the server raises."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_024, hard))
    try:
        running = start_demo(tmp_path / "hub", 0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    calls = Calls(running)
    silent = [connect(running, index) for index in range(1_010)]
    time.sleep(1)
    began = time.monotonic()
    answer = calls.run("SELECT count(*) AS n FROM snds.t_mco_b")
    assert answer.code == "OK" and time.monotonic() - began < 2, answer
    assert open_files(running) >= len(silent)
    assert "Too many open files" not in running.log.read_text(errors="replace")
    for one in silent:
        one.close()
    calls.close()
    running.stop()


HALVES = {
    "half a preface": PREFACE[:10], "a preface alone": PREFACE, "another preface": b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n", "HTTP/1": b"GET / HTTP/1.1\r\n\r\n",
    "half of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 20, "zeros": bytes(100), "noise": bytes(range(256)) * 4,
    "a frame of 16 MiB": PREFACE + b"\xff\xff\xff\4\0\0\0\0\0", "settings that are wrong": PREFACE + b"\0\0\6\4\0\0\0\0\0" + struct.pack(">HI", 4, 2**31),
    "settings of half a setting": PREFACE + b"\0\0\5\4\0\0\0\0\0" + b"\0" * 5, "data before a call": PREFACE + EMPTY_SETTINGS + b"\0\0\1\0\0\0\0\0\1x",
    "a call of an even number": PREFACE + EMPTY_SETTINGS + b"\0\0\1\1\4\0\0\0\2\x82", "headers that cannot be read": PREFACE + EMPTY_SETTINGS
    + b"\0\0\4\1\5\0\0\0\1\xff\xff\xff\xff", "an unknown frame": PREFACE + EMPTY_SETTINGS + b"\0\0\1\xfa\xff\0\0\0\1x", "a promise":
    PREFACE + EMPTY_SETTINGS + b"\0\0\5\5\4\0\0\0\1\0\0\0\2\x82", "half a frame": PREFACE + EMPTY_SETTINGS + b"\0\4\0\0",
}
# What waits for more has the time of whoever speaks, and is closed by the client here.
WAITING = {"half a preface", "a preface alone", "half of TLS", "an unknown frame", "half a frame"}


@pytest.mark.parametrize("way", ["plain", "tls"])
def test_connections_that_stop_half_way_keep_nobody_waiting(request, way):
    hub = request.getfixturevalue("hub" if way == "plain" else "secret_hub")
    authority = None if way == "plain" else (hub.dir / "tls" / "ca.pem").read_bytes()
    context = authority and ssl.create_default_context(cadata=authority.decode())
    if context:
        context.set_alpn_protocols(["h2"])
    files = open_files(hub)
    each = 20 if LONG else 8
    with Watch(hub, authority=authority):
        sockets = {}
        for what, sent in HALVES.items():
            for index in range(each):
                one = connect(hub, sum(map(len, sockets.values())))
                # Half of them behind TLS, half instead of it.
                if context and index % 2:
                    one = context.wrap_socket(one, server_hostname="localhost")
                one.sendall(sent)
                one.setblocking(False)
                sockets.setdefault(what, []).append(one)
        if way == "plain":
            wrong = [one for what, some in sockets.items() if what not in WAITING for one in some]
            assert closed(wrong, 15) == len(wrong)
    for some in sockets.values():
        for one in some:
            one.close()
    settled(hub, files)


# --- floods ---

def flooded(wire, frames, seconds=20):
    """Sends frames until the server has enough, or all: how many went, and how it ended."""
    sent, told = 0, None
    wire.socket.settimeout(seconds)
    try:
        for chunk in frames:
            wire.socket.sendall(chunk)
            sent += 1
    except (ConnectionError, TimeoutError) as error:
        told = type(error).__name__
    ends = [(struct.unpack(">I", body[4:8])[0], body[8:].decode(errors="replace")) if kind == GOAWAY else kind
            for kind, _, _, body in wire.frames(0.5) if kind in (GOAWAY, "closed")]
    return sent, told, ends


def frame(kind, flags, stream, body=b""):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def block(bearer, **more):
    headers = {**CALL, b"authorization": bearer.encode(), **{name.encode(): value for name, value in more.items()}}
    return b"".join(header(*pair) for pair in headers.items())


@pytest.mark.parametrize("what", ["nothing", "headers", "one name again and again"])
def test_headers_without_end_end_the_connection(hub, what):
    """A header block in CONTINUATION frames that never ends (CVE-2024-27316), and one that names a
    large header of the table again and again."""
    files = open_files(hub)
    with Watch(hub):
        wire = Wire(hub.flight)
        if what == "nothing":
            frames = (frame(CONTINUATION, 0, 1) for _ in range(1_000_000))
        elif what == "headers":
            frames = (frame(CONTINUATION, 0, 1, header(b"x-%d" % index, b"y" * 16_000)) for index in range(20_000))
        else:
            # A header of 4,000 bytes enters the table, and each byte after it means as many.
            first = b"\x40" + header(b"x", b"y" * 4_000)[1:]
            frames = (frame(CONTINUATION, 0, 1, first if not index else b"\xbe" * FRAME_BYTES_MAX) for index in range(2_000))
        began = time.monotonic()
        wire.frame(HEADERS, 0, 1, block("Bearer x"))
        sent, told, ends = flooded(wire, frames)
        print(sent, told, ends)
        assert ends and sent < 20_000 and time.monotonic() - began < 30, (sent, told, ends)
        wire.close()
    settled(hub, files)


@pytest.mark.parametrize("known", [False, True], ids=["nobody", "somebody"])
def test_calls_that_are_reset_at_once_end_the_connection(hub, known):
    """Rapid reset (CVE-2023-44487), and the same after a whole question, by who may ask."""
    calls = Calls(hub)
    bearer = calls.bearer if known else "Bearer nobody"
    asked = descriptor(statement_query("SELECT count(*) AS n FROM snds.t_mco_b"))
    head = b"".join(header(*pair) for pair in {**CALL, b":path": SERVICE.encode() + b"GetFlightInfo", b"authorization": bearer.encode()}.items())
    files = open_files(hub)

    def frames():
        for stream in range(1, 60_000, 2):
            body = b"\0" + struct.pack(">I", len(asked)) + asked
            yield frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, END_STREAM, stream, body) * known + frame(RESET, 0, stream, b"\0\0\0\x08")

    with Watch(hub):
        wire = Wire(hub.flight)
        sent, told, ends = flooded(wire, frames())
        print(sent, told, ends)
        assert ends and sent < 29_000, (sent, told, ends)
        wire.close()
    alive(calls)
    calls.close()
    settled(hub, files)


FLOODS = {
    "pings": frame(PING, 0, 0, bytes(8)) * 100, "settings": frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100)) * 100,
    "windows": frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 100, "priorities": frame(PRIORITY, 0, 3, struct.pack(">IB", 1, 1)) * 100,
    "unknown frames": frame(0xFA, 0, 0, b"x" * 10) * 100, "resets of what is idle": frame(RESET, 0, 3, bytes(4)) * 100,
    "empty data": frame(DATA, 0, 1) * 100, "padded data": frame(DATA, 8, 1, b"\x0a" + bytes(10)) * 100, "a byte at a time": frame(DATA, 0, 1, b"\0") * 100,
}


@pytest.mark.parametrize("what", FLOODS)
def test_floods_of_frames_fill_no_memory(hub, what):
    """By who reads no answer: acknowledgements that nobody takes do not pile up."""
    files = open_files(hub)
    calls = Calls(hub)
    with Watch(hub):
        wire = Wire(hub.flight)
        # A call whose message never comes, for frames that need one.
        wire.frame(HEADERS, END_HEADERS, 1, block(calls.bearer, **{":path": SERVICE.encode() + b"GetFlightInfo"}))
        count = 20_000 if LONG else 3_000
        sent, told, ends = flooded(wire, (FLOODS[what] for _ in range(count)), 3)
        print(what, sent, told, ends)
        wire.close()
    alive(calls)
    calls.close()
    settled(hub, files)


# --- slow clients ---

LARGE = "SELECT value, repeat('x', 1000) AS t FROM generate_series(1, 100000)"


def test_results_that_are_read_by_the_byte_hold_no_more_than_a_few_frames(hub):
    """Streams whose clients have no room, or room for one byte more each time."""
    calls, files = Calls(hub), open_files(hub)
    with Watch(hub, 400):
        tickets = [calls.ticket(LARGE) for _ in range(8)]
        wire = Wire(hub.flight, window=0)
        for index, ticket in enumerate(tickets):
            stream = 2 * index + 1
            wire.begin(stream, {b":path": SERVICE.encode() + b"DoGet", b"authorization": calls.bearer.encode()})
            wire.message(stream, message(Field(1, ticket)))
        begun = set()
        for kind, _, stream, _ in wire.frames(20):
            if kind == HEADERS:
                begun.add(stream)
            if len(begun) == len(tickets):
                break
        assert len(begun) == len(tickets), begun
        read, more = 0, struct.pack(">I", 1)
        for _ in range(300):
            wire.socket.sendall(b"".join(frame(WINDOW_UPDATE, 0, 2 * index + 1, more) for index in range(8)))
        for kind, _, _, body in wire.frames(10):
            read += len(body) if kind == DATA else 0
            if read >= 2_400:
                break
        assert read == 2_400
        wire.close()
    # What nobody reads any more ends.
    deadline = time.monotonic() + 10
    while calls.run("SELECT 1 AS one FROM hub.queries WHERE state = 'running' HAVING count(*) > 1").replies[1:]:
        assert time.monotonic() < deadline, "they run on"
        time.sleep(0.1)
    calls.close()
    settled(hub, files)


def test_messages_that_are_announced_and_never_come_take_no_room(hub):
    """Each call says that 60 MiB follow, and sends nothing more."""
    calls, files = Calls(hub), open_files(hub)
    with Watch(hub):
        wires = [Wire(hub.flight) for _ in range(2)]
        for wire in wires:
            for stream in range(1, 101, 2):
                wire.begin(stream, {b":path": SERVICE.encode() + b"DoAction", b"authorization": calls.bearer.encode()})
                wire.frame(DATA, 0, stream, b"\0" + struct.pack(">I", 60 << 20) + b"x" * 100)
        alive(calls)
        # More than may be is told at once.
        wires[0].begin(201, {b":path": SERVICE.encode() + b"DoAction", b"authorization": calls.bearer.encode()})
        wires[0].frame(DATA, 0, 201, b"\0" + struct.pack(">I", 2**32 - 1) + b"x" * 100)
        answer = wires[0].answer(201)
        assert answer.code == "OUT_OF_RANGE" and "too%20large" in answer.text, answer
        for wire in wires:
            wire.close()
    alive(calls)
    calls.close()
    settled(hub, files)


def pour(wire, starts, bytes_each):
    """Begins each call with the bytes that it is said to start with, and then sends so many more as fast as the
    server's windows let; how many it took."""
    chunk, left, sent = b"x" * FRAME_BYTES_MAX, dict.fromkeys(starts, bytes_each), 0
    room, all_room, buffer = {stream: (1 << 20) - len(start) for stream, start in starts.items()}, 65_535, b""
    for stream, start in starts.items():
        wire.frame(DATA, 0, stream, start)
        all_room -= len(start)
    end = time.monotonic() + 30
    while any(left.values()) and time.monotonic() < end:
        moved = False
        for stream in starts:
            while left[stream] and min(room[stream], all_room) >= FRAME_BYTES_MAX:
                wire.frame(DATA, 0, stream, chunk)
                left[stream] -= FRAME_BYTES_MAX
                room[stream] -= FRAME_BYTES_MAX
                all_room -= FRAME_BYTES_MAX
                sent += FRAME_BYTES_MAX
                moved = True
        if not select.select([wire.socket], [], [], 0 if moved else 2)[0]:
            if not moved:
                break
            continue
        more = wire.socket.recv(1 << 16)
        if not more:
            break
        buffer += more
        while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
            size, kind, flags, stream = int.from_bytes(buffer[:3], "big"), buffer[3], buffer[4], struct.unpack(">I", buffer[5:9])[0]
            body, buffer = buffer[9:9 + size], buffer[9 + size:]
            assert kind != GOAWAY, (sent >> 20, body)
            if kind == WINDOW_UPDATE and not stream:
                all_room += struct.unpack(">I", body)[0]
            elif kind == WINDOW_UPDATE:
                room[stream] += struct.unpack(">I", body)[0]
            elif kind in (SETTINGS, PING) and not flags & ACK:
                wire.frame(kind, ACK, 0, b"" if kind == SETTINGS else body)
            elif kind == RESET:
                left[stream] = 0
    return sent


def poured(hub, calls, verb, start, bytes_each, sent_min):
    """One person, one connection, 16 calls that each send so much of a message: 128 MiB of them are
    taken, for which tonic's buffers, doubled and copied as they grow, have up to three times as much."""
    with Watch(hub, 500):
        wire = Wire(hub.flight)
        streams = range(1, 33, 2)
        for stream in streams:
            wire.begin(stream, {b":path": SERVICE.encode() + verb.encode(), b"authorization": calls.bearer.encode()})
        sent = pour(wire, dict.fromkeys(streams, start), bytes_each)
        print(sent >> 20, "MiB sent")
        assert sent >= sent_min, sent
        # What a person may have begun is taken; their short calls are answered beside it.
        alive(calls)
        wire.close()
    # And is given back, once the server knows that they have gone.
    end = time.monotonic() + 5
    while (whole := calls.act("CancelFlightInfo", bytes(60 << 20))).code == "RESOURCE_EXHAUSTED":
        assert time.monotonic() < end, whole
        time.sleep(0.1)
    assert whole.code == "INVALID_ARGUMENT", whole
    alive(calls)


@pytest.mark.parametrize("verb", ["GetFlightInfo", "DoAction", "DoPut", "DoExchange"])
def test_messages_that_do_not_end_take_bounded_memory(hub, verb):
    calls, files = Calls(hub), open_files(hub)
    # What is SQL or names is refused by the length that it is said to have.
    sent_min = 0 if verb == "GetFlightInfo" else 100 << 20
    poured(hub, calls, verb, b"\0" + struct.pack(">I", 60 << 20), 50 << 20, sent_min)
    calls.close()
    settled(hub, files)


def test_messages_that_nothing_follows_take_bounded_memory(hub):
    """Each is whole, and the first of a DoPut that waits for more: what its command came in stays."""
    calls, files, size = Calls(hub), open_files(hub), 40 << 20
    handle = calls.prepare("SELECT ? AS one")
    start = data(command=any_message("CommandPreparedStatementQuery", message(Field(1, handle)))) + key(1000, 2) + varint(size)
    poured(hub, calls, "DoPut", b"\0" + struct.pack(">I", len(start) + size) + start, size, 100 << 20)
    calls.close()
    settled(hub, files)


@pytest.mark.parametrize("flag", [1, 2, 255])
def test_messages_that_begin_as_none_does_are_refused(hub, flag):
    """The byte before each message of gRPC, which says whether it is compressed."""
    calls = Calls(hub)
    for verb in ("GetFlightInfo", "DoGet", "DoAction", "DoPut"):
        wire = Wire(hub.flight)
        wire.begin(1, {b":path": SERVICE.encode() + verb.encode(), b"authorization": calls.bearer.encode()})
        wire.frame(DATA, END_STREAM, 1, bytes([flag]) + struct.pack(">I", 10) + b"x" * 10)
        answer = wire.answer(1)
        assert answer.code in ("INTERNAL", "UNIMPLEMENTED") and "compress" in answer.text, answer
        wire.close()
    for cut in (b"", b"\0", b"\0\0\0\0", b"\0" + struct.pack(">I", 10) + b"x" * 9):
        wire = Wire(hub.flight)
        wire.begin(1, {b":path": SERVICE.encode() + b"GetFlightInfo", b"authorization": calls.bearer.encode()})
        wire.frame(DATA, END_STREAM, 1, cut)
        answer = wire.answer(1)
        assert answer.code in ("INTERNAL", "UNIMPLEMENTED", "INVALID_ARGUMENT") and len(answer.text) > 10, (cut, answer)
        wire.close()
    calls.close()


def test_handshakes_of_any_message_are_answered_by_their_header(hub):
    """The one call without a caller reads none of it."""
    with Watch(hub):
        for sent in (b"\xff" * 1_000, b"x" * (10 << 20), b""):
            told = Calls(hub, bearer="Bearer nobody").send("Handshake", sent)
            assert told.code == "UNAUTHENTICATED" and "log in" in told.text, told
        known = Calls(hub, bearer=bearer_of(hub, "researcher"))
        told = known.send("Handshake", *[b"\xff" * 1_000] * 2_000)
        assert told.code == "OK" and told.replies, told
        known.channel.close()


def test_each_verb_takes_one_message_or_says_so(hub):
    """Two where one belongs, none, and calls that go on after they were answered."""
    calls = Calls(hub)
    good = descriptor(statement_query("SELECT 1 AS one"))
    with Watch(hub):
        for verb in ("GetFlightInfo", "GetSchema", "PollFlightInfo"):
            told = calls.send(verb, good, good)
            assert told.code in ("OK", "UNIMPLEMENTED", "INTERNAL"), (verb, told)
        told = calls.send("DoExchange", *[b""] * 100)
        assert told.code == "UNIMPLEMENTED" and "DoExchange" in told.text, told
        told = calls.send("DoPut", *[b""] * 100)
        assert told.code == "INVALID_ARGUMENT" and "descriptor" in told.text, told
        told = calls.act("CreatePreparedStatement", any_message("ActionCreatePreparedStatementRequest", b"") * 2)
        assert told.refused and len(told.text) > 10, told
    alive(calls)
    calls.close()
