"""Runs of one shape one after another, or stacked by torch.func: `python benchmarks/stacking.py [--runs 8]`.

The plain forward of the base model on study 2's sentences, for all runs. Stacking pays where launching kernels takes longer
than running them, on a GPU with small models if anywhere; a ratio above 1 says that it does not. What it gives is checked
to be what the runs give alone.
"""

from __future__ import annotations

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.func import functional_call, stack_module_state, vmap

import attention as benchmark
from headway.attention import heads
from table import Row, parser_of, show


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--shapes", default="14m")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    show(rows(asked.quick, asked.shapes.split(","), asked.runs, asked.rounds, asked.device), bare=asked.bare)


def rows(
    quick: bool = False, shapes: Sequence[str] = ("14m",), runs: int = 8, n_rounds: int = 5, device: str = "cpu"
) -> Iterator[Row]:
    warnings.filterwarnings("ignore", message=".*batching rule")  # that some operators are looped is part of the answer
    shapes, runs, n_rounds = (("tiny",), 2, 1) if quick else (shapes, runs, n_rounds)
    for shape in shapes:
        for attention in ("sdpa", "eager"):
            ratio = statistics.median(ratios(shape, attention, runs, n_rounds, device))
            work = f"{runs} runs stacked, {shape} shape, {attention}, on {device}"
            yield Row(work, f"{ratio:.2f}", "one run after another", "at most 0.67, to be built")


def ratios(shape: str, attention: str, n: int, rounds: int, device: str) -> list[float]:
    """Seconds stacked over seconds one after another, of each round."""
    models = []
    for number in range(n):
        models.append(benchmark.random_model(shape, attention, device).base_model)
        with torch.no_grad():
            models[-1].embed_in.weight.mul_(1 + number)  # as runs do, they differ
    batches = [
        torch.from_numpy(batch.ids).to(device) for batch in heads.read_together(models[0], benchmark.sentences())
    ]
    stacked_state, skeleton = stack_module_state(models), copy.deepcopy(models[0]).to("meta")

    def one(parameters: dict, buffers: dict, ids: torch.Tensor) -> torch.Tensor:
        return functional_call(skeleton, (parameters, buffers), (ids,), {"use_cache": False}).last_hidden_state

    together = vmap(one, in_dims=(0, 0, None))

    def apart(ids: torch.Tensor) -> torch.Tensor:
        return torch.stack([model(ids, use_cache=False).last_hidden_state for model in models])

    with torch.inference_mode():
        torch.testing.assert_close(together(*stacked_state, batches[0]), apart(batches[0]))
        return [
            seconds(lambda: [together(*stacked_state, ids) for ids in batches])
            / seconds(lambda: [apart(ids) for ids in batches])
            for _ in range(rounds)
        ]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
