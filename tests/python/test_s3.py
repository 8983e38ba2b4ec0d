"""Datasets in an S3 bucket, served by moto, an independent implementation of S3's interface."""

import os
import re
import subprocess
from decimal import Decimal

import numpy
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import feather, fs

from conftest import binary, start

ROWS = 200_000
KEYS = {"AWS_ACCESS_KEY_ID": "synthetic", "AWS_SECRET_ACCESS_KEY": "synthetic"}

CONFIG = """
[server]
flight = "127.0.0.1:0"
zone = "inside"
http = "127.0.0.1:0"

[workers]
listen = "127.0.0.1:0"

{datasets}

[[person]]
id = "alice"

[[project]]
id = "study"
members = ["alice"]
valid_from = "2026-01-01"
valid_to = "2030-01-01"
"""

DATASET = """
[[dataset]]
name = "{name}"
producer = "hospital"
folder = "{folder}"
format = "{format}"
persons = "none"
storage = {{ endpoint = "{endpoint}", region = "us-east-1", allow_http = "true" }}
"""

HABILITATION = """
[[habilitation]]
project = "study"
dataset = "{name}"
decision = "synthetic"
valid_from = "2026-01-01"
valid_to = "2030-01-01"
"""


def acts() -> pa.Table:
    rng = numpy.random.default_rng(7)
    return pa.table({
        "act": numpy.arange(ROWS),
        "ward": numpy.char.add("service ", rng.integers(0, 40, ROWS).astype(str)),
        "cents": rng.integers(100, 90_000, ROWS),
    })


def config(folder, endpoint, datasets):
    """A hub.toml over `datasets`, triples of name, folder and format."""
    named = [dict(name=name, folder=url, format=form, endpoint=endpoint) for name, url, form in datasets]
    text = CONFIG.format(datasets="".join(DATASET.format(**one) for one in named))
    file = folder / "hub.toml"
    file.write_text(text + "".join(HABILITATION.format(**one) for one in named))
    return file


@pytest.fixture(scope="module")
def bucket():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    store = fs.S3FileSystem(access_key="synthetic", secret_key="synthetic", region="us-east-1",
                            endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True)
    store.create_dir("hub")
    table = acts()
    half = ROWS // 2
    for part, rows in enumerate([table.slice(0, half), table.slice(half)]):
        pa.parquet.write_table(rows, f"hub/lake/acts/{part}.parquet", filesystem=store, row_group_size=20_000)
    pa.parquet.write_table(table, "hub/lake/Stays.parquet", filesystem=store)
    with store.open_output_stream("hub/csv/acts.csv") as output:
        pa.csv.write_csv(table, output)
    with store.open_output_stream("hub/arrow/acts.arrow") as output:
        feather.write_feather(table, output, compression="uncompressed")
    with store.open_output_stream("hub/json/acts.json") as output:
        output.write(table.to_pandas().to_json(orient="records", lines=True).encode())
    yield server, f"http://{host}:{port}", store
    server.stop()


@pytest.fixture(scope="module")
def served(bucket, tmp_path_factory):
    _, endpoint, _ = bucket
    folder = tmp_path_factory.mktemp("s3")
    file = config(folder, endpoint, [("lake", "s3://hub/lake", "parquet"), ("csv", "s3://hub/csv/", "csv"),
                                     ("arrow", "s3://hub/arrow", "arrow"), ("json", "s3://hub/json", "json")])
    with pytest.MonkeyPatch.context() as environment:
        for key, value in KEYS.items():
            environment.setenv(key, value)
        running = start(["serve", "--config", str(file)], folder, folder / "serve.log")
    said = subprocess.run(
        [binary("flight-server"), "admin", "token", "create", "--config", str(file), "--person", "alice",
         "--project", "study", "--days", "2"], check=True, capture_output=True, text=True).stdout
    running.token = re.search(r"hubpat_\S+", said).group(0)
    yield running
    running.stop()


def query(served, sql):
    with served.connect("alice", password=served.token) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetch_arrow_table()


@pytest.mark.parametrize("table", ["lake.acts", "lake.stays", "csv.acts", "arrow.acts", "json.acts"])
def test_tables_of_a_bucket_equal_what_was_written(served, table):
    found = query(served, f"SELECT ward, count(*) AS n, sum(cents) AS cents FROM {table} GROUP BY ward")
    expected = acts().group_by("ward").aggregate([("act", "count"), ("cents", "sum")])
    assert ({row["ward"]: (row["n"], Decimal(row["cents"])) for row in found.to_pylist()}
            == {row["ward"]: (row["act_count"], row["cents_sum"]) for row in expected.to_pylist()})


def test_a_bucket_lists_its_folders_and_files_as_tables(served):
    found = query(served, "SELECT dataset, name FROM hub.tables").to_pylist()
    assert {(row["dataset"], row["name"]) for row in found} == {
        ("lake", "acts"), ("lake", "stays"), ("csv", "acts"), ("arrow", "acts"), ("json", "acts")}


@pytest.mark.parametrize("folder, form, said", [
    ("s3://nowhere/lake", "parquet", "cannot be read"),
    ("gs://hub/lake", "parquet", "a local path or s3://"),
    ("s3://hub/lake", "dicom", "local folders only"),
])
def test_a_folder_that_cannot_be_read_is_refused_at_start(bucket, tmp_path, folder, form, said):
    _, endpoint, _ = bucket
    file = config(tmp_path, endpoint, [("lake", folder, form)])
    ended = subprocess.run([binary("flight-server"), "serve", "--config", str(file)],
                           env={**os.environ, **KEYS}, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert folder in ended.stderr or "lake" in ended.stderr
    assert said in ended.stderr
    assert "synthetic" not in ended.stderr, "a key is printed"


def test_a_bucket_that_goes_away_is_unavailable_and_comes_back(served, bucket):
    """What the files are called and where they lie stays unsaid."""
    server, endpoint, _ = bucket
    total = "SELECT sum(act) AS n FROM lake.acts"
    server.stop()
    with pytest.raises(Exception, match=r"\(Unavailable;") as refused:
        query(served, total)
    assert "parquet" not in str(refused.value) and "127.0.0.1" not in str(refused.value)
    again = ThreadedMotoServer(ip_address="127.0.0.1", port=int(endpoint.rsplit(":", 1)[1]))
    again.start()
    try:
        assert query(served, total).to_pylist() == [{"n": ROWS * (ROWS - 1) // 2}]
    finally:
        again.stop()
        server.start()
