"""The benchmark of the evaluator: what it counts is right, and it prints what it promises."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from machine_limits import Counted, counting  # noqa: E402


def test_operations_and_bytes_are_counted_and_change_no_result():
    a, b = np.arange(6.0).reshape(2, 3), np.full(3, 2.0)
    with counting() as so_far:
        total = np.sum(np.where(np.asarray(a.view(Counted)) > 1, np.broadcast_to(b, (2, 3)) * a.view(Counted), 0.0), axis=0)
    assert np.array_equal(total, np.sum(np.where(a > 1, b * a, 0.0), axis=0))
    n_compared, n_multiplied, n_chosen, n_summed = 6, 6, 6, 6
    n_bytes = (48 + 6) + (24 + 48 + 48) + 48 + (48 + 24)
    operations, seen = so_far()
    assert operations == n_compared + n_multiplied + n_chosen + n_summed
    assert abs(seen - n_bytes) <= 24  # a broadcast operand reports its full shape


def test_script_prints_rates_batches_and_shares():
    command = [sys.executable, "scripts/bench_evaluator.py", "--json", "--seconds", "0.3", "--designs", "64", "--most", "1e4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["layouts_per_s"] > found["scalar_designs_per_s"] > 0 and found["designs_per_s"] > 0
    assert 0 < found["share_of_arithmetic"] < 1 and found["bytes_per_design"] > 0
    assert [row["rows"] for row in found["batches"] if row["form"] == "flat designs"] == [1, 10, 100, 1000, 10000]
    assert all(row["us_per_row"] > 0 and row["peak_rss_bytes"] > 5e7 for row in found["batches"])
