"""What was found, in sentences with numbers: one for each section, and the headline."""

from __future__ import annotations

from typing import Any

import polars as pl

from headway.studies.development.builder import ResultBuilder, listed

_HEADLINE = ("growth", "onset", "peak", "consistency")
_BEYOND = ("position", "identity")


def findings(draft: ResultBuilder) -> None:
    """Adds `findings` by section and `headline`."""
    said = {
        "final": _final(draft),
        "growth": _growth(draft),
        "onset": _onset(draft),
        "peak": _by_size(draft, "peak", "peaks at", "the peak"),
        "slope": _by_size(draft, "slope", "rises per decade of training by", "this slope"),
        "consistency": _consistency(draft),
    }
    draft.put("findings", said)
    beyond = (draft.values.get("beyond", {}).get(name) or {} for name in _BEYOND)
    sentences = [said[name] for name in _HEADLINE] + [part.get("says") for part in beyond]
    draft.put("headline", [sentence for sentence in sentences if sentence])


def p_text(p: float | None) -> str:
    """A p value as papers give it."""
    if p is None:
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _model(draft: ResultBuilder, path: str) -> dict[str, Any] | None:
    section, name = path.split(".")
    return draft.values.get(section, {}).get(name)


def _coefficient(model: dict[str, Any] | None, term: str) -> dict[str, Any] | None:
    return (model or {}).get("fixed", {}).get(term)


def _final(draft: ResultBuilder) -> str | None:
    layers = draft.tables["final_by_layer"]
    highest = layers.filter(pl.col("mean") == pl.col("mean").max().over("model"))
    alone = highest.filter(pl.len().over("model") == 1)  # where layers tie, none stands out
    tops = draft.heads.sizes.select("model", "size", "n_layers").join(alone, on="model", maintain_order="left")
    places = [
        f"layer {layer} of 0–{n_layers - 1} ({size}; {mean:.3g})"
        for size, n_layers, layer, mean in tops.select("size", "n_layers", "layer", "mean").rows()
    ]
    text = ""
    if places:
        text = f"At the final step the largest head stands, averaged over seeds, highest in {listed(places)}."
    depth = _coefficient(_model(draft, "lmm.final_depth"), "prop_layer")
    if depth is not None:
        text += (
            f" Over all heads the score changes by {depth['estimate']:.3g} from the bottom to the top of the network "
            f"({p_text(depth['p'])}); a straight line says little of where between."
        )
    return text.strip() or None


def _growth(draft: ResultBuilder) -> str:
    means = {(model, step): mean for model, step, mean in draft.tables["trajectory_means"].select(_MEAN).rows()}
    sizes = draft.heads.sizes.select("model", "size", "start_step", "final_step").rows()
    if all(start == final for *_, start, final in sizes):
        values = [f"{means[model, final]:.3g} ({size})" for model, size, _, final in sizes]
        return f"At the one step that was measured the largest head of a run stands on average at {listed(values)}."
    ends = [f"{means[model, start]:.3g} to {means[model, final]:.3g} ({size})" for model, size, start, final in sizes]
    text = f"The largest head of a run goes from the first to the last step on average from {listed(ends)}"
    growth = _coefficient(_model(draft, "lmm.growth"), "log10(step_modded)")
    if growth is None:
        return text + "."
    return (
        f"{text}; tenfold training adds {growth['estimate']:.3g} (SE {growth['std_error']:.2g}, {p_text(growth['p'])})."
    )


_MEAN = ("model", "step", "mean")


def _onset(draft: ResultBuilder) -> str | None:
    """What is known of the published onset: its means, how they go with size, and how much of it the grid decides."""
    heads = draft.heads
    if not heads.followed:
        return None
    means = draft.values["tables"]["onset_mean_by_size"]
    sizes = dict(heads.sizes.select("model", "size").rows())
    steps = [f"{step:,.0f} ({sizes[model]})" for model, step in means.items() if step is not None]
    if not steps:
        return "In no run does the largest head rise faster than 0.1 per decade of training between two steps."
    between = heads.trajectories.drop_nulls("slope").select("step_before", "step").unique()
    if between.height == 1:
        return "Every onset lies between steps {:,} and {:,}: no others were measured.".format(*between.row(0))
    text = f"The published onset, a mean over thresholds, falls on average at step {listed(steps)}"
    decades, words = heads.size_step
    fit = _coefficient(_model(draft, "lmm.onset"), "log10(n_params)")
    if fit is not None:
        text += f"; {words} changes it by a factor of {10 ** (decades * fit['estimate']):.2g} ({p_text(fit['p'])})"
    relation = _relation(draft)
    if relation is not None:
        low, high = (10 ** (decades * relation[end]) for end in ("bound_lower", "bound_upper"))
        text += (
            ". That puts an onset at the end of the steps between which it lies; if it may lie anywhere between them, "
            f"the factor is anything from {low:.2g} to {high:.2g}"
        )
        text += ", so that not even its direction is known" if low < 1 < high else ""
    return " ".join(filter(None, [f"{text}.", _thresholds_said(draft), _pairs_apart(draft, sizes)]))


def _thresholds_said(draft: ResultBuilder) -> str:
    """How many thresholds no run passes: those were chosen for a ratio, and other scores may be unable to."""
    passed = draft.tables["onset_thresholds"].group_by("threshold").agg(n=pl.col("step").count())
    never = passed.filter(pl.col("n") == 0).height
    if not never:
        return ""
    high = draft.heads.score.high
    why = f"; they were chosen for a ratio, and this score cannot exceed {high:g}" if high is not None else ""
    return f"{never} of the {passed.height} thresholds are passed in no run, so the mean is over the others{why}."


def _pairs_apart(draft: ResultBuilder, sizes: dict[str, str]) -> str:
    """How many pairs of sizes differ in onset, and whether one size is behind all of them."""
    power = draft.tables.get("seed_power")
    tested = power.filter((pl.col("outcome") == "onset") & pl.col("p").is_not_null()) if power is not None else None
    if tested is None or tested.height < 2:
        return ""
    apart = [{row["model1"], row["model2"]} for row in tested.filter(pl.col("p") < 0.05).to_dicts()]
    text = f"A t test tells {len(apart)} of {tested.height} pairs of sizes apart by it"
    common = set.intersection(*apart) if len(apart) > 1 else set()
    return f"{text}, all of them pairs with {sizes[common.pop()]}." if common else f"{text}."


def _relation(draft: ResultBuilder) -> dict[str, Any] | None:
    """The published definition's slope with its bounds, where both bounds exist."""
    from headway.studies.development.intervals import PUBLISHED

    table = draft.tables.get("onset_relations", pl.DataFrame(schema={"definition": pl.String}))
    rows = table.filter(pl.col("definition") == PUBLISHED).to_dicts()
    if not rows or rows[0]["bound_lower"] is None or rows[0]["bound_upper"] is None:
        return None
    return rows[0]


def _by_size(draft: ResultBuilder, outcome: str, verb: str, what: str) -> str | None:
    if not draft.heads.followed:
        return None
    means = draft.values["tables"][f"{outcome}_mean_by_size"]
    sizes = dict(draft.heads.sizes.select("model", "size").rows())
    each = [f"{mean:.3g} ({sizes[model]})" for model, mean in means.items() if mean is not None]
    if not each:
        return f"No run has a {outcome}: it needs a run of two distinct steps that goes on to its size's final one."
    text = f"The largest head {verb} {listed(each)} on average"
    fit = _coefficient(_model(draft, f"lmm.{outcome}"), "log10(n_params)")
    if fit is None:
        return text + "."
    decades, words = draft.heads.size_step
    added, se = decades * fit["estimate"], decades * fit["std_error"]
    return f"{text}; {words} adds {added:.3g} to {what} (SE {se:.2g}, {p_text(fit['p'])})."


def _consistency(draft: ResultBuilder) -> str | None:
    same = draft.values["tables"].get("cor_by_same_model")
    if not same:
        return None
    parts = [
        f"{same[key]['mean']:.2f} between runs of {said}"
        for key, said in (("true", "one size"), ("false", "different sizes"))
        if key in same
    ]
    return f"The runs' trajectories correlate by {listed(parts)} on average; two that rise correlate anyway."
