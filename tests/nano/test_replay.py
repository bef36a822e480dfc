"""What a run read can be drawn again, and is described rightly."""

import math

import numpy as np
import polars as pl
import pytest

import headway.api
from headway import nano
from headway.errors import SelectionError, UsageError
from headway.nano import laboratory, location, replay, stacked, worker
from headway.nano.replay import NgramStatistics
from headway.store import RunDirectory

RECIPE = nano.Recipe(
    sizes=(nano.Size(1, n_heads=2, hidden_size=8, mlp_size=16),),
    seeds=(1, 2),
    steps=(0, 6),
    context_length=32,
    batch_size=4,
    repeated=0.5,
    shortest_passage=5,
    longest_passage=9,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a laboratory, and by run what its training read."""
    folder = tmp_path_factory.mktemp("replay")
    recipe = laboratory.laboratory(RECIPE, ("window=none,2-4", "vocabulary=64,80"))
    location.prepare(folder, recipe)
    read: dict[str, list[np.ndarray]] = {}
    with pytest.MonkeyPatch.context() as patch:
        losses = stacked.Stack.losses
        patch.setattr(
            stacked.Stack, "losses", lambda self, ids: (seen.append(ids.numpy().copy()), losses(self, ids))[1]
        )
        patch.setattr("builtins.print", lambda *args, **options: None)
        runs = nano.planned_runs(recipe)
        for cell in {tuple(one.axes.items()) for one in runs.values()}:
            seen: list[np.ndarray] = []
            together = [run for run, one in runs.items() if tuple(one.axes.items()) == cell]
            worker.make_runs(recipe, together, folder)
            for place, run in enumerate(together):
                read[run] = [ids[place] for ids in seen]
    return folder, read


def test_the_batches_that_training_read_are_drawn_again(trained):
    folder, read = trained
    assert len(read) == 8
    for run, batches in read.items():
        again = list(replay.replayed(folder / run))
        assert [step for step, _ in again] == list(range(6))
        for (_, batch), ids in zip(again, batches, strict=True):
            np.testing.assert_array_equal(batch.ids, ids)


def test_statistics_follow_the_window(trained, tmp_path):
    folder, _ = trained
    run = folder / "nano-2k-window2-4-vocabulary80-seed2"
    found = nano.read_data(run, out=tmp_path / "data.csv", show=2)
    assert (found.table["repeats"] > 0).to_list() == [False, False, True, True, False, False]
    assert pl.read_csv(tmp_path / "data.csv").to_dicts() == found.table.to_dicts()
    assert len(found.texts) == 2
    # The novelty of later steps counts all earlier ones, whichever are asked for.
    late = nano.read_data(run, (4, 5), out=tmp_path / "data.parquet")
    assert late.table.equals(found.table.filter(pl.col("step") >= 4))
    assert pl.read_parquet(tmp_path / "data.parquet").equals(late.table)


def test_every_run_of_a_laboratory_is_described_between_its_checkpoints(trained, tmp_path):
    folder, _ = trained
    assert headway.api.nano_statistics(folder, out=tmp_path / "out") == 8  # one interval of six steps each
    table = RunDirectory(tmp_path / "out").read("data")
    assert sorted(table["axis_window"].unique()) == ["2-4", "none"]
    row = table.filter(run="nano-2k-window2-4-vocabulary80-seed2").row(0, named=True)
    steps = nano.read_data(folder / row["run"]).table
    for name in ("sequences", "tokens", "repeats", "repeated_ngrams", "novel_ngrams", "entropy"):
        assert row[name] == pytest.approx(steps[name].mean()), name
    assert row["step"] == 0


def test_ngrams_are_counted_as_by_hand():
    statistics = NgramStatistics(2)
    first = statistics.add(np.array([[1, 2, 1, 2, 1], [3, 3, 3, 3, 4]]))
    # Bigrams: 12 21 12 21, and 33 33 33 34. Two of the first four and two of the second four stand earlier in their row.
    assert first["repeated_ngrams"] == pytest.approx(4 / 8)
    assert first["novel_ngrams"] == 1
    shares = [3 / 10, 2 / 10, 4 / 10, 1 / 10]
    assert first["entropy"] == pytest.approx(-sum(share * math.log(share) for share in shares))
    second = statistics.add(np.array([[1, 2, 5, 5, 1]]))  # 12 25 55 51: the first is known
    assert second["novel_ngrams"] == pytest.approx(3 / 4)
    assert second["repeated_ngrams"] == 0


def test_ngrams_of_large_vocabularies_have_a_number_each():
    """65,536 tokens of 16 bits: four of them are 64 bits."""
    rows = np.array([[65535, 0, 0, 0], [0, 65535, 0, 0], [0, 0, 0, 65535], [65535, 65535, 65535, 65535], [1, 0, 0, 1]])
    assert len(np.unique(NgramStatistics(4)._grams(rows))) == 5


def test_impossible_requests_are_refused(trained, tmp_path):
    folder, _ = trained
    run = folder / "nano-2k-windownone-vocabulary64-seed1"
    with pytest.raises(UsageError, match="reads the batches of steps 0 to 5"):
        nano.read_data(run, (3, 6))
    with pytest.raises(UsageError, match=r"ends in \.csv or \.parquet"):
        nano.read_data(run, out=tmp_path / "data.txt")
    with pytest.raises(SelectionError, match="did you mean 'nano-2k-windownone-vocabulary64-seed"):
        nano.read_data(folder / "nano-2k-windownone-vocabulary64-seed9")
    with pytest.raises(UsageError, match="holds no nano suite"):
        nano.read_data(tmp_path / "run")
