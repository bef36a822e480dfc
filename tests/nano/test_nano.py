"""A tiny recipe is really trained here, once."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import support_models
from headway import nano
from headway.errors import HeadwayError, SelectionError, StorageError, UsageError
from headway.nano import data, location, making, training, worker
from headway.suites import open_suite

TINY = nano.Recipe(
    sizes=(nano.Size(n_layers=1, n_heads=2, hidden_size=16), nano.Size(n_layers=2, n_heads=3, hidden_size=24)),
    seeds=(1, 2),
    steps=(0, 1, 60),
    vocab_size=300,
    context_length=32,
    batch_size=4,
    shortest_passage=5,
    longest_passage=9,
)
RUNS = ["nano-13k-seed1", "nano-13k-seed2", "nano-29k-seed1", "nano-29k-seed2"]


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

    step = tiny[0] / "nano-29k-seed1" / "step60"
    model, tokenizer = load(step), AutoTokenizer.from_pretrained(step)
    assert type(model).__name__ == "GPTNeoXForCausalLM"
    assert model.config.max_position_embeddings == 32
    text = "The “with” statement – naïve café, 日本."
    assert tokenizer.decode(tokenizer(text).input_ids) == text  # byte level: no text is beyond it
    assert len(tokenizer) == 300
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == data.END_OF_TEXT_ID


def test_names_say_size_and_seed_and_sizes_say_the_parameters(tiny):
    suite = open_suite(tiny[0])
    checkpoints = suite.checkpoints("")
    assert [(c.run, c.size, c.seed, c.step) for c in checkpoints][:4] == [
        ("nano-13k-seed1", "13k", "1", 0),
        ("nano-13k-seed1", "13k", "1", 1),
        ("nano-13k-seed1", "13k", "1", 60),
        ("nano-13k-seed2", "13k", "2", 0),
    ]
    for run, size in (("nano-13k-seed1", TINY.sizes[0]), ("nano-29k-seed1", TINY.sizes[1])):
        assert load(tiny[0] / run / "step0").num_parameters() == size.n_params(300)


def test_it_learns(tiny):
    """Held-out loss falls: from the uniform guess, ln 300 = 5.7 nats, by more than half a nat in every run."""
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
        assert losses[0] == pytest.approx(np.log(300), abs=0.3)  # untrained logits are small, not zero
        assert losses[1] < losses[0] - 0.5


def largest_ratio(step):
    """The largest of all heads' prev_self_ratio on the held-out text: the mean over texts, from eager attention."""
    import torch
    from tokenizers import Tokenizer

    model, tokenizer = load(step), Tokenizer.from_file(str(step / "tokenizer.json"))
    context = model.config.max_position_embeddings
    tokenizer.enable_truncation(context)
    tokenizer.enable_padding(length=context)  # on the right, where causal attention does not look
    texts = tokenizer.encode_batch(nano.held_out())
    with torch.no_grad():
        found = model(torch.tensor([text.ids for text in texts]), output_attentions=True)
    A = torch.stack(found.attentions, dim=1)  # (texts, layers, heads, T, T)
    ratios = []
    for text, own in zip(texts, A, strict=True):
        n_tokens = sum(text.attention_mask)
        own = own[..., :n_tokens, :n_tokens]
        ratios.append(own.diagonal(-1, -2, -1).mean(-1) / own.diagonal(0, -2, -1).mean(-1))
    return torch.stack(ratios).mean(0).max().item()


def test_attention_to_the_previous_token_arises(tmp_path):
    """The smallest model of the preset `quick`, on a shorter schedule: some four seconds of one core."""
    quick = nano.PRESETS["quick"]
    recipe = dataclasses.replace(quick, sizes=quick.sizes[:1], seeds=(1,), steps=(0, 300))
    folder = nano.train(recipe, tmp_path / "one") / "nano-166k-seed1"
    assert largest_ratio(folder / "step300") >= 2 * largest_ratio(folder / "step0")


def test_it_arises_in_every_run_of_the_demonstration():
    quick = nano.PRESETS["quick"]
    folder = location.cache_folder() / f"quick-{quick.key()}"
    if location.missing_runs(folder, quick):
        pytest.skip("the preset `quick` is not trained on this machine yet: `headway nano train --preset quick`")
    for run in quick.runs():
        assert largest_ratio(folder / run / f"step{quick.steps[-1]}") >= 2 * largest_ratio(folder / run / "step0")


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tiny, tmp_path):
    """Bit for bit, though the suite was trained in another process, and whatever PyTorch drew before."""
    import torch
    from tokenizers import Tokenizer

    torch.rand(3)
    before = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    tokenizer = Tokenizer.from_file(str(location.tokenizer_path(tiny[0])))
    training.train_run(TINY, TINY.sizes[1], 1, tokenizer, tmp_path)
    for step in TINY.steps:
        assert weights(tmp_path / f"step{step}") == weights(tiny[0] / "nano-29k-seed1" / f"step{step}")
        assert weights(tmp_path / f"step{step}") != weights(tiny[0] / "nano-29k-seed2" / f"step{step}")
    assert (torch.random.get_rng_state() == before).all()
    assert torch.get_num_threads() == threads


def test_the_first_step_already_learns(tiny):
    """Unlike Pythia's, whose first learning rate is 0, so that its steps 0 and 1 are one checkpoint."""
    for run in RUNS:
        assert weights(tiny[0] / run / "step0") != weights(tiny[0] / run / "step1")


def test_the_tokenizer_is_trained_the_same_way_twice(tiny):
    again = json.loads(data.train_tokenizer(300).to_str())
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


def test_a_run_that_breaks_off_is_no_run(tiny, tmp_path):
    location.prepare(tmp_path, TINY)
    from tokenizers import Tokenizer

    def stop():
        raise KeyboardInterrupt

    tokenizer = Tokenizer.from_file(str(location.tokenizer_path(tmp_path)))
    before = sorted(tmp_path.iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *args, **options: stop())
        with pytest.raises(KeyboardInterrupt):
            worker.make_run(TINY, RUNS[0], tokenizer, tmp_path, "cpu")
    assert sorted(tmp_path.iterdir()) == before
    assert location.missing_runs(tmp_path, TINY) == [*RUNS[2:], *RUNS[:2]]  # the costliest first


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
    assert (len(recipe.sizes), len(recipe.seeds), len(recipe.steps)) == {"quick": (3, 3, 12), "standard": (4, 9, 16)}[
        name
    ]
    assert recipe.steps[0] == 0
    assert list(recipe.steps) == sorted(set(recipe.steps))
    assert len(recipe.runs()) == len(recipe.sizes) * len(recipe.seeds)
    assert len({size.n_layers for size in recipe.sizes}) == len(recipe.sizes)
    assert all(size.hidden_size % size.n_heads == 0 for size in recipe.sizes)


def test_the_held_out_text_is_a_tenth_and_in_no_other():
    held, trained = nano.held_out(), data.trained_on()
    assert not set(held) & set(trained)
    assert len(held) == pytest.approx(len(trained) / 9, abs=1)
    assert len(set(trained)) == len(trained)
    assert min(map(len, held)) >= 60


def test_batches_mix_text_and_passages_that_repeat():
    stream = data.token_stream(data.train_tokenizer(TINY.vocab_size))
    recipe = dataclasses.replace(TINY, batch_size=2000)
    batch = next(data.batches(recipe, stream, seed=7))
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
    again = next(data.batches(recipe, stream, seed=7))
    assert (batch == again).all()
    assert (batch != next(data.batches(recipe, stream, seed=8))).any()


def test_training_in_a_script_without_a_main_guard(tmp_path):
    """Worker processes do not run the caller's script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from headway import nano\n"
        "print('once')\n"
        "recipe = nano.Recipe(sizes=(nano.Size(1, 1, 4),), seeds=(1,), steps=(0, 2), vocab_size=260,\n"
        "                     context_length=16, batch_size=2, shortest_passage=4, longest_passage=6)\n"
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
    assert (tmp_path / "suite" / "nano-2k-seed1" / "step2" / "model.safetensors").is_file()
