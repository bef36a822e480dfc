"""A saved result stands in for a study only if everything that decides its numbers is the same."""

from dataclasses import replace

import polars as pl
import pytest

import headway
from headway import studies
from headway.progress import Silent
from headway.store.directory import RunDirectory
from headway.store.partitions import read_partition
from headway.studies import Result, reuse
from support_studies import heads_table, write_heads

KEY = "development/prev_self_ratio"


class Listening(Silent):
    def __init__(self):
        self.said = []

    def say(self, words):
        self.said.append(words)


@pytest.fixture
def computed(monkeypatch):
    """The options of every study that was really run; the study itself is a quick one."""
    calls = []

    def study(rundir, *, score, progress, **options):
        calls.append({"score": score, **options})
        mean = float(rundir.read("heads")[score].mean())
        return Result("development", score, {"mean": mean}, {"one": pl.DataFrame({"mean": [mean]})}, ["a note"])

    monkeypatch.setitem(studies.STUDIES, "development", study)
    return calls


@pytest.fixture
def rundir(tmp_path):
    rundir = RunDirectory(tmp_path / "runs")
    with rundir.changing_manifest():
        pass  # a run directory has a manifest
    table = heads_table(sizes=("11m",), seeds=(1,)).with_columns(first=pl.lit(0.5))
    return write_heads(rundir, table)


def analyze(rundir, **options):
    progress = Listening()
    results = headway.analyze(rundir.path, studies=["development"], progress=progress, **options)
    return results, progress.said


def test_the_same_study_is_reused_in_one_line(rundir, computed):
    first, said = analyze(rundir)
    assert not said
    second, said = analyze(rundir)
    assert len(computed) == 1
    assert said == [f"{KEY} is reused: its tables and options are the same. --force computes it again"]
    assert second[KEY].values == first[KEY].values
    assert second[KEY].notes == first[KEY].notes
    assert second[KEY].tables["one"].equals(first[KEY].tables["one"])


def test_force_computes_again(rundir, computed):
    analyze(rundir)
    _, said = analyze(rundir, force=True)
    assert len(computed) == 2
    assert not said


@pytest.mark.parametrize("other", [{"bootstraps": 7}, {"seed": 3}, {"scores": ["first"]}])
def test_other_options_are_computed(rundir, computed, other):
    analyze(rundir)
    analyze(rundir, **other)
    assert len(computed) == 2
    analyze(rundir, **other)
    assert len(computed) == 2


def test_scores_are_kept_side_by_side(rundir, computed):
    analyze(rundir, scores=["prev_self_ratio", "first"])
    analyze(rundir, scores=["first", "prev_self_ratio"])
    assert [call["score"] for call in computed] == ["prev_self_ratio", "first"]


def test_a_changed_partition_is_computed(rundir, computed):
    before, _ = analyze(rundir)
    part = rundir.partitions("heads")[0]
    frame, metadata = read_partition(part)
    run, _, step = metadata["checkpoint"].rpartition("@")
    higher = frame.with_columns(pl.col("prev_self_ratio") + 1)
    own = {key: metadata[key] for key in metadata if key not in ("checkpoint", "seal")}
    rundir.write_partition("heads", run, int(step), higher, own)
    after, _ = analyze(rundir)
    assert len(computed) == 2
    assert after[KEY].values["mean"] > before[KEY].values["mean"]


def test_a_partition_that_is_gone_is_computed(rundir, computed):
    analyze(rundir)
    rundir.partitions("heads")[-1].unlink()
    analyze(rundir)
    assert len(computed) == 2


@pytest.mark.parametrize("part", ["code", "versions"])
def test_another_version_is_computed(rundir, computed, monkeypatch, part):
    analyze(rundir)
    made = reuse.making
    monkeypatch.setattr(reuse, "making", lambda options: made(options) | {part: "another"})
    analyze(rundir)
    assert len(computed) == 2


def test_a_result_of_an_older_headway_is_computed(rundir, computed):
    first, _ = analyze(rundir)
    replace(first[KEY], made={}).save(rundir)
    analyze(rundir)
    assert len(computed) == 2


@pytest.mark.parametrize("name", ["prev_self_ratio.json", "prev_self_ratio.one.parquet"])
def test_a_damaged_result_is_computed(rundir, computed, name):
    analyze(rundir)
    (rundir.analysis / "development" / name).write_bytes(b"{}")
    again, _ = analyze(rundir)
    assert len(computed) == 2
    assert Result.load(rundir, "development", "prev_self_ratio").values == again[KEY].values


def test_every_edit_of_the_code_changes_its_hash(tmp_path):
    hashes = []
    for index, text in enumerate(["a = 1\n", "a = 2\n"]):
        package = tmp_path / str(index)
        package.mkdir()
        (package / "one.py").write_text(text)
        hashes.append(reuse.code(package))
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "two.py").write_text("a = 1\n")
    assert len({*hashes, reuse.code(moved)}) == 3


def test_options_are_compared_as_they_are_saved(rundir, monkeypatch):
    """Roles are given as a list or a tuple, and read back from JSON as a list."""
    made = reuse.making({"roles": ("a=prev",), "seed": 0})
    Result("toy", "one", sources={"heads": "x"}, made=made).save(rundir)
    assert reuse.saved(rundir, "toy", {"heads": "x"}, reuse.making({"roles": ["a=prev"], "seed": 0}))
    assert not reuse.saved(rundir, "toy", {"heads": "y"}, made)
