"""What members change of their own in SQL, and that neither password is anywhere afterwards."""

import contextlib
import re
import sqlite3
import subprocess

import pytest
from pyarrow import flight

from conftest import binary, start_demo, statement_query

OLD, NEW, BOUND = "researcher-demo", "canary-'new'-password", "canary-bound-password"
CANARIES = ["canary-", OLD]
# The demo tells its own passwords itself.
SECRETS = CANARIES[:1]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("own") / "hub")
    running.key = running.dir / "auditors.key"
    running.key.write_text(admin(running, "audit", "keys", "create", "--auditors").splitlines()[-1])
    yield running
    running.stop()


def admin(hub, *words):
    return subprocess.run([binary("flight-server"), "admin", *words, "--dir", str(hub.dir)],
                          check=True, capture_output=True, text=True).stdout


def call(hub, password, sql, parameters=None, account="researcher"):
    with hub.connect(account, password=password) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def change(hub, old, new):
    # It ends the session, in which the driver then closes its statement.
    with pytest.raises(Exception, match="log in again.*ClosePreparedStatement"):
        call(hub, old, "CALL hub.change_password(?, ?)", (old, new))
    call(hub, new, "SELECT 1")


def call_unprepared(hub, password, sql):
    """As a client of Flight that sends the text once."""
    client = flight.FlightClient(f"grpc+tcp://{hub.flight}")
    options = flight.FlightCallOptions(headers=[client.authenticate_basic_token("researcher", password)])
    client.get_flight_info(flight.FlightDescriptor.for_command(statement_query(sql)), options)


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def test_a_password_is_changed_and_nowhere_to_be_found(own):
    other = own.connect("researcher")
    session = other.cursor()
    session.execute("SELECT 1")
    # This driver prepares each statement, and what is prepared is kept.
    with pytest.raises(Exception, match="bind them") as refused:
        call(own, OLD, f"CALL hub.change_password({literal(OLD)}, {literal(NEW)})")
    assert "canary" not in str(refused.value)
    change(own, OLD, NEW)
    with pytest.raises(Exception, match="log in again"):
        session.execute("SELECT 1")
    for opened in (session, other):
        with contextlib.suppress(Exception):
            opened.close()
    with pytest.raises(Exception, match="not valid"):
        call(own, OLD, "SELECT 1")
    call_unprepared(own, NEW, f"CALL hub.change_password({literal(NEW)}, {literal(BOUND)})")
    for wrong in [f"CALL hub.change_password('canary-wrong', {literal(NEW)})",
                  "CALL hub.change_password('canary-'s', 'canary-x')",
                  "CALL hub.change_passwords('canary-a', 'canary-b')",
                  "SELECT change_password('canary-a', 'canary-b')"]:
        with pytest.raises(Exception) as refused:
            call(own, BOUND, wrong)
        assert "canary" not in str(refused.value), wrong
    shown = own.query("admin", "SELECT * FROM hub.queries", "admin").to_pylist()
    shown += own.query("admin", "SELECT * FROM hub.audit", "admin").to_pylist()
    assert any(row.get("event") == "password_changed" for row in shown)
    assert not any(canary in repr(shown) for canary in CANARIES)
    check_nothing_is_kept(own)
    change(own, BOUND, OLD)
    call(own, OLD, "SELECT 1")


def check_nothing_is_kept(own):
    """Neither in the log, nor in any file, nor in any text that the auditors open."""
    database = own.dir / "state" / "hub.sqlite"
    with sqlite3.connect(database) as store:
        ids = [row for (row,) in store.execute("SELECT statement_id FROM statements").fetchall()]
        dumped = "\n".join(store.iterdump())
    places = {"log": own.log.read_bytes(), "store": dumped.encode()}
    for file in (own.dir / "state").rglob("*"):
        if file.is_file():
            places[str(file)] = file.read_bytes()
    for name, content in places.items():
        for canary in SECRETS:
            assert canary.encode() not in content, f"`{canary}` is in {name}"
    opened = []
    for statement in ids:
        ended = subprocess.run([binary("flight-server"), "admin", "audit", "open", "--dir", str(own.dir),
                                "--key-file", str(own.key), "--statement", statement],
                               capture_output=True, text=True)
        opened.append(ended.stdout + ended.stderr)
    assert sum("CALL hub.change_password" in text for text in opened) >= 2, opened
    assert not any(canary in text for text in opened for canary in CANARIES)


def test_only_a_session_of_a_password_changes_it(own):
    said = admin(own, "token", "create", "--person", "startup", "--days", "2")
    token = re.search(r"hubpat_\S+", said).group(0)
    with pytest.raises(Exception, match="log in with the old one"):
        call(own, token, "CALL hub.change_password(?, ?)", ("startup-demo", "canary-token"), account="startup")
    call(own, "startup-demo", "SELECT 1", account="startup")
    listed = own.query("startup", "SELECT id FROM hub.tokens WHERE state = 'valid'").to_pylist()
    for row in listed:
        call(own, "startup-demo", f"CALL hub.revoke_token('{row['id']}')", account="startup")
    with pytest.raises(Exception, match="not valid"):
        call(own, token, "SELECT 1", account="startup")
    events = own.query("startup", "SELECT event FROM hub.audit").column("event").to_pylist()
    assert {"token_created", "token_revoked"} <= set(events)


def test_members_make_their_own_tokens(own):
    """By a login and for the project of the session; the text is in the answer and in no file."""
    with own.connect("startup") as connection, connection.cursor() as cursor:
        cursor.execute("CALL hub.create_token('notebook', 7)")
        made = cursor.fetch_arrow_table().to_pylist()
    assert len(made) == 1 and made[0]["token"].startswith("hubpat_"), made
    token = made[0]["token"]
    call(own, token, "SELECT 1", account="startup")
    row = own.query("startup", f"SELECT name, state FROM hub.tokens WHERE id = '{made[0]['id']}'").to_pylist()
    assert row == [{"name": "notebook", "state": "valid"}]
    with pytest.raises(Exception, match="makes no other"):
        call(own, token, "CALL hub.create_token('more', 7)", account="startup")
    with pytest.raises(Exception, match="admin token create"):
        own.query("admin", "CALL hub.create_token('x', 7)", "admin")
    for file in [own.log, *(path for path in (own.dir / "state").rglob("*") if path.is_file())]:
        assert token.encode() not in file.read_bytes(), file
    call(own, "startup-demo", f"CALL hub.revoke_token('{made[0]['id']}')", account="startup")
    with pytest.raises(Exception, match="not valid"):
        call(own, token, "SELECT 1", account="startup")


def test_a_change_names_what_it_reads_and_writes(own):
    call(own, OLD, "CREATE TABLE space.touched AS SELECT eta_num FROM snds.t_mco_b WHERE rsa_num <> ''")
    call(own, OLD, "DELETE FROM space.touched")
    rows = own.query("researcher", "SELECT datasets, columns FROM hub.audit WHERE event IN ('ddl', 'dml') "
                                   "OR columns LIKE '%space.touched%' ORDER BY seq").to_pylist()
    made = [row for row in rows if "snds.t_mco_b" in row["columns"] and "space.touched" in row["columns"]]
    assert made and all('"snds@' in row["datasets"] and "eta_num" in row["columns"] for row in made)
    gone = [row for row in rows if "space.touched" in row["columns"] and "snds.t_mco_b" not in row["columns"]]
    assert gone and all("snds" not in row["datasets"] for row in gone)
