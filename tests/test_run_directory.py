"""Run directories: one process at a time, nothing half-written, and a killed run continues to the front of an unbroken one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from studies import SMALL

LARGE = {"architecture.n_layers": {"range": [20, 47]}, "architecture.n_experts": [64, 128], "precision.weight_bits": [8, 16],
         "architecture.d_expert": [512, 768, 1024, 1536]}  # fmt: skip


def write(folder: Path, **changes) -> str:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}, sort_keys=False), encoding="utf-8")
    return str(path)


def command(*args: str, before: str = "") -> list[str]:
    """`codesign ARGS` in a fresh interpreter, after some preparation."""
    return [sys.executable, "-c", f"{before}\nfrom codesign.cli import main\nmain({list(args)!r})"]


def start(*args: str, before: str = "") -> subprocess.Popen:
    return subprocess.Popen(command(*args, before=before), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SLOW = """
import time
from codesign.problem import StudyProblem
whole = StudyProblem.evaluate
def evaluate(self, index):
    time.sleep(0.2)
    return whole(self, index)
StudyProblem.evaluate = evaluate
"""


def wait_for(path: Path, n_bytes: int = 0) -> None:
    deadline = time.time() + 60
    while not (path.exists() and path.stat().st_size > n_bytes) and time.time() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("method", ["exhaustive", "nested"])
def test_kill_9_and_resume_gives_the_front_of_an_unbroken_run(method, tmp_path):
    path = write(tmp_path, space=LARGE, search={"method": method, "trials": 500, "flat_gain": 0, "batch": 60})
    unbroken = start("run", path, "--out", str(tmp_path / "whole"))
    assert unbroken.wait(timeout=120) == 0, unbroken.stderr.read()
    broken = start("run", path, "--out", str(tmp_path / "out"), before=SLOW)
    wait_for(tmp_path / "out/search.ckpt", 20_000)
    broken.send_signal(signal.SIGKILL)
    assert broken.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "out/manifest.json").exists()
    done = subprocess.run(command("run", path, "--out", str(tmp_path / "out"), "--resume"), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/front.csv").read_bytes() == (tmp_path / "whole/front.csv").read_bytes()
    whole, out = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("whole", "out"))
    assert all(whole[key] == out[key] for key in ("n_designs", "n_layouts", "n_front", "exact", "killed", "rows_covered", "hypervolume"))


def test_a_second_run_names_the_first_and_changes_nothing(tmp_path):
    path = write(tmp_path, space=LARGE)
    first = start("run", path, "--out", str(tmp_path / "out"), before=SLOW)
    wait_for(tmp_path / "out/search.ckpt")
    second = start("run", path, "--out", str(tmp_path / "out"))
    _, stderr = second.communicate(timeout=60)
    assert second.returncode == 2 and f"process {first.pid}" in stderr and "--out" in stderr and "Traceback" not in stderr
    first.kill()
    first.wait()
    third = start("run", path, "--out", str(tmp_path / "out"))  # the lock file is still there, its holder is not
    assert third.wait(timeout=120) == 0, third.stderr.read()


def test_a_disk_that_fills_up_stops_the_run_and_loses_nothing(tmp_path):
    path = write(tmp_path, space=LARGE, search={"method": "exhaustive"})
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (60000, 60000))"
    )
    full = start("run", path, "--out", str(tmp_path / "out"), before=SLOW + limit)
    _, stderr = full.communicate(timeout=120)
    assert full.returncode == 2 and "error:" in stderr and "free space" in stderr and "Traceback" not in stderr
    assert (tmp_path / "out/search.ckpt").stat().st_size <= 60000
    for out in ("out", "whole"):
        done = start("run", path, "--out", str(tmp_path / out))
        assert done.wait(timeout=120) == 0, done.stderr.read()
    assert (tmp_path / "out/front.csv").read_bytes() == (tmp_path / "whole/front.csv").read_bytes()


def test_a_damaged_checkpoint_is_used_as_far_as_it_is_whole(tmp_path):
    path, log = write(tmp_path, space=LARGE, search={"method": "exhaustive"}), tmp_path / "out/search.ckpt"
    broken = start("run", path, "--out", str(tmp_path / "out"), before=SLOW)
    wait_for(log, 120_000)
    broken.kill()
    broken.wait()
    data = bytearray(log.read_bytes())
    second = data.index(b"CDS1", data.index(b"CDS1", 4) + 4)
    data[second + 40] ^= 0xFF
    log.write_bytes(data + b"CDS1 and more")
    done = subprocess.run(command("run", path, "--out", str(tmp_path / "out")), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/search.ckpt.damaged").read_bytes() == bytes(data) + b"CDS1 and more"
    assert "damaged" in " ".join(json.loads((tmp_path / "out/manifest.json").read_text())["notes"])
    whole = start("run", path, "--out", str(tmp_path / "whole"))
    assert whole.wait(timeout=120) == 0
    assert (tmp_path / "out/front.csv").read_bytes() == (tmp_path / "whole/front.csv").read_bytes()


def test_a_run_that_ends_before_its_first_batch_can_be_read_and_continued(tmp_path):
    path = write(tmp_path, space=LARGE, search={"method": "exhaustive"})
    pressed = "import os, signal; from codesign.search import exhaustive as e; whole = e._take_all\n"
    pressed += "e._take_all = lambda *a: [os.kill(os.getpid(), signal.SIGINT), whole(*a)][1]"
    part = subprocess.run(command("run", path, "--out", str(tmp_path / "out"), before=pressed), capture_output=True, text=True, timeout=120)
    assert part.returncode == 130 and "Continue with" in part.stderr, part.stderr
    assert json.loads((tmp_path / "out/manifest.json").read_text())["n_designs"] == 0
    assert start("run", path, "--out", str(tmp_path / "out")).wait(timeout=120) == 0
    assert len((tmp_path / "out/front.csv").read_bytes()) > 500


def test_workers_and_chunks_give_the_same_files(tmp_path):
    path = write(tmp_path, space=LARGE, search={"method": "exhaustive"})
    assert start("run", path, "--out", str(tmp_path / "one")).wait(timeout=120) == 0
    assert start("run", path, "--out", str(tmp_path / "two"), "--workers", "2").wait(timeout=120) == 0
    one_core = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import codesign.search.exhaustive as e; e.CHUNK = 150"
    assert start("run", path, "--out", str(tmp_path / "three"), before=one_core).wait(timeout=120) == 0
    fronts = [(tmp_path / name / "front.csv").read_bytes() for name in ("one", "two", "three")]
    assert fronts[0] == fronts[1] == fronts[2] and len(fronts[0]) > 500


def test_a_worker_needs_a_storage(tmp_path):
    alone = start("run", write(tmp_path), "--worker")
    _, stderr = alone.communicate(timeout=60)
    assert alone.returncode == 2 and "--storage" in stderr
    exhaustive = start(
        "run", write(tmp_path, search={"method": "exhaustive"}), "--storage", f"journal:{tmp_path}/log", "--out", str(tmp_path / "x")
    )
    _, stderr = exhaustive.communicate(timeout=60)
    assert exhaustive.returncode == 2 and "search.method=nested" in stderr
