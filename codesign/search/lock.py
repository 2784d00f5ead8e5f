"""One process at a time on a run directory."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codesign.spec.errors import UserError

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; a UserError names the process that has it.

    The operating system lets go of it however the holder ends, so a lock file that was left behind locks nothing.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    with (folder / NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder} is being written by another run ({file.read().strip() or 'unknown process'})",
                hint="wait for it, or choose another directory with --out",
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
        file.truncate(0)
