"""What the README says can be typed as it stands."""

import importlib.util
import re
import subprocess

import pytest

from conftest import ROOT, binary

README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_the_python_of_the_readme_runs(hub):
    (code,) = blocks("python")
    ended = subprocess.run(
        [str(ROOT / "tests/.venv/bin/python"), "-c", code.replace("127.0.0.1:31337", hub.flight)],
        capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "dgn_pal" in ended.stdout and len(ended.stdout.splitlines()) == 6


CLIENTS = (ROOT / "docs/clients.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", CLIENTS, flags=re.S)


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
def test_the_python_for_clients_runs(hub, code):
    assert "127.0.0.1:31337" in code
    ended = subprocess.run(
        [str(ROOT / "tests/.venv/bin/python"), "-W", "error::DeprecationWarning", "-c", code.replace("127.0.0.1:31337", hub.flight)],
        capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    # Each says whether it got what it expects.
    assert set(ended.stdout.split()) == {"True"}, ended.stdout


def test_the_table_of_clients_notices_what_is_missing():
    spec = importlib.util.spec_from_file_location("matrix", ROOT / "tests/matrix.py")
    matrix = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(matrix)
    for client, (_, cells) in matrix.CLIENTS.items():
        assert list(cells) == matrix.FEATURES, client
    tests = [test for _, cells in matrix.CLIENTS.values() for cell in cells.values() if not isinstance(cell, str) for test in cell]
    passed = dict.fromkeys(tests, "pass")
    lines, wrong = matrix.table(matrix.CLIENTS, lambda suite: passed)
    assert not wrong and not any("?" in line for line in lines)
    for outcome in (None, "fail: call", "", "client: ", "server:", "slow today"):
        seen = {test: said for test, said in {**passed, tests[0]: outcome}.items() if said is not None}
        assert len(matrix.table(matrix.CLIENTS, lambda suite: seen)[1]) == tests.count(tests[0]), outcome
    for cell in ("", " ", []):
        assert matrix.judge(cell, passed)[1], cell
    assert matrix.judge([tests[0]], {tests[0]: "server: not yet"}) == ("server: not yet", None)


def test_the_commands_that_the_readme_names_exist():
    for words in (["demo", "--help"], ["serve", "--help"], ["admin", "--help"]):
        assert subprocess.run([binary("flight-server"), *words], capture_output=True).returncode == 0
    said = subprocess.run([binary("gpu-worker"), "serve", "--help"], capture_output=True, text=True).stdout
    assert "--listen" in said and "--device" in said and "--models" in said
    listed = subprocess.run([binary("bench"), "list"], capture_output=True, text=True).stdout
    for name in ("tpch", "transport", "echo", "point", "policy", "memory", "start"):
        assert name in listed


FOLDERS = {"policy/": "flight-server/policy/tests/policy/", "flight-server/oidc/": "flight-server/oidc/",
           "flight-server/wire/": "flight-server/wire/",
           "flight-server/": "flight-server/src/"}


def place(name):
    """The file that the list of attacks means."""
    for short, long in FOLDERS.items():
        if name.startswith(short):
            return ROOT / (long + name.removeprefix(short))
    return ROOT / "tests/python" / name


def missing(table):
    """Tests that a table names and that are not there, and lines without a test or a control."""
    gone = []
    for line in re.findall(r"^\| .* \|$", table, flags=re.M):
        if line.startswith("| Attack |"):
            continue
        cells = [re.findall(r"`([\w/.-]+)::(\w+)`", cell) for cell in line.split("|")[1:-1]]
        if len(cells) != 3 or not all(cells[1:]):
            gone.append(line)
        for file, test in (named for cell in cells for named in cell):
            found = place(file)
            if not found.is_file() or not re.search(rf"^\s*(async )?(def|fn) {test}\(", found.read_text(), flags=re.M):
                gone.append(f"{file}::{test}")
    return gone


def test_every_attack_has_the_tests_that_are_listed():
    table = (ROOT / "docs/attacks.md").read_text()
    assert missing(table) == []
    assert table.count("::") > 120
    # The check notices what is gone.
    there = "`test_leaks.py::test_the_place_of_a_row_is_not_shown`"
    assert missing(f"| x | {there} | {there} |") == []
    for wrong in ("`test_leaks.py::test_nothing_at_all`", "`nothing.py::test_x`", "", "none"):
        assert missing(f"| x | {wrong} | {there} |") and missing(f"| x | {there} | {wrong} |")
    assert missing(f"| x | {there} |")


def test_what_is_open_is_marked():
    """A test that is expected to fail is an open line of the list, and lines are open where it says so."""
    table = (ROOT / "docs/attacks.md").read_text()
    lines = [line for line in table.splitlines() if line.startswith("| ") and "**open**" in line]
    assert len(lines) >= 4, "the head alone names none"
    for file in sorted((ROOT / "tests/python").glob("test_*.py")):
        if file.name != "test_docs.py" and "xfail(" in file.read_text():
            assert f"`{file.name}::" in table and "strict `xfail`" in table, file.name
