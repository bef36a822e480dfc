"""A corpus: a named list of texts, identified by the hash of its texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from headway.errors import CorpusError
from headway.text import count


@dataclass(frozen=True)
class Corpus:
    """Texts that a model reads, each on its own.

    Attributes:
        name: the source of the texts, such as stories.xlsx:Sentence.
        texts: unchanged from the source, including leading and trailing blanks.
        sha256: hash of the texts in order. The same texts in another kind of file have the same hash.
        n_blank: number of lines or cells with nothing but white space, which are left out.
        sheets: for a workbook, the name of each sheet that was read and its number of texts.
    """

    name: str
    texts: tuple[str, ...]
    sha256: str
    n_blank: int = 0
    sheets: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, name: str, candidates: Iterable[str | None], sheets: tuple[tuple[str, int], ...] = ()) -> Corpus:
        """Make a corpus of all `candidates` that hold more than white space, and count the others.

        Raises:
            CorpusError: there are none.
        """
        candidates = list(candidates)
        texts = tuple(text for text in candidates if text is not None and text.strip())
        if not texts:
            raise CorpusError(
                f"the corpus {name} is empty ({count(len(candidates), 'line or cell', 'lines or cells')} with nothing but "
                "white space): give one text per line or cell"
            )
        digest = hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()
        return cls(name, texts, digest, n_blank=len(candidates) - len(texts), sheets=sheets)

    def describe(self) -> str:
        """Describe the source of the texts, such as `stories.xlsx:Sentence: 119 texts from 2 sheets (a 53, b 66)`."""
        own = f"{self.name}: {count(len(self), 'text')}"
        sheets = ", ".join(f"{name} {n}" for name, n in self.sheets)
        return f"{own} from {count(len(self.sheets), 'sheet')} ({sheets})" if sheets else own

    def __len__(self) -> int:
        return len(self.texts)
