"""A small file system in a file: a disk that is soon full, or that can be made read-only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = 2 * 1024 * 1024


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """`folder`, which is made, with an ext4 of its own of 2 MB; tmpfs where no file can be mounted."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    if not _mounted_file(folder) and _call("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder):
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _mounted_file(folder: Path) -> bool:
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(SIZE)
    if shutil.which("mkfs.ext4") is None:
        return False
    # Without a journal, and with nothing kept for root, nearly all of it is for files.
    made = _call("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-m", "0", image) == 0
    return made and _call("mount", "-o", "loop", image, folder) == 0


def _call(*words: object) -> int:
    return subprocess.run([str(word) for word in words], capture_output=True).returncode


def leave_free(disk: Path, left: int) -> Path:
    """Fills the disk but for `left` bytes; the file that fills it."""
    facts = os.statvfs(disk)
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(facts.f_bavail * facts.f_frsize - left))
        os.fsync(file.fileno())
    return ballast
