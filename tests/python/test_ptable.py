"""The noise of a cell's layer against R's package `ptable`, which the hub follows and does not call.

`create_cnt_ptable(D, V)` solves, for each count from which no step is cut off, for the distribution of
greatest entropy on -D..D with sum 1, mean 0 and variance V (Giessing, "Computational issues in the design
of transition probabilities and disclosure risk estimation for additive noise", PSD 2016; Enderle,
vignette "Introduction to the ptable-Package"). Here it is solved by another method (SLSQP on the
probabilities themselves; the hub bisects the multiplier of Lagrange), and held against what R printed.
"""

import re

import numpy as np
import pytest
from scipy.optimize import minimize

from conftest import ROOT

D = 2
STEPS = np.arange(-D, D + 1)
# `str(create_cnt_ptable(D = 2, V = 1))` in that vignette (ptable 1.0.0): the row of count 2.
PRINTED_BY_R = {"variance": 1.0, "p(-2)": 0.0638, "stay": 0.383}


def greatest_entropy(variance):
    held = [
        {"type": "eq", "fun": lambda p: p.sum() - 1},
        {"type": "eq", "fun": lambda p: p @ STEPS},
        {"type": "eq", "fun": lambda p: p @ STEPS**2 - variance},
    ]
    found = minimize(
        lambda p: (p * np.log(p)).sum(), np.full(len(STEPS), 1 / len(STEPS)), jac=lambda p: np.log(p) + 1,
        constraints=held, bounds=[(1e-9, 1)] * len(STEPS), method="SLSQP", options={"ftol": 1e-15, "maxiter": 1_000})
    assert found.success, found.message
    return found.x


def test_the_solver_gives_what_r_printed():
    row = greatest_entropy(PRINTED_BY_R["variance"])
    assert row[0] == pytest.approx(PRINTED_BY_R["p(-2)"], abs=5e-5)
    assert row[D] == pytest.approx(PRINTED_BY_R["stay"], abs=5e-4)
    # Another variance has another row: the numbers above can tell.
    assert abs(greatest_entropy(1.5)[0] - PRINTED_BY_R["p(-2)"]) > 0.05


def test_the_table_that_the_hub_is_held_to_is_that_solution():
    source = (ROOT / "flight-server/policy/src/aggregate/noise.rs").read_text()
    variance = float(re.search(r"VARIANCE: f64 = ([\d.]+);", source).group(1))
    assert int(re.search(r"LAYER_MAX: i64 = (\d+);", source).group(1)) == D
    pinned = re.search(r"const PTABLE: \[f64; VALUES\] = \[(.*?)\];", source, flags=re.S).group(1)
    pinned = [float(number.replace("_", "")) for number in re.findall(r"[\d._]+", pinned)]
    print([f"{p:.11f}" for p in greatest_entropy(variance)])
    assert pinned == pytest.approx(list(greatest_entropy(variance)), abs=1e-6)
