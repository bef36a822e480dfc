"""`headway measure` killed with SIGKILL at twenty random moments, and resumed each time: nothing is lost, nothing differs."""

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal
from tokenizers import Tokenizer, models, pre_tokenizers

from headway import sweep
from headway.rundir import RunDirectory
from support_models import saved
from support_sweep import measure_command

KILLS, CHECKPOINTS = 20, 48
WORDS = [f"w{number}" for number in range(89)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("killed")
    run = place / "suite" / "toy-1m-seed1"
    for step in range(CHECKPOINTS):
        saved(run / f"step{step}", "gpt_neox", seed=step)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(run / "tokenizer.json"))
    texts = random.Random(1)
    lines = (" ".join(texts.choices(WORDS, k=texts.randint(2, 40))) for _ in range(200))
    (place / "texts.txt").write_text("\n".join(lines))
    return place


def files(directory: RunDirectory, pattern: str) -> set[Path]:
    return set((directory.path / "heads").glob(pattern))


def test_killed_at_twenty_random_moments(place):
    # A server that has torch imported forks each attempt: twenty starts of Python would be most of the test.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["headway.verbs", "headway.measure", "headway.models", "transformers.models.auto"])

    def start(out: Path):
        words = (
            place / "suite",
            "--corpus",
            place / "texts.txt",
            "--out",
            out,
            "--scores",
            "prev,self,first,induction",
            "--loss",
        )
        process = context.Process(target=measure_command, args=words)
        process.start()
        return process

    whole = start(place / "whole")
    whole.join()
    assert whole.exitcode == 0

    moments = random.Random(7)
    resumed = RunDirectory(place / "resumed")
    in_work = half_written = 0
    for kill in range(KILLS):
        done, abandoned = len(files(resumed, "*.parquet")), files(resumed, ".*.tmp")
        process = start(resumed.path)
        more = moments.randint(0, 2)  # so many checkpoints are finished first, then any moment of the next
        while process.is_alive() and len(files(resumed, "*.parquet")) < done + more:
            time.sleep(0.002)
        if kill % 4 == 3:  # some while a part is being written, which is over in a moment
            while process.is_alive() and not files(resumed, ".*.tmp") - abandoned:
                pass
        else:
            time.sleep(moments.uniform(0, 0.15 if more else 1.5))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        in_work += len(files(resumed, "*.parquet")) < CHECKPOINTS
        half_written += len(files(resumed, ".*.tmp")) > 0
    assert in_work == KILLS  # every one of them hit an unfinished sweep
    assert len(resumed.parts("heads")) > 0  # and what earlier ones finished was kept
    assert half_written > 0  # what such kills leave is removed by the sweeps that follow: see below

    last = start(resumed.path)
    last.join()
    assert last.exitcode == 0
    key = ["run", "step", "layer", "head"]
    for table in RunDirectory(place / "whole").tables():
        one, other = (RunDirectory(place / name).read(table).sort(*key[: 4 if table == "heads" else 2])
                      for name in ("whole", "resumed"))  # fmt: skip
        assert_frame_equal(one, other, check_exact=True)
    assert [one.damaged for one in sweep.status(resumed, verify=True)] == [{}]
    assert not list(resumed.path.rglob("*.tmp"))
