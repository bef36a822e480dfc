"""The findings on the published questions: the final step, growth, onset, peak and slope."""

from __future__ import annotations

from collections.abc import Callable
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
    growth = _robust(draft, "growth")
    draft.find(
        "growth",
        "rise",
        _rises(rows),
        f"Its mean over runs starts {between(starts)}, and ends {between(finals)}.",
        f"Tenfold training adds {digits(growth['estimate'])} on average over {growth['n_sizes']} sizes "
        f"(SE {growth['std_error']:.2g}, {p_text(growth['p'])})."
        if growth
        else None,
        _published(draft, "growth"),
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
    line, fit = _robust(draft, "onset"), _coefficient(draft, "onset", "log10(n_params)")
    factor = None if line is None else 10 ** (decades * line["estimate"])
    grid, bounds = (_bounds(draft, decades, ends) for ends in ("grid", "bound"))
    draft.find(
        "onset",
        "published",
        *_earlier(line, fit, factor, grid, words),
        _bounds_words(grid, bounds),
        _published(draft, "onset"),
        *_over_sizes(draft, "onset", lambda row: f"{10 ** (decades * row['estimate']):.2g}", "the factor"),
        _mean_onset(steps),
        key=True,
        onset=dict(steps),
        factor=factor,
        p=line["p"] if line else None,
        published_p=fit["p"] if fit else None,
        bounds=bounds,
        grid_bounds=grid,
    )
    _thresholds_passed(draft)
    _pairs_apart(draft, names)


def _mean_onset(steps: list[tuple[str, float]]) -> str:
    low, high = ends(steps, "{:,.0f}".format)
    where = f"at step {low}" if low == high else f"between steps {low} and {high}"
    return f"The mean onset lies {where}."


def _robust(draft: ResultBuilder, model: str) -> dict[str, Any] | None:
    """The robust line beside a published model."""
    return draft.values.get("beyond", {}).get("robust", {}).get(model)


def _published(draft: ResultBuilder, model: str) -> str | None:
    """What the published model says, and why it differs."""
    pairs = draft.tables.get("published_robust", pl.DataFrame(schema={"model": pl.String, "kind": pl.String}))
    rows = pairs.filter(pl.col("model") == model, pl.col("kind") == "published").to_dicts()
    return f"The published model has {p_text(rows[0]['p'])}. {rows[0]['why']}" if rows else None


def _earlier(
    line: dict[str, Any] | None,
    fit: dict[str, Any] | None,
    factor: float | None,
    grid: tuple[float, float] | None,
    words: str,
) -> list[str]:
    """Whether larger models start earlier: not known where the gaps between checkpoints allow either."""
    open_ended = grid is not None and grid[0] < 1 < grid[1]
    said = []
    if open_ended:
        said.append("The checkpoints are too far apart to tell whether larger models start earlier.")
    elif line is not None and factor is not None and line["p"] is not None and line["p"] <= LEVEL:
        said.append(f"Larger models start {'earlier' if factor < 1 else 'later'} ({p_text(line['p'])}).")
    elif line is not None:
        said.append(
            f"Whether larger models start earlier or later cannot be told from {line['n_sizes']} sizes ({p_text(line['p'])})."
        )
    elif fit is not None:
        said.append("Whether larger models start earlier or later cannot be told from two sizes.")
    if factor is not None:
        taken = ", each onset taken at the end of its gap" if open_ended else ""
        said.append(f"{capital(words)} changes the onset step by a factor of {factor:.2g}{taken}.")
    return said


def _bounds(draft: ResultBuilder, decades: float, ends: str) -> tuple[float, float] | None:
    """The least and the greatest factor by which the published onset can change with size, where both exist.

    `ends`: `grid` for what the gaps between checkpoints leave open, `bound` for that and the sampling error.
    """
    table = draft.tables.get("onset_relations", pl.DataFrame(schema={"definition": pl.String}))
    rows = table.filter(pl.col("definition") == PUBLISHED).to_dicts()
    if not rows or rows[0][f"{ends}_lower"] is None or rows[0][f"{ends}_upper"] is None:
        return None
    low, high = (10 ** (decades * rows[0][f"{ends}_{end}"]) for end in ("lower", "upper"))
    return low, high


def _bounds_words(grid: tuple[float, float] | None, bounds: tuple[float, float] | None) -> str | None:
    """How far the true factor may lie from the fitted one."""
    if grid is None:
        return None
    said = f"Given the gaps between checkpoints, the true factor could be anything from {grid[0]:.2g} to {grid[1]:.2g}"
    return f"{said}; with the scatter of sizes, from {bounds[0]:.2g} to {bounds[1]:.2g}." if bounds else f"{said}."


def _over_sizes(draft: ResultBuilder, outcome: str, form: Callable[[dict[str, Any]], str], what: str) -> list[str]:
    """What one size decides, and whether the sizes lie on a line."""
    said = []
    line, without = _robust(draft, outcome), draft.tables.get("without_size")
    if line is not None and without is not None:
        moved = (pl.col("estimate") - line["estimate"]).abs()
        rows = without.filter(pl.col("outcome") == outcome).sort(moved).tail(1).to_dicts()
        said += [f"Without {row['size']} {what} is {form(row)} ({p_text(row['p'])})." for row in rows]
    checks = draft.tables.get("size_checks")
    rows = checks.filter(pl.col("outcome") == outcome).to_dicts() if checks is not None else []
    if rows and None not in (rows[0]["lack_p"], rows[0]["line_share"]) and rows[0]["lack_p"] <= LEVEL:
        row = rows[0]
        said.append(
            f"The sizes do not lie on a line ({p_text(row['lack_p'])}). A line explains {percent(row['line_share'])} of their "
            f"differences, a step after {row['step_after']} {percent(row['step_share'])}."
        )
    return said


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
    apart = [{row["model1"], row["model2"]} for row in tested.filter(pl.col("p_holm") < LEVEL).to_dicts()]
    common = set.intersection(*apart) if len(apart) > 1 else set()
    alone = f", all of them pairs with {names[common.pop()]}" if common else ""
    text = (
        f"A t test tells {len(apart) or 'none'} of {tested.height} pairs of sizes apart by their onset (Holm){alone}."
    )
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
    line, fit = _robust(draft, outcome), _coefficient(draft, outcome, "log10(n_params)")
    said = []
    asked = claim.format(ways[0])
    whether = f"Whether {asked[:1].lower()}{asked[1:]} cannot be told from"
    if line is not None and line["p"] is not None and line["p"] <= LEVEL:
        said.append(f"{claim.format(ways[0] if line['estimate'] > 0 else ways[1])} ({p_text(line['p'])}).")
    elif line is not None:
        said.append(f"{whether} {line['n_sizes']} sizes ({p_text(line['p'])}).")
    elif fit is not None:
        said.append(f"{whether} two sizes.")
    said.append(f"{lies} {between(each)}.")
    decades, words = draft.heads.size_step
    if line is not None:
        added, se = decades * line["estimate"], decades * line["std_error"]
        said.append(f"{capital(words)} adds {digits(added)} to {what} (SE {se:.2g}).")
    said += [text for text in [_published(draft, outcome)] if text]
    said += _over_sizes(draft, outcome, lambda row: digits(decades * row["estimate"]), "this")
    draft.find(
        "size",
        outcome,
        *said,
        key=outcome == "peak",
        means=dict(each),
        p=line["p"] if line else None,
        published_p=fit["p"] if fit else None,
    )
