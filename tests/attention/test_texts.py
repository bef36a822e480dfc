"""Rows kept per text and head: their means are the table of heads, and other tools open them."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import polars as pl
import pytest

import headway
from headway.attention import HeadScores, head_scores
from headway.attention.texts import TextScores
from headway.corpora import Corpus
from headway.progress import Silent
from headway.store.directory import RunDirectory
from headway.tables import TEXTS_COLUMNS, schema
from support_items import WORDS, toy_checkpoint
from support_models import saved_suite

TEXTS = ("w1 w2 w3", "w5", "w7 w8 w9 w10 w11", " ".join(WORDS[:83]))
SCORES = ("prev", "prev_self_ratio", "induction")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return toy_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def computed(checkpoint, scores):
    heads = HeadScores(Corpus.of("texts", TEXTS), scores=scores, repeated_texts=4)
    texts = TextScores(heads)
    with texts.read(checkpoint) as input:
        return heads.compute(checkpoint, input), texts.compute(checkpoint, input), input


def test_the_means_of_the_rows_are_the_table_of_heads(checkpoint):
    heads, texts, _ = computed(checkpoint, SCORES)
    assert texts.schema == schema(TEXTS_COLUMNS) | dict.fromkeys(SCORES, pl.Float32())
    assert texts.select("repeated", "text").unique().sort("repeated", "text").rows() == [
        *((False, text) for text in (0, 2, 3)), *((True, text) for text in range(4)),
    ]  # fmt: skip
    means = texts.group_by("layer", "head").agg(pl.mean(*SCORES)).sort("layer", "head")
    for name in SCORES:
        np.testing.assert_allclose(means[name], heads[name], rtol=1e-6)  # float32 rows
    assert texts.filter("repeated")["prev"].null_count() == texts.filter("repeated").height


def test_a_row_is_the_score_of_its_text_and_head(checkpoint):
    _, texts, input = computed(checkpoint, SCORES)
    alone = head_scores(input.model, [np.arange(7, 12)], ["prev"])["prev"][0]
    own = texts.filter(~pl.col("repeated"), text=2)
    for layer, head, value in own.select("layer", "head", "prev").iter_rows():
        assert value == pytest.approx(alone[layer, head], rel=1e-6)
    windows = head_scores(input.model, np.array_split(np.arange(83), 3), ["prev"])["prev"].mean(0)
    assert texts.filter(~pl.col("repeated"), text=3, layer=2, head=4)["prev"].item() == pytest.approx(
        windows[2, 4], rel=1e-6
    )


def test_scores_of_one_kind_have_rows_of_that_kind_alone(checkpoint):
    assert not computed(checkpoint, ("prev",))[1]["repeated"].any()
    assert computed(checkpoint, ("induction",))[1]["repeated"].all()


def test_texts_are_read_once_for_both_tables(checkpoint, monkeypatch):
    from headway.attention import heads

    calls = []
    real = heads.head_scores
    monkeypatch.setattr(heads, "head_scores", lambda *given: calls.append(given[2]) or real(*given))
    computed(checkpoint, SCORES)
    assert calls == [["prev", "prev_self_ratio"], ["induction"]]


class Told(Silent):
    def __init__(self):
        self.words = []

    def say(self, words):
        self.words.append(words)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    place = tmp_path_factory.mktemp("measured")
    saved_suite(place, 2, n_texts=5, lengths=(4, 9))
    told = Told()
    options = {"scores": ("prev", "induction"), "keep": ("texts",), "repeated_texts": 3, "progress": told}
    headway.measure(place / "suite", corpus=str(place / "texts.txt"), out=place / "out", **options)
    return RunDirectory(place / "out"), told.words


def test_the_number_of_rows_is_said_before(measured):
    rundir, words = measured
    rows = (5 + 3) * 15  # texts and repeated ones, by heads
    assert f"the table texts will have {2 * rows} rows: {rows} for a checkpoint of 1m" in words
    assert rundir.read("texts").height == 2 * rows
    assert rundir.tables() == ["heads", "texts"]


def test_pandas_and_r_read_the_rows(measured, tmp_path):
    rundir, _ = measured
    path = rundir.partitions("texts")[1]
    read, own = pd.read_parquet(path), pl.read_parquet(path)
    assert read["prev"].to_numpy() == pytest.approx(own["prev"].to_numpy(), nan_ok=True)
    assert (read["run"][0], read["step"][0]) == ("toy-1m-seed1", 1)
    rscript = shutil.which("Rscript")
    if rscript:
        read.to_csv(tmp_path / "rows.csv", index=False)
        says = 'd <- read.csv("rows.csv"); cat(nrow(d), sum(d$repeated == "True"), mean(d$prev, na.rm = TRUE))'
        answer = subprocess.run([rscript, "-e", says], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
        n, repeated, mean = map(float, answer.split())
        assert (n, repeated) == (120, 45)
        assert mean == pytest.approx(own["prev"].mean(), rel=1e-4)  # R prints seven digits
