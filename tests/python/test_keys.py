"""Where keys come from: a process apart that keeps the secret; and pseudonyms that take a new key."""

import os
import re
import signal
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import binary, start

CONFIG = """
[server]
flight = "127.0.0.1:0"
http = "127.0.0.1:0"
zone = "inside"
{keys}

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

[[project]]
id = "study"
members = ["alice"]
valid_from = "2000-01-01"
valid_to = "2999-01-01"

[[habilitation]]
project = "study"
dataset = "clinic"
linkage_group = "linked"
decision = "tests"
valid_from = "2000-01-01"
valid_to = "2999-01-01"
"""
PERSONS = "SELECT DISTINCT person FROM clinic.stays ORDER BY 1"


def write(folder, keys=""):
    stays = pa.table({"person": [n // 3 for n in range(3000)], "ward": ["a", "b"] * 1500})
    (folder / "clinic" / "stays").mkdir(parents=True, exist_ok=True)
    pq.write_table(stays, folder / "clinic" / "stays" / "part.parquet")
    config = folder / "hub.toml"
    config.write_text(CONFIG.format(keys=keys))
    return config


def admin(config, *words, code=0):
    ended = subprocess.run([binary("flight-server"), "admin", *words, "--config", str(config)],
                           capture_output=True, text=True)
    assert ended.returncode == code, ended.stderr
    return ended.stdout + ended.stderr


def serve(config):
    hub = start(["serve", "--config", str(config)], config.parent, config.parent / "serve.log")
    said = admin(config, "token", "create", "--person", "alice", "--project", "study", "--days", "2")
    hub.token = re.search(r"hubpat_\S+", said).group(0)
    return hub


def ask(hub, sql):
    with hub.connect("alice", password=hub.token) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def run(hub, sql):
    with hub.connect("alice", password=hub.token) as connection, connection.cursor() as cursor:
        cursor.execute(sql)


def persons(hub):
    return ask(hub, PERSONS)["person"].to_pylist()


class KeyProcess:
    def __init__(self, folder, *words):
        self.socket, self.trace = folder / "keys.sock", folder / "trace"
        with open(self.trace, "a") as trace:
            self.process = subprocess.Popen(
                [binary("flight-server"), "keys", "--secret", str(folder / "kept.key"),
                 "--socket", str(self.socket), *words],
                stdout=trace, stderr=subprocess.PIPE, text=True)
        assert "keys on" in self.process.stderr.readline()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0

    def labels(self):
        return [line.split(" ", 3)[3] for line in self.trace.read_text().splitlines()]


def test_a_hub_whose_secret_is_with_a_process_apart(tmp_path):
    """The same keys as from the file, one by one and traced, and no secret in the hub's folder."""
    config = write(tmp_path)
    hub = serve(config)
    by_file = persons(hub)
    hub.stop()
    assert len(by_file) == 1000

    state = tmp_path / "hubflight-state"
    write(tmp_path, 'key_process = "keys.sock"')
    # The secret is still where the hub reads it: nothing is hidden from it then.
    with pytest.raises(RuntimeError, match="move this file there"):
        serve(config)
    (state / "master.key").rename(tmp_path / "kept.key")
    with pytest.raises(RuntimeError, match="see that `flight-server keys` runs there"):
        serve(config)

    keeper = KeyProcess(tmp_path)
    hub = serve(config)
    try:
        assert persons(hub) == by_file
        assert not (state / "master.key").exists()
        labels = keeper.labels()
        assert "pseudonyms 1 5:study 6:linked" in labels and "tickets" in labels
        assert not any("pseudonyms" in label and "study" not in label for label in labels)
        # What it was given it has; what it was not, it cannot get any more.
        keeper.stop()
        assert persons(hub) == by_file
        with pytest.raises(Exception, match="keys cannot be had at present"):
            run(hub, "CREATE TABLE space.mine AS SELECT 1 AS a")
        keeper = KeyProcess(tmp_path)
        run(hub, "CREATE TABLE space.mine AS SELECT 1 AS a")
        assert ask(hub, "SELECT a FROM space.mine")["a"].to_pylist() == [1]
    finally:
        hub.stop()
        keeper.stop()

    # Another secret is not the store's.
    (tmp_path / "kept.key").unlink()
    missing = subprocess.run(
        [binary("flight-server"), "keys", "--secret", str(tmp_path / "kept.key"),
         "--socket", str(tmp_path / "keys.sock")], capture_output=True, text=True)
    assert missing.returncode == 1 and "--create" in missing.stderr
    keeper = KeyProcess(tmp_path, "--create")
    with pytest.raises(RuntimeError, match="does not belong to this store"):
        serve(config)
    keeper.stop()


def test_pseudonyms_take_a_new_key(tmp_path):
    config = write(tmp_path)
    hub = serve(config)
    try:
        before = persons(hub)
        run(hub, "CREATE TABLE space.kept AS SELECT person, count(*) AS n FROM clinic.stays GROUP BY 1")
        joined = "SELECT count(*) AS n FROM space.kept k JOIN clinic.stays s ON s.person = k.person"
        one = f"SELECT count(*) AS n FROM clinic.stays WHERE person = '{before[0]}'"
        assert ask(hub, joined)["n"].to_pylist() == [3000] and ask(hub, one)["n"].to_pylist() == [3]

        rotate = ("project", "rotate-pseudonyms", "study", "--group")
        said = admin(config, *rotate, "other", code=1)
        assert "no habilitation of project `study` has linkage group `other`" in said and "`linked`" in said
        assert "does not exist" in admin(config, "project", "rotate-pseudonyms", "none", "--group", "linked", code=1)
        said = admin(config, *rotate, "linked", "--dry-run")
        assert "pseudonyms_rotated" in said and "generation 2: clinic" in said, said
        assert persons(hub) == before

        # A ticket from before the rotation gives the new ones: its plan is made again.
        with hub.connect("alice", password=hub.token) as connection, connection.cursor() as cursor:
            cursor.adbc_prepare(one)
            assert "other pseudonyms" in admin(config, *rotate, "linked")
            cursor.execute(one)
            assert cursor.fetchone() == (0,)
        after = persons(hub)
        assert len(after) == 1000 and not set(after) & set(before)
        assert ask(hub, joined)["n"].to_pylist() == [0] and ask(hub, one)["n"].to_pylist() == [0]
        again = f"SELECT count(*) AS n FROM clinic.stays WHERE person = '{after[0]}'"
        assert ask(hub, again)["n"].to_pylist() == [3]
        admin(config, *rotate, "linked")
        third = persons(hub)
        assert not set(third) & set(before) and not set(third) & set(after)
    finally:
        hub.stop()
    # It outlives the server, and is in the audit.
    hub = serve(config)
    try:
        assert persons(hub) == third
    finally:
        hub.stop()
    import sqlite3
    with sqlite3.connect(f"file:{tmp_path / 'hubflight-state' / 'hub.sqlite'}?mode=ro", uri=True) as store:
        rows = store.execute("SELECT project, client FROM audit WHERE event = 'pseudonyms_rotated' ORDER BY seq")
        assert rows.fetchall() == [("study", f"flight-server admin by uid {os.getuid()}, linkage group linked, generation {n}: clinic") for n in (2, 3)]
