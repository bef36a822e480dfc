"""Heads of several stacks are never analysed as if they were of one; from the command line to a report."""

import json

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from headway.cli import app
from headway.errors import StatisticsError
from headway.reporting.writing import read_results
from headway.store.directory import RunDirectory
from headway.studies import development
from headway.studies.development.heads import read_heads
from headway.studies.result import Result
from headway.studies.stacks import OneStack, each_stack
from headway.tables import of_stack, stacks_in, with_stack
from support_report import heads_frame
from support_stacks import stacked_suite


def run(*words: object) -> str:
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == 0, (found.output, found.exception)
    return found.output


@pytest.fixture(scope="module", params=["bert", "t5"])
def analysed(request, tmp_path_factory):
    """A run directory that the command line measured, clustered and analysed."""
    return request.param, from_the_command_line(tmp_path_factory.mktemp(request.param), request.param)


def from_the_command_line(place, architecture):
    suite, texts = stacked_suite(place, architecture, steps=2, seeds=2)
    out = place / "out"
    run("measure", suite, "--corpus", texts, "--scores", "prev,self,first,next,last", "--out", out)
    run("cluster", suite, "--where", "step=100 seed=1", "--features", "raw", "--nulls", 0, "--out", out)
    run("analyze", out, "--score", "self", "--bootstraps", 0)
    return out


ALONE = {"bert": {"encoder"}, "t5": {"decoder", "encoder", "cross"}}
OF = {
    "self": {"decoder", "encoder", "cross"},
    "heads": {"decoder", "encoder"},
    "weights": {"decoder", "encoder", "cross"},
}


def test_a_result_of_each_stack_that_has_the_score(analysed):
    architecture, out = analysed
    found = {(one.study, one.subject): one for one in read_results(RunDirectory(out))}
    of = {"roles": ["heads"], "scorecard": ["heads"], "development": ["self"], "weight_clusters": ["weights"]}
    expected = {
        (study, subject if stack == "decoder" else f"{subject}-{stack}")
        for study, subjects in of.items()
        for subject in subjects
        for stack in OF[subject] & ALONE[architecture]
    }
    assert found.keys() == expected
    assert all(one.values["stack"] in one.notes[0] for one in found.values() if one.values["stack"] != "cross")


def test_results_have_the_heads_of_their_stack(analysed):
    architecture, out = analysed
    table = RunDirectory(out).read("heads")
    for stack in OF["self"] & ALONE[architecture]:
        own = table.filter(stack=stack)
        result = Result.load(RunDirectory(out), "development", "self" if stack == "decoder" else f"self-{stack}")
        best = own.group_by("run", "step").agg(pl.col("self").max()).sort("run", "step")
        top = result.tables["trajectories"].sort("run", "step")
        np.testing.assert_array_equal(top["value"], best["self"])
        assert result.values["data"]["missing"] == {}  # a stack of fewer layers lacks no heads


def test_a_report_of_every_stack(analysed):
    architecture, out = analysed
    run("report", out, "--figures", "no")
    page = (out / "report.html").read_text()
    for stack in ("decoder", "encoder", "cross-attention"):
        assert (f"how it develops during training ({stack})" in page) == (stack.split("-")[0] in ALONE[architecture])
    assert "[CLS] before each text, [SEP] after it" in page
    assert ("[PAD], then the tokens of the encoder without the last" in page) == (architecture == "t5")


def test_beside_audio_a_report_of_the_decoder_and_of_all_weights(tmp_path):
    out = from_the_command_line(tmp_path, "whisper")
    found = {(one.study, one.subject) for one in read_results(RunDirectory(out))}
    weights = {("weight_clusters", name) for name in ("weights", "weights-encoder", "weights-cross")}
    assert found == {("development", "self"), ("roles", "heads"), ("scorecard", "heads"), *weights}
    assert stacks_in(RunDirectory(out).read("heads")) == ["decoder"]
    assert stacks_in(RunDirectory(out).read("clusters")) == ["decoder", "encoder", "cross"]
    run("report", out, "--figures", "no")
    page = (out / "report.html").read_text()
    for words in (
        "silence, as log-mel features",
        "it reads audio, and a corpus holds texts",
        "it attends to frames of audio",
    ):
        assert words in page


def test_saved_results_are_reused(analysed):
    _, out = analysed
    said = run("analyze", out, "--score", "self", "--study", "development", "--bootstraps", 0)
    assert said.count("is reused") == sum(
        path.stem.startswith("self") for path in out.glob("analysis/development/*.json")
    )


def test_one_stack_has_only_its_scores_and_tables(analysed):
    architecture, out = analysed
    rundir = RunDirectory(out)
    if architecture == "t5":
        cross = OneStack(rundir, "cross").read("heads")
        assert stacks_in(cross) == ["cross"]
        assert "prev" not in cross.columns
        assert "last" in cross.columns
        assert [one.stack for one in each_stack(rundir, "development", "last")] == ["encoder", "cross"]
        with pytest.raises(StatisticsError, match="heads of the decoder, encoder and cross"):
            development.study(rundir, score="self", bootstraps=0)


def test_older_tables_are_of_decoders():
    frame = heads_frame(sizes=("1m",), seeds=("1",))
    old = frame.drop("stack", strict=False)
    assert_frame_equal(of_stack(old), with_stack(frame), check_column_order=False)
    assert of_stack(old, "encoder").is_empty()
    half = pl.concat([old.head(3), with_stack(old).tail(3)], how="diagonal_relaxed")
    assert stacks_in(half) == ["decoder"]
    read = (read_heads(one, "prev_self_ratio").frame for one in (old, with_stack(frame)))
    assert_frame_equal(*read)


def test_what_is_no_prediction_of_next_tokens_is_refused_by_name(tmp_path):
    suite, texts = stacked_suite(tmp_path, "bert", steps=1, seeds=1)
    out = tmp_path / "out"
    words = ["measure", suite, "--corpus", texts, "--abilities", "loss", "--out", out]
    failed = CliRunner().invoke(app, [str(word) for word in words])
    assert failed.exit_code == 1
    (line,) = [json.loads(one) for one in (out / "failures.jsonl").read_text().splitlines()]
    assert line["table"] == "abilities"
    assert "an ability needs a causal language model" in line["error"]
    assert RunDirectory(out).read("heads")["stack"].unique().to_list() == ["encoder"]  # heads are measured all the same


def test_scores_that_no_stack_has_are_said_to_be_left_out(tmp_path):
    suite, texts = stacked_suite(tmp_path, "bert", steps=1, seeds=1)
    said = run(
        "measure", suite, "--corpus", texts, "--scores", "self,induction,ablation_loss", "--out", tmp_path / "out"
    )
    assert "induction and ablation_loss are left out: bert has an encoder, and no stack of its heads (encoder)" in said


def test_heads_of_an_encoder_are_not_described(tmp_path):
    suite, texts = stacked_suite(tmp_path, "bert", steps=1, seeds=1)
    out = tmp_path / "out"
    failed = CliRunner().invoke(app, [str(word) for word in ("describe", suite, "--corpus", texts, "--out", out)])
    assert failed.exit_code == 1
    (line,) = [json.loads(one) for one in (out / "failures.jsonl").read_text().splitlines()]
    assert "a description of heads needs a causal language model" in line["error"]
