"""`serve` over one's own files: TPC-H against DuckDB, and the images that ship with pydicom."""

import os
import re
import shlex
import socket
import sqlite3
import subprocess
from decimal import Decimal
from pathlib import Path

import duckdb
import pydicom
import pydicom.data
import pytest

from conftest import ROOT, Hub, binary, start
from test_docs import README

SCALE = os.environ.get("HUBFLIGHT_TPCH_SCALE", "0.1")
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]


def queries():
    text = (ROOT / "bench" / "queries" / "tpch.sql").read_text()
    parts = re.split(r"^-- (q\d+)\n", text, flags=re.M)
    return list(zip(parts[1::2], (part.strip().rstrip(";") for part in parts[2::2])))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    subprocess.run([binary("bench"), "tpch", str(folder / "tpch"), "--scale", SCALE], check=True)
    # The documented example, with only its ports and folders changed.
    text = (ROOT / "docs" / "hub.toml").read_text()
    text = text.replace("127.0.0.1:31337", "127.0.0.1:0").replace("127.0.0.1:8080", "127.0.0.1:0")
    text = text.replace("[tariff]", '[workers]\nlisten = "127.0.0.1:0"\n\n[tariff]')
    scans = Path(pydicom.data.get_testdata_file("CT_small.dcm")).parent
    text = text.replace('folder = "scans"', f'folder = "{scans}"')
    config = folder / "hub.toml"
    config.write_text(text)
    running = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    token = subprocess.run(
        [binary("flight-server"), "admin", "token", "create", "--config", str(config), "--person", "alice",
         "--project", "study", "--days", "2"], check=True, capture_output=True, text=True).stdout
    running.token = re.search(r"hubpat_\S+", token).group(0)
    yield running
    running.stop()


def query(served: Hub, sql: str):
    with served.connect("alice", password=served.token) as connection:
        # A session option: where unqualified names are looked up.
        connection.adbc_current_db_schema = "tpch"
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()


def close(a, b):
    if isinstance(a, (float, Decimal)) or isinstance(b, (float, Decimal)):
        return a == b or abs(float(a) - float(b)) <= 1e-6 * max(1.0, abs(float(a)), abs(float(b)))
    return a == b


@pytest.fixture(scope="module")
def peer(served):
    database = duckdb.connect()
    for table in TABLES:
        database.sql(f"CREATE VIEW {table} AS SELECT * FROM '{served.dir}/tpch/{table}/*.parquet'")
    return database


@pytest.mark.parametrize("name, sql", queries(), ids=lambda value: value if len(value) < 4 else "")
def test_tpch_equals_duckdb(served, peer, name, sql):
    found = [tuple(row.values()) for row in query(served, sql.replace("\n", " ")).to_pylist()]
    expected = peer.sql(sql).fetchall()
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected):
        assert all(close(a, b) for a, b in zip(mine, theirs)), (mine, theirs)


def test_a_password_alone_is_not_enough(served):
    with pytest.raises(Exception, match="UNAUTHENTICATED"):
        with served.connect("alice", password="alice-demo") as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")


def test_real_scanner_images_are_read(served):
    rows = query(served, """
        SELECT file, dicom_tags(content, 'Modality') AS modality, dicom_tags(content, 'Rows') AS rows,
               dicom_window(content, rows => 32, columns => 32, on_error => 'report') AS image
        FROM scans.files ORDER BY file""").to_pylist()
    folder = Path(pydicom.data.get_testdata_file("CT_small.dcm")).parent
    assert len(rows) == sum(1 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    read = 0
    for row in rows:
        try:
            data = pydicom.dcmread(folder / row["file"])
        except Exception:  # noqa: BLE001 - pydicom cannot read it either
            continue
        if row["modality"] is not None and "Modality" in data:
            assert row["modality"] == (data.Modality or ""), row["file"]
        if row["image"]["value"]:
            assert len(row["image"]["value"]["pixels"]) == 32 * 32 * row["image"]["value"]["samples"]
            read += 1
        else:
            assert row["image"]["error"]
    print(f"{read} of {len(rows)} files gave an image")
    assert read >= 20


def commands(heading):
    """The command lines of the first shell block below a heading of the README."""
    (block,) = re.findall(rf"^## {heading}\n.*?```sh\n(.*?)```", README, flags=re.S | re.M)[:1]
    return [shlex.split(line, comments=True) for line in block.strip().splitlines()]


def admin(served, words):
    places = {"hub.toml": str(served.dir / "hub.toml"), "copy/": str(served.dir / "copy"), "tiles/": str(served.dir / "tiles")}
    words = [places.get(word, word) for word in words]
    assert words[0] == "flight-server"
    return subprocess.run([binary("flight-server"), *words[1:]], capture_output=True, text=True, timeout=60)


def test_the_admin_commands_of_the_readme_run(served):
    for words in commands("Your own files"):
        ended = admin(served, words)
        assert ended.returncode == 0, (words, ended.stderr)


def copy_of_store(served):
    """A copy of the database as SQLite makes it beside a server that runs."""
    copy = served.dir / "copy"
    copy.mkdir(exist_ok=True)
    (copy / "hub.sqlite").unlink(missing_ok=True)
    with sqlite3.connect(served.dir / "hubflight-state" / "hub.sqlite") as source:
        source.execute(f"VACUUM INTO '{copy / 'hub.sqlite'}'")
    return copy / "hub.sqlite"


def test_the_audit_commands_of_the_readme_find_a_change(served):
    query(served, "SELECT count(*) FROM tpch.nation")
    key, verify, prove, tiles, purge = commands("The audit")
    public = admin(served, key).stdout.split()[-1]
    # No witness is configured here.
    at = verify.index("--witness")
    verify = [public if word == "PUBLIC" else word for word in verify[:at] + verify[at + 2:]]
    file = copy_of_store(served)
    sound = admin(served, verify)
    assert sound.returncode == 0, sound.stderr + sound.stdout
    with sqlite3.connect(file) as store:
        last, = store.execute("SELECT max(seq) FROM audit").fetchone()
    proven = admin(served, [str(last) if word == "42" else word for word in prove])
    assert proven.returncode == 0, proven.stderr
    written = admin(served, tiles)
    assert written.returncode == 0, written.stderr
    for change in ["UPDATE audit SET outcome = 'forged' WHERE seq = 1",
                   f"UPDATE audit SET rows_returned = rows_returned + 1 WHERE seq = {last}",
                   f"DELETE FROM audit WHERE seq = {last}"]:
        with sqlite3.connect(copy_of_store(served)) as store:
            for (trigger,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                store.execute(f'DROP TRIGGER "{trigger}"')
            assert store.execute(change).rowcount == 1
        altered = admin(served, verify)
        assert altered.returncode != 0, change
    # Too young to be purged: refused, and nothing is lost.
    young = admin(served, [word if word != "2024-01" else "2026-11" for word in purge])
    assert young.returncode != 0
    assert admin(served, purge).returncode == 0


def test_workers_of_ones_own_serve_the_demo(tmp_path):
    """`gpu-worker serve` and `demo --workers` on one machine need no key to be named."""
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % free.getsockname()[1]
    worker = subprocess.Popen([binary("gpu-worker"), "serve", "--listen", address], env=environment)
    try:
        ended = subprocess.run(
            [binary("flight-server"), "demo", "--once", "--dir", str(tmp_path / "hub"), "--scale", "0.01",
             "--flight-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--workers", address],
            env=environment, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        # A server of somebody else's does not hold the key.
        stranger = subprocess.run(
            [binary("flight-server"), "demo", "--once", "--dir", str(tmp_path / "hub"), "--scale", "0.01",
             "--flight-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--workers", address],
            env={**environment, "XDG_DATA_HOME": str(tmp_path / "other")},
            capture_output=True, text=True, timeout=120)
        assert stranger.returncode != 0
    finally:
        worker.terminate()
        worker.wait(timeout=30)
