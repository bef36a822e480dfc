"""Consistency: how alike the runs' trajectories are, within a size and between sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.stats.corrections import holm, over
from headway.studies.development.builder import NEEDS_BOOTSTRAPS, ResultBuilder
from headway.studies.development.fits import ols_values
from headway.studies.development.heads import RUN_COLUMNS, SIZE_COLUMNS, Heads
from headway.studies.development.position import against
from headway.studies.prose import LEVEL, capital, p_text, percent
from headway.text import listed

_MODELS = ("ols.trajectory_correlation", "ols.trajectory_correlation_between", "cor_test.n_params1_n_params2")
_TABLES = ("correlations", "correlation_means", "mds", "mds_centroids")
_FEWEST_STEPS = 3  # two points always correlate by 1 or -1


def consistency(draft: ResultBuilder) -> None:
    """Adds the correlations of the runs' trajectories, their models and tables, and their map in two dimensions."""
    if draft.heads.runs.height < 2:
        for path in (*_MODELS, "tables.mds_separation", "beyond.consistency"):
            draft.leave_out(path, "there is one run only, and nothing to compare its trajectory with", _TABLES)
        return
    draft.tables["correlations"] = correlations(draft.heads)
    pairs = draft.tables["correlations"].filter(~pl.col("same_run") & pl.col("cor").is_not_null())
    if not pairs.height:
        for path in (*_MODELS, "beyond.consistency"):
            reason = f"no two runs share {_FEWEST_STEPS} steps over which both change"
            draft.leave_out(path, reason, ["correlation_means"])
    else:
        _models(draft, pairs)
        draft.tables["correlation_means"] = correlation_means(pairs)
        _mean_tables(draft)
        _permutation(draft, pairs)
    draft.attempt("tables.mds_separation", lambda: _map(draft), ["mds", "mds_centroids"])
    _say(draft)
    _say_map(draft)


def correlations(heads: Heads) -> pl.DataFrame:
    """Pearson's correlation of the trajectories of every ordered pair of runs, over the steps that both have.

    `cor` is that of values, `cor_slopes` that of slopes between steps: any two trajectories that rise have values that
    correlate, and slopes only where they rise at the same time. None where they share fewer than three steps, or one of the
    two does not change.
    """
    cor, shared = _all_pairs(heads, "value")
    cor_slopes, _ = _all_pairs(heads, "slope")
    first, second = (place.ravel() for place in np.indices(cor.shape))
    names = heads.runs.select(RUN_COLUMNS).drop("seed_name")
    sides = [
        names[place.tolist()].rename({name: f"{name}{side}" for name in names.columns})
        for side, place in ((1, first), (2, second))
    ]
    columns = [f"{name}{side}" for name in names.columns for side in (1, 2)]
    return pl.concat(sides, how="horizontal").select(
        *columns,
        same_model=pl.col("model1") == pl.col("model2"),
        same_run=pl.col("run1") == pl.col("run2"),
        cor=pl.Series(cor.ravel()).fill_nan(None),
        cor_slopes=pl.Series(cor_slopes.ravel()).fill_nan(None),
        n_steps=pl.Series(shared.ravel()),
    )


def _all_pairs(heads: Heads, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Correlations of `column` between runs, and over how many steps: both (runs, runs)."""
    wide = heads.trajectories.pivot("run", index="step", values=column).sort("step").drop("step")
    x = wide.select(heads.runs["run"].to_list()).to_numpy().astype(float)
    rows = [_pearson(x[:, i : i + 1], x) for i in range(x.shape[1])]
    return np.array([cor for cor, _ in rows]), np.array([shared for _, shared in rows])


def _pearson(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of `x` (steps, 1) with each column of `y` (steps, runs) over the steps that both have, and their number."""
    both = np.isfinite(x) & np.isfinite(y)
    shared = both.sum(axis=0)

    def centred(values: np.ndarray) -> np.ndarray:
        return np.where(both, values - np.where(both, values, 0).sum(axis=0) / np.maximum(shared, 1), 0)

    def changes(values: np.ndarray) -> np.ndarray:
        return np.where(both, values, np.inf).min(axis=0) < np.where(both, values, -np.inf).max(axis=0)

    a, b = centred(x), centred(y)
    known = (shared >= _FEWEST_STEPS) & changes(x) & changes(y)
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    cor = (a * b).sum(axis=0) / np.where(known, scale, 1)
    return np.where(known, cor.clip(-1, 1), np.nan), shared


def _models(draft: ResultBuilder, pairs: pl.DataFrame) -> None:
    from headway import stats

    between = pairs.filter(~pl.col("same_model"))
    published = "cor ~ same_model + log10(n_params1) + log10(n_params2)"
    without = "cor ~ log10(n_params1) + log10(n_params2)"
    for name, formula, said, of in (
        ("trajectory_correlation", published, published, pairs),
        ("trajectory_correlation_between", without, f"{without}, different sizes only", between),
    ):
        if of["n_params1"].n_unique() < 2:
            draft.leave_out(f"ols.{name}", "it needs runs of two sizes with different n_params")
            continue
        fit = draft.attempt(f"ols.{name}", lambda formula=formula, of=of: stats.ols(formula, of))  # type: ignore[misc]
        if fit is not None:
            draft.put(f"ols.{name}", ols_values(fit, said))
    if pairs["n_params1"].n_unique() < 2:
        draft.leave_out("cor_test.n_params1_n_params2", "it needs runs of two sizes with different n_params")
        return
    x, y = (pairs[name].to_numpy().astype(float) for name in ("n_params1", "n_params2"))
    test = draft.attempt("cor_test.n_params1_n_params2", lambda: stats.cor_test(x, y))
    if test is not None:
        values = {"t": test.t, "df": test.df, "p": test.p, "ci95": [test.lower, test.upper], "cor": test.r}
        draft.put("cor_test.n_params1_n_params2", values)


def correlation_means(pairs: pl.DataFrame) -> pl.DataFrame:
    """Mean and SD of the correlation over ordered pairs of runs: of one size or of two, by size, by its difference."""
    difference = (pl.col("n_params1").cast(pl.Int64) - pl.col("n_params2").cast(pl.Int64)).abs()
    numbers = {"mean": pl.col("cor").mean(), "sd": pl.col("cor").std(), "n": pl.len()}
    groups = [
        pairs.group_by("same_model").agg(**numbers).sort("same_model"),
        pairs.group_by("same_model", model="model1", n_params="n_params1")
        .agg(**numbers)
        .sort("same_model", "n_params", "model"),
        pairs.filter(~pl.col("same_model"))
        .group_by(param_difference=difference)
        .agg(**numbers)
        .sort("param_difference"),
    ]
    names = ("same_model", "same_model_and_size", "param_difference")
    named = [of.with_columns(grouping=pl.lit(name)) for name, of in zip(names, groups, strict=True)]
    columns = ["grouping", "same_model", "model", "n_params", "param_difference", "mean", "sd", "n"]
    return pl.concat(named, how="diagonal").select(columns)


def _mean_tables(draft: ResultBuilder) -> None:
    means = draft.tables["correlation_means"]
    keys = size_keys(draft.heads)

    def rows(grouping: str) -> list[dict[str, Any]]:
        return means.filter(pl.col("grouping") == grouping).to_dicts()

    def truth(row: dict[str, Any]) -> str:
        return str(row["same_model"]).lower()

    by_same = {truth(row): {"mean": row["mean"], "sd": row["sd"]} for row in rows("same_model")}
    by_size: dict[str, dict[str, Any]] = {}
    for row in rows("same_model_and_size"):
        by_size.setdefault(truth(row), {})[keys[row["model"]]] = row["mean"]
    by_difference = {str(row["param_difference"]): row["mean"] for row in rows("param_difference")}
    draft.put("tables.cor_by_same_model", by_same)
    draft.put("tables.cor_by_same_model_and_size", by_size)
    draft.put("tables.cor_by_param_difference", by_difference)


def size_keys(heads: Heads) -> dict[str, str]:
    """What names a size in the JSON: its n_params as published, or its model where n_params do not tell sizes apart."""
    sizes = heads.sizes
    shared = sizes["n_params"].is_duplicated() | sizes["n_params"].is_null()
    return {
        model: model if same else str(n_params)
        for model, n_params, same in zip(sizes["model"], sizes["n_params"], shared, strict=True)
    }


def _map(draft: ResultBuilder) -> None:
    """Classical scaling of 1 - correlation over the steps that all runs have; centroids and separation of the sizes."""
    from headway import stats

    heads = draft.heads
    wide = heads.trajectories.pivot("run", index="step", values="value").drop("step")
    x = wide.select(heads.runs["run"].to_list()).drop_nulls().to_numpy()
    if len(x) < _FEWEST_STEPS or x.shape[1] < 3:
        raise StatisticsError(
            f"a map needs three runs and {_FEWEST_STEPS} steps that all of them have; "
            f"there are {x.shape[1]} and {len(x)}"
        )
    if (np.ptp(x, axis=0) == 0).any():
        still = heads.runs["run"][int(np.argmin(np.ptp(x, axis=0)))]
        raise StatisticsError(f"the trajectory of {still} does not change, so it has no correlation with others")
    distances = 1 - np.corrcoef(x, rowvar=False)
    points = towards_larger(stats.classical_mds(distances, k=2).points, heads.runs["n_params"])
    draft.tables["mds"] = heads.runs.select(RUN_COLUMNS).with_columns(
        x=pl.Series(points[:, 0]), y=pl.Series(points[:, 1])
    )
    centroids = separation(draft.tables["mds"])
    keys = size_keys(heads)
    rows = {keys[row["model"]]: row for row in centroids.to_dicts()}
    draft.put("tables.mds_separation", rows)
    rng = np.random.default_rng([draft.seed, 6])
    chance = separation_by_chance(draft.tables["mds"], draft.bootstraps, rng)
    draft.tables["mds_centroids"] = centroids.join(chance, on="model", how="left", maintain_order="left")
    apart = draft.attempt(
        "beyond.map", lambda: stats.permanova(distances, heads.runs["model"].to_numpy(), draft.bootstraps, rng)
    )
    if apart is not None:
        draft.put("beyond.map", apart._asdict())


def towards_larger(points: np.ndarray, n_params: pl.Series) -> np.ndarray:
    """The same points, each axis turned so that it grows with size: an axis of a map has no sign of its own."""
    size = np.log10(n_params.cast(pl.Float64).fill_null(1.0).to_numpy())
    return points * np.where((size - size.mean()) @ points < 0, -1, 1)


def separation(points: pl.DataFrame) -> pl.DataFrame:
    """Each size's centroid, its mean distance to the others' (`inter`), its runs' to it (`within`), and their ratio."""
    groups = [of for _, of in points.group_by("model", maintain_order=True)]
    sizes = [of.select(SIZE_COLUMNS).row(0, named=True) for of in groups]
    clouds = [of.select("x", "y").to_numpy() for of in groups]
    centroids = np.array([cloud.mean(axis=0) for cloud in clouds])
    rows = []
    for i, (size, cloud) in enumerate(zip(sizes, clouds, strict=True)):
        away = np.linalg.norm(np.delete(centroids, i, axis=0) - centroids[i], axis=1)
        within = float(np.linalg.norm(cloud - centroids[i], axis=1).mean())
        inter = float(away.mean()) if len(away) else None
        ratio = inter / within if inter is not None and len(cloud) > 1 and within > 0 else None
        x, y = centroids[i]
        rows.append(size | {"centroid_x": x, "centroid_y": y, "inter": inter, "within": within, "ratio": ratio})
    floats = dict.fromkeys(("centroid_x", "centroid_y", "inter", "within", "ratio"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=floats, infer_schema_length=None)


_CHANCE = {name: pl.Float64() for name in ("chance", "chance_lower", "chance_upper", "p", "p_holm")}


def separation_by_chance(points: pl.DataFrame, shuffles: int, rng: np.random.Generator) -> pl.DataFrame:
    """What exchanging the runs' sizes gives for each size's ratio: model, chance (mean), its 95% range, p, p_holm.

    The map stays as it is. Without shuffles, or of one size, all numbers are null.
    """
    models = points["model"].unique(maintain_order=True)
    labels = np.searchsorted(models.sort(), points["model"].to_numpy())
    names = models.sort()
    rows: list[dict[str, Any]] = [{"model": name} for name in names]
    if shuffles and len(names) > 1:
        x = points.select("x", "y").to_numpy()
        observed = _ratios(x, labels[None])[0]
        drawn = _ratios(x, rng.permuted(np.tile(labels, (shuffles, 1)), axis=1))
        for row, ratio, chance in zip(rows, observed, drawn.T, strict=True):
            if np.isfinite(ratio):
                row |= {"chance": float(chance.mean())} | against(float(ratio), chance)
    frame = pl.DataFrame(rows, schema={"model": pl.String(), **_CHANCE})
    return frame.with_columns(p_holm=over(frame["p"], holm))


def _ratios(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """`separation`'s ratio of each size for many labelings (draws, runs): (draws, sizes); not finite where undefined."""
    member = (labels[:, :, None] == np.arange(labels.max() + 1)).astype(float)
    n = member.sum(axis=1)
    centres = member.swapaxes(1, 2) @ x / n[..., None]
    own = np.take_along_axis(centres, labels[..., None], axis=1)
    within = (np.linalg.norm(x - own, axis=2)[..., None] * member).sum(axis=1) / n
    away = np.linalg.norm(centres[:, :, None] - centres[:, None], axis=3).sum(axis=2) / (member.shape[2] - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return away / np.where(n > 1, within, np.nan)


def _permutation(draft: ResultBuilder, pairs: pl.DataFrame) -> None:
    """Adds the test of the published comparison that counts runs, not pairs: sizes shuffled among the runs."""
    runs = draft.heads.runs["run"]
    place = {run: i for i, run in enumerate(runs)}
    cor = np.full((len(runs), len(runs)), np.nan)
    cor[[place[run] for run in pairs["run1"]], [place[run] for run in pairs["run2"]]] = pairs["cor"].to_numpy()
    labels = draft.heads.runs["model"].to_numpy()
    observed = _excess(cor, labels)
    if not np.isfinite(observed):
        draft.leave_out("beyond.consistency", "it needs pairs of runs of one size and pairs of different sizes")
        return
    if not draft.bootstraps:
        draft.leave_out("beyond.consistency", NEEDS_BOOTSTRAPS)
        return
    rng = np.random.default_rng([draft.seed, 5])
    drawn = np.array([_excess(cor, rng.permutation(labels)) for _ in range(draft.bootstraps)])
    p = against(observed, drawn[np.isfinite(drawn)])["p"]
    draft.put("beyond.consistency", {"difference": observed, "p": p})


def _excess(cor: np.ndarray, labels: np.ndarray) -> float:
    """Mean correlation of pairs with equal labels less that of the others, the diagonal and missing pairs left out."""
    there = np.isfinite(cor)
    same = labels[:, None] == labels
    if not (there & same).any() or not (there & ~same).any():
        return np.nan
    return float(cor[there & same].mean() - cor[there & ~same].mean())


def _say(draft: ResultBuilder) -> None:
    means = draft.values.get("tables", {}).get("cor_by_same_model")
    if not means:
        return
    within, across = (means[key]["mean"] if key in means else None for key in ("true", "false"))
    test = draft.values.get("beyond", {}).get("consistency")
    said = [
        f"by {mean:.2f} {where}"
        for mean, where in ((within, "within a size"), (across, "between sizes"))
        if mean is not None
    ]
    correlate = f"trajectories correlate {' and '.join(said)} on average."
    draft.find(
        "consistency",
        "correlation",
        _compared(test["difference"], test["p"]) if test else None,
        f"Their {correlate}" if test else capital(correlate),
        "Any two trajectories that rise correlate: only the difference counts." if test else None,
        _slopes_words(draft.tables["correlations"]),
        key=True,
        within=within,
        across=across,
        **(test or {}),
    )
    if test:
        draft.find(
            "consistency",
            "caveat",
            "The published table counts every pair of runs twice and as independent, so its p values are too small.",
            "This test shuffles the sizes among the runs. It does not say what makes sizes differ.",
        )


def _say_map(draft: ResultBuilder) -> None:
    """Whether the sizes lie apart on the map, all together and each of them."""
    test = draft.values.get("beyond", {}).get("map")
    if not test or test["p"] is None:
        return
    each = draft.tables["mds_centroids"].drop_nulls("p_holm")
    clear = each.filter(pl.col("p_holm") <= LEVEL)["size"].to_list()
    if test["p"] <= LEVEL:
        answer = f"Sizes lie apart on the map of runs ({p_text(test['p'])})."
    else:
        answer = f"Sizes do not lie apart on the map of runs ({p_text(test['p'])})."
    draft.find(
        "consistency",
        "map",
        answer,
        f"They explain {percent(test['r2'])} of the squared distances between runs (PERMANOVA, sizes exchanged among runs).",
        f"One by one, {listed(clear)} stand{'s' if len(clear) == 1 else ''} apart from the others (Holm’s correction)."
        if clear
        else "No size stands apart on its own (Holm’s correction).",
        "Sizes whose seeds scatter by different amounts can give this, too.",
        **test,
        sizes=each.to_dicts(),
    )


def _slopes_words(correlations: pl.DataFrame) -> str | None:
    """How slopes between steps correlate within a size and between sizes; None where either is not known."""
    apart = correlations.filter(~pl.col("same_run"))
    means = dict(apart.group_by("same_model").agg(pl.col("cor_slopes").mean()).rows())
    if means.get(True) is None or means.get(False) is None:
        return None
    return f"Their slopes between steps correlate by {means[True]:.2f} within a size and by {means[False]:.2f} between sizes."


def _compared(difference: float, p: float) -> str:
    if p > LEVEL:
        return f"Runs of one size do not develop more alike than runs of different sizes ({p_text(p)})."
    more = "more" if difference > 0 else "less"
    return f"Runs of one size develop {more} alike than runs of different sizes ({p_text(p)})."
