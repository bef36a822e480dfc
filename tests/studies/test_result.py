"""A study's result survives its files, and damage to them is said."""

import numpy as np
import polars as pl
import pytest

from headway.errors import RunDirectoryError, StorageError
from headway.rundir import RunDirectory
from headway.studies import Result


def result() -> Result:
    values = {"lmm": {"n": np.int64(3), "p": np.float64("nan"), "ok": np.bool_(True), "list": (1.5, np.inf)}}
    return Result("toy", values, {"curve": pl.DataFrame({"x": [0.5, 1.5]})}, ["one note"])


def test_a_result_is_read_back_as_it_was(tmp_path):
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    back = Result.load(rundir, "toy")
    assert back.values == {"lmm": {"n": 3, "p": None, "ok": True, "list": [1.5, None]}}
    assert back.notes == ["one note"]
    assert back.tables["curve"].equals(result().tables["curve"])


def test_tables_of_an_earlier_analysis_go_away(tmp_path):
    rundir = RunDirectory(tmp_path)
    Result("toy", {}, {"old": pl.DataFrame({"x": [1]})}).save(rundir)
    result().save(rundir)
    assert sorted(path.name for path in rundir.analysis.iterdir()) == ["toy.curve.parquet", "toy.json"]


def test_a_result_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RunDirectoryError, match="headway analyze"):
        Result.load(RunDirectory(tmp_path), "toy")


@pytest.mark.parametrize("damage", ["{", '{"study": "toy"}'])
def test_damaged_json_is_said(tmp_path, damage):
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    (rundir.analysis / "toy.json").write_text(damage)
    with pytest.raises(StorageError, match="damaged"):
        Result.load(rundir, "toy")


def test_a_damaged_table_is_said(tmp_path):
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    (rundir.analysis / "toy.curve.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(StorageError, match="damaged"):
        Result.load(rundir, "toy")


def test_a_table_name_cannot_leave_the_directory(tmp_path):
    with pytest.raises(RunDirectoryError):
        Result("toy", {}, {"../out": pl.DataFrame({"x": [1]})}).save(RunDirectory(tmp_path))
