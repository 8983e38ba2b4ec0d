"""What each account sees, from real clients: the rights of the demo, and what must stay hidden."""

import datetime
import sqlite3

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from conftest import start_demo

READMISSION = """
WITH s AS (
  SELECT ben_idt, sor_dat,
         lead(ent_dat) OVER (PARTITION BY ben_idt ORDER BY ent_dat, sor_dat) AS next_dat
  FROM snds.t_mco_b)
SELECT count(*) AS index_stays,
       sum(CASE WHEN next_dat > sor_dat AND next_dat <= sor_dat + INTERVAL '30' DAY
                THEN 1 ELSE 0 END) AS readmitted
FROM s WHERE sor_dat <= DATE '{last_exit}'
"""


def stored(hub, dataset, table):
    """The files as the producer wrote them, which no account can read."""
    return pq.read_table(hub.dir / "data" / "datasets" / dataset / table)


def test_readmissions_equal_the_truth_of_the_visible_window(hub):
    truth = hub.facts()["readmission"]["window"]
    row = hub.query("researcher", READMISSION.format(last_exit=truth["last_exit"])).to_pylist()[0]
    assert row == {"index_stays": truth["index_stays"], "readmitted": truth["readmitted"]}
    assert truth["index_stays"] < hub.facts()["readmission"]["overall"]["index_stays"]


def test_pyarrow_flight_gives_the_same(hub):
    truth = hub.facts()["readmission"]["window"]
    table = hub.stream("researcher", READMISSION.format(last_exit=truth["last_exit"])).read_all()
    assert table.to_pylist() == [{"index_stays": truth["index_stays"], "readmitted": truth["readmitted"]}]
    table = hub.stream("researcher", "SELECT count(*) AS n FROM snds.t_mco_b").read_all()
    window = datetime.date.fromisoformat(hub.facts()["window_start"])
    visible = pc.sum(pc.greater_equal(stored(hub, "snds", "t_mco_b")["ent_dat"], window)).as_py()
    assert table["n"][0].as_py() == visible


def test_diagnoses_follow_their_stays(hub):
    stays = stored(hub, "snds", "t_mco_b")
    window = datetime.date.fromisoformat(hub.facts()["window_start"])
    seen = stays.filter(pc.greater_equal(stays["ent_dat"], window))
    joined = stored(hub, "snds", "t_mco_d").join(
        seen.select(["eta_num", "rsa_num"]), ["eta_num", "rsa_num"], join_type="inner")
    assert 0 < joined.num_rows < stored(hub, "snds", "t_mco_d").num_rows
    count = hub.query("researcher", "SELECT count(*) AS n FROM snds.t_mco_d")["n"][0].as_py()
    assert count == joined.num_rows
    orphans = hub.query("researcher", """
        SELECT count(*) AS n FROM snds.t_mco_d d
        WHERE NOT EXISTS (SELECT 1 FROM snds.t_mco_b b
                          WHERE b.eta_num = d.eta_num AND b.rsa_num = d.rsa_num)""")
    assert orphans["n"][0].as_py() == 0


def test_masks_and_hidden_columns(hub):
    people = hub.query("researcher", "SELECT * FROM snds.ir_ben_r")
    whole = hub.query("hospital", "SELECT * FROM snds.ir_ben_r")
    assert "ben_dcd_dte" in whole.schema.names and 5 in set(map(len, whole["ben_res_com"].to_pylist()))
    assert "ben_dcd_dte" not in people.schema.names
    assert set(map(len, people["ben_res_com"].to_pylist())) <= {2, 3}
    status, text = hub.error("researcher", "SELECT ben_dcd_dte FROM snds.ir_ben_r")
    missing = hub.error("researcher", "SELECT ben_dcd_xyz FROM snds.ir_ben_r")
    assert (status, text.replace("ben_dcd_dte", "X")) == (missing[0], missing[1].replace("ben_dcd_xyz", "X"))


def test_visitor_sees_no_catalog(hub):
    with hub.connect("visitor") as connection:
        assert connection.adbc_get_objects(depth="catalogs").read_all().num_rows == 0
        # At greater depth this driver makes up a catalog without a name, and nothing in it.
        objects = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    assert not any(catalog["catalog_name"] or catalog["catalog_db_schemas"] for catalog in objects)
    hub.error("visitor", "SELECT 1")


def test_consultant_works_in_each_project_but_never_in_both(hub):
    assert hub.query("consultant", "SELECT count(*) AS n FROM snds.t_mco_b", "readmission")["n"][0].as_py() > 0
    assert hub.query("consultant", "SELECT count(*) AS n FROM cardio.ecg", "ecg_ai")["n"][0].as_py() > 0
    for catalog, sql in [
        ("readmission", "SELECT count(*) FROM cardio.ecg"),
        ("readmission", "SELECT count(*) FROM ecg_ai.cardio.ecg"),
        ("ecg_ai", "SELECT count(*) FROM readmission.snds.t_mco_b"),
        ("readmission", "SELECT count(*) FROM readmission.snds.ir_ben_r b JOIN ecg_ai.cardio.ecg e USING (ben_idt)"),
    ]:
        assert hub.error("consultant", sql, catalog)[0] == "NOT_FOUND", sql
    assert "catalog" in hub.error("consultant", "SELECT 1")[1]


@pytest.mark.parametrize("sql", [
    "SELECT count(*) FROM {}",
    "SELECT count(*) FROM {} WHERE CAST(fs AS INT) > 0",
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM {})",
    "EXPLAIN SELECT * FROM {}",
    "DESCRIBE {}",
    "CREATE TABLE space.stolen AS SELECT * FROM {}",
    "INSERT INTO {} VALUES (1)",
    "DROP TABLE {}",
])
def test_a_hidden_table_reads_like_a_missing_one(hub, sql):
    # It is there, and says something else to who sees it.
    if sql.startswith("SELECT") or sql.startswith("DESCRIBE"):
        assert hub.query("hospital", sql.format("cardio.ecg")).num_rows > 0
    elif not sql.startswith("CREATE"):
        missing = hub.error("hospital", sql.format("cardia.ecg"))[1] if not sql.startswith("EXPLAIN") else ""
        seen = str(hub.query("hospital", sql.format("cardio.ecg"))) if sql.startswith("EXPLAIN") else \
            hub.error("hospital", sql.format("cardio.ecg"))[1]
        assert seen.replace("cardio", "X") != missing.replace("cardia", "X")
    hidden = hub.error("researcher", sql.format("cardio.ecg"))
    missing = hub.error("researcher", sql.format("cardia.ecg"))
    assert hidden[0] == missing[0]
    assert hidden[1].replace("cardio", "X") == missing[1].replace("cardia", "X")


def test_nothing_of_cardio_shows_to_the_researcher(hub):
    for sql in [
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.schemata",
        "SELECT * FROM hub.tables",
        "SELECT * FROM hub.columns",
        "SELECT * FROM hub.datasets",
        "SHOW TABLES",
    ]:
        assert "cardio" not in str(hub.query("researcher", sql).to_pylist()), sql
        assert "cardio" in str(hub.query("hospital", sql).to_pylist()), f"nothing to find: {sql}"
    with hub.connect("researcher") as connection:
        objects = connection.adbc_get_objects(depth="all").read_all()
    assert "cardio" not in str(objects.to_pylist())
    assert "er_prs_f" in str(objects.to_pylist())


def test_startup_sees_the_cohort_of_a_table_that_it_does_not_see(hub):
    people = stored(hub, "snds", "ir_ben_r")
    allowed = people.filter(pc.less(people["ben_nai_ann"], 2000)).select(["ben_idt"])
    recordings = stored(hub, "cardio", "ecg").select(["ben_idt", "rec_id"])
    expected = recordings.join(allowed, "ben_idt", join_type="inner").num_rows
    assert 0 < expected < recordings.num_rows
    assert hub.query("startup", "SELECT count(*) AS n FROM cardio.ecg")["n"][0].as_py() == expected


def test_hospital_joins_all_four_datasets(hub):
    row = hub.query("hospital", """
        SELECT count(DISTINCT p.ben_idt) AS persons, count(*) AS n
        FROM snds.ir_ben_r p
        JOIN cardio.ecg e ON e.ben_idt = p.ben_idt
        JOIN imaging.instances i ON i.ben_idt = p.ben_idt
        JOIN reports.documents d ON d.ben_idt = p.ben_idt""").to_pylist()[0]
    people = [set(stored(hub, dataset, table)["ben_idt"].to_pylist()) for dataset, table in [
        ("snds", "ir_ben_r"), ("cardio", "ecg"), ("imaging", "instances"), ("reports", "documents")]]
    assert row["persons"] == len(set.intersection(*people)) > 0


IDENTIFIERS = {"ir_ben_r": ["ben_idt"], "t_mco_b": ["ben_idt", "rsa_num", "eta_num"], "er_prs_f": ["ben_idt"]}


def test_no_identifier_of_one_project_appears_in_another(hub):
    def identifiers(account):
        found = set()
        for table, columns in IDENTIFIERS.items():
            for column in columns:
                values = hub.query(account, f"SELECT DISTINCT {column} AS v FROM snds.{table}")["v"]
                assert values.type == pa.string()
                found |= set(values.to_pylist())
        return found

    mine, theirs = identifiers("researcher"), identifiers("hospital")
    assert mine and theirs and not mine & theirs
    assert len({len(value) for value in mine | theirs}) == 1, "pseudonyms have one length"
    # Within a project they are the same for whoever asks, and lead from table to table.
    stays = hub.query("researcher", "SELECT DISTINCT ben_idt AS v FROM snds.t_mco_b")["v"].to_pylist()
    assert stays and set(stays) <= set(hub.query("researcher", "SELECT ben_idt AS v FROM snds.ir_ben_r")["v"].to_pylist())
    raw = {str(value) for value in stored(hub, "snds", "ir_ben_r")["ben_idt"].to_pylist()}
    assert not raw & (mine | theirs)


def test_sizes_of_tables_are_those_of_what_is_visible(hub):
    """Where they were measured, which a listing never does; never of who may only count persons."""
    def listed(account):
        rows = hub.query(account, "SELECT dataset, name, rows, bytes FROM hub.tables").to_pylist()
        return {(row["dataset"], row["name"]): (row["rows"], row["bytes"]) for row in rows}

    for account in ("researcher", "hospital"):
        rows = hub.query(account, "SELECT * FROM snds.t_mco_b").num_rows
        scanned = hub.query(account, f"SELECT bytes_scanned AS b FROM hub.usage WHERE rows_returned = {rows} "
                                     "ORDER BY started_at DESC LIMIT 1")["b"][0].as_py()
        assert rows > 0 and listed(account)["snds", "t_mco_b"] == (rows, scanned), account
    # All that is said is so, and nothing was measured to say it.
    before = listed("researcher")
    for (dataset, name), (rows, _) in before.items():
        count = hub.query("researcher", f"SELECT count(*) AS n FROM {dataset}.{name}")["n"][0].as_py()
        assert rows in (None, count), name
    hub.query("epidemiologist", "SELECT count(*) AS n FROM snds.ir_ben_r WHERE ben_nai_ann > 1900")
    found = listed("epidemiologist")
    assert ("snds", "ir_ben_r") in found and set(found.values()) == {(None, None)}


def test_sizes_that_cannot_be_read_hide_no_table(tmp_path):
    """A store that is damaged for one dataset: its tables are listed as if nothing had been measured, and others are
    as they were."""
    hub = start_demo(tmp_path / "hub", 0.01)
    try:
        listed = lambda: hub.query("researcher", "SELECT * FROM hub.tables ORDER BY dataset, name").to_pylist()  # noqa: E731
        hub.query("researcher", "SELECT * FROM snds.t_mco_b")
        before = listed()
        assert "t_mco_b" in [row["name"] for row in before if row["bytes"]]
        with sqlite3.connect(hub.dir / "state" / "hub.sqlite", timeout=10) as store:
            changed = store.execute("UPDATE visible_sizes SET bytes = -1 WHERE dataset = 'snds'").rowcount
        assert changed > 0
        assert listed() == [row | {"rows": None, "bytes": None} if row["dataset"] == "snds" else row for row in before]
        said = hub.log.read_text(errors="replace")
        assert "a dataset is listed without sizes" in said and "snds" in said
    finally:
        hub.stop()
