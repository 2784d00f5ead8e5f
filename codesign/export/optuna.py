"""The run's trials as an Optuna storage, with the two ways to open it."""

from __future__ import annotations

from codesign.export import _markup
from codesign.export._subject import subject
from codesign.results import JOURNAL, Run
from codesign.spec.errors import UserError
from codesign.study import Study

GUIDE = """# Optuna storage of {study}

`{storage}` holds the front and a sample of the other designs as finished trials, in Optuna's journal format. Design {design_id}
(point {point_id} of {run}) is the trial whose user attribute `design_id` is {design_id}; its layouts are in the other exports.

In a browser:

```bash
optuna-dashboard {storage}
```

In Python:

```python
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

storage = JournalStorage(JournalFileBackend("{storage}"))
study = optuna.load_study(study_name=None, storage=storage)
trial = next(t for t in study.trials if t.user_attrs["design_id"] == {design_id})
```
"""


def export(study: Study, run: Run, point_id: int) -> dict[str, str]:
    """`optuna.journal.log`, the storage itself, and `optuna.md`."""
    s = subject(study, run, point_id)
    try:
        journal = (run.path / JOURNAL).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{run.path / JOURNAL}: cannot be read: {error}", hint="run the study again; `codesign run` writes it") from None
    names = {"study": _markup.text(study.name), "run": _markup.code(run.path), "storage": JOURNAL}
    return {JOURNAL: journal, "optuna.md": GUIDE.format(**names, point_id=int(point_id), design_id=int(s.point["design_id"]))}
