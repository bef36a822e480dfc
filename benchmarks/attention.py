"""Head scores beside what they replace: `python benchmarks/attention.py [--shapes 14m,70m,160m] [--threads N]`.

The rows are ratios of seconds or bytes. Models have Pythia's shapes and random weights; texts have the
number and the total length of study 2's sentences (666 with 18,313 tokens). What is compared takes turns within each
round, so that both see the same busy machine, and a ratio is the median of the rounds' ratios. Rows that need
TransformerLens 4 or a GPU say so where they are absent.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import tokenizers
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from headway import tables
from headway.attention import head_scores, heads
from headway.attention.scores import scores_of
from headway.known_scores import DECODER
from table import Row, parser_of, show

# Layers, hidden size, heads, of Pythia.
SHAPES = {
    "tiny": (2, 32, 2),  # shows that it runs
    "14m": (6, 128, 4),
    "70m": (6, 512, 8),
    "160m": (12, 768, 12),
    "410m": (24, 1024, 16),
    "1b": (16, 2048, 8),
}
TEXTS, TOKENS, LONG = 666, 18_313, 2048
VOCAB = 50_304
SCORES = ("prev", "self", "first")


def random_model(shape: str, attention: str, device: str, dtype: str = "float32") -> PreTrainedModel:
    n_layers, hidden, n_heads = SHAPES[shape]
    config = GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=hidden,
        num_hidden_layers=n_layers,
        num_attention_heads=n_heads,
        intermediate_size=4 * hidden,
        rotary_pct=0.25,
        max_position_embeddings=LONG,
    )
    torch.manual_seed(0)
    return (
        AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval().to(device, getattr(torch, dtype))
    )


def sentences() -> list[np.ndarray]:
    """Random tokens in texts as long as sentences are: a skewed distribution of lengths that sums to `TOKENS`."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(25), 0.45, TEXTS).clip(4, 90)
    edges = np.round(np.cumsum(lengths) * TOKENS / lengths.sum()).astype(int)
    return [rng.integers(0, 50_000, end - start) for start, end in pairwise([0, *edges])]


def plain_forward(model: PreTrainedModel, texts: Sequence[np.ndarray]) -> None:
    """The base model and nothing else, on the same batches that the scores are read from."""
    with torch.inference_mode():
        for batch in heads.read_together(model, texts):
            model.base_model(input_ids=torch.from_numpy(batch.ids).to(model.device), use_cache=False)


def published_way(model: PreTrainedModel, texts: Sequence[np.ndarray]) -> list[tuple[float, float, float]]:
    """A sentence at a time, every attention matrix handed out, a loop over layers and heads."""
    rows = []
    for text in texts:
        with torch.no_grad():
            attentions = model(torch.from_numpy(text)[None].to(model.device), output_attentions=True).attentions
        for layer in attentions:
            for head in range(layer.shape[1]):
                matrix = layer[0, head].float().cpu().numpy()
                prev = np.diagonal(matrix, -1).mean() if len(text) > 1 else np.nan
                own = np.diagonal(matrix).mean()
                rows.append((prev, prev / own, prev / matrix.mean()))
    return rows


def transformer_lens(model: PreTrainedModel) -> Callable[[Sequence[np.ndarray]], None]:
    """Patterns of every layer by `run_with_cache` of a `TransformerBridge` around `model`."""
    from transformer_lens.model_bridge import TransformerBridge

    # It reads a config and a tokenizer from a folder, of which only the ids of special tokens are used.
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<|endoftext|>": 0}, unk_token="<|endoftext|>"))
    words = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **words)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(folder, device=str(model.device))

    def run(texts: Sequence[np.ndarray]) -> None:
        for text in texts:
            ids = torch.from_numpy(text)[None].to(model.device)
            with torch.no_grad():
                _, cache = bridge.run_with_cache(ids, names_filter=lambda name: name.endswith("hook_pattern"))
            for pattern in cache.values():
                pattern.diagonal(-1, -2, -1).mean(-1)
                pattern.diagonal(0, -2, -1).mean(-1)

    return run


def rounds(works: dict[str, Callable[[], object]], n: int, device: str) -> dict[str, np.ndarray]:
    """Seconds of each work in each of `n` rounds, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(n + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if device != "cpu":
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(found) for name, found in seconds.items()}


def row(work: str, against: str, ratio: np.ndarray | float, aim: str, note: str = "") -> Row:
    return Row(work, f"{np.median(ratio):.3g}", against, aim, note)


def compare_shape(shape: str, texts: Sequence[np.ndarray], device: str, dtype: str, n: int) -> Iterator[Row]:
    fused, eager = (random_model(shape, attention, device, dtype) for attention in ("sdpa", "eager"))
    shape = f"{shape} {dtype}"
    works = {"plain": lambda: plain_forward(fused, texts), "headway": lambda: head_scores(fused, texts, SCORES)}
    found = rounds(works, n, device)
    note = f"{np.median(found['headway']):.3f} s against {np.median(found['plain']):.3f} s"
    work = f"{shape}, {len(texts)} sentences"
    yield row(work, "plain sdpa forward", found["headway"] / found["plain"], "at most 0.95", note)
    slow = rounds({**works, "published": lambda: published_way(eager, texts)}, max(1, n // 4), device)
    speed, limit = slow["published"] / slow["headway"], slow["published"] / slow["plain"]
    aim = "5% above the plain forward's own"
    yield row(work, "the published way: times faster", speed, aim, f"plain forward: {np.median(limit):.3g}")


def compare_lens(texts: Sequence[np.ndarray], device: str) -> Iterator[Row]:
    work, against, aim = "14m, 666 sentences", "TransformerLens 4: times faster", "at least 20"
    if importlib.util.find_spec("transformer_lens") is None:
        yield Row(work, "", against, aim, "left out: transformer_lens is not installed")
        return
    model = random_model("14m", "sdpa", device)
    lens = transformer_lens(random_model("14m", "eager", device))
    works = {"headway": lambda: head_scores(model, texts, SCORES), "lens": lambda: lens(texts)}
    found = rounds(works, 2, device)
    yield row(work, against, found["lens"] / found["headway"], aim, f"{np.median(found['lens']):.1f} s")


def compare_long(shape: str, device: str, dtype: str, n: int, length: int = LONG) -> Iterator[Row]:
    text = [np.random.default_rng(0).integers(0, 50_000, length)]
    fused, eager = (random_model(shape, attention, device, dtype) for attention in ("sdpa", "eager"))
    works = {
        "plain": lambda: plain_forward(fused, text),
        "headway": lambda: head_scores(fused, text, SCORES),
        "eager": lambda: published_way(eager, text),
    }
    found = rounds(works, n, device)
    note = f"output_attentions=True: {np.median(found['eager'] / found['plain']):.3g}"
    ratio = found["headway"] / found["plain"]
    yield row(f"{shape} {dtype}, {length:,} tokens", "plain sdpa forward", ratio, "at most 1.3", note)


def compare_memory(device: str) -> Iterator[Row]:
    used = {what: json.loads(_alone(what, device)) for what in ("headway", "eager")}
    note = f"{used['headway'] / 2**20:.0f} MiB against {used['eager'] / 2**20:.0f} MiB, models left out"
    yield row(
        "14m, 2,048 tokens, all scores: memory",
        "output_attentions=True",
        used["headway"] / used["eager"],
        "at most 0.1",
        note,
    )


def _alone(what: str, device: str) -> str:
    """What a process of its own says of its memory."""
    command = [sys.executable, __file__, "--memory", what, "--device", device]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]


def memory(what: str, device: str, shape: str = "14m", length: int = LONG) -> int:
    """Bytes in use at the peak of one reading of a long text, less those in use before."""
    model = random_model(shape, "sdpa" if what == "headway" else "eager", device)
    tokens = np.random.default_rng(0).choice(50_000, length // 2, replace=False)
    scores = [name for name in scores_of(DECODER) if tables.SCORES[name].kind == "attention"]
    read = {
        "headway": lambda text: head_scores(model, [text], scores),
        "eager": lambda text: published_way(model, [text]),
    }[what]
    read(np.tile(tokens[:40], 2))  # libraries and kernels load
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        read(np.tile(tokens, 2))
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    before = _resident("VmRSS")
    read(np.tile(tokens, 2))
    return _resident("VmHWM") - before


def _resident(which: str) -> int:
    """Bytes of this process in memory, now or at their peak, as Linux says."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--shapes", default="14m,70m,160m")
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--memory", help="for this script's own use")
    asked = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(asked.threads)
    if asked.memory:
        print(memory(asked.memory, asked.device))
        return
    shapes, dtypes = asked.shapes.split(","), asked.dtypes.split(",")
    show(rows(asked.quick, shapes, dtypes, asked.device, asked.rounds), bare=asked.bare)


def rows(
    quick: bool = False,
    shapes: Sequence[str] = ("14m", "70m", "160m"),
    dtypes: Sequence[str] = ("float32",),
    device: str = "cpu",
    n_rounds: int = 8,
) -> Iterator[Row]:
    texts = sentences()
    assert (len(texts), sum(map(len, texts))) == (TEXTS, TOKENS)
    if quick:
        yield from compare_shape("tiny", texts[:8], device, "float32", 1)
        yield from compare_long("tiny", device, "float32", 1, 64)
        memory("headway", device, "tiny", 160)  # shows that it runs
        return
    for shape in shapes:
        for dtype in dtypes:
            n = n_rounds if shape == "14m" else max(3, n_rounds // 2)
            yield from compare_shape(shape, texts, device, dtype, n)
            yield from compare_long(shape, device, dtype, n)
    yield from compare_lens(texts, device)
    yield from compare_memory(device)


if __name__ == "__main__":
    main()
