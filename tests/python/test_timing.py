"""What time and volume tell: a restricted project must not see by how long an answer takes, or by
how much crosses the wire, how many hidden rows match its condition.

Two questions that have the same answer are asked in turn, many times: one that matches more than a
quarter of the stored rows, all of them hidden, and one that matches none. Their median times must
not differ by more than a share of what the same pair costs where nothing is hidden (or where as many
rows are visible), and that control must show. Chance is judged by permutation of the pairs.
"""

import random
import re
import statistics
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import start
from flight_client import Client
from test_differential import HEAD, issue_token, project
from test_ledger import Wire

ROWS, ROW_GROUP_ROWS = 1_500_000, 100_000
PAIRS = 40
# A difference is a leak where chance makes it so rarely, …
CHANCE_MAX = 0.001
# … and it is this share of what the same rows cost where they are seen.
SHARE_MAX = 0.15
DATASET = """
[[dataset]]
name = "{name}"
producer = "tests"
folder = "{name}"
table = [{{ name = "events", location = "events/", person = {person} }}]
"""
GRANT = """
tables.only = [{ table = "events", columns = { except = ["seen"] },
                 rows = { compare = { column = "seen", op = "eq", value = { int = 1 } } } }]
"""
LAYOUTS = ("mixed", "apart")


def events(layout):
    """Half of the rows are hidden. Of those, more than half have a code, numbers and texts that no
    visible row has; as many visible rows have others."""
    draw = np.random.default_rng(5)
    seen = draw.integers(0, 2, ROWS) if layout == "mixed" else (np.arange(ROWS) // ROW_GROUP_ROWS) % 2
    kind = draw.random(ROWS) < 0.6
    code = np.where(kind, np.where(seen == 1, "V", "H"), np.char.add("C", draw.integers(10, 99, ROWS).astype(str)))
    number = np.where(kind, np.where(seen == 1, 5_000, 9_000), 0) + draw.integers(0, 1_000, ROWS)
    return pa.table({
        "id": pa.array(np.arange(ROWS)), "person": pa.array(draw.integers(0, 50_000, ROWS)), "seen": pa.array(seen.astype(np.int32)),
        "code": pa.array(code), "number": pa.array(number), "share": pa.array(draw.random(ROWS) + number),
        "note": pa.array(np.char.add("note ", draw.integers(0, 10**9, ROWS).astype(str)))})


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timing")
    parts = [HEAD]
    for layout in LAYOUTS:
        table = events(layout)
        (folder / layout / "events").mkdir(parents=True)
        pq.write_table(table, folder / layout / "events" / "0.parquet", row_group_size=ROW_GROUP_ROWS)
        parts += [DATASET.format(name=layout, person='"none"'),
                  project(f"{layout}_part", layout, GRANT), project(f"{layout}_whole", layout)]
    config = folder / "hub.toml"
    config.write_text("".join(parts))
    running = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    running.config = config
    names = re.findall(r'\[\[project\]\]\nid = "(\w+)"', config.read_text())
    running.tokens = {name: issue_token(config, "alice", name) for name in names}
    yield running
    running.stop()


def timed(client, sql):
    began = time.perf_counter()
    table = client.redeem(client.ticket(sql))
    return time.perf_counter() - began, table


def compare(ask):
    """Medians of two questions that are asked in turn, and how likely chance alone makes them
    differ so: the share of random exchanges within the pairs that differ as much."""
    for _ in range(4):
        ask(0), ask(1)
    pairs = []
    for turn in range(PAIRS):
        first = turn % 2
        one = ask(first)
        two = ask(1 - first)
        pairs.append((one, two) if first == 0 else (two, one))
    pairs = np.array(pairs)
    found = np.median(pairs[:, 0]) - np.median(pairs[:, 1])
    draw = np.random.default_rng(1)
    exchanged = []
    for _ in range(4_000):
        swap = draw.random(PAIRS) < 0.5
        exchanged.append(np.median(np.where(swap, pairs[:, 1], pairs[:, 0])) - np.median(np.where(swap, pairs[:, 0], pairs[:, 1])))
    chance = (np.abs(exchanged) >= abs(found)).mean()
    return found, chance, statistics.median(pairs.ravel())


# By what is asked: a condition that only hidden rows meet, one that as many visible rows meet, and one of none.
CONDITIONS = {
    "equal": ("code = 'H'", "code = 'V'", "code = 'Q'"),
    "in": ("code IN ('H', 'Ha')", "code IN ('V', 'Va')", "code IN ('Q', 'Qa')"),
    "above all that is visible": ("number >= 9000", "number BETWEEN 5000 AND 6000", "number >= 90000"),
    "between": ("number BETWEEN 9000 AND 9999", "number BETWEEN 5000 AND 5999", "number BETWEEN 3000 AND 3999"),
    "function": ("upper(code) = 'H'", "upper(code) = 'V'", "upper(code) = 'Q'"),
    "like": ("code LIKE 'H%'", "code LIKE 'V%'", "code LIKE 'Q%'"),
    "join": ("code IN (SELECT * FROM (VALUES ('H')) k (x))", "code IN (SELECT * FROM (VALUES ('V')) k (x))",
             "code IN (SELECT * FROM (VALUES ('Q')) k (x))"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CONDITIONS)
def test_time_does_not_tell_how_many_hidden_rows_match(hub, layout, name):
    hidden, visible, nothing = CONDITIONS[name]
    sql = f"SELECT count(*) AS n, min(note) AS a, sum(share) AS b FROM events WHERE {{}}"
    part, whole = (Client(hub, hub.tokens[f"{layout}_{which}"]) for which in ("part", "whole"))
    answers = [timed(part, sql.format(one))[1]["n"][0].as_py() for one in (hidden, nothing, visible)]
    assert answers[0] == answers[1] == 0 < ROWS // 5 < answers[2]
    assert timed(whole, sql.format(hidden))[1]["n"][0].as_py() > ROWS // 4
    control = compare(lambda which: timed(part, sql.format((visible, nothing)[which]))[0])
    found = compare(lambda which: timed(part, sql.format((hidden, nothing)[which]))[0])
    print(f"{layout} {name}: visible rows {control[0] * 1e3:+.2f} ms (p {control[1]:.4f}), hidden rows "
          f"{found[0] * 1e3:+.2f} ms (p {found[1]:.4f}) of {found[2] * 1e3:.1f} ms")
    assert control[0] > 0 and control[1] <= CHANCE_MAX, "the control does not show"
    assert found[1] > CHANCE_MAX or abs(found[0]) < SHARE_MAX * control[0], "hidden rows take time"
