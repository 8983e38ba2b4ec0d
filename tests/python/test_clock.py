"""What is old, what is not yet, and clocks that go wrong: a server whose wall clock the test turns.

Everything is tried with the clock as it is first, and again when it is turned back: it is the time
alone that shuts.
"""

import datetime
import re
import struct
import subprocess
import time

import pyarrow as pa
import pytest
from pyarrow import flight

from conftest import ROOT, field, start, statement_query
from flight_client import Client
from test_differential import GRANTS, HEAD, STAYS, admin, dataset, make_tables, project, write

MINUTE, HOUR, DAY = 60, 3_600, 86_400
QUERY = "SELECT count(*) AS n FROM stays"


class Clock:
    """Seconds that a server is ahead of this machine."""

    def __init__(self, file):
        self.file = file
        self.set(0)

    def set(self, seconds):
        with open(self.file, "r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("<q", seconds))


def date(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).date().isoformat()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clock")
    shim = folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", shim, ROOT / "tests/python/clock.c"], check=True)
    clock = Clock(folder / "ahead")
    tables = make_tables()
    write(tables, folder / "files")
    config = folder / "hub.toml"
    period = project("ending", "data").replace("2099-01-01", date(10))
    # The project goes on, its habilitation ends; and one that begins later.
    head, _, habilitation = period.partition("[[habilitation]]")
    ending = head.replace(date(10), "2099-01-01") + "[[habilitation]]" + habilitation
    head, _, habilitation = project("later", "data", GRANTS).partition("[[habilitation]]")
    later = head + "[[habilitation]]" + habilitation.replace("2020-01-01", date(5))
    config.write_text(HEAD + dataset("data", "files", False) + project("always", "data") + ending + later)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(shim))
        patch.setenv("TEST_CLOCK", str(clock.file))
        running = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    running.config, running.clock = config, clock
    yield running
    clock.set(0)
    running.stop()


@pytest.fixture(autouse=True)
def now(hub):
    hub.clock.set(0)
    yield
    hub.clock.set(0)


def client(hub, name, days=30):
    token = re.search(r"hubpat_\S+", admin(
        hub.config, "token", "create", "--person", "alice", "--project", name, "--days", str(days))).group(0)
    made = Client(hub, token)
    made.token = token
    return made


def refused(call, *arguments):
    with pytest.raises((pa.ArrowException, flight.FlightError, KeyError)) as caught:
        call(*arguments)
    return type(caught.value).__name__, str(caught.value).split(". gRPC client")[0]


def test_a_ticket_is_redeemed_in_its_time_only(hub):
    alice = client(hub, "always")
    ticket = alice.ticket(QUERY)
    for seconds in (0, 9 * MINUTE, 0):
        hub.clock.set(seconds)
        assert alice.redeem(ticket)["n"].to_pylist() == [STAYS]
    for seconds in (11 * MINUTE, HOUR, 20 * DAY):
        hub.clock.set(seconds)
        assert "the ticket has expired" in refused(alice.redeem, ticket)[1]
    # A clock that went back: a little is let pass, more is not trusted.
    hub.clock.set(HOUR)
    ahead = alice.ticket(QUERY)
    assert alice.redeem(ahead).num_rows == 1
    hub.clock.set(HOUR - 4 * MINUTE)
    assert alice.redeem(ahead).num_rows == 1
    hub.clock.set(0)
    assert "the ticket has expired" in refused(alice.redeem, ahead)[1]
    hub.clock.set(HOUR)
    assert alice.redeem(ahead).num_rows == 1


def renewed(alice, ticket):
    endpoint = flight.FlightEndpoint(flight.Ticket(ticket), [])
    (reply,) = alice.act("RenewFlightEndpoint", field(1, endpoint.serialize()))
    return flight.FlightEndpoint.deserialize(reply).ticket.ticket


def test_a_ticket_is_renewed_for_half_an_hour(hub):
    alice = client(hub, "always")
    ticket = first = alice.ticket(QUERY)
    for minutes in (9, 18, 27):
        hub.clock.set(minutes * MINUTE)
        ticket = renewed(alice, ticket)
        assert alice.redeem(ticket)["n"].to_pylist() == [STAYS]
    assert "the ticket has expired" in refused(alice.redeem, first)[1]
    assert "the ticket has expired" in refused(renewed, alice, first)[1]
    hub.clock.set(29 * MINUTE)
    last = renewed(alice, ticket)
    assert alice.redeem(last).num_rows == 1
    hub.clock.set(31 * MINUTE)
    for old in (ticket, last):
        assert "the ticket has expired" in refused(alice.redeem, old)[1]
        assert "the ticket has expired" in refused(renewed, alice, old)[1]


def test_a_statement_that_waits_for_its_renewed_ticket_has_one_record(hub):
    alice = client(hub, "always")
    given_up = "SELECT count(*) AS n FROM hub.usage WHERE outcome = 'unredeemed'"
    before = alice.run(given_up).table["n"].to_pylist()
    ticket = alice.ticket("SELECT 4711 AS n FROM stays LIMIT 1")
    hub.clock.set(9 * MINUTE)
    ticket = renewed(alice, ticket)
    hub.clock.set(11 * MINUTE)
    # Expired tickets are looked for every five seconds.
    time.sleep(7)
    assert alice.redeem(ticket)["n"].to_pylist() == [4711]
    assert alice.run(given_up).table["n"].to_pylist() == before


def test_what_outlived_its_ticket_can_be_cancelled(hub):
    alice = client(hub, "always")
    info = alice.info(statement_query("SELECT count(*) FROM generate_series(1, 100000000000) AS a(n) WHERE n % 7 = 3"))
    reader = alice.client.do_get(info.endpoints[0].ticket, alice.options)
    hub.clock.set(11 * MINUTE)
    assert alice.act("CancelFlightInfo", field(1, info.serialize())) == [b"\x08\x01"]
    with pytest.raises(flight.FlightCancelledError):
        reader.read_chunk()


def test_a_token_ends(hub):
    alice = client(hub, "always", days=2)
    ticket, handle = alice.ticket(QUERY), alice.prepare(QUERY)
    header = alice.client.authenticate_basic_token("alice", alice.token)
    session = flight.FlightCallOptions(headers=[header])
    descriptor = flight.FlightDescriptor.for_command(b"")

    def handshake_lists():
        return list(alice.client.list_actions(session))

    assert alice.redeem(ticket).num_rows == 1 and handshake_lists()
    hub.clock.set(2 * DAY + MINUTE)
    for call, *arguments in [(alice.redeem, ticket), (alice.info_prepared, handle), (alice.ticket, QUERY), (alice.prepare, QUERY),
                             (lambda: alice.client.get_flight_info(descriptor, session),),
                             (alice.client.authenticate_basic_token, "alice", alice.token)]:
        kind, text = refused(call, *arguments)
        assert kind == "FlightUnauthenticatedError", (kind, text)
    hub.clock.set(0)
    assert alice.redeem(ticket).num_rows == 1


def test_a_right_ends_and_begins_by_the_clock(hub):
    """What was opened while it was in force goes with it."""
    ending, later = client(hub, "ending"), client(hub, "later")
    handle = ending.prepare(QUERY)
    hub.clock.set(9 * DAY)
    ticket = ending.ticket(QUERY)
    assert ending.redeem(ticket)["n"].to_pylist() == [STAYS]
    hub.clock.set(11 * DAY)
    for outcome in (ending.run(QUERY), ending.run("SELECT 1 FROM data.stays"), ending.run("SELECT * FROM hub.tables")):
        assert outcome.failed or outcome.table.num_rows == 0, outcome.table
    fresh = refused(ending.redeem, ticket)
    assert "expired" in fresh[1] or fresh[0] in ("FlightUnauthorizedError", "KeyError"), fresh
    refused(lambda: ending.redeem(ending.info_prepared(handle).endpoints[0].ticket.ticket))
    hub.clock.set(0)
    assert ending.run(QUERY).table["n"].to_pylist() == [STAYS]
    # Not yet, then in part, as its grants say.
    assert later.run(QUERY).failed
    hub.clock.set(6 * DAY)
    seen = later.run(QUERY).table["n"].to_pylist()[0]
    assert 0 < seen < STAYS
    hub.clock.set(0)
    assert later.run(QUERY).failed


def test_a_ticket_does_not_outlive_the_right_by_its_own_minutes(hub):
    """A right that ends between a ticket and its redemption, both within the ticket's life."""
    ending = client(hub, "ending")
    end = datetime.datetime.fromisoformat(date(10) + "T00:00:00+00:00")
    left = int((end - datetime.datetime.now(datetime.timezone.utc)).total_seconds())
    # The day that is named may be the last or the first without: look for the edge.
    edge = next(at for at in (left, left + DAY) if before_and_after(hub, ending, at))
    hub.clock.set(edge - 2 * MINUTE)
    ticket = ending.ticket(QUERY)
    assert ending.redeem(ticket)["n"].to_pylist() == [STAYS]
    hub.clock.set(edge + 2 * MINUTE)
    kind, text = refused(ending.redeem, ticket)
    assert kind in ("FlightUnauthorizedError", "KeyError", "ArrowKeyError") and "expired" not in text, (kind, text)


def before_and_after(hub, asker, at):
    hub.clock.set(at - 2 * MINUTE)
    before = asker.run(QUERY)
    hub.clock.set(at + 2 * MINUTE)
    return not before.failed and asker.run(QUERY).failed
