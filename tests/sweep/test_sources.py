"""Runs of one name but of two places: never in one table unseen, unless their weights are the same."""

import json
import shutil
from pathlib import Path

import pytest

from headway import sweep
from headway.errors import RunDirectoryError
from headway.store.directory import RunDirectory
from headway.suites import Checkpoint, open_suite
from hub_server import HubServer
from support_suites import REPO, checkpoint, small, weights
from support_sweep import Contents


def saved_in(folder: Path, first: float = 1, steps: int = 3) -> list[Checkpoint]:
    """A suite in folders whose weights begin with `first`."""
    run = folder / "checkpoints" / "toy-1m-seed1"
    for step in range(steps):
        (run / f"step{step}").mkdir(parents=True)
        for name, content in small(model__safetensors=weights(first)).items():
            (run / f"step{step}" / name).write_bytes(content)
    return open_suite(run.parent).checkpoints()


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "out")


def run(checkpoints: list[Checkpoint], directory: RunDirectory, force: bool = False) -> tuple[int, int]:
    summary = sweep.run(Contents(), checkpoints, directory, force=force)
    assert not summary.failed
    return summary.done, summary.reused


def firsts(directory: RunDirectory) -> list[float]:
    return directory.read("heads").sort("step")["first"].to_list()


def test_another_suite_of_the_same_name_is_refused(tmp_path, directory) -> None:
    here, there = saved_in(tmp_path / "a"), saved_in(tmp_path / "b", first=7)
    run(here[:2], directory)
    manifest = directory.manifest()
    for selected in (there, there[:1], there[1:]):
        with pytest.raises(
            RunDirectoryError, match=r"toy-1m-seed1 from \S+/a/checkpoints.* is from \S+/b/check.*--force"
        ):
            run(selected, directory)
    assert firsts(directory) == [1, 1]
    assert directory.manifest() == manifest, "a refusal changes nothing"


def test_with_force_nothing_of_the_other_is_left(tmp_path, directory) -> None:
    here, there = saved_in(tmp_path / "a"), saved_in(tmp_path / "b", first=7)
    run(here, directory)
    assert run(there[1:], directory, force=True) == (2, 0)
    assert firsts(directory) == [7, 7]
    assert run(there, directory) == (1, 2)


def test_a_suite_that_was_moved_keeps_its_partitions(tmp_path, directory) -> None:
    here = saved_in(tmp_path / "a")
    run(here[:2], directory)
    shutil.move(tmp_path / "a", tmp_path / "b")
    moved = open_suite(tmp_path / "b" / "checkpoints").checkpoints()
    assert run(moved, directory) == (1, 2)
    assert directory.manifest().tables["heads"].sources == {"toy-1m-seed1": str(moved[0].source.path.parent)}


def test_a_moved_suite_whose_partitions_are_not_all_looked_at_is_refused(tmp_path, directory) -> None:
    run(saved_in(tmp_path / "a"), directory)
    with pytest.raises(RunDirectoryError, match="cannot be compared, in 2 partitions"):
        run(saved_in(tmp_path / "b")[:1], directory)


def test_a_run_that_comes_new_is_no_stranger(tmp_path, directory) -> None:
    run(saved_in(tmp_path / "a"), directory)
    other = tmp_path / "a" / "checkpoints" / "toy-1m-seed2"
    shutil.copytree(other.with_name("toy-1m-seed1"), other)
    assert run(open_suite(other.parent).checkpoints("seed=2"), directory) == (3, 0)
    assert set(directory.manifest().tables["heads"].sources) == {"toy-1m-seed1", "toy-1m-seed2"}


def test_another_owner_on_the_hub_is_refused(hub: HubServer, directory) -> None:
    fork = REPO.replace("someone", "another")
    for repo, first in ((REPO, 1), (fork, 7)):
        hub.add(repo, "step0", small(model__safetensors=weights(first)))
    run([checkpoint("step0")], directory)
    with pytest.raises(RunDirectoryError, match=f"from {REPO}, .* is from {fork}"):
        run([checkpoint("step0", repo=fork)], directory)


def test_the_manifest_names_the_commits_that_were_measured(hub: HubServer, directory) -> None:
    commits = {}
    for step in range(2):
        one = checkpoint(f"step{step}", step=step)
        commits[one.key] = hub.add(REPO, one.revision, small(model__safetensors=weights(step)))
        run([one], directory)
    entry = json.loads(directory.manifest_path.read_text())["tables"]["heads"]
    assert entry["sources"] == {checkpoint().run: REPO}
    assert entry["commits"] == commits
