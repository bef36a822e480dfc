"""The published study's models, asked of induction heads: headway agrees with R on the published rows."""

import json
from pathlib import Path

import polars as pl
import pytest

import headway

R = json.loads(Path(__file__).with_name("induction.json").read_text())
SIZES = ("14m", "70m", "160m")  # whole: 410m was measured to step 512

# Both sides fit the same rows; the CSV's numbers are exact. Estimates differ by where the optimisers stop (the variances
# to about 1e-6 relative), degrees of freedom and p besides by R's numerical derivatives.
ESTIMATE, DF, P = 2e-5, 2e-3, 2e-3


@pytest.fixture(scope="module")
def values(reference, tmp_path_factory):
    published = reference.parent / "pythia_induction" / "pythia_induction.csv.gz"
    if not published.exists():
        pytest.skip(f"the published induction scores are not at {published}")
    folder = tmp_path_factory.mktemp("induction")
    rows = pl.read_csv(published)
    rows.filter(pl.col("mpath").str.extract("-([^-]*)$").is_in(SIZES)).write_csv(folder / "rows.csv")
    headway.import_heads([folder / "rows.csv"], out=folder / "run")
    results = headway.analyze(folder / "run", scores=["induction"], studies=["development"], bootstraps=0)
    return results["development/induction"].values


@pytest.mark.parametrize("name", R["lmm"])
def test_mixed_models_of_induction_agree_with_r(values, name):
    ours, r = values["lmm"][name], R["lmm"][name]
    assert ours["n_obs"] == r["n_obs"]
    assert ours["criterion" if "criterion" in ours else "minus_two_log_lik"] == pytest.approx(r["criterion"], abs=1e-5)
    for (term, theirs), own in zip(r["fixed"].items(), ours["fixed"].values(), strict=True):
        for column in ("estimate", "std_error", "t"):
            assert own[column] == pytest.approx(theirs[column], rel=ESTIMATE, abs=1e-7), (term, column)
        assert own["df"] == pytest.approx(theirs["df"], rel=DF), term
        assert own["p"] == pytest.approx(theirs["p"], rel=P, abs=1e-12), term


@pytest.mark.parametrize("name", R["gam"])
def test_curves_of_induction_agree_with_r(values, name):
    ours, r = values["gam"][name], R["gam"][name]
    (smooth,) = ours["smooth"].values()
    assert ours["n"] == r["n"]
    assert ours["gcv"] == pytest.approx(r["gcv"], rel=1e-6)
    assert smooth["edf"] == pytest.approx(
        r["edf"], rel=1e-3
    )  # flat near its least, where mgcv stops at 1e-7 of the score
    assert ours["intercept"]["estimate"] == pytest.approx(r["intercept"], rel=1e-9)


def test_correlations_of_trajectories_agree_with_r(values):
    ours = values["ols"]["trajectory_correlation"]["coefficients"]
    for (term, theirs), own in zip(R["ols"]["trajectory_correlation"].items(), ours.values(), strict=True):
        assert own["estimate"] == pytest.approx(theirs, rel=1e-9), term
