"""Real servers on loopback for tests."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest


@contextmanager
def postgresql():
    """(URL of a real server on loopback, function that restarts it); skips the test where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="pip install 'psycopg[binary]'")
    if not all(map(shutil.which, ("initdb", "pg_ctl"))):
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    user = {"user": "postgres"} if os.geteuid() == 0 else {}  # the server refuses to run as root
    data, port = Path(mkdtemp(prefix="codesign-postgresql-")), free_port()
    if user:
        shutil.chown(data, "postgres")
    name = "postgres" if user else getpass.getuser()
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": data, **user}
    subprocess.run(["initdb", "-D", data, "-A", "trust", "-U", name], **quiet)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    subprocess.run(["pg_ctl", "-D", data, "-o", options, "-w", "-l", data / "log", "start"], **quiet)

    def restart():
        subprocess.run(["pg_ctl", "-D", data, "-w", "-m", "fast", "stop"], **quiet)
        time.sleep(1.5)
        subprocess.run(["pg_ctl", "-D", data, "-o", options, "-w", "-l", data / "log", "start"], **quiet)

    try:
        yield f"postgresql+psycopg://{name}@127.0.0.1:{port}/postgres", restart
    finally:
        subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], **(quiet | {"check": False}))
        shutil.rmtree(data)


def free_port() -> int:
    """A port of loopback on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
