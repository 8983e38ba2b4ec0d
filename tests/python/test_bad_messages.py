"""Messages that no client writes: each command and action of Flight SQL spoiled in every way, tickets
that are none, options, and headers. Each is refused by name, and nobody else notices."""

import contextlib
import re
import uuid

import pytest

from bad_input import (
    COMMAND, SERVICE, TYPE, Calls, Field, Watch, alive, bearer_of, chance, descriptor, key, message, read, sealed_in, spoiled, text,
    broken, varint,
)
from bad_wire import CALL, Wire
from conftest import any_message, start_demo, statement_query

UNREADABLE = r"no Flight SQL command"
# gRPC's own words for a message of its own that cannot be read, with gRPC's code for it.
UNDECODED = r"failed to decode Protobuf message"
VERBS = ["GetFlightInfo", "GetSchema", "PollFlightInfo", "DoPut"]
NUMBERS = b"".join(varint(number) for number in (0, 1, 500, 70_000))
# Names of what is not there, so that whatever becomes of them changes nothing.
NAMES = [text(1, "readmission"), text(2, "snds"), text(3, "t_mco_b")]
PLAN = Field(1, message(Field(1, b"\x0a\x02ab" * 20), text(2, "0.54.0")))
HANDLE, TICKET = b"handle", b"ticket"
MAP = range(6)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("messages") / "hub", 0.01)
    yield running
    running.stop()
    assert not broken(running)


@pytest.fixture()
def calls(hub):
    made = Calls(hub)
    yield made
    alive(made)
    made.close()


COMMANDS = {
    "CommandGetCatalogs": [], "CommandGetTableTypes": [],
    "CommandGetSqlInfo": [Field(1, NUMBERS, besides=(0,))],
    "CommandGetXdbcTypeInfo": [Field(1, 12)],
    "CommandGetDbSchemas": [text(1, "readmission"), text(2, "sn%")],
    "CommandGetTables": [text(1, "readmission"), text(2, "sn%"), text(3, "t\\_%"), text(4, "TABLE"), Field(5, 1)],
    "CommandGetPrimaryKeys": NAMES, "CommandGetExportedKeys": NAMES, "CommandGetImportedKeys": NAMES,
    "CommandGetCrossReference": [*NAMES, text(4, "readmission"), text(5, "snds"), text(6, "t_mco_c")],
    "CommandStatementQuery": [text(1, "SELECT 'é' AS one, 2 AS two"), Field(2, b"")],
    "CommandStatementUpdate": [text(1, "DELETE FROM space.nothing WHERE a = 'é'"), Field(2, b"")],
    "CommandStatementSubstraitPlan": [PLAN, Field(2, b"")],
    "CommandStatementIngest": [Field(1, message(Field(1, 1), Field(2, 3))), text(2, "bad"), text(3, "space"), text(4, "readmission"),
                               Field(5, 0), Field(6, b""), Field(1000, message(text(1, "a"), text(2, "b")), MAP)],
    "CommandPreparedStatementQuery": [Field(1, HANDLE)], "CommandPreparedStatementUpdate": [Field(1, HANDLE)],
    "TicketStatementQuery": [Field(1, TICKET)],
}
# Names of actions, and their bodies: of Flight SQL in an `Any`, of Flight as they are.
ACTIONS = {
    "CreatePreparedStatement": ("ActionCreatePreparedStatementRequest", [text(1, "SELECT 'é' AS one WHERE 1 = ?"), Field(2, b"")]),
    "CreatePreparedSubstraitPlan": ("ActionCreatePreparedSubstraitPlanRequest", [PLAN, Field(2, b"")]),
    "ClosePreparedStatement": ("ActionClosePreparedStatementRequest", [Field(1, HANDLE)]),
    "BeginTransaction": ("ActionBeginTransactionRequest", []),
    "EndTransaction": ("ActionEndTransactionRequest", [Field(1, bytes(16)), Field(2, 2)]),
    "BeginSavepoint": ("ActionBeginSavepointRequest", [Field(1, bytes(16)), text(2, "s")]),
    "EndSavepoint": ("ActionEndSavepointRequest", [Field(1, bytes(16)), Field(2, 1)]),
    "CancelQuery": ("ActionCancelQueryRequest", [Field(1, message(Field(2, descriptor(b"x")), Field(3, message(Field(1, message(Field(1, TICKET)))))))]),
    "CancelFlightInfo": (None, [Field(1, message(Field(2, descriptor(b"x")), Field(3, message(Field(1, message(Field(1, TICKET)))))))]),
    "RenewFlightEndpoint": (None, [Field(1, message(Field(1, message(Field(1, TICKET)))))]),
    "SetSessionOptions": (None, [Field(1, message(text(1, "tags"), Field(2, message(text(1, "é")))), MAP)]),
}


def genuine(fields, calls):
    """With the handle of a statement and a ticket, where a message has one."""
    made = {HANDLE: lambda: calls.prepare("SELECT 1 AS one"), TICKET: lambda: sealed_in(calls.ticket("SELECT 1 AS one"))}
    return [Field(one.number, made[one.value](), one.besides) if one.value in (HANDLE, TICKET) else one for one in fields]


def graceful(answer, what):
    """Taken, or refused by a text that says something and shows nothing of the inside."""
    assert answer.code == "OK" or answer.refused and len(answer.text) > 10, (what, answer.code, answer.text)
    assert not re.search(r"panicked|DataFusion|failed on this request|\.rs\b|/data/", answer.text), (what, answer.text)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_spoiled_is_refused(hub, calls, name):
    fields = genuine(COMMANDS[name], calls)
    luck = chance(name)
    inner = list(spoiled(fields, luck))
    outer = list(spoiled([text(1, TYPE + name), Field(2, message(*fields))], luck))
    hopeless = sum(bad.hopeless for bad in inner + outer)
    assert hopeless > 20, "no attack"
    with Watch(hub):
        for index, bad in enumerate(inner + outer):
            command = any_message(name, bad.sent) if index < len(inner) else bad.sent
            verb = VERBS[index % len(VERBS)]
            sent = message(Field(1, descriptor(command))) if verb == "DoPut" else descriptor(command)
            answers = [calls.send(verb, sent), calls.redeem(command)]
            for answer in answers:
                graceful(answer, (bad, verb))
                if bad.hopeless:
                    assert answer.code == "INVALID_ARGUMENT" and re.search(UNREADABLE, answer.text), (bad, verb, answer)
    # As it was, it is read.
    whole = any_message(name, message(*fields))
    assert UNREADABLE not in calls.info(whole).text and UNREADABLE not in calls.redeem(whole).text


@pytest.mark.parametrize("name", ACTIONS)
def test_an_action_that_is_spoiled_is_refused(hub, calls, name):
    kind, fields = ACTIONS[name]
    luck = chance(name)
    inner = list(spoiled(genuine(fields, calls), luck))
    outer = list(spoiled([text(1, TYPE + kind), Field(2, message(*fields))], luck)) if kind else []
    with Watch(hub):
        for index, bad in enumerate(inner + outer):
            body = any_message(kind, bad.sent) if kind and index < len(inner) else bad.sent
            answer = calls.act(name, body)
            graceful(answer, bad)
            if bad.hopeless:
                assert answer.code in ("INVALID_ARGUMENT", "UNIMPLEMENTED"), (bad, answer)
                assert re.search(r"the body of the action|is not offered", answer.text), (bad, answer)
            if index % 50 == 0:
                # What is prepared and begun is bounded for each person.
                assert calls.act("CloseSession", b"").code == "OK"


@pytest.mark.parametrize("verb, fields", [
    ("GetFlightInfo", [Field(1, COMMAND), Field(2, statement_query("SELECT 1"))]),
    ("GetSchema", [Field(1, 1), Field(3, b"snds"), Field(3, "t_é".encode())]),
    ("PollFlightInfo", [Field(1, COMMAND), Field(2, statement_query("SELECT 1"))]),
    ("DoGet", [Field(1, statement_query("SELECT 1"))]),
    ("DoAction", [text(1, "GétSessionOptions"), Field(2, b"x")]),
    ("ListFlights", [Field(1, b"snds.%")]),
    ("DoPut", [Field(1, descriptor(statement_query("SELECT 1"))), Field(2, b"x"), Field(3, b"y"), Field(1000, b"z")]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_messages_of_flight_itself_are_refused_by_the_field_that_is_wrong(hub, calls, verb, fields):
    with Watch(hub):
        for bad in spoiled(fields, chance(verb)):
            answer = calls.send(verb, bad.sent)
            if bad.hopeless:
                assert answer.code == "INTERNAL" and re.search(UNDECODED, answer.text), (bad, answer)
            elif answer.code == "INTERNAL":
                assert re.search(UNDECODED, answer.text), (bad, answer)
            else:
                graceful(answer, bad)


@pytest.mark.parametrize("kind", [
    "", "CommandStatementQuery", TYPE, TYPE + "CommandNothing", TYPE + "commandstatementquery", TYPE + "CommandStatementQuery ",
    "type.googleapis.com/google.protobuf.Any", "http://169.254.169.254/CommandStatementQuery", "file:///etc/passwd",
    "../" * 20 + "etc/passwd", "x" * (1 << 20), "é" * 1_000, "\0\r\n", TYPE + "ActionBeginTransactionRequest",
], ids=lambda kind: repr(kind[-40:]))
def test_commands_that_nobody_knows_are_refused(hub, calls, kind):
    command = message(text(1, kind), Field(2, message(text(1, "SELECT 1"))))
    with Watch(hub):
        for verb in VERBS:
            answer = calls.send(verb, message(Field(1, descriptor(command))) if verb == "DoPut" else descriptor(command))
            assert answer.code == "UNIMPLEMENTED" and "not offered" in answer.text, (verb, answer)
        answer = calls.redeem(command)
        assert answer.code == "INVALID_ARGUMENT" and "no ticket" in answer.text, answer
        for action in ("CreatePreparedStatement", "CancelQuery", "EndTransaction"):
            answer = calls.act(action, command)
            assert answer.code == "INVALID_ARGUMENT" and "another type" in answer.text, (action, answer)


def test_what_holds_itself_is_not_followed(hub, calls):
    command = statement_query("SELECT 1")
    with Watch(hub):
        for depth in range(2_000):
            command = any_message("CommandStatementQuery", command)
            if depth % 400 == 0:
                graceful(calls.info(command), depth)
        for repeated in (b"\x0a\x00" * 2_000_000, b"\x12\x00" * 2_000_000):
            for answer in (calls.info(repeated), calls.redeem(repeated)):
                assert answer.code in ("INVALID_ARGUMENT", "UNIMPLEMENTED"), answer
        # A path of a million names.
        answer = calls.send("GetFlightInfo", message(Field(1, 1)) + bytes(text(3, "a")) * 1_000_000)
        assert answer.code == "INVALID_ARGUMENT" and "path" in answer.text, answer


# --- texts ---

@pytest.mark.parametrize("wrong", [b"\xff", b"SELECT '\xc3\x28'", b"SELECT '\xed\xa0\x80'", b"\xf4\x90\x80\x80", "SELECT 'é'".encode("latin-1"),
                                   "SELECT 'é'".encode("utf-16")])
def test_text_that_is_no_unicode_is_refused_wherever_it_stands(hub, calls, wrong):
    with Watch(hub):
        commands = [any_message(name, message(Field(number, wrong))) for name, fields in COMMANDS.items()
                    for number in {one.number for one in fields if name.startswith(("CommandGet", "CommandStatement")) and one.wire == 2
                                   and not one.besides and one.number not in (6, 1000) and one != PLAN and one.value != b""}
                    if (name, number) != ("CommandStatementIngest", 1)]
        assert len(commands) > 20
        for command in commands:
            for answer in (calls.info(command), calls.redeem(command)):
                assert answer.code == "INVALID_ARGUMENT" and re.search(UNREADABLE, answer.text), (command, answer)
        answer = calls.act("CreatePreparedStatement", any_message("ActionCreatePreparedStatementRequest", message(Field(1, wrong))))
        assert answer.code == "INVALID_ARGUMENT" and "the body of the action" in answer.text, answer
        for option in (message(Field(1, wrong), Field(2, message(text(1, "x")))), message(text(1, "tags"), Field(2, message(Field(1, wrong)))),
                       message(text(1, "tags"), Field(2, message(Field(5, message(Field(1, wrong))))))):
            answer = calls.act("SetSessionOptions", message(Field(1, option)))
            assert answer.code == "INVALID_ARGUMENT" and "the body of the action" in answer.text, answer
        answer = calls.send("ListFlights", message(Field(1, wrong)))
        assert answer.code == "INVALID_ARGUMENT" and "no text" in answer.text, answer
        # A path is of Flight itself.
        answer = calls.send("GetFlightInfo", message(Field(1, 1), Field(3, wrong)))
        assert answer.code == "INTERNAL" and "FlightDescriptor.path" in answer.text, answer


LONG = "é" * 300_000


@pytest.mark.parametrize("ask", {
    "an action": lambda calls: calls.send("DoAction", message(text(1, LONG))),
    "a table": lambda calls: calls.info(statement_query(f'SELECT * FROM "{LONG}"')),
    "a path": lambda calls: calls.send("GetFlightInfo", message(Field(1, 1), text(3, LONG))),
    "a column": lambda calls: calls.info(statement_query(f'SELECT "{LONG}" FROM snds.t_mco_b')),
    "a value": lambda calls: calls.run(f"SELECT CAST(a AS INT) AS n FROM (SELECT '{LONG}' AS a, uuid() AS b) WHERE b <> ''"),
    "a placeholder": lambda calls: calls.info(statement_query(f"SELECT ${LONG}")),
    "a catalog": lambda calls: calls.redeem(any_message("CommandGetTables", message(text(2, LONG)))),
    "a verb": lambda calls: calls.info(statement_query(f"{LONG} 1")),
}.items(), ids=lambda pair: pair[0])
def test_what_an_error_says_fits_in_the_headers_of_clients(hub, calls, ask):
    """Clients take 8 KiB of headers: what is longer reaches them as another error, or as none."""
    with Watch(hub):
        answer = ask[1](calls)
    assert answer.refused and len(answer.text) > 10, (answer.code, answer.text[:200])
    assert len(answer.text.encode()) < 4_096, len(answer.text)


# --- tickets ---

def test_tickets_that_are_none_are_refused(hub, tls_hub, calls):
    ticket = calls.ticket("SELECT 1 AS one")
    sealed = sealed_in(ticket)
    other = Calls(hub, "hospital")
    authority = (tls_hub.dir / "tls" / "ca.pem").read_bytes()
    elsewhere = Calls(tls_hub, bearer=bearer_of(tls_hub, "researcher", tls_root_certs=authority), authority=authority)
    foreign = elsewhere.ticket("SELECT 1 AS one")
    assert calls.redeem(ticket).code == elsewhere.redeem(foreign).code == other.redeem(other.ticket("SELECT 1 AS one")).code == "OK"
    luck = chance("tickets")
    flips = [bytes(byte ^ (1 << luck.randrange(8) if place == at else 0) for place, byte in enumerate(sealed))
             for at in sorted(luck.sample(range(len(sealed)), min(120, len(sealed))))]
    cuts = [sealed[:end] for end in (0, 1, 11, 12, 15, 16, 23, 24, 39, 40, len(sealed) // 2, len(sealed) - 1)]
    others = [sealed_in(foreign), sealed_in(other.ticket("SELECT 1 AS one")), calls.bearer.encode(), calls.bearer.split()[1].encode(),
              calls.prepare("SELECT 1 AS one"), uuid.uuid4().bytes, sealed + b"\0", sealed * 2, sealed[::-1], bytes(1 << 20)]
    with Watch(hub):
        for forged in flips + cuts + others:
            handle = any_message("TicketStatementQuery", message(Field(1, forged)))
            endpoint = message(Field(1, message(Field(1, handle))))
            answers = {
                "DoGet": calls.redeem(handle),
                "RenewFlightEndpoint": calls.act("RenewFlightEndpoint", message(Field(1, endpoint))),
                "CancelFlightInfo": calls.act("CancelFlightInfo", message(Field(1, message(Field(3, endpoint))))),
                "CancelQuery": calls.act("CancelQuery", any_message("ActionCancelQueryRequest", message(Field(1, message(Field(3, endpoint)))))),
            }
            for verb, answer in answers.items():
                assert answer.code in ("INVALID_ARGUMENT", "PERMISSION_DENIED") and "ticket" in answer.text, (verb, forged[:40], answer)
        # Of another kind: what names a statement or a table is no ticket of one.
        for name in ("CommandStatementQuery", "CommandPreparedStatementQuery", "CommandStatementUpdate", "CommandStatementIngest"):
            assert calls.redeem(any_message(name, message(Field(1, sealed)))).code == "INVALID_ARGUMENT"
        # A transaction is named by its name alone.
        for wrong in (sealed, b"x", bytes(15), bytes(17)):
            answer = calls.info(any_message("CommandStatementQuery", message(text(1, "SELECT 1"), Field(2, wrong))))
            assert answer.code == "INVALID_ARGUMENT" and "no such transaction" in answer.text, answer
    assert calls.redeem(ticket).code == "OK"
    elsewhere.channel.close()
    other.close()


def test_a_hundred_thousand_endpoints_are_gone_through_in_time(hub, calls):
    """Of one flight info that is cancelled: the genuine among them is withdrawn, and what is none told."""
    ticket = calls.ticket("SELECT 1 AS one")
    forged = any_message("TicketStatementQuery", message(Field(1, bytes(200))))
    ends = [bytes(Field(3, message(Field(1, message(Field(1, one)))))) for one in (forged, ticket)]
    with Watch(hub, 600):
        answer = calls.act("CancelFlightInfo", message(Field(1, ends[0] * 50_000 + ends[1] + ends[1] * 50_000)))
        assert answer.code == "INVALID_ARGUMENT" and "ticket" in answer.text, answer
    answer = calls.redeem(ticket)
    assert answer.code == "CANCELLED", answer


# --- options ---

MINUS_ONE = key(3, 1) + b"\xff" * 8
VALUES = [
    message(text(1, "x" * (10 << 20))), message(Field(3, b"")), message(Field(2, 2**64 - 1)), MINUS_ONE, key(4, 1) + b"\xff" * 8,
    key(4, 1) + b"\0\0\0\0\0\0\xf0\x7f", message(Field(5, message(*[text(1, "x")] * 100_000))), message(Field(5, b"")), message(text(1, "\0")),
    message(text(1, "'; DROP TABLE x; --")), message(text(1, "../../etc/passwd")), message(text(1, "x" * 1_025)),
]


@pytest.mark.parametrize("name", ["catalog", "schema", "time_zone", "statement_seconds", "priority", "wire.compression", "wire.endpoints", "tags",
                                  "nothing", "", "\0", "é"])
def test_options_of_any_value_are_refused_by_name_or_taken(hub, calls, name):
    refused = 0
    for value in VALUES:
        answer = calls.act("SetSessionOptions", message(Field(1, message(text(1, name), Field(2, value)))))
        graceful(answer, (name, value[:20]))
        if answer.code == "OK":
            (result,) = answer.replies
            told = next((value for number, value in read(result) if number == 1), b"")
            wrong = {dict(read(error)).get(1, b"") for number, error in read(told) if number == 1}
            # Free texts may say anything, in a thousand bytes; an offset of time is a number.
            taken = name in ("schema", "tags") or name == "time_zone" and value == MINUS_ONE
            assert wrong == {name.encode()} or taken and not wrong, (name, value[:20], wrong)
            refused += bool(wrong)
        else:
            assert "the body of the action" in answer.text, answer
        said = calls.act("GetSessionOptions", b"")
        assert said.code == "OK" and len(said.replies[0]) < 8_192
    assert refused >= 3


def test_a_hundred_thousand_options_are_answered_one_by_one(hub, calls):
    options = b"".join(bytes(Field(1, message(text(1, f"nothing {index}"), Field(2, message(text(1, "x")))))) for index in range(100_000))
    with Watch(hub, 400):
        answer = calls.act("SetSessionOptions", options)
    assert answer.code == "OK"
    (inner,) = (value for number, value in read(answer.replies[0]) if number == 1)
    assert sum(number == 1 for number, _ in read(inner)) == 100_000


# --- headers ---

PATHS = b":path"
LISTED = {"OK"}
# What HTTP/2 has for what is none; why a connection is closed is lost where much was still to be read.
ENDED = {"reset", "goaway", "closed"}
WRONG = {
    "no login": ({b"authorization": None}, {"UNAUTHENTICATED"}),
    "bytes in the login": ({b"authorization": b"Bearer \xff\xfe"}, {"UNAUTHENTICATED"}),
    "no word in the login": ({b"authorization": b""}, {"UNAUTHENTICATED"}),
    "another scheme": ({b"authorization": b"Negotiate YII="}, {"UNAUTHENTICATED"}),
    "no base64": ({b"authorization": b"Basic \xc3\xa9\xc3\xa9"}, {"UNAUTHENTICATED"}),
    "base64 of no text": ({b"authorization": b"Basic //79/A=="}, {"UNAUTHENTICATED"}),
    "a name without a password": ({b"authorization": b"Basic cmVzZWFyY2hlcg=="}, {"UNAUTHENTICATED"}),
    "a long login": ({b"authorization": b"Bearer " + b"x" * 12_000}, {"UNAUTHENTICATED"}),
    # Over the size that the server announces: told as HTTP tells it.
    "a login that is too long": ({b"authorization": b"Bearer " + b"x" * 40_000}, {"HTTP 431"} | ENDED),
    "many headers": ({b"x-%d" % number: b"x" * 30 for number in range(2_000)}, {"HTTP 431"} | ENDED),
    "bytes in the catalog": ({b"catalog": b"readm\xff"}, {"INVALID_ARGUMENT"}),
    "bytes in the request's name": ({b"x-request-id": b"\xff\xfe"}, LISTED),
    "bytes in the client's name": ({b"user-agent": b"\xff" * 1_000}, LISTED),
    "a time that is none": ({b"grpc-timeout": b"\xff"}, {"OK", "INVALID_ARGUMENT"}),
    "a time before now": ({b"grpc-timeout": b"-1S"}, {"OK", "INVALID_ARGUMENT"}),
    "the longest time": ({b"grpc-timeout": b"99999999H"}, LISTED),
    "too long a time": ({b"grpc-timeout": b"99999999999999999999H"}, {"OK", "INVALID_ARGUMENT"}),
    "no time at all": ({b"grpc-timeout": b"0n"}, {"OK", "DEADLINE_EXCEEDED", "CANCELLED"}),
    "an unknown verb": ({PATHS: SERVICE.encode() + b"Nothing"}, {"UNIMPLEMENTED"}),
    "an unknown service": ({PATHS: b"/nothing.Nothing/Nothing"}, {"UNIMPLEMENTED"}),
    "a path outside": ({PATHS: b"/../../../etc/passwd"}, {"UNIMPLEMENTED"}),
    "bytes in the path": ({PATHS: b"/\xff\xfe"}, {"UNIMPLEMENTED"} | ENDED),
    "an empty path": ({PATHS: b""}, {"UNIMPLEMENTED"} | ENDED),
    "a long path": ({PATHS: b"/" + b"a" * 8_000}, {"UNIMPLEMENTED"}),
    "a capital in a name": ({b"X-Request": b"a"}, ENDED),
    "a line in a value": ({b"x-a": b"a\r\nb: c"}, ENDED),
    "a zero in a value": ({b"x-a": b"a\0b"}, ENDED),
    "another method": ({b":method": b"GET"}, {"HTTP 405", "HTTP 415", "UNIMPLEMENTED", "INTERNAL", "OK"}),
    "no such method": ({b":method": b"\xff"}, ENDED),
    "a header of HTTP/1": ({b"connection": b"close"}, ENDED),
    "an unknown header of HTTP/2": ({b":nothing": b"x"}, ENDED),
}


@pytest.mark.parametrize("what", WRONG)
def test_headers_that_no_client_sends_are_answered(hub, calls, what):
    changed, expected = WRONG[what]
    headers = {**CALL, b"authorization": calls.bearer.encode(), **changed}
    if what == "bytes in the catalog":
        headers[PATHS] = SERVICE.encode() + b"GetFlightInfo"
    sent = descriptor(statement_query("SELECT 1")) if headers[PATHS].endswith(b"GetFlightInfo") else b""
    with Watch(hub), contextlib.closing(Wire(hub.flight)) as wire:
        # It may be closed before all was sent.
        with contextlib.suppress(ConnectionError):
            wire.begin(1, {name: value for name, value in headers.items() if value is not None})
            wire.message(1, sent)
        answer = wire.answer(1)
        assert answer.code in expected, answer
        if answer.code == "UNAUTHENTICATED":
            assert "log%20in" in answer.text or "log in" in answer.text, answer
