"""Zones: what a listener opens depends on where its callers are."""

import re
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import binary, start

CONFIG = """
[server]
flight = "127.0.0.1:0"
http = "127.0.0.1:0"
{zone}

{listener}

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
"""

PROJECT = """
[[project]]
id = "{mode}s"
members = ["alice"]
valid_from = "2000-01-01"
valid_to = "2999-01-01"

[[habilitation]]
project = "{mode}s"
dataset = "clinic"
mode = "{mode}"
decision = "tests"
valid_from = "2000-01-01"
valid_to = "2999-01-01"
"""


def serve(folder, zone, listener=""):
    stays = pa.table({"person": [n // 3 for n in range(3000)], "ward": ["a", "b"] * 1500})
    (folder / "clinic" / "stays").mkdir(parents=True, exist_ok=True)
    pq.write_table(stays, folder / "clinic" / "stays" / "part.parquet")
    config = folder / "hub.toml"
    config.write_text(CONFIG.format(zone=zone, listener=listener)
                      + PROJECT.format(mode="row") + PROJECT.format(mode="aggregate"))
    running = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    running.tokens = {}
    for project in ("rows", "aggregates"):
        said = subprocess.run(
            [binary("flight-server"), "admin", "token", "create", "--config", str(config),
             "--person", "alice", "--project", project, "--days", "2"],
            check=True, capture_output=True, text=True).stdout
        running.tokens[project] = re.search(r"hubpat_\S+", said).group(0)
    return running


def ask(hub, project, sql):
    with hub.connect("alice", password=hub.tokens[project]) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


def refusal(hub, project, sql):
    with pytest.raises(Exception) as caught:
        ask(hub, project, sql)
    return str(caught.value)


COUNT = "SELECT ward, count(DISTINCT person) AS n FROM clinic.stays GROUP BY 1"


def test_callers_are_outside_unless_said_otherwise(tmp_path):
    """The control is the same hub with its zone declared."""
    hub = serve(tmp_path, "")
    try:
        for sql in ("SELECT * FROM clinic.stays", COUNT, "SELECT * FROM clinic.missing"):
            text = refusal(hub, "rows", sql)
            assert "(PermissionDenied;" in text and "from zone `outside`" in text, text
        assert ask(hub, "rows", "SELECT name FROM hub.tables").num_rows == 0
        assert ask(hub, "aggregates", COUNT)["n"].null_count == 1
        assert "is not declared" in hub.log.read_text()
    finally:
        hub.stop()
    hub = serve(tmp_path, 'zone = "inside"')
    try:
        assert ask(hub, "rows", "SELECT * FROM clinic.stays").num_rows == 3000
        ask(hub, "rows", "CREATE TABLE space.copy AS SELECT ward FROM clinic.stays")
        assert ask(hub, "aggregates", COUNT)["n"].null_count == 1
    finally:
        hub.stop()
    # What was made of rows inside is not read from outside either.
    hub = serve(tmp_path, "")
    try:
        text = refusal(hub, "rows", "SELECT * FROM space.copy")
        assert "clinic" in text, text
    finally:
        hub.stop()


def test_a_habilitation_names_its_zones(tmp_path):
    hub = serve(tmp_path, 'zone = "hospital"')
    hub.stop()
    config = tmp_path / "hub.toml"
    text = config.read_text().replace('mode = "row"\n', 'mode = "row"\nzones = ["inside"]\n')
    config.write_text(text)
    hub = start(["serve", "--config", str(config)], tmp_path, tmp_path / "again.log")
    try:
        said = subprocess.run(
            [binary("flight-server"), "admin", "token", "create", "--config", str(config),
             "--person", "alice", "--project", "rows", "--days", "2"],
            check=True, capture_output=True, text=True).stdout
        hub.tokens = {"rows": re.search(r"hubpat_\S+", said).group(0)}
        assert "from zone `hospital`" in refusal(hub, "rows", "SELECT * FROM clinic.stays")
    finally:
        hub.stop()
    config.write_text(text.replace('zones = ["inside"]', 'zones = ["outside"]'))
    ended = subprocess.run([binary("flight-server"), "serve", "--config", str(config)],
                           capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0 and "zone" in ended.stderr, ended.stderr
