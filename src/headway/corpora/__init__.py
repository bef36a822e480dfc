"""Read texts from files, table columns or the built-in corpus, tokenize them, and make repeated random tokens."""

from headway.corpora.corpus import Corpus
from headway.corpora.lines import read_lines
from headway.corpora.opening import BUILT_IN, open_corpus
from headway.corpora.repeated import repeated_random, usable_tokens
from headway.corpora.sequences import Sequences, Tokenizer, tokenize

__all__ = [
    "BUILT_IN",
    "Corpus",
    "Sequences",
    "Tokenizer",
    "open_corpus",
    "read_lines",
    "repeated_random",
    "tokenize",
    "usable_tokens",
]
