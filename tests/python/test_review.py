"""What administrators look through: the review of a month, and who can see a column."""

import subprocess
from datetime import datetime, timezone

import pytest

from conftest import binary, start_demo


def admin(hub, *words, check=True):
    return subprocess.run([binary("flight-server"), "admin", *words, "--dir", str(hub.dir)],
                          check=check, capture_output=True, text=True)


def rows(text, head):
    """The lines of the table that begins with this head, cut into cells."""
    lines = text.splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith(head))
    found = []
    for line in lines[begin + 1:]:
        if not line.strip():
            break
        found.append(line.split())
    return found


def test_a_month_is_reviewed(hub):
    hub.query("researcher", "SELECT count(*) FROM snds.t_mco_b")
    for _ in range(3):
        hub.error("epidemiologist", "SELECT * FROM snds.t_mco_b")
    said = admin(hub, "review", "--month", f"{datetime.now(timezone.utc):%Y-%m}").stdout
    volumes = {cells[0]: cells for cells in rows(said, "project ")}
    assert int(volumes["readmission"][1]) >= 1 and int(volumes["readmission"][3]) > 0
    # Nothing was before, so that the mean is unknown.
    assert volumes["readmission"][4] == "-"
    refused = rows(said, "person ")
    mine = [cells for cells in refused if cells[0] == "epidemiologist" and cells[2] == "permission_denied"]
    assert sum(int(cells[3]) for cells in mine) >= 3, said
    assert "Acts on rights" in said
    quiet = admin(hub, "review", "--month", "2001-01").stdout
    assert rows(quiet, "project ") == [] and rows(quiet, "person ") == []


def test_acts_on_rights_are_listed(hub):
    admin(hub, "person", "roles", "admin", "--role", "people", "--role", "policy", "--role", "billing",
          "--role", "audit")
    said = admin(hub, "review", "--month", f"{datetime.now(timezone.utc):%Y-%m}").stdout
    assert any("admin_roles_set" in cells and "admin" in cells for cells in rows(said, "at "))


def test_who_can_see_a_column_and_why(hub):
    said = admin(hub, "who", "snds.ir_ben_r.ben_res_com").stdout
    by_project = {line.split()[0]: line for line in said.splitlines()[1:]}
    assert set(by_project) == {"readmission", "surveillance", "linked"}
    assert "masked: Department" in by_project["readmission"] and "researcher" in by_project["readmission"]
    assert "aggregate" in by_project["surveillance"] and "epidemiologist" in by_project["surveillance"]
    assert "as stored" in by_project["linked"] and "DEMO-linked" in by_project["linked"]
    # Not visible to `researcher`, and in no table that does not exist.
    assert "readmission" not in admin(hub, "who", "snds.ir_ben_r.ben_dcd_dte").stdout
    hidden = hub.query("hospital", "SELECT count(ben_dcd_dte) AS n FROM snds.ir_ben_r")
    assert hidden["n"][0].as_py() > 0


@pytest.mark.parametrize("words", [
    ("review", "--month", "November"), ("who", "snds"), ("who", "snds..ben_idt"),
])
def test_wrong_words_are_named(hub, words):
    ended = admin(hub, *words, check=False)
    assert ended.returncode != 0 and words[-1] in ended.stderr


PAGES = 24


def test_what_leaves_page_by_page_shows_in_the_review(tmp_path):
    """Slow exfiltration: no page is large, nothing is refused; the sum stands out where it is looked for."""
    hub = start_demo(tmp_path / "hub", 0.1)
    try:
        month = f"{datetime.now(timezone.utc):%Y-%m}"
        hub.query("researcher", "SELECT count(*) FROM snds.t_mco_b")

        def volumes():
            return {cells[0]: cells for cells in rows(admin(hub, "review", "--month", month).stdout, "project ")}

        before = volumes()
        assert all("unusual:" not in " ".join(cells) for cells in before.values()), "no attack yet"
        taken = 0
        for page in range(PAGES):
            read = hub.query("hospital", f"SELECT a.*, {page} AS page FROM snds.er_prs_f a ORDER BY ben_idt LIMIT 100000 OFFSET {page}")
            taken += read.num_rows
            size = read.nbytes
        assert size < 100 << 20 < size * PAGES
        after = volumes()
        assert int(after["linked"][1]) >= PAGES and int(after["linked"][2]) >= taken
        assert int(after["linked"][3]) > 100 << 20 and "unusual: nothing before" in " ".join(after["linked"])
        assert "unusual:" not in " ".join(after["readmission"])
        # Each page is an execution of a person in the audit and in the usage, which say the same.
        used = hub.query("hospital", "SELECT count(*) AS n, sum(rows_returned) AS r FROM hub.usage WHERE rows_returned = 100000")
        assert used.to_pylist() == [{"n": PAGES, "r": taken}]
        seen = hub.query("hospital", "SELECT count(DISTINCT statement_id) AS n FROM hub.audit WHERE outcome = 'ok'")
        assert seen["n"][0].as_py() >= PAGES
    finally:
        hub.stop()
