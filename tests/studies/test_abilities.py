"""Roles and abilities: what goes together within runs is found, and what only rises in all of them is not."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from headway.errors import RunDirectoryError, StatisticsError
from headway.studies import abilities
from headway.studies.abilities.coupling import correlations, coupling, timing
from headway.studies.abilities.curves import curves, levels, onsets
from support_abilities import STEPS, made


def studied(heads, values, **options):
    tables = {name: table for name, table in (("abilities", values), ("heads", heads)) if table is not None}
    return abilities.study(SimpleNamespace(read=tables.__getitem__, tables=lambda: tables), **options)


def test_changes_that_go_together_are_found_and_the_control_is_not():
    heads, values = made(6, tied=True, seed=1)
    result = studied(heads, values, bootstraps=999)
    rows = {row["role"]: row for row in result.tables["coupling"].to_dicts()}
    tied, control = rows["previous-token"], rows.get("first-token")
    assert tied["p_holm"] <= 0.01
    assert tied["r"] > tied["chance_upper"]
    assert control is None or control["p_holm"] > 0.05
    (found,) = result.findings("coupling")
    assert found.key
    assert "does not say that the role makes the ability" in found.text


def test_curves_that_only_rise_together_are_coupled_at_the_nominal_rate():
    """200 suites in which role and ability rise in every run, each at a time of its own."""
    rng, p, r = np.random.default_rng(0), [], []
    for seed in range(200):
        heads, values = made(5, tied=False, seed=seed, sizes=("1m",))
        role = heads.filter(pl.col("head") == 1).select("run", "size", "step", value="prev")
        found = coupling(role, values, 99, rng)
        r.append(found["r"])
        p.append(found["p"])
    assert np.mean(r) > 0.4  # they correlate in any case
    assert (np.array(p) <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_p_is_that_of_all_exchanges():
    """Four runs of one size have 24 pairings; p of many random ones nears the share of those as far out, twice."""
    heads, values = made(4, tied=True, seed=3, sizes=("1m",))
    role = heads.filter(pl.col("head") == 1).select("run", "size", "step", value="prev")
    found = coupling(role, values, 20_000, np.random.default_rng(0))
    wide = [
        frame.pivot("run", index="step", values="value").sort("step").drop("step").to_numpy()
        for frame in (role, values)
    ]
    matrix = np.corrcoef(*(np.diff(one, axis=0).T for one in wide))[:4, 4:]
    sums = np.array([matrix[range(4), order].sum() for order in permutations(range(4))])
    share = (sums >= np.trace(matrix) - 1e-12).mean()
    assert found["r"] == pytest.approx(np.trace(matrix) / 4)
    assert found["p"] == pytest.approx(min(1, 2 * share), abs=4 * 2 * np.sqrt(share / 20_000))  # four standard errors


def test_correlations_are_numpys_over_the_places_that_both_have():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(3, 8)), rng.normal(size=(2, 8))
    assert correlations(x, y) == pytest.approx(np.corrcoef(x, y)[:3, 3:])
    x[0, 2], y[1, 5] = np.nan, np.nan
    kept = [place for place in range(8) if place not in (2, 5)]
    assert correlations(x, y)[0, 1] == pytest.approx(np.corrcoef(x[0, kept], y[1, kept])[0, 1])
    assert np.isnan(correlations(np.ones((1, 8)), y)).all()


def intervals(uppers):
    lower = [None if upper == 1 else upper - 1 for upper in uppers]
    runs = [f"r{place}" for place in range(len(uppers))]
    return pl.DataFrame({"run": runs, "size": "s", "lower": lower, "upper": uppers})


def test_timing_is_kendalls_tau_b_of_the_onsets():
    roles, others = [3, 5, 5, 9, 12], [4, 4, 7, 8, 8]
    found = timing(intervals(roles), intervals(others), 0, np.random.default_rng(0))
    assert found["tau"] == pytest.approx(kendalltau(roles, others).statistic)
    assert timing(intervals([3, 3, 3]), intervals([1, 2, 3]), 0, np.random.default_rng(0)) is None  # nothing in order


def test_an_ability_makes_half_of_its_way_between_the_right_steps():
    rows = [
        {"run": run, "size": "s", "seed": run, "step": step, "ability": "loss", "value": value, "std_error": None}
        for run, values in {"a": (10.0, 8.0, 3.0, 2.0), "b": (10.0, 5.9, 5.0, 2.0), "c": (10.0, 9.5)}.items()
        for step, value in zip((0, 10, 100, 1000), values, strict=False)
    ]
    values = curves(pl.DataFrame(rows))
    half = levels(values, {"loss": False})
    assert dict(half.select("run", "level").rows()) == {"a": 6.0, "b": 6.0, "c": 6.0}  # c ends early: the others' level
    found = {row["run"]: (row["lower"], row["upper"], row["censoring"]) for row in onsets(values, half).to_dicts()}
    assert found == {"a": (10, 100, "interval"), "b": (0, 10, "interval"), "c": (10, None, "right")}


def test_the_direction_of_an_ability_is_what_it_does_if_nothing_says_so():
    rows = [
        {"run": "a", "size": "s", "seed": "1", "step": step, "ability": "rank", "value": value, "std_error": None}
        for step, value in ((0, 100.0), (1, 60.0), (2, 20.0))
    ]
    half = levels(curves(pl.DataFrame(rows)), {"rank": None})
    assert half.row(0, named=True)["rising"] is False
    assert half["level"].to_list() == [60.0]


def test_order_counts_runs_and_abilities_without_heads_still_have_curves():
    heads, values = made(3, tied=True, seed=5)
    order = studied(heads, values, bootstraps=0).tables["order"]
    assert order["n"].to_list() == [6] * len(order)
    alone = studied(None, values)
    assert alone.tables["curves"].height == 6 * len(STEPS)
    assert "there is no table of heads" in alone.values["left_out"][0]["reason"]
    others = studied(heads, values.with_columns(run=pl.lit("other-") + pl.col("run")))
    assert "no run of the table of heads has abilities" in others.values["left_out"][0]["reason"]


def test_the_sequence_names_the_steps_by_which_half_of_the_runs_are_there():
    heads, values = made(3, tied=True, seed=5)
    restated = values.with_columns(ability=pl.format("published_{}", "ability"))
    result = studied(heads, pl.concat([values, restated]), bootstraps=0)
    found = [one for one in result.findings("order") if one.name.startswith("sequence")]
    assert found
    assert not any("published_" in one.name for one in found)  # the same in other words
    for one in found:
        onsets = {name: result.tables[name] for name in ("role_onsets", "ability_onsets")}
        own = onsets["ability_onsets"].filter(role=one.name.removeprefix("sequence, "))
        assert (
            (own["upper"] <= one.values["step"]).sum() * 2 >= own.height > (own["upper"] < one.values["step"]).sum() * 2
        )
        for role, step in one.values["roles"].items():
            assert step < one.values["step"]
            there = onsets["role_onsets"].filter(role=role)
            assert (there["upper"] <= step).sum() * 2 >= there.height > (there["upper"] < step).sum() * 2


def test_a_table_without_numbers_is_refused():
    _, values = made(2, tied=True, seed=0)
    with pytest.raises(StatisticsError, match="no finite number"):
        studied(None, values.with_columns(value=pl.lit(None, pl.Float64)))


def test_abilities_that_were_measured_with_the_heads_are_read_from_their_table():
    heads, values = made(3, tied=True, seed=5)
    by_checkpoint = values.select("run", "step", repeat_accuracy="value", loss=10 - pl.col("value"))
    result = studied(heads.join(by_checkpoint, on=["run", "step"]), None, bootstraps=0)
    assert result.tables["curves"]["ability"].unique().sort().to_list() == ["loss", "repeat_accuracy"]
    assert dict(result.tables["ability_levels"].select("ability", "rising").unique().rows()) == {
        "loss": False, "repeat_accuracy": True,
    }  # fmt: skip
    assert result.tables["order"]["ability"].unique().sort().to_list() == ["loss", "repeat_accuracy"]


def test_measured_and_imported_abilities_are_studied_together_but_never_mixed():
    heads, values = made(3, tied=True, seed=5)
    imported = values.with_columns(ability=pl.lit("arc.acc"))
    tables = {"heads": heads, "abilities": values, "imported_abilities": imported}
    rundir = SimpleNamespace(read=tables.__getitem__, tables=lambda: tables)
    assert abilities.study(rundir, bootstraps=0).tables["curves"]["ability"].unique().sort().to_list() == [
        "arc.acc",
        "repeat",
    ]
    tables["imported_abilities"] = values
    with pytest.raises(RunDirectoryError, match="the ability 'repeat' was both measured and imported"):
        abilities.study(rundir, bootstraps=0)


def test_a_table_of_abilities_comes_before_the_columns_of_an_older_heads_table():
    heads, values = made(3, tied=True, seed=5)
    old = values.select("run", "step", loss=pl.lit(9.0), repeat_accuracy=pl.lit(0.5))
    new = values.with_columns(ability=pl.lit("loss"), higher_is_better=pl.lit(False))
    curves_ = studied(heads.join(old, on=["run", "step"]), new, bootstraps=0).tables["curves"]
    assert curves_.filter(ability="loss")["value"].max() < 9
    assert set(curves_.filter(ability="repeat_accuracy")["value"]) == {0.5}
