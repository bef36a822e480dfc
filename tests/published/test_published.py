"""Published per-head tables: read right, or refused with the column and the row."""

import gzip

import polars as pl
import pytest

from headway.errors import UsageError
from headway.published import read_published
from headway.tables import HEADS_COLUMNS

ROW = {
    "mpath": "EleutherAI/pythia-14m",
    "step_modded": 513,
    "revision": "step512",
    "Layer": 2,
    "Head": 3,
    "seed": 7,
    "seed_name": "seed7",
    "n_params": 14_067_712,
    "n_layers": 6,
    "mean_1back": 0.25,
    "mean_first": 0.5,
    "mean_prev_self_ratio": 1.25,
    "note": "of another tool",
}


def csv(tmp_path, *rows, name="heads.csv"):
    path = tmp_path / name
    text = pl.DataFrame(list(rows), infer_schema_length=None).write_csv()
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


def test_names_and_counts_become_ours(tmp_path):
    heads = read_published([csv(tmp_path, ROW, ROW | {"Head": 4})], suite="pythia")
    assert heads.row(0, named=True) == {
        "suite": "pythia",
        "run": "pythia-14m-seed7",
        "model": "pythia-14m",
        "size": "14m",
        "seed": "7",
        "step": 512,
        "tokens_seen": None,
        "n_params": 14_067_712,
        "n_layers": 6,
        "n_heads": 4,
        "stack": "decoder",
        "layer": 1,
        "head": 2,
        "prev": 0.25,
        "first": 0.5,
        "prev_self_ratio": 1.25,
    }
    assert heads.schema == {c.name: c.dtype for c in HEADS_COLUMNS} | dict.fromkeys(
        ("prev", "first", "prev_self_ratio"), pl.Float64()
    )


def test_gzip_and_several_files_make_one_table(tmp_path):
    one = csv(tmp_path, ROW, name="a.csv.gz")
    two = csv(tmp_path, ROW | {"seed_name": "seed8"}, name="b.csv")
    assert read_published([one, two])["run"].to_list() == ["pythia-14m-seed7", "pythia-14m-seed8"]


def test_a_missing_score_is_kept_as_missing(tmp_path):
    for missing in ("NA", "NaN", ""):
        heads = read_published([csv(tmp_path, ROW | {"mean_first": missing})])
        assert heads["first"].to_list() == [None]
        assert heads["prev"].to_list() == [0.25]


def test_numbers_as_r_writes_them_are_read_wherever_they_stand(tmp_path):
    """R's write.csv writes 100001 as 100001 and 100000 as 1e+05; the first such row may come late."""
    rows = [ROW | {"step_modded": step, "revision": None} for step in range(1, 10_003)]
    late = {"mpath": "a/b-15m", "step_modded": "1e+05", "revision": None, "n_params": "1.4e7", "mean_1back": "5e-4"}
    path = csv(tmp_path, *rows, ROW | late)
    last = read_published([path]).filter(pl.col("step") == 99_999).row(0, named=True)
    assert (last["n_params"], last["prev"]) == (14_000_000, 5e-4)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = csv(tmp_path, ROW)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_published([path])["run"].to_list() == ["pythia-14m-seed7"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Layer": 0}, "count layers from 1"),
        ({"Layer": 7}, "Layer 7 is above n_layers, which is 6"),
        ({"Layer": "two"}, "column Layer must hold a whole number; row 1 has 'two'"),
        ({"n_params": None}, "column n_params must hold a whole number; row 1"),
        ({"mean_1back": "high"}, "column mean_1back must hold a finite number"),
        (
            {"mean_1back": "inf"},
            "column mean_1back must hold a finite number, or NA where there is none; row 1 has 'inf'",
        ),
        ({"mean_first": float("-inf")}, "column mean_first must hold a finite number"),
        ({"n_params": "inf"}, "column n_params must hold a whole number; row 1 has 'inf'"),
        ({"n_params": "NAN"}, "column n_params must hold a whole number; row 1 has 'NAN'"),
        ({"revision": "step511"}, "revision 'step511' does not match step_modded 513"),
        ({"seed_name": None}, "column seed_name is empty in row 1"),
    ],
)
def test_wrong_values_are_named(tmp_path, change, message):
    with pytest.raises(UsageError, match=r"heads\.csv") as error:
        read_published([csv(tmp_path, ROW | change)])
    assert message in str(error.value)


def test_missing_columns_are_named(tmp_path):
    row = {name: value for name, value in ROW.items() if name not in ("Layer", "n_params")}
    with pytest.raises(UsageError, match="lacks the columns Layer, n_params"):
        read_published([csv(tmp_path, row)])


def test_a_table_without_scores_is_refused(tmp_path):
    row = {name: value for name, value in ROW.items() if not name.startswith("mean_")}
    with pytest.raises(UsageError, match="has no score"):
        read_published([csv(tmp_path, row)])


def test_a_table_without_rows_is_refused(tmp_path):
    path = csv(tmp_path, ROW)
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(UsageError, match=r"heads\.csv has a header but no rows: give"):
        read_published([path])


@pytest.mark.parametrize("name", ["heads.csv", "heads.csv.gz"])
def test_a_table_that_is_not_utf8_is_refused_by_its_first_such_cell(tmp_path, name):
    text = csv(tmp_path, ROW, ROW | {"Head": 4, "note": "b, café"}, name="right.csv").read_text(encoding="utf-8")
    header, rest = text.split("\n", 1)
    path = tmp_path / name
    for written, where in (
        (text.encode("latin-1"), r"in column note, row 2: b'b, caf\xe9'"),
        (header.replace("note", "né").encode("latin-1") + f"\n{rest}".encode(), "in its header"),
        (text.encode("utf-16"), "in its header"),
    ):
        path.write_bytes(gzip.compress(written) if name.endswith("gz") else written)
        with pytest.raises(UsageError) as error:
            read_published([path])
        assert f"{path} is not UTF-8 {where}. Save it as UTF-8" in str(error.value)


def test_a_file_given_twice_is_refused(tmp_path):
    path = csv(tmp_path, ROW)
    with pytest.raises(UsageError, match="Was a file given twice"):
        read_published([path, path])


def test_files_that_cannot_be_read_are_refused(tmp_path):
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(b"\x1f\x8b not gzip")
    for paths in ([tmp_path / "absent.csv"], [broken], [tmp_path], []):
        with pytest.raises(UsageError):
            read_published(paths)


def test_the_published_table_is_whole(reference):
    heads = read_published([reference / "pythia_heads.csv.gz"])
    assert heads.height == 86_400
    assert heads["run"].n_unique() == 36
    assert heads["step"].unique().sort()[[0, 1, -1]].to_list() == [0, 1, 143_000]
    geometry = heads.select("model", "n_layers", "n_heads").unique().sort("model").rows()
    assert geometry == [
        ("pythia-14m", 6, 4),
        ("pythia-160m", 12, 12),
        ("pythia-410m", 24, 16),
        ("pythia-70m", 6, 8),
    ]
    # README of the reference: the largest prev per run, averaged over seeds
    tops = (
        heads.group_by("model", "run", "step").agg(pl.col("prev").max()).group_by("model", "step").agg(pl.mean("prev"))
    )
    at = {(model, step): prev for model, step, prev in tops.rows()}
    assert [round(at["pythia-14m", step], 3) for step in (0, 512, 1000, 10_000)] == [0.130, 0.195, 0.359, 0.710]
