"""A study's result survives its files, and damage to them is said."""

import numpy as np
import polars as pl
import pytest

from headway.errors import RunDirectoryError, StorageError
from headway.store.directory import RunDirectory
from headway.studies import Result


def result() -> Result:
    values = {"lmm": {"n": np.int64(3), "p": np.float64("nan"), "ok": np.bool_(True), "list": (1.5, np.inf)}}
    return Result("toy", "one", values, {"curve": pl.DataFrame({"x": [0.5, 1.5]})}, ["one note"])


def test_a_result_is_read_back_as_it_was(tmp_path):
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    back = Result.load(rundir, "toy", "one")
    assert back.values == {"lmm": {"n": 3, "p": None, "ok": True, "list": [1.5, None]}}
    assert back.notes == ["one note"]
    assert back.tables["curve"].equals(result().tables["curve"])


def test_tables_of_an_earlier_analysis_go_away(tmp_path):
    rundir = RunDirectory(tmp_path)
    Result("toy", "one", {}, {"old": pl.DataFrame({"x": [1]})}).save(rundir)
    result().save(rundir)
    assert sorted(path.name for path in (rundir.analysis / "toy").iterdir()) == ["one.curve.parquet", "one.json"]


def test_a_result_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RunDirectoryError, match="headway analyze"):
        Result.load(RunDirectory(tmp_path), "toy", "one")


@pytest.mark.parametrize("damage", ["{", '{"study": "toy"}', "[]", "null", "3", "[" * 100_000])
def test_damaged_json_is_said(tmp_path, damage):
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    (rundir.analysis / "toy" / "one.json").write_text(damage)
    with pytest.raises(StorageError, match="is not whole"):
        Result.load(rundir, "toy", "one")


def test_a_damaged_table_is_said(tmp_path):
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    (rundir.analysis / "toy" / "one.curve.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(StorageError, match="is not whole"):
        Result.load(rundir, "toy", "one")


def test_a_torn_save_is_said(tmp_path, monkeypatch):
    """As after a kill between the tables and the JSON."""
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    json = (rundir.analysis / "toy" / "one.json").read_bytes()
    Result("toy", "one", {}, {"curve": pl.DataFrame({"x": [9.0]})}).save(rundir)
    (rundir.analysis / "toy" / "one.json").write_bytes(json)
    with pytest.raises(StorageError, match=r"one\.curve\.parquet is of another analysis.*Run `headway analyze"):
        Result.load(rundir, "toy", "one")


def test_an_edited_result_is_said(tmp_path):
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    path = rundir.analysis / "toy" / "one.json"
    path.write_text(path.read_text().replace('"n": 3', '"n": 4'))
    with pytest.raises(StorageError, match=r"one\.json was changed after it was saved"):
        Result.load(rundir, "toy", "one")


def test_a_result_under_another_name_is_said(tmp_path):
    rundir = RunDirectory(tmp_path)
    result().save(rundir)
    (rundir.analysis / "toy" / "one.json").rename(rundir.analysis / "toy" / "other.json")
    with pytest.raises(StorageError, match="holds the study 'toy' on 'one'"):
        Result.load(rundir, "toy", "other")


def test_results_on_several_subjects_stand_side_by_side(tmp_path):
    """One subject's name may begin with another's."""
    rundir = RunDirectory(tmp_path)
    for subject in ("prev", "prev_self"):
        Result("toy", subject, {"n": len(subject)}, {"curve": pl.DataFrame({"x": [len(subject)]})}).save(rundir)
    Result("toy", "prev", {"n": 0}).save(rundir)  # without a table
    assert Result.saved(rundir, "toy") == ["prev", "prev_self"]
    assert Result.load(rundir, "toy", "prev").tables == {}
    assert Result.load(rundir, "toy", "prev_self").tables["curve"]["x"].to_list() == [9]
    assert Result.saved(rundir, "other") == []


def test_findings_travel_through_files_and_are_taken_by_section(tmp_path):
    rundir = RunDirectory(tmp_path)
    made = result()
    made.find("growth", "rise", "It rises.", None, "By a lot.", n=np.int64(3), p=np.nan)
    made.find("onset", "first", "It starts early.", key=False)
    made.save(rundir)
    back = Result.load(rundir, "toy", "one")
    assert back.found == made.found
    (rise,) = back.findings("growth")
    assert (rise.answer, rise.more, rise.text) == ("It rises.", ["By a lot."], "It rises. By a lot.")
    assert (rise.name, rise.values) == ("rise", {"n": 3, "p": None})
    assert back.headline == [rise]


def test_a_result_knows_whether_its_tables_have_changed(tmp_path):
    rundir = RunDirectory(tmp_path)
    row = pl.DataFrame({"x": [1.0]})
    rundir.write_partition("heads", "a", 0, row, {})
    Result("toy", "one", {}, sources={"heads": rundir.contents("heads")}).save(rundir)
    loaded = Result.load(rundir, "toy", "one")
    assert loaded.changed_since(rundir) == []
    rundir.write_partition("heads", "a", 0, row, {})
    assert loaded.changed_since(rundir) == [], "the same numbers again"
    rundir.write_partition("heads", "a", 1, row, {})
    assert loaded.changed_since(rundir) == ["heads"]
    rundir.partition_path("heads", "a", 1).unlink()
    assert loaded.changed_since(rundir) == []
    rundir.write_partition("heads", "a", 0, pl.DataFrame({"x": [2.0]}), {})
    assert loaded.changed_since(rundir) == ["heads"]


def test_a_table_name_cannot_leave_the_directory(tmp_path):
    with pytest.raises(RunDirectoryError):
        Result("toy", "one", {}, {"../out": pl.DataFrame({"x": [1]})}).save(RunDirectory(tmp_path))
