"""Starting is quick because nothing heavy is imported on the way."""

import importlib.util
import subprocess
import sys

import pytest

HEAVY = ("pandas", "optuna", "scipy", "pint", "moocore", "plotly", "matplotlib", "pyarrow")


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "module", ["codesign", "codesign.cli", "codesign.spec", "codesign.catalog", "codesign.objectives", "codesign.constraints"]
)
def test_import_is_light(module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} does not exist yet")
    assert not loaded_by(f"import {module}") & set(HEAVY)


def test_help_is_light():
    if importlib.util.find_spec("codesign.cli") is None:
        pytest.skip("no command line yet")
    code = "import sys; sys.argv = ['codesign', '--help']\ntry:\n    from codesign.cli import main; main()\nexcept SystemExit:\n    pass"
    assert not loaded_by(code) & {*HEAVY, "numpy", "pydantic"}


def test_physics_needs_only_numpy_and_scipy():
    assert not loaded_by("import codesign.physics.phases.decode, codesign.physics.phases.train") & {*HEAVY, "yaml", "pydantic"} - {"scipy"}


def test_a_point_needs_no_table_and_no_search():
    assert not loaded_by("import codesign.point") & {"pandas", "optuna", "moocore", "plotly", "pyarrow"}
