#!/usr/bin/env python3
"""Photograph the explorer of a report for the README: docs/front.png.

Needs a Chromium (on the path, or named by CODESIGN_CHROMIUM) and `pip install playwright`.

    .venv/bin/python scripts/make_picture.py [runs/quickstart/report.html]
"""

from __future__ import annotations

import base64
import os
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/front.png"
WIDTH, MARGIN = 1240, 16
PIXELS = """async png => {
  const image = await createImageBitmap(await (await fetch("data:image/png;base64," + png)).blob());
  const ctx = new OffscreenCanvas(image.width, image.height).getContext("2d");
  ctx.drawImage(image, 0, 0);
  const bytes = ctx.getImageData(0, 0, image.width, image.height).data, parts = [];
  for (let i = 0; i < bytes.length; i += 30000) parts.push(btoa(String.fromCharCode(...bytes.subarray(i, i + 30000))));
  return [image.width, image.height, parts];
}"""


def main() -> None:
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs/quickstart/report.html")


def write(report: Path) -> None:
    """The picture of one report, in its place."""
    PICTURE.write_bytes(indexed_png(photograph(report.resolve())))
    print(f"{PICTURE.relative_to(ROOT)} written, {PICTURE.stat().st_size // 1000} KB", file=sys.stderr)


def photograph(report: Path) -> np.ndarray:
    """Pixels (height, width, 3) of the explorer of a report: axes, scatter, parallel coordinates."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CODESIGN_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.goto(report.as_uri())
        page.wait_for_timeout(500)  # the charts draw in the frames after the layout
        top, bottom = page.locator("#controls").bounding_box(), page.locator("#parallel-box").bounding_box()
        y = top["y"] - MARGIN
        clip = {"x": 0, "y": y, "width": WIDTH, "height": bottom["y"] + bottom["height"] + MARGIN - y}
        shot = base64.b64encode(page.screenshot(clip=clip, full_page=True)).decode()
        width, height, parts = browser.new_page().evaluate(PIXELS, shot)  # the report's own page may fetch nothing
        browser.close()
    raw = b"".join(base64.b64decode(part) for part in parts)
    return np.frombuffer(raw, np.uint8).reshape(height, width, 4)[:, :, :3]


def indexed_png(pixels: np.ndarray) -> bytes:
    """A PNG of 256 colours, the most frequent ones: half the bytes of a screenshot, and no eye sees it."""
    height, width, _ = pixels.shape
    colours, index, count = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    palette = colours[np.argsort(-count)[:256]].astype(int)
    nearest = np.array([np.argmin(np.abs(palette - colour).sum(axis=1)) for colour in colours], np.uint8)
    rows = np.pad(nearest[np.ravel(index)].reshape(height, width), ((0, 0), (1, 0)))  # filter 0 before each row
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = (b"IHDR", head), (b"PLTE", palette.astype(np.uint8).tobytes()), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")
    sealed = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(sealed)


if __name__ == "__main__":
    main()
