#!/usr/bin/env python3
"""Fit the spread of predictions to the shipped measurements and write it into codesign/uncertainty.py.

    python scripts/fit_uncertainty.py [--check]      --check: print, write nothing

Run it after a change of physics or constants; then scripts/write_accuracy.py.
"""

import re
import sys
from pathlib import Path

from codesign import uncertainty
from codesign.evidence import spread
from codesign.evidence.rows import KINDS
from codesign.evidence.validation import validate

TABLE = re.compile(r"(# fitted by scripts/fit_uncertainty.py: begin\n).*?(# fitted by scripts/fit_uncertainty.py: end)", re.DOTALL)


def main(check: bool) -> None:
    rows = [r for kind in KINDS for r in spread.residuals(validate(None, kind).scored)]
    body = spread.table_text(rows)
    print(body)
    if not check:
        path = Path(uncertainty.__file__)
        text = f"SPREADS: dict[tuple[str, str, str], Spread] = {{\n{body}\n}}\n"
        path.write_text(TABLE.sub(lambda m: m[1] + text + m[2], path.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"written to {path}", file=sys.stderr)


if __name__ == "__main__":
    main("--check" in sys.argv[1:])
