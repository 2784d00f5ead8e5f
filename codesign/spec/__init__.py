"""What the user says: YAML, units, expressions, the space of designs and the study file.  Names stay text
here."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Diagnostic": "errors", "Problem": "errors", "SpecError": "errors", "UserError": "errors",
    "nearest": "errors",
    "quantity": "units", "show": "units",
    "load_study": "study_file", "new_study": "study_file", "templates": "study_file",
    "StudyFile": "study_file",
    "json_schema": "schema", "Study": "schema", "Reference": "reference_schema", "read_references": "reference_schema",
    "Legal": "choices", "Late": "space", "Space": "space", "Variable": "space",
}  # fmt: skip
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    """Public names, imported on first use: pydantic and numpy are not paid for by `codesign --help`."""
    if name not in _HOME:
        raise AttributeError(f"module 'codesign.spec' has no attribute '{name}'")
    return getattr(importlib.import_module(f"codesign.spec.{_HOME[name]}"), name)
