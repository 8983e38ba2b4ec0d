"""A project's space on the disk: unreadable there, bounded, and not believed once it was changed."""

import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import flight

from conftest import any_message, binary, field, start_demo
from test_bounds import login, prepared

CANARY = "canary of a patient 2 71 03"
# Seconds until a running server must know what an administrator's command did.
SEEN_SECONDS_MAX = 2


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A hub of its own: what is done to its files is in its log."""
    running = start_demo(tmp_path_factory.mktemp("at_rest") / "hub", 0.02)
    yield running
    running.stop()


def run(hub, account: str, sql: str, parameters=None):
    with hub.connect(account) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.rowcount


def state(hub) -> Path:
    return hub.dir / "state"


def files(hub, project: str) -> set[Path]:
    return set((state(hub) / "spaces" / project).glob("*.parquet"))


def made(hub, account: str, project: str, sql: str) -> Path:
    """The one file that a statement makes."""
    before = files(hub, project)
    run(hub, account, sql)
    [file] = files(hub, project) - before
    return file


def test_nothing_of_a_table_is_on_the_disk_in_clear(kept):
    run(kept, "researcher", f"CREATE TABLE space.canary AS SELECT ben_idt, '{CANARY}' AS note FROM snds.er_prs_f LIMIT 50")
    run(kept, "researcher", f"INSERT INTO space.canary VALUES ('x', '{CANARY}')")
    with kept.connect("researcher") as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO space.canary VALUES (?, ?)", [("y", CANARY), ("z", CANARY + "!")])
    run(kept, "researcher", f"UPDATE space.canary SET note = concat(note, ' {CANARY}') WHERE ben_idt = 'z'")
    count = kept.query("researcher", f"SELECT count(*) AS n FROM space.canary WHERE note LIKE '{CANARY}%'")
    assert count["n"].to_pylist() == [53]
    person = kept.query("researcher", "SELECT min(ben_idt) AS b FROM space.canary WHERE length(ben_idt) > 1")["b"][0].as_py()
    looked = 0
    for path in state(kept).rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert CANARY.encode() not in held, path
            assert person.encode() not in held, path
            looked += 1
    assert looked >= 4 and files(kept, "readmission")
    assert CANARY not in kept.log.read_text(errors="replace")


def test_a_file_belongs_to_its_project_and_place(kept):
    mine = made(kept, "researcher", "readmission", "CREATE TABLE space.mine AS SELECT value AS a FROM generate_series(1, 1000)")
    other = made(kept, "researcher", "readmission", "CREATE TABLE space.other AS SELECT value + 5 AS a FROM generate_series(1, 1000)")
    theirs = made(kept, "hospital", "linked", "CREATE TABLE space.theirs AS SELECT value AS a FROM generate_series(1, 1000)")
    whole = mine.read_bytes()

    def unreadable(account: str, table: str, part: str):
        for sql in (f"SELECT * FROM space.{table}", f"SELECT count(*) AS n FROM space.{table}"):
            _, text = kept.error(account, sql)
            assert "Unavailable" in text and part in text, text
            assert "not charged" in text and "administrator" in text, text

    try:
        theirs_whole = theirs.read_bytes()
        theirs.write_bytes(whole)
        unreadable("hospital", "theirs", "replaced")
        theirs.write_bytes(theirs_whole)
        mine.write_bytes(other.read_bytes())
        unreadable("researcher", "mine", "replaced")
        mine.write_bytes(whole[:len(whole) // 2])
        unreadable("researcher", "mine", "cut")
        # As long as a file without rows: a scan must not skip it.
        mine.write_bytes(whole[:60])
        unreadable("researcher", "mine", "cut")
        mine.write_bytes(b"PAR1" + whole[4:])
        unreadable("researcher", "mine", "not encrypted")
        mine.unlink()
        unreadable("researcher", "mine", "missing")
    finally:
        mine.write_bytes(whole)
    assert kept.query("researcher", "SELECT sum(a) AS s FROM space.mine")["s"].to_pylist() == [500_500]
    assert kept.query("hospital", "SELECT sum(a) AS s FROM space.theirs")["s"].to_pylist() == [500_500]


def test_dropping_a_projects_keys_ends_its_space_and_no_other(kept):
    run(kept, "curator", "CREATE TABLE space.gone AS SELECT 1 AS a")
    run(kept, "hospital", "CREATE OR REPLACE TABLE space.stays AS SELECT 1 AS a")

    def admin(*words: str) -> subprocess.CompletedProcess:
        command = [binary("flight-server"), "admin", "space", *words, "--dir", str(kept.dir)]
        return subprocess.run(command, capture_output=True, text=True)

    refused = admin("drop-keys", "curation", "--confirm", "curator")
    assert refused.returncode != 0 and "--confirm curation" in refused.stderr
    assert kept.query("curator", "SELECT a FROM space.gone")["a"].to_pylist() == [1]
    done = admin("drop-keys", "curation", "--confirm", "curation")
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + SEEN_SECONDS_MAX
    while True:
        try:
            kept.query("curator", "SELECT a FROM space.gone")
        except Exception as error:
            assert "PermissionDenied" in str(error) and "dropped" in str(error), error
            break
        assert time.monotonic() < deadline, "still read"
        time.sleep(0.1)
    assert kept.query("hospital", "SELECT a FROM space.stays")["a"].to_pylist() == [1]
    run(kept, "curator", "DROP TABLE space.gone")
    run(kept, "curator", "CREATE TABLE space.again AS SELECT 2 AS a")
    assert kept.query("curator", "SELECT a FROM space.again")["a"].to_pylist() == [2]
    run(kept, "curator", "DROP TABLE space.again")
    events = kept.query("admin", "SELECT count(*) AS n FROM hub.audit WHERE event = 'space_keys_dropped'")
    assert events["n"].to_pylist() == [1]


def sent(hub, batch: pa.RecordBatch):
    client, bearer = login(hub, "researcher")
    options = flight.FlightCallOptions(headers=[(b"authorization", bearer.encode())])
    handle = prepared(client, options, b"SELECT CAST(? AS VARCHAR) AS v")
    descriptor = flight.FlightDescriptor.for_command(any_message("CommandPreparedStatementQuery", field(1, handle)))
    writer, reader = client.do_put(descriptor, batch.schema, options)
    try:
        writer.write_batch(batch)
        writer.done_writing()
        return reader.read()
    finally:
        writer.close()


def bomb(kind: str) -> pa.RecordBatch:
    """Few bytes that stand for many."""
    match kind:
        case "a text that every row names":
            text = pa.array(["x" * 1_000_000])
            column = pa.DictionaryArray.from_arrays(pa.array([0] * 9_000, pa.int32()), text)
        case "a list of a thousand million nothings":
            column = pa.FixedSizeListArray.from_arrays(pa.nulls(1 << 30), 1 << 30)
    return pa.record_batch({"": column})


@pytest.mark.parametrize("kind", [
    "a text that every row names",
    "a list of a thousand million nothings",
])
def test_few_bytes_that_stand_for_many_are_refused_at_once(kept, kind):
    batch = bomb(kind)
    assert batch.nbytes < 4 << 20
    started = time.monotonic()
    with pytest.raises(pa.ArrowException, match="of parameters|values without bytes"):
        sent(kept, batch)
    assert time.monotonic() - started < 5
    assert kept.query("researcher", "SELECT 1 AS alive")["alive"].to_pylist() == [1]


def test_values_in_several_places_are_refused(kept):
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([5_000], pa.int32()), pa.array(["x" * 100_000]))
    with pytest.raises(pa.ArrowException, match="plain values"):
        sent(kept, pa.record_batch({"": runs}))


def test_formulas_stay_the_texts_that_they_are(kept):
    """The hub writes no CSV: whoever does, of what they fetched, must quote there."""
    formulas = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1"]
    run(kept, "researcher", "CREATE OR REPLACE TABLE space.cells (n INT, a VARCHAR)")
    with kept.connect("researcher") as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO space.cells VALUES (?, ?)", list(enumerate(formulas)))
    assert kept.query("researcher", "SELECT a FROM space.cells ORDER BY n")["a"].to_pylist() == formulas


def test_the_server_survived_it_all(kept):
    assert kept.process.poll() is None
    said = kept.log.read_text(errors="replace")
    assert "panicked" not in said
    # Each file that was not read is named there, for an administrator.
    assert "a file of a space is not read" in said
