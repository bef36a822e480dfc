"""The findings on the published questions: the final step, growth, onset, peak and slope."""

from __future__ import annotations

from typing import Any

import polars as pl

from headway.studies.development.builder import ResultBuilder
from headway.studies.development.intervals import PUBLISHED
from headway.studies.prose import LEVEL, between, capital, digits, ends, from_to, p_text, percent, share_of
from headway.text import listed

_MOST_NAMED = 3  # sizes in one sentence


def findings(draft: ResultBuilder) -> None:
    """Adds them; each answers one of the report's questions."""
    _layer(draft)
    _depth(draft)
    _growth(draft)
    if draft.heads.followed:
        _onset(draft)
        _by_size(draft, "peak", "Larger models peak {}", ("higher", "lower"), "The mean peak lies", "the peak")
        _by_size(
            draft,
            "slope",
            "Larger models rise {}",
            ("more steeply", "less steeply"),
            "The mean rise per tenfold training lies",
            "this rise",
        )


def _coefficient(draft: ResultBuilder, model: str, term: str) -> dict[str, Any] | None:
    fit = draft.values.get("lmm", {}).get(model)
    return (fit or {}).get("fixed", {}).get(term)


def _layer(draft: ResultBuilder) -> None:
    """In which layer of each size the largest head stands highest; where layers tie, none does."""
    layers = draft.tables["final_by_layer"]
    highest = layers.filter(pl.col("mean") == pl.col("mean").max().over("model"))
    alone = highest.filter(pl.len().over("model") == 1)
    tops = draft.heads.sizes.select("model", "size", "n_layers").join(alone, on="model", maintain_order="left")
    if not tops.height:
        return
    rows = tops.select("size", "n_layers", "layer", "prop_layer", "mean").to_dicts()
    draft.find(
        "final",
        "layer",
        f"The largest head stands at {from_to(_pairs(rows, 'prop_layer'), percent)} of the depth, averaged over seeds.",
        f"That is layer {listed([_layer_words(row) for row in rows])}." if len(rows) <= _MOST_NAMED else None,
        f"Its mean score lies {between(_pairs(rows, 'mean'))}.",
        sizes=rows,
    )


def _pairs(rows: list[dict[str, Any]], name: str) -> list[tuple[str, float]]:
    return [(row["size"], row[name]) for row in rows]


def _layer_words(row: dict[str, Any]) -> str:
    return f"{row['layer']} of 0–{row['n_layers'] - 1} ({row['size']})"


def _depth(draft: ResultBuilder) -> None:
    depth = _coefficient(draft, "final_depth", "prop_layer")
    if depth is None:
        return
    p, change = depth["p"], depth["estimate"]
    larger = "larger" if change > 0 else "smaller"
    if p is not None and p <= LEVEL:
        answer = f"Heads nearer the top of the network have {larger} scores ({p_text(p)})."
    else:
        answer = f"Heads show no clear trend with depth ({p_text(p)})."
    draft.find(
        "final",
        "depth",
        answer,
        f"From the bottom to the top, a straight line changes by {digits(change)}; it says little of where between.",
        estimate=change,
        p=p,
    )


def _growth(draft: ResultBuilder) -> None:
    means = {(model, step): mean for model, step, mean in draft.tables["trajectory_means"].select(_MEAN).rows()}
    rows = [
        {"size": size, "start": means[model, start], "final": means[model, final]}
        for model, size, start, final in draft.heads.sizes.select("model", "size", "start_step", "final_step").rows()
    ]
    starts, finals = _pairs(rows, "start"), _pairs(rows, "final")
    if all(start == final for start, final in draft.heads.sizes.select("start_step", "final_step").rows()):
        text = f"Only one step was measured: the largest head of a run stands {between(finals)} on average."
        draft.find("growth", "rise", text, key=True, sizes=rows)
        return
    growth = _coefficient(draft, "growth", "log10(step_modded)")
    draft.find(
        "growth",
        "rise",
        _rises(rows),
        f"Its mean over runs starts {between(starts)}, and ends {between(finals)}.",
        f"Tenfold training adds {digits(growth['estimate'])} (SE {growth['std_error']:.2g}, {p_text(growth['p'])})."
        if growth
        else None,
        key=True,
        sizes=rows,
    )


_MEAN = ("model", "step", "mean")


def _rises(rows: list[dict[str, Any]]) -> str:
    """In how many sizes the largest head is higher at the end than at the start."""
    n = sum(row["final"] > row["start"] for row in rows)
    return f"The largest head's score rises during training in {share_of(n, len(rows), 'size')}."


def _onset(draft: ResultBuilder) -> None:
    """What is known of the published onset: whether it goes with size, how much of that the grid decides, its means."""
    heads = draft.heads
    means = draft.values["tables"]["onset_mean_by_size"]
    names = dict(heads.sizes.select("model", "size").rows())
    steps = [(names[model], step) for model, step in means.items() if step is not None]
    if not steps:
        least = draft.values["thresholds"]["levels"][0]
        text = f"No run rises faster than {least:g} per tenfold training between two steps, so none has an onset."
        draft.find("onset", "published", text, key=True)
        return
    between_steps = heads.trajectories.drop_nulls("slope").select("step_before", "step").unique()
    if between_steps.height == 1:
        low, high = between_steps.row(0)
        text = f"Every onset lies between steps {low:,} and {high:,}: no others were measured."
        draft.find("onset", "published", text, key=True, lower=low, upper=high)
        return
    decades, words = heads.size_step
    fit = _coefficient(draft, "onset", "log10(n_params)")
    factor = None if fit is None else 10 ** (decades * fit["estimate"])
    bounds = _bounds(draft, decades)
    draft.find(
        "onset",
        "published",
        *_earlier(fit, factor, bounds, words),
        _mean_onset(steps),
        key=True,
        onset=dict(steps),
        factor=factor,
        p=fit["p"] if fit else None,
        bounds=bounds,
    )
    _thresholds_passed(draft)
    _pairs_apart(draft, names)


def _mean_onset(steps: list[tuple[str, float]]) -> str:
    low, high = ends(steps, "{:,.0f}".format)
    where = f"at step {low}" if low == high else f"between steps {low} and {high}"
    return f"The mean onset lies {where}."


def _earlier(
    fit: dict[str, Any] | None, factor: float | None, bounds: tuple[float, float] | None, words: str
) -> list[str]:
    """Whether larger models start earlier: not known where the gaps between checkpoints allow either."""
    open_ended = bounds is not None and bounds[0] < 1 < bounds[1]
    said = []
    if open_ended:
        said.append("The checkpoints are too far apart to tell whether larger models start earlier.")
    elif fit is not None and factor is not None and fit["p"] is not None and fit["p"] <= LEVEL:
        said.append(f"Larger models start {'earlier' if factor < 1 else 'later'} ({p_text(fit['p'])}).")
    elif fit is not None:
        said.append(f"Whether larger models start earlier or later cannot be told ({p_text(fit['p'])}).")
    if factor is not None:
        taken = ", each onset taken at the end of its gap" if open_ended else ""
        said.append(f"{capital(words)} changes the onset step by a factor of {factor:.2g}{taken}.")
    if bounds is not None:
        true = "could be anything" if open_ended else "lies somewhere"
        said.append(
            f"Given the gaps between checkpoints, the true factor {true} from {bounds[0]:.2g} to {bounds[1]:.2g}."
        )
    return said


def _bounds(draft: ResultBuilder, decades: float) -> tuple[float, float] | None:
    """The least and the greatest factor by which the published onset can change with size, where both exist."""
    table = draft.tables.get("onset_relations", pl.DataFrame(schema={"definition": pl.String}))
    rows = table.filter(pl.col("definition") == PUBLISHED).to_dicts()
    if not rows or rows[0]["bound_lower"] is None or rows[0]["bound_upper"] is None:
        return None
    low, high = (10 ** (decades * rows[0][end]) for end in ("bound_lower", "bound_upper"))
    return low, high


def _thresholds_passed(draft: ResultBuilder) -> None:
    """How many thresholds no run passes."""
    passed = draft.tables["onset_thresholds"].group_by("threshold").agg(n=pl.col("step").count())
    never = passed.filter(pl.col("n") == 0).height
    if never:
        text = f"No run passes {never} of the {passed.height} thresholds: its onset is a mean over the others."
        draft.find("onset", "thresholds", text, n_never=never, n=passed.height)


def _pairs_apart(draft: ResultBuilder, names: dict[str, str]) -> None:
    """How many pairs of sizes differ in onset, and whether one size is behind all of them."""
    power = draft.tables.get("seed_power")
    tested = power.filter((pl.col("outcome") == "onset") & pl.col("p").is_not_null()) if power is not None else None
    if tested is None or tested.height < 2:
        return
    apart = [{row["model1"], row["model2"]} for row in tested.filter(pl.col("p") < LEVEL).to_dicts()]
    common = set.intersection(*apart) if len(apart) > 1 else set()
    alone = f", all of them pairs with {names[common.pop()]}" if common else ""
    text = f"A t test tells {len(apart) or 'none'} of {tested.height} pairs of sizes apart by their onset{alone}."
    draft.find("onset", "pairs", text, n_apart=len(apart), n_pairs=tested.height)


def _by_size(draft: ResultBuilder, outcome: str, claim: str, ways: tuple[str, str], lies: str, what: str) -> None:
    """Whether an outcome goes with size, and its means."""
    names = dict(draft.heads.sizes.select("model", "size").rows())
    means = draft.values["tables"][f"{outcome}_mean_by_size"]
    each = [(names[model], mean) for model, mean in means.items() if mean is not None]
    if not each:
        text = f"No run has a {outcome}. It takes two distinct steps, the last of them the final step of its size."
        draft.find("size", outcome, text)
        return
    fit = _coefficient(draft, outcome, "log10(n_params)")
    said = []
    if fit is not None and fit["p"] is not None and fit["p"] <= LEVEL:
        said.append(f"{claim.format(ways[0] if fit['estimate'] > 0 else ways[1])} ({p_text(fit['p'])}).")
    elif fit is not None:
        asked = claim.format(ways[0])
        said.append(f"Whether {asked[:1].lower()}{asked[1:]} cannot be told ({p_text(fit['p'])}).")
    said.append(f"{lies} {between(each)}.")
    if fit is not None:
        decades, words = draft.heads.size_step
        added, se = decades * fit["estimate"], decades * fit["std_error"]
        said.append(f"{capital(words)} adds {digits(added)} to {what} (SE {se:.2g}).")
    draft.find("size", outcome, *said, key=outcome == "peak", means=dict(each), p=fit["p"] if fit else None)
