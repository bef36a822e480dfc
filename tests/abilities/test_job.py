"""The table of abilities against transformers' own losses and logits, and items against direct sums of log-probabilities."""

import pickle
import re
from functools import lru_cache

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import GPTNeoXForCausalLM

import headway
from headway import models, tables
from headway.abilities import CheckpointAbilities, asked_abilities, next_token_predictions
from headway.attention.job import HeadScores
from headway.corpora import Corpus, repeated_random
from headway.errors import CheckpointError, CorpusError, RunDirectoryError, UsageError
from headway.store.directory import RunDirectory
from support_items import CONTEXT, WORDS, json_lines, toy_checkpoint
from support_models import saved_suite

TEXTS = ("w1 w2 w3", "w5", "w7 w8 w9 w10 w11", " ".join(WORDS[:83]))
WINDOWS = [np.arange(1, 4), np.arange(7, 12), *np.array_split(np.arange(83), 3)]  # the last text comes in three
TEXT_OF = np.array([0, 2, 3, 3, 3])
CORPUS = Corpus.of("texts", TEXTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoint")


@pytest.fixture(scope="module")
def checkpoint(folder):
    return toy_checkpoint(folder)


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory):
    return toy_checkpoint(tmp_path_factory.mktemp("bos"), bos=True)


def table(checkpoint, *asked, **options):
    job = CheckpointAbilities(CORPUS, abilities=asked_abilities(asked), **options)
    with job.read(checkpoint) as input:
        frame = job.compute(checkpoint, input)
    return {row["ability"]: row for row in frame.to_dicts()}, frame


@lru_cache
def model_of(checkpoint):
    return models.load(checkpoint.source.path, lm_head=True)


def log_probabilities(checkpoint, ids):
    """log p of each next token and the logits, from transformers alone, one text at a time."""
    model = model_of(checkpoint)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([list(ids)])).logits[0].double()
    return logits.log_softmax(-1)[range(len(ids) - 1), list(ids)[1:]].numpy(), logits.numpy()


def test_a_row_per_ability(checkpoint):
    _, frame = table(checkpoint, "loss", "positions", "icl", "repeat")
    assert frame.schema == tables.schema(tables.ABILITIES_COLUMNS)
    assert frame["ability"].to_list() == [
        *("loss", "loss_at_2_3", "loss_at_4_7", "loss_at_8_15", "loss_at_16_31", "icl_2_27"),
        *("repeat_accuracy", "published_repeat_accuracy", "repeat_rank", "published_repeat_rank"),
    ]
    assert set(frame["source"]) == {"texts", "repeated random tokens"}
    assert frame.select("suite", "run", "step", "n_layers").unique().row(0) == ("toy", "toy-seed1", 7, 3)


def test_the_loss_is_that_of_transformers(checkpoint):
    found, _ = table(checkpoint, "loss", "positions", "icl")
    model = models.load(checkpoint.source.path, lm_head=True)
    total = tokens = 0.0
    for ids in (torch.from_numpy(window)[None] for window in WINDOWS):
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.numel() - 1)
        tokens += ids.numel() - 1
    assert found["loss"]["value"] == pytest.approx(total / tokens, rel=1e-5)  # float32 sums in another order
    assert found["loss"]["n_samples"] == 3
    losses = [-log_probabilities(checkpoint, window)[0] for window in WINDOWS]
    at_4_to_7 = np.concatenate([one[2:6] for one in losses])
    assert found["loss_at_4_7"]["value"] == pytest.approx(at_4_to_7.mean(), rel=1e-5)
    # Half of the five windows have 27 tokens; one text reaches them, in three windows.
    gains = [one[25] - one[0] for one in losses[2:] if len(one) >= 26]
    assert found["icl_2_27"]["value"] == pytest.approx(np.mean(gains), abs=1e-4)
    assert (found["icl_2_27"]["n_samples"], found["icl_2_27"]["std_error"]) == (1, None)


def test_repetition_is_that_of_transformers_logits(checkpoint):
    found, _ = table(checkpoint, "repeat", repeated_length=64, repeated_texts=7, seed=3)
    accuracy, published, ranks, published_ranks = [], [], [], []
    for text in repeated_random(np.arange(len(WORDS)), CONTEXT // 2, 7, 3):
        _, logits = log_probabilities(checkpoint, text)
        rank = np.array([(logits[at] > logits[at][text[(at + 1) % 40]]).sum() for at in range(40)])
        # The second copy is 20 .. 39; its tokens but the first are predicted at 20 .. 38, and 39 predicts the first again.
        accuracy.append((rank[20:39] == 0).mean())
        published.append((rank[20:40] == 0).mean())
        ranks.append(rank[20:39].mean())
        published_ranks.append(rank[20:40].mean())
    expected = {
        "repeat_accuracy": accuracy,
        "published_repeat_accuracy": published,
        "repeat_rank": ranks,
        "published_repeat_rank": published_ranks,
    }
    for name, of_texts in expected.items():
        assert found[name]["value"] == pytest.approx(np.mean(of_texts)), name
        assert found[name]["std_error"] == pytest.approx(np.std(of_texts, ddof=1) / np.sqrt(7)), name
        assert found[name]["n_samples"] == 7


def test_predictions_of_padded_texts_are_those_of_single_ones(checkpoint):
    model = models.load(checkpoint.source.path, lm_head=True)
    texts = [np.arange(start, start + length) for start, length in ((0, 6), (7, 9), (30, 13))]
    together = next_token_predictions(model, texts, around=True)
    for number, text in enumerate(texts):
        log_p, logits = log_probabilities(checkpoint, text)
        np.testing.assert_allclose(together.loss[number][:-1], -log_p, atol=1e-5)  # float32
        last = logits[-1]
        assert together.rank[number][-1] == (last > last[text[0]]).sum()
        assert together.right[number][-1] == (last.argmax() == text[0])


def test_a_loss_that_is_not_finite(checkpoint):
    model = models.load(checkpoint.source.path, lm_head=True)
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    with pytest.raises(CheckpointError, match="loss of 2 of 2 texts is not finite"):
        next_token_predictions(model, [np.arange(5), np.arange(7)])


def pair(good, bad, **others):
    return {"sentence_good": good, "sentence_bad": bad, **others}


def ids_of(text, *first):
    return [*first, *(int(word[1:]) for word in text.split())]


@pytest.mark.parametrize("bos", [True, False])
def test_minimal_pairs_are_decided_by_summed_log_probabilities(checkpoint, with_bos, tmp_path, bos):
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{n}" for n in rng.integers(1, 89, length)) for length in rng.integers(3, 9, 60)]
    pairs = [
        pair(good, bad if bos else " ".join([good.split()[0], *bad.split()[1:]]), UID=f"uid_{number % 2}")
        for number, (good, bad) in enumerate(zip(texts[::2], texts[1::2], strict=True))
    ]
    one = with_bos if bos else checkpoint
    found, _ = table(one, json_lines(tmp_path / "pairs.jsonl", *pairs))
    first = [89] if bos else []
    right = [
        np.subtract(
            *(log_probabilities(one, ids_of(row[f"sentence_{kind}"], *first))[0].sum() for kind in ("good", "bad"))
        )
        > 0
        for row in pairs
    ]
    for uid in (0, 1):
        own = np.array(right[uid::2])
        row = found[f"uid_{uid}.acc"]
        assert row["value"] == pytest.approx(own.mean())
        assert row["std_error"] == pytest.approx(np.sqrt(own.mean() * (1 - own.mean()) / 14))
        assert (row["n_samples"], row["unit"], row["source"]) == (15, "fraction", "pairs.jsonl")
    assert 0 < np.mean(right) < 1


def test_cloze_items_are_answered_token_by_token(checkpoint, tmp_path):
    items = [("w1 w2 w3", "w4 w5"), ("w7 w8", "w9"), ("w11 w12 w13 w14", "w15")]
    best = int(log_probabilities(checkpoint, ids_of("w7 w8"))[1][-1].argmax())
    items[1] = ("w7 w8", f"w{best}")  # what the model says
    path = tmp_path / "my facts.tsv"
    path.write_text("".join(f"{prompt}\t{answer}\n" for prompt, answer in items))
    found, _ = table(checkpoint, path)
    log_p = [log_probabilities(checkpoint, ids_of(f"{p} {a}"))[0][-len(a.split()) :].sum() for p, a in items]
    assert best < len(WORDS)
    assert found["my_facts.log_prob"]["value"] == pytest.approx(np.mean(log_p), rel=1e-5)
    assert found["my_facts.log_prob"]["std_error"] == pytest.approx(np.std(log_p, ddof=1) / np.sqrt(3), rel=1e-4)
    assert found["my_facts.acc"]["value"] == pytest.approx(1 / 3)
    assert found["my_facts.acc"]["higher_is_better"] is True


def test_the_answer_follows_after_one_space(tmp_path):
    (tmp_path / "a.txt").write_text("one is\ttwo\none is \ttwo\none is\t two\n")
    (items,) = asked_abilities([tmp_path / "a.txt"])
    assert {item.prompt + item.answer for item in items.items} == {"one is two"}


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([pair("a b", "a c"), {"sentence_good": "a b"}], "x.jsonl, line 2 has no sentence_bad: a minimal pair needs"),
        ([pair("a b", " ")], "x.jsonl, line 1 has no sentence_bad"),
        ([pair("a b", 3)], "x.jsonl, line 1 has no sentence_bad"),
        ([pair("a b", "a b")], "x.jsonl, line 1: both sentences of the pair are the same"),
        ([pair("a b", "a c"), "", "{half"], "x.jsonl, line 3 is not JSON"),
        ([pair("a b", "a c"), "[1]"], "x.jsonl, line 2 holds no JSON object"),
        (["", ""], "x.jsonl holds no items"),
        (["one two\tthree", "four five"], "x.jsonl, line 2 has no tab: write PROMPT<tab>ANSWER"),
        (["one two\t "], "x.jsonl, line 1 has no answer"),
        (["\tthree"], "x.jsonl, line 1 has no prompt"),
    ],
)
def test_a_line_that_is_no_item_is_named(tmp_path, lines, message):
    with pytest.raises(CorpusError, match=re.escape(message)):
        asked_abilities([json_lines(tmp_path / "x.jsonl", *lines)])


def test_unknown_abilities_and_names_that_are_taken(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"'los' is neither a file nor a known ability, did you mean 'loss'\? Known"):
        asked_abilities(["los"])
    one = json_lines(tmp_path / "x.jsonl", pair("a b", "a c", UID="same"))
    two = json_lines(tmp_path / "y.jsonl", pair("a b", "a d", UID="same"))
    with pytest.raises(UsageError, match=r"asks for same\.acc twice"):
        asked_abilities([one, two])
    monkeypatch.setitem(tables.SCORES, "same.acc", tables.SCORES["prev"])
    with pytest.raises(UsageError, match=r"the ability 'same\.acc' has the name of a score"):
        asked_abilities([one])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [pair("w1 w2", "w1 w3"), pair("w1 w2", "w3 w2")],
            "line 2: the sentences begin with different tokens, and the",
        ),
        ([pair("w1", "w1 w3")], "line 1: 'w1' has 1 tokens, and a model reads 2 to 41"),
        ([pair("w1 w2", " ".join(["w1"] * 42))], "line 1: 'w1 w1 "),
        ([pair("w1 unknown", "w1 other")], "line 1: the tokenizer reads both sentences of the pair as the same tokens"),
    ],
)
def test_pairs_that_the_model_cannot_read_are_named(checkpoint, tmp_path, rows, message):
    job = CheckpointAbilities(CORPUS, abilities=asked_abilities([json_lines(tmp_path / "pairs.jsonl", *rows)]))
    with pytest.raises(CorpusError, match=re.escape(f"pairs.jsonl, {message}")):
        job.require_measurable(checkpoint)


def test_cloze_items_need_the_tokens_that_are_asked_for(checkpoint, tmp_path):
    (tmp_path / "a.tsv").write_text("w1 w2\tw3\n")
    job = CheckpointAbilities(CORPUS, abilities=asked_abilities([tmp_path / "a.tsv"]), add_bos=True)
    with pytest.raises(CorpusError, match=r"a\.tsv: the tokenizer has no token that starts a text \(BOS\)"):
        job.require_measurable(checkpoint)


# --- in a sweep -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("suite")
    saved_suite(place, 2, n_texts=6, lengths=(6, 12))
    json_lines(place / "pairs.jsonl", pair("w1 w2 w3", "w1 w3 w2"), pair("w5 w6", "w5 w7"))
    return place


def measured(place, out, **options):
    return headway.measure(place / "suite", corpus=str(place / "texts.txt"), out=out, scores=("prev",), **options)


def test_abilities_are_measured_beside_heads_and_later_ones_leave_the_heads_alone(place, tmp_path):
    measured(place, tmp_path)
    rundir = RunDirectory(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in rundir.partitions("heads")}
    asked = ("loss", place / "pairs.jsonl")
    assert measured(place, tmp_path, abilities=asked).done == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert measured(place, tmp_path, abilities=asked).reused == 2
    found = rundir.read("abilities")
    assert found.select("step", "ability").rows() == [(0, "loss"), (0, "pairs.acc"), (1, "loss"), (1, "pairs.acc")]
    with pytest.raises(RunDirectoryError, match="holds 'abilities' computed with other settings"):
        measured(place, tmp_path, abilities=("loss", "icl"))
    result = headway.analyze(tmp_path, studies=["abilities"], bootstraps=0)["abilities/roles"]
    assert result.tables["curves"]["ability"].unique().sort().to_list() == ["loss", "pairs.acc"]


@pytest.mark.parametrize("scores", [("prev", "induction"), ("copying",)])
def test_abilities_beside_heads_are_those_measured_alone(checkpoint, scores, monkeypatch):
    """Scores and predictions come from one forward pass. Scores of weights, such as `copying`, have none to share."""
    n_read = []
    forward = GPTNeoXForCausalLM.forward

    def counted(model, input_ids, **others):
        n_read.append(len(input_ids))
        return forward(model, input_ids=input_ids, **others)

    monkeypatch.setattr(GPTNeoXForCausalLM, "forward", counted)
    asked = {"repeated_length": 16, "repeated_texts": 5}
    abilities = CheckpointAbilities(CORPUS, abilities=("loss", "positions", "repeat"), **asked)
    heads = HeadScores(CORPUS, scores=scores, **asked)
    with abilities.read(checkpoint) as input:
        scored, beside = heads.compute(checkpoint, input), abilities.compute(checkpoint, input)
    assert sum(n_read) == len(WINDOWS) + 5
    with abilities.read(checkpoint) as input:
        alone = abilities.compute(checkpoint, input)
    with heads.read(checkpoint) as input:
        assert scored.equals(heads.compute(checkpoint, input))
    # Two attention functions sum in other orders: a few roundings of float32.
    assert_frame_equal(beside, alone, rel_tol=1e-5, abs_tol=1e-6)


def test_abilities_do_not_depend_on_where_a_sweep_stopped(place, tmp_path):
    """Bit for bit: those that are measured when the heads are there already come from the same forward pass."""
    for name, asked in (("whole", ["loss", "repeat"]), ("stopped", [])):
        measured(place, tmp_path / name, abilities=asked)
    assert measured(place, tmp_path / "stopped", abilities=["loss", "repeat"]).done == 2
    whole, stopped = (RunDirectory(tmp_path / name).read("abilities") for name in ("whole", "stopped"))
    assert_frame_equal(whole, stopped, check_exact=True)


def test_loss_stands_for_loss_and_repeat(place, tmp_path):
    measured(place, tmp_path / "a", loss=True)
    measured(place, tmp_path / "b", abilities=("loss", "repeat"))
    tables_ = [RunDirectory(tmp_path / name).read("abilities") for name in "ab"]
    assert tables_[0].equals(tables_[1])


def test_one_checkpoint_that_cannot_read_an_item_fails_alone(place, tmp_path):
    long = json_lines(tmp_path / "long.jsonl", pair("w1 w2 " * 40, "w1 w3 " * 40))
    short = tmp_path / "suite" / "toy-1m-seed1"
    saved_suite(tmp_path, 1)
    toy_checkpoint(short / "step1", max_position_embeddings=50)
    with pytest.warns(UserWarning, match="max_position_embeddings differs between steps"):
        summary = measured(tmp_path, tmp_path / "out", abilities=(long,))
    assert [one.table for one in summary.failed] == ["abilities"]
    assert "long.jsonl, line 1" in summary.failed[0].error
    assert RunDirectory(tmp_path / "out").read("heads")["step"].unique().sort().to_list() == [0, 1]


def test_measured_and_imported_abilities_stand_side_by_side_and_never_mix(place, tmp_path):
    run = "toy-1m-seed1"
    losses, others = tmp_path / "losses.csv", tmp_path / "others.csv"
    pl.DataFrame({"run": run, "step": [0, 1], "loss": [9.0, 8.0]}).write_csv(losses)
    pl.DataFrame({"run": run, "step": [0, 1], "arc.acc": [0.2, 0.3]}).write_csv(others)
    out = tmp_path / "out"
    measured(place, out, abilities=("loss",))
    with pytest.raises(UsageError, match="holds the ability 'loss' as measured by headway"):
        headway.import_abilities(losses, out=out)
    assert headway.import_abilities(others, out=out) == 2
    assert headway.import_abilities(losses, out=out, columns="run=run, step=step, their_loss=loss") == 4
    assert measured(place, out, abilities=("loss",)).reused == 2
    result = headway.analyze(out, studies=["abilities"], bootstraps=0)["abilities/roles"]
    assert result.tables["curves"]["ability"].unique().sort().to_list() == ["arc.acc", "loss", "their_loss"]

    first = tmp_path / "first"
    headway.import_abilities(losses, out=first)
    with pytest.raises(UsageError, match=r"holds the ability 'loss' as imported from losses\.csv, so it cannot be"):
        measured(place, first, abilities=("loss",))
    assert measured(place, first, abilities=("repeat",)).done == 2


def test_identity_is_what_decides_the_numbers(tmp_path):
    (tmp_path / "a.tsv").write_text("w1 w2\tw3\n")
    (tmp_path / "b.tsv").write_text("w1 w2\tw4\n")
    jobs = [
        CheckpointAbilities(CORPUS, abilities=asked_abilities(words), **options)
        for words, options in (
            (["loss"], {}),
            (["loss", "icl"], {}),
            (["repeat"], {}),
            (["repeat"], {"seed": 1}),
            (["loss"], {"add_bos": True}),
            (["loss"], {"dtype": "bfloat16"}),
            ([tmp_path / "a.tsv"], {}),
            ([tmp_path / "b.tsv"], {}),
        )
    ]
    identities = [repr(job.identity()) for job in jobs]
    assert len(set(identities)) == len(identities)
    other = Corpus.of("other", ["x y z"])
    asked = asked_abilities(["repeat"])
    assert CheckpointAbilities(CORPUS, asked).identity() == CheckpointAbilities(other, asked, device="cpu").identity()
    assert pickle.loads(pickle.dumps(jobs[-1])) == jobs[-1]
