"""The check of losses: sound runs are seldom suspected, and a step with weights of another is found."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from headway import api
from headway.integrity.losses import FEWEST, excess, loss_findings, medians, noise, threshold
from headway.store import RunDirectory
from headway.sweep import store
from hub_server import HubServer
from support_suites import CONFIG, TOKENIZER, weights

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import loss_alarms


@pytest.mark.parametrize("n", [10, 12, 24, 154])
def test_sound_runs_are_seldom_suspected(n: int) -> None:
    """With 4,000 runs the share has a standard error of 0.0016; three of them are allowed above 1 %."""
    drawn = loss_alarms.largest(n, 4000, np.random.default_rng(n))
    share = np.mean(drawn > threshold(n))
    assert share <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 4000)
    assert np.mean(drawn > threshold(n) / 2) > 0.05, "the threshold is not far too large"


def test_medians_and_excess_by_hand() -> None:
    losses = np.array([6.0, 5, 4, 9, 3, 2, 1])
    before, after = medians(losses)
    np.testing.assert_equal(before, [np.inf, np.inf, np.inf, 5, 5, 4, 3])
    np.testing.assert_equal(after, [5, 4, 3, 2, -np.inf, -np.inf, -np.inf])
    np.testing.assert_equal(excess(losses), [0, 0, 0, 4, 0, 0, 0])
    first = excess(np.array([1.0, 5, 4, 3, 2, 1]))
    assert first.tolist() == [3, 0, 0, 0, 0, 0], "the first step may not be below what follows, which is right"


def test_noise_is_estimated_without_bias() -> None:
    """The median of 4,000 distances has a standard error of 2 %; neighbours are correlated, so 5 % are allowed."""
    steps = np.arange(4000)
    losses = 3 + 0.1 * np.random.default_rng(0).standard_normal(4000) - np.log10(steps + 1)
    assert noise(steps, losses) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("n", "late"), [(24, True), (24, False), (154, True), (154, False)])
def test_a_step_with_weights_of_another_is_found_and_no_other_is_suspected(n: int, late: bool) -> None:
    assert loss_alarms.found(n, 60, np.random.default_rng(1), 0.01, late) >= 0.9


def test_a_steep_curve_without_noise_is_sound() -> None:
    steps = loss_alarms.PYTHIA
    assert not list(loss_findings("run", zip(steps.tolist(), loss_alarms.curve(steps).tolist(), strict=True)))


def test_too_few_steps_say_nothing() -> None:
    curve = [(step, 9.0 if step == 3 else 5.0) for step in range(FEWEST - 1)]
    assert not list(loss_findings("run", curve))
    (found,) = loss_findings("run", [*curve, (FEWEST, 5.0)])
    assert (found.kind, found.steps, found.note) == ("odd_loss", (3,), False)
    assert found.message == (
        "step 3: the loss is 9 nats per token, but 5 before and 5 after it (medians of three steps)"
    )


@pytest.mark.parametrize("table", ["heads", "abilities"])
def test_an_audit_reads_the_losses_of_its_run_directory(hub: HubServer, tmp_path: Path, table: str) -> None:
    run, steps = "toy-1m-seed1", list(range(10))
    for step in steps:
        content = {"config.json": CONFIG, "tokenizer.json": TOKENIZER, "model.safetensors": weights(step)}
        hub.add(f"someone/{run}", f"step{step}", content)
    losses = [9.0 - 0.1 * step if step != 2 else 8.1 for step in steps]
    rows = {"suite": run, "run": run, "step": steps, "loss": losses, "model": "m", "size": "1m", "seed": "1"}
    frame = pl.DataFrame({name: value if isinstance(value, list) else [value] * 10 for name, value in rows.items()})
    if table == "abilities":
        frame = frame.rename({"loss": "value"}).with_columns(ability=pl.lit("loss"))
    store(frame, table, RunDirectory(tmp_path / "run"), identity={})
    found = api.audit(f"hf:someone/{run}", out=tmp_path / "run")
    assert [(one.kind, one.steps) for one in found.findings] == [("odd_loss", (2,))]
    assert found.table.filter(step=2)["findings"].item() == "odd_loss"
    assert not api.audit(f"hf:someone/{run}", out=tmp_path / "other").findings
