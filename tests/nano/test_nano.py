"""A tiny recipe is really trained here, once."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import headway
import support_models
from headway import nano
from headway.errors import HeadwayError, SelectionError, StorageError, UsageError
from headway.nano import data, location, making, stacked, training, worker
from headway.nano.text import paragraphs
from headway.store.directory import RunDirectory
from headway.suites import open_suite

TINY = nano.Recipe(
    sizes=(nano.Size(1, n_heads=2, hidden_size=16, mlp_size=64), nano.Size(2, n_heads=3, hidden_size=24, mlp_size=96)),
    seeds=(1, 2),
    steps=(0, 1, 60),
    context_length=32,
    batch_size=4,
    repeated=0.5,
    random=0.25,
    shortest_passage=5,
    longest_passage=9,
    learning_rate=1e-2,
)
RUNS = ["nano-18k-seed1", "nano-18k-seed2", "nano-5k-seed1", "nano-5k-seed2"]  # in the order of their folders


class Recorded:
    """What a progress was told."""

    def __init__(self):
        self.started, self.total, self.done = 0, 0, 0

    def start(self, what, total, done=0):
        self.started, self.total, self.done = self.started + 1, total, done

    def advance(self, n=1, note=""):
        self.done += n

    def close(self):
        pass


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny suite's folder, and what its progress was told."""
    told = Recorded()
    return nano.train(TINY, tmp_path_factory.mktemp("nano") / "tiny", workers=2, progress=told), told


def weights(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def load(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


def test_every_run_has_every_step_as_on_the_hub(tiny):
    folder, told = tiny
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == RUNS
    for run in RUNS:
        assert sorted(path.name for path in (folder / run).iterdir()) == ["step0", "step1", "step60"]
    names = {path.name for path in (folder / RUNS[0] / "step60").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert (told.started, told.total, told.done) == (1, 4 * 60, 4 * 60)


def test_transformers_reads_a_checkpoint_as_it_is(tiny):
    from transformers import AutoTokenizer

    step = tiny[0] / "nano-18k-seed1" / "step60"
    model, tokenizer = load(step), AutoTokenizer.from_pretrained(step)
    assert type(model).__name__ == "GPTNeoXForCausalLM"
    assert model.config.max_position_embeddings == 32
    text = "The “with” statement, 日本."
    assert tokenizer.decode(tokenizer(text).input_ids) == "the “with” statement, <|unknown|><|unknown|>."
    assert len(tokenizer(text).input_ids) == len(text)  # a token is a character
    assert len(tokenizer) == 64
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == data.END_OF_TEXT_ID


def test_names_say_size_and_seed_and_sizes_say_the_parameters(tiny):
    suite = open_suite(tiny[0])
    checkpoints = suite.checkpoints("")
    assert [(c.run, c.size, c.seed, c.step) for c in checkpoints][:4] == [
        ("nano-5k-seed1", "5k", "1", 0),
        ("nano-5k-seed1", "5k", "1", 1),
        ("nano-5k-seed1", "5k", "1", 60),
        ("nano-5k-seed2", "5k", "2", 0),
    ]
    for run, size in (("nano-5k-seed1", TINY.sizes[0]), ("nano-18k-seed1", TINY.sizes[1])):
        assert load(tiny[0] / run / "step0").num_parameters() == size.n_params(64)


def test_it_learns(tiny):
    """Held-out loss falls: from the uniform guess, ln 64 = 4.2 nats, by more than half a nat in every run."""
    assert_learned(tiny[0])


def test_it_learns_on_a_gpu(tmp_path):
    if support_models.DEVICE == "cpu":
        pytest.skip("no GPU is asked for: run pytest with --device cuda")
    assert_learned(nano.train(TINY, tmp_path / "tiny", device="cuda", workers=2))


def assert_learned(folder):
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(location.tokenizer_path(folder)))
    ids = torch.tensor(
        [encoding.ids[:32] for encoding in tokenizer.encode_batch(nano.held_out()) if len(encoding) >= 32]
    )
    for run in RUNS:
        with torch.no_grad():
            losses = [load(folder / run / f"step{step}")(ids, labels=ids).loss.item() for step in (0, 60)]
        assert losses[0] == pytest.approx(np.log(64), abs=0.3)  # untrained logits are small, not zero
        assert losses[1] < losses[0] - 0.5


def test_transformers_predicts_what_the_stack_predicted(tiny):
    """So the config and the fused weights mean to transformers what they meant in training."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    for size, run in ((TINY.sizes[1], "nano-18k"), (TINY.sizes[0], "nano-5k")):
        folders = [tiny[0] / f"{run}-seed{seed}" / "step60" for seed in (1, 2)]
        stack = stacked.Stack(TINY, size, (1, 2))
        rows = [load_file(folder / "model.safetensors") for folder in folders]
        names = stacked.parameter_shapes(size, 64)
        stack.weights = torch.stack([torch.cat([row[name].double().flatten() for name in names]) for row in rows])
        ids = torch.from_numpy(np.random.default_rng(1).integers(64, size=(2, 5, 32)))
        predicted = stack.logits(ids)
        for row, folder in enumerate(folders):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
            with torch.no_grad():
                own = model(ids[row]).logits
            # transformers turns positions in float32, which shows in the ninth digit of logits of about 1.
            torch.testing.assert_close(predicted[row], own, rtol=0, atol=1e-6)


def test_a_run_is_the_same_alone_and_beside_others(tmp_path):
    """The initialisation and the data are equal; the weights are, up to rounding."""
    from safetensors.torch import load_file

    recipe = dataclasses.replace(TINY, steps=(0, 20), learning_rate=3e-3)
    tokenizer = data.train_tokenizer(64)
    together = {seed: tmp_path / f"together{seed}" for seed in (1, 2, 3)}
    training.train_runs(recipe, recipe.sizes[1], together, tokenizer)
    for seed, folder in together.items():
        alone = tmp_path / f"alone{seed}"
        training.train_runs(recipe, recipe.sizes[1], {seed: alone}, tokenizer)
        assert weights(alone / "step0") == weights(folder / "step0")
        one, other = (load_file(place / "step20" / "model.safetensors") for place in (alone, folder))
        for name in one:
            # AdamW moves each weight by up to 3e-3 a step. Rounding is 1e-7 of that, and AdamW enlarges it where a
            # gradient is close to 0: 1e-5 was the largest difference seen. Other data or another clipping move weights
            # by more than 1e-3.
            np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-4)
    first, second = (load_file(together[seed] / "step20" / "model.safetensors") for seed in (1, 2))
    assert max(abs(first[name] - second[name]).max() for name in first) > 1e-2


def test_runs_of_one_size_are_trained_together_and_every_worker_has_some():
    recipe = dataclasses.replace(TINY, seeds=(1, 2, 3, 4, 5))
    runs = list(nano.planned_runs(recipe))
    for n_workers, most, lengths in (
        (2, 3, [3, 2, 3, 2]),
        (1, 3, [3, 2, 3, 2]),
        (2, 64, [3, 2, 3, 2]),
        (1, 64, [5, 5]),
    ):
        stacks = making._stacks(recipe, runs, n_workers, most)
        assert [len(stack) for stack in stacks] == lengths
        assert [run for stack in stacks for run in stack] == runs
        assert all(len({nano.planned_runs(recipe)[run][0] for run in stack}) == 1 for stack in stacks)


# --- what the presets show ------------------------------------------------------------------------------------------


def story(folder, out):
    """For each run, the first step at which each role and the ability is there; None if it is not within the run."""
    import polars as pl

    headway.measure(folder, out=out, corpus="nano", scores=("prev_self_ratio", "induction"), loss=True)
    best = RunDirectory(out).read("heads").group_by("run", "step").max().sort("run", "step")
    able = RunDirectory(out).read("abilities").filter(ability="repeat_accuracy").select("run", "step", accuracy="value")
    best = best.join(able, on=["run", "step"], maintain_order="left")
    found = {}
    for (run,), own in best.group_by("run", maintain_order=True):
        untrained = own["prev_self_ratio"][0]
        found[run] = {
            name: own.filter(reached)["step"].min()
            for name, reached in {
                "previous": pl.col("prev_self_ratio") >= 1.5 * untrained,
                "induction begins": pl.col("induction") > 0.1,  # 0.02 at initialisation
                "induction": pl.col("induction") > 0.5,
                "accuracy": pl.col("accuracy") > 0.5,
            }.items()
        }
    return found


def assert_in_order(found):
    """Previous-token heads, then induction heads, then accuracy. An induction head is right before its score is 0.5."""
    for run, steps in found.items():
        assert None not in steps.values(), f"{run}: {steps}"
        assert steps["previous"] < steps["induction begins"] < steps["accuracy"], f"{run}: {steps}"
    assert len({tuple(steps.values()) for steps in found.values()}) > 1  # seeds differ


def test_roles_and_ability_arise_in_order(tmp_path):
    """In every run of the preset `quick`, where it is trained; else two runs of its smallest size: 40 seconds of one core."""
    quick, folder = nano.PRESETS["quick"], nano.place("quick")
    if location.missing_runs(folder, quick):
        recipe = dataclasses.replace(quick, sizes=quick.sizes[:1], seeds=(1, 2))
        folder = nano.train(recipe, tmp_path / "suite")
    assert_in_order(story(folder, tmp_path / "runs"))


@pytest.mark.parametrize(
    ("cores", "runs", "processes"), [(2, 1, 1), (2, 3, 3), (2, 4, 2), (2, 18, 2), (64, 16, 16), (64, 20, 16)]
)
def test_no_core_is_idle_while_the_last_run_is_trained(cores, runs, processes, monkeypatch):
    monkeypatch.setattr(making, "cores", lambda: cores)
    assert making.processes(runs) == processes


def test_a_suite_that_is_there_is_found_while_another_process_trains(tiny, monkeypatch):
    """That process holds the lock, for hours if it trains other runs."""
    monkeypatch.setattr("filelock.FileLock", None)
    assert nano.train(TINY, tiny[0]) == tiny[0]


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tiny, tmp_path):
    """Bit for bit, though the suite was trained in another process, and whatever PyTorch drew before."""
    import torch
    from tokenizers import Tokenizer

    torch.rand(3)
    before = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    tokenizer = Tokenizer.from_file(str(location.tokenizer_path(tiny[0])))
    # With two workers, the suite's two runs of a size were trained by one each: alone, as here.
    training.train_runs(TINY, TINY.sizes[1], {1: tmp_path}, tokenizer)
    for step in TINY.steps:
        assert weights(tmp_path / f"step{step}") == weights(tiny[0] / "nano-18k-seed1" / f"step{step}")
        assert weights(tmp_path / f"step{step}") != weights(tiny[0] / "nano-18k-seed2" / f"step{step}")
    assert (torch.random.get_rng_state() == before).all()
    assert torch.get_num_threads() == threads


def test_the_first_step_already_learns(tiny):
    """Unlike Pythia's, whose first learning rate is 0, so that its steps 0 and 1 are one checkpoint."""
    for run in RUNS:
        assert weights(tiny[0] / run / "step0") != weights(tiny[0] / run / "step1")


def test_the_tokenizer_is_trained_the_same_way_twice(tiny):
    again = json.loads(data.train_tokenizer(64).to_str())
    assert again == json.loads(location.tokenizer_path(tiny[0]).read_text())


def test_the_folder_says_what_it_was_made_from(tiny):
    description = json.loads((tiny[0] / "suite.json").read_text())
    assert description["text_sha256"] == nano.text_sha256()
    assert nano.Recipe.from_json(description["recipe"]) == TINY
    assert set(description["versions"]) == {"python", "numpy", "tokenizers", "torch", "transformers"}


def test_training_that_was_stopped_goes_on_with_the_missing_runs(tiny, tmp_path):
    import shutil

    folder = tmp_path / "tiny"
    shutil.copytree(tiny[0], folder)
    shutil.rmtree(folder / RUNS[2])
    (folder / f".{RUNS[2]}.123" / "step0").mkdir(parents=True)  # as a killed training leaves it
    kept = {run: (folder / run).stat().st_mtime_ns for run in RUNS if run != RUNS[2]}
    told = Recorded()
    nano.train(TINY, folder, workers=1, progress=told)
    assert weights(folder / RUNS[2] / "step60") == weights(tiny[0] / RUNS[2] / "step60")
    assert {run: (folder / run).stat().st_mtime_ns for run in kept} == kept
    assert not list(folder.glob(".nano-*"))
    assert (told.total, told.done) == (240, 240)
    nano.train(TINY, folder, progress=told)
    assert told.started == 1  # whole: nothing was started


def test_the_suite_trains_the_selected_runs_and_shows_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path))
    monkeypatch.setitem(nano.PRESETS, "quick", TINY)
    suite, place = open_suite("nano"), nano.place("quick")
    assert {run.name for run in suite.runs} == set(RUNS)
    assert len(suite.listed("seed=2")) == 2 * len(TINY.steps)
    assert not place.exists()  # to list them trains nothing
    told = Recorded()
    chosen = suite.checkpoints("seed=2 step=last", told)
    made = {run for run in RUNS if (place / run).is_dir()}
    assert made == {one.run for one in chosen} == {run for run in RUNS if run.endswith("seed2")}
    assert all((one.source.path / "model.safetensors").exists() for one in chosen)
    assert (told.total, told.done) == (2 * TINY.steps[-1],) * 2


def test_a_run_that_breaks_off_is_no_run(tiny, tmp_path):
    location.prepare(tmp_path, TINY)

    def stop():
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *args, **options: stop())
        with pytest.raises(KeyboardInterrupt):
            worker.make_runs(TINY, RUNS[:2], tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert location.missing_runs(tmp_path, TINY) == RUNS  # the costliest first


def test_a_worker_that_fails_says_why_and_ends(tmp_path, monkeypatch):
    location.prepare(tmp_path, TINY)
    started = []
    popen = subprocess.Popen

    def broken(arguments, **options):
        started.append(popen([sys.executable, "-c", "raise MemoryError('no room')"], **options))
        return started[-1]

    monkeypatch.setattr(making.subprocess, "Popen", broken)
    with pytest.raises(HeadwayError, match=r"nano-\d+k-seed\d of the nano suite failed: MemoryError: no room"):
        nano.train(TINY, tmp_path, workers=2)
    assert all(process.poll() is not None for process in started)


def test_the_cache_is_where_it_is_told_and_one_for_each_recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path))
    monkeypatch.setattr(making, "_train", lambda *args: None)
    one = nano.train(TINY)
    other = nano.train(dataclasses.replace(TINY, seeds=(1,)))
    assert one.parent == other.parent == tmp_path / "nano"
    assert one != other
    assert nano.folder("quick").name.startswith("quick-")
    monkeypatch.setattr("headway.nano.recipe.text_sha256", lambda: "another Python's")
    assert nano.train(TINY) not in (one, other)


def test_a_folder_with_something_else_is_left_alone(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"made otherwise \(recipe differ\)"):
        nano.train(dataclasses.replace(TINY, learning_rate=1e-3), tiny[0])
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds other files"):
        nano.train(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["thesis.tex"]


def test_impossible_requests_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SelectionError, match="no preset 'large' of the nano suite: there are quick, standard"):
        nano.train("large", tmp_path)
    with pytest.raises(UsageError, match="unknown device 'tpu'"):
        nano.train(TINY, tmp_path, device="tpu")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file is a file\. Name a folder"):
        nano.train(TINY, tmp_path / "file" / "suite")
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="set HEADWAY_CACHE"):
        nano.train(TINY)
    assert not (tmp_path / "suite.json").exists()


@pytest.mark.parametrize("name", nano.PRESETS)
def test_presets_are_grids_of_the_promised_size(name):
    recipe = nano.PRESETS[name]
    assert (len(recipe.sizes), len(recipe.seeds), len(recipe.steps)) == {"quick": (3, 3, 16), "standard": (4, 9, 21)}[
        name
    ]
    assert recipe.steps[0] == 0
    assert list(recipe.steps) == sorted(set(recipe.steps))
    assert len(nano.planned_runs(recipe)) == len(recipe.sizes) * len(recipe.seeds)
    assert len({size.name(recipe.vocab_size) for size in recipe.sizes}) == len(recipe.sizes)
    assert all(size.hidden_size % size.n_heads == 0 for size in recipe.sizes)


def test_the_held_out_text_is_a_tenth_and_in_no_other():
    held, trained = nano.held_out(), data.trained_on()
    assert not any(text.startswith(tuple(held)) for text in trained)
    # Of a tenth of all paragraphs, those are left out that begin as one to train on does: at most one in ten.
    assert 0.9 * len(trained) / 9 - 1 <= len(held) <= len(trained) / 9 + 1
    assert len(set(trained)) == len(trained)
    assert 32 < min(map(len, held)) <= max(map(len, held)) <= 64
    tenth = paragraphs()[9::10]
    assert all(any(f"{whole} ".startswith(f"{text} ") for whole in tenth) for text in held)  # cut between words


def test_batches_mix_text_and_passages_that_repeat():
    stream = data.token_stream(data.train_tokenizer(TINY.vocab_size))
    recipe = dataclasses.replace(TINY, batch_size=2000)
    batch = next(data.batches(recipe, stream, seed=7)).ids
    assert batch.shape == (2000, 32)
    assert batch.dtype == np.int64

    def period(row):
        return next((p for p in range(5, 10) if (row[p:] == row[:-p]).all()), 0)

    periods = np.array([period(row) for row in batch])
    distinct = np.array([len(set(row[: p or 32])) == (p or 32) for row, p in zip(batch, periods, strict=True)])
    # 1,000 of 2,000 expected to repeat, with a standard deviation of 22: five of those.
    assert abs((periods > 0).sum() - 1000) < 112
    assert {5, 6, 7, 8, 9} == set(periods[periods > 0])
    assert 0.25 < distinct[periods > 0].mean() < 1  # the random quarter, and some of the text's
    again = next(data.batches(recipe, stream, seed=7)).ids
    assert (batch == again).all()
    assert (batch != next(data.batches(recipe, stream, seed=8)).ids).any()


def test_training_in_a_script_without_a_main_guard(tmp_path):
    """Worker processes do not run the caller's script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from headway import nano\n"
        "print('once')\n"
        "recipe = nano.Recipe(sizes=(nano.Size(1, 1, 4, 8),), seeds=(1,), steps=(0, 2), context_length=16,\n"
        "                     batch_size=2, shortest_passage=4, longest_passage=6)\n"
        "print(nano.train(recipe, 'suite'))\n"
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HEADWAY_CACHE": ""},
    )
    assert done.stdout.splitlines() == ["once", "suite"]
    assert done.stderr == ""
    assert (tmp_path / "suite" / "nano-1k-seed1" / "step2" / "model.safetensors").is_file()
