"""Aggregate mode through a real client: `epidemiologist` against what `hospital` sees in rows."""

import re

import pytest

PERSONS_MIN = 11
NOISE_MAX = 5
# How much larger than that the threshold of a cell may be.
MARGIN = 5


def counts(hub, account, sql):
    return {row["k"]: row["n"] for row in hub.query(account, sql).to_pylist()}


@pytest.mark.parametrize("key, table", [
    ("substr(dgn_pal, 1, 1)", "snds.t_mco_b"),
    ("extract(year FROM ent_dat)", "snds.t_mco_b"),
    ("ben_sex_cod", "snds.ir_ben_r"),
    ("ben_res_dpt", "snds.ir_ben_r"),
])
def test_large_cells_are_answered_within_their_noise_and_small_ones_are_not(hub, key, table):
    sql = f"SELECT {key} AS k, count(DISTINCT ben_idt) AS n FROM {table} GROUP BY 1"
    truth = counts(hub, "hospital", sql)
    seen = counts(hub, "epidemiologist", sql)
    shown = {k for k, n in seen.items() if n is not None}
    # Around the threshold it depends on who they are.
    assert {k for k, n in truth.items() if n >= PERSONS_MIN + MARGIN} <= shown
    assert shown <= {k for k, n in truth.items() if n >= PERSONS_MIN}
    # Suppressed cells are one row of NULLs, which is there when there are none, too.
    assert set(seen) - shown == {None}
    assert shown and all(abs(seen[k] - truth[k]) <= NOISE_MAX for k in shown)


def test_diagnoses_of_stays_are_counted_through_their_path_to_the_person(hub):
    seen = hub.query("epidemiologist", """
        SELECT d.ass_dgn AS k, count(DISTINCT b.ben_idt) AS persons, count(*) AS n
        FROM snds.t_mco_b b JOIN snds.t_mco_d d ON d.eta_num = b.eta_num AND d.rsa_num = b.rsa_num
        GROUP BY 1 ORDER BY n DESC NULLS LAST LIMIT 5""").to_pylist()
    assert len(seen) == 5 and seen[0]["n"] >= seen[0]["persons"] >= PERSONS_MIN - NOISE_MAX


def test_the_same_question_has_the_same_answer_for_ever(hub):
    sql = "SELECT count(*) AS n FROM snds.t_mco_b"
    assert len({hub.query("epidemiologist", sql)["n"][0].as_py() for _ in range(5)}) == 1


@pytest.mark.parametrize("sql", [
    "SELECT * FROM snds.t_mco_b LIMIT 1",
    "SELECT DISTINCT dgn_pal FROM snds.t_mco_b",
    "SELECT ben_idt, count(*) FROM snds.t_mco_b GROUP BY ben_idt",
    "SELECT count(*) OVER () FROM snds.t_mco_b",
    "EXPLAIN SELECT ben_idt FROM snds.t_mco_b",
    "CREATE TABLE space.copy AS SELECT * FROM snds.t_mco_b",
    "CREATE VIEW space.copy AS SELECT * FROM snds.t_mco_b",
])
def test_rows_are_denied(hub, sql):
    # Who may see rows gets them.
    if sql.startswith("CREATE"):
        with hub.connect("hospital") as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            cursor.execute(f"DROP {sql.split()[1]} space.copy")
    else:
        assert hub.query("hospital", sql).num_rows > 0
    _, text = hub.error("epidemiologist", sql)
    assert "(PermissionDenied;" in text and "only aggregates of dataset `snds`" in text, text


@pytest.mark.parametrize("sql", [
    "SELECT max(ben_nai_ann) FROM snds.ir_ben_r",
    "SELECT array_agg(ben_res_com) FROM snds.ir_ben_r",
    "SELECT count(*) FROM snds.ir_ben_r WHERE ben_idt = 'aaaaaaaaaaaaaaaaaaaaaaaaaa'",
    "SELECT count(*) FROM snds.t_mco_b a, snds.t_mco_b b",
    "SELECT count(*) FROM snds.ir_ben_r WHERE CAST(ben_res_com AS INT) > 0",
    "SELECT count(*) FROM snds.ir_ben_r WHERE 1 / (ben_nai_ann - 1950) > 0",
    "SELECT count(text_deidentify(ben_res_com)) FROM snds.ir_ben_r",
    "SELECT count(*) FROM snds.ir_ben_r WHERE random() < 0.5",
])
def test_what_could_single_somebody_out_is_refused(hub, sql):
    # Where rows may be seen it is answered, or fails on somebody's row.
    with hub.connect("hospital") as connection, connection.cursor() as cursor:
        try:
            cursor.execute(sql)
            assert cursor.fetch_arrow_table().num_rows == 1
        except Exception as error:  # noqa: BLE001 - the driver's
            assert "DoGet" in str(error), error
    _, text = hub.error("epidemiologist", sql)
    assert "(InvalidArgument;" in text, text


@pytest.mark.parametrize("condition", [
    "substr(ben_res_com, 1, -1) = '7'",
    "CAST(CAST(ben_nai_ann AS VARCHAR) || 'x' AS INT) > 0",
    "ben_res_com > 5",
    "1 / (ben_nai_ann - ben_nai_ann) = 1",
    "date_part('nonsense', ben_dcd_dte) = 1",
])
def test_no_error_tells_whether_a_person_is_there(hub, condition):
    """A condition that failed on the rows it reaches would tell of them: see policy's `oracle`."""
    def asked(dpt):
        sql = f"SELECT count(*) FROM snds.ir_ben_r WHERE ben_res_dpt = '{dpt}' AND {condition}"
        return hub.error("epidemiologist", sql)[1].split(" (", 1)[0].replace(f"'{dpt}'", "?")
    assert asked("75") == asked("00")


def test_parameters_are_judged_by_their_values(hub):
    sql = "SELECT count(*) AS n FROM snds.ir_ben_r WHERE ben_nai_ann / ? < 980"
    assert hub.query("epidemiologist", sql, parameters=(2,))["n"][0].as_py() > 0
    for divisor in (0, -1):
        _, text = hub.error("epidemiologist", sql, parameters=(divisor,))
        assert "needs a constant other than 0 and -1" in text, text
    sql = "SELECT count(*) AS n FROM snds.ir_ben_r WHERE substr(ben_res_dpt, 1, ?) = '7'"
    assert hub.query("epidemiologist", sql, parameters=(1,))["n"][0].as_py() > 0
    assert "out of range" in hub.error("epidemiologist", sql, parameters=(-1,))[1]


def test_an_uploaded_table_cannot_select_rows(hub):
    """Crafted uploads: a table of one row that is joined to protected rows is a filter."""
    with hub.connect("epidemiologist") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE space.target AS SELECT '75' AS dpt")
        try:
            joined = "SELECT count(*) AS n FROM snds.ir_ben_r b JOIN {} t ON t.dpt = b.ben_res_dpt"
            one = hub.query("hospital", joined.format("(SELECT '75' AS dpt)"))["n"][0].as_py()
            assert 0 < one < hub.query("hospital", "SELECT count(*) AS n FROM snds.ir_ben_r")["n"][0].as_py()
            _, text = hub.error("epidemiologist", joined.format("space.target"))
            assert "aggregate them first" in text, text
            # Published aggregates may be kept, and read as any other table.
            cursor.execute("CREATE TABLE space.sexes AS SELECT ben_sex_cod AS s, count(*) AS n "
                           "FROM snds.ir_ben_r GROUP BY 1")
            cursor.execute("SELECT count(*) AS n FROM space.sexes")
            assert cursor.fetch_arrow_table()["n"][0].as_py() == 3
            # A view publishes when it is read.
            cursor.execute("CREATE VIEW space.by_sex AS SELECT ben_sex_cod AS s, count(*) AS n "
                           "FROM snds.ir_ben_r GROUP BY 1")
            cursor.execute("SELECT count(n) AS n FROM space.by_sex")
            assert cursor.fetch_arrow_table()["n"][0].as_py() == 2
        finally:
            cursor.execute("DROP TABLE space.target")
            cursor.execute("DROP TABLE IF EXISTS space.sexes")
            cursor.execute("DROP VIEW IF EXISTS space.by_sex")


def test_the_meter_tells_no_number_of_hidden_rows(hub):
    """Bytes scanned are in whole MiB for each column, so that no row count can be divided out."""
    def sizes(account):
        hub.query(account, "SELECT count(*) AS meter_probe FROM snds.ir_ben_r WHERE ben_nai_ann < 1990")
        usage = hub.query(account, "SELECT bytes_scanned FROM hub.usage WHERE kind = 'query' AND bytes_scanned > 0")
        return usage["bytes_scanned"].to_pylist()

    assert sizes("epidemiologist") and all(size % (1 << 20) == 0 for size in sizes("epidemiologist"))
    # Of who sees rows, the size is that of the rows.
    rows = hub.query("hospital", "SELECT count(*) AS n FROM snds.ir_ben_r")["n"][0].as_py()
    assert any(size % (1 << 20) and size % rows == 0 for size in sizes("hospital"))


def test_metadata_still_lists_what_may_be_counted(hub):
    tables = hub.query("epidemiologist", "SELECT name FROM hub.tables")["name"].to_pylist()
    assert "t_mco_b" in tables and not re.search("truth", " ".join(tables))


def test_answers_of_a_day_are_bounded(hub):
    """Whoever may ask for ever averages any noise away."""
    text = hub.error("epidemiologist", "SELECT " + ", ".join(
        f"sum(ben_nai_ann + {n})" for n in range(2001)) + " FROM snds.ir_ben_r")[1]
    assert "(ResourceExhausted;" in text and "2000 aggregates a day" in text, text
    # Nothing was taken.
    assert hub.query("epidemiologist", "SELECT count(*) AS n FROM snds.ir_ben_r")["n"][0].as_py() > 0


def test_columns_whose_small_cells_are_nulls_say_so(hub):
    sql = "SELECT ben_sex_cod, count(*) AS n, count(*) + 1 AS m, 7 AS seven FROM snds.ir_ben_r GROUP BY 1"

    def marks(account):
        return {one.name: (one.metadata or {}).get(b"hub.suppressed") for one in hub.query(account, sql).schema}

    assert marks("epidemiologist") == {"ben_sex_cod": b"null", "n": b"null", "m": None, "seven": None}
    # Who sees rows sees no suppressed cell.
    assert set(marks("hospital").values()) == {None}
