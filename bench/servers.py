"""Private database servers for benches: in a folder that is gone afterwards, on a Unix socket, started and stopped here.

A server that is not installed is None. Both sync every commit to the disk.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PATIENCE_S = 30.0
UNPRIVILEGED = "postgres"
"""PostgreSQL does not run as root. Its packages make this user."""


def postgres() -> Path | None:
    """The folder of PostgreSQL's programs, where its packages put them or in the path."""
    placed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = shutil.which("postgres")
    return placed[-1].parent if placed else Path(found).parent if found else None


def redis() -> str | None:
    """Redis' server."""
    return shutil.which("redis-server")


@contextlib.contextmanager
def running_postgres(programs: Path) -> Iterator[Path]:
    """The socket of a new PostgreSQL with a superuser ``bench``."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        user = UNPRIVILEGED if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(directory, user)
        data = Path(directory) / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "bench", "-A", "trust", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
        )
        settings = ("shared_buffers=256MB", "max_wal_size=4GB", f"unix_socket_directories={directory}")
        options = [part for each in (*settings, "listen_addresses=") for part in ("-c", each)]
        with _running([str(programs / "postgres"), "-D", str(data), *options], directory, user):
            asked = [str(programs / "pg_isready"), "--quiet", "--host", directory]
            _until(lambda: subprocess.run(asked, check=False).returncode == 0)
            yield Path(directory) / ".s.PGSQL.5432"


@contextlib.contextmanager
def running_redis(program: str) -> Iterator[Path]:
    """The socket of a new Redis that syncs its log of commands before it answers."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        socket = Path(directory) / "redis.sock"
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        command = [program, "--port", "0", "--unixsocket", str(socket), "--dir", directory, *durable]
        with _running(command, directory, None):
            _until(socket.exists)
            yield socket


@contextlib.contextmanager
def _running(command: Sequence[str], directory: str, user: str | None) -> Iterator[None]:
    process = subprocess.Popen(
        command, cwd=directory, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(listens: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not listens():
        if time.monotonic() > end:
            raise TimeoutError(f"the server does not listen after {PATIENCE_S:g} s")
        time.sleep(0.02)
