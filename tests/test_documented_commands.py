"""What README.md and docs/ show works: each `headway ...` can be typed, and tutorials and notebooks run as they stand."""

import json
import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
import typer

from headway import cli, nano
from headway.attention.scores import DEFINITIONS
from headway.nano import recipe
from headway.tables import SCORES
from support_commands import with_options

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])
TUTORIALS = sorted([DOCS / "index.md", *(DOCS / "tutorials").glob("*.md")])
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
APP = typer.main.get_command(cli.app)

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^ {4}[^\n]*\n)+", re.MULTILINE)
BLOCK = re.compile(rf"{FENCED.pattern}|({INDENTED.pattern})", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`(headway [^`]+)`")


def blocks_of(text: str) -> Iterator[tuple[str, str]]:
    """The language and the code of each code block of a page, in their order."""
    for block in BLOCK.finditer(text):
        language, fenced, indented = block.groups()
        yield language or "", fenced or indented


def commands_in(block: str) -> list[list[str]]:
    """The words of each command in a code block, without the word `headway`."""
    commands = []
    for line in block.replace("\\\n", " ").splitlines():
        if line.split()[:1] == ["headway"]:
            words = shlex.split(line, comments=True)
            commands += [list(own) for between, own in groupby(words, {"&&", ";", "|"}.__contains__) if not between]
    return [words[1:] for words in commands if words[0] == "headway"]


def lines_of(text: str) -> list[list[str]]:
    """The words of each command in the code blocks of a page."""
    return [words for language, block in blocks_of(text) if language != "python" for words in commands_in(block)]


def spans_of(text: str) -> list[list[str]]:
    """The words of each command that is named within a sentence."""
    return [shlex.split(span)[1:] for span in SPAN.findall(FENCED.sub("", text))]


def found(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """The command that the first words name, and the words after them."""
    command = APP
    while hasattr(command, "commands") and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"there is no verb {name!r}"
        command = command.commands[name]
    return command, words


def documented(of) -> list:
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    return [
        pytest.param(words, id=f"{page.name}: {' '.join(words)}") for page, text in texts.items() for words in of(text)
    ]


@pytest.mark.parametrize("words", documented(lines_of))
def test_a_command_of_a_code_block_parses(words):
    command, rest = found(words)
    command.make_context(words[0], rest)  # an unknown option, a missing or a wrong value is an error


@pytest.mark.parametrize("words", documented(spans_of))
def test_a_command_within_a_sentence_has_these_options(words):
    command, rest = found(words)
    known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    assert {word for word in rest if word.startswith("-")} <= known


def test_commands_are_found_where_pages_show_them():
    page = "Text `headway nano\ntrain --out DIR`.\n\n    headway a \\\n        --b 'c d'  # e\n    headway f && headway g\n\n"
    page += "```bash\nls\nheadway h\n```\n```python\nheadway.measure()\n```\n"
    assert lines_of(page) == [["a", "--b", "c d"], ["f"], ["g"], ["h"]]
    assert spans_of(page) == [["nano", "train", "--out", "DIR"]]
    assert len(documented(lines_of)) > 15
    with pytest.raises(AssertionError, match="there is no verb 'mesure'"):
        found(["mesure"])
    command, rest = found(["nano", "train", "--presets", "quick"])
    with pytest.raises(Exception, match="No such option: --presets"):
        command.make_context("train", list(rest))


# --- tutorials and notebooks are run --------------------------------------------------------------------------------

TINY = nano.Recipe(
    sizes=tuple(nano.Size(n, n_heads=4, hidden_size=width, mlp_size=64) for n, width in ((1, 8), (1, 16), (2, 16))),
    seeds=(1, 2),
    steps=(0, 4, 40),
    context_length=32,
    batch_size=4,
    shortest_passage=5,
    longest_passage=9,
)
# Options that shorten a command; its result is not looked at.
# The tiny recipe has other sizes; no size means all.
QUICK = {
    "nano train": ("--sizes", "", "--seeds", "2"),
    "analyze": ("--bootstraps", "0"),
    "report": ("--figures", "no"),
}
ELSEWHERE = {  # pages with Python that is not run here
    "adding-a-score.md": "tests/attention/test_adding_a_score.py runs it",
    "architecture.md": "it lists signatures",
    "interventions.md": "tests/interventions/test_intervene.py runs it",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def workplace(monkeypatch, tmp_path, cache):
    """An empty working folder. The suite `nano` is one that is trained within seconds."""
    monkeypatch.setitem(recipe.PRESETS, "quick", TINY)
    monkeypatch.setenv("HEADWAY_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    definitions, scores = dict(DEFINITIONS), dict(SCORES)
    yield tmp_path
    for known, before in ((DEFINITIONS, definitions), (SCORES, scores)):
        for name in set(known) - set(before):  # a score that a page defined
            del known[name]


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.name)
def test_a_tutorial_runs(page, workplace):
    names: dict = {}
    shown = list(blocks_of(page.read_text(encoding="utf-8")))
    for language, block in shown:
        if language == "python":
            exec(compile(block, page.name, "exec"), names)
            continue
        for words in commands_in(block):
            shorter = QUICK.get(words[0], QUICK.get(" ".join(words[:2]), ()))
            code = APP.main(with_options(words, shorter), prog_name="headway", standalone_mode=False)
            # An audit ends with 1 if it flags a step. Steps of the tiny suite lie so close together that it may.
            assert code in ((0, 1, None) if words[0] == "audit" else (0, None)), words
    assert {"", "python"} <= {language for language, _ in shown}, "the page shows commands and Python"


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.name)
def test_a_notebook_runs(notebook, workplace):
    names: dict = {}
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 3
    for number, source in enumerate(code):
        exec(compile(source, f"{notebook.name}[{number}]", "exec"), names)
    assert not any(cell.get("outputs") for cell in cells), "outputs are not committed"


@pytest.mark.slow
@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "statistics.md"], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, workplace):
    code = [block for language, block in blocks_of(page.read_text(encoding="utf-8")) if language == "python"]
    assert code
    names: dict = {}
    for block in code:
        exec(compile(block, page.name, "exec"), names)


def test_no_page_with_python_is_forgotten():
    shown = {page.name for page in PAGES if "```python" in page.read_text(encoding="utf-8")}
    assert shown == {page.name for page in TUTORIALS} | {"README.md", "statistics.md"} | set(ELSEWHERE)
