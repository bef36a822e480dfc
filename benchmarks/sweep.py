"""A whole sweep beside the sum of its floors: `python benchmarks/sweep.py [--checkpoints 64]`.

A folder suite of checkpoints in the shape of Pythia 14m, with random weights, is written and measured on texts as many and
as long as study 2's sentences. Floors: the bytes of all weight files, read once, and the plain sdpa forward of the base model
on the same batches, once a checkpoint. What the sweep does beside them: hash and check the weights, put them into a model,
read the scores, write the parts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tokenizers
import torch
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

import attention as benchmark
import headway
from table import Row, parser_of, show

WORDS = 50_000


def write_suite(folder: Path, n_checkpoints: int, shape: str = "14m") -> None:
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    model = benchmark.random_model(shape, "sdpa", "cpu")
    for step in range(n_checkpoints):
        # Each checkpoint has weights of its own, or it would be reported as equal to another.
        with torch.no_grad():
            model.get_output_embeddings().weight[0, 0] = step
        model.save_pretrained(folder / "toy-14m-seed1" / f"step{step}")


def read_bytes(folder: Path) -> float:
    """Seconds to read all weight files once."""
    buffer = bytearray(2**24)
    start = time.perf_counter()
    for path in sorted(folder.rglob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - start


def plain_forwards(texts: list[np.ndarray], n: int, shape: str = "14m") -> float:
    """Seconds of `n` plain forwards over all texts.

    They run in a thread that ends with them. The cores that it holds for its parallel loops would slow the next sweep down
    (`headway.sweep.threads`).
    """

    def seconds() -> float:
        model = benchmark.random_model(shape, "sdpa", "cpu")
        benchmark.plain_forward(model, texts)
        start = time.perf_counter()
        for _ in range(n):
            benchmark.plain_forward(model, texts)
        return time.perf_counter() - start

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(seconds).result()


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--checkpoints", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    show(rows(asked.quick, asked.checkpoints, asked.rounds), bare=asked.bare)


def rows(quick: bool = False, checkpoints: int = 64, rounds: int = 2) -> Iterator[Row]:
    texts, shape = benchmark.sentences(), "14m"
    if quick:
        texts, shape, checkpoints, rounds = texts[:8], "tiny", 2, 1
    with tempfile.TemporaryDirectory() as place:
        suite = Path(place) / "toy"
        write_suite(suite, checkpoints, shape)
        corpus = Path(place) / "texts.txt"
        corpus.write_text("\n".join(" ".join(f"w{token}" for token in text) for text in texts))
        found = []
        for number in range(rounds):
            start = time.perf_counter()
            headway.measure(suite, corpus=str(corpus), out=Path(place) / f"out{number}", scores=benchmark.SCORES)
            took = time.perf_counter() - start
            found.append((took, read_bytes(suite), plain_forwards(texts, checkpoints, shape)))
    took, read, forwards = min(found, key=lambda row: row[0] / (row[1] + row[2]))
    work = f"sweep of {checkpoints} checkpoints, {shape} shape"
    note = f"{took:.1f} s against {read:.1f} s + {forwards:.1f} s"
    yield Row(work, f"{took / (read + forwards):.2f}", "bytes read once and plain forwards", "at most 1.15", note)


if __name__ == "__main__":
    main()
