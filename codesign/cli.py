"""The command line: parsing, printing, exit codes; no arithmetic.  stdout carries data, stderr everything else.

Exit codes: 0 ok, 1 finished but nothing feasible, 2 the user's error, 3 internal error, 130 interrupted with state saved.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from codesign import evidence_cli, review
from codesign.shell import INTERRUPTED, JSON_OPTION, NOTHING_FEASIBLE, Commands, guarded
from codesign.shell import print_json as _print_json


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="codesign")
def main() -> None:
    """Search LLM architecture and deployment together: roofline latency, cost, and a balanced life of compute."""


@main.command()
@click.argument("path", metavar="STUDY.yaml")
@click.option("--from", "template", default="moe", show_default=True, help="Template: moe, dense, on-premise.")
@guarded
def new(path: str, template: str) -> None:
    """Write a commented study to start from."""
    from codesign.spec import UserError, new_study

    target = Path(path)
    text = new_study(template)
    if target.exists():
        raise UserError(f"{path} exists already", hint="choose another name")
    target.write_text(text, encoding="utf-8")
    click.echo(f"{path} written; next: codesign check {path}", err=True)


OVERRIDES = [
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a study key or pin a variable; repeatable."),
    click.option("--scenario", help="Apply one of the study's scenarios."),
]


def with_overrides(command):
    for option in reversed(OVERRIDES):
        command = option(command)
    return command


@main.command()
@click.argument("study", metavar="STUDY.yaml")
@with_overrides
@JSON_OPTION
@guarded
def check(study: str, overrides: tuple[str, ...], scenario: str | None, as_json: bool) -> None:
    """Say what is wrong with a study, or how large it is and how long it will take."""
    from codesign import screen
    from codesign.run import plan
    from codesign.study import open_study

    resolved = open_study(study, overrides, scenario)
    p = plan(resolved)
    if as_json:
        return _print_json({
            "space_designs": p.space_designs, "space_designs_exact": p.is_exact_count, "space_rows": p.space_rows,
            "feasible_share": p.feasible_share, "time_estimate_s": p.seconds, "excluded_share": p.excluded_share, "unbounded": list(p.unbounded), "method": p.method, "reason": p.reason,
            "variables": [v.name for v in resolved.problem.space.variables],
        })  # fmt: skip
    click.echo(screen.plan_text(p, len(resolved.problem.space.variables), study))


@main.command()
@click.argument("study", metavar="STUDY.yaml")
@with_overrides
@click.option("--trials", type=click.IntRange(min=1), help="Designs to sample (nested and joint).")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of every random choice.")
@click.option("--storage", metavar="URL", help="Optuna storage that other processes can join, such as postgresql://...")
@click.option("--worker", is_flag=True, help="Join the sampled search in --storage; write no run directory.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that score designs (default: threads on all cores).")
@click.option("--dask", metavar="ADDR", help="Dask scheduler whose workers score designs, such as tcp://host:8786.")
@click.option("--out", type=click.Path(file_okay=False), help="Run directory (default runs/<name>).")
@click.option("--resume", is_flag=True, help="Continue; it is an error if there is nothing to continue.")
@JSON_OPTION
@guarded
def run(study, overrides, scenario, trials, seed, storage, worker, workers, dask, out, resume, as_json) -> None:
    """Search a study and write a run directory: front, report, Optuna storage."""
    from codesign import payload, picks, progress, screen, tables
    from codesign.run import run as run_study
    from codesign.study import open_study

    resolved = open_study(study, overrides, scenario)
    if worker:
        return _work(resolved, storage, trials, seed, as_json)
    if out is None and scenario:
        out = str(Path("runs") / f"{resolved.name}-{scenario}")
    with progress.bar() as bar:
        result = run_study(resolved, out, trials=trials, seed=seed, storage=storage, workers=workers, dask=dask,
                           resume=resume, progress=bar.update, announce=bar.announce)  # fmt: skip
    manifest = result.manifest
    if as_json:
        keys = ("method", "n_designs", "n_layouts", "n_feasible", "n_front", "hypervolume", "exact", "space_designs", "space_rows",
                "rows_covered", "rows_pruned_by_bound", "missing_bound", "wall_s", "layouts_per_s", "stop_reason")  # fmt: skip
        _print_json(
            {k: manifest[k] for k in keys} | {"front_csv": str(result.path / "front.csv"), "report": str(result.path / "report.html")}
        )
    else:
        chosen = picks.picks(result.front, result.objectives)
        points = {p["id"]: result.point(p["id"]) for p in chosen}
        value = picks.value_of_codesign(result.front, result.objectives)
        notes = payload.warnings(resolved, result.front, manifest)
        doubts = tables.doubts_of_picks(resolved, result, chosen)
        click.echo(screen.last_screen(manifest, chosen, points, value, notes, str(result.path), doubts))
    if manifest["interrupted"]:
        click.echo(f"interrupted; everything so far is saved. Continue with: codesign run {study} --resume --out {result.path}", err=True)
        sys.exit(INTERRUPTED)
    if manifest["n_front"] == 0:
        click.echo(screen.closest_text(manifest["closest"]), err=True)
        sys.exit(NOTHING_FEASIBLE)


def _work(resolved, storage, trials, seed, as_json) -> None:
    """`run --worker`: score trials of a shared study until it has enough."""
    from codesign import progress
    from codesign.run import work

    if not storage:
        raise click.UsageError("--worker needs --storage: the study that it joins")
    with progress.bar() as bar:
        outcome = work(resolved, storage, trials, seed, bar.update)
    if as_json:
        return _print_json({"n_trials": outcome.n_trials, "n_designs": outcome.n_designs, "stop_reason": outcome.stop_reason})
    click.echo(f"worker done: {outcome.stop_reason}; {outcome.n_trials:,} trials in {resolved.name}")
    if outcome.interrupted:
        sys.exit(INTERRUPTED)


@main.command()
@click.argument("path", metavar="RUN")
@click.option("--by", help="Columns to sort by, comma separated; a leading - sorts downwards.")
@click.option("--where", "condition", help='Expression over columns, such as "tpot < 20 ms"; bare numbers are SI.')
@click.option("--columns", "more", metavar="COLS", help="Further columns to show, comma separated, such as n_params,train_usd.")
@click.option("-n", "count", default=20, show_default=True, help="Rows.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with every column.")
@JSON_OPTION
@guarded
def front(path: str, by: str | None, condition: str | None, more: str | None, count: int, as_csv: bool, as_json: bool) -> None:
    """The Pareto front of a run as a table."""
    from codesign import screen, tables
    from codesign.results import load_results

    result = load_results(path)
    if result.front.empty:
        click.echo(screen.closest_text(result.manifest["closest"]), err=True)
        sys.exit(NOTHING_FEASIBLE)
    rows = tables.select(result.front, by, condition, result.objectives).head(count)
    if as_csv:
        return click.echo(rows.to_csv(index=False), nl=False)
    records, notes = tables.front_rows(result, rows)
    if as_json:
        return _print_json(records)
    records = tables.with_intervals(result, records)
    columns = list(dict.fromkeys(["id", *tables.varying(result, rows), *result.objectives, *tables.named(result.front, more), "layout"]))
    click.echo(screen.table(records, columns, {c: c.split(".", 1)[-1] for c in columns}))
    for note in notes:
        click.echo(note, err=True)


for command in (review.show, review.sensitivity, review.decide, review.place):
    main.add_command(command)


@main.command()
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="ID | RUN2")
@click.argument("third", metavar="[ID2]", required=False)
@JSON_OPTION
@guarded
def compare(first: str, second: str, third: str | None, as_json: bool) -> None:
    """What differs between two designs of a run (RUN ID ID), or between two runs (RUN RUN), and why."""
    from codesign import tables

    answer = tables.compare_points(first, second, third) if third is not None else tables.compare_runs(first, second)
    _print_json(answer) if as_json else click.echo(tables.compare_text(answer))


@main.command()
@click.argument("path", metavar="RUN")
@click.option("--reference", required=True, metavar="RUN2", help="Run whose front is the scale, usually an exhaustive one.")
@JSON_OPTION
@guarded
def hypervolume(path: str, reference: str, as_json: bool) -> None:
    """Share of a reference front's hypervolume that a run reached."""
    from codesign import tables

    answer = tables.hypervolume_share(path, reference)
    _print_json(answer) if as_json else click.echo(
        f"hypervolume {answer['hypervolume']:.4f} of {answer['reference_hypervolume']:.4f}: share {answer['share']:.2%}"
    )


@main.command()
@click.argument("path", metavar="RUN")
@click.option("-o", "target", metavar="FILE", help="Where to write it (default: report.html of the run).")
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="REFERENCE",
    help="A known model or deployment to draw beside the front; repeatable.",
)
@guarded
def report(path: str, target: str | None, references: tuple[str, ...]) -> None:
    """Write the report again: one HTML file that works offline."""
    from codesign import export as room
    from codesign import payload, tables
    from codesign.report import html
    from codesign.results import load_results
    from codesign.spec import read_references

    result = load_results(path)
    data = payload.report_payload(tables.study_of(result), result, room.targets(), read_references(list(references)))
    click.echo(html.write(data, target or result.path / "report.html"))


@main.command()
@click.argument("path", metavar="RUN")
@click.option("--port", default=8080, show_default=True, help="Port of the page on this machine.")
@guarded
def dashboard(path: str, port: int) -> None:
    """Open optuna-dashboard on the run's storage."""
    from codesign import tables

    tables.serve_dashboard(path, port)


@main.command()
@click.argument("path", metavar="RUN")
@click.argument("point_id", metavar="ID", type=int)
@click.option("--to", "target", help="What for, such as training-plan, hf or vllm: `codesign list exports`.")
@click.option("-o", "folder", type=click.Path(file_okay=False), help="Folder (default <RUN>/export-<ID>).")
@guarded
def export(path: str, point_id: int, target: str | None, folder: str | None) -> None:
    """Write a design for the people who train and serve it."""
    from codesign import export as room
    from codesign import tables
    from codesign.results import load_results

    if not target:
        raise click.UsageError(f"--to says what for: one of {', '.join(room.targets())}")
    result = load_results(path)
    files = room.export(target, tables.study_of(result), result, point_id)
    for file in room.write(files, Path(folder) if folder else result.path / f"export-{point_id}"):
        click.echo(file)


@main.command()
@click.argument("scenario", required=False, metavar="[SCENARIO.yaml]")
@click.option("--detail", is_flag=True, help="Operators, memory classes, energy and the rack too; the table has the first three always.")
@JSON_OPTION
@click.pass_context
@guarded
def evaluate(ctx: click.Context, scenario: str | None, detail: bool, as_json: bool, **flags: Any) -> None:
    """One point, no study: a model on a layout of a chip."""
    from codesign import point, tables

    given = tables.read_scenario(scenario) if scenario else {}
    given |= {k: v for k, v in flags.items() if v is not None}
    answer = point.evaluate_point(given, detail=detail or not as_json)
    with_rack = detail or any(given.get(key) is not None for key in ("rack_power", "rack_weight", "rack_cables"))
    _print_json(answer) if as_json else click.echo(tables.point_text(answer, with_rack))


def _evaluate_options() -> None:
    """One flag per scenario key; types as they stand in the scenario file."""
    from codesign.evaluate_flags import FLAGS

    for name, (kind, text) in FLAGS.items():
        evaluate.params.append(click.Option([f"--{name.replace('_', '-')}"], type=kind, default=None, help=text))


_evaluate_options()


for command in (evidence_cli.validate, evidence_cli.calibrate, evidence_cli.measure, evidence_cli.claims, evidence_cli.prices):
    main.add_command(command)


@main.command("list")
@click.argument("kind", required=False)
@JSON_OPTION
@guarded
def list_(kind: str | None, as_json: bool) -> None:
    """Names the tool knows, by kind: accelerators, models, engines, ...; without a kind, the kinds."""
    from codesign import listing, screen

    rows, columns = listing.rows(kind) if kind else listing.kinds()
    _print_json(rows) if as_json else click.echo(screen.table(rows, columns))


@main.command()
@click.argument("name", nargs=-1, required=True)
@JSON_OPTION
@guarded
def explain(name: tuple[str, ...], as_json: bool) -> None:
    """Unit, meaning, formula and source of a column, a constraint, a variable or a key of a study; of a catalog entry or a layout."""
    from codesign import meanings, screen

    answers = meanings.explain_all(name)
    if as_json:
        return _print_json(answers if len(answers) > 1 else answers[0])
    click.echo("\n\n".join(map(screen.meaning_text, answers)))


@main.command()
@guarded
def schema() -> None:
    """JSON Schema of study files, for editors."""
    from codesign.spec import json_schema

    _print_json(json_schema())


if __name__ == "__main__":
    main()
