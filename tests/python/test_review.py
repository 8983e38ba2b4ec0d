"""What administrators look through: the review of a month, and who can see a column."""

import subprocess
from datetime import datetime, timezone

import pytest

from conftest import binary


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
