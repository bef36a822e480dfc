"""A part is kept only while what it was computed from is what it was; what changed is computed anew, or said."""

import os
import re
import warnings
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from headway import sweep
from headway.cli import app
from headway.clusters import WeightClusters, predecessors
from headway.errors import RunDirectoryError
from headway.store.directory import RunDirectory
from headway.suites import Checkpoint, hub_http, open_suite, revisions
from headway.sweep import versions as versions_module
from hub_server import HubServer
from support_models import saved
from support_suites import REPO, checkpoint, small, weights
from support_sweep import Contents, Squares, expected, found, grid

CONTENT = small(model__safetensors=weights())


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "out")


def column(directory: RunDirectory, name: str) -> dict[int, object]:
    return dict(directory.read("heads").select("step", name).iter_rows())


def resumed(checkpoints: list[Checkpoint], directory: RunDirectory) -> tuple[int, int]:
    """How many were done and kept by a sweep that goes on, and that has nothing to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = sweep.run(Contents(), checkpoints, directory)
    assert not summary.failed
    return summary.done, summary.reused


# --- on the Hub -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two_steps(hub: HubServer) -> list[Checkpoint]:
    for step in range(2):
        hub.add(REPO, f"step{step}", CONTENT)
    return [checkpoint(f"step{step}", step=step) for step in range(2)]


def test_a_revision_that_was_pushed_again_under_its_name(hub: HubServer, two_steps, directory) -> None:
    assert resumed(two_steps, directory) == (2, 0)
    asked = len(hub.asked)
    assert resumed(two_steps, directory) == (0, 2)
    assert [one.path for one in hub.asked[asked:]] == [f"/api/models/{REPO}/refs"], "one question for all revisions"
    hub.add(REPO, "step1", small(model__safetensors=weights(7)))
    assert resumed(two_steps, directory) == (1, 1)
    assert column(directory, "first") == {0: 0.0, 1: 7.0}
    assert resumed(two_steps, directory) == (0, 2)


def test_a_commit_that_changes_nothing_that_is_read(hub: HubServer, two_steps, directory) -> None:
    resumed(two_steps, directory)
    hub.add(REPO, "step1", CONTENT | {"README.md": b"a word more"})
    assert resumed(two_steps, directory) == (0, 2)
    assert hub.sent("model.safetensors") == 1


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_small_file_that_was_pushed_again(hub: HubServer, two_steps, directory, name: str) -> None:
    resumed(two_steps, directory)
    hub.add(REPO, "step1", CONTENT | {name: b"{}"})
    assert resumed(two_steps, directory) == (1, 1)
    assert column(directory, name) == {0: CONTENT[name].decode(), 1: "{}"}


def test_a_tokenizer_that_another_revision_lends(hub: HubServer, directory) -> None:
    lent = {name: content for name, content in CONTENT.items() if name != "tokenizer.json"}
    hub.add(REPO, "step0", lent)
    hub.add(REPO, "main", {"tokenizer.json": b"before"})
    assert resumed([checkpoint()], directory) == (1, 0)
    hub.add(REPO, "main", {"tokenizer.json": b"after"})
    assert resumed([checkpoint()], directory) == (1, 0)
    assert column(directory, "tokenizer.json") == {0: "after"}


def test_a_hub_that_cannot_be_asked_costs_no_partition_and_is_named(hub, two_steps, directory, monkeypatch) -> None:
    resumed(two_steps, directory)
    hub.add(REPO, "step1", small(model__safetensors=weights(7)))
    for name, value, why in [
        ("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE is set"),
        ("HF_ENDPOINT", "http://127.0.0.1:9", "does not answer"),
    ]:
        with monkeypatch.context() as away:
            away.setenv(name, value)
            with pytest.warns(
                UserWarning, match=f"2 of 2 reused results could not be checked for changed inputs: .*{why}"
            ):
                assert sweep.run(Contents(), two_steps, directory).reused == 2
    assert len(hub.waited) == len(hub_http.PAUSES), "one wait is enough"
    assert resumed(two_steps, directory) == (1, 1)


def test_a_hub_that_is_away_is_not_waited_for_once_a_repository(hub: HubServer, monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    many = [checkpoint(repo=f"someone/toy-1m-seed{seed}") for seed in range(40)]
    assert set(revisions(many, {"weights"}).out_of_reach) == {one.key for one in many}
    assert len(hub.waited) <= 8 * len(hub_http.PAUSES), "eight are asked at once"


# --- in folders -----------------------------------------------------------------------------------------------------


@pytest.fixture
def in_folders(tmp_path: Path) -> list[Checkpoint]:
    run = tmp_path / "suite" / "toy-1m-seed1"
    for step in range(2):
        (run / f"step{step}").mkdir(parents=True)
        for name, content in CONTENT.items():
            (run / f"step{step}" / name).write_bytes(content)
    return open_suite(run.parent).checkpoints()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_small_file_of_a_folder(in_folders, directory, name: str) -> None:
    assert resumed(in_folders, directory) == (2, 0)
    assert resumed(in_folders, directory) == (0, 2)
    (in_folders[1].source.path / name).write_text("{}")
    assert resumed(in_folders, directory) == (1, 1)
    assert column(directory, name) == {0: CONTENT[name].decode(), 1: "{}"}


def test_a_tokenizer_that_a_run_shares(in_folders, directory) -> None:
    shared = in_folders[0].source.path.parent / "tokenizer.json"
    shared.write_text("before")
    (in_folders[1].source.path / "tokenizer.json").unlink()
    resumed(in_folders, directory)
    shared.write_text("after")
    assert resumed(in_folders, directory) == (1, 1)
    assert column(directory, "tokenizer.json") == {0: CONTENT["tokenizer.json"].decode(), 1: "after"}


def test_a_folder_that_was_only_touched(in_folders, directory) -> None:
    resumed(in_folders, directory)
    for name in CONTENT:
        os.utime(in_folders[1].source.path / name, (1, 1))
    assert resumed(in_folders, directory) == (0, 2)


def test_weights_that_are_gone_cost_no_partition_and_are_named(in_folders, directory) -> None:
    resumed(in_folders, directory)
    (in_folders[1].source.path / "model.safetensors").unlink()
    with pytest.warns(
        UserWarning, match="1 of 2 reused results could not be checked for changed inputs: .* holds no weights"
    ):
        assert sweep.run(Contents(), in_folders, directory).reused == 2


def test_changes_are_measured_anew_where_the_checkpoint_before_changed(tmp_path, directory) -> None:
    run = tmp_path / "suite" / "toy-1m-seed1"
    for step in range(3):
        saved(run / f"step{step}", "gpt_neox", seed=step)
    checkpoints = open_suite(run.parent).checkpoints()

    def clustered(into: RunDirectory, chosen: list[Checkpoint]) -> int:
        job = WeightClusters(features=("raw",), methods=("ward",), ks=(2,), nulls=0, previous=predecessors(chosen))
        return sweep.run(job, chosen, into).done

    assert clustered(directory, checkpoints) == 3
    saved(run / "step0", "gpt_neox", seed=9)
    assert clustered(directory, checkpoints[1:]) == 0, "which step its changes are from, each part says"
    assert clustered(directory, checkpoints) == 2
    anew = RunDirectory(tmp_path / "anew")
    clustered(anew, checkpoints)
    assert_frame_equal(directory.read("clusters"), anew.read("clusters"), check_exact=True)


# --- versions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch):
    """Has another version of torch installed, as far as this process can tell."""

    def install(torch: str) -> None:
        monkeypatch.setattr(versions_module, "version", lambda package: torch if package == "torch" else "1.2.3")
        versions_module.versions.cache_clear()

    yield install
    monkeypatch.undo()
    versions_module.versions.cache_clear()


def test_partitions_of_other_versions_are_kept_and_said(directory, installed) -> None:
    installed("2.12.0")
    sweep.run(Squares(), grid()[:4], directory)
    installed("2.12.1+cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep.run(Squares(), grid()[:6], directory)
    assert len(sweep.status(directory)[0].releases) == 1
    installed("2.13.0")
    with pytest.warns(
        UserWarning,
        match=r"of 6 reused results, other package versions computed 6 with .*torch 2\.12.* now are .*torch 2\.13.*--force",
    ):
        assert sweep.run(Squares(), grid(), directory).reused == 6
    said = [versions["torch"] for versions in directory.manifest().tables["heads"].versions]
    assert said == ["2.12.0", "2.12.1+cpu", "2.13.0"]
    [state] = sweep.status(directory)
    assert sorted(state.releases.values()) == [4, 6]
    printed = CliRunner().invoke(app, ["status", str(directory.path)]).stdout
    assert re.search(r"mixed +6 computed with .*torch 2\.12", printed)
    assert re.search(r"mixed +4 computed with .*torch 2\.13", printed)

    assert sweep.run(Squares(), grid(), directory, force=True).done == 6
    assert sweep.run(Squares(), grid(), directory, force=True).reused == 10, "what is anew is not computed again"
    assert len(sweep.status(directory)[0].releases) == 1


# --- another job ----------------------------------------------------------------------------------------------------


def test_partitions_of_another_job_are_never_read_with_the_others(directory, tmp_path) -> None:
    sweep.run(Squares(), grid()[:6], directory)
    other = RunDirectory(tmp_path / "other")
    sweep.run(Squares(factor=2), grid(), other)
    for part in other.partitions("heads")[4:7]:  # the last of them in place of nothing
        (directory.path / "heads" / part.name).write_bytes(part.read_bytes())
    with pytest.raises(
        RunDirectoryError,
        match=r"3 of 7 partitions in .* were computed from another .*such as toy-1m-seed1@40\.parquet.*--force",
    ):
        directory.read("heads")
    [state] = sweep.status(directory)
    assert (state.done, state.left, len(state.damaged)) == (4, 2, 3)
    sweep.run(Squares(), grid()[:6], directory, force=True)
    assert found(directory.read("heads")) == expected(grid()[:6])
