"""Administration in SQL with a real driver: what is asked for first as a dry run, then done, and what it opens."""

import subprocess
from datetime import date

import pytest

from conftest import binary, start_demo

GRANT = """
project = 'trial'
dataset = 'snds'
decision = 'DR-2026-7'
valid_from = '2020-01-01'
valid_to = '2090-01-01'
[[tables.only]]
table = 'ir_ben_r'
columns = { only = ['ben_idt', 'ben_res_com'] }
masks = [['ben_res_com', 'department']]
"""
QUERY = "SELECT count(*) AS n, max(length(ben_res_com)) AS longest FROM snds.ir_ben_r"


@pytest.fixture(scope="module")
def administered(tmp_path_factory):
    running = start_demo(tmp_path_factory.mktemp("administered") / "hub")
    running.passwords = {}
    yield running
    running.stop()
    complaints = [line for line in running.log.read_text().splitlines() if " ERROR " in line]
    assert not complaints, "\n".join(complaints)


def password(hub, person):
    """Shown once, by the command: no statement gives it."""
    said = subprocess.run([binary("flight-server"), "admin", "person", "password", "--person", person,
                           "--dir", str(hub.dir)], check=True, capture_output=True, text=True).stdout
    hub.passwords[person] = said.splitlines()[-1]


def ask(hub, person, sql, parameters=None, catalog="admin"):
    with hub.connect(person, catalog, password=hub.passwords.get(person)) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetch_arrow_table() if not sql.startswith("CALL") else None


def refusal(hub, person, sql, parameters=None, catalog="admin"):
    with pytest.raises(Exception) as refused:
        ask(hub, person, sql, parameters, catalog)
    return str(refused.value)


def told_and_done(hub, person, sql, parameters=None):
    """What the dry run tells, which leaves everything as it was; then it is done."""
    state = "SELECT (SELECT count(*) FROM hub.persons) AS p, (SELECT count(*) FROM hub.members) AS m, " \
            "(SELECT count(*) FROM hub.habilitations) AS h, (SELECT count(*) FROM hub.projects) AS j"
    before = ask(hub, "admin", state)
    told = ask(hub, person, f"EXPLAIN {sql}", parameters).column("effect").to_pylist()
    assert told[0] == "dry run: nothing is changed"
    assert ask(hub, "admin", state).equals(before)
    ask(hub, person, sql, parameters)
    return told


def test_a_member_is_let_in_by_two_administrators(administered):
    hub = administered
    told = told_and_done(hub, "admin", "CALL hub.person_add(id => ?, name => ?)", ("mia", "Mia O'Neil"))
    assert "would record: person_added, person `mia`" in told
    assert "nobody's access to data changes" in told
    told_and_done(hub, "admin", "CALL hub.person_add('second', 'A second one', roles => 'policy')")
    told_and_done(hub, "admin", "CALL hub.project_add('trial', ?, ?, title => 'A trial')",
                  (date(2020, 1, 1), date(2090, 1, 1)))
    told = told_and_done(hub, "admin", "CALL hub.project_join('trial', person => 'mia')")
    assert "+ `mia` works in project `trial`" in told
    for person in ("mia", "second"):
        password(hub, person)
    assert "snds" in refusal(hub, "mia", QUERY, catalog="trial")

    sees = "+ `mia` in project `trial` sees rows of dataset `snds` from zone `inside` (habilitation `trial.snds` version 1)"
    masked = "+ project `trial`: column `snds.ir_ben_r.ben_res_com` masked: Department, rows: all"
    told = told_and_done(hub, "admin", "CALL hub.habilitation_enter(?)", (GRANT,))
    assert "once a second person has confirmed it:" in told and {sees, masked} <= set(told)
    due = ask(hub, "second", "SELECT id, by, reason FROM hub.review_due WHERE project = 'trial'").to_pylist()
    assert due == [{"id": "trial.snds", "by": "admin", "reason": "waits for confirmation"}]
    confirm = "CALL hub.habilitation_confirm('trial.snds', ?)"
    assert "neither who entered it" in refusal(hub, "admin", confirm, (1,))
    assert "snds" in refusal(hub, "mia", QUERY, catalog="trial")
    told = told_and_done(hub, "second", confirm, (1,))
    linked = '+ project `trial`: linkage group "dataset:snds" links identifiers of `snds`'
    decision = '+ project `trial`: `snds` by decision "DR-2026-7"'
    assert {sees, masked, linked, decision} <= set(told) and "once a second person has confirmed it:" not in told

    found = ask(hub, "mia", QUERY, catalog="trial").to_pylist()
    assert found[0]["n"] == hub.query("hospital", "SELECT count(*) AS n FROM snds.ir_ben_r")["n"][0].as_py() > 0
    assert found[0]["longest"] <= 3, "a department"
    seen = ask(hub, "second", "SELECT column_name, members, shown, decision, entered_by, confirmed_by "
                              "FROM hub.access WHERE project = 'trial' ORDER BY column_name").to_pylist()
    assert [row["column_name"] for row in seen] == ["ben_idt", "ben_res_com"]
    assert seen[1] == {"column_name": "ben_res_com", "members": "mia", "shown": "masked: Department",
                       "decision": "DR-2026-7", "entered_by": "admin", "confirmed_by": "second"}
    acts = ask(hub, "admin", "SELECT event, client FROM hub.audit WHERE statement_id IS NULL").to_pylist()
    assert {"event": "person_added", "client": "flight-server SQL by admin"} in acts
    assert {"event": "habilitation_confirmed",
            "client": "flight-server SQL by second, habilitation trial.snds version 1"} in acts

    told = told_and_done(hub, "admin", "CALL hub.project_leave('trial', 'mia')")
    assert "-" + sees[1:] in told
    assert "is not yours" in refusal(hub, "mia", QUERY, catalog="trial")


@pytest.mark.parametrize(("person", "catalog", "sql", "told"), [
    ("researcher", None, "CALL hub.person_add('eve', 'Eve')", "for administrators"),
    ("researcher", "admin", "CALL hub.person_add('eve', 'Eve')", "not yours"),
    ("admin", "admin", "CALL hub.person_roles('admin', 'people')", "another administrator"),
    ("admin", "admin", "CALL hub.project_leave('readmission', 'admin')", "another administrator"),
    ("admin", "admin", "CALL hub.project_add('t', '2020-01-01', '2090-01-01', organisation => 'x')", "no organisation"),
    ("admin", "admin", "CALL hub.person_password('researcher')", "flight-server admin person password"),
    ("admin", "admin", "CALL hub.space_drop_keys('readmission')", "flight-server admin space drop-keys"),
    ("admin", "admin", "CALL hub.project_join('readmission', 'visitor')", "of the configuration"),
])
def test_what_is_refused_is_told_and_changes_nothing(administered, person, catalog, sql, told):
    state = "SELECT event FROM hub.audit WHERE statement_id IS NULL"
    before = ask(administered, "admin", state).num_rows
    for statement in (sql, f"EXPLAIN {sql}"):
        assert told in refusal(administered, person, statement, catalog=catalog)
    assert ask(administered, "admin", state).num_rows == before


def test_a_driver_that_binds_several_rows_adds_nobody(administered):
    with administered.connect("admin", "admin") as connection, connection.cursor() as cursor:
        with pytest.raises(Exception, match="one row"):
            cursor.executemany("CALL hub.person_add(?, ?)", [("zoe", "Zoe"), ("yan", "Yan")])
    assert ask(administered, "admin", "SELECT id FROM hub.persons WHERE id IN ('zoe', 'yan')").num_rows == 0
