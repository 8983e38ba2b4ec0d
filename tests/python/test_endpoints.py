"""Results that are read from several endpoints: one execution, each row once."""

import threading
import time

import pyarrow as pa
import pytest
from pyarrow import flight

from conftest import field, start_demo
from test_protocol import told
from test_revocation import CLAIMS, END_SECONDS_MAX, WAYS, write
from test_transactions import Raw

OPTION = "adbc.flight.sql.session.option."


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("endpoints") / "hub")
    yield running
    running.stop()


def option(raw, name, value):
    entry = field(1, name.encode()) + field(2, field(1, str(value).encode()))
    raw.act("SetSessionOptions", field(1, entry))


def asks(hub, account="researcher", parts=4):
    raw = Raw(hub, account)
    option(raw, "wire.endpoints", parts)
    return raw


def tickets(raw, sql):
    return [endpoint.ticket for endpoint in raw.info(sql).endpoints]


def read(raw, ticket):
    return raw.client.do_get(ticket, raw.options()).read_all()


def read_at_once(raw, parts):
    found = [None] * len(parts)

    def fetch(index):
        found[index] = read(raw, parts[index])

    threads = [threading.Thread(target=fetch, args=(index,)) for index in range(len(parts))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return found


def sorted_rows(table):
    return sorted(map(str, table.to_pylist()))


WHOLE = [
    "SELECT * FROM snds.er_prs_f",
    "SELECT prs_nat_ref, prs_pai_mnt FROM snds.er_prs_f WHERE prs_pai_mnt > 20",
    "SELECT dgn_pal, count(*) AS n FROM snds.t_mco_b GROUP BY dgn_pal",
    "SELECT a.eta_num, b.dgn_pal FROM snds.t_mco_b a JOIN snds.t_mco_b b USING (eta_num, rsa_num)",
    "SELECT * FROM snds.er_prs_f WHERE prs_pai_mnt < -1000000", "SELECT 1 AS a",
    "SELECT a FROM generate_series(1, 300000) AS t(a)",
]


@pytest.mark.parametrize("sql", WHOLE)
@pytest.mark.parametrize("parts", [2, 16])
def test_the_parts_together_are_the_result(own, sql, parts):
    raw, whole = asks(own, parts=parts), own.query("researcher", sql)
    for way in (read_at_once, lambda raw, parts: [read(raw, part) for part in parts]):
        fetched = tickets(raw, sql)
        assert len(fetched) == parts
        found = way(raw, fetched)
        assert all(part.schema.equals(whole.schema, check_metadata=False) for part in found)
        assert sorted_rows(pa.concat_tables(found)) == sorted_rows(whole)


def test_what_has_an_order_or_is_no_data_has_one_endpoint(own):
    raw = asks(own)
    for sql in ("SELECT * FROM snds.t_mco_b ORDER BY eta_num", "SELECT dgn_pal FROM (SELECT * FROM snds.t_mco_b) ORDER BY 1 LIMIT 5",
                "SHOW TABLES", "EXPLAIN SELECT 1", "SELECT * FROM hub.tables"):
        (ticket,) = tickets(raw, sql)
        assert read(raw, ticket).num_rows, sql
    assert len(tickets(Raw(own, "researcher"), WHOLE[0])) == 1
    # Aggregates that are published answer in steps, from one.
    assert len(tickets(asks(own, "epidemiologist"), "SELECT ben_sex_cod, count(*) AS n FROM snds.ir_ben_r GROUP BY 1")) == 1
    for wrong in (0, 17, -1, "many", ""):
        option(raw, "wire.endpoints", wrong)
    assert len(tickets(raw, WHOLE[0])) == 1, "the empty one is the default"


def test_adbc_reads_them_at_once_and_by_partitions(own):
    with own.connect("researcher") as connection, connection.cursor() as cursor:
        connection.adbc_connection.set_options(**{OPTION + "wire.endpoints": "4"})
        cursor.execute(WHOLE[0])
        whole = own.query("researcher", WHOLE[0])
        assert sorted_rows(cursor.fetch_arrow_table()) == sorted_rows(whole)
        partitions, schema = cursor.adbc_execute_partitions(WHOLE[0])
        assert len(partitions) == 4 and schema.names == whole.schema.names
        found = []
        for partition in partitions:
            cursor.adbc_read_partition(partition)
            found.append(cursor.fetch_arrow_table())
        assert sorted_rows(pa.concat_tables(found)) == sorted_rows(whole)


def test_it_is_one_execution_and_costs_what_one_costs(own):
    rows = own.query("researcher", WHOLE[0]).num_rows
    usage = ("SELECT statement_id, attempt, rows_returned, bytes_scanned, bytes_returned, outcome FROM hub.usage "
             f"WHERE rows_returned = {rows} AND kind = 'query' ORDER BY started_at")

    def costs(parts):
        before = own.query("researcher", usage).num_rows
        raw = asks(own, parts=parts)
        found = read_at_once(raw, tickets(raw, WHOLE[0]))
        assert sum(part.num_rows for part in found) == rows
        deadline = time.monotonic() + 5
        while (records := own.query("researcher", usage)).num_rows == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert records.num_rows == before + 1, "one execution"
        (last,) = records.select(["attempt", "rows_returned", "bytes_scanned", "bytes_returned", "outcome"]).slice(before).to_pylist()
        return last

    assert costs(1) == costs(4)


# --- attacks ---

def test_a_part_is_its_persons_and_is_fetched_once(own):
    raw, other = asks(own), Raw(own, "hospital")
    first, second, third, fourth = tickets(raw, WHOLE[0])
    assert told(lambda: read(other, first))[1]
    rows = read(raw, first).num_rows
    assert "fetched once" in told(lambda: read(raw, first))[1]
    # Another login of the same person may have other rights.
    again = Raw(own, "researcher")
    assert "one login" in told(lambda: read(again, second))[1]
    assert rows + sum(read(raw, part).num_rows for part in (second, third, fourth)) == own.query("researcher", WHOLE[0]).num_rows
    for part in (first, second, third, fourth):
        assert "fetched once" in told(lambda part=part: read(raw, part))[1], "the result is forgotten"


def test_an_error_reaches_every_part(own):
    raw = asks(own)
    sql = "SELECT 1 / (a - 250000) AS x FROM generate_series(1, 300000) AS t(a)"
    errors = []

    def fetch(ticket):
        errors.append(told(lambda: read(raw, ticket)))

    threads = [threading.Thread(target=fetch, args=(ticket,)) for ticket in tickets(raw, sql)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(errors) == 4 and len(set(errors)) == 1 and "division" in errors[0][1], errors


def test_a_part_that_breaks_off_ends_the_others(own):
    raw = asks(own, parts=2)
    one, other = (raw.client.do_get(ticket, raw.options()) for ticket in tickets(raw, CLAIMS))
    assert one.read_chunk().data.num_rows
    one.cancel()
    del one
    began = time.monotonic()
    with pytest.raises(Exception) as caught:
        while True:
            other.read_chunk()
    assert not isinstance(caught.value, StopIteration), "it would be taken for the whole"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("way", ["habilitation", "membership"])
def test_a_right_that_ends_ends_all_parts(own, way):
    withdraw, restore, error, _ = WAYS[way]
    raw = asks(own, parts=3)
    streams = [raw.client.do_get(ticket, raw.options()) for ticket in tickets(raw, CLAIMS)]
    assert all(stream.read_chunk().data.num_rows for stream in streams)
    write(own, withdraw)
    began = time.monotonic()
    try:
        for stream in streams:
            with pytest.raises(error):
                while True:
                    stream.read_chunk()
        assert time.monotonic() - began < END_SECONDS_MAX + 1
    finally:
        write(own, restore)
        time.sleep(1)


def test_cancelling_ends_all_parts_before_and_while_they_are_read(own):
    raw = asks(own, parts=2)
    info = raw.info(CLAIMS)
    stream = raw.client.do_get(info.endpoints[0].ticket, raw.options())
    assert stream.read_chunk().data.num_rows
    raw.client.cancel_flight_info(flight.CancelFlightInfoRequest(info), options=raw.options()) if hasattr(
        flight, "CancelFlightInfoRequest") else raw.act("CancelFlightInfo", field(1, info.serialize()))
    with pytest.raises(Exception) as caught:
        while True:
            stream.read_chunk()
    assert not isinstance(caught.value, StopIteration)
    assert "cancel" in told(lambda: read(raw, info.endpoints[1].ticket))[1].lower()


def test_who_asks_for_many_has_one_endpoint(own):
    raw = asks(own, "hospital", 2)
    asked = [tickets(raw, "SELECT 1 AS a") for _ in range(80)]
    assert {len(parts) for parts in asked} == {1, 2}
    assert all(sum(read(raw, part).num_rows for part in parts) == 1 for parts in asked)
    assert len(tickets(raw, "SELECT 1 AS a")) == 2, "room again"
