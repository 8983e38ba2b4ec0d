"""What the README says can be typed as it stands."""

import re
import subprocess

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


def test_the_commands_that_the_readme_names_exist():
    for words in (["demo", "--help"], ["serve", "--help"], ["admin", "--help"]):
        assert subprocess.run([binary("flight-server"), *words], capture_output=True).returncode == 0
    said = subprocess.run([binary("gpu-worker"), "serve", "--help"], capture_output=True, text=True).stdout
    assert "--listen" in said and "--device" in said and "--models" in said
    listed = subprocess.run([binary("bench"), "list"], capture_output=True, text=True).stdout
    for name in ("tpch", "transport", "echo", "point", "policy", "memory", "start"):
        assert name in listed
