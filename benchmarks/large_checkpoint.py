"""Memory for a checkpoint of pythia-12b's shapes: `python benchmarks/large_checkpoint.py [--sizes 12b]`.

The shards are sparse files: valid headers, and zeros that take no disk. Attention weights of the clustered layers are drawn,
since heads that are all zero need no clustering. Each command runs in a process of its own, which another one watches.

Memory is counted in two parts. Anonymous memory (RssAnon) is what the process asks for: arrays, copies, activations. It is what runs out.
File-backed memory (RssFile) are pages of the memory-mapped shards, which the kernel drops when others need room; they never exceed the
files. Numbers are growth since the modules were imported. Peaks are sampled every 2 ms.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from headway.options import NULLS
from table import Row, main, show

MIB, GIB = 2**20, 2**30
SHARD = 10 * GIB
LAYERS = (0, 17, 35)  # that are clustered, of 36
N_TOKENS = 64


class Shape(NamedTuple):
    """The shape of a GPT-NeoX model."""

    layers: int
    heads: int
    hidden: int
    vocabulary: int = 50688

    @property
    def config(self) -> dict[str, object]:
        return {
            "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": self.hidden,
            "intermediate_size": 4 * self.hidden, "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "vocab_size": self.vocabulary, "max_position_embeddings": 2048, "rotary_pct": 0.25, "rotary_emb_base": 10000,
            "layer_norm_eps": 1e-5, "use_parallel_residual": True, "tie_word_embeddings": False, "torch_dtype": "float16",
            "hidden_act": "gelu", "bos_token_id": 0, "eos_token_id": 0,
        }  # fmt: skip

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name, in the order of the layers."""
        h = self.hidden
        found: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (self.vocabulary, h)}
        for layer in range(self.layers):
            within = {
                "input_layernorm": (h,), "post_attention_layernorm": (h,), "attention.query_key_value": (3 * h, h),
                "attention.dense": (h, h), "mlp.dense_h_to_4h": (4 * h, h), "mlp.dense_4h_to_h": (h, 4 * h),
            }  # fmt: skip
            for name, shape in within.items():
                found[f"gpt_neox.layers.{layer}.{name}.weight"] = shape
                found[f"gpt_neox.layers.{layer}.{name}.bias"] = shape[:1]
        found |= {"gpt_neox.final_layer_norm.weight": (h,), "gpt_neox.final_layer_norm.bias": (h,)}
        return found | {"embed_out.weight": (self.vocabulary, h)}


SHAPES = {
    "1.4b": Shape(24, 16, 2048),
    "6.9b": Shape(32, 32, 4096),
    "12b": Shape(36, 40, 5120),
    "toy": Shape(3, 6, 96, 512),
}


def n_bytes(shape: tuple[int, ...]) -> int:
    """Of a tensor in float16, which Pythia's files have."""
    return 2 * int(np.prod(shape, dtype=np.int64))


def write_sparse(folder: Path, shape: Shape, drawn: tuple[int, ...]) -> None:
    """Write config, index and shards; only the attention of the layers `drawn` holds anything but zeros."""
    (folder / "config.json").write_text(json.dumps(shape.config))
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    for name, of in shape.tensors.items():
        if sum(map(n_bytes, shards[-1].values())) + n_bytes(of) > SHARD:
            shards.append({})
        shards[-1][name] = of
    names = [f"model-{place:05d}-of-{len(shards):05d}.safetensors" for place in range(1, len(shards) + 1)]
    for name, tensors in zip(names, shards, strict=True):
        _write_shard(folder / name, tensors, drawn)
    where = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
    index = {"metadata": {"total_size": sum(map(n_bytes, shape.tensors.values()))}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _write_shard(path: Path, tensors: Mapping[str, tuple[int, ...]], drawn: tuple[int, ...]) -> None:
    header, start, places = {}, 0, {}
    for name, shape in tensors.items():
        places[name] = start
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, start + n_bytes(shape)]}
        start += n_bytes(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + start)  # a hole
        for name, at in places.items():
            of = re.fullmatch(r"gpt_neox\.layers\.(\d+)\.attention\..*weight", name)
            if of and int(of[1]) in drawn:
                file.seek(8 + len(text) + at)
                file.write(random.standard_normal(tensors[name], dtype=np.float32).astype(np.float16).data)


# --- the processes that are watched ---------------------------------------------------------------------------------


def cluster(folder: Path, layers: tuple[int, ...], nulls: int) -> None:
    """Cluster some layers as `headway cluster` does, with `nulls` draws, beside the step before: the same files stand for it."""
    from headway.clusters import WeightClusters
    from headway.models import HeadWeights

    job = WeightClusters(layers=layers, nulls=nulls)
    started()
    weights = HeadWeights(folder)
    job.rows(weights, weights.geometry, HeadWeights(folder), 0)


def measure(folder: Path, layers: tuple[int, ...], tokens: int) -> None:
    """Score every head on one text, in the dtype of the files."""
    from headway import models
    from headway.attention import head_scores

    models.read_geometry(folder)
    started()
    model = models.load(folder, dtype="float16")
    head_scores(model, [np.arange(tokens) % 100], ("prev", "self", "first"))


CHILDREN = {"cluster": cluster, "measure": measure}


def started() -> None:
    """Tell the watching process that the imports are done, and wait until it has looked."""
    import torch

    torch.ones(64, 64) @ torch.ones(64, 64)  # BLAS keeps buffers from its first product on
    print("ready", flush=True)
    sys.stdin.readline()


class Peak(NamedTuple):
    """Bytes above those at the start: anonymous and file-backed memory; and seconds."""

    anonymous: int
    of_files: int
    seconds: float


def watched(what: str, folder: Path, layers: tuple[int, ...], n: int) -> Peak:
    """Run one of `CHILDREN` in a process with `n` draws or tokens, and watch its memory."""
    words = [sys.executable, __file__, "--child", what, str(folder), ",".join(map(str, layers)), str(n)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        while (line := child.stdout.readline()) and line != "ready\n":
            pass
        before = peak = _resident(child.pid)
        start = time.perf_counter()
        child.stdin.write("\n")
        child.stdin.flush()
        while child.poll() is None:
            peak = (
                (peak[0], peak[1])
                if not (now := _resident(child.pid))
                else (max(peak[0], now[0]), max(peak[1], now[1]))
            )
            time.sleep(0.002)
    if child.returncode:
        raise RuntimeError(f"{what} ended with exit code {child.returncode}")
    return Peak(peak[0] - before[0], peak[1] - before[1], time.perf_counter() - start)


def _resident(pid: int) -> tuple[int, int]:
    """Anonymous and file-backed memory of a process, in bytes; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return (0, 0)
    found = {name: int(number) * 1024 for name, number in re.findall(r"(RssAnon|RssFile):\s+(\d+) kB", status)}
    return found.get("RssAnon", 0), found.get("RssFile", 0)


def rows(quick: bool = False, sizes: tuple[str, ...] = ("1.4b", "12b")) -> Iterator[Row]:
    if not Path("/proc/self/status").exists():
        yield Row("memory of a large checkpoint", "", note="left out: it is read from /proc, which Linux has")
        return
    for size in ("toy",) if quick else sizes:
        shape = SHAPES[size]
        layers = tuple(layer for layer in LAYERS if layer < shape.layers)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_sparse(folder, shape, layers)
            whole, largest = sum(map(n_bytes, shape.tensors.values())), max(map(n_bytes, shape.tensors.values()))
            found = watched("cluster", folder, layers, 19 if quick else NULLS.default)
            yield Row(
                f"cluster {len(layers)} of {shape.layers} layers of {size}, {whole / GIB:.1f} GiB in float16",
                f"{found.anonymous / largest:.2f}", "anonymous memory over the largest tensor",
                "below 1.5" if size == "12b" else "",
                f"{found.anonymous / MIB:,.0f} MiB over {largest / MIB:,.0f}; files {found.of_files / MIB:,.0f} MiB; {found.seconds:.0f} s",
            )  # fmt: skip
            found = watched("measure", folder, layers, 8 if quick else N_TOKENS)
            yield Row(
                f"measure {size} in float16, one text of {8 if quick else N_TOKENS} tokens",
                f"{(found.anonymous + found.of_files) / whole:.2f}", "all resident memory over the files", "1 and a batch",
                f"anonymous {found.anonymous / MIB:,.0f} MiB; files {found.of_files / MIB:,.0f} of {whole / MIB:,.0f} MiB; "
                f"{found.seconds:.0f} s",
            )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        what, place, of, n = sys.argv[2:]
        CHILDREN[what](Path(place), tuple(map(int, filter(None, of.split(",")))), int(n))
    elif "--sizes" in sys.argv:
        show(rows(sizes=tuple(sys.argv[sys.argv.index("--sizes") + 1].split(","))))
    else:
        main(rows, __doc__)
