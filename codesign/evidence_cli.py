"""The commands that set predictions beside the world: measurements, your own kernels, public statements, price lists."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from codesign.shell import JSON_OPTION, NOTHING_FEASIBLE, guarded, print_json


@click.command()
@click.argument("data", required=False, metavar="[DATA.csv]")
@click.option("--kind", type=click.Choice(["training", "inference"]), help="What the rows are (default: by their columns).")
@click.option("--per-row", metavar="OUT.csv", help="Write one line per row and metric.")
@click.option("--plot", metavar="FILE.html", help="Write predicted against measured as an offline page.")
@click.option("--explain", "row_id", metavar="ID", help="One row in full: its scenario and the time of every operator.")
@JSON_OPTION
@guarded
def validate(data, kind, per_row, plot, row_id, as_json) -> None:
    """Predicted against measured: your CSV, or the published runs that come with the tool."""
    from codesign.evidence import command

    found = command.run(data, kind)
    for file in command.write(found, per_row, plot):
        click.echo(f"{file} written", err=True)
    answer = command.answer(found, row_id, as_json)
    print_json(answer) if as_json else click.echo(answer)
    if not any(v.scored for v in found):
        click.echo("no row could be predicted", err=True)
        sys.exit(NOTHING_FEASIBLE)


@click.command()
@click.argument("data", metavar="DATA.csv")
@click.option("--kind", type=click.Choice(["training", "inference", "kernels"]), required=True, help="What the rows are.")
@click.option("-o", "output", required=True, metavar="FILE.yaml", help="Engine file to write.")
@click.option("--chip", metavar="NAME", help="Which chip, where the rows have several.")
@click.option("--engine", metavar="NAME", help="Which engine, where the rows have several.")
@JSON_OPTION
@guarded
def calibrate(data, kind, output, chip, engine, as_json) -> None:
    """Fit a chip's constants to your own measurements and write them as an engine file."""
    from codesign.evidence import calibration_text, kernel_text

    text = kernel_text if kind == kernel_text.KIND else calibration_text
    found = text.run(data, kind, output, chip, engine)
    print_json(text.summary(found, output)) if as_json else click.echo(text.screen(found, output))
    click.echo(f"{output} written", err=True)


@click.command()
@click.option("-o", "output", required=True, metavar="DATA.csv", help="Table to write.")
@click.option("--accelerator", metavar="NAME", help="Catalog name of the chip (default: by the device's own name).")
@click.option("--kernels", metavar="LIST", default="gemm,hbm,attention_decode,all_reduce", show_default=True, help="What to time.")
@click.option("--quick", is_flag=True, help="Every other size.")
@guarded
def measure(output, accelerator, kernels, quick) -> None:
    """Time kernels of the GPU at hand and write the table that `calibrate --kind kernels` fits (needs PyTorch)."""
    from codesign.evidence import measure as bench

    click.echo(bench.run(output, accelerator, bench.chosen(kernels), quick, lambda text: click.echo(text, err=True)), err=True)


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID | CLAIM.yaml ...]")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Pin a key, such as accelerator=mi300x; repeatable.")
@click.option("-o", "target", metavar="FILE.md", help="Write the page with every claim.")
@JSON_OPTION
@guarded
def claims(ids, changes, target, as_json) -> None:
    """Public statements put to the test by the evaluator: claimed and computed figures, and a verdict."""
    from codesign import progress
    from codesign.evidence import claims as room
    from codesign.evidence import claims_text as text

    answers = room.judge_all(ids, room.changes_of(changes), lambda found: progress.each(found, "claims"))
    if target:
        Path(target).write_text(text.page(answers), encoding="utf-8")
        click.echo(f"{target} written", err=True)
    if as_json:
        return print_json([text.as_json(a) for a in answers])
    click.echo("\n\n\n".join(map(text.one, answers)) if ids else text.screen(answers))
    more = "" if ids else f"; codesign claims {answers[0].claim.id} shows one with its numbers"
    click.echo(f"{text.summary(answers)}{more}", err=True)


@click.command()
@click.argument("model", required=False, metavar="[MODEL]")
@click.option("--system", default="gb200_nvl72", show_default=True, help="Accelerator or system that serves.")
@click.option("--engine", default="generic", show_default=True, help="Serving engine whose constants are used.")
@click.option("--weight-bits", type=int, help="4, 8, 16 (default: as released, 8 at most where the chip has fp8; so are the other two).")
@click.option("--kv-bits", type=int, help="Bits per cached value: 4, 8, 16.")
@click.option("--act-bits", type=int, help="Bits per activation: 4, 8, 16.")
@click.option("--peak", type=click.FloatRange(min=1.0), default=2.5, show_default=True, help="Capacity paid over mean load.")
@JSON_OPTION
@guarded
def prices(model, system, engine, weight_bits, kv_bits, act_bits, peak, as_json) -> None:
    """What a million tokens cost by context, speed, cache and batch, beside public price lists; all listed models without a name."""
    from codesign import pricesheet as room

    bits = {"weight_bits": weight_bits, "kv_bits": kv_bits, "act_bits": act_bits}
    answer = room.sheet(model, system, engine, bits, peak) if model else room.overview(system, engine, peak)
    if as_json:
        return print_json(answer)
    click.echo(room.text(answer) if model else room.overview_text(answer))
