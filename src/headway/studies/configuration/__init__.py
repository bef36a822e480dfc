"""Configuration: are the heads of one role alike, in their weights and in what they do, within runs and across seeds?

`docs/configuration.md` describes every table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from headway.errors import StatisticsError
from headway.known_scores import SCORES, Role
from headway.progress import Progress, Silent
from headway.stats.corrections import holm, over
from headway.store.directory import RunDirectory
from headway.studies.configuration import classification, likeness, matching
from headway.studies.configuration.described import BY, FEATURES, Described, by_size, described
from headway.studies.configuration.findings import findings
from headway.studies.development.heads import of_runs, read_heads
from headway.studies.relations.trajectories import final_holders
from headway.studies.result import Result
from headway.studies.roles.criteria import asked_roles, held, levels
from headway.studies.roles.heads import NONE, main_roles
from headway.studies.roles.onsets import RUN

__all__ = ["NAME", "SUBJECT", "applies", "study"]

NAME, SUBJECT = "configuration", "heads"
_NEEDED = ("descriptions", "heads")
_PLACE = ("step", "layer", "head")
_TESTS = 25  # for which the asked number of exchanges is enough


def applies(rundir: RunDirectory) -> bool:
    """Whether heads are described and scored: both are needed."""
    return set(_NEEDED) <= set(rundir.tables())


def study(
    rundir: RunDirectory,
    *,
    roles: Sequence[str] = (),
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Compare the described heads of each role; nothing is written before `Result.save`.

    Args:
        rundir: a run directory with the tables `descriptions` and `heads`.
        roles: roles of the user, as in the study of roles. Those defined by weights are left out: weights tell them trivially.
        bootstraps: how many times heads exchange their roles within their layers; more if there are more than 25 tests.
        seed: of these exchanges.
        progress: shows the progress.

    Raises:
        StatisticsError: a table is missing.
        UsageError: a role is not of the form NAME=SCORE or NAME=SCORE>LEVEL.
    """
    chosen = [role for role in asked_roles(roles) if SCORES[role.score].kind == "attention"]
    for name, command in zip(_NEEDED, ("describe", "measure"), strict=True):
        if name not in rundir.tables():
            raise StatisticsError(f"there is no table {name}: `headway {command}` makes it")
    progress = progress or Silent()
    progress.start("configuration", 4)
    result = Result(NAME, SUBJECT)
    table = rundir.read("descriptions")
    roles_held = _roles(result, rundir.read("heads"), table, chosen)
    names = list(result.values["roles"])
    checkpoints = _comparable(
        result, described(of_runs(table, result.tables["runs"], *_PLACE), final_holders(roles_held), names)
    )
    progress.advance(note="roles")
    draws = _enough(checkpoints, names, bootstraps)
    if names:
        _of_weights(result, checkpoints, names, draws, seed)
    progress.advance(note="weights")
    _of_matches(result, checkpoints, names, draws, seed)
    progress.advance(note="matches")
    result.tables["head_map"] = head_map(checkpoints, roles_held)
    findings(result)
    progress.advance(note="map")
    return result


_OF_WEIGHTS = ("classification", "classification_steps", "configuration_runs", "alike", "differences")


def _roles(result: Result, heads: pl.DataFrame, table: pl.DataFrame, chosen: Sequence[Role]) -> pl.DataFrame:
    """Which heads hold which roles at which steps, as `held` of the study of roles, and the result's runs and roles."""
    there = [role for role in chosen if role.score in heads.columns]
    named = read_heads(heads, there[0].score).runs if there else table.unique("run").sort("n_params", "run")
    result.tables["runs"] = named.select(*RUN, "model", "n_params", "n_layers", "n_heads")
    scored = of_runs(heads, result.tables["runs"], *_PLACE)
    roles_held = held(scored, levels(scored, there))
    holding = set(final_holders(roles_held)["role"]) if len(roles_held) else set()
    result.values["roles"] = {role.name: role.score for role in there if role.name in holding}
    if not holding:
        reason = (
            "no head holds a role of attention at the last step, as far as the scores in the table of heads can tell"
        )
        result.leave_out("roles", reason, (*_OF_WEIGHTS, "matched_roles"))
    return roles_held if len(roles_held) else _NO_ROLES


_NO_ROLES = pl.DataFrame(
    schema={
        **dict.fromkeys((*RUN, "role"), pl.String()),
        **dict.fromkeys(("step", "layer", "head"), pl.Int64()),
        **dict.fromkeys(("value", "excess"), pl.Float64()),
        **dict.fromkeys(("holds", "attends"), pl.Boolean()),
    }
)


def _comparable(result: Result, checkpoints: list[Described]) -> list[Described]:
    """The checkpoints whose vectors are as long as those of the first one of their size: the others read other tokens."""
    first: dict[str, list[int]] = {}
    kept = []
    for one in checkpoints:
        lengths = [len(one.layers), *(one.vectors[name].shape[1] for name in BY)]
        if first.setdefault(one.size, lengths) == lengths:
            kept.append(one)
        else:
            result.notes.append(
                f"{one.run} at step {one.step} read other tokens than the other runs of its size: it is left out."
            )
    return kept


def _enough(checkpoints: Sequence[Described], names: Sequence[str], draws: int) -> int:
    """How many exchanges it takes so that the smallest p is half of 0.05 after correction: `draws` for 25 tests."""
    n_tests = max(1, len(names)) * (len(by_size(checkpoints)) + 1) * max(len(matching.EVERY), 2)
    return draws * -(-n_tests // _TESTS)


def _of_weights(result: Result, checkpoints: list[Described], names: Sequence[str], draws: int, seed: int) -> None:
    of_runs, classified = classification.classified(checkpoints, names, draws, seed)
    if classified.is_empty():
        reason = "no two runs of different seeds have layers in which some heads hold a role and others do not"
        result.leave_out("classification", reason, ("classification", "configuration_runs"))
    last = pl.col("step") == pl.col("step").max().over("role", "size")
    at_last = classified.filter(last).with_columns(p_holm=over(classified.filter(last)["p"], holm))
    result.tables["classification"] = at_last
    result.tables["classification_steps"] = classified.with_columns(step_modded=pl.col("step") + 1).sort(
        "role", "size", "step", nulls_last=True, maintain_order=True
    )
    result.tables["configuration_runs"] = of_runs
    pairs = likeness.alike(checkpoints, names, draws, seed)
    result.tables["alike"] = pairs.with_columns(p_holm=over(pairs["p"], holm))
    found = classification.differences(checkpoints, names)
    result.tables["differences"] = found.with_columns(p_holm=over(found["p"], holm))


def _of_matches(result: Result, checkpoints: list[Described], names: Sequence[str], draws: int, seed: int) -> None:
    steps, matches, of_roles = matching.matching(checkpoints, names, draws, seed)
    if steps.is_empty():
        result.leave_out("matches", "no size has two runs", ("matching_steps", "matches", "matched_roles"))
    result.tables["matching_steps"] = steps.with_columns(step_modded=pl.col("step") + 1)
    result.tables["matches"] = matches
    result.tables["matched_roles"] = of_roles.with_columns(p_holm=over(of_roles["p"], holm))


def head_map(checkpoints: Sequence[Described], roles: pl.DataFrame) -> pl.DataFrame:
    """Heads at the last step in the two dimensions in which their weight features vary most: run, size, seed, layer, head, role, x, y, ….

    `explained` is the share of the variance in both dimensions. Each size has dimensions of its own.
    """
    last = pl.col("step") == pl.col("step").max().over("run")
    main = main_roles(roles.filter(last)).select("run", pl.col("layer", "head").cast(pl.Int64), "role")
    parts = []
    for size, runs in by_size(checkpoints).items():
        features = np.concatenate([one.features for one in runs])
        left, strengths, _ = np.linalg.svd(features - features.mean(0), full_matrices=False)
        share = float((strengths[:2] ** 2).sum() / max((strengths**2).sum(), 1e-300))
        parts.append(
            pl.DataFrame(
                {
                    "run": [one.run for one in runs for _ in one.layers],
                    "size": size,
                    "seed": [one.seed for one in runs for _ in one.layers],
                    "layer": np.concatenate([one.layers for one in runs]),
                    "head": np.concatenate([one.heads for one in runs]),
                    "x": left[:, 0] * strengths[0],
                    "y": left[:, 1] * strengths[1] if len(FEATURES) > 1 else 0.0,
                    "explained": share,
                }
            )
        )
    frame = pl.concat(parts).join(main, on=["run", "layer", "head"], how="left", maintain_order="left")
    return frame.with_columns(pl.col("role").fill_null(NONE))
