"""Transactions on a project's space: by ADBC, whose connections begin one unless they are told not
to, and by clients that no driver is."""

import os
import random
import threading
import time
from dataclasses import dataclass

import adbc_driver_flightsql.dbapi as flightsql
import duckdb
import pyarrow as pa
import pytest
from pyarrow import flight

from conftest import any_message, field, start, start_demo
from test_ingest import Sender, ingest, varint
from test_protocol import told
from test_revocation import write

COMMIT, ROLLBACK = 1, 2


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("transactions") / "hub")
    yield running
    running.stop()


def connect(hub, account="hospital", **options):
    """A connection as `adbc_driver_flightsql.dbapi` makes one by default: it begins a transaction."""
    keys = {"username": account, "password": f"{account}-demo", **options}
    return flightsql.connect(hub.uri, db_kwargs=keys)


def run(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetch_arrow_table()


def told_or_none(call):
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever the client makes of it
        return str(error)
    return None


def column(hub, sql, account="hospital"):
    return hub.query(account, sql).column(0).to_pylist()


def files(hub):
    return {path.name for path in (hub.dir / "state" / "spaces").rglob("*") if path.is_file()}


class Raw(Sender):
    """A client that writes the messages itself."""

    def act(self, name, body):
        action = flight.Action(name, body)
        return [bytes(result.body.to_pybytes()) for result in self.client.do_action(action, self.options())]

    def begin(self):
        return self.act("BeginTransaction", any_message("ActionBeginTransactionRequest", b""))[0][-16:]

    def end(self, transaction, how):
        body = field(1, transaction) + (varint(2, how) if how else b"")
        assert self.act("EndTransaction", any_message("ActionEndTransactionRequest", body)) == []

    def info(self, sql, transaction=b""):
        body = field(1, sql.encode()) + (field(2, transaction) if transaction else b"")
        descriptor = flight.FlightDescriptor.for_command(any_message("CommandStatementQuery", body))
        return self.client.get_flight_info(descriptor, self.options())

    def query(self, sql, transaction=b""):
        info = self.info(sql, transaction)
        return self.client.do_get(info.endpoints[0].ticket, self.options()).read_all().column(0).to_pylist()

    def change(self, sql, transaction=b""):
        body = field(1, sql.encode()) + (field(2, transaction) if transaction else b"")
        writer, reader = self.open(any_message("CommandStatementUpdate", body), pa.schema([]))
        writer.done_writing()
        answer = reader.read()
        # It says what was wrong.
        writer.close()
        return bytes(answer)[1] if len(answer) > 1 else 0


# --- what a person who has never read this file expects ---

def test_commit_keeps_and_rollback_forgets(own):
    connection = connect(own)
    run(connection, "CREATE TABLE space.kept AS SELECT 1 AS a")
    run(connection, "INSERT INTO space.kept VALUES (2), (3)")
    assert run(connection, "SELECT a FROM space.kept ORDER BY a").column(0).to_pylist() == [1, 2, 3]
    # Nobody else sees it, not even the same person.
    assert own.error("hospital", "SELECT * FROM space.kept")[0] == "NOT_FOUND"
    assert "kept" not in str(column(own, "SELECT table_name FROM information_schema.tables"))
    connection.commit()
    assert column(own, "SELECT a FROM space.kept ORDER BY a") == [1, 2, 3]
    run(connection, "DELETE FROM space.kept WHERE a = 1")
    run(connection, "UPDATE space.kept SET a = a * 10")
    assert run(connection, "SELECT a FROM space.kept ORDER BY a").column(0).to_pylist() == [20, 30]
    assert column(own, "SELECT a FROM space.kept ORDER BY a") == [1, 2, 3]
    connection.rollback()
    assert run(connection, "SELECT a FROM space.kept ORDER BY a").column(0).to_pylist() == [1, 2, 3]
    # What is not committed when its connection closes is not kept.
    run(connection, "DROP TABLE space.kept")
    connection.close()
    assert column(own, "SELECT a FROM space.kept ORDER BY a") == [1, 2, 3]
    own.query("hospital", "DROP TABLE space.kept")


def test_counts_of_a_transaction_are_those_of_each_statement(own):
    raw = Raw(own, "hospital")
    transaction = raw.begin()
    raw.change("CREATE TABLE space.counted AS SELECT column1 AS a FROM (VALUES (1), (2), (3))", transaction)
    for sql, count in (("INSERT INTO space.counted VALUES (4), (5)", 2), ("UPDATE space.counted SET a = 0 WHERE a > 2", 3),
                       ("DELETE FROM space.counted WHERE a = 0", 3), ("DELETE FROM space.counted WHERE a = 7", 0)):
        assert raw.change(sql, transaction) == count, sql
    raw.end(transaction, ROLLBACK)


def test_a_script_gives_what_duckdb_gives(own):
    """Statements and ends of transactions drawn at random: after each, both know the same rows."""
    for seed in range(4):
        draw, there = random.Random(seed), duckdb.connect()
        there.execute("CREATE TABLE seen (a BIGINT, b VARCHAR)")
        there.execute("BEGIN")
        here = connect(own)
        run(here, f"CREATE TABLE space.seen_{seed} (a BIGINT, b VARCHAR)")
        here.commit()
        for _ in range(40):
            n, word = draw.randrange(20), draw.choice(["é", "b", "c"])
            kind = draw.randrange(9)
            sql = [
                f"INSERT INTO TABLE_ VALUES ({n}, '{word}'), ({n + 1}, NULL)",
                f"INSERT INTO TABLE_ SELECT a + {n}, b FROM TABLE_ WHERE a < {n}",
                f"UPDATE TABLE_ SET a = a - {n} WHERE b = '{word}'", f"UPDATE TABLE_ SET b = '{word}' WHERE a > {n}",
                f"DELETE FROM TABLE_ WHERE a % 7 = {n % 7}", f"DELETE FROM TABLE_ WHERE b IS NULL AND a > {n}",
                "COMMIT", "ROLLBACK", "VIEW",
            ][kind]
            if sql == "COMMIT":
                here.commit()
                there.execute("COMMIT; BEGIN")
            elif sql == "ROLLBACK":
                here.rollback()
                there.execute("ROLLBACK; BEGIN")
            elif sql == "VIEW":
                run(here, f"CREATE OR REPLACE VIEW space.view_{seed} AS SELECT a FROM space.seen_{seed} WHERE a > {n}")
                there.execute(f"CREATE OR REPLACE VIEW view_{seed} AS SELECT a FROM seen WHERE a > {n}")
            else:
                run(here, sql.replace("TABLE_", f"space.seen_{seed}"))
                there.execute(sql.replace("TABLE_", "seen"))
            ask = "SELECT a, b, count(*) FROM {} GROUP BY a, b ORDER BY a, b"
            found = run(here, ask.format(f"space.seen_{seed}")).to_pydict()
            known = there.sql(ask.format("seen")).to_arrow_table().to_pydict()
            assert list(found.values()) == list(known.values()), (seed, sql)
        here.commit()
        there.execute("COMMIT")
        assert column(own, f"SELECT count(*) FROM space.seen_{seed}") == list(there.execute("SELECT count(*) FROM seen").fetchone())
        here.close()


def test_what_others_commit_is_seen_and_who_commits_first_wins(own):
    own.query("hospital", "CREATE TABLE space.shared AS SELECT 1 AS a")
    one, other = connect(own), connect(own)
    run(one, "UPDATE space.shared SET a = 10")
    run(other, "UPDATE space.shared SET a = 20")
    one.commit()
    with pytest.raises(Exception, match="ABORTED|Aborted"):
        other.commit()
    # The driver (1.13) can do nothing more with a connection whose commit failed, not even roll back.
    other.close()
    other = connect(own)
    assert run(other, "SELECT a FROM space.shared").column(0).to_pylist() == [10]
    # Rows that two add do not meet.
    run(one, "INSERT INTO space.shared VALUES (11)")
    run(other, "INSERT INTO space.shared VALUES (12)")
    one.commit()
    other.commit()
    assert column(own, "SELECT a FROM space.shared ORDER BY a") == [10, 11, 12]
    # Each statement sees what is committed by then.
    run(one, "INSERT INTO space.shared VALUES (13)")
    own.query("hospital", "CREATE TABLE space.beside AS SELECT 7 AS b")
    assert run(one, "SELECT b FROM space.beside").column(0).to_pylist() == [7]
    own.query("hospital", "INSERT INTO space.beside VALUES (8)")
    assert run(one, "SELECT b FROM space.beside ORDER BY b").column(0).to_pylist() == [7, 8]
    one.rollback()
    # Two make a table of one name.
    run(one, "CREATE TABLE space.twice AS SELECT 1 AS a")
    run(other, "CREATE TABLE space.twice AS SELECT 2 AS a")
    other.commit()
    with pytest.raises(Exception, match="ABORTED|Aborted"):
        one.commit()
    assert column(own, "SELECT a FROM space.twice") == [2]
    one.close(), other.close()
    for table in ("shared", "beside", "twice"):
        own.query("hospital", f"DROP TABLE space.{table}")


def test_a_statement_that_fails_leaves_the_transaction_as_it_was(own):
    with connect(own) as connection:
        run(connection, "CREATE TABLE space.failing (a BIGINT NOT NULL)")
        run(connection, "INSERT INTO space.failing VALUES (1)")
        for wrong in ("INSERT INTO space.failing VALUES (NULL)", "INSERT INTO space.failing SELECT 1 / (a - 1) FROM space.failing",
                      "CREATE TABLE space.failing (b INT)", "DROP TABLE space.nothing", "SELEC"):
            with pytest.raises(Exception):
                run(connection, wrong)
        # Rows of parameters: the third fails, so that none is changed.
        run(connection, "INSERT INTO space.failing VALUES (2), (3)")
        with connection.cursor() as cursor, pytest.raises(Exception, match="row 3 of 3"):
            cursor.executemany("UPDATE space.failing SET a = a * 6 / ?", [(1,), (2,), (0,)])
        assert run(connection, "SELECT a FROM space.failing ORDER BY a").column(0).to_pylist() == [1, 2, 3]
        connection.commit()
    assert column(own, "SELECT a FROM space.failing ORDER BY a") == [1, 2, 3]
    # The same without a transaction: all rows, or none.
    with own.connect("hospital") as connection, connection.cursor() as cursor:
        with pytest.raises(Exception, match="row 3 of 3"):
            cursor.executemany("UPDATE space.failing SET a = a * 6 / ?", [(1,), (2,), (0,)])
        cursor.executemany("UPDATE space.failing SET a = a + ? WHERE a < 100", [(10,), (20,)])
    assert column(own, "SELECT a FROM space.failing ORDER BY a") == [31, 32, 33]
    own.query("hospital", "DROP TABLE space.failing")


def test_prepared_statements_follow_their_connection(own):
    """The driver keeps one as long as its text is the same, beyond the transaction it was made in."""
    own.query("hospital", "CREATE TABLE space.prepared (a BIGINT)")
    with connect(own) as connection, connection.cursor() as cursor:
        for value in (1, 2, 3):
            cursor.execute("INSERT INTO space.prepared VALUES (?)", [value])
            cursor.execute("INSERT INTO space.prepared VALUES (?)", [value * 10])
            (connection.rollback if value == 2 else connection.commit)()
        assert column(own, "SELECT a FROM space.prepared ORDER BY a") == [1, 3, 10, 30]
        cursor.execute("SELECT a FROM space.prepared WHERE a > ? ORDER BY a", [1])
        assert cursor.fetch_arrow_table()["a"].to_pylist() == [3, 10, 30]
    own.query("hospital", "DROP TABLE space.prepared")


def test_rows_that_are_sent_are_of_the_transaction_that_they_name(own):
    raw = Raw(own, "hospital")
    transaction = raw.begin()
    raw.put(ingest("sent", more=field(6, transaction)), [pa.record_batch({"a": [1, 2]})])
    raw.put(ingest("sent", existing="append", more=field(6, transaction)), [pa.record_batch({"a": [3]})])
    assert raw.query("SELECT a FROM space.sent ORDER BY a", transaction) == [1, 2, 3]
    assert own.error("hospital", "SELECT * FROM space.sent")[0] == "NOT_FOUND"
    raw.end(transaction, COMMIT)
    assert column(own, "SELECT a FROM space.sent ORDER BY a") == [1, 2, 3]
    # ADBC's own ingest names none: it commits at once, and the transaction sees that.
    with connect(own) as connection, connection.cursor() as cursor:
        run(connection, "INSERT INTO space.sent VALUES (4)")
        cursor.adbc_ingest("sent_beside", pa.table({"b": [7]}), mode="create")
        assert run(connection, "SELECT b FROM space.sent_beside").column(0).to_pylist() == [7]
        connection.rollback()
    assert column(own, "SELECT b FROM space.sent_beside") == [7]
    for table in ("sent", "sent_beside"):
        own.query("hospital", f"DROP TABLE space.{table}")


def test_a_commit_is_on_record_and_what_has_none_was_not_kept(own):
    raw = Raw(own, "hospital")
    kept, dropped = raw.begin(), raw.begin()
    names = {}
    for transaction, table in ((kept, "on_record"), (dropped, "off_record")):
        raw.change(f"CREATE TABLE space.{table} AS SELECT 1 AS a", transaction)
        names[transaction] = "-".join(transaction.hex()[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)))
    raw.end(kept, COMMIT)
    raw.end(dropped, ROLLBACK)
    # One that changed nothing costs nothing: no record of its end.
    idle = raw.begin()
    assert raw.query("SELECT 1", idle) == [1]
    raw.end(idle, COMMIT)

    def entries(transaction):
        name = names.get(transaction) or transaction.hex()
        return own.query("hospital", "SELECT event, outcome, columns FROM hub.audit "
                         f"WHERE replace(columns, '-', '') LIKE '%{name.replace('-', '')}%'").to_pylist()

    assert len(entries(dropped)) < len(entries(kept)), (entries(dropped), entries(kept))
    assert all("space.on_record" in one["columns"] for one in entries(kept)), entries(kept)
    assert not entries(idle), entries(idle)
    own.query("hospital", "DROP TABLE space.on_record")


def test_a_commit_is_recorded_as_what_became_of_it_also_where_nobody_waits(own):
    """Clients that give up at any moment of it."""
    draw, raw, kept = random.Random(7), Raw(own, "hospital"), {True: 0, False: 0}
    for n in range(40):
        transaction = raw.begin()
        raw.change(f"CREATE TABLE space.waited_{n} AS SELECT 1 AS a", transaction)
        action = flight.Action("EndTransaction", any_message("ActionEndTransactionRequest", field(1, transaction) + varint(2, COMMIT)))
        try:
            list(raw.client.do_action(action, raw.options(timeout=draw.uniform(0.0005, 0.02))))
        except flight.FlightTimedOutError:
            # It may not have come to the commit; then it is still open.
            refusal = told_or_none(lambda: raw.end(transaction, ROLLBACK))
            assert refusal is None or "was committed" in refusal, refusal
    deadline = time.monotonic() + 10
    while own.query("hospital", "SELECT count(*) AS n FROM hub.queries WHERE state = 'running'")["n"][0].as_py() > 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for n in range(40):
        commits = own.query("hospital", "SELECT DISTINCT b.seq, b.outcome FROM hub.audit a JOIN hub.audit b USING (statement_id) "
                            f"WHERE a.columns LIKE '%space.waited_{n}\"%' AND b.outcome <> 'begun' ORDER BY b.seq")
        outcomes, there = commits["outcome"].to_pylist(), bool(column(own, f"SELECT table_name FROM information_schema.tables WHERE table_name = 'waited_{n}'"))
        assert outcomes[0] == "ok" and (outcomes[1:] == ["ok"]) == there, (n, outcomes, there)
        kept[there] += 1
        if there:
            own.query("hospital", f"DROP TABLE space.waited_{n}")
    assert kept[True], kept


def test_who_is_in_several_projects_or_in_none_connects(own):
    connection = connect(own, "consultant")
    with pytest.raises(Exception, match="catalog"):
        run(connection, "SELECT 1")
    connection.close()
    header = {"adbc.flight.sql.rpc.call_header.catalog": "readmission"}
    with connect(own, "consultant", **header) as connection:
        assert run(connection, "SELECT 1 AS a")["a"].to_pylist() == [1]
    # A transaction is of the project of its first statement.
    raw = Raw(own, "hospital")
    transaction = raw.begin()
    assert raw.query("SELECT 1", transaction) == [1]
    raw.end(transaction, ROLLBACK)


def test_a_commit_cannot_be_rolled_back(own):
    raw = Raw(own, "hospital")
    transaction = raw.begin()
    raw.change("CREATE TABLE space.final AS SELECT 1 AS a", transaction)
    raw.end(transaction, COMMIT)
    assert "was committed" in told(lambda: raw.end(transaction, ROLLBACK))[1]
    assert column(own, "SELECT a FROM space.final") == [1]
    own.query("hospital", "DROP TABLE space.final")


def test_rows_by_the_thousand_are_one_change(own):
    own.query("hospital", "CREATE TABLE space.many AS SELECT a, 0 AS b FROM generate_series(1, 50) AS t(a)")
    before = files(own)
    with own.connect("hospital") as connection, connection.cursor() as cursor:
        cursor.executemany("UPDATE space.many SET b = b + ? WHERE a = ?", [(1, n % 50 + 1) for n in range(300)])
    assert column(own, "SELECT DISTINCT b FROM space.many") == [6]
    assert len(files(own) - before) == 1, "what was rewritten in between is gone"
    own.query("hospital", "DROP TABLE space.many")


# --- attacks, each with its control ---

def test_a_transaction_is_its_persons_alone(own):
    mine, theirs = Raw(own, "hospital"), Raw(own, "researcher")
    transaction = mine.begin()
    mine.change("CREATE TABLE space.secret AS SELECT 42 AS a", transaction)
    assert mine.query("SELECT a FROM space.secret", transaction) == [42], "the way is open for whose it is"
    unknown = os.urandom(16)
    for name in (transaction, unknown):
        for call in (lambda: theirs.query("SELECT a FROM space.secret", name), lambda: theirs.change("DROP TABLE space.secret", name),
                     lambda: theirs.end(name, COMMIT),
                     lambda: theirs.put(ingest("x", more=field(6, name)), [pa.record_batch({"a": [1]})])):
            kind, text = told(call)
            assert "no such transaction" in text and "42" not in text, (kind, text)
        theirs.end(name, ROLLBACK)
    # Rolled back by somebody else it is still there.
    assert mine.query("SELECT a FROM space.secret", transaction) == [42]
    # A ticket of it is its person's, while it lasts.
    ticket = mine.info("SELECT a FROM space.secret", transaction).endpoints[0].ticket
    assert "no such transaction" not in told(lambda: theirs.client.do_get(ticket, theirs.options()).read_all())[1]
    assert mine.client.do_get(ticket, mine.options()).read_all().column(0).to_pylist() == [42]
    mine.end(transaction, ROLLBACK)
    for call in (lambda: mine.client.do_get(ticket, mine.options()).read_all(), lambda: mine.query("SELECT 1", transaction),
                 lambda: mine.end(transaction, COMMIT)):
        assert "no such transaction" in told(call)[1]
    mine.end(transaction, ROLLBACK)
    assert own.error("hospital", "SELECT * FROM space.secret")[0] == "NOT_FOUND"


@pytest.mark.parametrize("name", [b"x", b"\x00" * 15, b"\x00" * 17, b"\x00" * 16, b"'; COMMIT", b"\xff" * 4096])
def test_what_is_no_transaction_is_refused(own, name):
    raw = Raw(own, "hospital")
    for call in (lambda: raw.query("SELECT 1", name), lambda: raw.change("DROP TABLE IF EXISTS space.x", name), lambda: raw.end(name, COMMIT)):
        kind, text = told(call)
        assert "no such transaction" in text and "panicked" not in text, (kind, text)
    transaction = raw.begin()
    for how in (0, 3, 77):
        assert "no way to end" in told(lambda how=how: raw.end(transaction, how))[1]
    assert raw.query("SELECT 1", transaction) == [1]
    raw.end(transaction, ROLLBACK)


def test_a_ticket_sees_what_it_was_made_for(own):
    raw = Raw(own, "hospital")
    transaction = raw.begin()
    raw.change("CREATE TABLE space.versions AS SELECT 1 AS a", transaction)
    early = raw.info("SELECT sum(a) AS s FROM space.versions", transaction).endpoints[0].ticket
    raw.change("INSERT INTO space.versions VALUES (10)", transaction)
    fetch = lambda: raw.client.do_get(early, raw.options()).read_all().column(0).to_pylist()  # noqa: E731
    assert fetch() == [1]
    raw.change("DELETE FROM space.versions WHERE a = 1", transaction)
    assert fetch() == [1], "its file is still there"
    for n in range(4):
        raw.change(f"INSERT INTO space.versions VALUES ({n})", transaction)
    assert "run the statement again" in told(fetch)[1]
    raw.end(transaction, COMMIT)
    # Of what was written and rewritten inside only what is left stays on disk.
    assert column(own, "SELECT sum(a) FROM space.versions") == [10 + sum(range(4))]
    own.query("hospital", "DROP TABLE space.versions")


def test_files_go_with_their_transaction(own):
    raw, before = Raw(own, "hospital"), files(own)
    for end in (ROLLBACK, "close", COMMIT):
        transaction = raw.begin()
        raw.change("CREATE TABLE space.held AS SELECT * FROM generate_series(1, 100000) AS t(a)", transaction)
        raw.change("UPDATE space.held SET a = 0 WHERE a % 2 = 0", transaction)
        assert len(files(own) - before) == 2
        if end == "close":
            raw.act("CloseSession", b"")
        else:
            raw.end(transaction, end)
        deadline = time.monotonic() + 5
        while len(files(own) - before) != (end == COMMIT):
            assert time.monotonic() < deadline, (end, files(own) - before)
            time.sleep(0.05)
    assert column(own, "SELECT count(*) FROM space.held WHERE a = 0") == [50_000]
    own.query("hospital", "DROP TABLE space.held")


@pytest.mark.parametrize("way", ["habilitation", "membership", "session"])
def test_nothing_is_committed_on_rights_that_have_ended(own, way):
    from test_revocation import WAYS
    withdraw, restore, _, _ = WAYS[way]
    raw = Raw(own, "researcher")
    transaction = raw.begin()
    raw.change(f"CREATE TABLE space.copied_{way} AS SELECT * FROM snds.er_prs_f LIMIT 10", transaction)
    assert raw.query(f"SELECT count(*) FROM space.copied_{way}", transaction) == [10]
    write(own, withdraw)
    time.sleep(1)
    kind, text = told(lambda: raw.end(transaction, COMMIT))
    assert "committed" not in text.split("not kept")[0] and kind, (kind, text)
    if restore:
        write(own, restore)
        time.sleep(1)
    assert own.error("researcher", f"SELECT * FROM space.copied_{way}")[0] == "NOT_FOUND"
    # The control: the same without it.
    raw = Raw(own, "researcher")
    transaction = raw.begin()
    raw.change(f"CREATE TABLE space.copied_{way} AS SELECT * FROM snds.er_prs_f LIMIT 10", transaction)
    raw.end(transaction, COMMIT)
    assert column(own, f"SELECT count(*) FROM space.copied_{way}", "researcher") == [10]
    own.query("researcher", f"DROP TABLE space.copied_{way}")


def test_one_person_hinders_nobody(own):
    mallory, ada = Raw(own, "hospital"), Raw(own, "researcher")
    open_ = []
    with pytest.raises(Exception, match="200 of your transactions"):
        for _ in range(300):
            open_.append(mallory.begin())
    transaction = ada.begin()
    assert ada.query("SELECT 1", transaction) == [1]
    ada.end(transaction, ROLLBACK)
    for n, transaction in enumerate(open_[:8]):
        mallory.change(f"CREATE TABLE space.held_{n} AS SELECT 1 AS a", transaction)
    assert "8 of your transactions" in told(lambda: mallory.change("CREATE TABLE space.held_8 AS SELECT 1 AS a", open_[8]))[1]
    mallory.end(open_[0], ROLLBACK)
    mallory.change("CREATE TABLE space.held_8 AS SELECT 1 AS a", open_[8])
    for transaction in open_:
        mallory.end(transaction, ROLLBACK)


def test_statements_of_one_transaction_run_one_after_another(own):
    raw = Raw(own, "hospital")
    transaction = raw.begin()
    raw.change("CREATE TABLE space.counter AS SELECT 0 AS a", transaction)
    failed = []

    def add():
        try:
            Raw(own, "hospital").change("UPDATE space.counter SET a = a + 1", transaction)
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=add) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed and raw.query("SELECT a FROM space.counter", transaction) == [6], failed
    raw.end(transaction, ROLLBACK)


CONFIG = """
[server]
flight = "127.0.0.1:0"
http = "127.0.0.1:0"
zone = "inside"
state = "state"

[workers]
listen = "127.0.0.1:0"

[limits]
{limits}

[[person]]
id = "alice"

[[project]]
id = "p"
members = ["alice"]
valid_from = "2000-01-01"
valid_to = "2999-01-01"
space_quota_mb = 4
"""


@dataclass
class Served:
    hub: object
    config: object
    token: str

    def raw(self):
        return Raw(self.hub, "alice", self.token)


def serve(folder, limits=""):
    from test_differential import issue_token
    config = folder / "hub.toml"
    config.write_text(CONFIG.format(limits=limits))
    hub = start(["serve", "--config", str(config)], folder, folder / "serve.log")
    return Served(hub, config, issue_token(config, "alice", "p"))


def test_time_ends_what_waits(tmp_path):
    served = serve(tmp_path, "transaction_idle_seconds_max = 2\ntransaction_seconds_max = 5")
    try:
        raw, before = served.raw(), set()
        idle, busy, reads = raw.begin(), raw.begin(), raw.begin()
        raw.change("CREATE TABLE space.idle AS SELECT 1 AS a", idle)
        began = time.monotonic()
        raw.change("CREATE TABLE space.busy AS SELECT 1 AS a", busy)
        while time.monotonic() - began < 4:
            assert raw.query("SELECT a FROM space.busy", busy) == [1]
            time.sleep(0.2)
        assert "no such transaction" in told(lambda: raw.query("SELECT 1", idle))[1]
        time.sleep(3)
        assert "no such transaction" in told(lambda: raw.end(busy, COMMIT))[1]
        # One without a change waits for as long as its session.
        assert raw.query("SELECT 1", reads) == [1]
        spaces = tmp_path / "state" / "spaces"
        assert {path.name for path in spaces.rglob("*.parquet")} == before
    finally:
        served.hub.stop()


def test_a_quota_holds_what_is_staged_too(tmp_path):
    served = serve(tmp_path)
    try:
        raw = served.raw()
        noise = "SELECT random() AS a, random() AS b FROM generate_series(1, {}) AS t(n)"
        transaction, other = raw.begin(), raw.begin()
        raw.change(f"CREATE TABLE space.large AS {noise.format(180_000)}", transaction)
        for name in (transaction, other, b""):
            assert "does not fit" in told(lambda name=name: raw.change(f"CREATE TABLE space.more AS {noise.format(180_000)}", name))[1]
        # Rewriting what is staged frees nothing that was not committed.
        kind, text = told(lambda: [raw.change("UPDATE space.large SET a = random()", transaction) for _ in range(20)])
        assert "does not fit" in text
        raw.end(transaction, ROLLBACK)
        raw.change(f"CREATE TABLE space.more AS {noise.format(180_000)}", other)
        raw.end(other, COMMIT)
        assert raw.query("SELECT count(*) FROM space.more") == [180_000]
        # What a transaction does away with is room for it.
        transaction = raw.begin()
        raw.change("DROP TABLE space.more", transaction)
        raw.change(f"CREATE TABLE space.next AS {noise.format(180_000)}", transaction)
        raw.end(transaction, COMMIT)
        assert raw.query("SELECT count(*) FROM space.next") == [180_000]
    finally:
        served.hub.stop()


def test_a_server_that_is_killed_keeps_what_was_committed_and_nothing_else(tmp_path):
    served = serve(tmp_path)
    raw = served.raw()
    kept, lost = raw.begin(), raw.begin()
    raw.change("CREATE TABLE space.kept AS SELECT 1 AS a", kept)
    raw.end(kept, COMMIT)
    raw.change("CREATE TABLE space.lost AS SELECT 1 AS a", lost)
    raw.change("INSERT INTO space.kept VALUES (2)", lost)
    spaces = tmp_path / "state" / "spaces"
    assert len(list(spaces.rglob("*.parquet"))) == 3
    served.hub.kill()
    hub = start(["serve", "--config", str(served.config)], tmp_path, tmp_path / "serve.log")
    try:
        raw = Raw(hub, "alice", served.token)
        assert raw.query("SELECT a FROM space.kept") == [1]
        assert "does not exist" in told(lambda: raw.query("SELECT * FROM space.lost"))[1]
        assert "no such transaction" in told(lambda: raw.end(lost, COMMIT))[1]
        assert len(list(spaces.rglob("*.parquet"))) == 1
    finally:
        hub.stop()
