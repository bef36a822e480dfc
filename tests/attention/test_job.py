import pickle
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from headway import sweep, tables
from headway.attention import HeadScores, head_scores
from headway.attention.scores import scores_of
from headway.corpora import Corpus, repeated_random
from headway.errors import CheckpointError, UsageError
from headway.known_scores import DECODER
from headway.reporting.measured import measurement
from headway.store.directory import RunDirectory
from headway.suites import Checkpoint, FolderSource
from support_models import LAYERS, saved

WORDS = [f"w{number}" for number in range(89)]  # fewer than the 101 rows of the embedding
TEXTS = ("w1 w2 w3", "w5", "w7 w8 w9 w10 w11", " ".join(WORDS[:83]))
CONTEXT = 41  # the last text comes in three windows


@pytest.fixture
def checkpoint(tmp_path):
    saved(tmp_path, "gpt_neox", max_position_embeddings=CONTEXT)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return Checkpoint("toy", "toy-seed1", "toy", "1m", "1", 7, "step7", FolderSource(tmp_path))


@pytest.fixture
def corpus():
    return Corpus.of("texts", TEXTS)


def compute(job, checkpoint):
    with job.read(checkpoint) as input:
        return job.compute(checkpoint, input), input


def test_a_row_per_head(checkpoint, corpus):
    job = HeadScores(corpus, scores=("entropy", "prev", "induction"))
    frame, input = compute(job, checkpoint)
    columns = tables.HEADS_COLUMNS + tables.CORPUS_COLUMNS
    assert frame.schema == {
        **tables.schema(tables.HEADS_COLUMNS),
        **dict.fromkeys(job.scores, pl.Float64()),
        **{column.name: column.dtype for column in columns if column not in tables.HEADS_COLUMNS},
    }
    assert frame.select("layer", "head").rows() == [(layer, head) for layer in range(LAYERS) for head in range(5)]
    first = frame.row(0, named=True)
    assert (first["suite"], first["run"], first["seed"], first["step"]) == ("toy", "toy-seed1", "1", 7)
    assert first["n_params"] == input.geometry.n_params
    assert (first["n_texts"], first["n_short"], first["n_windowed"], first["n_tokens"]) == (3, 1, 1, 3 + 5 + 83)


def test_a_corpus_score_is_the_mean_over_texts(checkpoint, corpus):
    """A text in windows counts once, with the mean of its windows."""
    frame, input = compute(HeadScores(corpus, scores=("prev", "prev_self_ratio")), checkpoint)
    windows = [np.arange(1, 4), np.arange(7, 12), *np.array_split(np.arange(83), 3)]
    of_windows = head_scores(input.model, windows, ["prev", "prev_self_ratio"])
    for name, values in of_windows.items():
        expected = np.mean([values[0], values[1], values[2:].mean(0)], 0)
        np.testing.assert_allclose(frame[name], expected.ravel(), rtol=1e-6)  # float32 scores


def test_repeated_tokens_are_ones_that_the_tokenizer_has(checkpoint, corpus):
    job = HeadScores(corpus, scores=("induction", "duplicate"), repeated_length=64, repeated_texts=5, seed=3)
    frame, input = compute(job, checkpoint)
    texts = repeated_random(np.arange(len(WORDS)), CONTEXT // 2, 5, 3)  # no longer than the context allows
    for name, values in head_scores(input.model, texts, ["induction", "duplicate"]).items():
        np.testing.assert_allclose(frame[name], values.mean(0).ravel(), rtol=1e-6)


def test_the_manifest_says_how_long_the_repeated_texts_were(checkpoint, corpus, tmp_path):
    """The length that the context allows, not the one that was asked for; by checkpoint where they differ."""
    rundir = RunDirectory(tmp_path / "out")
    job = HeadScores(corpus, scores=("induction",), repeated_length=64, repeated_texts=5)
    sweep.run(job, [checkpoint], rundir)
    record = rundir.manifest().tables["heads"]
    assert record.identity["repeated"] == {"length": 64, "texts": 5, "seed": 0}
    assert record.used == {"repeated": {"length": CONTEXT // 2, "texts": 5}}
    assert ("used repeated length", "20") in measurement(rundir).records[0][1]

    shutil.copytree(checkpoint.source.path, tmp_path / "long", ignore=shutil.ignore_patterns("out"))
    saved(tmp_path / "long", "gpt_neox", max_position_embeddings=307)
    longer = replace(checkpoint, run="toy-seed2", seed="2", source=FolderSource(tmp_path / "long"))
    sweep.run(job, [checkpoint, longer], rundir)
    of_each = {"toy-seed1@7": {"length": CONTEXT // 2, "texts": 5}, "toy-seed2@7": {"length": 64, "texts": 5}}
    assert rundir.manifest().tables["heads"].used == {"repeated": of_each}
    assert sweep.run(job, [checkpoint, longer], rundir).reused == 2
    assert rundir.manifest().tables["heads"].used == {"repeated": of_each}

    sweep.run(HeadScores(corpus), [checkpoint], RunDirectory(tmp_path / "other"))
    assert RunDirectory(tmp_path / "other").manifest().tables["heads"].used == {}  # it repeats nothing


def test_the_vocabulary_limits_the_length_too(checkpoint, corpus):
    job = HeadScores(corpus, scores=("induction",), repeated_length=64, repeated_texts=2)
    with job.read(checkpoint) as input:
        few = replace(input, geometry=replace(input.geometry, vocab_size=11))
        assert [len(text) for text in job._repeated(few)] == [22, 22]


def test_every_score_of_a_checkpoint(checkpoint, corpus):
    """What `--scores all` computes: scores of weights once, those of effects with the same pass as the pattern."""
    frame, input = compute(HeadScores(corpus, scores=tuple(tables.SCORES), repeated_texts=3), checkpoint)
    assert frame.select(*scores_of(DECODER)).null_count().sum_horizontal().item() == 0
    assert set(tables.score_columns(frame)) == set(scores_of(DECODER))
    assert frame["stack"].unique().to_list() == [DECODER]
    weights = head_scores(input.model, [np.arange(5)], ["copying", "qk_matching"])
    for name, values in weights.items():
        np.testing.assert_allclose(frame[name], values[0].ravel(), rtol=1e-6)
    windows = [np.arange(1, 4), np.arange(7, 12), *np.array_split(np.arange(83), 3)]
    effects = head_scores(input.model, windows, ["copy_suppression"])["copy_suppression"]
    np.testing.assert_allclose(
        frame["copy_suppression"],
        np.mean([effects[0], effects[1], effects[2:].mean(0)], 0).ravel(),
        rtol=1e-5,
        atol=1e-8,
    )


def test_a_checkpoint_without_unembedding_is_refused_by_name(tmp_path, checkpoint, corpus):
    """As a base model that was saved alone. Scores that need no unembedding are computed."""
    model = saved(tmp_path, "gpt_neox", max_position_embeddings=CONTEXT)
    model.base_model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"lack tensor lm_head.weight"):
        compute(HeadScores(corpus, scores=("copying",)), checkpoint)
    compute(HeadScores(corpus, scores=("prev", "qk_matching")), checkpoint)


def test_identity_is_what_decides_the_numbers(corpus):
    job = HeadScores(corpus)
    same = HeadScores(corpus, device="cpu", keep_files=False)
    assert job.identity() == same.identity()
    others = [
        HeadScores(corpus, scores=("prev",)),
        HeadScores(corpus, add_bos=True),
        HeadScores(corpus, dtype="bfloat16"),
        HeadScores(Corpus.of("texts", ["other"])),
        HeadScores(corpus, scores=("induction",)),
        HeadScores(corpus, scores=("induction",), seed=1),
    ]
    identities = [repr(other.identity()) for other in [job, *others]]
    assert len(set(identities)) == len(identities)


def test_directories_from_before_the_table_of_abilities_go_on(corpus):
    assert HeadScores(corpus).identity()["loss"] is False


def test_travels_to_workers(checkpoint, corpus):
    job = HeadScores(corpus)
    copy = pickle.loads(pickle.dumps(job))
    assert copy == job
    assert compute(copy, checkpoint)[0].equals(compute(job, checkpoint)[0])


def test_the_corpus_is_tokenized_once(checkpoint, corpus, monkeypatch):
    from headway.models import Tokenizer as Own

    calls = []
    encode = Own.encode_batch
    monkeypatch.setattr(Own, "encode_batch", lambda self, texts: calls.append(len(texts)) or encode(self, texts))
    job = HeadScores(Corpus.of("once", [*TEXTS, "w80 w81 w82"]))
    for _ in range(3):
        compute(job, checkpoint)
    assert calls == [5]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (("prev", "zzz"), "unknown score 'zzz': known are prev, self, first, .*, duplicate, copying"),
        (("prv",), "unknown score 'prv', perhaps 'prev' was meant: known are prev, self"),
        (("Entropy_Norm",), "perhaps 'entropy_norm' was meant"),
        ((), "no score is asked for: known are prev"),
        (("prev", "prev"), "twice"),
    ],
)
def test_scores_are_checked_before_anything_is_fetched(corpus, scores, words):
    with pytest.raises(UsageError, match=words):
        HeadScores(corpus, scores=scores)
