"""Policies: what an operator forbids, in files that are read at start."""

import re
import subprocess
import time
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import binary, start

CONFIG = """
[server]
flight = "127.0.0.1:0"
http = "127.0.0.1:0"
zone = "inside"

[workers]
listen = "127.0.0.1:0"

[policies]
files = [{files}]

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

[[project]]
id = "study"
members = ["alice", "bob"]
valid_from = "2000-01-01"
valid_to = "2999-01-01"

[[habilitation]]
project = "study"
dataset = "clinic"
decision = "tests"
valid_from = "2000-01-01"
valid_to = "2999-01-01"
"""

STAYS = "SELECT * FROM clinic.stays"
NOT_BOB = '@id("not-bob")\nforbid (principal == Person::"bob", action, resource);\n'


def write(folder, *policies):
    """A hub's configuration with its files of policies, by name and text."""
    stays = pa.table({"person": [n // 3 for n in range(3000)], "ward": ["a", "b"] * 1500})
    (folder / "clinic" / "stays").mkdir(parents=True, exist_ok=True)
    pq.write_table(stays, folder / "clinic" / "stays" / "part.parquet")
    for name, text in policies:
        (folder / name).write_text(text)
    config = folder / "hub.toml"
    config.write_text(CONFIG.format(files=", ".join(f'"{name}"' for name, _ in policies)))
    return config


def admin(config, *arguments):
    return subprocess.run([binary("flight-server"), "admin", *arguments, "--config", str(config)],
                          check=True, capture_output=True, text=True).stdout


def serve(folder, *policies):
    config = write(folder, *policies)
    hub = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    hub.config = config
    hub.tokens = {}
    for person in ("alice", "bob"):
        said = admin(config, "token", "create", "--person", person, "--project", "study",
                     "--days", "2")
        hub.tokens[person] = re.search(r"hubpat_\S+", said).group(0)
    return hub


def ask(hub, person, sql):
    with hub.connect(person, password=hub.tokens[person]) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def refusal(hub, person, sql):
    with pytest.raises(Exception) as caught:
        ask(hub, person, sql)
    return str(caught.value)


def told(hub):
    """The entries of the audit that tell of other policies."""
    store = hub.config.parent / "hubflight-state" / "hub.sqlite"
    import sqlite3
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT detail FROM audit WHERE event = 'policies_changed' ORDER BY seq")
        return [detail for (detail,) in rows]


def test_a_policy_forbids_and_a_changed_file_counts_after_a_restart(tmp_path):
    hub = serve(tmp_path, ("people.cedar", NOT_BOB))
    try:
        assert ask(hub, "alice", STAYS).num_rows == 3000
        ask(hub, "alice", "CREATE TABLE space.copy AS SELECT ward FROM clinic.stays")
        for sql in (STAYS, "SELECT * FROM clinic.missing"):
            text = refusal(hub, "bob", sql)
            assert "(PermissionDenied;" in text and "rule `not-bob`" in text, text
        # What was made of it is shut to him too, and it is listed for nobody whom a rule shuts out.
        assert "clinic" in refusal(hub, "bob", "SELECT * FROM space.copy")
        assert ask(hub, "bob", "SELECT name FROM hub.tables").num_rows == 0
        assert ask(hub, "alice", "SELECT name FROM hub.tables").num_rows == 1
        # Another schema that does not exist reads as missing for both.
        for person in ("alice", "bob"):
            assert "(NotFound;" in refusal(hub, person, "SELECT * FROM klinik.stays")
        who = admin(hub.config, "who", "clinic.stays.ward")
        assert "alice" in who and "bob" not in who, who
        assert len(told(hub)) == 1
    finally:
        hub.stop()
    reading = ('@id("no-rows")\nforbid (principal, action == Action::"read_rows", resource)\n'
               'unless { context.login.method == "password" };\n')
    hub = serve(tmp_path, ("people.cedar", reading))
    try:
        # The file's words now: both see what there is, neither reads it.
        for person in ("alice", "bob"):
            text = refusal(hub, person, STAYS)
            assert "(PermissionDenied;" in text and "rule `no-rows`" in text, text
            assert ask(hub, person, "SELECT name FROM hub.tables").num_rows == 1
            listed = ask(hub, person, "SELECT column_name FROM information_schema.columns "
                                      "WHERE table_name = 'stays'")
            assert set(listed["column_name"].to_pylist()) == {"person", "ward"}
            # A table of its that does not exist still reads as missing.
            assert "(NotFound;" in refusal(hub, person, "SELECT * FROM clinic.missing")
        assert len(told(hub)) == 2
    finally:
        hub.stop()
    hub = serve(tmp_path, ("people.cedar", reading))
    try:
        assert len(told(hub)) == 2, "the same policies are no change"
    finally:
        hub.stop()
    hub = serve(tmp_path)
    try:
        assert ask(hub, "bob", STAYS).num_rows == 3000
        assert len(told(hub)) == 3
    finally:
        hub.stop()
    verified = subprocess.run(
        [binary("flight-server"), "admin", "audit", "verify", "--store",
         str(hub.config.parent / "hubflight-state")],
        capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_policy_of_the_clock_ends_what_runs(tmp_path):
    """The server starts in less time than this."""
    at = datetime.now(timezone.utc) + timedelta(seconds=15)
    policy = ('@id("evening")\nforbid (principal, action == Action::"read_rows", resource)\n'
              f'when {{ context.now >= datetime("{at:%Y-%m-%dT%H:%M:%SZ}") }};\n')
    hub = serve(tmp_path, ("clock.cedar", policy))
    at = at.replace(microsecond=0)
    try:
        endless = "SELECT a.ward FROM clinic.stays a, clinic.stays b, clinic.stays c"
        rows, error = 0, None
        with hub.connect("alice", password=hub.tokens["alice"]) as connection, \
                connection.cursor() as cursor:
            cursor.execute(endless)
            try:
                for batch in cursor.fetch_record_batch():
                    rows += batch.num_rows
            except Exception as caught:
                error = str(caught)
        ended = datetime.now(timezone.utc)
        assert rows > 0 and error is not None, (rows, error)
        assert "rule `evening`" in error, error
        assert timedelta(0) <= ended - at < timedelta(seconds=5), ended - at
        assert "rule `evening`" in refusal(hub, "alice", STAYS)
    finally:
        hub.stop()


@pytest.mark.parametrize("text, says", [
    ("forbid (principal, action, resource)\n", "line 1"),
    ("\n\nforbid (principal, action, resource);\n", "line 3"),
    ('@id("p")\nforbid (principal, action, resource)\nwhen { context.purpose == "x" };\n',
     "line 3, policy `p`"),
    ('@id("p") permit (principal, action, resource);\n', "line 1, policy `p`"),
    ('@id("p") forbid (principal, action == Action::"write", resource);\n', "policy `p`"),
])
def test_a_broken_file_stops_the_start(tmp_path, text, says):
    config = write(tmp_path, ("first.cedar", NOT_BOB), ("broken.cedar", text))
    began = time.monotonic()
    ended = subprocess.run([binary("flight-server"), "serve", "--config", str(config)],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0 and time.monotonic() - began < 30
    assert "broken.cedar" in ended.stderr and says in ended.stderr, ended.stderr
    missing = write(tmp_path)
    missing.write_text(missing.read_text().replace("files = []", 'files = ["none.cedar"]'))
    ended = subprocess.run([binary("flight-server"), "serve", "--config", str(missing)],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0 and "none.cedar" in ended.stderr, ended.stderr
