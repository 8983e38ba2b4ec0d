"""The hub that attacks on disclosure are made on: the tables of the differential test, which hold
each person once and stays by the dozen, seen in rows, in part, and in aggregates alone."""

import re
from pathlib import Path

from conftest import Hub, start
from flight_client import Client, Outcome
from test_differential import GRANTS, HEAD, dataset, issue_token, make_tables, project, write

AGGREGATE = 'mode = "aggregate"'
PROJECTS = {
    # Everything, as it is stored: what an attack finds where nothing protects.
    "raw": ("raw", ""),
    # Everything, under pseudonyms; twice, for projects that put together what they have.
    "rows": ("data", ""), "rows_too": ("data", ""),
    "narrow": ("data", GRANTS),
    "counts": ("data", AGGREGATE), "counts_too": ("data", AGGREGATE),
}


def keyed(text: str) -> str:
    """A dataset with the keys that aggregate mode needs of its paths to the person."""
    for table, key in (("persons", "pid"), ("stays", "stay_id")):
        text = text.replace(f'location = "{table}/",', f'location = "{table}/", primary_key = ["{key}"],')
    return text


def serve_attacked(folder: Path) -> Hub:
    """A server whose `clients` are alice's, by project; `bob` is a client of each too."""
    hub_tables = make_tables()
    write(hub_tables, folder / "files")
    config = folder / "hub.toml"
    config.write_text("".join([
        HEAD, dataset("raw", "files", False), keyed(dataset("data", "files", True)),
        *(project(name, of, grants) for name, (of, grants) in PROJECTS.items())]))
    running = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    running.config, running.tables = config, hub_tables
    running.tokens = {name: issue_token(config, "alice", name) for name in PROJECTS}
    running.clients = {name: Client(running, token) for name, token in running.tokens.items()}
    return running


def rows(hub: Hub, project: str, sql: str) -> list[dict]:
    outcome = hub.clients[project].run(sql)
    assert not outcome.failed, (sql, outcome.text)
    return outcome.table.to_pylist()


def number(hub: Hub, project: str, sql: str):
    """The one value of a query."""
    (row,) = rows(hub, project, sql)
    (value,) = row.values()
    return value


def refusal(hub: Hub, project: str, sql: str) -> Outcome:
    outcome = hub.clients[project].run(sql)
    assert outcome.failed, (sql, outcome.table.slice(0, 3).to_pylist())
    return outcome


def same_but(text: str, *values) -> str:
    """A text in which values that a client sent itself stand for one another."""
    for value in sorted(map(str, values), key=len, reverse=True):
        text = text.replace(value, "?")
    return re.sub(r"\s+", " ", text)
