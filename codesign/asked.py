"""What a study asks for, against what there is: objectives and constraints by the column registry, video against text."""

from __future__ import annotations

from collections.abc import Iterator

from codesign import catalog, clips, objectives
from codesign.spec import StudyFile
from codesign.spec.errors import Problem, SpecError, did_you_mean


def column_problems(file: StudyFile) -> Iterator[Problem]:
    """Columns that do not exist, the wrong direction, bounds in the wrong unit, quality that a search would fool."""
    known = {*objectives.COLUMNS, *objectives.ALIASES}
    for name, direction in file.objectives.items():
        column = objectives.COLUMNS.get(objectives.canonical(name))
        if column is None:
            yield Problem(("objectives", name), f"unknown objective '{name}'", did_you_mean(name, known, "columns"), True)
        elif column.better and column.better[:3] != direction[:3]:
            better = "maximize" if column.better == "max" else "minimize"
            yield Problem(
                ("objectives", name),
                f"'{name}' gets better as it {'rises' if better == 'maximize' else 'falls'}",
                f"write '{name}: {better}'",
            )
    only = {objectives.canonical(n) for n in file.objectives}
    solved = file.lifecycle.pretrain_tok is not None and file.lifecycle.pretrain_tok.solve
    varied = "lifecycle.pretrain_tok" in file.space or solved
    blind = only & objectives.BLIND_TO_TOKENS
    if varied and blind and not only & objectives.SEES_TOKENS:
        name = next(n for n in file.objectives if objectives.canonical(n) in blind)
        hint = "use c_eq_flop or n_reason, which rise with both"
        yield Problem(("objectives", name), f"{name} ignores tokens, and this study varies them", hint, True)
    for name, bounds in file.constraints.items():
        column = objectives.COLUMNS.get(objectives.canonical(name))
        if column is None:
            yield Problem(("constraints", name), f"unknown constraint '{name}'", did_you_mean(name, known, "columns"), True)
            continue
        for bound in bounds:
            try:
                bound.limit(column.unit)
            except SpecError as error:
                yield Problem(("constraints", name), error.diagnostics[0].message, error.diagnostics[0].hint)


def video_problems(file: StudyFile) -> Iterator[Problem]:
    """Columns of text in a study of video and the other way round; a base that is no diffusion transformer."""
    is_clip = file.workload is not None and file.workload.clip is not None
    for section, names in (("objectives", file.objectives), ("constraints", file.constraints)):
        for name in names:
            column = objectives.canonical(name)
            if column in objectives.COLUMNS and (why := clips.unknown(column, is_clip)):
                hint = (
                    f"one of {', '.join((*clips.CLIP_COLUMNS, *clips.SHARED_COLUMNS))}"
                    if is_clip
                    else "see 'codesign explain workload.clip'"
                )
                yield Problem((section, name), why, hint, True)
    if is_clip and file.base.model in catalog.names("models"):
        given = dict(catalog.load("models", file.base.model).get("architecture") or {}) | dict(file.base.architecture)
        odd = [
            k for k in ("n_experts", "window_tok", "n_linear_layers", "index_topk_tok") if given.get(k) or f"architecture.{k}" in file.space
        ]
        if odd:
            hint = "take one such as llama-2-13b and replace its dimensions"
            yield Problem(("base", "model"), f"video takes dense models with full attention, and this one has {odd[0]}", hint)
