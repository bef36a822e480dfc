"""A sweep of several jobs reads each checkpoint once, and each table has its own partitions, settings and failures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from headway import sweep
from headway.errors import CheckpointError, RunDirectoryError
from headway.store.directory import RunDirectory
from support_sweep import Read, Squares, expected, found, grid


@dataclass
class Counted(Squares):
    """Notes each checkpoint that it reads, and which table was computed from whose input."""

    reads: list[str] = field(default_factory=list)

    @contextmanager
    def read(self, checkpoint) -> Iterator[Read]:
        self.reads.append(f"{self.table} {checkpoint.key}")
        with super().read(checkpoint) as read:
            yield read


def jobs(**of_second):
    reads: list[str] = []
    return [Counted("heads", reads=reads), Counted("abilities", factor=3, reads=reads, **of_second)], reads


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "out")


def test_a_checkpoint_is_read_once_for_all_tables(directory):
    both, reads = jobs()
    summary = sweep.run(both, grid(), directory)
    assert (summary.done, summary.reused, summary.failed) == (10, 0, [])
    assert sorted(reads) == sorted(f"abilities {one.key}" for one in grid())  # by the job that reads more
    assert found(directory.read("heads")) == expected(grid())
    assert found(directory.read("abilities")) == expected(grid(), factor=3)
    assert sweep.run(both, grid(), directory).reused == 10
    assert len(reads) == 10


def test_workers_write_all_tables(directory):
    both = [Squares("heads"), Squares("abilities", factor=3)]
    assert sweep.run(both, grid(), directory, executor=sweep.Processes(2)).done == 10
    assert found(directory.read("abilities")) == expected(grid(), factor=3)


def test_only_what_is_absent_is_computed(directory):
    both, reads = jobs()
    sweep.run(both[0], grid(), directory)
    directory.partition_path("heads", "toy-1m-seed1", 0).unlink()
    before = {path: path.stat().st_mtime_ns for path in directory.partitions("heads")}
    reads.clear()
    assert sweep.run(both, grid(), directory).done == 10
    assert len(reads) == 10
    assert {path: path.stat().st_mtime_ns for path in before} == before
    directory.partition_path("heads", "toy-1m-seed1", 10).unlink()
    reads.clear()
    assert sweep.run(both, grid(), directory).reused == 9
    assert reads == ["heads toy-1m-seed1@10"]  # the table of abilities is there, so its job reads nothing


def test_a_table_that_fails_leaves_the_others(directory):
    both, _ = jobs(faults={"toy-1m-seed1@10": "bug"})
    summary = sweep.run(both, grid(), directory)
    assert (summary.done, [one.table for one in summary.failed]) == (9, ["abilities"])
    assert found(directory.read("heads")) == expected(grid())
    assert (directory.failures("heads"), list(directory.failures("abilities"))) == ({}, ["toy-1m-seed1@10"])
    again = sweep.run(jobs()[0], grid(), directory)
    assert (again.done, again.reused) == (1, 9)
    assert directory.failures("abilities") == {}


def test_both_tables_may_fail_each_for_its_reason(directory):
    @dataclass
    class Refusing(Squares):
        def compute(self, checkpoint, input):
            raise CheckpointError(f"no {self.table}")

    summary = sweep.run([Refusing("heads"), Refusing("abilities")], grid()[:1], directory)
    assert len(summary.failed) == 1
    assert {table: directory.failures(table)["toy-1m-seed1@0"]["error"] for table in ("heads", "abilities")} == {
        "heads": "no heads",
        "abilities": "no abilities",
    }


def test_a_checkpoint_that_cannot_be_read_fails_for_all_tables(directory):
    both, _ = jobs(faults={"toy-1m-seed1@0": "missing"})
    assert [one.table for one in sweep.run(both, grid()[:2], directory).failed] == [""]
    assert list(directory.failures("heads")) == list(directory.failures("abilities")) == ["toy-1m-seed1@0"]


def test_one_table_of_other_settings_stops_all_before_anything_is_written(directory):
    sweep.run(Squares("abilities", factor=2), grid(), directory)
    with pytest.raises(RunDirectoryError, match="holds 'abilities' computed with other settings"):
        sweep.run(jobs()[0], grid(), directory)
    assert directory.tables() == ["abilities"]
    assert sweep.run(jobs()[0], grid(), directory, force=True).done == 10
    assert found(directory.read("abilities")) == expected(grid(), factor=3)
