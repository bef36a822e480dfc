"""A partition and a table of an analysis open in polars, in pandas and, as CSV, in R."""

import shutil
import subprocess

import pandas as pd
import polars as pl
import pytest

from headway.store.directory import RunDirectory
from headway.studies import Result
from headway.sweep import store

ROWS = pl.DataFrame({"run": ["a", "a"], "step": [143000, 143000], "prev": [0.25, None]})


@pytest.fixture(params=["partition", "analysis"])
def table(request, tmp_path):
    """The path of a Parquet file that headway wrote with the rows above."""
    rundir = RunDirectory(tmp_path / "run")
    if request.param == "partition":
        store(ROWS, "heads", rundir, identity={"rows": 2})
    else:
        Result("development", "prev", tables={"rows": ROWS}).save(rundir)
    return next((tmp_path / "run").rglob("*.parquet"))


def test_polars_reads_it(table):
    assert pl.read_parquet(table).equals(ROWS)


def test_pandas_reads_it(table):
    read = pd.read_parquet(table)
    assert read["run"].tolist() == ["a", "a"]
    assert read["step"].tolist() == [143000, 143000]
    assert read["prev"].isna().tolist() == [False, True]
    assert read["prev"][0] == 0.25


def test_r_reads_its_csv(table, tmp_path):
    """headway exports no CSV, and R reads Parquet only with its package arrow. So pandas writes the CSV here."""
    rscript = shutil.which("Rscript") or pytest.skip("R is not installed")
    pd.read_parquet(table).to_csv(tmp_path / "rows.csv", index=False)
    says = 'd <- read.csv("rows.csv"); cat(names(d), d$run, d$step[2], d$prev[1], is.na(d$prev[2]))'
    read = subprocess.run([rscript, "-e", says], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert read == "run step prev a a 143000 0.25 TRUE"
