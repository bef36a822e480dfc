"""Clusters of all layers, beside the published way for one: `python benchmarks/clusters.py`.

A checkpoint in the shape of Pythia 160m, with random weights, is written and read back. Rounds take turns, so that all see
the same busy machine; the least time of each is shown.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from table import Row, parser_of, seconds, show

LAYERS, HIDDEN, HEADS, VOCAB = 12, 768, 12, 50_304


def write_checkpoint(folder: Path, *, layers: int = LAYERS, vocab: int = VOCAB, groups: bool = False) -> None:
    """Random weights; with `groups`, even and odd heads of all layers and kinds lie apart, and every p takes all its draws."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=vocab, hidden_size=HIDDEN, num_hidden_layers=layers, vocab=vocab, num_attention_heads=HEADS, intermediate_size=4 * HIDDEN
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config)
    if groups:
        sign = torch.tensor([-0.016, 0.016] * (HEADS // 2))
        with torch.no_grad():
            for layer in model.gpt_neox.layers:
                fused = layer.attention.query_key_value.weight.view(HEADS, 3, HIDDEN // HEADS, HIDDEN)
                fused += sign[:, None, None, None] * torch.randn(fused.shape[1:])
                out = layer.attention.dense.weight.view(HIDDEN, HEADS, HIDDEN // HEADS)
                out += sign[:, None] * torch.randn(HIDDEN, 1, HIDDEN // HEADS)
    model.save_pretrained(folder)


def published_way(folder: Path, layer: int = 6) -> dict[str, Any]:
    """One layer's Q, K and V as the published study has it: the whole model loaded, k-means over all weights of a head, five metrics and
    two tests."""
    from scipy.stats import ks_2samp, ttest_ind, wasserstein_distance
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    fused = model.gpt_neox.layers[layer].attention.query_key_value.weight.detach().numpy()
    found = {}
    for kind, part in zip("qkv", np.split(fused, 3), strict=True):
        heads = part.reshape(HEADS, -1)
        means = KMeans(n_clusters=2, random_state=42, n_init=10).fit(heads)
        one, other = (heads[means.labels_ == cluster] for cluster in (0, 1))
        between = float(np.linalg.norm(means.cluster_centers_[0] - means.cluster_centers_[1]))
        within = float((one.var(axis=0).mean() + other.var(axis=0).mean()) / 2)
        sample = np.random.default_rng(42)
        found[kind] = {
            "silhouette": silhouette_score(heads, means.labels_),
            "centre_distance": between,
            "within_variance": within,
            "separation_ratio": between / (within + 1e-10),
            "wasserstein": wasserstein_distance(sample.choice(one.ravel(), 1000), sample.choice(other.ravel(), 1000)),
            "ks": ks_2samp(one.ravel(), other.ravel()),
            "t": ttest_ind(one.ravel(), other.ravel()),
        }
    return found


def ours(folder: Path, **options: Any) -> list[dict[str, Any]]:
    """Every layer's Q, K, V and O."""
    from headway.clusters import WeightClusters
    from headway.models import HeadWeights

    weights = HeadWeights(folder)
    return WeightClusters(**options).rows(weights, weights.geometry)


LEAN = {"features": ("raw",), "methods": ("kmeans",), "ks": (2,), "nulls": 0}


def peak_memory(folder: Path) -> int:
    """Bytes by which a process that holds the libraries grows while it does the lean work, pages of the mapped file
    included."""
    import scipy.stats  # noqa: F401
    import torch  # noqa: F401

    from headway.models import HeadWeights

    HeadWeights(folder)

    def resident(which: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))

    before = resident("VmRSS")
    ours(folder, **LEAN)
    return resident("VmHWM") - before


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", help="for this script's own use")
    asked = parser.parse_args()
    if asked.memory:
        print(peak_memory(Path(asked.memory)))
        return
    show(rows(asked.quick, asked.rounds), bare=asked.bare)


def rows(quick: bool = False, n_rounds: int = 5) -> Iterator[Row]:
    again, layers, vocab, options = 2, LAYERS, VOCAB, {}
    if quick:
        n_rounds, again, layers, vocab, options = 1, 1, 1, 64, LEAN | {"nulls": 19}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_checkpoint(folder, layers=layers, vocab=vocab)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        rounds = [
            (seconds(lambda: published_way(folder, layers // 2)), seconds(lambda: ours(folder, **LEAN)))
            for _ in range(n_rounds)
        ]
        published, lean = map(min, zip(*rounds, strict=True))
        full = min(seconds(lambda: ours(folder, **options)) for _ in range(again))
        write_checkpoint(folder / "groups", layers=layers, vocab=vocab, groups=True)
        grouped = min(seconds(lambda: ours(folder / "groups", **options)) for _ in range(again))
        told = subprocess.run(
            [sys.executable, __file__, "--memory", str(folder)], check=True, capture_output=True, text=True
        )
        peak = int(told.stdout)
    yield Row(
        f"Q K V O of {layers} layers, metrics and tests without nulls, 160m shape",
        f"{lean / published:.2f}",
        "the published way for Q K V of one layer",
        "at most 2",
        f"{lean:.2f} s against {published:.2f} s",
    )
    yield Row(
        "peak memory of the same", f"{peak / size:.2f}", "the checkpoint's bytes", "below 0.5", f"{peak / 1e6:.0f} MB"
    )
    yield Row(f"Q K V O of {layers} layers, default nulls, 160m shape", f"{full:.1f} s", "", "at most 3 s")
    yield Row("the same with groups in every layer and kind", f"{grouped:.1f} s")


if __name__ == "__main__":
    main()
