"""Small-sample tests, intervals, explained variance, influence and marginal means, beside R and closed forms."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import chi2

from headway import stats
from headway.errors import StatisticsError

FOLDER = Path(__file__).parent / "r"
R = json.loads((FOLDER / "inference.json").read_text())
TABLES = {
    name: pl.DataFrame(columns, strict=False)
    for name, columns in json.loads((FOLDER / "mixed_models.json").read_text())["tables"].items()
}


def fits(part):
    return [pytest.param(case, id=f"{case['table']}: {case['formula']}") for case in R[part]]


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", fits("kenward_roger"))
def test_kenward_roger_agrees_with_pbkrtest(case):
    fit = stats.lmm(case["formula"], TABLES[case["table"]])
    tests = fit.tests("kenward-roger")
    assert tests["term"].to_list() == case["term"]
    # R's optimiser ends a relative 1e-6 from the optimum, and df are about ten times as sensitive.
    close(tests["std_error"], case["std_error"], 2e-6)
    close(tests["df"], case["df"], 2e-5)
    close(tests["p"], case["p"], 2e-5)
    if "f" in case:
        f = fit.inference("kenward-roger").f_test(np.eye(len(fit.beta))[1:], fit.beta)
        close([f.f, f.df_1, f.df_2], [case["f"], case["df_1"], case["df_2"]], 2e-5)
    half = (fit.confint(method="kenward-roger")["upper"] - fit.confint(method="kenward-roger")["lower"]) / 2
    assert (half > 1.95 * tests["std_error"]).all()  # wider than normal intervals


def test_kenward_roger_is_exact_in_a_balanced_design():
    rng = np.random.default_rng(0)
    data = pl.DataFrame({"g": np.repeat(np.arange(8), 5).astype(str), "f": np.repeat(["a", "b"], 20)})
    data = data.with_columns(y=pl.Series(np.repeat(rng.normal(size=8), 5) * 2 + rng.normal(size=40)))
    fit = stats.lmm("y ~ f + (1 | g)", data)
    # Groups are the units: a t test of their means, which has 6 df and needs no correction.
    means = data.group_by("g", "f", maintain_order=True).agg(pl.col("y").mean())
    expected = stats.ols("y ~ f", means)
    tests = fit.tests("kenward-roger")
    assert tests["df"][1] == pytest.approx(6, rel=1e-6)  # the optimum is found to 1e-8
    assert tests["p"][1] == pytest.approx(expected.coefficients["p"][1], rel=1e-6)


@pytest.mark.parametrize("case", fits("profiles"))
def test_profile_intervals_agree_with_lme4(case):
    fit = stats.lmm(case["formula"], TABLES[case["table"]])
    ours = fit.confint(method="profile")
    assert len(ours) == len(case["term"])
    width = np.array(case["upper"]) - np.array(case["lower"])
    # lme4 interpolates a profile, here with finer steps than its default. It is least exact where a variance is 0: there the
    # next test shows which of the two is right.
    tolerance = 5e-4 if fit.singular else 1e-5
    np.testing.assert_array_less(np.abs(ours["lower"] - np.array(case["lower"])) / width, tolerance)
    np.testing.assert_array_less(np.abs(ours["upper"] - np.array(case["upper"])) / width, tolerance)


@pytest.mark.parametrize(("table", "n_bounds"), [("none", 1), ("unbalanced", 2)])
def test_profile_bounds_lie_where_the_likelihood_has_fallen_by_the_quantile(table, n_bounds):
    fit = stats.lmm("y ~ x + (1 | g)", TABLES[table], "ML")
    bounds = fit.confint(method="profile").row(0)[1:][-n_bounds:]
    y, x = fit.frame.y, fit.x.matrix
    same = np.equal.outer(fit.frame.groups["g"].codes, fit.frame.groups["g"].codes)

    def deviance(log_sigma, sd):
        v = sd**2 * same + np.exp(2 * log_sigma) * np.eye(len(y))
        weighted = np.linalg.solve(v, np.column_stack([x, y]))
        rest = y - x @ np.linalg.solve(x.T @ weighted[:, :-1], x.T @ weighted[:, -1])
        return np.linalg.slogdet(v)[1] + rest @ np.linalg.solve(v, rest) + len(y) * np.log(2 * np.pi)

    start = np.log(fit.sigma)
    for bound in bounds:
        least = minimize_scalar(deviance, bracket=(start - 0.3, start), args=(bound,)).fun
        assert least - fit.criterion == pytest.approx(chi2.ppf(0.95, 1), rel=1e-6)  # both are minima, good to 1e-8


def test_profile_intervals_name_what_they_bound():
    fit = stats.lmm("y ~ x + (x | subject) + (1 | item)", TABLES["crossed"])
    assert fit.confint(method="profile")["term"].to_list() == [
        "sd_(Intercept)|subject", "cor_x.(Intercept)|subject", "sd_x|subject", "sd_(Intercept)|item", "sigma",
        "(Intercept)", "x",
    ]  # fmt: skip


def test_bootstrap_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(3)
    groups, covered = np.repeat(np.arange(12), 4), []
    for number in range(40):
        y = 1 + rng.normal(size=12)[groups] + 0.7 * rng.normal(size=48)
        fit = stats.lmm("y ~ 1 + (1 | g)", pl.DataFrame({"y": y, "g": groups.astype(str)}))
        interval = fit.confint(0.8, "bootstrap", n=40, seed=number)
        inside = (interval["lower"] <= np.array([1, 0.7, 1])) & (interval["upper"] >= np.array([1, 0.7, 1]))
        covered.append(inside.to_list())
    # 40 trials at 80% have a standard error of 6 points; percentile intervals of variances are a little too short.
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.8) < 0.19)
    assert interval["term"].to_list() == ["sd_(Intercept)|g", "sigma", "(Intercept)"]


def test_simulated_responses_have_the_moments_of_the_fit():
    fit = stats.lmm("y ~ x + (x | subject) + (1 | item)", TABLES["crossed"])
    draws = fit.simulate(4000, seed=1)
    # 4,000 draws: a mean is known to sd/63, a variance to 2.2%.
    sd = draws.std(axis=0)
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - fit.predict(random=False)), 5 * sd / 63)
    x = TABLES["crossed"]["x"].to_numpy()
    subject, item = fit.covariances["subject"], fit.covariances["item"]
    expected = subject[0, 0] + 2 * x * subject[0, 1] + x**2 * subject[1, 1] + item[0, 0] + fit.sigma**2
    np.testing.assert_allclose(sd**2, expected, rtol=0.12)


@pytest.mark.parametrize("case", fits("explained"))
def test_explained_variance_agrees_with_performance(case):
    fit = stats.lmm(case["formula"], TABLES[case["table"]])
    # the distance of R's optimum, as above
    close([*fit.r_squared, fit.icc], [case["marginal"], case["conditional"], case["icc"]], 1e-5)


@pytest.mark.parametrize("case", fits("influence"))
def test_influence_is_that_of_fits_without_the_level(case):
    fit = stats.lmm(case["formula"], TABLES[case["table"]])
    ours = stats.influence(fit, case["group"])
    assert ours["level"].to_list() == case["level"]
    close(ours.select(case["term"]).to_numpy(), case["estimates"], 1e-5)  # the distance of R's optimum
    close(ours["cook_d"], case["cook_d"], 1e-4)  # a square of a small difference


def test_a_level_without_which_there_is_no_model_has_no_influence():
    data = pl.DataFrame({"y": [1.0, 2, 3, 2, 5, 4, 3, 6], "g": list("aabbccdd"), "f": list("uuuuuuvv")})
    fit = stats.lmm("y ~ f + (1 | g)", data)
    assert stats.influence(fit, "g").filter(pl.col("cook_d").is_null())["level"].to_list() == [
        "d"
    ]  # f no longer varies


@pytest.mark.parametrize("case", fits("means"))
def test_marginal_means_and_contrasts_agree_with_emmeans(case):
    model = stats.lmm if "|" in case["formula"] else stats.ols
    fit = model(case["formula"], TABLES[case["table"]])
    means = stats.marginal_means(fit, case["of"], at=case["at"] or None, df=case["df_method"])
    place = {cell: number for number, cell in enumerate(zip(*case["levels"], strict=True))}
    order = [place[cell] for cell in means.levels]  # emmeans varies the first factor fastest
    for name in ("mean", "std_error", "df", "lower", "upper"):
        close(means.table[name], np.array(case[name])[order], 2e-5)  # the distance of R's optimum
    ours = means.contrasts(case["adjust"])
    pairs = {
        frozenset((tuple(a.split(" ")), tuple(b.split(" ")))): row
        for row, (a, b) in enumerate(name.split(" - ") for name in case["contrast"])
    }
    for row in ours.iter_rows(named=True):
        cells = [tuple(cell.split(":")) for cell in row["contrast"].split(" - ")]
        theirs = pairs[frozenset(cells)]
        close(abs(row["estimate"]), abs(case["estimate"][theirs]), 2e-5)
        close([row["std_error"], row["df"]], [case["contrast_std_error"][theirs], case["contrast_df"][theirs]], 2e-5)
        # R's ptukey is good to 1e-8 or so, which is all of a p that is smaller.
        np.testing.assert_allclose(row["p"], case["p"][theirs], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["formula"]) for case in R["weighted"]])
def test_weights_and_offsets_agree_with_r(case):
    table = TABLES["crossed"]
    mixed = "|" in case["formula"]
    if mixed:
        fit = stats.lmm(case["formula"], table, case["method"], weights="z")
        assert fit.criterion == pytest.approx(case["criterion"], abs=1e-7)  # flat at its minimum
        tests, tolerance = fit.fixed, 2e-5  # the distance of R's optimum
        own = [sd for number, sd in enumerate(case["sd"]) if len(case["sd"]) == len(fit.random) or number != 2]
        close(fit.random["sd"], own, tolerance)  # lme4 lists the correlation of (x | subject) third
        close(tests["df"], case["df"], tolerance)
        close(list(fit.scaled_residuals), case["scaled"], tolerance)
        close(fit.predict(table.head(5), random=False), case["population"], tolerance)
    else:
        fit = stats.ols(case["formula"], table, weights="z")
        tests, tolerance = fit.coefficients, 1e-9  # least squares in both
        for name in ("sigma", "r_squared", "adj_r_squared", "f", "log_lik"):
            close(getattr(fit, name), case[name], tolerance)
        close(list(fit.residual_quantiles), case["residuals"], tolerance)
    close(tests["estimate"], case["estimate"], tolerance)
    close(tests["std_error"], case["std_error"], tolerance)
    close(fit.fitted[:20], case["fitted"], tolerance)
    close(fit.predict(table.head(5)), case["predicted"], tolerance)


def test_whole_weights_count_rows_as_often():
    table = TABLES["unbalanced"].with_columns(w=pl.Series([1, 2, 3] * 86 + [1, 1]))
    repeated = table.select(pl.exclude("w").repeat_by("w").explode())
    once, often = stats.ols("y ~ x + f", table, weights="w"), stats.ols("y ~ x + f", repeated)
    np.testing.assert_allclose(once.beta, often.beta, rtol=1e-10)  # the same normal equations, rounded otherwise
    assert once.rss == pytest.approx(often.rss, rel=1e-10)


@pytest.mark.parametrize(
    ("formula", "weights", "words"),
    [
        ("y ~ x + (1 | g)", "q", "no column 'q' for the weights"),
        ("y ~ x + (1 | g)", "f", "the weights f are categorical"),
        ("y ~ x + (1 | g)", "x", "the weights x must be positive"),
        ("y ~ x + offset(f) + (1 | g)", None, "f is categorical, and an offset needs numbers"),
        ("y ~ x + offset(x, z) + (1 | g)", None, "takes one column or expression"),
        ("y ~ x - offset(x) + (1 | g)", None, "cannot be taken away"),
        ("y ~ x:offset(x) + (1 | g)", None, "can only be added"),
    ],
)
def test_bad_weights_and_offsets_are_named(formula, weights, words):
    with pytest.raises(StatisticsError, match=words):
        stats.lmm(formula, TABLES["unbalanced"], weights=weights)


def test_a_gam_has_no_offset_and_models_with_other_weights_are_not_compared():
    table = TABLES["unbalanced"].with_columns(w=pl.col("x").abs() + 1)
    with pytest.raises(StatisticsError, match="gam has no offsets"):
        stats.gam("y ~ s(x) + offset(z)", table)
    small, big = stats.lmm("y ~ x + (1 | g)", table, weights="w"), stats.lmm("y ~ x + z + (1 | g)", table)
    with pytest.raises(StatisticsError, match="offsets or weights"):
        stats.lrt(small, big)


@pytest.fixture(scope="module")
def fit():
    return stats.lmm("y ~ f + z + (1 | g)", TABLES["unbalanced"])


def test_bad_requests_are_named(fit):
    for call, words in (
        (lambda: fit.tests("kr"), "unknown degrees of freedom 'kr'"),
        (lambda: fit.confint(method="profiled"), "unknown method 'profiled'"),
        (lambda: fit.confint(0.99, "bootstrap", n=20), "take at least 200"),
        (lambda: stats.lmm("y ~ f + (1 | g)", TABLES["unbalanced"], "ML").tests("kenward-roger"), "for REML only"),
        (lambda: stats.influence(fit, "h"), "'h' is no group of"),
        (lambda: stats.marginal_means(fit, "z"), "'z' is no factor of"),
        (lambda: stats.marginal_means(fit, "f", at={"q": 1.0}), "a value of 'q'"),
        (lambda: stats.marginal_means(fit, "f").contrasts("sidak"), "unknown adjustment 'sidak'"),
        (lambda: fit.apa("q"), "no term 'q': it has"),
    ):
        with pytest.raises(StatisticsError, match=words):
            call()


def test_tables_for_papers(fit):
    tidy = fit.tidy()
    assert tidy.columns == ["term", "estimate", "std_error", "df", "t", "p", "lower", "upper"]
    latex, markdown = fit.to_latex(0.9), fit.to_markdown()
    assert latex.count(r"\\") == 5
    assert r"90\% CI" in latex
    assert markdown.splitlines()[0] == "| Term | Estimate | SE | df | t | p | 95% CI |"
    assert len(markdown.splitlines()) == 6
    row = tidy.row(3, named=True)
    assert fit.apa("z").startswith(f"b = {row['estimate']:.2f}, SE = {row['std_error']:.2f}, t({row['df']:.1f})")
    named = stats.ols("y ~ log10(n_params)", TABLES["unbalanced"])
    assert r"| log10(n\_params) |" in named.to_markdown()
    assert r"log10(n\_params) &" in named.to_latex()
