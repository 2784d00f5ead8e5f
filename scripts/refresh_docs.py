#!/usr/bin/env python3
"""Run every command of README and docs again and put what it prints in their place; then take the picture.

A fenced block that begins with `$ codesign ...` shows that command's output (`| head -N` keeps the first N lines).  All commands of a page
run in the order of the page, in a fresh folder with studies/, spaces/ and runs/quickstart.  Where the picks of the quickstart have other
ids than before, the pages follow.

    .venv/bin/python scripts/refresh_docs.py [PAGE ...]    needs what scripts/make_picture.py needs; --text leaves the picture out;
                                                           pages by file name: these alone
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(ROOT / name for name in ("README.md", "docs/tutorial.md", "docs/how-to.md", "docs/cases.md"))
RUN, QUICKSTART = "runs/quickstart", "codesign run studies/quickstart.yaml"
FENCE = re.compile(r"^```(?P<kind>\w+)(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.S | re.M)
NOT_RUN = (
    "scripts/",
    ". .venv/",
    "git ",
    "pip ",
    "cp ",
    "codesign dashboard",
    "codesign validate",
    "codesign measure",
    "codesign calibrate my-kernels.csv",
)  # servers, set-up, minutes, or a GPU


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the file it is the content of (`yaml file=my-chip.yaml`), its text, its line."""

    kind: str
    file: str
    body: str
    line: int

    @property
    def commands(self) -> list[str]:
        """The commands that a reader would type."""
        lines = self.body.replace("\\\n", " ").splitlines()
        if self.kind == "text":
            return [line[2:] for line in lines[:1] if line.startswith("$ ")]
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")] if self.kind == "bash" else []


def blocks(text: str) -> Iterator[Block]:
    """Every fenced block of a page."""
    for match in FENCE.finditer(text):
        file = re.search(r"\bfile=(\S+)", match["info"])
        yield Block(match["kind"], file[1] if file else "", match["body"], text.count("\n", 0, match.start()) + 1)


def is_run(command: str) -> bool:
    return not command.startswith(NOT_RUN)


def words(command: str) -> tuple[list[str], int | None]:
    """(arguments after `codesign`, lines that `| head -N` keeps)."""
    command, _, head = command.partition(" | head -")
    first, *rest = shlex.split(command, comments=True)
    if first != "codesign":
        raise ValueError(f"a page shows a command that is not codesign's: {command}")
    return rest, int(head) if head else None


def workspace(folder: Path, quickstart: Path) -> Path:
    """A folder as a reader of a page has it: the shipped studies and spaces, and a finished quickstart."""
    for name in ("studies", "spaces"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copytree(quickstart, folder / RUN)
    return folder


def write_file(block: Block, folder: Path) -> None:
    """A YAML, JSON, CSV or shell file that the page tells the reader to make."""
    if block.file and block.kind in ("yaml", "json", "csv", "sh"):
        (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.file).write_text(block.body, encoding="utf-8")


def picks(screen: str) -> dict[str, str]:
    """Name -> id of the picks on a last screen."""
    return dict(re.findall(r"^(knee|cheapest|fastest|best quality) +#(\d+)", screen, re.M))


def followed(text: str, old: dict[str, str], new: dict[str, str]) -> str:
    """The page with ids of the old picks replaced by those of the new ones, in commands on the quickstart and as #id."""
    ids = {old[name]: new[name] for name in reversed(old) if name in new}

    def arguments(match: re.Match) -> str:
        return match[1] + re.sub(r" (\d+)\b", lambda m: " " + ids.get(m[1], m[1]), match[2])

    text = re.sub(rf"(codesign \w+ {RUN})((?: \d+)+)", arguments, text)
    return re.sub(r"#(\d+)\b", lambda m: "#" + ids.get(m[1], m[1]), text)


def refreshed(text: str, folder: Path, run: Callable[[list[str], Path], str], quickstart: str) -> str:
    """The page with the output of every command in it; side effects of its other commands happen in `folder`."""

    def body(match: re.Match) -> str:
        block = next(blocks(match[0]))
        write_file(block, folder)
        shown = match[0]
        for command in block.commands:
            output = quickstart if command in ("scripts/quickstart", QUICKSTART) else None
            if output is None and is_run(command):
                args, head = words(command)
                output = "".join(run(args, folder).splitlines(keepends=True)[:head])
            if block.kind == "text" and output is not None:
                shown = f"```text{match['info']}\n$ {command}\n{output.rstrip()}\n```"
        return shown

    return FENCE.sub(body, text)


def run(args: list[str], folder: Path) -> str:
    """stdout of one command."""
    done = subprocess.run([sys.executable, "-m", "codesign.cli", *args], cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"codesign {shlex.join(args)}: exit {done.returncode}")
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = folder / "start"
        start.mkdir()
        shutil.copytree(ROOT / "studies", start / "studies")
        shutil.copytree(ROOT / "spaces", start / "spaces")
        screen = run(shlex.split(QUICKSTART)[1:], start)
        old = picks(PAGES[0].read_text(encoding="utf-8"))
        asked = {name for name in sys.argv[1:] if not name.startswith("--")}
        for page in (page for page in PAGES if not asked or page.name in asked):
            here = folder / page.stem
            here.mkdir()
            text = followed(page.read_text(encoding="utf-8"), old, picks(screen))
            page.write_text(refreshed(text, workspace(here, start / RUN), run, screen), encoding="utf-8")
            print(f"{page.relative_to(ROOT)} written", file=sys.stderr)
        if "--text" not in sys.argv[1:]:
            import make_picture

            make_picture.write(start / RUN / "report.html")


if __name__ == "__main__":
    main()
