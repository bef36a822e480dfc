"""Every `headway ...` that README.md and docs/ show can be typed: its verb and its options exist, its values parse."""

import re
import shlex
from itertools import groupby
from pathlib import Path

import pytest
import typer

from headway import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
APP = typer.main.get_command(cli.app)

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^ {4}.*\n)+", re.MULTILINE)
SPAN = re.compile(r"`(headway [^`]+)`")


def lines_of(text: str) -> list[list[str]]:
    """The words of each command in the code blocks of a page."""
    fenced = [block for language, block in FENCED.findall(text) if language != "python"]
    commands = []
    for block in [*fenced, *INDENTED.findall(FENCED.sub("", text))]:
        for line in block.replace("\\\n", " ").splitlines():
            if line.split()[:1] == ["headway"]:
                words = shlex.split(line, comments=True)
                commands += [list(own) for between, own in groupby(words, {"&&", ";", "|"}.__contains__) if not between]
    return [words[1:] for words in commands if words[0] == "headway"]


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
    assert lines_of(page) == [["h"], ["a", "--b", "c d"], ["f"], ["g"]]
    assert spans_of(page) == [["nano", "train", "--out", "DIR"]]
    assert len(documented(lines_of)) > 15
    with pytest.raises(AssertionError, match="there is no verb 'mesure'"):
        found(["mesure"])
    command, rest = found(["nano", "train", "--presets", "quick"])
    with pytest.raises(Exception, match="No such option: --presets"):
        command.make_context("train", list(rest))
