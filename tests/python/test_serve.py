"""`serve` over one's own files: TPC-H against DuckDB, and the images that ship with pydicom."""

import os
import re
import shlex
import socket
import subprocess
from decimal import Decimal
from pathlib import Path

import duckdb
import pydicom
import pydicom.data
import pytest

from conftest import ROOT, Hub, binary, start
from test_docs import blocks

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


def test_the_admin_commands_of_the_readme_run(served):
    (commands,) = [block for block in blocks("sh") if "flight-server admin" in block]
    for line in commands.strip().splitlines():
        words = shlex.split(line.replace("hub.toml", str(served.dir / "hub.toml")))
        assert words[0] == "flight-server"
        ended = subprocess.run([binary("flight-server"), *words[1:]], capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, (line, ended.stderr)


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
