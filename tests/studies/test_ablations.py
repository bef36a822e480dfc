"""The study of ablations on a made-up table, and its chapter."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats as scipy_stats

from headway import sweep
from headway.reporting import write
from headway.reporting.ablations import chapter
from headway.store import RunDirectory
from headway.studies import ablations
from headway.tables import ABLATIONS_COLUMNS, schema
from support_studies import too_long

CHANGES = {"1": -0.7, "2": -0.8, "3": -0.6}


def table(n_controls=30):
    """Three runs that lose accuracy at step 64 and nothing at step 0; random heads cost a tenth."""
    rows = []
    for seed, change in CHANGES.items():
        for step in (0, 64):
            for effect in ("kl", "repeat_accuracy"):
                for dose in (1, 2):
                    of = {
                        "suite": "made",
                        "run": f"toy-seed{seed}",
                        "model": "toy",
                        "size": "toy",
                        "seed": seed,
                        "step": step,
                    }
                    of |= {"n_params": 100, "n_layers": 2, "n_heads": 4, "group": "top 2 by induction", "dose": dose}
                    lost = change * dose / 2 * (step > 0) * (-1 if effect == "kl" else 1)
                    of |= {"heads": "L1H0 L1H1"[: 4 + 5 * (dose - 1)], "operation": "mean", "effect": effect}
                    of |= {"higher_is_better": effect != "kl", "before": 0.9, "after": 0.9 + lost, "change": lost}
                    if dose == 1:
                        rows.append(of | {"control": None, "n_controls": 0})
                        continue
                    for control in ("same layers", "same norm"):
                        chance = {"control_low": 0.2 * lost, "control_median": 0.1 * lost, "control_high": 0.0}
                        p = 1 / (n_controls + 1) if step else 1.0
                        rows.append(
                            of | chance | {"control": control, "n_controls": n_controls, "percentile": 100.0, "p": p}
                        )
    return pl.DataFrame(rows, schema=schema(ABLATIONS_COLUMNS))


@pytest.fixture
def rundir(tmp_path):
    sweep.store(table(), "ablations", RunDirectory(tmp_path), identity={"suite": "made"})
    return RunDirectory(tmp_path)


def test_changes_are_averaged_over_runs_with_their_t_interval(rundir):
    result = ablations.study(rundir)
    means = result.tables["change_means"]
    row = means.filter(effect="repeat_accuracy", step=64, control="same layers").row(0, named=True)
    changes = list(CHANGES.values())
    assert row["mean"] == pytest.approx(np.mean(changes))
    error = scipy_stats.sem(changes)
    low, high = scipy_stats.t.interval(0.95, 2, np.mean(changes), error)
    assert (row["lower"], row["upper"]) == pytest.approx((low, high))
    assert row["control_mean"] == pytest.approx(np.mean(changes) / 10)
    assert (row["n_runs"], row["n_small_p"], row["n_controls"]) == (3, 3, 30)
    doses = result.tables["doses"].filter(effect="repeat_accuracy")
    assert doses["mean"].to_list() == pytest.approx([np.mean(changes) / 2, np.mean(changes)])


def test_the_findings_say_what_is_lost_and_beside_what(rundir):
    result = ablations.study(rundir)
    assert too_long(result.found) == []
    answers = [finding.answer for finding in result.headline]
    assert answers[0] == (
        "Without the heads (top 2 by induction), accuracy on repeated tokens goes from 0.9 to 0.2 at the last step."
    )
    assert "KL divergence of predictions is 1.6 nats" in answers[1]
    assert "At most 5% of their groups cost as much in 3 of 3 runs." in result.headline[0].text


def test_too_few_controls_are_said_to_tell_nothing(tmp_path):
    sweep.store(table(n_controls=3), "ablations", RunDirectory(tmp_path), identity={"suite": "made"})
    text = ablations.study(RunDirectory(tmp_path)).headline[0].text
    assert "with 3 groups of them no run can be told apart" in text
    assert "At most 5%" not in text


def test_the_chapter_draws_the_changes_and_the_doses(rundir):
    result = ablations.study(rundir)
    made = chapter(result)
    assert {figure.name for figure in made.figures} == {"over-training", "doses"}
    assert {one.figure for one in made.summary} == {"over-training"}
    result.save(rundir)
    page = write(rundir, figures=False).read_text()
    assert "Does it matter? Heads ablated over training" in page


def test_every_table_and_column_is_documented(rundir):
    text = (Path(__file__).parents[2] / "docs" / "interventions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", text, flags=re.MULTILINE)
    documented = {name: set(re.split(r"\W+", " ".join(re.findall(r"`([^`]+)`", columns)))) for name, columns in rows}
    documented["changes"] |= {*schema(ABLATIONS_COLUMNS), "title"}
    for name, frame in ablations.study(rundir).tables.items():
        assert set(frame.columns) <= documented[name] | {"n_controls"}, name
