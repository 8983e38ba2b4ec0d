"""The tree of the audit as C2SP tlog-tiles, checked with nothing but SHA-256 (RFC 6962, section 2.1)."""

import base64
import hashlib
import json
import shutil
import sqlite3
import subprocess

import pytest

from conftest import binary, start
from flight_client import Client
from test_differential import HEAD, issue_token

PROJECT = """
[[project]]
id = "p"
members = ["alice"]
valid_from = "2020-01-01"
valid_to = "2099-01-01"
"""
QUERIES = 140


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def split(size):
    """The largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1


def root(leaves):
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    return node(root(leaves[:middle]), root(leaves[middle:]))


def path(index, leaves):
    if len(leaves) == 1:
        return []
    middle = split(len(leaves))
    if index < middle:
        return path(index, leaves[:middle]) + [root(leaves[middle:])]
    return path(index - middle, leaves[middle:]) + [root(leaves[:middle])]


def hashes(file):
    content = file.read_bytes()
    return [content[at:at + 32] for at in range(0, len(content), 32)]


def audit(*words):
    return subprocess.run([binary("flight-server"), "admin", "audit", *map(str, words)],
                          capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The state of a hub that was asked some questions."""
    folder = tmp_path_factory.mktemp("tiles")
    config = folder / "hub.toml"
    config.write_text(HEAD + PROJECT)
    running = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    try:
        client = Client(running, issue_token(config, "alice", "p"))
        for _ in range(QUERIES):
            assert not client.run("SELECT 1").failed
        client.close()
    finally:
        running.stop()
    return folder / "state"


def test_a_tree_of_tiles_has_the_root_that_is_signed(copy, tmp_path):
    made = audit("tiles", "--store", copy, "--to", tmp_path / "tiles")
    assert made.returncode == 0, made.stderr
    _, size, signed, *_ = (tmp_path / "tiles" / "checkpoint").read_text().split("\n")
    size = int(size)
    assert size >= 2 * QUERIES
    full, partial = size // 256, size % 256
    tiles = [tmp_path / "tiles/tile/0" / f"{n:03}" for n in range(full)]
    tiles += [tmp_path / f"tiles/tile/0/{full:03}.p/{partial}"] if partial else []
    leaves = [leaf for tile in tiles for leaf in hashes(tile)]
    assert len(leaves) == size
    assert root(leaves) == base64.b64decode(signed)
    above = hashes(tmp_path / f"tiles/tile/1/000.p/{full}")
    assert above == [root(leaves[n * 256:(n + 1) * 256]) for n in range(full)]
    # What the hub proves is what they prove.
    proven = json.loads(audit("prove", "--store", copy, "--seq", 42).stdout)
    assert proven["leaf_hash"] == leaves[proven["leaf"]].hex()
    assert proven["path"] == [step.hex() for step in path(proven["leaf"], leaves)]


def test_an_altered_log_gives_no_checkpoint(copy, tmp_path):
    shutil.copytree(copy, tmp_path / "copy")
    with sqlite3.connect(tmp_path / "copy" / "hub.sqlite") as database:
        for (trigger,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{trigger}"')
        assert database.execute("UPDATE audit SET leaf_hash = zeroblob(32) WHERE seq = 7").rowcount == 1
    refused = audit("tiles", "--store", tmp_path / "copy", "--to", tmp_path / "tiles")
    assert refused.returncode != 0 and "are not those that were signed" in refused.stderr, refused.stderr
    assert not (tmp_path / "tiles" / "checkpoint").exists()
    again = audit("tiles", "--store", copy, "--to", tmp_path / "tiles")
    assert again.returncode != 0 and "is not empty" in again.stderr
