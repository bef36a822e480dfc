"""`headway import-heads`: several files joined, samples averaged, abilities set apart; and what does not fit is said."""

import math
import statistics
import time

import polars as pl
import pytest

import headway
from headway.errors import RunDirectoryError, UsageError
from headway.published import read_heads
from headway.store import RunDirectory

MODEL = {"mpath": "EleutherAI/pythia-14m", "seed": 7, "revision": "step512", "n_params": 14_067_712, "n_layers": 6}
# As in the published table: layers, heads and steps count from 1.
PREV = {**MODEL, "step_modded": 513, "Layer": 2, "Head": 3, "seed_name": "seed7", "mean_1back": 0.25}
# As in the same author's table of induction: they count from 0.
INDUCTION = {
    **MODEL,
    "step": 512,
    "n_heads": 4,
    "layer": 1,
    "head": 2,
    "mean_ps": 0.5,
    "mean_ar_acc": 0.75,
    "n_samples": 100,
}
TRIAL = {**MODEL, "step": 512, "n_heads": 4, "layer": 0, "head": 0}


def csv(path, *rows):
    pl.DataFrame(list(rows), infer_schema_length=None).write_csv(path)
    return path


def trials(path, values, accuracies):
    """A file with a row per sample and head: `values` by head, `accuracies` by sample."""
    rows = [
        TRIAL | {"sample": sample, "head": head, "ps": value, "ar_acc": accuracies[sample]}
        for head, of_head in enumerate(values)
        for sample, value in enumerate(of_head)
    ]
    return csv(path, *rows)


def test_files_are_joined_by_head_whatever_they_count_from(tmp_path):
    one = csv(tmp_path / "prev.csv", PREV, PREV | {"Head": 4})
    two = csv(tmp_path / "induction.csv", INDUCTION, INDUCTION | {"head": 1, "mean_ps": 0.125})
    for files in ([one, two], [two, one]):
        found = read_heads(files)
        assert found.heads.select("run", "step", "layer", "head", "prev", "induction", "induction_samples").rows() == [
            ("pythia-14m-seed7", 512, 1, 1, None, 0.125, 100),
            ("pythia-14m-seed7", 512, 1, 2, 0.25, 0.5, 100),
            ("pythia-14m-seed7", 512, 1, 3, 0.25, None, None),
        ]
        assert set(found.heads["n_params"]) == {14_067_712}
    assert found.doubts == [
        "prev of pythia-14m is missing in 1 of 3 rows: 1 run, 1 of 1 step (512)",
        "induction of pythia-14m is missing in 1 of 3 rows: 1 run, 1 of 1 step (512)",
    ]
    assert found.recognised[0].startswith(
        "induction.csv: 2 rows of 1 run, such as pythia-14m-seed7, and 1 step; layers and heads count from 0; "
        "run is mpath + seed, step is step"
    )
    assert "run is mpath + seed_name, step is step_modded - 1" in found.recognised[1]
    assert "induction is mean_ps, published_repeat_accuracy is mean_ar_acc" in found.recognised[0]
    assert found.recognised[1].endswith("Not read: seed and revision")


def test_what_all_heads_of_a_checkpoint_share_is_an_ability(tmp_path):
    rows = [
        INDUCTION | {"head": head, "step": step, "revision": None, "mean_ar_acc": step / 8}
        for head in (0, 1)
        for step in (2, 4)
    ]
    found = read_heads([csv(tmp_path / "a.csv", *rows)]).abilities
    assert found.select(
        "run", "step", "ability", "value", "unit", "higher_is_better", "n_samples", "source"
    ).rows() == [
        ("pythia-14m-seed7", 2, "published_repeat_accuracy", 0.25, "fraction", True, 100, "a.csv"),
        ("pythia-14m-seed7", 4, "published_repeat_accuracy", 0.5, "fraction", True, 100, "a.csv"),
    ]


def test_samples_are_averaged_and_counted(tmp_path):
    values = [[0.1, 0.2, 0.6], [0.3, None, 0.5]]
    accuracies = [0.0, 0.5, 0.75]
    found = read_heads([trials(tmp_path / "induction_scores-x.csv", values, accuracies)])
    heads = found.heads.select("head", "induction", "induction_samples").rows()
    assert heads[0] == (0, pytest.approx(statistics.mean(values[0])), 3)
    assert heads[1] == (1, pytest.approx(0.4), 2)  # the mean of the two samples that there are
    (ability,) = found.abilities.rows(named=True)
    assert ability["value"] == pytest.approx(statistics.mean(accuracies))
    assert ability["std_error"] == pytest.approx(statistics.stdev(accuracies) / math.sqrt(3))
    assert ability["n_samples"] == 3


def test_a_sample_that_stands_twice_is_refused(tmp_path):
    path = csv(tmp_path / "a.csv", *[TRIAL | {"sample": 0, "ps": 0.5}] * 2)
    with pytest.raises(UsageError, match=r"2 rows describe a head more than once.*layer 0, head 0, sample 0"):
        read_heads([path])


def test_columns_say_what_is_what(tmp_path):
    rows = [
        {"who": "mine/gpt-5m", "s": 3.0, "at": "step8", "block": block, "h": h, "x": 0.1 * h, "nll": 2.5, "junk": "j"}
        for block in (1, 2)
        for h in (1, 2)
    ]
    path = csv(tmp_path / "own.csv", *rows)
    words = "run=who+s, step=at, layer=block, head=h, induction=x, nll=nll"
    columns = words.replace("run=who+s", "model=who, seed=s")
    said = []
    found = read_heads([path], columns=words, first_layer=1, say=said.append)
    assert (
        found.heads.select("run", "model", "size", "seed", "step", "n_params", "n_layers", "n_heads").rows()
        == [("gpt-5m-seed3", "gpt-5m", "5m", "3", 8, None, 2, 2)] * 4
    )
    assert found.heads.select("layer", "head", "induction").rows() == [
        (0, 0, 0.1),
        (0, 1, 0.2),
        (1, 0, 0.1),
        (1, 1, 0.2),
    ]
    assert found.abilities.select("ability", "value", "unit").rows() == [("nll", 2.5, None)]
    assert said == found.recognised
    assert "induction is x, nll is nll. Not read: junk" in said[0]
    assert read_heads([path], columns=columns, first_layer=1).heads.equals(found.heads)
    later = read_heads(
        [csv(tmp_path / "l.csv", *(row | {"at": 9} for row in rows))],
        columns=words.replace("at", "at-1"),
        first_layer=1,
    )
    assert set(later.heads["step"]) == {8}


def test_columns_hold_for_the_files_that_have_them(tmp_path):
    own = csv(tmp_path / "own.csv", {"who": "x/pythia-14m-seed7", "at": 512, "l": 0, "h": 0, "x": 0.5})
    known = csv(tmp_path / "known.csv", INDUCTION)
    found = read_heads([own, known], columns="run=who, step=at, layer=l, head=h, prev=x")
    assert found.heads.select("run", "layer", "prev", "induction").rows() == [
        ("pythia-14m-seed7", 0, 0.5, None),
        ("pythia-14m-seed7", 1, None, 0.5),
    ]
    assert found.heads["n_params"].to_list() == [14_067_712] * 2


def test_sizes_that_disagree_are_said_and_the_first_is_kept(tmp_path):
    one = csv(tmp_path / "a.csv", PREV)
    two = csv(tmp_path / "b.csv", INDUCTION | {"n_params": 14_000_000})
    found = read_heads([one, two])
    assert set(found.heads["n_params"]) == {14_067_712}
    assert found.doubts == [
        "n_params of pythia-14m differs: 14,067,712 in a.csv and 14,000,000 in b.csv. The first one is kept"
    ]


def test_where_layers_count_from_is_asked_if_the_file_does_not_show_it(tmp_path):
    row = {name: value for name, value in INDUCTION.items() if name not in ("n_layers", "n_heads", "mean_ps")}
    row |= {"layer": 2, "induction": 0.5}
    path = csv(tmp_path / "a.csv", row)
    with pytest.raises(UsageError, match=r"counted from 0 or from 1\. Say which: --first-layer 0 or --first-layer 1"):
        read_heads([path])
    assert read_heads([path], first_layer=1).heads.select("layer", "head").rows() == [(1, 1)]
    assert read_heads([path], first_layer=0).heads.select("layer", "head").rows() == [(2, 2)]
    shown = csv(tmp_path / "b.csv", row | {"n_layers": 2})
    assert read_heads([shown]).heads["layer"].to_list() == [1]


PARTS = "run=mpath+seed, step=step, layer=layer, head=head"


@pytest.mark.parametrize(
    ("change", "columns", "message"),
    [
        (
            {},
            f"{PARTS}, induction=pz",
            "has no column 'pz', which --columns gives for induction. Its columns are mpath",
        ),
        ({}, f"{PARTS}, induction=mean_p", "did you mean 'mean_ps'?"),
        ({}, f"{PARTS}, induction", "'induction' has no NAME=COLUMN"),
        ({}, f"{PARTS}, step=layer", "--columns gives step twice: step and layer"),
        ({}, "layer=layer, head=head, induction=mean_ps", "--columns must say what run is"),
        ({}, "run=mpath, layer=layer, head=head, induction=mean_ps", "--columns must say what step is"),
        ({}, "run=mpath, step=step, induction=mean_ps", "lacks the columns layer, head"),
        ({}, f"{PARTS}, induction=mean_ps+mean_ar_acc", "induction is one column, not mean_ps+mean_ar_acc"),
        ({}, f"{PARTS}, accuracy=mean_ar_acc", "has no score"),
        (
            {},
            f"{PARTS}, prev=mean_ps, inducton=head",
            "between the heads of pythia-14m-seed7 at step 512 (0 to 2), so it",
        ),
        ({}, f"{PARTS}, prev=mean_ps, inducton=head", "did you mean 'induction'?"),
        ({}, f"{PARTS}, prev=mean_ps, a/b=mean_ar_acc", "the ability 'a/b' needs another name"),
        ({}, f"{PARTS}, prev=mean_ps, value=mean_ar_acc", "the ability 'value' has the name of a column"),
        ({"mean_ar_acc": "high"}, "", "column mean_ar_acc must hold a finite number"),
        ({"layer": 6}, "", "layer 6, counted from 0, is not below n_layers, which is 6"),
        ({"layer": 3e9}, "", "column layer holds a number that is too large"),
        ({"step": 1e30}, "", "column step must hold a whole number; row 1 has '1e+30'"),
        ({"step": -1, "revision": None}, "", "count steps from 0; column step holds -1"),
        ({"step": 511}, "", "revision 'step512' does not match step 511, which should be the same step"),
        ({"step": "soon", "revision": None}, "", "column step must hold a whole number; row 1 has 'soon'"),
        ({"mpath": None}, "", "column mpath is empty in row 1"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, change, columns, message):
    path = csv(tmp_path / "a.csv", INDUCTION | change, INDUCTION | change | {"head": 0})
    with pytest.raises(UsageError) as error:
        read_heads([path], columns=columns)
    assert message in str(error.value)


def test_two_files_with_one_score_of_one_head_are_refused(tmp_path):
    one, two = csv(tmp_path / "a.csv", INDUCTION), csv(tmp_path / "b.csv", INDUCTION | {"mean_ps": 0.25})
    with pytest.raises(
        UsageError, match=r"two files hold 'induction' of the same head\. The first is run pythia-14m-seed7"
    ):
        read_heads([one, two])


# --- into a run directory -------------------------------------------------------------------------------------------


def told(recorder):
    return [str(one.message) for one in recorder]


def test_both_tables_are_stored_and_a_second_import_does_nothing(tmp_path, recwarn):
    files = [csv(tmp_path / "a.csv", PREV, PREV | {"Head": 1}), csv(tmp_path / "b.csv", INDUCTION)]
    out = tmp_path / "out"
    assert headway.import_heads(files, out=out) == 2
    assert told(recwarn) == ["induction of pythia-14m is missing in 1 of 2 rows: 1 run, 1 of 1 step (512)"]
    rundir = RunDirectory(out)
    assert rundir.read("heads")["induction"].to_list() == [None, 0.5]
    (ability,) = rundir.read("imported_abilities").rows(named=True)
    assert (ability["suite"], ability["n_params"], ability["n_heads"]) == ("published", 14_067_712, 4)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert headway.import_heads(files, out=out) == 2
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert rundir.manifest().tables["heads"].asked["doubts"] == told(recwarn)[:1]

    next(out.glob("imported_abilities/*")).unlink()  # what is lost is imported again
    assert headway.import_heads(files, out=out) == 2
    assert rundir.read("imported_abilities").height == 1


def test_other_files_or_options_are_refused_without_force(tmp_path):
    one, out = csv(tmp_path / "a.csv", INDUCTION), tmp_path / "out"
    headway.import_heads(one, out=out)
    two = csv(tmp_path / "b.csv", INDUCTION | {"mean_ar_acc": 0.5})
    with pytest.raises(RunDirectoryError, match="computed with other settings"):
        headway.import_heads(two, out=out)
    with pytest.raises(RunDirectoryError, match="computed with other settings"):
        headway.import_heads(one, out=out, first_layer=0)
    assert RunDirectory(out).read("imported_abilities")["value"].to_list() == [0.75]  # a refused import changes nothing
    csv(one, INDUCTION | {"mean_ar_acc": 0.5})
    assert headway.import_heads(one, out=out, force=True) == 1
    assert RunDirectory(out).read("imported_abilities")["value"].to_list() == [0.5]
    with pytest.raises(UsageError, match="--first-layer is 0 or 1, not 2"):
        headway.import_heads(one, out=out, first_layer=2)


@pytest.mark.parametrize("name", ["../../escape", "a\x1b[2Jb", "..", "CON/..", "x" * 300])
def test_a_hostile_name_of_a_run_is_no_path_and_no_escape(tmp_path, name):
    path = csv(tmp_path / "a.csv", INDUCTION | {"mpath": name, "seed": "\x1b]0;owned\x07"})
    with pytest.raises(RunDirectoryError, match="cannot be part of a file name") as error:
        headway.import_heads(path, out=tmp_path / "out")
    assert "\x1b" not in str(error.value)
    assert {one.name for one in tmp_path.iterdir()} <= {"a.csv", "out"}


def test_two_files_of_one_name_are_told_apart(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
    files = [csv(tmp_path / "x" / "a.csv", INDUCTION), csv(tmp_path / "y" / "a.csv", INDUCTION | {"seed": 8})]
    headway.import_heads(files, out=tmp_path / "out")
    assert set(RunDirectory(tmp_path / "out").read("imported_abilities")["source"]) == {"x/a.csv", "y/a.csv"}


def test_the_reference_is_joined_whole(reference, tmp_path):
    """README of the reference: 86,400 and 69,120 rows; induction of 410m is there for steps 0 to 512 only."""
    files = [reference / "pythia_heads.csv.gz", reference.parent / "pythia_induction" / "pythia_induction.csv.gz"]
    if not files[1].exists():
        pytest.skip("the reference has no table of induction")
    begun = time.process_time()
    found = read_heads(files)
    assert time.process_time() - begun < 4  # seconds for 155,520 rows; it takes under one
    assert found.heads.height == 86_400
    assert found.doubts == [
        "induction of pythia-410m is missing in 17,280 of 55,296 rows: 9 runs, 5 of 16 steps "
        "(1000, 10000, 50000, 100000, 143000)"
    ]
    raw = pl.read_csv(files[1])
    assert found.heads["induction"].sum() == pytest.approx(raw["mean_ps"].sum(), rel=1e-12)  # another order of the sum
    row = raw.filter(mpath="EleutherAI/pythia-160m", seed=4, step=1000, layer=5, head=7).row(0, named=True)
    own = found.heads.filter(run="pythia-160m-seed4", step=1000, layer=5, head=7).row(0, named=True)
    assert own["induction"] == row["mean_ps"]
    old = pl.read_csv(files[0])
    old = old.filter(mpath="EleutherAI/pythia-160m", seed=4, step_modded=1001, Layer=6, Head=8).row(0, named=True)
    assert own["prev"] == old["mean_1back"]
    accuracy = found.abilities.filter(run="pythia-160m-seed4", step=1000, ability="published_repeat_accuracy")
    assert accuracy["value"].to_list() == [row["mean_ar_acc"]]
    assert found.abilities.height == 2 * 531  # 36 runs of 16 steps, without 5 steps of 9 runs
