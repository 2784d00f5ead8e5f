"""`codesign dashboard RUN` serves the run's trials, with objectives and constraints, and says what is wrong when it cannot."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import finished
import pytest


@pytest.fixture(scope="module")
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served(free_port):
    """`get(path)` of a dashboard that the command started."""
    pytest.importorskip("optuna_dashboard")
    command = [sys.executable, "-m", "codesign.cli", "dashboard", str(finished.searched().path), "--port", str(free_port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def get(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}{path}", timeout=30) as answer:
            return answer.read()

    try:
        for _ in range(120):
            try:
                get("/api/studies")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.5)
        yield get
    finally:
        process.terminate()
        process.wait(20)


def test_it_serves_trials_with_their_constraints(served):
    run = finished.searched()
    assert b"<html" in served("/dashboard").lower()
    [summary] = json.loads(served("/api/studies"))["study_summaries"]
    assert summary["study_name"] == run.manifest["name"]
    study = json.loads(served(f"/api/studies/{summary['study_id']}?after=0"))
    assert study["objective_names"] == list(run.objectives)
    infeasible = sum(any(value > 0 for value in trial["constraints"]) for trial in study["trials"])
    assert len(study["trials"]) == run.manifest["n_designs"]
    assert infeasible == run.manifest["n_designs"] - run.manifest["n_feasible"] > 0
    for trial in study["trials"]:
        named = {attribute["key"]: attribute["value"] for attribute in trial["user_attrs"]}.get("killed_by")
        assert (named is not None) == any(value > 0 for value in trial["constraints"])


def test_a_taken_port_is_named(served, free_port):
    command = [sys.executable, "-m", "codesign.cli", "dashboard", str(finished.searched().path), "--port", str(free_port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and f"port {free_port}" in done.stderr and "--port" in done.stderr
