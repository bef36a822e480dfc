"""`headway import-abilities`: evaluations of both formats and CSV tables, joined to heads by the names of runs."""

import json

import polars as pl
import pytest

import headway
from headway.errors import RunDirectoryError, UsageError
from headway.published import read_abilities
from headway.store import RunDirectory
from headway.tables import ABILITIES_COLUMNS

OLD = {
    "results": {
        "lambada_openai": {"ppl": 11.5, "ppl_stderr": 0.25, "acc": 0.5, "acc_stderr": 0.01},
        "crows_pairs_english": {"pct_stereotype": 0.6, "pct_stereotype_stderr": 0.02},
    },
    "versions": {"lambada_openai": 0},
    "config": {
        "model": "hf-causal",
        "model_args": "use_accelerate=True,pretrained=EleutherAI/pythia-v1.1-70m,revision=step512",
        "num_fewshot": 0,
        "limit": None,
    },
}
# As lm-evaluation-harness 0.4 writes it: docs/interface.md and `EvaluationTracker` of its repository.
NEW = {
    "results": {
        "gsm8k": {
            "alias": "gsm8k",
            "exact_match,strict-match": 0.25,
            "exact_match_stderr,strict-match": 0.0125,
            "exact_match,flexible-extract": 0.5,
            "exact_match_stderr,flexible-extract": "N/A",
        },
        "wikitext": {"alias": "wikitext", "word_perplexity,none": 20, "word_perplexity_stderr,none": "N/A"},
    },
    "group_subtasks": {"gsm8k": []},
    "n-shot": {"gsm8k": 5, "wikitext": 0},
    "higher_is_better": {"gsm8k": {"exact_match": True}, "wikitext": {"word_perplexity": False}},
    "n-samples": {"gsm8k": {"original": 1319, "effective": 1319}, "wikitext": {"original": 62, "effective": 62}},
    "config": {
        "model": "hf",
        "model_args": {"pretrained": "EleutherAI/pythia-14m-seed3", "revision": "step1000"},
        "limit": None,
    },
    "model_name": "EleutherAI/pythia-14m-seed3",
}
HEAD = {"mpath": "EleutherAI/pythia-70m", "seed": 1, "step": 512, "n_params": 70_426_624, "n_layers": 6, "n_heads": 8}
HEAD |= {"layer": 0, "head": 0, "mean_ps": 0.5}


def written(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def csv(path, *rows):
    pl.DataFrame(list(rows), infer_schema_length=None).write_csv(path)
    return path


def changed(content, **config):
    return content | {"config": content["config"] | config}


def test_an_old_evaluation_is_read_under_the_name_of_its_run(tmp_path):
    found = read_abilities([written(tmp_path / "70m_step512.json", OLD)])
    assert found.rows.sort("ability").rows() == [
        ("pythia-70m", "pythia-70m", "70m", "1234", 512, None, None, None, *rest, None, "70m_step512.json")
        for rest in (
            ("crows_pairs_english.pct_stereotype", 0.6, 0.02, "fraction", None),
            ("lambada_openai.acc", 0.5, 0.01, "fraction", True),
            ("lambada_openai.ppl", 11.5, 0.25, "perplexity", False),
        )
    ]
    assert found.recognised == [
        "1 result file of lm-evaluation-harness: 3 values of 3 abilities at 1 step; EleutherAI/pythia-v1.1-70m is pythia-70m"
    ]
    assert found.doubts == []


def test_a_new_evaluation_keeps_filters_and_shots_apart(tmp_path):
    found = read_abilities([written(tmp_path / "results_2024-05-01T10-00-00.json", NEW)]).rows
    columns = ("run", "seed", "step", "ability", "value", "std_error", "unit", "higher_is_better", "n_samples")
    assert found.select(columns).rows() == [
        ("pythia-14m-seed3", "3", 1000, *rest)
        for rest in (
            ("gsm8k.exact_match.strict-match.5shot", 0.25, 0.0125, "fraction", True, 1319),
            ("gsm8k.exact_match.flexible-extract.5shot", 0.5, None, "fraction", True, 1319),
            ("wikitext.word_perplexity", 20.0, None, "perplexity", False, 62),
        )
    ]


@pytest.mark.parametrize(
    ("name", "content", "run", "step"),
    [
        (
            "x.json",
            changed(NEW, model_args="pretrained=a/b-5m-seed2,dtype=float", model_revision="step7"),
            "b-5m-seed2",
            7,
        ),
        ("x.json", changed(OLD, model_args="pretrained=/data/b-5m-seed2/step9"), "b-5m-seed2", 9),
        ("b_step8.json", changed(OLD, model_args="pretrained=a/b-5m,revision=main"), "b-5m", 8),
        ("pythia-14m_step8.json", changed(OLD, model_args=None), "pythia-14m", 8),
    ],
)
def test_model_and_step_come_from_the_content_or_else_the_name(tmp_path, name, content, run, step):
    content = {key: value for key, value in content.items() if key != "model_name"}
    found = read_abilities([written(tmp_path / name, content)])
    assert set(found.rows.select("run", "step").rows()) == {(run, step)}


def test_what_is_doubtful_about_an_evaluation_is_said(tmp_path):
    results = {"t": {"acc": 0.5, "ppl": float("inf"), "big": 10**400}}
    path = written(tmp_path / "160m_step4.json", changed(OLD, limit=100) | {"results": results})
    found = read_abilities([path])
    assert found.rows.select("ability", "value").rows() == [("t.acc", 0.5)]
    assert found.doubts == [
        "160m_step4.json is of step 512 by its content, whatever its name says",
        "160m_step4.json is of a model of size 70m by its content, whatever its name says",
        "1 result file holds only a part of each task's questions (`limit`)",
        "2 values of evaluations are not finite, and left out",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"results": {"t": {"acc": 0.5', "is damaged or no JSON"),
        ("[" * 100_000, "is damaged or no JSON"),
        ({"loss": 1}, "is no result file of lm-evaluation-harness"),
        ({"results": [1]}, "is no result file of lm-evaluation-harness"),
        (OLD | {"results": {}}, "holds no finite value of a task"),
        (changed(OLD, model_args="pretrained=a/b-5m,revision=main"), "x.json states no step: its revision is 'main'"),
        (changed(OLD, model_args="pretrained=a/b-5m"), "states no step: its revision is 'not given'"),
        (changed(OLD, model_args=f"pretrained=a/b-5m,revision=step{10**30}"), "states no step"),
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(tmp_path, content, message):
    with pytest.raises(UsageError) as error:
        read_abilities([written(tmp_path / "x.json", content)])
    assert message in str(error.value)


def test_hostile_names_become_neither_paths_nor_escapes(tmp_path):
    content = OLD | {"results": {"../../x\x1b[2J": {"acc": 0.5}, "..": {"": 0.25}}}
    found = read_abilities([written(tmp_path / "x.json", content)])
    assert found.rows["ability"].to_list() == ["x_2J.acc", "unnamed"]
    content = changed(OLD, model_args="pretrained=../../\x1b[2J,revision=step1")
    with pytest.raises(RunDirectoryError, match="cannot be part of a file name") as error:
        headway.import_abilities(written(tmp_path / "x.json", content), out=tmp_path / "out")
    assert "\x1b" not in str(error.value)


# --- CSV tables -----------------------------------------------------------------------------------------------------


def test_a_wide_table_has_an_ability_in_each_column_of_numbers(tmp_path):
    row = {"model": "a/pythia-14m", "seed": 2, "revision": "step8", "n_params": 14, "note": "x"}
    path = csv(
        tmp_path / "w.csv",
        row | {"loss": 2.5, "loss_stderr": 0.125, "my acc": 0.5},
        row | {"revision": "step9", "loss": 2, "my acc": None},
    )
    found = read_abilities([path])
    assert found.rows.select("run", "step", "ability", "value", "std_error", "unit", "higher_is_better").rows() == [
        ("pythia-14m-seed2", 8, "loss", 2.5, 0.125, "nats per token", False),
        ("pythia-14m-seed2", 9, "loss", 2.0, None, "nats per token", False),
        ("pythia-14m-seed2", 8, "my_acc", 0.5, None, None, None),
    ]
    assert set(found.rows["n_params"]) == {14}
    assert found.recognised == [
        "w.csv: 2 rows of 1 run, such as pythia-14m-seed2, and 2 steps; run is model + seed, step is revision, n_params is "
        "n_params, loss is loss, loss_std_error is loss_stderr, my_acc is my acc. Not read: note"
    ]


def test_a_long_table_has_a_row_for_each_ability(tmp_path):
    row = {"run": "pythia-14m-seed2", "step": 8, "ability": "arc.acc", "value": 0.5, "std_error": 0.125, "unit": None}
    path = csv(tmp_path / "l.csv", row, row | {"ability": "own", "value": 3, "std_error": None, "unit": "points"})
    found = read_abilities([path]).rows
    assert found.select("seed", "ability", "value", "std_error", "unit", "higher_is_better").rows() == [
        ("2", "arc.acc", 0.5, 0.125, "fraction", True),
        ("2", "own", 3.0, None, "points", None),
    ]
    other = csv(
        tmp_path / "o.csv", {"m": "x/pythia-14m", "s": 2, "at": 8, "task": "arc", "metric": "acc", "v": 0.5, "n": 10}
    )
    words = "run=m+s, step=at, ability=task+metric, value=v, n_samples=n"
    assert read_abilities([other], columns=words).rows.select(
        "run", "step", "ability", "value", "n_samples"
    ).rows() == [("pythia-14m-seed2", 8, "arc.acc", 0.5, 10)]


WIDE = {"run": "pythia-14m-seed2", "step": 8, "acc": 0.5}


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        (WIDE | {"induction": 0.5}, "", "the ability 'induction' has the name of a score"),
        (WIDE, "run=run, step=step, prev=acc", "the ability 'prev' has the name of a score"),
        (WIDE | {"acc": "high"}, "run=run, step=step, a=acc", "column acc must hold a finite number"),
        (WIDE | {"acc": "high"}, "", "lacks the columns of an ability"),
        ({"step": 8, "acc": 0.5}, "", "lacks the columns run"),
        (HEAD, "", "has a row for each head: read it with headway import-heads"),
        (WIDE, "run=run, step=step, value=acc", "lacks the columns ability"),
        (WIDE, "run=run, step=step, a=acd", "has no column 'acd', which --columns gives for a, did you mean 'acc'?"),
        (WIDE, "run=run, step=step, layer=acc, a=acc", "--columns: the table abilities has no layer. Read"),
        (WIDE, "run=run, step=step, a=acc+step", "a is one column, not acc+step"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, row, columns, message):
    with pytest.raises(UsageError) as error:
        read_abilities([csv(tmp_path / "a.csv", row)], columns=columns)
    assert message in str(error.value)


def test_columns_without_a_table_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--columns is for CSV tables"):
        read_abilities([written(tmp_path / "x.json", OLD)], columns="run=run, step=step, a=acc")


# --- into a run directory -------------------------------------------------------------------------------------------


def test_abilities_stand_beside_heads_and_imports_add_up(tmp_path, recwarn):
    out = tmp_path / "out"
    headway.import_heads(csv(tmp_path / "heads.csv", HEAD), out=out)
    own = changed(OLD, model_args="pretrained=EleutherAI/pythia-70m-seed1,revision=step512")
    late = changed(OLD, model_args="pretrained=EleutherAI/pythia-70m-seed1,revision=step1000")
    files = [written(tmp_path / f"{name}.json", content) for name, content in (("a", own), ("b", late), ("c", OLD))]
    assert headway.import_abilities(files, out=out) == 9
    assert [str(one.message) for one in recwarn] == [
        "the table heads has no run pythia-70m. Their abilities are kept, but stand beside no head. Other runs of these "
        "models are there, such as pythia-70m-seed1.",
        "the table heads lacks 1 checkpoint that have abilities: 1 step (1000) of pythia-70m-seed1",
    ]
    rundir = RunDirectory(out)
    table = rundir.read("imported_abilities")
    assert table.schema == {column.name: column.dtype for column in ABILITIES_COLUMNS}
    assert set(table["n_params"]) == {70_426_624}
    joined = rundir.read("heads").join(table, on=["run", "step"])
    assert joined.filter(ability="lambada_openai.acc").select("induction", "value").rows() == [(0.5, 0.5)]

    losses = csv(tmp_path / "losses.csv", {"run": "pythia-70m-seed1", "step": 512, "loss": 3.5})
    assert headway.import_abilities(losses, out=out) == 10
    assert set(rundir.read("imported_abilities")["source"]) == {"a.json", "b.json", "c.json", "losses.csv"}
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file() and path.name != ".lock"}
    assert headway.import_abilities(losses, out=out) == 10  # nothing is done for what is there
    assert headway.import_abilities(files, out=out) == 10
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_changed_file_replaces_its_rows_only_with_force(tmp_path):
    out, row = tmp_path / "out", {"run": "r-5m-seed1", "step": 8, "a": 1, "b": 2}
    path = csv(tmp_path / "x.csv", row)
    other = csv(tmp_path / "y.csv", {"run": "r-5m-seed1", "step": 9, "a": 1})
    assert headway.import_abilities([path, other], out=out) == 3
    csv(path, {"run": "r-5m-seed1", "step": 8, "a": 5})
    with pytest.raises(RunDirectoryError, match=r"from a file x\.csv with other contents"):
        headway.import_abilities(path, out=out)
    assert headway.import_abilities(path, out=out, force=True) == 2
    assert RunDirectory(out).read("imported_abilities").select("step", "value").rows() == [(8, 5.0), (9, 1.0)]


def test_equal_values_are_kept_once_and_others_refused(tmp_path):
    row = {"run": "r-5m-seed1", "step": 8, "a": 1.5}
    one, two, three = (csv(tmp_path / f"{n}.csv", row | {"a": value}) for n, value in enumerate((1.5, 1.5, 1.25)))
    assert headway.import_abilities([one, two], out=tmp_path / "out") == 1
    with pytest.raises(UsageError) as error:
        headway.import_abilities(three, out=tmp_path / "out")
    assert (
        "1 value of an ability disagrees. The first is a of r-5m-seed1 at step 8: 1.5 in 0.csv and 1.25 in 2.csv"
        in str(error.value)
    )
    assert headway.import_abilities([one, two], out=tmp_path / "out") == 1  # a refused import changes nothing


def test_a_table_that_was_not_finished_asks_for_its_files(tmp_path):
    one = csv(tmp_path / "x.csv", {"run": "r-5m-seed1", "step": 8, "a": 1})
    two = csv(tmp_path / "y.csv", {"run": "r-5m-seed1", "step": 9, "a": 1})
    out = tmp_path / "out"
    headway.import_abilities(one, out=out)
    next(out.glob("imported_abilities/*")).write_bytes(b"cut")
    with pytest.warns(UserWarning, match=r"not finished. Import these again: x\.csv"):
        assert headway.import_abilities(two, out=out) == 1
    assert headway.import_abilities(one, out=out) == 2


def test_a_directory_of_abilities_alone_has_their_curves_and_says_what_a_study_of_heads_needs(tmp_path):
    out = tmp_path / "out"
    headway.import_abilities(csv(tmp_path / "x.csv", WIDE), out=out)
    (found,) = headway.analyze(out).values()
    assert found.tables["curves"].height
    assert "there is no table of heads" in found.values["left_out"][0]["reason"]
    with pytest.raises(RunDirectoryError, match="holds no finished partitions of 'heads'"):
        headway.analyze(out, studies=["development"])


def test_the_public_evaluations_are_read_whole(reference):
    files = sorted((reference.parent / "pythia_evals").glob("*.json"))
    if not files:
        pytest.skip("the reference has no evaluations")
    found = read_abilities(files)
    assert len(files) == 81
    assert found.doubts == []
    counted = sum(
        not metric.endswith("_stderr")
        for file in files
        for one in json.loads(file.read_text())["results"].values()
        for metric in one
    )
    assert found.rows.height == counted == 13_932
    assert found.rows["std_error"].null_count() == 0
    assert set(found.rows.select("run", "size", "seed").rows()) == {
        (f"pythia-{size}", size, "1234") for size in ("70m", "160m", "410m")
    }
    assert found.rows["step"].n_unique() == 27
    one = json.loads((files[0].parent / "410m_step3000.json").read_text())["results"]["lambada_openai"]
    own = found.rows.filter(run="pythia-410m", step=3000).filter(pl.col("ability").str.starts_with("lambada_openai."))
    assert {row["ability"]: (row["value"], row["std_error"]) for row in own.rows(named=True)} == {
        f"lambada_openai.{metric}": (one[metric], one[f"{metric}_stderr"]) for metric in ("acc", "ppl")
    }
