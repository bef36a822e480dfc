import json
import os
import subprocess
import sys

import openpyxl
import polars as pl
import pytest

from headway.corpora import Corpus, open_corpus
from headway.errors import CorpusError

TEXTS = ("The cat sat.", "Äpfel & <b>Birnen</b>", "日本語のテキスト")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(with_blanks=True):
    return pl.DataFrame(
        {
            "id": [1, 2, 3, 4, 5],
            "Sentence": [TEXTS[0], "  " if with_blanks else "x", TEXTS[1], None, TEXTS[2]],
        }
    )


def write_xlsx(frame, path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in [frame.columns, *frame.rows()]:
        book.active.append(row)
    book.save(path)


WRITERS = {
    ".csv": lambda frame, path: frame.write_csv(path),
    ".tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
    ".xlsx": write_xlsx,
}


@pytest.mark.parametrize("ending", WRITERS)
def test_a_column_of_any_table_is_the_same_corpus(folder, ending):
    WRITERS[ending](table(), folder / f"t{ending}")
    corpus = open_corpus(f"t{ending}:Sentence")
    assert corpus.texts == TEXTS
    assert corpus.name == f"t{ending}:Sentence"
    assert corpus.n_blank == 2
    assert corpus.sha256 == Corpus.of("elsewhere", TEXTS).sha256


def test_the_hash_is_of_the_texts_and_their_order_and_nothing_else():
    def sha(*texts):
        return Corpus.of("x", texts).sha256

    assert sha("a", "b") == sha("a", "", "b")
    assert len({sha("a", "b"), sha("b", "a"), sha("ab"), sha("a\nb"), sha("a ", "b")}) == 5


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_text_file_holds_a_text_per_line_and_blank_lines_are_none(folder, newline):
    (folder / "t.txt").write_bytes(newline.join(["one", "", " two\x0cstill two ", "\t", "three", ""]).encode())
    corpus = open_corpus("t.txt")
    assert corpus.texts == ("one", " two\x0cstill two ", "three")
    assert corpus.name == "t.txt"
    assert corpus.n_blank == 2  # the end of the last line starts no other


def test_a_byte_order_mark_is_no_text(folder):
    (folder / "t.txt").write_bytes(b"\xef\xbb\xbfone")
    (folder / "t.csv").write_bytes(b"\xef\xbb\xbftext\none")
    assert open_corpus("t.txt").texts == open_corpus("t.csv:text").texts == ("one",)


def test_absolute_paths_and_paths_with_colons(folder):
    drive = folder / "C:"
    drive.mkdir()
    (folder / "a:b.txt").write_text("one")
    table().write_csv(drive / "t.csv")
    table().rename({"Sentence": "my:text"}).write_csv(folder / "u.csv")
    assert open_corpus(folder / "a:b.txt").texts == open_corpus("a:b.txt").texts == ("one",)
    assert open_corpus(f"{drive / 't.csv'}:Sentence").texts == open_corpus("C:/t.csv:Sentence").texts == TEXTS
    assert open_corpus("u.csv:my:text").texts == TEXTS


def test_a_table_of_one_column_needs_no_name(folder):
    (folder / "t.csv").write_text("text\n007\ntrue\n")
    assert open_corpus("t.csv").texts == ("007", "true")  # as they stand, not as numbers


def test_a_file_called_like_a_built_in_corpus_is_reached_by_its_path(folder):
    (folder / "nano").write_text("mine")
    assert open_corpus("nano").texts != ("mine",)
    with pytest.raises(CorpusError, match="no ending"):
        open_corpus("./nano")


@pytest.mark.parametrize(
    ("name", "content", "spec", "message"),
    [
        ("t.txt", b"", "t.txt", "empty"),
        ("t.txt", b" \n\t\n", "t.txt", r"empty \(2 lines"),
        ("t.txt", b"good\nb\xe4d", "t.txt", r"not UTF-8: byte 6 \(0xe4, line 2\)"),
        ("t.txt", b"\xef\xbb\xbfgood\nb\xe4d", "t.txt", r"byte 9 \(0xe4, line 2\)"),
        ("t.txt", "wörter".encode("utf-16"), "t.txt", r"byte 0 \(0xff, line 1\)"),
        ("t.csv", b"a,b\n\xff,1\n", "t.csv:a", r"byte 4 \(0xff, line 2\)"),
        ("t.txt", b"one", "t.txt:text", "has no sheets or columns"),
        ("t.csv", b"id,text\n1,one\n", "t.csv:Text", "no column 'Text': it has 'id' and 'text'"),
        ("t.csv", b"id,text\n1,one\n", "t.csv", "t.csv:COLUMN. It has 'id' and 'text'"),
        ("t.csv", b"id,text\n1,\n", "t.csv:text", "empty"),
        ("t.csv", b"", "t.csv:text", "cannot be read as a .csv table"),
        ("t.csv", b"id,text\n1,2,3,4\n", "t.csv:text", "cannot be read as a .csv table"),
        ("t.jsonl", b'{"text": "one"}\n{"text": ', "t.jsonl:text", "cannot be read as a .jsonl table"),
        ("t.jsonl", b'{"text": ["one"]}\n', "t.jsonl:text", "holds List"),
        ("t.parquet", b"PAR1 no", "t.parquet:text", "cannot be read as a .parquet table"),
        ("t.xlsx", b"no workbook", "t.xlsx:Sentence", "cannot be read as a .xlsx table"),
        ("t.pdf", b"%PDF", "t.pdf", r"not a supported kind of file \(.pdf\)"),
        ("t.txt", b"one", "gone.txt", "no corpus 'gone.txt'.*Built-in corpora: nano"),
        ("t.csv", b"one", "gone.csv:text", "no corpus 'gone.csv'"),
        ("t.csv", b"one", "C:\\gone.csv:text", r"no corpus 'C:\\\\gone.csv'"),
        ("t.txt", b"one", ".", "is a folder"),
        ("t.txt", b"one", "", "is a folder"),
    ],
)
def test_an_unusable_corpus_says_why(folder, name, content, spec, message):
    (folder / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        open_corpus(spec)
    assert "\n" not in str(caught.value)


def test_a_column_of_numbers_is_no_text(folder):
    table().write_parquet(folder / "t.parquet")
    with pytest.raises(CorpusError, match=r"'id' of t\.parquet holds Int64, not text"):
        open_corpus("t.parquet:id")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(folder):
    (folder / "t.txt").write_text("one")
    (folder / "t.txt").chmod(0)
    with pytest.raises(CorpusError, match="cannot be read"):
        open_corpus("t.txt")


def test_json_lines_with_a_key_that_comes_late(folder):
    lines = [json.dumps({"n": n}) for n in range(300)] + [json.dumps({"n": 300, "text": "late"})]
    (folder / "t.jsonl").write_text("\n".join(lines))
    assert open_corpus("t.jsonl:text").texts == ("late",)


# --- workbooks with several sheets ----------------------------------------------------------------------------------


@pytest.fixture
def workbook(tmp_path):
    """A cover sheet of one column, two sheets of texts with other columns between, an empty one."""
    book = openpyxl.Workbook()
    book.active.title = "Cover"
    rows = {
        "Cover": [["Notes"], ["read me"]],
        "a story": [["Sentence", "n"], ["One.", 1], ["Two.", None], [None, 3]],
        "numbers": [["n", "empty"], [7, None]],
        "b": [["n", "Sentence"], [1, "Three."]],
        "nothing": [],
    }
    for name, cells in rows.items():
        sheet = book[name] if name in book.sheetnames else book.create_sheet(name)
        for row in cells:
            sheet.append(row)
    book.save(tmp_path / "t.xlsx")
    return tmp_path / "t.xlsx"


def test_every_sheet_that_has_the_column_is_read(workbook):
    corpus = open_corpus(f"{workbook}:Sentence")
    assert corpus.texts == ("One.", "Two.", "Three.")
    assert corpus.sheets == (("a story", 2), ("b", 1))
    assert corpus.describe() == "t.xlsx:Sentence: 3 texts from 2 sheets (a story 2, b 1)"


def test_the_readers_own_notices_are_not_for_the_user(workbook):
    code = f"from headway.corpora import open_corpus; open_corpus({f'{workbook}:Sentence'!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)  # here pytest takes them
    assert (done.stdout, done.stderr) == (b"", b"")


def test_sheets_can_be_chosen(workbook):
    assert open_corpus(f"{workbook}[b]:Sentence").texts == ("Three.",)
    both = open_corpus(f"{workbook}[b, a story]:Sentence")
    assert (both.texts, both.name) == (("Three.", "One.", "Two."), "t.xlsx[b,a story]:Sentence")
    assert open_corpus(f"{workbook}[Cover]").texts == ("read me",)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("", r"say which column holds the texts.*sheet 'a story': 'Sentence' and 'n'"),
        (":Text", r"no column 'Text'. It has sheet 'Cover': 'Notes'"),
        ("[c]:Sentence", r"no sheet 'c': it has 'Cover', 'a story'"),
        ("[numbers]:n", r"column 'n' of sheet 'numbers' .*holds Int64, not text"),
        ("[numbers]:Sentence", r"no column 'Sentence'. It has sheet 'numbers'"),
    ],
)
def test_a_sheet_or_column_that_is_not_there_is_named(workbook, asked, said):
    with pytest.raises(CorpusError, match=said):
        open_corpus(f"{workbook}{asked}")


def test_a_bracket_in_a_name_is_no_sheet(tmp_path):
    (tmp_path / "a[1].csv").write_text("text\nOne.\n")
    assert open_corpus(f"{tmp_path}/a[1].csv:text").texts == ("One.",)
    with pytest.raises(CorpusError, match="has no sheets"):
        open_corpus(f"{tmp_path}/a[1].csv[x]:text")


# --- separators and quotes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("separator", "named"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
@pytest.mark.parametrize("column", ["", ":text"])
def test_other_separators_are_named(tmp_path, separator, named, column):
    (tmp_path / "s.csv").write_text(f"nr{separator}text\n1{separator}The dog barks.\n2{separator}It rains.\n")
    with pytest.raises(CorpusError, match=f"by {named} instead of commas"):
        open_corpus(f"{tmp_path}/s.csv{column}")


@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        # Quotes that open in one row and close in another are characters.
        (['1\t"I will not go', "2\tsaid the king.", '3\tShe laughed"', "4\tThe end."],
         ('"I will not go', "said the king.", 'She laughed"', "The end.")),
        # A spreadsheet's quotes are taken off.
        (['1\t"She said ""no"""', "2\tIt rains."], ('She said "no"', "It rains.")),
        (['1\t"two\nlines"', "2\tIt rains."], ("two\nlines", "It rains.")),
        (['1\tan inch is "', "2\tIt rains."], ('an inch is "', "It rains.")),
        (['1\t"open at the end', "2\tIt rains."], ('"open at the end', "It rains.")),
    ],
)  # fmt: skip
def test_quotes_in_tab_separated_text(tmp_path, rows, texts):
    (tmp_path / "b.tsv").write_text("\n".join(["id\ttext", *rows]) + "\n")
    assert open_corpus(f"{tmp_path}/b.tsv:text").texts == texts
