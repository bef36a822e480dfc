"""The example of docs/adding-a-score.md is run as it stands, and its score is that of eager attention."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from headway import sweep, tables
from headway.attention import HeadScores, scores
from headway.corpora import Corpus
from headway.errors import RunDirectoryError, UsageError
from headway.store.directory import RunDirectory, fingerprint
from support_sweep import grid

DOCUMENT = Path(__file__).parents[2] / "docs" / "adding-a-score.md"


def test_the_example_runs_and_is_right():
    said: dict = {}
    try:
        for code in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL):
            exec(code, said)
        model = said["model"]
        model.set_attn_implementation("eager")
        for text, found in zip(said["sequences"], said["scores"]["second"], strict=True):
            attentions = model(torch.as_tensor(text)[None], output_attentions=True).attentions
            expected = [A[0, :, 1:, 1].mean(1).detach().numpy() for A in attentions]
            np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)
        assert said["shares"].shape == (2, 2, 3)
    finally:
        for name in ("second", "helps"):
            scores.DEFINITIONS.pop(name, None)
            tables.SCORES.pop(name, None)


FORMULA = """
from headway.attention.scores import define
from headway.tables import Score

@define(Score("own", "Own", "probability", "words"))
def own(A):
    return A.to({column}).mean(-1)
"""


def in_a_file(code: str, folder: Path, name: str) -> None:
    path = folder / f"{name}.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(name, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_another_formula_under_the_same_name_is_refused(tmp_path):
    def claimed(column: int, name: str) -> None:
        in_a_file(FORMULA.format(column=column), tmp_path, name)
        sweep.run(HeadScores(Corpus.of("texts", ["w1 w2"]), scores=("prev", "own")), grid()[:1], RunDirectory(tmp_path))

    try:
        claimed(1, "first_time")
        # That checkpoint has no files: a part stands for one that was measured, since a table without any is taken over.
        rundir = RunDirectory(tmp_path)
        made_from = fingerprint(rundir.manifest().tables["heads"].identity)
        rundir.write_partition("heads", "measured", 0, pl.DataFrame({"own": [1.0]}), {"job": made_from})
        claimed(1, "again")
        with pytest.raises(RunDirectoryError, match=r"formulas: .* there, .* now"):
            claimed(2, "changed")
    finally:
        scores.DEFINITIONS.pop("own", None)
        tables.SCORES.pop("own", None)


def test_a_formula_in_no_file_is_refused(tmp_path):
    try:
        exec(compile(FORMULA.format(column=1), "<typed in>", "exec"), {"__name__": "typed_in"})
        job = HeadScores(Corpus.of("texts", ["w1 w2"]), scores=("own",))
        with pytest.raises(UsageError, match=r"'own' is in no file.*Write it in a module"):
            sweep.run(job, grid()[:1], RunDirectory(tmp_path))
    finally:
        scores.DEFINITIONS.pop("own", None)
        tables.SCORES.pop("own", None)


def test_built_in_scores_need_no_hash():
    job = HeadScores(Corpus.of("texts", ["w1 w2"]), scores=tuple(scores.DEFINITIONS))
    assert "formulas" not in job.identity()
