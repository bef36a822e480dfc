"""Hybrids: the layers with attention heads are measured, and the others are left out by name."""

import numpy as np
import polars as pl
import pytest

from headway.attention import HeadScores, head_scores
from headway.corpora import Corpus
from headway.errors import UnsupportedModel
from headway.models import read_geometry
from headway.studies.development.heads import read_heads
from headway.suites import Checkpoint, FolderSource
from support_architectures import eager, random_model, tiny
from support_stacks import tokenizer_with_ends

IDS = [np.random.default_rng(number).integers(4, 60, length) for number, length in enumerate((9, 17, 9))]


# With attention of their own (bamba, jamba) and through AttentionInterface (qwen3_next).
@pytest.mark.parametrize("architecture", ["bamba", "jamba", "qwen3_next"])
def test_layers_with_heads_are_equal_to_eager_attention(architecture):
    model = random_model(tiny(architecture))
    found = head_scores(model, IDS, ["prev", "first"])
    assert np.isnan(found["prev"][:, 0]).all()
    for number, ids in enumerate(IDS):
        (matrix,) = eager(model, ids)
        by_hand = {"prev": matrix.diagonal(-1, 1, 2).mean(-1), "first": matrix[..., 0].mean(-1)}
        for name, values in by_hand.items():
            np.testing.assert_allclose(found[name][number, 1], values, atol=1e-5)  # float32; found: 1e-7


def test_a_table_without_the_layers_that_have_no_heads(tmp_path):
    folder = tmp_path / "run" / "step0"
    random_model(tiny("bamba")).save_pretrained(folder)
    tokenizer_with_ends().save(str(folder / "tokenizer.json"))
    job = HeadScores(Corpus.of("texts", ["w1 w2 w3", "w4 w5"]), scores=("prev",))
    checkpoint = Checkpoint("toy", "run", "run", "1m", "1", 0, "step0", source=FolderSource(folder))
    with job.read(checkpoint) as input:
        frame = job.compute(checkpoint, input)
        assert job.used(input) == {"layers_without_heads": [0]}
    assert read_geometry(folder).without_heads == (0,)
    assert frame["layer"].unique().to_list() == [1]
    assert frame["n_layers"].unique().to_list() == [2]
    study = read_heads(frame.with_columns(step=pl.lit(0)), "prev")
    assert study.missing.is_empty(), "what no run has anywhere is not missing"


def test_models_without_heads_are_refused_by_name(tmp_path):
    random_model(tiny("mamba2")).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedModel, match="'mamba2' is not supported: none of its layers has attention heads"):
        read_geometry(tmp_path)
