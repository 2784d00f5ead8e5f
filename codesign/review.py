"""The commands with which a front is reviewed: one design in full, what it is worth to change it, and which to choose."""

from __future__ import annotations

import click

from codesign.shell import JSON_OPTION, guarded, print_json


@click.command()
@click.argument("path", metavar="RUN")
@click.argument("point_id", metavar="ID", type=int)
@click.option(
    "--why-not",
    "change",
    metavar="CHANGE",
    help='What would happen if the design were changed, such as "n_experts=512".',
)
@JSON_OPTION
@guarded
def show(path: str, point_id: int, change: str | None, as_json: bool) -> None:
    """One design in full: time per operator and bound, memory, layout, cost, slack, uncertainty."""
    from codesign import decision_text, screen, tables
    from codesign.explain import explain_point
    from codesign.results import load_results

    result = load_results(path)
    if change is not None:
        answer = tables.why_not_of(result, point_id, change)
        return print_json(answer) if as_json else click.echo(decision_text.why_not_text(answer))
    point = result.point(point_id)
    detail = explain_point(tables.study_of(result).problem, point)
    doubt = tables.doubt_of(result, point_id)
    if as_json:
        return print_json({"point": tables.clean(point), **detail, "uncertainty": doubt})
    if not doubt["columns"]:  # a study of video
        return click.echo(screen.point_screen(point, detail, result))
    block = decision_text.intervals_block(doubt["columns"], doubt["alike"], len(result.front), doubt["level"])
    click.echo(f"{screen.point_screen(point, detail, result)}\n\n{block}")


@click.command()
@click.argument("path", metavar="RUN")
@click.argument("point_id", metavar="ID", type=int)
@JSON_OPTION
@guarded
def sensitivity(path: str, point_id: int, as_json: bool) -> None:
    """Shadow prices: what +10 % of every resource, assumption and shape is worth to one design."""
    from codesign import decision_text, screen, tables
    from codesign.results import load_results
    from codesign.sensitivity import sensitivity as of

    result = load_results(path)
    answer = of(tables.study_of(result), result, point_id)
    print_json(answer) if as_json else click.echo(decision_text.sensitivity_text(answer, screen.design_text(result.point(point_id))))


@click.command()
@click.argument("path", metavar="RUN")
@click.option("--samples", type=click.IntRange(min=2), help="Draws of everything uncertain (default: the study's, 2000).")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draws.")
@JSON_OPTION
@guarded
def decide(path: str, samples: int | None, seed: int, as_json: bool) -> None:
    """The named picks: why, how sure, what each gives up, what would change it, and what to measure first."""
    from codesign import decision_text, screen, tables
    from codesign.decision import decide as of
    from codesign.results import load_results

    result = load_results(path)
    answer = of(tables.study_of(result), result, samples, seed, anew=True)
    lines = {
        p["id"]: f"{screen.design_text(q := result.point(p['id']))}   {screen.layouts_text(q, result.manifest['units'], result.objectives)}"
        for p in answer["picks"]
    }
    print_json(answer) if as_json else click.echo(decision_text.decide_text(answer, lines))


@click.command()
@click.argument("path", metavar="RUN")
@click.argument("names", metavar="[REFERENCE]...", nargs=-1)
@JSON_OPTION
@guarded
def place(path: str, names: tuple[str, ...], as_json: bool) -> None:
    """Where designs that exist sit beside a front: known models, a config.json, Megatron arguments, a measured FILE.csv#ROW."""
    from codesign import reference_text, references, tables
    from codesign.results import load_results

    result = load_results(path)
    found = references.named(tables.study_of(result), result, names)
    print_json(found) if as_json else click.echo(reference_text.place_text(found, result))
