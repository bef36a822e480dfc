"""Position across seeds: do the same layers and heads take the role in every run?"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from headway.stats.corrections import holm, over
from headway.studies.development.builder import ResultBuilder
from headway.studies.development.final import layer_maxima
from headway.studies.development.heads import SIZE_COLUMNS, Heads, largest_heads
from headway.studies.prose import LEVEL, between, p_text, percent, share_of
from headway.text import listed


def position(draft: ResultBuilder) -> None:
    """Adds the agreement of layers over seeds and where the top heads lie, each against chance."""
    rng = np.random.default_rng([draft.seed, 2])
    draft.tables["layer_agreement"] = layer_agreement(draft.heads, draft.bootstraps, rng)
    tops = top_heads(draft.heads)
    _say_shared(draft, tops)
    ranks = layer_ranks(draft.heads, tops)
    if ranks is None:
        reason = "no layer is there in all runs of a size, so layers cannot be ranked"
        draft.say_left_out("layer_ranks", reason, ["layer_ranks"])
    else:
        draft.tables["layer_ranks"] = ranks
    if not tops.height:
        draft.leave_out("beyond.position", NO_TOP_HEAD, ["top_head_depth", "depth_by_size", "same_place"])
        return
    draft.tables["top_head_depth"] = top_head_depth(draft.heads, tops)
    draft.tables["same_place"] = same_place(tops, draft.bootstraps, rng)
    p = depth_p(tops, draft.bootstraps, rng)
    agreement = draft.tables["layer_agreement"].drop_nulls("w")
    by_size = depth_by_size(draft.heads, tops, draft.bootstraps, rng)
    draft.tables["depth_by_size"] = by_size
    draft.put(
        "beyond.position",
        {"layer_agreement": agreement.to_dicts(), "depth_p": p, "depth_by_size": by_size.to_dicts()},
    )
    _say(draft, agreement, p)
    _say_by_size(draft, by_size)


def top_heads(heads: Heads) -> pl.DataFrame:
    """Each run's largest head at the final step, with `sixth`, the sixth of the depth that it lies in.

    A run in which several heads share the largest value has no top head.
    """
    top = largest_heads(heads.final).drop_nulls("layer")
    top = heads.runs.select("run").join(top, on="run", maintain_order="left")
    return top.with_columns(sixth=_sixth(pl.col("Layer"), pl.col("n_layers")))


NO_TOP_HEAD = "in no run is one head larger than all others at the final step"


def _say_shared(draft: ResultBuilder, tops: pl.DataFrame) -> None:
    """Says which runs have no top head although they have the final step."""
    runs = draft.heads.runs.filter("has_final_step", ~pl.col("run").is_in(tops["run"].to_list()))["run"].to_list()
    if runs and tops.height:
        named = ", ".join(runs[:3]) + (f" and {len(runs) - 3} more" if runs[3:] else "")
        draft.say_left_out(
            "top heads", f"of {named}: several heads share the largest value at the final step, so none is the top one"
        )


def _sixth(layer_number: pl.Expr, n_layers: pl.Expr) -> pl.Expr:
    return ((layer_number * 6 + n_layers - 1) // n_layers).cast(pl.Int64)


def _rank_matrices(heads: Heads) -> dict[str, tuple[pl.DataFrame, np.ndarray]]:
    """By model: its layers, and the rank of each layer's maximum within each run, 1 the largest: (seeds, layers).

    Layers that a run lacks are left out for all; a size without a common layer is left out.
    """
    found = {}
    for (model,), of in layer_maxima(heads).group_by("model", maintain_order=True):
        wide = of.pivot("run", index="layer", values="max").drop_nulls().sort("layer")
        if not wide.height:
            continue
        maxima = wide.drop("layer").to_numpy().T
        place = wide.select("layer").join(of.select("layer", "Layer", "prop_layer").unique(), on="layer")
        found[str(model)] = (place.sort("layer"), np.array([_ranks(run) for run in maxima]))
    return found


def _ranks(maxima: np.ndarray) -> np.ndarray:
    """1 for the largest; equal ones share the mean of their ranks."""
    return pl.Series(maxima).rank("average", descending=True).to_numpy()


def kendalls_w(ranks: np.ndarray) -> np.ndarray:
    """Kendall's W, corrected for ties, of ranks (..., judges, things): 0 no agreement, 1 the same order."""
    m, n = ranks.shape[-2:]
    spread = ((ranks.sum(axis=-2) - m * (n + 1) / 2) ** 2).sum(axis=-1)
    most = m * ((ranks - (n + 1) / 2) ** 2).sum(axis=(-2, -1))  # m² (n³ - n) / 12 without ties
    with np.errstate(invalid="ignore", divide="ignore"):
        return spread / most


def layer_agreement(heads: Heads, shuffles: int, rng: np.random.Generator) -> pl.DataFrame:
    """Kendall's W of the layers' maxima over the seeds of each size; chance shuffles the layers within each run."""
    rows = []
    for model, (_, ranks) in _rank_matrices(heads).items():
        m, n = ranks.shape
        row = {"model": model, "n_seeds": m, "n_layers": n}
        if m > 1 and n > 1:
            w = float(kendalls_w(ranks))
            row |= {"w": w, "chance": 1 / m, "mean_rank_correlation": (m * w - 1) / (m - 1)}
            if shuffles and np.isfinite(w):
                shuffled = rng.permuted(np.broadcast_to(ranks, (shuffles, m, n)), axis=2)
                row |= against(w, kendalls_w(shuffled))
        rows.append(row)
    columns = ("w", "chance", "chance_lower", "chance_upper", "p", "mean_rank_correlation")
    return _by_size(heads, rows, columns, ("n_seeds", "n_layers"))


def against(observed: float, chance: np.ndarray) -> dict[str, float]:
    """The 95% range of what chance gives, and p: the share of draws at least as large, the observed one included."""
    low, high = np.quantile(chance, [0.025, 0.975])
    # draws that equal the observed value up to rounding count as at least as large
    p = (1 + (chance >= observed - 1e-12).sum()) / (1 + len(chance))
    return {"chance_lower": low, "chance_upper": high, "p": p}


def _by_size(
    heads: Heads, rows: list[dict[str, Any]], floats: tuple[str, ...], others: tuple[str, ...]
) -> pl.DataFrame:
    schema = {"model": pl.String, **dict.fromkeys(floats, pl.Float64), **dict.fromkeys(others, pl.Int64)}
    frame = pl.DataFrame(rows, schema=schema)
    found = heads.sizes.select(SIZE_COLUMNS).join(frame, on="model", maintain_order="left")
    return found.with_columns(pl.col(floats).fill_nan(None))


def layer_ranks(heads: Heads, tops: pl.DataFrame) -> pl.DataFrame | None:
    """Each layer's mean rank over seeds (1: the largest maximum) and the share of runs whose top head it holds."""
    parts = []
    n_layers = dict(heads.sizes.select("model", "n_layers").rows())
    for model, (place, ranks) in _rank_matrices(heads).items():
        top_layers = tops.filter(pl.col("model") == model)["layer"]
        sd = ranks.std(axis=0, ddof=1) if len(ranks) > 1 else np.full(ranks.shape[1], np.nan)
        parts.append(
            place.with_columns(
                pl.lit(model).alias("model"),
                mean_rank=pl.Series(ranks.mean(axis=0)),
                sd_rank=pl.Series(sd).fill_nan(None),
                top_share=pl.Series([(top_layers == layer).mean() for layer in place["layer"]], dtype=pl.Float64),
                chance=pl.lit(1 / n_layers[model]),
            )
        )
    if not parts:
        return None
    joined = heads.sizes.select(SIZE_COLUMNS).join(pl.concat(parts), on="model", maintain_order="left_right")
    return joined.select(*SIZE_COLUMNS, "layer", "Layer", "prop_layer", "mean_rank", "sd_rank", "top_share", "chance")


def top_head_depth(heads: Heads, tops: pl.DataFrame) -> pl.DataFrame:
    """The share of runs whose top head lies in each sixth of the depth, by size and over all sizes.

    By chance every head of a run is as likely to be the top one: the share of heads in that sixth, with the 95% range
    of a share of so many runs (exact: a sum of independent draws with each run's own probability).
    """
    rows = []
    groups = [*tops.group_by("model", maintain_order=True)]
    if len(groups) > 1:
        groups.append((("all",), tops))
    for (model,), of in groups:
        chance_by_sixth = _chances(of).T
        size = of.row(0, named=True) if model != "all" else {"size": None, "n_params": None}
        for sixth in range(1, 7):
            chances = chance_by_sixth[sixth - 1]
            low, high = _share_range(chances)
            rows.append(
                {"model": model, "size": size["size"], "n_params": size["n_params"], "sixth": sixth, "depth": sixth / 6}
                | {"n": of.height, "share": float((of["sixth"] == sixth).mean() or 0)}
                | {"chance": float(chances.mean()), "chance_lower": low, "chance_upper": high}
            )
    return pl.DataFrame(rows, infer_schema_length=None)


def _chances(tops: pl.DataFrame) -> np.ndarray:
    """The share of each run's layers, hence of its heads, in each sixth of the depth: (runs, 6)."""
    sixths = [-(-6 * np.arange(1, n + 1) // n) for n in tops["n_layers"].cast(pl.Int64)]
    return np.array([[(layers == sixth).mean() for sixth in range(1, 7)] for layers in sixths])


def depth_p(tops: pl.DataFrame, shuffles: int, rng: np.random.Generator) -> float | None:
    """How often heads picked blindly spread over the sixths as unevenly as the top heads (chi-squared, simulated)."""
    chances = _chances(tops)
    expected = chances.sum(axis=0)
    possible = expected > 0
    if not shuffles or possible.sum() < 2:
        return None
    drawn = (rng.random((shuffles, len(chances), 1)) > np.cumsum(chances, axis=1)[:, :-1]).sum(axis=2)
    counts = (drawn[..., None] == np.arange(6)).sum(axis=1)
    observed = np.bincount(tops["sixth"].to_numpy() - 1, minlength=6)

    def unevenness(n: np.ndarray) -> np.ndarray:
        return ((n - expected)[..., possible] ** 2 / expected[possible]).sum(axis=-1)

    return against(float(unevenness(observed)), unevenness(counts))["p"]


def depth_by_size(heads: Heads, tops: pl.DataFrame, shuffles: int, rng: np.random.Generator) -> pl.DataFrame:
    """Where the top heads of each size lie: SIZE_COLUMNS, n, the least, median and largest layer / (n_layers - 1), p, p_holm.

    p is `depth_p` of that size alone, and p_holm corrects it over the sizes.
    """
    rows: list[dict[str, Any]] = []
    for (model,), of in tops.group_by("model", maintain_order=True):
        depth = (of["layer"] / (of["n_layers"] - 1).clip(1)).to_numpy()
        low, middle, high = np.quantile(depth, [0, 0.5, 1])
        row = {"model": model, "n": of.height, "lowest": low, "median": middle, "highest": high}
        rows.append(row | {"p": depth_p(of, shuffles, rng)})
    frame = _by_size(heads, rows, ("lowest", "median", "highest", "p"), ("n",))
    return frame.with_columns(p_holm=over(frame["p"], holm))


def _share_range(chances: np.ndarray) -> tuple[float, float]:
    """The central 95% of the share of successes in independent draws of unlike chances."""
    law = np.ones(1)
    for chance in chances:
        law = np.convolve(law, [1 - chance, chance])
    until = np.cumsum(law)
    low, high = np.searchsorted(until, 0.025), np.searchsorted(until, 0.975 - 1e-12)
    return float(low / len(chances)), float(high / len(chances))


def same_place(tops: pl.DataFrame, shuffles: int, rng: np.random.Generator) -> pl.DataFrame:
    """The share of pairs of seeds whose top heads have the same layer, and the same number within their layer.

    A head's number is arbitrary (heads of a layer are alike before training), so its agreement should be chance's;
    it is the check of the method.
    """
    rows = []
    for _, of in tops.group_by("model", maintain_order=True):
        first = of.row(0, named=True)
        pairs = np.array(list(combinations(range(of.height), 2)), dtype=int).reshape(-1, 2)
        for what, n in (("layer", first["n_layers"]), ("head", first["n_heads"])):
            row = {name: first[name] for name in SIZE_COLUMNS} | {"what": what, "n_pairs": len(pairs)}
            row |= dict.fromkeys(("share", "chance", "chance_lower", "chance_upper", "p"))
            if len(pairs):
                row |= {"share": _agreement(of[what].to_numpy(), pairs), "chance": 1 / n}
                if shuffles:
                    drawn = rng.integers(n, size=(shuffles, of.height))
                    row |= against(row["share"], _agreement(drawn, pairs))
            rows.append(row)
    floats = dict.fromkeys(("share", "chance", "chance_lower", "chance_upper", "p"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=floats, infer_schema_length=None)


def _agreement(places: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return (places[..., pairs[:, 0]] == places[..., pairs[:, 1]]).mean(axis=-1)


def _say(draft: ResultBuilder, agreement: pl.DataFrame, p: float | None) -> None:
    sixths = draft.tables["top_head_depth"]
    overall = sixths.filter(pl.col("model") == sixths["model"].last())
    fullest = overall.filter(pl.col("share") == pl.col("share").max())
    concentrated = None if p is None else p <= LEVEL
    draft.find(
        "position",
        "depth",
        _concentrated(concentrated, p),
        *_fullest(fullest),
        key=True,
        p=p,
        fullest=fullest.to_dicts(),
    )
    if agreement.height:
        tested = agreement.drop_nulls("p")
        n = tested.filter(pl.col("p") <= LEVEL).height
        draft.find(
            "position",
            "layers",
            f"Seeds agree on the order of the layers, beyond chance, in {share_of(n, tested.height, 'size')}."
            if tested.height
            else None,
            f"Kendall's W lies {between(agreement.select('size', 'w').rows(), '{:.2f}'.format)}; "
            "it is 1 where all seeds order the layers alike.",
            sizes=agreement.to_dicts(),
        )
    draft.find(
        "position",
        "caveat",
        "The layer itself need not be the reason: the same layers of all seeds also share their architecture and data.",
        "One head of each run is counted.",
    )


def _say_by_size(draft: ResultBuilder, by_size: pl.DataFrame) -> None:
    """Where each size's top heads lie: sizes of other depths may do otherwise than all together."""
    there = by_size.drop_nulls("median")
    if there.height < 2:
        return
    tested = there.drop_nulls("p_holm")
    clear = tested.filter(pl.col("p_holm") <= LEVEL)["size"].to_list()
    said = [
        f"{size} {percent(median)} ({percent(low)}–{percent(high)})"
        for size, median, low, high in there.select("size", "median", "lowest", "highest").rows()
    ]
    if not tested.height:
        answer = None
    elif clear:
        answer = f"By size, top heads favour some depths in {listed(clear)} (Holm’s correction)."
    else:
        answer = "In no single size are top heads concentrated beyond chance (Holm’s correction)."
    draft.find(
        "position",
        "depth_by_size",
        answer,
        f"The median depth (range over runs) is {listed(said)}; 100% is the last layer.",
        sizes=by_size.to_dicts(),
    )


def _concentrated(concentrated: bool | None, p: float | None) -> str | None:
    if concentrated is None:
        return None
    if concentrated:
        return f"Top heads favour some depths of the network over others ({p_text(p)})."
    return f"Top heads are not concentrated at any depth ({p_text(p)})."


_SIXTHS = ("first", "second", "third", "fourth", "fifth", "last")


def _fullest(fullest: pl.DataFrame) -> list[str]:
    """Sentences on the sixths of the depth that hold the most top heads, all of them with the same share."""
    names = listed([_SIXTHS[sixth - 1] for sixth in fullest["sixth"]])
    share, n = fullest.select("share", "n").row(0)
    if n == 1:
        return [f"The top head of the one run lies in the {names} sixth of the layers."]
    several = fullest.height > 1
    ranges = dict.fromkeys(
        f"{percent(chance)} (95% range {low * 100:.0f}–{high * 100:.0f}%)"
        for chance, low, high in fullest.select("chance", "chance_lower", "chance_upper").rows()
    )
    held = "sixths of the layers each hold" if several else "sixth of the layers holds"
    return [
        f"The {names} {held} {percent(share)} of the {n} runs' top heads{'' if several else ', more than any other'}.",
        f"By chance a single sixth holds {' or '.join(ranges)}.",
    ]
