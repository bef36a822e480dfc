"""Ctrl-C through the command line, as a process of its own: it ends at once, and what was finished is kept."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from headway import sweep
from headway.store.directory import RunDirectory
from support_models import saved_suite

CHECKPOINTS = 12
PATIENCE = 120  # seconds until a hanging process is a failed test: far beyond what any step here takes
LAST = b"headway: stopped; finished results are kept. Run the same command again to go on\n"


@pytest.fixture
def headway():
    """Starts `headway` in a process group of its own, as a terminal would; kills what is left of it afterwards."""
    started = []

    def start(*words, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "headway", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,  # what `readline` has not returned is left for `communicate`
            env=os.environ | environment,
            start_new_session=True,
            # Some runners start their tests with SIGINT ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A suite that takes some seconds to measure."""
    place = tmp_path_factory.mktemp("stopped")
    saved_suite(place, CHECKPOINTS, n_texts=150, lengths=(100, 100))
    return place


def press(process):
    """Ctrl-C goes to the whole group in the foreground, workers included."""
    os.killpg(process.pid, signal.SIGINT)


def wait_for_parts(process, folder, n):
    end = time.monotonic() + PATIENCE
    while len(list(folder.glob("*.parquet"))) < n:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"no {n} parts came"
        time.sleep(0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_finished_partitions_are_kept(headway, place, tmp_path, workers):
    """The main thread waits for others meanwhile, and polars is imported, which installs a handler of its own."""
    words = ("measure", place / "suite", "--corpus", place / "texts.txt", "--out", tmp_path, "--workers", workers)
    process = headway(*words)
    wait_for_parts(process, tmp_path / "heads", 1)
    press(process)
    _, said = process.communicate(timeout=PATIENCE)  # workers hold the pipe open for as long as they live
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert said.endswith(LAST), said
    directory = RunDirectory(tmp_path)
    done = len(directory.partitions("heads"))
    assert 1 <= done < CHECKPOINTS
    assert [one.damaged for one in sweep.status(directory, verify=True)] == [{}]
    again = headway(*words)
    assert again.wait(PATIENCE) == 0
    assert len(directory.partitions("heads")) == CHECKPOINTS
    assert not [path for path in (tmp_path / "heads").iterdir() if path.suffix != ".parquet"], (
        "nothing is left half-written"
    )


def test_workers_that_are_starting_say_nothing(headway, place, tmp_path):
    started = tmp_path / "started"
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif any('spawn_main' in word for word in sys.orig_argv):\n"
        f"    import time\n    open({str(started)!r}, 'w')\n    time.sleep(1)\n"
    )
    process = headway(
        *("measure", place / "suite", "--corpus", place / "texts.txt", "--out", tmp_path / "out", "--workers", 2),
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.01)
    press(process)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert said.endswith(LAST), said


@pytest.mark.parametrize(
    "words",
    [
        ("measure", "--corpus", "nano", "--workers", 1),  # the Hub is asked, and nothing is begun
        ("cluster", "--workers", 1),  # a checkpoint is begun that will never be finished
        ("cluster", "--workers", 2),
    ],
)
def test_while_the_hub_does_not_answer(headway, tmp_path, words):
    with socket.create_server(("127.0.0.1", 0)) as silent_hub:
        silent_hub.settimeout(PATIENCE)
        command, *options = words
        hub = {"HF_ENDPOINT": "http://{}:{}".format(*silent_hub.getsockname()), "HF_HOME": str(tmp_path / "hub")}
        process = headway(command, "pythia", "--where", "size=14m step=0,1", "--out", tmp_path / "out", *options, **hub)
        with silent_hub.accept()[0]:
            press(process)
            _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.endswith(LAST)
    assert b"Traceback" not in said


def test_while_headway_is_imported(headway, tmp_path):
    (tmp_path / "typer.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(600)\n"
    )
    process = headway("suites", PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said == LAST


def test_a_caller_that_ignores_it_is_heeded(headway, tmp_path):
    """As `nohup` does: Ctrl-C ends nothing."""
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from headway import interrupts; interrupts.exit_on_interrupt(); os.kill(os.getpid(), signal.SIGINT); print('on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"
