"""Several suites in one run directory: nothing of one suite touches another, and what cannot be compared is refused."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest

from headway.errors import RunDirectoryError
from headway.store.directory import RunDirectory
from headway.store.suite_folders import SeveralSuites, of_suite, suites_of
from headway.sweep import run, status, store
from headway.sweep.comparable import conflicts
from support_sweep import Squares, expected, found, grid


def of(suite: str, runs: int = 2, steps: int = 2):
    return [dataclasses.replace(one, suite=suite) for one in grid(runs, steps)]


@dataclass
class Scored(Squares):
    """A job with the settings of scores."""

    stated: dict[str, Any] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        return super().identity() | self.stated


def test_runs_of_one_name_in_two_suites_do_not_collide(tmp_path):
    rundir = RunDirectory(tmp_path)
    run(Squares(), of("one"), rundir)
    run(Squares(factor=3), of("two"), rundir)
    every = suites_of(rundir)
    assert list(every) == ["one", "two"]
    assert found(every["one"].read("heads")) == expected(of("one"))
    assert found(every["two"].read("heads")) == expected(of("two"), factor=3)
    together = SeveralSuites(rundir).read("heads")
    assert together.group_by("suite").len().sort("suite").rows() == [("one", 12), ("two", 12)]


def test_each_suite_resumes_where_it_was_stopped(tmp_path):
    rundir = RunDirectory(tmp_path)
    for name in ("one", "two"):
        run(Squares(), of(name), rundir)
    for lost in (
        "heads/toy-1m-seed1@0.parquet",
        "suites/two/heads/toy-1m-seed2@10.parquet",
        "suites/two/heads/toy-1m-seed1@0.parquet",
    ):
        (tmp_path / lost).unlink()
    assert [(one.suite, one.done, one.planned) for one in status(rundir)] == [("one", 3, 4), ("two", 2, 4)]
    again = {name: run(Squares(), of(name), rundir) for name in ("one", "two")}
    assert {name: (one.done, one.reused) for name, one in again.items()} == {"one": (1, 3), "two": (2, 2)}


def test_a_failure_of_one_suite_is_none_of_the_other(tmp_path):
    rundir = RunDirectory(tmp_path)
    run(Squares(), of("one"), rundir)
    run(Squares(faults={"toy-1m-seed1@0": "missing"}), of("two"), rundir)
    assert [len(one.failed) for one in status(rundir)] == [0, 1]


def test_a_directory_of_one_suite_is_as_it_always_was(tmp_path):
    run(Squares(), of("one"), RunDirectory(tmp_path))
    assert not (tmp_path / "suites").exists()
    assert len(list((tmp_path / "heads").iterdir())) == 4


@pytest.mark.parametrize(
    ("name", "there", "now"),
    [
        ("corpus", {"name": "a", "sha256": "c0ffee"}, {"name": "b", "sha256": "beef"}),
        ("definitions", 3, 4),
        ("add_bos", False, True),
        ("repeated", {"length": 8}, {"length": 9}),
        ("formulas", {"mine": "x", "other": "y"}, {"mine": "z"}),
    ],
)
def test_settings_that_forbid_a_comparison_are_refused_by_name(tmp_path, name, there, now):
    rundir = RunDirectory(tmp_path)
    run(Scored(stated={name: there}), of("one"), rundir)
    with pytest.raises(RunDirectoryError, match=f"suite one with another setting.*{name} is .*--out"):
        run(Scored(stated={name: now}), of("two"), rundir)
    assert not (tmp_path / "suites").exists()
    with pytest.warns(UserWarning, match="will not be compared"):
        run(Scored(stated={name: now}), of("two"), rundir, force=True)
    assert len(suites_of(rundir)["two"].partitions("heads")) == 4


def test_settings_that_may_differ_do():
    one = {
        "suite": "a",
        "scores": ["prev"],
        "repeated": None,
        "corpus": {"name": "x", "sha256": "1"},
        "formulas": {"mine": "x"},
    }
    other = {
        "suite": "b",
        "scores": ["self"],
        "repeated": {"length": 3},
        "corpus": {"name": "y", "sha256": "1"},
        "formulas": {"own": "y"},
    }
    assert conflicts(one, other) == []


def test_a_suite_with_a_strange_name_has_a_folder_of_its_own(tmp_path):
    rundir = RunDirectory(tmp_path)
    for name in ("one", "a/b", "a-b", ".."):
        run(Squares(), of(name), rundir)
    assert set(suites_of(rundir)) == {"one", "a/b", "a-b", ".."}
    assert len({place.path for place in suites_of(rundir).values()}) == 4
    assert all(place.path.resolve().is_relative_to(tmp_path.resolve()) for place in suites_of(rundir).values())


def test_imported_rows_without_a_suite_join_the_only_one_that_lacks_them(tmp_path):
    rundir = RunDirectory(tmp_path)
    run(Squares(table="clusters"), of("one"), rundir)
    assert of_suite(rundir, "published", ["heads"]).path == tmp_path
    assert of_suite(rundir, "published", ["clusters"]).path == tmp_path / "suites" / "published"
    assert of_suite(rundir, "other", ["heads"]).path == tmp_path / "suites" / "other"


def test_measured_clusters_join_imported_heads(tmp_path):
    rundir = RunDirectory(tmp_path)
    run(Squares(), of("made"), RunDirectory(tmp_path / "made"))
    store(
        RunDirectory(tmp_path / "made").read("heads"), "heads", rundir, identity={"suite": "published", "imported": []}
    )
    assert of_suite(rundir, "one", ["clusters"]).path == tmp_path
    assert of_suite(rundir, "one", ["heads"]).path == tmp_path / "suites" / "one"
