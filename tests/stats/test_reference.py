"""Every statistic that the published study of previous-token attention prints, from its table of 86,400 heads."""

import json
import re

import numpy as np
import polars as pl
import pytest

from headway import stats


@pytest.fixture(scope="module")
def expected(reference):
    return json.loads((reference / "expected.json").read_text())


@pytest.fixture(scope="module")
def heads(reference):
    table = pl.read_csv(reference / "pythia_heads.csv.gz")
    return table.with_columns(model=pl.col("mpath").str.replace("EleutherAI/", ""))


@pytest.fixture(scope="module")
def trajectory(heads):
    """The strongest head of each run at each step."""
    run = ("model", "n_params", "step_modded", "seed_name")
    best = heads.group_by(*run, maintain_order=True).agg(pl.col("mean_prev_self_ratio").max())
    return best.with_columns(log_step=pl.col("step_modded").log10())


@pytest.fixture(scope="module")
def tables(heads, trajectory):
    final = heads.filter(pl.col("step_modded") == 143001)
    score = pl.col("mean_prev_self_ratio")
    z = final.with_columns(z=((score - score.mean()) / score.std()).over("mpath"))
    run = ("model", "n_params", "seed_name")
    return {
        "final_layer_by_size": z.group_by("mpath", "Layer", "n_params", "seed_name").agg(
            max_attention=pl.col("z").max()
        ),
        "final_depth": final.with_columns(prop_layer=pl.col("Layer") / pl.col("Layer").max().over("model")),
        "growth": trajectory,
        "onset": _onsets(trajectory),
        "peak": trajectory.group_by(*run, maintain_order=True).agg(max_attn=score.max()),
        "slope": _slopes(trajectory, run),
    }


def _onsets(trajectory):
    """The step of the first rise by more than a threshold (per decade of steps), averaged over 15 thresholds."""
    rises = trajectory.sort("step_modded").with_columns(
        rise=(pl.col("mean_prev_self_ratio").diff() / pl.col("log_step").diff()).over("model", "seed_name")
    )
    first = [
        rises.filter(pl.col("rise") > threshold)
        .group_by("model", "n_params", "seed_name")
        .agg(pl.col("step_modded").min())
        for threshold in 0.1 + 0.1 * np.arange(15)
    ]
    return pl.concat(first).group_by("model", "n_params", "seed_name").agg(m_step=(pl.col("step_modded") - 1).mean())


def _slopes(trajectory, run):
    rows = []
    for key, rows_of_run in trajectory.group_by(*run, maintain_order=True):
        fit = stats.ols("mean_prev_self_ratio ~ log_step", rows_of_run)
        rows.append((*key, float(fit.beta[1])))
    return pl.DataFrame(rows, schema=[*run, "estimate"], orient="row")


@pytest.fixture(scope="module")
def curves(trajectory):
    """Correlations (36, 36) of the runs' trajectories, with each run's size."""
    wide = trajectory.sort("step_modded").pivot(
        on="step_modded", index=["model", "n_params", "seed_name"], values="mean_prev_self_ratio"
    )
    values = wide.drop("model", "n_params", "seed_name").to_numpy()
    return wide["n_params"].to_numpy(), np.corrcoef(values)


@pytest.fixture(scope="module")
def pairs(curves):
    """One row for each ordered pair of different runs."""
    n_params, correlations = curves
    a, b = np.nonzero(~np.eye(len(n_params), dtype=bool))
    columns = {"n_params1": n_params[a], "n_params2": n_params[b], "cor": correlations[a, b]}
    return pl.DataFrame(columns).with_columns(same_model=pl.col("n_params1") == pl.col("n_params2"))


def matches(value, printed):
    """Whether a value is the printed one, to its last digit; `<2e-16` is an upper bound.

    R rounds a table of coefficients twice, first to so many decimals and then to so many digits: 0.226354 stands as
    2.263e-01. Half a unit of the last digit and a tenth covers both roundings.
    """
    if printed.startswith("<"):
        return value < float(printed[1:])
    mantissa, _, exponent = printed.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return abs(value - float(printed)) <= 0.6 * unit


MIXED = ("final_layer_by_size", "final_depth", "growth", "onset", "peak", "slope")


@pytest.mark.parametrize("name", MIXED)
def test_mixed_models(expected, tables, name):
    r = expected["lmm"][name]
    fit = stats.lmm(r["formula"], tables[name], method=r["method"])
    assert (fit.n_obs, fit.n_groups, fit.singular) == (r["n_obs"], r["groups"], r["singular"])
    assert fit.converged

    criteria = {
        "criterion": fit.criterion,
        "aic": fit.aic,
        "bic": fit.bic,
        "log_lik": fit.log_lik,
        "minus_two_log_lik": fit.criterion,
    }
    for key in criteria.keys() & r.keys():
        assert matches(criteria[key], r[key]), key
    assert r.get("df_resid", fit.df_resid) == fit.df_resid

    for key, value in fit.scaled_residuals._asdict().items():
        assert matches(value, r["scaled_residuals"][key]), key
    for row in fit.random.iter_rows(named=True):
        assert matches(row["variance"], r["random"][row["group"]]["variance"])
        assert matches(row["sd"], r["random"][row["group"]]["sd"])

    assert fit.fixed["term"].to_list() == list(r["fixed"])
    printed = _coefficient_rows(fit.summary(), list(r["fixed"]))
    for term, estimate, std_error, df, t, p in fit.fixed.iter_rows():
        texts = r["fixed"][term]
        for value, text in zip((estimate, std_error, t, p), (*texts[:2], *texts[3:]), strict=True):
            assert matches(value, text), (term, text)
        assert abs(df - float(texts[2])) < max(0.05, 0.5 * _unit(texts[2]))  # R's df come from numerical derivatives
        # the summary prints the very characters of R's
        assert [*printed[term][:2], *printed[term][3:]] == [*texts[:2], *texts[3:]]

    terms = fit.fixed["term"].to_list()
    for pair, text in r["correlation"].items():
        a, b = (terms.index(term) for term in pair.split("~"))
        assert matches(fit.correlation[a, b], text), pair


def _unit(printed):
    mantissa, _, exponent = printed.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def _coefficient_rows(summary, terms):
    """What stands behind each term in a printed table of coefficients, stars left out."""
    table = summary.split("Pr(>|t|)")[1].split("---")[0].splitlines()
    rows = {}
    for line in table:
        term = next((term for term in terms if line.startswith(f"{term} ")), None)
        if term:
            rows[term] = [word for word in re.sub(r"< ", "<", line.removeprefix(term)).split() if set(word) - set("*.")]
    return rows


def test_sizes_of_the_tables(expected, heads, tables):
    data = expected["data"]
    assert (heads.height, tables["final_depth"].height, tables["growth"].height) == (
        data["rows"],
        data["final_step_rows"],
        data["trajectory_rows"],
    )
    assert heads.select("model", "seed_name").n_unique() == data["runs"]
    assert heads["step_modded"].n_unique() == data["steps"]


@pytest.mark.parametrize("name", ["trajectory_correlation", "trajectory_correlation_between"])
def test_least_squares(expected, pairs, name):
    r = expected["ols"][name]
    rows = pairs if name == "trajectory_correlation" else pairs.filter(~pl.col("same_model"))
    fit = stats.ols(r["formula"].split(",")[0], rows)
    for key, value in fit.residual_quantiles._asdict().items():
        assert matches(value, r["residuals"][key]), key
    assert fit.coefficients["term"].to_list() == list(r["coefficients"])
    printed = _coefficient_rows(fit.summary(), list(r["coefficients"]))
    for term, *values in fit.coefficients.iter_rows():
        texts = r["coefficients"][term]
        assert all(matches(value, text) for value, text in zip(values, texts, strict=True)), term
        assert printed[term] == [text.replace("< ", "<") for text in texts]
    for key in ("sigma", "r_squared", "adj_r_squared", "f", "p"):
        assert matches(getattr(fit, key), r[key]), key
    assert (fit.df_resid, list(fit.f_df)) == (r["df_resid"], r["f_df"])


def test_correlation(expected, pairs):
    r = expected["cor_test"]["n_params1_n_params2"]
    test = stats.cor_test(pairs["n_params1"], pairs["n_params2"])
    assert test.df == r["df"]
    shown = zip((test.t, test.p, test.r, test.lower, test.upper), (r["t"], r["p"], r["cor"], *r["ci95"]), strict=True)
    assert all(matches(value, text) for value, text in shown)
    assert all(text in test.summary() for text in (r["t"], r["p"], r["cor"], *r["ci95"]))


def test_means_by_size_and_pair(expected, tables, pairs):
    r = expected["tables"]
    for name, table, column in (("peak_mean_by_size", "peak", "max_attn"), ("slope_mean_by_size", "slope", "estimate")):
        means = dict(tables[table].group_by("model").agg(pl.col(column).mean()).iter_rows())
        assert means.keys() == r[name].keys()
        assert all(matches(means[model], text) for model, text in r[name].items())
    for same, rows in pairs.group_by("same_model"):
        texts = r["cor_by_same_model"]["true" if same[0] else "false"]
        assert matches(rows["cor"].mean(), texts["mean"])
        assert matches(rows["cor"].std(), texts["sd"])
        by_size = r["cor_by_same_model_and_size"]["true" if same[0] else "false"]
        for size, mean in rows.group_by("n_params1").agg(pl.col("cor").mean()).iter_rows():
            assert matches(mean, by_size[str(size)])
    difference = (pl.col("n_params2") - pl.col("n_params1")).abs()
    between = pairs.filter(~pl.col("same_model")).group_by(difference.alias("d")).agg(pl.col("cor").mean())
    found = dict(between.iter_rows())
    assert {str(d) for d in found} == r["cor_by_param_difference"].keys()
    assert all(matches(mean, r["cor_by_param_difference"][str(d)]) for d, mean in found.items())


def test_separation_of_sizes_in_the_plane(expected, curves):
    n_params, correlations = curves
    r = expected["tables"]["mds_separation"]
    points = stats.classical_mds(1 - correlations, k=2).points
    sizes = [int(size) for size in r]
    centroids = {size: points[n_params == size].mean(axis=0) for size in sizes}
    # an axis of a scaling has no sign of its own: take R's from its first size
    first = r[str(sizes[0])]
    points = points * np.sign([float(first["centroid_x"]), float(first["centroid_y"])]) * np.sign(centroids[sizes[0]])
    centroids = {size: points[n_params == size].mean(axis=0) for size in sizes}
    for size in sizes:
        others = [centroids[other] for other in sizes if other != size]
        inter = np.mean([np.linalg.norm(other - centroids[size]) for other in others])
        within = np.linalg.norm(points[n_params == size] - centroids[size], axis=1).mean()
        shown = dict(zip(("centroid_x", "centroid_y"), centroids[size], strict=True))
        shown |= {"inter": inter, "within": within, "ratio": inter / within}
        for key, value in shown.items():
            assert matches(value, r[str(size)][key]), (size, key)
