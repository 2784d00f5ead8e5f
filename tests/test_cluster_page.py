"""The how-to page on clusters, executed as written against a real PostgreSQL and a real Dask cluster on loopback."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import free_port, postgresql

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/how-to.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.S | re.M)


def block_with(text: str) -> str:
    (found,) = (block for block in BLOCKS if text in block)
    return found


def execute(block: str, folder: Path, **addresses: str) -> None:
    """Run a block in a shell with job control, only the addresses replaced."""
    for written, real in addresses.values():
        assert written in block
        block = block.replace(written, real)
    for name in ("studies", "spaces"):
        shutil.copytree(ROOT / name, folder / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-m", "-e", "-c", block], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.slow
def test_postgresql_as_written(tmp_path):
    import optuna

    with postgresql() as (url, _):
        real = url.replace("postgresql+psycopg://", "")
        execute(block_with("postgresql://"), tmp_path, db=("codesign@db.example:5432/codesign", real))
        study = optuna.load_study(study_name="quickstart", storage=url)
        trials = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    manifest = json.loads((tmp_path / "runs/on-postgresql/manifest.json").read_text())
    assert 100 <= manifest["n_designs"] <= len(trials) < 200
    assert all(trial.user_attrs["codesign:worker"] for trial in trials)  # who did how many is a race: tests/search/test_workers.py


@pytest.mark.slow
def test_dask_as_written(tmp_path):
    pytest.importorskip("distributed", reason="pip install 'codesign[dask]'")
    port = str(free_port())
    execute(block_with("--dask"), tmp_path, port=("8786", port))
    manifest = json.loads((tmp_path / "runs/on-dask/manifest.json").read_text())
    assert manifest["exact"] and manifest["rows_covered"] == manifest["space_rows"]
