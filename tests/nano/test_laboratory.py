"""A laboratory changes one cause at a time, and its factors are axes from training to the tables."""

import dataclasses
import json
import re

import numpy as np
import pytest
from safetensors.torch import load_file

import headway
from headway import nano
from headway.errors import SelectionError, UsageError
from headway.nano import data, factors, forks, laboratory, location, training
from headway.store.directory import RunDirectory
from headway.suites import open_suite
from headway.tables import axes_of

TINY = nano.Recipe(
    sizes=(nano.Size(1, n_heads=4, hidden_size=16, mlp_size=32),),
    seeds=(1, 2),
    steps=(0, 4, 12),
    context_length=32,
    batch_size=4,
    shortest_passage=5,
    longest_passage=9,
    warmup=4,
)
STREAM = np.random.default_rng(0).integers(2, 64, size=5000)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab") / "lab"
    return nano.train(TINY, folder, vary=("repeated=0,0.50", "window=none,0-6"), keep_optimizer=True, workers=1)


def test_factors_are_axes_of_the_suite_and_of_its_tables(lab, tmp_path):
    suite = open_suite(lab)
    assert suite.axes == {"repeated": ("0", "0.5"), "window": ("none", "0-6")}
    assert re.search(r"^ *repeated +0, 0\.5$", str(suite.describe()), re.MULTILINE)
    assert len(suite.runs) == 2 * 2 * 2
    chosen = suite.checkpoints("repeated=0.2..1 window=0-6 seed=2 step=last")
    assert [one.run for one in chosen] == ["nano-4k-repeated0.5-window0-6-seed2"]
    assert (chosen[0].size, chosen[0].seed, chosen[0].axes) == ("4k", "2", (("repeated", "0.5"), ("window", "0-6")))
    headway.measure(lab, out=tmp_path, corpus="nano", scores=("prev",), where="seed=1 step=0,last", loss=True)
    headway.cluster(lab, out=tmp_path, where="seed=1 step=last", ks=(2,), nulls=0)
    for table in ("heads", "abilities", "clusters"):
        frame = RunDirectory(tmp_path).read(table)
        assert axes_of(frame.columns) == ("repeated", "window")
        assert frame.select("axis_repeated", "axis_window").unique().height == 4


def test_unknown_axes_and_values_are_named(lab):
    suite = open_suite(lab)
    with pytest.raises(SelectionError, match="no axis 'repeatd', did you mean 'repeated'"):
        suite.checkpoints("repeatd=0")
    with pytest.raises(SelectionError, match=r"has no repeated '0\.4'; known: 0\.5, 0"):
        suite.checkpoints("repeated=0.4")


def test_a_folder_suite_of_ones_own_may_have_axes(lab, tmp_path):
    import shutil

    run = next(path for path in lab.iterdir() if path.is_dir())
    for name, axes in (("a-seed1", {"data": "pile"}), ("b-seed1", {"data": "deduped"}), ("c-seed1", None)):
        shutil.copytree(run, tmp_path / name)
        (tmp_path / name / "axes.json").unlink()
        if axes:
            (tmp_path / name / "axes.json").write_text(json.dumps(axes))
    suite = open_suite(tmp_path)
    assert [one.run for one in suite.checkpoints("data=pile step=0")] == ["a-seed1"]
    assert suite.axes == {"data": ("deduped", "pile")}
    (tmp_path / "a-seed1" / "axes.json").write_text('{"size": "1"}')
    with pytest.raises(SelectionError, match="'size' cannot name an axis"):
        open_suite(tmp_path)
    (tmp_path / "a-seed1" / "axes.json").write_text('{"data": "a, b"}')
    with pytest.raises(SelectionError, match="'a, b' cannot be a value of data"):
        open_suite(tmp_path)


def test_training_goes_on_where_it_was_and_refuses_other_levels(lab):
    before = {path: path.stat().st_mtime_ns for path in lab.iterdir() if path.is_dir()}
    nano.train(TINY, lab, vary=("repeated=0,0.5", "window=none,0-6"), keep_optimizer=True)
    assert {path: path.stat().st_mtime_ns for path in lab.iterdir() if path.is_dir()} == before
    with pytest.raises(UsageError, match="made otherwise"):
        nano.train(TINY, lab, vary=("repeated=0,0.9",))


def test_every_factor_changes_what_it_says():
    levels = {
        "repeated": ("0.25", "repeated", 0.25),
        "passage": ("text-6-8", "shortest_passage", 6),
        "zipf": ("1.5", "zipf", 1.5),
        "burstiness": ("0.5", "burstiness", 0.5),
        "window": ("2-8", "window", (2, 8)),
        "withheld": ("2-8", "withheld", (2, 8)),
        "vocabulary": ("96", "vocab_size", 96),
        "context": ("16", "context_length", 16),
        "learning_rate": ("1e-3", "learning_rate", 1e-3),
        "warmup": ("7", "warmup", 7),
        "weight_decay": ("0.5", "weight_decay", 0.5),
        "depth": ("3", "sizes", (nano.Size(3, 4, 16, 32),)),
        "heads": ("2", "sizes", (nano.Size(1, 2, 16, 32),)),
        "mlp": ("8", "sizes", (nano.Size(1, 4, 16, 8),)),
        "positions": ("none", "rotary", 0.0),
        "initialisation": ("0.1", "initializer_range", 0.1),
    }
    assert set(levels) == set(factors.FACTORS)
    for name, (level, field, value) in levels.items():
        changed = laboratory.laboratory(TINY, (f"{name}={level}",))
        (_, cell), *_ = laboratory.cells(changed)
        assert getattr(cell, field) == value
        # Whatever else a factor changes, it is named here.
        also = {"passage": {"longest_passage", "random"}, "zipf": {"background"}}.get(name, set())
        differs = {one.name for one in dataclasses.fields(cell) if getattr(cell, one.name) != getattr(TINY, one.name)}
        assert differs == {field} | also
        assert nano.Recipe.from_json(changed.described()["recipe"]) == changed


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("repeted=0", "no factor 'repeted', did you mean 'repeated'"),
        ("repeated", "takes a factor and its levels"),
        ("repeated=2", "'2' is no level. Give a share from 0 to 1"),
        ("repeated=0.5,0.50", "names a level twice"),
        ("passage=randon", "did you mean 'random'"),
        ("passage=9-5", "'9-5' is no level"),
        ("window=6-2", "'6-2' is no level"),
        ("window=50-60", "begins when training ends, at step 12"),
        ("heads=3", "3 heads do not divide a width of 16"),
        ("context=8", "passages of 9 distinct tokens do not fit a context of 8"),
        ("positions=learned", "learned positions cannot be trained"),
    ],
)
def test_impossible_factors_are_refused(vary, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        nano.train(TINY, tmp_path / "lab", vary=(vary,))
    assert not (tmp_path / "lab").exists()


def test_sizes_and_seeds_are_chosen():
    quick = nano.PRESETS["quick"]
    chosen = laboratory.laboratory(quick, seeds=6, sizes=("72k",))
    assert list(nano.planned_runs(chosen)) == [f"nano-72k-seed{seed}" for seed in range(1, 7)]
    with pytest.raises(SelectionError, match="no size '71k', did you mean '72k'"):
        laboratory.laboratory(quick, sizes=("71k",))
    grid = laboratory.laboratory(quick, ("repeated=0,0.5",), 6, ("50k",))
    said = laboratory.announced(grid, list(nano.planned_runs(grid)), 2)
    assert said.startswith("12 runs (2 levels of repeated x 1 size x 6 seeds). Training takes about")


def test_processes_that_share_cores_are_not_promised_to_be_faster(monkeypatch):
    monkeypatch.setattr(laboratory, "cores", lambda: 2)
    grid = laboratory.laboratory(nano.PRESETS["standard"], ("repeated=0,0.5",))
    said = [laboratory.announced(grid, list(nano.planned_runs(grid)), workers) for workers in (1, 2, 3)]
    one, two, three = (float(re.search(r"about ([0-9.]+) (?:hours|minutes)", sentence)[1]) for sentence in said)
    assert one > two == three


def test_a_recipe_without_factors_is_described_as_before_there_were_any():
    """So that suites in the cache are found, and not trained again."""
    described = nano.PRESETS["quick"].described()["recipe"]
    assert not {"window", "withheld", "vary", "origin", "background", "zipf", "burstiness"} & set(described)


def test_a_window_decides_when_passages_repeat_and_nothing_else():
    always = dataclasses.replace(TINY, repeated=0.5, batch_size=64)
    within = dataclasses.replace(always, window=(2, 4))
    without = dataclasses.replace(always, withheld=(2, 4))
    steps = zip(*(data.batches(recipe, STREAM, 3) for recipe in (always, within, without)), strict=True)
    for step, (full, inside, outside) in zip(range(7), steps, strict=False):
        assert full.repeats.any()
        assert inside.repeats.any() == (step in (2, 3))
        assert outside.repeats.any() == (step not in (2, 3))
        for other in (inside, outside):  # the same passages, and the same text
            alike = full.repeats == other.repeats
            assert (full.ids[alike] == other.ids[alike]).all()


def test_backgrounds_follow_zipf_and_copies_are_bursty():
    recipe = dataclasses.replace(TINY, repeated=0.0, background="zipf", zipf=1.0, batch_size=4000)
    ids = next(data.batches(recipe, STREAM, 1)).ids
    counts = np.bincount(ids.ravel(), minlength=64)
    assert counts[:2].sum() == 0  # special tokens
    # 128,000 draws: the shares of the three most frequent tokens have a standard error below 0.0013; four of those.
    expected = 1 / np.arange(1, 63)
    np.testing.assert_allclose(counts[2:5] / counts.sum(), (expected / expected.sum())[:3], atol=0.005)
    bursty = next(data.batches(dataclasses.replace(recipe, zipf=0.0, burstiness=0.5), STREAM, 1)).ids
    second = (bursty[:, 1] == bursty[:, 0]).mean()
    # The second token copies the first with probability 0.5, or equals it by chance: 0.5 + 0.5/62, standard error 0.008.
    assert second == pytest.approx(0.5 + 0.5 / 62, abs=0.032)


def test_models_without_positions_are_what_transformers_reads(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from headway.nano import stacked

    ((_, recipe),) = laboratory.cells(laboratory.laboratory(TINY, ("positions=none",)))
    training.train_runs(recipe, TINY.sizes[0], {1: tmp_path}, data.train_tokenizer(64))
    step = tmp_path / "step12"
    model = AutoModelForCausalLM.from_pretrained(step).eval()
    stack = stacked.Stack(recipe, TINY.sizes[0], (1,))
    stack.weights = stack.row(load_file(step / "model.safetensors"))[None]
    ids = torch.from_numpy(np.random.default_rng(1).integers(64, size=(1, 3, 20)))
    with torch.no_grad():
        # Two float32 programs: logits of about 1 agree to some 1e-6.
        torch.testing.assert_close(stack.logits(ids)[0], model(ids[0]).logits, rtol=0, atol=1e-5)
        # Without positions the order of earlier tokens cannot matter to one layer.
        shuffled = ids[0][:, [3, 0, 2, 1, *range(4, 20)]]
        torch.testing.assert_close(model(shuffled).logits[:, -1], model(ids[0]).logits[:, -1], rtol=0, atol=1e-5)


# --- forks ----------------------------------------------------------------------------------------------------------


def last(folder, run):
    return load_file(folder / run / "step12" / "model.safetensors")


def test_a_fork_with_the_same_data_gives_the_same_run(lab, tmp_path):
    run = "nano-4k-repeated0.5-windownone-seed2"
    folder = nano.train("quick", tmp_path / "fork", start=f"{lab / run}@4", vary=("withheld=none,4-12",), workers=1)
    assert location.read_recipe(folder).origin.step == 4
    whole = last(lab, run)
    same, other = (last(folder, f"nano-4k-withheld{level}-seed2") for level in ("none", "4-12"))
    for name in whole:
        # Sums in another order: 1e-7 of weights that move by up to 3e-3 a step, enlarged by AdamW where gradients vanish.
        np.testing.assert_allclose(same[name], whole[name], rtol=0, atol=1e-5)
    assert max((other[name] - whole[name]).abs().max() for name in whole) > 1e-3
    begun = load_file(folder / "nano-4k-withheld4-12-seed2" / "step4" / "model.safetensors")
    assert all((begun[name] == there).all() for name, there in load_file(lab / run / "step4/model.safetensors").items())


def test_a_fork_without_moments_says_so(lab):
    run = "nano-4k-repeated0-windownone-seed1"
    (lab / run / "step4" / training.OPTIMIZER).unlink()
    with pytest.warns(UserWarning, match="holds no moments of the optimizer"):
        recipe, _ = forks.forked(f"{lab}/{run}@4")
    assert (recipe.steps, recipe.repeated) == ((4, 12), 0.0)
    for start, message in (
        (run, "takes a run and a step"),
        (f"{run}@5", "has no checkpoint of step 5; it has 0, 4, 12"),
        (f"{run}@12", "ends at step 12"),
        ("nano-4k-repeated0-windownone-seed7@4", "did you mean 'nano-4k-repeated0-windownone-seed2'"),
    ):
        with pytest.raises(UsageError, match=message):
            forks.forked(f"{lab}/{start}")
