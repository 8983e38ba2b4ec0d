"""Usage and audit: one record an execution, whatever dies when."""

import resource
import socket
import threading
import time

import pyarrow as pa
import pytest

from conftest import start_demo

# Several hundred megabytes, produced faster than a slow client reads.
LARGE = """
SELECT a.ben_idt, a.exe_soi_dtd, a.prs_nat_ref, a.prs_pai_mnt, b.value
FROM snds.er_prs_f a CROSS JOIN generate_series(1, 40) AS b
"""


def usage(hub, account, where):
    return hub.query(account, f"""
        SELECT statement_id, attempt, outcome, rows_returned, bytes_returned, bytes_scanned, cost, currency
        FROM hub.usage WHERE {where}""").to_pylist()


def tagged(hub, account):
    return usage(hub, account, "kind = 'query'")


def test_each_execution_has_one_record_and_one_outcome(hub):
    marker = "SELECT count(*) AS marker_one FROM snds.er_prs_f"
    before = {row["statement_id"] for row in tagged(hub, "researcher")}
    hub.query("researcher", marker)
    new = [row for row in tagged(hub, "researcher") if row["statement_id"] not in before]
    assert len({(row["statement_id"], row["attempt"]) for row in new}) == len(new)
    charged = [row for row in new if row["bytes_scanned"] > 0 or row["rows_returned"] == 1]
    assert charged and all(row["outcome"] == "ok" for row in charged)
    audit = hub.query("researcher", "SELECT statement_id, event, outcome FROM hub.audit").to_pylist()
    outcomes = [row for row in audit if row["statement_id"] == charged[0]["statement_id"] and row["outcome"] == "ok"]
    assert len(outcomes) == 1


def test_bytes_scanned_do_not_depend_on_the_rows_that_a_filter_keeps(hub):
    def scanned(sql):
        before = {row["statement_id"] for row in tagged(hub, "researcher")}
        hub.query("researcher", sql)
        new = [row for row in tagged(hub, "researcher")
               if row["statement_id"] not in before and row["bytes_scanned"] > 0]
        assert len(new) == 1
        return new[0]["bytes_scanned"]

    everything = scanned("SELECT sum(rsa_sej) AS s FROM (SELECT date_part('day', sor_dat) AS rsa_sej, dgn_pal FROM snds.t_mco_b WHERE ent_dat > DATE '1900-01-01')")
    nothing = scanned("SELECT sum(rsa_sej) AS s FROM (SELECT date_part('day', sor_dat) AS rsa_sej, dgn_pal FROM snds.t_mco_b WHERE ent_dat > DATE '2900-01-01')")
    assert everything == nothing > 0


def test_metadata_is_free_and_the_space_is_not(hub):
    def cost(sql):
        before = {row["statement_id"] for row in usage(hub, "researcher", "true")}
        hub.query("researcher", sql)
        new = [row for row in usage(hub, "researcher", "true") if row["statement_id"] not in before]
        return [(row["bytes_scanned"], row["cost"]) for row in new if row["outcome"] == "ok"]

    for sql in ("SHOW TABLES", "SELECT * FROM hub.columns", "SELECT * FROM information_schema.tables",
                "EXPLAIN SELECT * FROM snds.t_mco_b"):
        charged = cost(sql)
        assert charged and set(charged) == {(0, 0)}, sql
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE TABLE space.charged AS SELECT value AS a, 'abc' AS b FROM generate_series(1, 1000)")
    assert max(cost("SELECT max(a) FROM space.charged"))[0] == 8 * 1000
    assert max(cost("SELECT max(b) FROM space.charged"))[0] == 3 * 1000
    with hub.connect("researcher") as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE space.charged")


def test_a_refusal_is_recorded(hub):
    hub.error("researcher", "SELECT * FROM cardio.ecg")
    refused = hub.query("researcher", "SELECT outcome, error_kind FROM hub.usage WHERE outcome = 'refused'").to_pylist()
    assert {"outcome": "refused", "error_kind": "not_found"} in refused


def test_a_client_that_goes_away_settles_as_cancelled(hub):
    connection = hub.connect("hospital")
    cursor = connection.cursor()
    cursor.execute(LARGE)
    reader = cursor.fetch_record_batch()
    next(iter(reader))
    cursor.close()
    connection.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if usage(hub, "hospital", "outcome = 'cancelled' AND rows_returned > 0"):
            return
        time.sleep(0.1)
    pytest.fail("the abandoned execution did not settle as cancelled")


# A stream writes an interim record after 16 MiB or a second, whichever comes first.
INTERIM_BYTES = 16 << 20
# A frame on its way, and what the server's HTTP/2 library had not written when it died.
IN_TRANSIT_BYTES = 4 << 20
# What both kernels and the client's library hold of a stream that is read slowly.
CLIENT_BYTES = 64 << 20


class Wire:
    """A proxy that counts what a server sends: a client loses what it has not read when a
    connection breaks, and the wire does not."""

    def __init__(self, address):
        self.target = address.rsplit(":", 1)
        self.sent = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.pumps = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection((self.target[0], int(self.target[1])))
            for source, sink, counts in ((near, far, False), (far, near, True)):
                pump = threading.Thread(target=self.pump, args=(source, sink, counts), daemon=True)
                pump.start()
                self.pumps += [pump] if counts else []

    def pump(self, source, sink, counts):
        alive = True
        try:
            while data := source.recv(1 << 20):
                if counts:
                    self.sent += len(data)
                # What the server sent counts, whether or not the client still takes it.
                try:
                    if alive:
                        sink.sendall(data)
                except OSError:
                    alive = False
        except OSError:
            pass
        # The other pump may be waiting for it: to close alone would tell nobody before that ends.
        try:
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        sink.close()

    def drained(self):
        for pump in self.pumps:
            pump.join(timeout=30)
        return self.sent


def test_kill_during_a_stream_bills_what_was_handed_over_once(tmp_path):
    hub = start_demo(tmp_path / "hub", 0.1)
    # Not while the showcase runs, whose statements would be interrupted too.
    while "Serving until" not in hub.log.read_text():
        time.sleep(0.1)
    wire = Wire(hub.flight)
    hub.flight = wire.address
    reader = hub.stream("hospital", LARGE)
    received = 0
    with pytest.raises(pa.ArrowException):
        killed = False
        while True:
            received += reader.read_chunk().data.nbytes
            if received > 200_000_000 and not killed:
                hub.kill()
                killed = True
    sent = wire.drained()
    # The worker of a killed server ends by itself, and the ledger settles at the next start.
    bills = []
    for _ in range(2):
        again = start_demo(tmp_path / "hub", 0.1)
        bills.append(usage(again, "hospital", "outcome = 'interrupted'"))
        again.stop()
    assert len(bills[0]) == 1 and bills[0][0]["cost"] > 0
    assert bills[0] == bills[1], "billed once, whatever restarts"
    billed = bills[0][0]["bytes_returned"]
    print(f"sent {sent}, received {received}, billed {billed}: {(billed - sent) / 1e6:+.1f} MB of the wire")
    # HTTP/2 adds less than 1 % to the frames.
    assert sent * 0.99 - INTERIM_BYTES - IN_TRANSIT_BYTES <= billed <= sent + IN_TRANSIT_BYTES


def test_a_full_disk_under_the_ledger_refuses_and_loses_nothing(tmp_path):
    hub = start_demo(tmp_path / "hub", 0.1)
    sql = "SELECT count(*) AS answered FROM snds.t_mco_b"

    def disk(bytes_max):
        """No file of the server grows beyond this; writes fail as on a full disk."""
        _, hard = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (bytes_max, hard))

    try:
        # The showcase prints, and standard output is a file too.
        while "Serving until" not in hub.log.read_text():
            time.sleep(0.1)
        hub.query("hospital", sql)
        reader = hub.stream("hospital", LARGE)
        reader.read_chunk()
        disk(0)
        _, text = hub.error("hospital", sql)
        assert "(Unavailable;" in text and "unrecorded" in text and "sqlite" not in text.lower(), text
        received = 0
        with pytest.raises(pa.ArrowException):
            while True:
                received += reader.read_chunk().data.nbytes
        assert received < INTERIM_BYTES * 2 + CLIENT_BYTES, "it went on unmetered"
        disk(resource.RLIM_INFINITY)
        assert hub.query("hospital", sql)["answered"][0].as_py() > 0
        rows = tagged(hub, "hospital")
        assert sum(row["outcome"] == "ok" and row["rows_returned"] == 1 for row in rows) >= 2
    finally:
        hub.stop()
    # What was open when the disk was full is settled at the latest by the next start.
    again = start_demo(tmp_path / "hub", 0.1)
    stopped = [row for row in tagged(again, "hospital") if row["bytes_returned"] > 1_000_000]
    again.stop()
    assert len(stopped) == 1
    # What could not be recorded is at most an interim interval, and it is not charged.
    assert stopped[0]["bytes_returned"] <= received * 1.01 + INTERIM_BYTES + CLIENT_BYTES


def test_many_sessions_at_once_are_all_settled(hub):
    errors = []

    def work():
        try:
            for _ in range(5):
                hub.query("researcher", "SELECT count(*) AS many FROM snds.t_mco_b")
        except Exception as error:  # noqa: BLE001 - reported below
            errors.append(error)

    before = len(tagged(hub, "researcher"))
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    # The listing itself is metadata, not a query.
    assert len(tagged(hub, "researcher")) == before + 40
