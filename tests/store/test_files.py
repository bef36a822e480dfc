"""Files are whole or absent, and what killed processes left half-written is told from what is being written."""

import signal
import subprocess
import sys

from headway.store.files import remove_abandoned, write_whole

WRITER = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from headway.store.files import write_whole

@contextmanager
def forever():
    print("written", flush=True)
    time.sleep(600)
    yield

write_whole(Path(sys.argv[1]), b"half", under=forever())
"""


def test_leftovers_of_a_killed_process_are_removed_but_not_files_being_written(tmp_path):
    (tmp_path / ".other.tmp").touch()  # of an unknown program, that does not hold it
    (tmp_path / ".hidden").touch()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / name], stdout=subprocess.PIPE)
        for name in ("killed", "alive")
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == b"written\n"
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        assert sorted(path.name.split(".")[1] for path in tmp_path.glob(".*.tmp")) == ["alive", "killed", "other"]
        remove_abandoned(tmp_path)
        assert [path.name.split(".")[1] for path in tmp_path.iterdir() if path.suffix == ".tmp"] == ["alive"]
        assert (tmp_path / ".hidden").exists()
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdout.close()
    write_whole(tmp_path / "killed", b"whole")
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "killed"]
