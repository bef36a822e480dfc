"""A corpus: a named list of texts, known by the hash of what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from headway.errors import CorpusError
from headway.words import count


@dataclass(frozen=True)
class Corpus:
    """Texts that a model reads, each on its own.

    Attributes:
        name: where they are from, such as stories.xlsx:Sentence.
        texts: as they stand in the source, leading and trailing blanks included.
        sha256: of the texts and their order alone: the same texts in another kind of file are the same corpus.
        n_blank: lines or cells that held nothing but white space, and so are no texts.
    """

    name: str
    texts: tuple[str, ...]
    sha256: str
    n_blank: int = 0

    @classmethod
    def of(cls, name: str, candidates: Iterable[str | None]) -> Corpus:
        """The corpus of those `candidates` that hold more than white space; the others are counted.

        Raises:
            CorpusError: none does.
        """
        candidates = list(candidates)
        texts = tuple(text for text in candidates if text is not None and text.strip())
        if not texts:
            raise CorpusError(
                f"the corpus {name} is empty ({count(len(candidates), 'line or cell', 'lines or cells')} of nothing but "
                "white space): give one text per line or cell"
            )
        digest = hashlib.sha256(json.dumps(texts).encode("ascii")).hexdigest()
        return cls(name, texts, digest, n_blank=len(candidates) - len(texts))

    def __len__(self) -> int:
        return len(self.texts)
