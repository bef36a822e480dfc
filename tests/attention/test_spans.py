"""Attention between spans against transformers' eager attention; items as random effects against planted truth."""

import re

import numpy as np
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM

import headway
from headway import models, stats
from headway.attention.spans import Place, SpanScores, place_of, read_spans, span_attention
from headway.errors import CheckpointError, CorpusError
from headway.store.directory import RunDirectory
from headway.tables import SPANS_COLUMNS, schema
from support_items import WORDS, json_lines, toy_checkpoint
from support_models import random_model, saved_suite


def item(text, query, key, label="x"):
    """Spans given as words of the text."""
    places = {word: (text.index(word), text.index(word) + len(word)) for word in (query, key)}
    return {"text": text, "query": list(places[query]), "key": list(places[key]), "label": label}


LONG = " ".join(WORDS[:30])
ITEMS = [
    item("w1 w22 w33 w44 w55", "w44 w55", "w22"),
    item("w1 w22 w33 w44 w55", "w33", "w1 w22", "near"),
    item("w7 w8", "w8", "w8", "self"),
    item(LONG, "w28 w29", "w3 w4 w5", "far"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return toy_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory):
    return toy_checkpoint(tmp_path_factory.mktemp("bos"), bos=True)


def eager(model, ids):
    """(layers, heads, T, T) as transformers computes it."""
    with torch.no_grad():
        found = model(input_ids=torch.tensor([list(ids)]), output_attentions=True).attentions
    return torch.stack(found)[:, 0].double().cpu().numpy()


def table(checkpoint, path, **options):
    job = SpanScores(read_spans(path), **options)
    with job.read(checkpoint) as input:
        return job.compute(checkpoint, input)


@pytest.mark.parametrize("bos", [False, True])
def test_the_table_is_eager_attention_between_the_words(checkpoint, with_bos, tmp_path, bos):
    one = with_bos if bos else checkpoint
    found = table(one, json_lines(tmp_path / "spans.jsonl", *ITEMS), add_bos=bos)
    assert found.schema == schema(SPANS_COLUMNS)
    assert found.height == len(ITEMS) * 3 * 5
    model = AutoModelForCausalLM.from_pretrained(one.source.path, attn_implementation="eager")
    tokens = [([3, 4], [1]), ([2], [0, 1]), ([1], [1]), ([28, 29], [3, 4, 5])]
    for line, (given, (query, key)) in enumerate(zip(ITEMS, tokens, strict=True), 1):
        ids = [89] * bos + [int(word[1:]) for word in given["text"].split()]
        A = eager(model, ids)[:, :, bos:, bos:]
        expected = A[:, :, query][..., key].sum(-1).mean(-1)
        own = found.filter(item=line)
        np.testing.assert_allclose(own["attention"], expected.ravel(), atol=1e-5)  # float32
        assert own.select("label", "distance", "n_query", "n_key").unique().row(0) == (
            given["label"], query[0] - key[-1], len(query), len(key),
        )  # fmt: skip


@pytest.mark.parametrize("architecture", ["gpt_neox", "gpt2", "llama", "mistral", "gemma2", "gpt_oss"])
def test_long_texts_and_other_architectures(architecture):
    """Texts that are held as a matrix, and longer ones, for which single columns are computed."""
    model = random_model(architecture)
    rng = np.random.default_rng(0)
    places = []
    for length in (5, 9, 9, 30, 150, 150):
        key = np.sort(rng.choice(length // 2, 2, replace=False))
        query = np.arange(length - 3, length)
        places.append(Place(rng.integers(1, 101, length), query, key))
    found = span_attention(model, places)
    model.set_attn_implementation("eager")
    for place, values in zip(places, found, strict=True):
        A = eager(model, place.ids)
        np.testing.assert_allclose(values, A[:, :, place.query][..., place.key].sum(-1).mean(-1), atol=1e-5)


def test_characters_are_found_whatever_the_tokenizer_does(tmp_path):
    """Bytes of one character, a space that belongs to its word, and a word in pieces."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers import models as kinds

    backend = Tokenizer(kinds.BPE(vocab={}, merges=[]))
    vocab = {symbol: number for number, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab["Ġc"] = 256
    backend = Tokenizer(kinds.BPE(vocab=vocab, merges=[("Ġ", "c")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = models.load_tokenizer(tmp_path)
    geometry = models.Geometry("x", *[1] * 7, context_length=99, vocab_size=300)
    spans = read_spans(json_lines(tmp_path / "s.jsonl", item("né cat", "cat", "é")))
    place = place_of(spans, spans.items[0], tokenizer, geometry, False)
    ids, _ = tokenizer.encode_with_offsets("né cat")
    assert len(ids) == 6  # n, two bytes of é, ' c', a, t
    assert (place.query.tolist(), place.key.tolist()) == ([3, 4, 5], [1, 2])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": [0, 1], "key": [0, 1]}, "line 2 has no text"),
        ({"text": "a b", "query": [2, 3]}, "line 2: key must be [start, end] in characters, counted from 0, not null"),
        ({"text": "a b", "query": [2.0, 3], "key": [0, 1]}, "line 2: query must be [start, end]"),
        ({"text": "a b", "query": [2, 3, 4], "key": [0, 1]}, "line 2: query must be [start, end]"),
        ({"text": "a b", "query": [2, 2], "key": [0, 1]}, "line 2: the span query [2, 2] is empty"),
        ({"text": "a b", "query": [2, 4], "key": [0, 1]}, "the span query [2, 4] lies beyond the text, which has 3"),
        ({"text": "a b", "query": [2, 3], "key": [-1, 1]}, "the span key [-1, 1] lies beyond the text"),
        ({"text": "a b", "query": [2, 3], "key": [0, 1], "label": 3}, "line 2: the label is no text but 3"),
        ("{half", "line 2 is not JSON"),
    ],
)
def test_a_line_that_is_no_item_is_named(tmp_path, row, message):
    with pytest.raises(CorpusError, match=re.escape(message)) as error:
        read_spans(json_lines(tmp_path / "spans.jsonl", ITEMS[0], row))
    assert "spans.jsonl" in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (item("w1 w2 w3", "w2", "w3"), "line 1: the key ends at token 2, after the query begins at token 1"),
        (item("w1 w2 w3", "w1 w2", "w2"), "line 1: the key ends at token 1, after the query begins at token 0"),
        ({"text": "w1  w2 w3", "query": [7, 9], "key": [2, 4]}, "line 1: the span key holds no token"),
        (item("w1 " * 42, "w1", "w1"), "line 1: the text has 42 tokens, and a model reads 2 to 41"),
    ],
)
def test_spans_that_a_model_cannot_read_are_named_before_the_sweep(checkpoint, tmp_path, row, message):
    job = SpanScores(read_spans(json_lines(tmp_path / "spans.jsonl", row)))
    with pytest.raises(CorpusError, match=re.escape(f"spans.jsonl, {message}")):
        job.require_measurable(checkpoint)


def test_a_tokenizer_without_bos_is_named(checkpoint, tmp_path):
    job = SpanScores(read_spans(json_lines(tmp_path / "spans.jsonl", ITEMS[0])), add_bos=True)
    with pytest.raises(
        CorpusError, match=r"spans\.jsonl, line 1: the tokenizer has no token that starts a text \(BOS\)"
    ):
        job.require_measurable(checkpoint)


def test_a_diverged_model_is_refused():
    model = random_model("gpt_neox")
    with torch.no_grad():
        next(iter(model.parameters()))[:] = torch.nan
    with pytest.raises(CheckpointError, match="not finite"):
        span_attention(model, [Place(np.arange(5), np.array([4]), np.array([1]))])


def test_spans_are_kept_in_a_sweep_and_a_changed_file_is_refused(tmp_path):
    saved_suite(tmp_path, 2, n_texts=3)
    spans = json_lines(tmp_path / "spans.jsonl", *ITEMS)
    options = {"corpus": str(tmp_path / "texts.txt"), "out": tmp_path / "out", "scores": ("prev",)}
    assert headway.measure(tmp_path / "suite", spans=spans, abilities=("loss",), **options).done == 2
    assert headway.measure(tmp_path / "suite", spans=spans, **options).reused == 2
    assert RunDirectory(tmp_path / "out").read("spans").height == 2 * 4 * 15
    json_lines(spans, *ITEMS[:2])
    with pytest.raises(headway.errors.RunDirectoryError, match="holds 'spans' computed with other settings"):
        headway.measure(tmp_path / "suite", spans=spans, **options)


def test_items_as_random_effects_find_the_planted_effects():
    """The columns of the table, for one head: 6 runs, 40 items of two labels, 5 steps; docs/kept-rows.md fits this model."""
    rng = np.random.default_rng(4)
    of_item, of_run = rng.normal(0, 0.05, 41), rng.normal(0, 0.03, 6)
    rows = [
        {"run": f"toy-seed{run}", "step": step, "item": item, "label": ("object", "subject")[item % 2],
         "attention": 0.1 + (0.02 + 0.03 * (item % 2)) * np.log(step + 1) + of_item[item] + of_run[run]
         + rng.normal(0, 0.02)}
        for run in range(6) for step in (0, 8, 64, 512, 4096) for item in range(1, 41)
    ]  # fmt: skip
    fit = stats.lmm("attention ~ log(step + 1) * label + (1 | item) + (1 | run)", pl.DataFrame(rows))
    for name, truth in (("log(step + 1)", 0.02), ("log(step + 1):labelsubject", 0.03)):
        (row,) = (one for one in fit.fixed.to_dicts() if one["term"] == name)
        assert abs(row["estimate"] - truth) < 3 * row["std_error"], name  # it is in 99.7% of draws
        assert row["std_error"] < 0.002
    spread = {row["group"]: row["sd"] for row in fit.random.to_dicts()}
    # The sampling error of a standard deviation of n levels is about sd / sqrt(2 n); three of them.
    assert spread["item"] == pytest.approx(0.05, abs=3 * 0.05 / np.sqrt(80))
    assert spread["run"] == pytest.approx(0.03, abs=3 * 0.03 / np.sqrt(12))
