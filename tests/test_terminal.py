"""What reaches the terminal: no control characters of others, and no failure because it cannot be written to."""

import os
import subprocess
import sys

import pytest

from headway.store import RunDirectory, TableRecord
from headway.terminal import printable
from support_models import saved_suite


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, ↔, 日本 and\ttab", "plain, é, ↔, 日本 and\ttab"),
        ("a\x1b[1A\x1b[2Kheadway: all is well", r"a\x1b[1A\x1b[2Kheadway: all is well"),
        ("one\nheadway: two\r", r"one\nheadway: two\r"),
        ("\x9b31m\x07\x7f", r"\x9b31m\x07\x7f"),
        ("txt.\u202egpj\u2066\u2028", r"txt.\u202egpj\u2066\u2028"),
        ("not text \udcff", r"not text \udcff"),
    ],
)
def test_only_visible_signs_are_shown(text, shown):
    assert printable(text) == shown


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("terminal")
    saved_suite(place, steps=2)
    (place / "größe.txt").write_text("w1 w2 w3\nw4 w5\n")
    return place


def headway(place, words, redirected="", **environment):
    """Runs `headway WORDS` in a shell: exit code, standard output and error as bytes."""
    command = f"exec {sys.executable} -m headway {words} {redirected}"
    return subprocess.run(["bash", "-c", command], cwd=place, capture_output=True, env=os.environ | environment)


MEASURE = "measure suite --corpus texts.txt"


@pytest.mark.parametrize(
    ("redirected", "workers"),
    [
        ("2>/dev/full", 1),
        ("2>&-", 1),
        ("<&- 2>&-", 1),
        ("<&- >&- 2>&-", 2),
        (">/dev/null 2>/dev/full", 2),
    ],
)
def test_a_log_that_cannot_be_written_stops_no_sweep(place, tmp_path, redirected, workers):
    done = headway(place, f"{MEASURE} --workers {workers} --out {tmp_path}/out", redirected)
    assert done.returncode == 0, done
    assert RunDirectory(tmp_path / "out").read("heads")["step"].unique().to_list() == [0, 1]


def test_an_output_that_cannot_be_written_is_said(place):
    done = headway(place, "suites", ">/dev/full")
    assert (done.returncode, b"headway: standard output cannot be written to: No space left" in done.stderr) == (
        1,
        True,
    )
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


POSIX = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_name_in_unicode_is_the_same_in_every_locale(place, tmp_path):
    words = f"measure suite --corpus größe.txt --out {tmp_path}/out"
    done = headway(place, words, **POSIX)
    assert done.returncode == 0, done
    assert RunDirectory(tmp_path / "out").manifest().tables["heads"].identity["corpus"]["name"] == "größe.txt"
    again = headway(place, words, LC_ALL="C.UTF-8")
    assert (again.returncode, b"0 checkpoints computed, 2 reused" in again.stdout) == (0, True), again
    refused = headway(place, f"measure suite --corpus größer.txt --out {tmp_path}/out", **POSIX)
    assert (refused.returncode, b"Traceback" in refused.stderr) == (2, False), refused


def test_names_in_files_forge_no_line(place, tmp_path):
    """A checkpoint's folder name cannot hold such signs, but what it says of itself can."""
    directory = RunDirectory(tmp_path / "out")
    with directory.changing_manifest() as manifest:
        manifest.tables["heads"] = TableRecord({}, ["a@0"])
    forged = "gone\x1b[1A\x1b[2K\nheads: 1 of 1 done"
    directory.add_failure({"table": "heads", "checkpoint": "a@0", "error": forged})
    done = headway(place, f"status {directory.path}")
    assert b"\x1b" not in done.stdout
    assert done.stdout.splitlines()[1:] == [rb"  failed   a@0: gone\x1b[1A\x1b[2K\nheads: 1 of 1 done"]


@pytest.mark.parametrize(
    ("out", "code", "said"),
    [
        ("x" * 300, 2, "this path is not possible (File name too long)"),
        ("/".join(["x" * 100] * 60), 2, "this path is not possible (File name too long)"),
        ("memory://x", 2, "files in memory are lost when the command ends"),
        ("s3://bucket/x", 2, "s3://bucket/x cannot be opened: Install s3fs"),
        ("nowhere://x", 2, "nowhere://x cannot be opened: "),
        ("~nobody-of-that-name/x", 2, "Write the path in full"),
    ],
)
def test_an_out_that_cannot_be(place, out, code, said):
    before = sorted(os.listdir(place))
    done = headway(place, f"{MEASURE} --out='{out}'")
    assert (done.returncode, said in done.stderr.decode()) == (code, True), done.stderr
    assert b"defect" not in done.stderr
    assert sorted(os.listdir(place)) == before


def test_a_tilde_is_the_home_folder(place, tmp_path):
    (tmp_path / "texts.txt").write_text("w1 w2 w3\n")
    done = headway(place, "measure suite '--corpus=~/texts.txt' '--out=~/out'", HOME=str(tmp_path))
    assert done.returncode == 0, done
    assert RunDirectory(tmp_path / "out").tables() == ["heads"]
    assert not (place / "~").exists()
    asked = RunDirectory(tmp_path / "out").manifest().tables["heads"].asked
    assert asked["corpus"] == str(tmp_path / "texts.txt")


def test_an_analysis_says_why_there_is_nothing(place, tmp_path):
    out = tmp_path / "out"
    config = place / "broken" / "toy-1m-seed1" / "step0" / "config.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("{}")
    assert headway(place, f"cluster broken --nulls 0 --out {out}").returncode == 1
    done = headway(place, f"analyze {out}")
    assert done.returncode == 2
    assert b"holds no finished partitions of 'clusters'. 1 checkpoint failed: `headway status" in done.stderr
