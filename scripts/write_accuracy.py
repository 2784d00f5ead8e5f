#!/usr/bin/env python3
"""Write docs/accuracy.md, the published accuracy tables, from the measurements that come with the package.

    python scripts/write_accuracy.py [--check]      --check: exit 1 where a median error of the page is off by more than 2 points

Run scripts/fit_uncertainty.py first when physics or constants changed.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from codesign.evidence import score, text
from codesign.evidence.rows import KINDS
from codesign.evidence.validation import Validation, validate

PAGE = Path(__file__).resolve().parent.parent / "docs" / "accuracy.md"
TOLERANCE = 0.02
HEAD = """# How accurate is it?

Written by `scripts/write_accuracy.py`; the same tables as `codesign validate`, on 349 published training runs and 1,021 published serving
measurements (`codesign/evidence/data/`, each row with its source). Error = ln(predicted / measured), so 10 % means a factor of 1.105;
positive bias = predicted higher than measured (training and throughput: too fast; TPOT and TTFT: too slow).

* Training: score of the token rate per device; the median inside each group (publication, model, chip, precision), then the median over
  groups. Where a row does not state its recomputation, the setting that fits memory and is fastest is scored; those rows are also
  reported apart. The trivial baseline is one constant MFU per dense / MoE and 16 / 8 bit, fitted on the same rows, and with every source
  left out.
* Serving: pooled rows. TPOT of static decode and of closed-loop serving; latency of a batch-1 prefill; highest offline throughput, whose
  batch is not published. TTFT under load depends on the load generator and is reported only. The trivial baseline is the bare roofline.
* tau: Kendall's tau-b inside sweeps of at least four rows, over pairs that differ by more than 5 %.
* covered: share of measurements inside the printed 80 % interval; width/median: log-width of that interval over the median error.
* Kernel constants come from measured kernel tables. The training constants of the engines (what a stack reaches of a GEMM kernel, host
  time, overlap: one value for all models) are fitted to the training rows by `scripts/fit_training.py`; the table "each left out in turn" says what
  they are worth on sources and chips that the fit has not seen. No constant belongs to a model or a row. The width of the intervals is fitted
  here too, and checked with whole groups left out.
* A few served rows of 16 devices (MiniMax-M2 on H100, TP4 EP16 DP4) have the times of the TP4 EP4 rows to 1 %: probably mislabelled, kept.
* DeepSeek-R1 and V3 are one architecture; nine R1 rows (TensorRT-LLM 1.2.0rc6.post3, SGLang 0.5.9) are 1.2 to 2.0 times as fast as the V3 row of
  the same chip, engine, layout and load: probably multi-token prediction, which the source does not state; kept. Without R1, P90 of TPOT is 30 %.
* Training rows name what their public recipe sets (dispatcher, CUDA graphs, overlap, recomputation) in `notes`, with the file and commit; a row
  that does not say runs by the habit of its stack. With all of these settings hidden, the MoE median is 12 %.
* The micro-batch contrast that fails (vTrain, TP8, 2 -> 32): its slow row takes 277 ms a micro-batch at TP8 and the same source 210 ms at TP16
  across two nodes, where every collective is slower, so no cost that grows with TP explains it.

Follow any row to its operators with `codesign validate --explain ID`; see all of them with `codesign validate --plot FILE.html`.
"""


def page(validations: Sequence[Validation]) -> str:
    return "\n\n".join([HEAD.strip(), *(text.markdown(v) for v in validations)]) + "\n"


def published(markdown: str) -> dict[str, float]:
    """Median error by class, of the overall tables of the page."""
    rows = re.findall(r"^\| ([^|]+?) \| \d+ \| \d+ \| (-?[\d.]+) % \|", markdown, re.MULTILINE)
    return {name: float(value) / 100.0 for name, value in rows}


def stale(markdown: str, validations: Sequence[Validation]) -> list[str]:
    """Classes whose median error is not what the page says, within TOLERANCE."""
    said = published(markdown)
    now = {r["group"]: r["median_abs_err"] for v in validations for r in score.overall(v)}
    return [
        f"{name}: the page says {said[name]:.1%}, now {value:.1%}" if name in said else f"{name}: not on the page"
        for name, value in now.items()
        if name not in said or abs(said[name] - value) > TOLERANCE
    ]


def main(check: bool) -> int:
    validations = [validate(None, kind) for kind in KINDS]
    if check:
        found = stale(PAGE.read_text(encoding="utf-8"), validations)
        print("\n".join(found) or f"{PAGE} is current")
        return int(bool(found))
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(validations), encoding="utf-8")
    print(f"{PAGE} written")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
