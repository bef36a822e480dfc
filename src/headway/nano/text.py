"""What nano reads: the prose of the documentation that lies inside every CPython, in `pydoc_data.topics`."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache

# A paragraph that is shorter is a heading or an entry of a list.
SHORTEST_PARAGRAPH = 60
# Every tenth paragraph is held out.
TENTH = 10


@cache
def paragraphs() -> tuple[str, ...]:
    """The prose, a paragraph each, in one line each: no grammar, no interpreter sessions, none twice.

    Topics share whole sections, so that holding out text is honest only once the repetitions are gone.
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
    """Of all paragraphs: another Python's documentation is another text."""
    return hashlib.sha256(json.dumps(paragraphs()).encode("ascii")).hexdigest()


def held_out() -> list[str]:
    """Every tenth paragraph: never trained on, and the corpus called nano."""
    return [text for number, text in enumerate(paragraphs()) if number % TENTH == TENTH - 1]


def trained_on() -> list[str]:
    """The other nine tenths."""
    return [text for number, text in enumerate(paragraphs()) if number % TENTH != TENTH - 1]
