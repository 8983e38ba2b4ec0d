"""Rights that end under a running stream: withdrawn by another process, they end it within a second."""

import re
import sqlite3
import subprocess
import time

import pyarrow.parquet as pq
import pytest
from pyarrow import flight

from conftest import Reader, binary, start_demo

# More rows than anybody reads in the time of a test.
CLAIMS = "SELECT a.prs_nat_ref, b.prs_pai_mnt FROM snds.er_prs_f a CROSS JOIN snds.er_prs_f b"
# A second by contract, and what a loaded machine and a client's own buffers take.
END_SECONDS_MAX = 1.0 + 1.0


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A hub of this file alone: it loses its people and their rights."""
    running = start_demo(tmp_path_factory.mktemp("revocation") / "hub")
    yield running
    running.stop()


def write(hub, *statements):
    """What another process writes to the store."""
    with sqlite3.connect(hub.dir / "state" / "hub.sqlite", timeout=10) as store:
        for statement in statements:
            store.execute(statement)
    store.close()


def admin(hub, *words):
    subprocess.run([binary("flight-server"), "admin", *words, "--dir", str(hub.dir)],
                   check=True, capture_output=True, text=True)


def last_usage(hub, person):
    with sqlite3.connect(hub.dir / "state" / "hub.sqlite", timeout=10) as store:
        row = store.execute("SELECT outcome, error_kind, rows_returned, seq FROM usage WHERE person = ? "
                            "ORDER BY seq DESC LIMIT 1", (person,)).fetchone()
    store.close()
    return row


NOW = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"
WAYS = {
    "habilitation": (
        f"UPDATE habilitations SET revoked_at = {NOW} WHERE project = 'readmission'",
        "UPDATE habilitations SET revoked_at = NULL WHERE project = 'readmission'",
        flight.FlightUnauthorizedError, "permission_denied"),
    "membership": (
        "DELETE FROM members WHERE project = 'readmission' AND person = 'researcher'",
        "INSERT INTO members VALUES ('readmission', 'researcher', 'member')",
        flight.FlightUnauthorizedError, "permission_denied"),
    "project": (
        f"UPDATE projects SET valid_to = {NOW} WHERE id = 'readmission'",
        "UPDATE projects SET valid_to = 4000000000000000 WHERE id = 'readmission'",
        flight.FlightUnauthorizedError, "permission_denied"),
    "session": (
        "UPDATE persons SET token_epoch = token_epoch + 1 WHERE id = 'researcher'",
        None, flight.FlightUnauthenticatedError, "unauthenticated"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_withdrawn_right_ends_the_stream(own, way):
    withdraw, restore, error, kind = WAYS[way]
    before = last_usage(own, "researcher")
    reader, bystander = Reader(own.stream("researcher", CLAIMS)), Reader(own.stream("hospital", CLAIMS))
    write(own, withdraw)
    began = time.monotonic()
    reader.join(10)
    assert isinstance(reader.error, error), repr(reader.error)
    assert reader.ended - began < END_SECONDS_MAX
    # Settled as refused, with what was delivered.
    deadline = time.monotonic() + 1
    while (usage := last_usage(own, "researcher")) == before or usage[:2] != ("error", kind):
        assert time.monotonic() < deadline, usage
        time.sleep(0.05)
    assert usage[2] >= reader.rows > 0
    assert bystander.is_alive(), f"another project's stream ended: {bystander.error!r}"
    bystander.stream.cancel()
    if restore:
        write(own, restore)


def test_a_client_that_does_not_read_holds_nothing_open(own):
    before = last_usage(own, "researcher")
    stream = own.stream("researcher", CLAIMS)
    next(iter(stream))
    withdraw, restore, _, kind = WAYS["habilitation"]
    write(own, withdraw)
    deadline = time.monotonic() + END_SECONDS_MAX
    while (usage := last_usage(own, "researcher")) == before or usage[:2] != ("error", kind):
        assert time.monotonic() < deadline, "not settled while nobody reads"
        time.sleep(0.05)
    stream.cancel()
    write(own, restore)


def test_a_person_who_opposes_is_gone_within_a_minute(own):
    count = "SELECT count(*) AS n, count(DISTINCT ben_idt) AS persons FROM snds.er_prs_f"
    before = own.query("researcher", count).to_pylist()[0]
    claims = pq.read_table(own.dir / "data" / "datasets" / "snds" / "er_prs_f", columns=["ben_idt"])
    counts = claims["ben_idt"].value_counts().to_pylist()
    # A long identifier: a short one is found in any digest or revision.
    chosen = max(counts, key=lambda one: one["values"])
    person, theirs = chosen["values"], chosen["counts"]
    reader = Reader(own.stream("researcher", CLAIMS))
    admin(own, "opposition", "add", "--person", str(person))
    began = time.monotonic()
    # What was planned with them is not charged and may be run again; nothing new reads them.
    reader.join(10)
    assert isinstance(reader.error, flight.FlightUnavailableError), repr(reader.error)
    assert reader.ended - began < END_SECONDS_MAX
    after = own.query("researcher", count).to_pylist()[0]
    assert after == {"n": before["n"] - theirs, "persons": before["persons"] - 1}
    assert own.query("researcher", "SELECT count(*) AS n FROM snds.ir_cim_v")["n"][0].as_py() > 0
    with sqlite3.connect(own.dir / "state" / "hub.sqlite", timeout=10) as store:
        audit = store.execute("SELECT event, client FROM audit WHERE event LIKE 'opposition%' "
                              "ORDER BY seq").fetchall()
    store.close()
    assert [event for event, _ in audit] == ["opposition_added", "oppositions_applied"]
    assert not any(re.search(rf"\b{person}\b", client) for _, client in audit), (person, audit)
    admin(own, "opposition", "remove", "--person", str(person))
    time.sleep(END_SECONDS_MAX)
    assert own.query("researcher", count).to_pylist()[0] == before


def test_a_person_who_is_disabled_by_command_is_cut_off(own):
    reader = Reader(own.stream("hospital", CLAIMS))
    admin(own, "person", "disable", "hospital")
    began = time.monotonic()
    reader.join(10)
    assert isinstance(reader.error, flight.FlightUnauthenticatedError), repr(reader.error)
    assert reader.ended - began < END_SECONDS_MAX
    with pytest.raises(flight.FlightUnauthenticatedError):
        own.stream("hospital", "SELECT 1")
