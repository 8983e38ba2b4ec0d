"""Checkpoints of the audit in a bucket (moto, an independent implementation of S3's interface) and at a
collector of syslog: what was cut off, forked or altered shows there."""

import json
import os
import shutil
import socket
import subprocess
import urllib.request

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from conftest import binary, start

KEYS = {"AWS_ACCESS_KEY_ID": "synthetic", "AWS_SECRET_ACCESS_KEY": "synthetic"}

CONFIG = """
[server]
flight = "127.0.0.1:0"
zone = "inside"
http = "127.0.0.1:0"

[workers]
listen = "127.0.0.1:0"

[audit]
checkpoint_seconds = 1
witness = "s3://hub/audit"
storage = {{ endpoint = "{endpoint}", region = "us-east-1", allow_http = "true" }}
syslog = "udp://127.0.0.1:{port}"
"""


class Place:
    """A hub's folder, the bucket that its checkpoints go to, and its collector."""

    def __init__(self, folder):
        self.folder, self.config = folder, folder / "hub.toml"
        self.moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        self.moto.start()
        host, port = self.moto.get_host_and_port()
        # Servers of one process share what they hold.
        urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
        self.store = fs.S3FileSystem(access_key="synthetic", secret_key="synthetic", region="us-east-1",
                                     endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True)
        self.store.create_dir("hub")
        self.collector = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.collector.bind(("127.0.0.1", 0))
        self.collector.settimeout(30)
        self.config.write_text(CONFIG.format(endpoint=f"http://{host}:{port}", port=self.collector.getsockname()[1]))

    def objects(self):
        found = self.store.get_file_info(fs.FileSelector("hub/audit", allow_not_found=True))
        return sorted(info.path for info in found)

    def write(self, path, content: bytes):
        with self.store.open_output_stream(path) as output:
            output.write(content)

    def read(self, path) -> bytes:
        with self.store.open_input_stream(path) as content:
            return content.read()

    def lines(self):
        """What the collector was told since it was asked."""
        lines = [self.collector.recv(4096).decode()]
        self.collector.settimeout(0.5)
        try:
            while True:
                lines.append(self.collector.recv(4096).decode())
        except TimeoutError:
            self.collector.settimeout(30)
            return lines

    def admin(self, *words):
        return subprocess.run([binary("flight-server"), "admin", *words, "--config", str(self.config)],
                              env={**os.environ, **KEYS}, capture_output=True, text=True, timeout=60)

    def add(self, person):
        """An act that is an entry."""
        added = self.admin("person", "add", "--id", person, "--name", person)
        assert added.returncode == 0, added.stderr

    def serve(self):
        with pytest.MonkeyPatch.context() as environment:
            for key, value in KEYS.items():
                environment.setenv(key, value)
            return start(["serve", "--config", str(self.config)], self.folder, self.folder / "serve.log")

    def stop(self):
        self.collector.close()
        self.moto.stop()


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.stop()


def states(running):
    with urllib.request.urlopen(f"http://{running.http}/readyz", timeout=10) as answer:
        return {one["place"]: one["state"] for one in json.load(answer)["audit"]}


def metric(running, name, label):
    with urllib.request.urlopen(f"http://{running.http}/metrics", timeout=10) as answer:
        series = f'{name}{{place="{label}"}} '
        (value,) = [line for line in answer.read().decode().splitlines() if line.startswith(series)]
        return int(value.removeprefix(series))


def logs(place, *persons):
    """A run of the server in which these persons are added."""
    running = place.serve()
    for person in persons:
        place.add(person)
    running.stop()
    return running


def test_the_bucket_and_the_collector_tell_of_a_history_that_was_put_back(place):
    logs(place, "ada")
    assert place.lines()
    state, older = place.folder / "hubflight-state", place.folder / "older"
    shutil.copytree(state, older)
    logs(place, "eve")
    line = place.lines()[-1]
    assert line.startswith("<109>1 ") and '[checkpoint@32473 size="' in line
    sound = place.admin("audit", "verify", "--checkpoint", line)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert f"{len(place.objects())} at the witness, 1 given" in sound.stdout

    # The store is put back to before eve, by whoever has its keys too.
    shutil.rmtree(state)
    shutil.copytree(older, state)
    cut = place.admin("audit", "verify")
    assert cut.returncode != 0 and "more than there are" in cut.stdout
    by_line = place.admin("audit", "verify", "--witness", str(place.folder), "--checkpoint", line)
    assert "given checkpoint 1 covers" in by_line.stdout, by_line.stdout + by_line.stderr

    # It goes on as another history, which becomes longer.
    running = place.serve()
    for person in ["joe", "kim", "lea"]:
        place.add(person)
    assert states(running)["bucket"] == "contradicts the log"
    assert metric(running, "hubflight_audit_place_contradicts", "bucket") == 1
    assert metric(running, "hubflight_audit_place_contradicts", "syslog") == 0
    running.stop()
    assert "the witness contradicts the audit log" in running.log.read_text()
    forked = place.admin("audit", "verify", "--checkpoint", line)
    assert forked.returncode != 0 and "another root" in forked.stdout
    assert "given checkpoint 1 covers" in forked.stdout


def test_a_checkpoint_that_was_altered_in_the_bucket_is_found_and_not_replaced(place):
    logs(place, "ada")
    name = place.objects()[-1]
    content = place.read(name)
    place.write(name, content.replace(b"time ", b"time  "))
    altered = place.admin("audit", "verify")
    assert altered.returncode != 0 and os.path.basename(name) in altered.stdout
    running = place.serve()
    running.stop()
    assert "was altered" in running.log.read_text()
    assert place.read(name) != content, "an object was put over another"
    place.write(name, content)
    assert place.admin("audit", "verify").returncode == 0


def test_a_bucket_that_is_away_stops_the_start_and_later_nothing(place):
    port = place.moto.get_host_and_port()[1]
    running = place.serve()
    place.moto.stop()
    place.add("ada")
    deadline = 60
    while states(running)["bucket"] != "behind" and deadline:
        deadline -= 1
        socket.create_connection(running.http.split(":"), timeout=5).close()
        subprocess.run(["sleep", "1"], check=True)
    assert deadline, "a bucket that is away is not told"
    assert metric(running, "hubflight_audit_place_behind", "bucket") == 1
    assert states(running)["syslog"] == "ok" and place.lines()
    running.stop()
    refused = subprocess.run([binary("flight-server"), "serve", "--config", str(place.config)],
                             env={**os.environ, **KEYS}, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0 and "s3://hub/audit" in refused.stderr, refused.stderr
    assert "synthetic" not in refused.stderr + running.log.read_text(), "a key is printed"
    again = ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    again.start()
    try:
        logs(place, "eve")
        assert place.admin("audit", "verify").returncode == 0
    finally:
        again.stop()
        place.moto.start()
