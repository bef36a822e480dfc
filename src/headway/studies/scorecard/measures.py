"""The lines of a scorecard: for each axis its measures, each on the scale from chance to perfect, or the reason why not.

The five axes are those of Trott 2025 (arXiv 2509.22831).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from headway.known_abilities import ABILITIES
from headway.known_scores import SCORES, Role
from headway.studies.prose import LEVEL
from headway.studies.relations.edges import PAIR
from headway.studies.relations.paths import LOGIT
from headway.studies.relations.repeats import TOP
from headway.studies.roles.heads import main_roles
from headway.studies.scorecard import agreements, scale
from headway.studies.scorecard.agreements import Edges, numbered
from headway.studies.scorecard.claims import Claim
from headway.studies.scorecard.scale import Floats, Pairs, Scaled

AXES = ("functional", "developmental", "positional", "relational", "configurational")
MORE_RUNS = "measure two runs of a size, better six or more"
MORE_SIZES = "measure a second size, better three or more"
_ONE_IN = 8  # of the pairs of heads of a run, as many count as its strongest, in small models
_KIND = {"q": 0, "k": 1, "v": 2}


class Measure(NamedTuple):
    """One measure of an axis. `over` says what agrees: runs on their own, seeds of one size, or sizes."""

    axis: str
    name: str
    over: str


CRITERION = Measure("functional", "criterion", "runs")
ABLATION = Measure("functional", "ablation", "runs")
SINGLE = Measure("functional", "single heads", "runs")
TRAJECTORIES = Measure("developmental", "trajectories", "seeds")
ONSETS = Measure("developmental", "onsets", "seeds")
TRAJECTORIES_OF_SIZES = Measure("developmental", "trajectories", "sizes")
ONSETS_OF_SIZES = Measure("developmental", "onsets", "sizes")
LAYERS = Measure("positional", "layers", "seeds")
DEPTHS = Measure("positional", "depths", "sizes")
COMPOSITION = Measure("relational", "composition", "seeds")
PATHS = Measure("relational", "paths", "runs")
WEIGHTS = Measure("configurational", "weights", "runs")
MEASURES = (
    CRITERION, ABLATION, SINGLE, TRAJECTORIES, ONSETS, TRAJECTORIES_OF_SIZES, ONSETS_OF_SIZES, LAYERS, DEPTHS,
    COMPOSITION, PATHS, WEIGHTS,
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A measure of one claim: a number, or why there is none and what would give it.

    Attributes:
        what: what was measured, in a few words.
        controls: the fewest controls beside a run; 0 if there are none of that kind.
        draws: how often what chance gives was drawn; 0 if it is known exactly.
    """

    measure: Measure
    what: str
    scaled: Scaled | None = None
    reason: str = ""
    needs: str = ""
    controls: int = 0
    draws: int = 0


@dataclass(frozen=True)
class Data:
    """The other tables that scorecards read; None for one that is not there.

    Attributes:
        roles: which heads hold which known roles, as `criteria.held`.
        weights: `configuration_runs` of the study of configuration, with `chance_sd`.
    """

    ablations: pl.DataFrame | None = None
    compositions: pl.DataFrame | None = None
    paths: pl.DataFrame | None = None
    roles: pl.DataFrame | None = None
    weights: pl.DataFrame | None = None


def lines(claim: Claim, data: Data, draws: int, seed: int) -> Iterator[Line]:
    """All measures of a claim, in the order of `MEASURES`."""
    yield _criterion(claim)
    yield _ablation(claim, data.ablations)
    yield _single(claim)
    yield from _developmental(claim, draws, seed)
    yield from _positional(claim, draws, seed)
    yield _composition(claim, data, draws, seed)
    yield _paths(claim, data.paths)
    yield _weights(claim, data.weights)


# Functional --------------------------------------------------------------------------------------------------


def _criterion(claim: Claim) -> Line:
    """The share of runs in which some head holds the role at the last step, beside runs that are not trained."""
    what = "share of runs with a head that holds the role at the last step"
    if claim.level is None:
        return Line(CRITERION, what, reason=_no_level(claim), needs="measure step 0, or give a level with --role")
    chance, n_untrained = untrained_share(claim)
    if chance is None:
        return Line(
            CRITERION,
            what,
            reason=f"{n_untrained or 'no'} run has step 0, so what untrained runs give is unknown",
            needs="measure step 0 of two runs at least",
        )
    if chance >= 1:
        return Line(
            CRITERION,
            what,
            reason="untrained heads pass the level in every run",
            needs="give a higher level with --role",
        )
    n = claim.all_final["run"].n_unique()
    scaled = scale.of_shares(claim.final["run"].n_unique(), n, chance)
    return Line(CRITERION, what, scaled, controls=n_untrained)


def _no_level(claim: Claim) -> str:
    if not claim.heads.frame.filter(pl.col("step") == 0).height:
        return "the role has no level, because no head was measured at step 0"
    return f"the role has no level that {claim.role.score} can pass: untrained heads come close to its largest value"


def untrained_share(claim: Claim) -> tuple[float | None, int]:
    """The share of runs of which a head passes at step 0, and of how many runs.

    A level that is made from untrained heads is made from those of the other runs, so that each run is judged by a level that does
    not know it.
    """
    from headway.studies.roles.criteria import levels

    frame = claim.heads.frame.filter(pl.col("step") == 0).rename({"value": claim.role.score})
    runs = frame["run"].unique(maintain_order=True).to_list()
    if not runs or (len(runs) < 2 and claim.role.level is None):
        return None, len(runs)
    passed = 0
    for run in runs:
        own, others = frame.filter(pl.col("run") == run), frame.filter(pl.col("run") != run)
        level = claim.role.level if claim.role.level is not None else levels(others, [claim.role])["level"][0]
        passed += level is not None and bool((own[claim.role.score] > level).any())
    return passed / len(runs), len(runs)


def _ablation(claim: Claim, table: pl.DataFrame | None) -> Line:
    """The percentage of random groups of heads whose ablation costs less than that of the role's heads."""
    what = "share of random groups of heads whose ablation costs less"
    needs = f'headway intervene SUITE --heads "{_as_heads(claim.role)}" --out DIR'
    if table is None:
        return Line(ABLATION, what, reason="no heads were ablated", needs=needs)
    own = table.filter(_chosen_by("group", claim.role), pl.col("control").is_not_null(), pl.col("n_controls") > 0)
    own = own.filter(_LAST_OF_ALL)
    effect = _first_of(own["effect"].unique(maintain_order=True).to_list(), _effects(claim.role.score))
    if effect is None:
        return Line(ABLATION, what, reason="the role’s heads were not ablated beside random heads", needs=needs)
    own = own.filter(effect=effect)
    for column, best in (("operation", "mean"), ("control", "same layers")):
        there = own[column].unique(maintain_order=True).to_list()
        own = own.filter(pl.col(column) == _first_of(there, [best, *there]))
    own = own.unique("run", maintain_order=True)
    even = (pl.col("control_low") == pl.col("control_high")) & (pl.col("control_low") == pl.col("change"))
    shares = own.select(pl.when(even).then(0.5).otherwise(pl.col("percentile") / 100)).to_series().to_numpy()
    n = own["n_controls"].to_numpy().astype(float)
    error = np.sqrt(((n + 2) / (3 * n)).sum()) / len(n)  # of ranks from 0 to n, as likely each
    scaled = scale.of_runs(shares, np.full(len(n), 0.5), float(error))
    named = ABILITIES[effect].title if effect in ABILITIES else effect
    return Line(ABLATION, f"{what} ({named}, {own['group'][0]})", scaled, controls=int(n.min()))


_LAST_OF_ALL = pl.col("step") == pl.col("step").max().over("run", "group")


def _as_heads(role: Role) -> str:
    return f"top 2 by {role.score} at last" if role.name == role.score else f"role={role.name} at last"


def _chosen_by(column: str, role: Role) -> pl.Expr:
    """Whether heads were chosen by the role or its score."""
    by_role, by_score = rf"^role={re.escape(role.name)}(\s|$)", rf"\bby {re.escape(role.score)}(\s|$)"
    return pl.col(column).str.contains(by_role) | pl.col(column).str.contains(by_score)


def _effects(score: str) -> list[str]:
    """The abilities that speak of a score, best first."""
    repeated = (
        ["repeat_accuracy", "loss"] if score in ("prev", "induction", "duplicate") else ["loss", "repeat_accuracy"]
    )
    return [*repeated, "kl"]


def _first_of(there: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in there), None)


def _single(claim: Claim) -> Line:
    """The share of other heads of the same layer whose own ablation costs less than that of the role's heads."""
    what = "share of other heads of the layer whose own ablation costs less"
    names = [f"ablation_{ability}" for ability in _effects(claim.role.score)]
    score = _first_of(claim.causal, names)
    needs = f"headway measure SUITE --scores {','.join([*claim.scores, names[0]])} --out DIR --force"
    if score is None:
        return Line(SINGLE, what, reason="heads have no causal score", needs=needs)
    ranked = [found for run in claim.runs["run"] if (found := _ranked(claim, run, score))]
    if not ranked:
        return Line(
            SINGLE,
            what,
            reason="no run has heads of the role beside others of their layer",
            needs="measure runs in which they differ",
        )
    shares, variances, others = (np.array(column, float) for column in zip(*ranked, strict=True))
    error = 2 * np.sqrt(variances.sum()) / len(shares)
    scaled = scale.of_runs(shares, np.full(len(shares), 0.5), float(error))
    return Line(SINGLE, f"{what} ({SCORES[score].title})", scaled, controls=int(others.min()))


def _ranked(claim: Claim, run: str, score: str) -> tuple[float, float, int] | None:
    """Of a run: the mean share of other heads of the layer that cost less, its variance by chance (Mann and Whitney 1947, Ann.
    Math. Stat. 18, 50-60), and the number of other heads."""
    heads = claim.causal_values(run, score)
    holds = heads.join(claim.final.filter(run=run), on=["layer", "head"], how="semi").with_columns(own=True)
    both = heads.join(holds.select("layer", "head", "own"), on=["layer", "head"], how="left").fill_null(False)
    total, weight, variance, others = 0.0, 0, 0.0, 0
    for _, of in both.group_by("layer", maintain_order=True):
        x, y = (of.filter(pl.col("own") == own)["value"].to_numpy() for own in (True, False))
        if len(x) and len(y):
            above = (x[:, None] > y).mean() + (x[:, None] == y).mean() / 2
            total, weight, others = total + len(x) * float(above), weight + len(x), others + len(y)
            variance += len(x) ** 2 * (len(x) + len(y) + 1) / (12 * len(x) * len(y))
    return (total / weight, variance / weight**2, others) if weight else None


# Developmental -----------------------------------------------------------------------------------------------


def _developmental(claim: Claim, draws: int, seed: int) -> Iterator[Line]:
    what = "correlation of the changes of the highest score between steps"
    names, changes = _changes(claim)
    steps = "measure four or more steps of each run, of which the change is not 0"
    pairs = agreements.trajectories(changes, _groups(claim, names), draws, np.random.default_rng([seed, 11]))
    reason = "no two runs {} share three changes between steps"
    over_seeds = _of_pairs(TRAJECTORIES, what, pairs, reason, steps)
    over_sizes = _of_pairs(TRAJECTORIES_OF_SIZES, what, pairs, reason, steps)
    what = "share of pairs of runs whose onsets may lie between the same checkpoints"
    arisen = claim.firsts.filter(pl.col("upper").is_not_null()) if claim.level is not None else None
    if arisen is None:
        made = [
            Line(of, what, reason=_no_level(claim), needs="measure step 0, or give a level with --role")
            for of in (ONSETS, ONSETS_OF_SIZES)
        ]
    else:
        gaps = [_gaps(claim.steps(run)) for run in arisen["run"]]
        whole = [place for place, own in enumerate(gaps) if len(own) > 1]
        arisen = arisen[whole]
        at = arisen.select(pl.col("lower").fill_null(-1), "upper").to_numpy().astype(float)
        groups = _groups(claim, arisen["run"].to_list())
        pairs = agreements.onsets(
            [gaps[place] for place in whole], at, groups, draws, np.random.default_rng([seed, 12])
        )
        reason = "the role does not arise in two runs {} that have three steps"
        more = "measure more runs, longer, or at more steps"
        made = [_of_pairs(of, what, pairs, reason, more) for of in (ONSETS, ONSETS_OF_SIZES)]
    yield over_seeds
    yield made[0]
    yield over_sizes
    yield made[1]


def _changes(claim: Claim) -> tuple[list[str], Floats]:
    """The runs, and the slopes of their largest score between steps: (runs, steps)."""
    names = claim.runs["run"].to_list()
    wide = claim.heads.trajectories.pivot("run", index="step", values="slope").sort("step").select(names)
    return names, wide.to_numpy().astype(float).T


def _groups(claim: Claim, names: Sequence[str]) -> agreements.Ints:
    of = dict(zip(claim.runs["run"], claim.groups, strict=True))
    return np.array([of[name] for name in names], dtype=np.int64)


def _gaps(steps: Sequence[int]) -> Floats:
    return np.array(list(pairwise(steps)), dtype=float).reshape(-1, 2)


def _of_pairs(measure: Measure, what: str, pairs: Pairs, reason: str, needs: str) -> Line:
    """The line of a measure over seeds or sizes, from what pairs of runs have in common."""
    draws = len(pairs.drawn)
    over_sizes = measure.over == "sizes"
    if not draws:
        return Line(measure, what, reason="chance was not drawn", needs="set --bootstraps above 0")
    if over_sizes and len(np.unique(pairs.groups)) < 2:
        return Line(
            measure,
            what,
            reason="there is one size in which this can be seen"
            if len(pairs.groups)
            else reason.format("of different sizes"),
            needs=MORE_SIZES,
        )
    if not over_sizes and not (np.bincount(pairs.groups) > 1).any():
        return Line(measure, what, reason="no size has two runs in which this can be seen", needs=MORE_RUNS)
    scaled = scale.between(pairs) if over_sizes else scale.within(pairs)
    if scaled is None:
        return Line(
            measure, what, reason=reason.format("of different sizes" if over_sizes else "of one size"), needs=needs
        )
    return Line(measure, what, scaled, draws=draws)


# Positional --------------------------------------------------------------------------------------------------


def _positional(claim: Claim, draws: int, seed: int) -> Iterator[Line]:
    what = {"seeds": "share of the role’s heads in the same layers", "sizes": "nearness of the role’s heads in depth"}
    if claim.level is None:
        for of in (LAYERS, DEPTHS):
            yield Line(of, what[of.over], reason=_no_level(claim), needs="measure step 0, or give a level with --role")
        return
    there = set(claim.final["run"])
    runs = claim.runs.filter(pl.col("run").is_in(there), pl.col("n_layers") > 1)
    random = np.random.default_rng([seed, 13])
    shares = []
    for run, n_layers in runs.select("run", "n_layers").iter_rows():
        holding, every = (
            np.bincount(of.filter(run=run)["layer"].to_numpy(), minlength=n_layers).astype(np.int64)
            for of in (claim.final, claim.all_final)
        )
        shares.append(agreements.dealt(holding, every, draws, random))
    groups = _groups(claim, runs["run"].to_list())
    reason = "all heads hold the role in runs {}"
    for of, compare in ((LAYERS, agreements.places), (DEPTHS, agreements.depths)):
        pairs = compare(shares, groups) if shares else agreements.nothing(draws)
        yield _of_pairs(of, what[of.over], pairs, reason, "give a higher level with --role")


# Relational --------------------------------------------------------------------------------------------------


def _composition(claim: Claim, data: Data, draws: int, seed: int) -> Line:
    what = "overlap of the strongest edges between the role’s heads and heads of roles"
    needs = "headway relate SUITE --relations composition --out DIR"
    if data.compositions is None:
        return Line(COMPOSITION, what, reason="the composition of heads was not computed", needs=needs)
    if claim.level is None or data.roles is None:
        return Line(COMPOSITION, what, reason=_no_level(claim), needs="measure step 0, or give a level with --role")
    place = numbered(data.roles["role"].unique(maintain_order=True).to_list())
    runs = {run: edges_of(claim, data, run, place) for run in claim.runs["run"]}
    there = {run: own for run, own in runs.items() if own is not None}
    if agreements.n_with_edges(list(there.values())) < _FEWEST_WITH_EDGES:
        reason = "in fewer than two runs one of the strongest edges joins a head of the role and a head of a role"
        return Line(
            COMPOSITION, what, reason=reason, needs="measure the scores of more roles, such as prev and induction"
        )
    groups = _groups(claim, list(there))
    pairs = agreements.edges(list(there.values()), len(place), groups, draws, np.random.default_rng([seed, 14]))
    reason = "exchanged heads have the same edges in runs {}"
    return _of_pairs(COMPOSITION, what, pairs, reason, "measure models with more heads in a layer")


_FEWEST_WITH_EDGES = 2  # runs: with one, no pair of runs can have edges in common


def edges_of(claim: Claim, data: Data, run: str, place: Mapping[str, int]) -> Edges | None:
    """The strongest edges of a run at the last step that its composition was computed at; None if it has no table.

    Of each kind, they are the pairs of heads that beat random heads, at most `TOP` and at most one in eight of all pairs.
    """
    assert data.compositions is not None
    assert data.roles is not None
    own = data.compositions.filter(run=run)
    own = own.filter(pl.col("step") == pl.col("step").max())
    if own.is_empty():
        return None
    most = pl.min_horizontal(pl.lit(TOP), (pl.len().over("kind") // _ONE_IN).clip(1))
    strongest = own.filter(pl.col("p_holm") <= LEVEL).filter(
        pl.col("excess").rank("ordinal", descending=True).over("kind") <= most
    )
    heads = claim.all_final.filter(run=run).sort("layer", "head")
    number = {key: at for at, key in enumerate(heads.select("layer", "head").iter_rows())}
    labels = np.full(len(number), -1)
    roles = data.roles.filter(run=run)
    for layer, head, role in (
        main_roles(roles.filter(pl.col("step") == pl.col("step").max())).select("layer", "head", "role").iter_rows()
    ):
        if (layer, head) in number:
            labels[number[layer, head]] = place[role]
    holding = np.zeros(len(number), dtype=bool)
    holding[[number[key] for key in claim.final.filter(run=run).select("layer", "head").iter_rows()]] = True
    rows = [
        (_KIND[kind], number[w, x], number[y, z])
        for kind, w, x, y, z in strongest.select("kind", *PAIR).iter_rows()
        if (w, x) in number and (y, z) in number
    ]
    kinds, writes, reads = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Edges(kinds, writes, reads, labels, holding, heads["layer"].to_numpy().astype(np.int64))


def _paths(claim: Claim, table: pl.DataFrame | None) -> Line:
    """The share of other senders of the same layer without which the role's score changes less."""
    what = "share of other heads of the senders’ layers whose path changes the role’s score less"
    needs = f'headway relate SUITE --relations paths --to "{_as_heads(claim.role)}" --out DIR'
    if table is None:
        return Line(PATHS, what, reason="no paths were measured", needs=needs)
    own = table.filter(_chosen_by("receivers", claim.role), pl.col("effect") != LOGIT, pl.col("n_controls") > 0)
    own = own.filter(pl.col("step") == pl.col("step").max().over("run"))
    if own.is_empty():
        return Line(PATHS, what, reason="no paths to the role’s heads were measured beside other heads", needs=needs)
    for column, best in (
        ("input", ["k", "q", "v"]),
        ("replaced_by", ["mean", "resample"]),
        ("effect", [claim.role.score]),
    ):
        there = own[column].unique(maintain_order=True).to_list()
        own = own.filter(pl.col(column) == _first_of(there, [*best, *there]))
    # p counts the head itself: the others with a smaller change are (1 - p) (n + 1) of n.
    found = own.with_columns(share=(1 - pl.col("p")) * (pl.col("n_controls") + 1) / pl.col("n_controls"))
    of_runs = found.group_by("run", maintain_order=True).agg(pl.mean("share"), pl.min("n_controls"), n=pl.len())
    n = of_runs["n_controls"].to_numpy().astype(float)
    error = np.sqrt(((n + 2) / (3 * n)).sum()) / len(n)  # as if all pairs of a run were one
    scaled = scale.of_runs(of_runs["share"].to_numpy(), np.full(len(n), 0.5), float(error))
    words = f"{what} ({own['senders'][0]}, by {({'q': 'queries', 'k': 'keys', 'v': 'values'})[own['input'][0]]})"
    return Line(PATHS, words, scaled, controls=int(n.min()))


# Configurational ---------------------------------------------------------------------------------------------


def _weights(claim: Claim, table: pl.DataFrame | None) -> Line:
    what = "balanced accuracy of telling the role’s heads by their weights, in runs left out"
    needs = "headway describe SUITE --out DIR, then headway analyze DIR"
    if table is None:
        return Line(WEIGHTS, what, reason="the weights of heads were not compared", needs=needs)
    own = table.filter(role=claim.role.name).drop_nulls(["balanced_accuracy", "chance"]).filter(pl.col("chance") < 1)
    if own.is_empty():
        return Line(WEIGHTS, what, reason="no run could be left out for this role", needs=MORE_RUNS)
    observed, chance = own["balanced_accuracy"].to_numpy(), own["chance"].to_numpy()
    return Line(WEIGHTS, what, scale.of_runs(observed, chance, shared_error=_shared_error(own)))


def _shared_error(runs: pl.DataFrame) -> float:
    """The standard error by chance of the mean over runs, whose classifiers learned from one another's heads in each size."""
    sizes = runs.group_by("size").agg(pl.first("chance_sd"), n=pl.len()).drop_nulls()
    error = np.linalg.norm((sizes["n"] * sizes["chance_sd"]).to_numpy()) / runs.height
    return float(error / (1 - runs["chance"].to_numpy().mean()))


def as_rows(claim: Claim, found: Sequence[Line]) -> list[dict[str, Any]]:
    """The rows of the table `axes`. The first measure of an axis that is answered stands for it: it is the `headline`."""
    answered = [line.measure for line in found if line.scaled is not None]
    first = {measure.axis: measure for measure in reversed(answered)}
    return [_row(claim, line) | {"headline": first.get(line.measure.axis) == line.measure} for line in found]


def _row(claim: Claim, line: Line) -> dict[str, Any]:
    row: dict[str, Any] = {"subject": claim.role.name, "score": claim.role.score, **line.measure._asdict()}
    row = {("measure" if key == "name" else key): value for key, value in row.items()}
    row |= {
        "what": line.what,
        "answered": line.scaled is not None,
        "reason": line.reason or None,
        "needs": line.needs or None,
    }
    row |= {
        "n_controls": line.controls,
        "n_draws": line.draws,
        "units": "sizes" if line.measure.over == "sizes" else "runs",
    }
    if line.scaled is not None:
        (*wanted,) = line.scaled.wanted
        row |= {key: value for key, value in line.scaled._asdict().items() if key != "wanted"}
        row |= {f"units_for_{width:g}".replace(".", ""): n for width, n in zip(scale.WIDTHS, wanted, strict=True)}
    return row


SCHEMA: Mapping[str, pl.DataType] = {
    **dict.fromkeys(("subject", "score", "axis", "measure", "over", "what"), pl.String()),
    **dict.fromkeys(("answered", "headline"), pl.Boolean()),
    **dict.fromkeys(("value", "lower", "upper", "half_width", "observed", "chance", "p"), pl.Float64()),
    "units": pl.String(),
    **dict.fromkeys(("n_units", "n_pairs", "n_controls", "n_draws", "units_for_02", "units_for_01"), pl.Int64()),
    **dict.fromkeys(("reason", "needs"), pl.String()),
}  # fmt: skip
