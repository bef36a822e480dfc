"""The job `ablations`: what a checkpoint's abilities lose without chosen heads, beside random heads of the same layers."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import comb, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headway import options, tables
from headway.abilities import CheckpointAbilities
from headway.corpora import Corpus
from headway.errors import CheckpointError, UsageError
from headway.interventions.controls import percentile, share_at_least
from headway.interventions.groups import Heads, named
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from headway.interventions.objects import Intervention
    from headway.models.opened import Opened

DEFINITIONS_VERSION = 1
KL = "kl"
SAME_LAYERS, SAME_NORM = "same layers", "same norm"  # kinds of controls
_NEAREST = 5  # heads that a control of the same norm draws from


@documented(options.INTERVENE)
@dataclass(frozen=True)
class HeadAblations:
    """The job that ablates chosen heads of a checkpoint and measures its abilities, table `ablations`.

    Attributes:
        {options}
        groups: The heads of each checkpoint, by its key, such as `pythia-14m-seed1@512`. They are no part of the job's
            identity but an input of the checkpoint's partition.
    """

    corpus: Corpus
    groups: Mapping[str, Heads]
    heads: str = options.ABLATED_HEADS.default
    effects: tuple[str, ...] = options.EFFECTS.default
    operations: tuple[str, ...] = options.OPERATIONS.default
    n_texts: int = options.N_TEXTS.default
    controls: int = options.CONTROLS.default
    seed: int = options.CONTROLS_SEED.default
    dtype: str = options.DTYPE.default
    device: str = field(default=options.DEVICE.default, compare=False)
    keep_files: bool = field(default=options.KEEP_FILES.default, compare=False)

    table = "ablations"
    reads_logits = True
    needs = frozenset({"config", "weights", "tokenizer"})

    def __post_init__(self) -> None:
        kept = tuple(one for one in self.operations if one in ("zero", "mean"))
        if not kept:
            raise UsageError(
                "--operations swap concerns clusters: heads of a score or role are ablated by zero or mean"
            )
        object.__setattr__(self, "operations", kept)  # the default serves clusters, too, which can be swapped

    def identity(self) -> dict[str, Any]:
        """Return all settings that affect the numbers."""
        return {
            "corpus": {"name": self.corpus.name, "sha256": self.corpus.sha256},
            "heads": self.heads,
            "effects": list(self.effects),
            "operations": list(self.operations),
            "n_texts": self.n_texts,
            "controls": self.controls,
            "seed": self.seed,
            "dtype": self.dtype,
            "definitions": DEFINITIONS_VERSION,
        }

    @property
    def given(self) -> dict[str, str]:
        """A hash of each checkpoint's heads, by `heads of RUN@STEP`."""
        return {_own(key): _hash(heads) for key, heads in self.groups.items()}

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[Opened]:
        """Fetch the files and read the weights.

        Raises:
            CheckpointError: there are no heads to ablate.
        """
        from headway.models.opened import opened

        if checkpoint.key not in self.groups:  # before anything is downloaded
            raise CheckpointError(f"{checkpoint.key} has no heads to ablate by --heads {self.heads!r}")
        of: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "keep_files": self.keep_files}
        with opened(checkpoint, self.needs, lm_head=True, **of) as read:
            own = {_own(checkpoint.key): _hash(self.groups[checkpoint.key])}
            yield replace(read, identities=read.identities | own)

    def compute(self, checkpoint: Checkpoint, input: Opened) -> pl.DataFrame:
        """Return one row per dose, operation and effect. Controls stand beside the largest dose.

        Raises:
            CheckpointError: predictions are not finite.
        """
        input.geometry.require_causal("an ablation")
        chosen = self.groups[checkpoint.key]
        seed = _seed(self.seed, checkpoint.run)
        measured = _Effects(self, checkpoint, input)
        before = measured.abilities()
        chance = {
            SAME_LAYERS: random_heads(chosen, input.geometry.n_heads, self.controls, seed),
            SAME_NORM: alike_heads(chosen, measured.norms(), self.controls, seed),
        }
        rows = []
        for operation in self.operations:
            without = {
                kind: [measured.without(operation, heads) for heads in groups] for kind, groups in chance.items()
            }
            for dose in range(1, len(chosen) + 1):
                heads = chosen[:dose]
                own = measured.without(operation, heads)
                of_dose = {
                    **input.columns(checkpoint),
                    "group": self.heads,
                    "dose": dose,
                    "heads": named(heads),
                    "operation": operation,
                }
                beside: list[tuple[str | None, list[dict[str, float]]]] = [(None, [])]
                if dose == len(chosen):
                    beside = [*without.items()]
                rows += [
                    of_dose | {"control": kind} | _row(name, before, own, controls, measured.higher_is_better.get(name))
                    for kind, controls in beside
                    for name in own
                ]
        return pl.DataFrame(rows, schema=tables.schema(tables.ABLATIONS_COLUMNS, dict(checkpoint.axes)))


def _hash(heads: Heads) -> str:
    return hashlib.sha256(json.dumps(heads).encode()).hexdigest()


def _own(key: str) -> str:
    return f"heads of {key}"


def _seed(seed: int, run: str) -> list[int]:
    """Controls are the same heads at all steps of a run, as far as the heads' layers are the same."""
    return [seed, *hashlib.sha256(run.encode()).digest()[:4]]


class _Effects:
    """The abilities of a checkpoint without some of its heads."""

    def __init__(self, job: HeadAblations, checkpoint: Checkpoint, input: Opened) -> None:
        texts = replace(job.corpus, texts=job.corpus.texts[: job.n_texts])
        words = tuple(word for word in job.effects if word != KL)
        self._abilities = CheckpointAbilities(texts, abilities=words, repeated_texts=job.n_texts, dtype=job.dtype)
        self._kl = KL in job.effects
        self._checkpoint, self._input = checkpoint, input
        self._ids = input.texts(texts, False).ids
        self._means: Any = None
        self.higher_is_better: dict[str, bool | None] = {KL: False}

    def abilities(self) -> dict[str, float]:
        """The value of each ability of the model as it is; an ablated model is measured while its heads are away."""
        found = {KL: 0.0} if self._kl else {}
        if self._abilities.abilities:
            frame = self._abilities.compute(self._checkpoint, replace(self._input, _shared={}))
            self.higher_is_better |= dict(frame.select("ability", "higher_is_better").iter_rows())
            found |= dict(frame.select("ability", "value").iter_rows())
        return found

    def without(self, operation: str, heads: Heads) -> dict[str, float]:
        """The value of each effect without the heads.

        Raises:
            CheckpointError: a value is not finite.
        """
        from headway.interventions.effects import effects

        intervention = self._intervention(operation, heads)
        with intervention.on(self._input.model):
            found = self.abilities()
        if self._kl:
            found[KL] = effects(self._input.model, [intervention], self._ids)[0].mean("kl")
        if not all(math.isfinite(value) for value in found.values()):
            raise CheckpointError(f"without {named(heads)} the model's predictions are not finite: try another --dtype")
        return found

    def norms(self) -> dict[int, np.ndarray]:
        """How much each head writes: (N,) for each layer."""
        from headway.interventions.objects import output_norms

        return {layer: norm.cpu().numpy() for layer, norm in output_norms(self._input.model, self._ids).items()}

    def _intervention(self, operation: str, heads: Heads) -> Intervention:
        from headway.interventions.objects import Ablate, Replace, mean_outputs

        if operation == "zero":
            return Ablate(heads)
        if self._means is None:
            self._means = mean_outputs(self._input.model, self._ids, range(self._input.geometry.n_layers))
        return Replace(heads, self._means)


def random_heads(chosen: Heads, n_heads: int, most: int, seed: Sequence[int]) -> list[Heads]:
    """Distinct random groups with as many heads in each layer as were chosen, none of which was; all if there are few."""
    wanted = Counter(layer for layer, _ in chosen)
    free = {layer: [head for head in range(n_heads) if (layer, head) not in chosen] for layer in sorted(wanted)}
    most = min(most, prod(comb(len(free[layer]), n) for layer, n in wanted.items()))
    random, drawn = np.random.default_rng(seed), dict[Heads, None]()
    while len(drawn) < most:
        heads = [
            (layer, int(head)) for layer in free for head in np.sort(random.permutation(free[layer])[: wanted[layer]])
        ]
        drawn[tuple(heads)] = None
    return list(drawn)


def alike_heads(chosen: Heads, norms: Mapping[int, np.ndarray], most: int, seed: Sequence[int]) -> list[Heads]:
    """Distinct random groups of heads of any layer, each of which writes about as much as one of those chosen.

    For each chosen head one of the five others is drawn whose output norm is nearest, in ratio.

    Args:
        norms: of each layer's heads: (N,).
    """
    log_norm = {
        (layer, head): float(np.log(max(norm, 1e-12))) for layer, of in norms.items() for head, norm in enumerate(of)
    }
    others = [head for head in log_norm if head not in chosen]
    if len(others) < len(chosen):
        return []
    near = [sorted(others, key=partial(_apart, log_norm, one)) for one in chosen]
    random, drawn = np.random.default_rng(seed), dict[Heads, None]()
    for _ in range(20 * most):  # there may be fewer distinct groups
        heads: set[tuple[int, int]] = set()
        for ranked in near:
            free = [other for other in ranked if other not in heads][:_NEAREST]
            heads.add(free[random.integers(len(free))])
        drawn[tuple(sorted(heads))] = None
        if len(drawn) == most:
            break
    return list(drawn)


def _apart(log_norm: Mapping[tuple[int, int], float], one: tuple[int, int], other: tuple[int, int]) -> float:
    return abs(log_norm[other] - log_norm[one])


def _row(
    name: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    controls: Sequence[Mapping[str, float]],
    higher_is_better: bool | None,
) -> dict[str, Any]:
    """Columns of one effect. What a group costs is the change for the worse; without a better side, its size."""
    change = after[name] - before[name]
    changes = np.array([control[name] - before[name] for control in controls])

    def cost(of: Any) -> Any:
        return np.abs(of) if higher_is_better is None else -of if higher_is_better else of

    row: dict[str, Any] = {
        "effect": name,
        "higher_is_better": higher_is_better,
        "before": before[name],
        "after": after[name],
        "change": change,
        "n_controls": len(controls),
    }
    if len(controls):
        low, median, high = np.quantile(changes, [0.05, 0.5, 0.95])
        costs = [*cost(changes), cost(change)]
        row |= {
            "control_low": low,
            "control_median": median,
            "control_high": high,
            "percentile": percentile(cost(change), cost(changes)),
            "p": share_at_least(cost(change), costs),
        }
    return row
