"""The training text: the prose of the documentation that comes with every CPython, in `pydoc_data.topics`."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache

# A paragraph that is shorter is a heading or an entry of a list.
SHORTEST_PARAGRAPH = 60
# Every tenth paragraph is held out.
TENTH = 10
# Held-out text is measured, so its length decides the time of a sweep. Nano reads 64 characters at once.
LONGEST_HELD_OUT = 64


@cache
def paragraphs() -> tuple[str, ...]:
    """The paragraphs of prose, one line each, without grammar, interpreter sessions and repetitions.

    Topics share whole sections. With repetitions, held-out text would also be in the training text.
    """
    from pydoc_data.topics import topics

    seen: dict[str, None] = {}
    for _, topic in sorted(topics.items()):
        for block in re.split(r"\n\s*\n", topic):
            text = " ".join(block.split())
            if len(text) >= SHORTEST_PARAGRAPH and text[-1] in ".:;!?)" and "::=" not in text and ">>>" not in text:
                seen[text] = None
    return tuple(seen)


def text_sha256() -> str:
    """A hash of all paragraphs, because each version of Python has another documentation."""
    return hashlib.sha256(json.dumps(paragraphs()).encode("ascii")).hexdigest()


def held_out() -> list[str]:
    """The beginnings of every tenth paragraph, in whole words: the corpus `nano`. No text to train on begins so, too."""
    beginnings = (
        text[: LONGEST_HELD_OUT + 1] for number, text in enumerate(paragraphs()) if number % TENTH == TENTH - 1
    )
    whole_words = (text if len(text) <= LONGEST_HELD_OUT else text[: text.rindex(" ")] for text in beginnings)
    trained = trained_on()
    return [text for text in whole_words if not any(other.startswith(text) for other in trained)]


def trained_on() -> list[str]:
    """The other nine tenths."""
    return [text for number, text in enumerate(paragraphs()) if number % TENTH != TENTH - 1]
