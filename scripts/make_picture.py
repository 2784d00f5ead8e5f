#!/usr/bin/env python3
"""Refresh what the README shows of the quickstart: docs/front.png and the last screen of the run.

Needs a Chromium (on the path, or named by CODESIGN_CHROMIUM) and `pip install playwright`.  Run it when the model, the
quickstart study or the report changes:

    .venv/bin/python scripts/make_picture.py
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUDY, README, PICTURE = ROOT / "studies/quickstart.yaml", ROOT / "README.md", ROOT / "docs/front.png"
RUN = "runs/quickstart"  # as a reader of the README has it
WIDTH, MARGIN = 1240, 16
SCREEN = re.compile(r"(?<=<!-- last screen of scripts/quickstart -->\n```text\n).*?(?=```)", re.S)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        screen = last_screen(folder)
        README.write_text(SCREEN.sub(lambda _: screen, README.read_text(encoding="utf-8")), encoding="utf-8")
        photograph(folder / RUN / "report.html", PICTURE)
    print(f"{README.relative_to(ROOT)} and {PICTURE.relative_to(ROOT)} ({PICTURE.stat().st_size // 1000} KB) written")


def last_screen(folder: Path) -> str:
    """What `codesign run` of the quickstart study prints on stdout, run in `folder`."""
    command = [sys.executable, "-m", "codesign.cli", "run", str(STUDY), "--out", RUN]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def photograph(page: Path, target: Path) -> None:
    """The explorer of a report, from its axes to the end of the parallel coordinates, as a PNG."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CODESIGN_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        tab.goto(page.as_uri())
        tab.wait_for_timeout(500)  # the charts draw in the frames after the layout
        parts = [tab.locator(name).bounding_box() for name in ("#controls", "#parallel-box")]
        top, bottom = parts[0]["y"] - MARGIN, parts[1]["y"] + parts[1]["height"] + MARGIN
        clip = {"x": 0, "y": top, "width": WIDTH, "height": bottom - top}
        tab.screenshot(path=target, clip=clip, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
