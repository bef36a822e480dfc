"""Patterns kept for the report: those of transformers' eager attention, of the heads and texts that were asked for."""

import numpy as np
import pytest

import headway
from headway.attention.pattern_job import MOST_TOKENS, REPEATED, named_heads
from headway.errors import CorpusError, UsageError
from headway.store import RunDirectory
from support_models import eager, random_model, saved_suite


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("kept")
    saved_suite(place, 2)
    return place


def patterns(place, out, **asked):
    return headway.patterns(place / "suite", out=out, corpus=str(place / "texts.txt"), where="step=0,1", **asked)


def kept(place, out, **asked):
    return patterns(place, out, **asked), RunDirectory(out).read("patterns")


def test_every_kept_pattern_is_that_of_eager_attention(place, tmp_path):
    summary, table = kept(place, tmp_path / "out", n_texts=2, repeated_length=5)
    assert (summary.done, summary.failed) == (2, [])
    assert table["title"].unique(maintain_order=True).to_list()[0] == REPEATED
    for step in (0, 1):
        model = random_model("gpt_neox", seed=step)
        of_step = table.filter(step=step)
        n_layers, n_heads = of_step.select("n_layers", "n_heads").row(0)
        assert of_step.height == 3 * n_layers * n_heads
        for (_, tokens), of_text in of_step.group_by("text", "tokens", maintain_order=True):
            ids = [int(token.strip()[1:]) for token in tokens]  # the word w13 is the token 13
            expected = eager(model, ids)
            for row in of_text.iter_rows(named=True):
                lower = np.tril_indices(len(ids))
                # what scores promise, in float32
                assert np.abs(row["attention"] - expected[row["layer"], row["head"]][lower]).max() < 1e-5
    repeated = table.filter(text=0)["tokens"][0].to_list()
    assert len(repeated) == 10
    assert repeated[:5] == repeated[5:]
    assert len(set(repeated)) == 5


def test_heads_can_be_chosen_and_texts_left_out(place, tmp_path):
    _, table = kept(place, tmp_path / "out", n_texts=0, heads=["L1H0", "l0h1"])
    assert sorted(table.select("layer", "head").unique().rows()) == [(0, 1), (1, 0)]
    assert table["text"].unique().to_list() == [0]


def test_patterns_are_reused(place, tmp_path):
    kept(place, tmp_path / "out", n_texts=1)
    again, _ = kept(place, tmp_path / "out", n_texts=1)
    assert (again.done, again.reused) == (0, 2)


def test_a_long_text_is_read_up_to_the_limit(place, tmp_path):
    (tmp_path / "long.txt").write_text(" ".join(f"w{1 + i % 80}" for i in range(3 * MOST_TOKENS)))
    headway.patterns(place / "suite", out=tmp_path / "out", corpus=str(tmp_path / "long.txt"), repeated_length=0)
    table = RunDirectory(tmp_path / "out").read("patterns")
    n = table["tokens"].list.len().unique().to_list()
    assert n == [min(MOST_TOKENS, random_model("gpt_neox").config.max_position_embeddings)]
    assert table["attention"].list.len().unique().to_list() == [n[0] * (n[0] + 1) // 2]


def test_what_cannot_be_kept_is_named(place, tmp_path):
    assert named_heads(["all"]) is None
    with pytest.raises(UsageError, match="heads such as L3H1 for layer 3, head 1: 'H3' is neither"):
        patterns(place, tmp_path / "out", heads=["H3"])
    with pytest.raises(UsageError, match="--texts must be at least 0"):
        patterns(place, tmp_path / "out", n_texts=-1)
    summary = patterns(place, tmp_path / "out", heads=["L9H0"])
    assert {outcome.error.partition(":")[0] for outcome in summary.failed} == {"there is no layer 9"}
    summary = patterns(place, tmp_path / "none", n_texts=0, repeated_length=0)
    assert {outcome.kind for outcome in summary.failed} == {CorpusError.__name__}
