"""Studies that several processes share have the results that one process has."""

from pathlib import Path

import polars as pl
import pytest

import headway
from headway import api
from headway.errors import StatisticsError, UsageError
from headway.store.directory import RunDirectory
from headway.studies import STUDIES, Result
from headway.sweep import Processes
from headway.sweep.ray_tasks import RayTasks
from headway.workers import Worker
from support_report import heads_frame
from support_studies import write_heads


@pytest.fixture
def rundir(tmp_path):
    rundir = RunDirectory(tmp_path / "runs")
    with rundir.changing_manifest():
        pass  # a run directory has a manifest
    table = heads_frame(sizes=("1m", "5m")).with_columns(prev=pl.col("prev_self_ratio") / 3, first=pl.lit(0.1))
    return write_heads(rundir, table)


def saved(rundir: RunDirectory) -> dict[str, bytes]:
    return {str(path.relative_to(rundir.analysis)): path.read_bytes() for path in Path(rundir.analysis).rglob("*.*")}


def test_results_are_the_same_byte_for_byte(rundir, monkeypatch):
    monkeypatch.setattr("headway.sweep.executors._HEAVY", ())  # studies need no torch
    asked = {"scores": ["prev_self_ratio", "prev"], "bootstraps": 20, "force": True}
    alone = headway.analyze(rundir.path, **asked)
    files = saved(rundir)
    elsewhere = []
    ask = Worker.ask
    monkeypatch.setattr(Worker, "ask", lambda worker, call: elsewhere.append(call) or ask(worker, call))
    with Processes(2) as processes:
        shared = headway.analyze(rundir.path, executor=processes, **asked)
    assert elsewhere
    assert list(shared) == list(alone)
    assert len(alone) > 3
    assert {key: (one.values, one.found, one.sources, one.made) for key, one in shared.items()} == {
        key: (one.values, one.found, one.sources, one.made) for key, one in alone.items()
    }
    assert saved(rundir) == files


class Here(Processes):
    """Makes every part in this process, one after another."""

    def share(self, calls, tell):
        for number, call in enumerate(calls):
            tell(number, call())


def test_parts_are_made_apart_only_if_they_take_long(rundir, monkeypatch):
    made = []
    study = STUDIES["development"]
    monkeypatch.setitem(
        STUDIES, "development", lambda *args, part=None, **given: made.append(part) or study(*args, part=part, **given)
    )
    for bootstraps, parts in ((20, ["others", "matching"]), (0, [None])):
        headway.analyze(rundir.path, studies=("development", "roles"), bootstraps=bootstraps, executor=Here(2))
        assert made == parts
        made.clear()


def test_the_parts_of_a_study_are_saved_whatever_happens_to_another(rundir, monkeypatch):
    def fails(*_args, **_given):
        raise StatisticsError("no roles")

    monkeypatch.setitem(STUDIES, "roles", fails)
    with pytest.raises(StatisticsError, match="no roles"):
        headway.analyze(rundir.path, studies=("development", "roles"), bootstraps=20, executor=Here(2))
    (kept,) = Result.saved(rundir, "development")
    assert "matching" in Result.load(rundir, "development", kept).tables


def test_large_tables_stay_in_one_process(rundir, monkeypatch):
    monkeypatch.setattr(api, "_SHARED", 1)
    monkeypatch.setattr(Processes, "share", lambda *_: pytest.fail("the studies were shared"))
    assert headway.analyze(rundir.path, bootstraps=0, executor=Processes(2))


def test_studies_are_not_shared_by_ray(rundir):
    with pytest.raises(UsageError, match=r"give headway\.sweep\.Processes\(n\)"):
        headway.analyze(rundir.path, executor=RayTasks(None))
