"""Bad input: each a clear error of the right status, and the server alive."""

import socket
import subprocess
import urllib.request

import pytest

from conftest import binary


@pytest.mark.parametrize("account, password", [
    ("researcher", "wrong"), ("nobody", "nobody-demo"), ("researcher", ""),
    ("researcher", "hubpat_aaaaaaaaaaaaaaaa_bbbbbbbb"),
])
def test_wrong_logins_read_alike(hub, account, password):
    with pytest.raises(Exception) as caught:
        with hub.connect(account, password=password) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert "UNAUTHENTICATED" in str(caught.value)
    assert "not valid" in str(caught.value)


def test_unknown_project(hub):
    with pytest.raises(Exception) as caught:
        hub.query("researcher", "SELECT 1", catalog="linked")
    hidden = str(caught.value)
    with pytest.raises(Exception) as caught:
        hub.query("researcher", "SELECT 1", catalog="linkee")
    assert hidden.replace("linked", "X") == str(caught.value).replace("linkee", "X")


@pytest.mark.parametrize("sql, status", [
    ("SELEC 1", "INVALID_ARGUMENT"),
    (" ", "INVALID_ARGUMENT"),
    ("SELECT 1; SELECT 2", "INVALID_ARGUMENT"),
    ("SELECT nothing FROM snds.t_mco_b", "INVALID_ARGUMENT"),
    ("SELECT * FROM snds.nothing", "NOT_FOUND"),
    ("SELECT * FROM nothing.at.all", "NOT_FOUND"),
    ("SELECT CAST(dgn_pal AS INT) FROM snds.t_mco_b", "INVALID_ARGUMENT"),
    ("SELECT 1 / 0", "INVALID_ARGUMENT"),
    ("SELECT ecg_rpeaks('text', 500)", "INVALID_ARGUMENT"),
    ("SELECT ecg_rpeaks(fs => 500)", "INVALID_ARGUMENT"),
    ("SELECT dicom_window(nothing => 1)", "INVALID_ARGUMENT"),
    ("COPY (SELECT 1) TO '/tmp/hubflight-leak.csv'", "INVALID_ARGUMENT"),
    ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "INVALID_ARGUMENT"),
    ("SELECT * FROM '/etc/passwd'", "NOT_FOUND"),
    ("SET datafusion.execution.batch_size = 1", "INVALID_ARGUMENT"),
    ("EXPLAIN ANALYZE SELECT 1", "INVALID_ARGUMENT"),
    ("SELECT * FROM information_schema.df_settings", "NOT_FOUND"),
    ("DELETE FROM snds.t_mco_b", "INVALID_ARGUMENT"),
    ("SELECT " + "(" * 5000 + "1" + ")" * 5000, "INVALID_ARGUMENT"),
    ("SELECT '" + "x" * 2_000_000 + "'", "INVALID_ARGUMENT"),
])
def test_statements_that_cannot_run(hub, sql, status):
    found, text = hub.error("researcher", sql)
    assert found == status, text
    for inner in ("DataFusion", "panicked", "/data/", ".parquet", "Arrow error"):
        assert inner not in text
    assert hub.query("researcher", "SELECT 1 AS alive")["alive"][0].as_py() == 1


def test_a_huge_text_and_an_empty_one(hub):
    rows = hub.query("hospital", "SELECT text_deidentify(repeat('M. Dupont habite ici. ', 20000)) AS v")
    assert "Dupont" not in rows["v"][0].as_py()


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        ended = subprocess.run(
            [binary("flight-server"), "demo", "--once", "--dir", str(tmp_path / "d"), "--scale", "0.01",
             "--flight-addr", address, "--http-addr", "127.0.0.1:0", "--worker-addr", "127.0.0.1:0"],
            capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert address in ended.stderr


def test_a_configuration_with_an_unknown_key_is_refused(tmp_path):
    file = tmp_path / "hub.toml"
    file.write_text("[server]\nflihgt = '127.0.0.1:0'\n")
    ended = subprocess.run(
        [binary("flight-server"), "serve", "--config", str(file)], capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    assert "flihgt" in ended.stderr and "hub.toml" in ended.stderr


def test_http_pages(hub):
    def get(path):
        with urllib.request.urlopen(f"http://{hub.http}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()

    assert get("/healthz")[0] == 200
    assert get("/readyz")[0] == 200
    status, page = get("/")
    assert status == 200
    for needle in (hub.flight, "jdbc:arrow-flight-sql", "adbc_driver_flightsql", "useEncryption=false"):
        assert needle in page
    status, metrics = get("/metrics")
    assert status == 200 and "hubflight_" in metrics
    with pytest.raises(urllib.error.HTTPError):
        get("/etc/passwd")
