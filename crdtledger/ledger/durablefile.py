"""Files that survive a power cut, and the lock that keeps a second process out. Impure.

SQLite looks after the journal's own pages. Everything around it (the sidecar, files that are renamed into place or
moved aside) goes through these few functions, in which each step is on stable storage before the next begins. POSIX
promises nothing about a name until its directory is synced, so every rename is followed by that.

A failed sync raises ``OSError`` and is never retried: after one, the kernel may have dropped the pages that failed.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from crdtledger.errors import JournalLocked


def write_new(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` (made, or emptied first) and sync it. The name is not durable yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target``, replacing what had it, and sync the directory (both are in one)."""
    os.replace(source, target)
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Replace the whole of ``path`` atomically: after a power cut it has the old content or the new."""
    draft = path.with_name(path.name + ".draft")
    write_new(draft, content)
    rename(draft, path)


class FileLock:
    """An exclusive lock on a file of its own, held while the process lives and gone with it.

    A file of its own, because closing any descriptor of a database drops SQLite's own locks on it. The file holds
    the holder's process id, for the error message only; it is never removed, because removing it would let two
    processes hold locks on two files of one name.
    """

    def __init__(self, path: Path, guarded: Path) -> None:
        """Take the lock or raise ``JournalLocked(path=guarded, holder)``."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            written = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            holder = f"process {written}" if written else "another process"
            raise JournalLocked(path=str(guarded), holder=holder) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one in. The lock cannot be taken again through this object."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
