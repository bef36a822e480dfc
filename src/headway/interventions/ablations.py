"""The job `ablations`: what a checkpoint loses without chosen heads, beside random heads of the same layers and norms.

That is what its abilities lose, and what becomes of the scores of other heads, such as induction without previous-token heads.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property, partial
from math import comb, prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from headway import options, tables
from headway.abilities import CheckpointAbilities
from headway.attention.job import HeadScores
from headway.corpora import Corpus
from headway.errors import CheckpointError, UsageError
from headway.interventions.controls import percentile, seed_of_run, share_at_least
from headway.interventions.groups import Heads, named
from headway.known_abilities import MEASURED
from headway.known_scores import SCORES
from headway.options import SUBSTITUTES, documented
from headway.suites import Checkpoint
from headway.text import listed

if TYPE_CHECKING:
    from headway.interventions.objects import Intervention, Substitutes
    from headway.models import Geometry
    from headway.models.opened import Opened

DEFINITIONS_VERSION = 2
KL = "kl"
SAME_LAYERS, SAME_NORM = "same layers", "same norm"  # kinds of controls
_NEAREST = 5  # heads that a control of the same norm draws from


@documented(options.INTERVENE)
@dataclass(frozen=True)
class HeadAblations:
    """The job that ablates chosen heads of a checkpoint and measures its abilities, table `ablations`.

    Attributes:
        {options}
        groups: The groups of heads of each checkpoint, by its key, such as `pythia-14m-seed1@512`, and by their names. They
            are no part of the job's identity but an input of the checkpoint's partition.
    """

    corpus: Corpus
    groups: Mapping[str, Mapping[str, Heads]]
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
        kept = tuple(one for one in self.operations if one in SUBSTITUTES)
        if not kept:
            raise UsageError(
                f"--operations swap concerns clusters: heads of a score, role or file are ablated by {', '.join(SUBSTITUTES)}"
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
        return {_own(key): _hash(groups) for key, groups in self.groups.items()}

    @contextmanager
    def read(self, checkpoint: Checkpoint) -> Iterator[Opened]:
        """Fetch the files and read the weights.

        Raises:
            CheckpointError: there are no heads to ablate.
        """
        from headway.models.opened import opened

        if checkpoint.key not in self.groups:  # before anything is downloaded
            raise CheckpointError(f"it has no heads to ablate by --heads {self.heads!r}")
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
        groups = self.groups[checkpoint.key]
        _require_there(checkpoint, groups, input.geometry)
        measured = _Effects(self, checkpoint, input)
        rows = [row for name, chosen in groups.items() for row in self._of_group(checkpoint, name, chosen, measured)]
        columns = {name: pl.lit(value) for name, value in input.columns(checkpoint).items()}
        types = tables.schema(tables.ABLATIONS_COLUMNS, dict(checkpoint.axes))
        return (
            pl.DataFrame(rows, infer_schema_length=None)
            .with_columns(**columns)
            .select(pl.col(name).cast(dtype) for name, dtype in types.items())
        )

    def _of_group(
        self, checkpoint: Checkpoint, name: str, chosen: Heads, measured: _Effects
    ) -> Iterator[dict[str, Any]]:
        """The rows of one group of heads."""
        seed = seed_of_run(self.seed, checkpoint.run)
        followed = _followed(measured.whole.scores, chosen)
        before = measured.whole.values(followed)
        chance = {
            SAME_LAYERS: random_heads(chosen, measured.n_heads, self.controls, seed),
            SAME_NORM: alike_heads(chosen, measured.norms, self.controls, seed),
        }
        for operation in self.operations:
            controls = {
                kind: [(heads, measured.without(operation, heads).values(followed)) for heads in of_kind]
                for kind, of_kind in chance.items()
            }
            for dose in range(1, len(chosen) + 1):
                heads = chosen[:dose]
                after = measured.without(operation, heads).values(followed)
                beside: list[tuple[str | None, list[tuple[Heads, dict[str, float]]]]] = [(None, [])]
                if dose == len(chosen):
                    beside = [*controls.items()]
                for kind, of_kind in beside:
                    for effect, value in after.items():
                        own = followed.get(effect)
                        yield {
                            "group": name,
                            "dose": dose,
                            "heads": named(heads),
                            "operation": operation,
                            "effect": effect,
                            "of_head": named([own]) if own else None,
                            "control": kind,
                        } | _row(
                            before[effect],
                            value,
                            # a group that holds the head which is followed says nothing of it
                            [values[effect] for heads, values in of_kind if own not in heads],
                            measured.higher_is_better[effect],
                        )


def require_effects(effects: Sequence[str]) -> None:
    """Check that all effects can be measured.

    Raises:
        UsageError: one is unknown, or is a score that does not depend on what other heads do.
    """
    known = [KL, *MEASURED, *(name for name, score in SCORES.items() if score.kind in ("attention", "output"))]
    for word in effects:
        if word not in known:
            close = get_close_matches(word, known, 1)
            meant = f", perhaps {close[0]!r} was meant" if close else ""
            raise UsageError(f"--effects: unknown effect {word!r}{meant}. Known are {', '.join(known)}")


def _hash(groups: Mapping[str, Heads]) -> str:
    return hashlib.sha256(json.dumps(groups).encode()).hexdigest()


def _own(key: str) -> str:
    return f"heads of {key}"


def _require_there(checkpoint: Checkpoint, groups: Mapping[str, Heads], geometry: Geometry) -> None:
    """Check that the model has the heads.

    Raises:
        CheckpointError: it lacks one.
    """
    for layer, head in (head for heads in groups.values() for head in heads):
        if layer not in geometry.layers or head >= geometry.n_heads:
            without = (
                f"; layers {listed(list(map(str, geometry.without_heads)))} have none" if geometry.without_heads else ""
            )
            raise CheckpointError(
                f"--heads names L{layer}H{head}, and {checkpoint.key} has {geometry.n_layers} layers of {geometry.n_heads} heads, "
                f"both counted from 0{without}"
            )


def _followed(scores: Mapping[str, np.ndarray], chosen: Heads) -> dict[str, tuple[int, int]]:
    """For each score (layers, N), the head that has the highest of those that were not chosen."""
    followed = {}
    for name, values in scores.items():
        others = np.where(np.isfinite(values), values, -np.inf)
        others[tuple(np.transpose(chosen))] = -np.inf
        if np.isfinite(others).any():
            layer, head = np.unravel_index(int(others.argmax()), others.shape)
            followed[name] = (int(layer), int(head))
    return followed


class _Found(NamedTuple):
    """What was measured of a model: its abilities, and its heads' scores (layers, N)."""

    abilities: dict[str, float]
    scores: dict[str, np.ndarray]

    def values(self, followed: Mapping[str, tuple[int, int]]) -> dict[str, float]:
        """A number for each effect: the abilities, and the score of each head that is followed."""
        return self.abilities | {name: float(self.scores[name][head]) for name, head in followed.items()}


class _Effects:
    """What is measured of a checkpoint, as it is and without some of its heads."""

    def __init__(self, job: HeadAblations, checkpoint: Checkpoint, input: Opened) -> None:
        texts = replace(job.corpus, texts=job.corpus.texts[: job.n_texts])
        words = tuple(word for word in job.effects if word in MEASURED)
        scores = tuple(word for word in job.effects if word in SCORES)
        common: dict[str, Any] = {"repeated_texts": job.n_texts, "dtype": job.dtype}
        self._abilities = CheckpointAbilities(texts, abilities=words, **common) if words else None
        self._scores = HeadScores(texts, scores=scores, **common) if scores else None
        self._kl, self._seed = KL in job.effects, job.seed
        self._checkpoint, self._input = checkpoint, input
        self._ids = input.texts(texts, False).ids
        self.n_heads = input.geometry.n_heads
        self.higher_is_better: dict[str, bool | None] = {KL: False, **{name: _falls(name) for name in scores}}

    @cached_property
    def whole(self) -> _Found:
        """The model as it is."""
        return self._found(0.0)

    def without(self, operation: str, heads: Heads) -> _Found:
        """The model without the heads.

        Raises:
            CheckpointError: a value is not finite.
        """
        from headway.interventions.text_effects import effects

        intervention = self._intervention(operation, heads)
        kl = effects(self._input.model, [intervention], self._ids)[0].mean(KL) if self._kl else 0.0
        with intervention.on(self._input.model):
            found = self._found(kl)
        if not all(math.isfinite(value) for value in found.abilities.values()):
            raise CheckpointError(f"without {named(heads)} the model's predictions are not finite: try another --dtype")
        return found

    def _found(self, kl: float) -> _Found:
        abilities, scores = {KL: kl} if self._kl else {}, {}
        fresh = replace(self._input, _shared={})  # an ablated model has other texts in common than the whole one
        if self._abilities:
            frame = self._abilities.compute(self._checkpoint, fresh)
            self.higher_is_better |= dict(frame.select("ability", "higher_is_better").iter_rows())
            abilities |= dict(frame.select("ability", "value").iter_rows())
        if self._scores:
            table = self._scores.compute(self._checkpoint, fresh)
            scores = {name: self._of_heads(table, name) for name in self._scores.scores}
        return _Found(abilities, scores)

    def _of_heads(self, table: pl.DataFrame, score: str) -> np.ndarray:
        """A column of the table of heads as (layers, N); NaN where a layer of a hybrid has no heads."""
        values = np.full((self._input.geometry.n_layers, self.n_heads), np.nan)
        values[table["layer"].to_numpy(), table["head"].to_numpy()] = table[score].to_numpy()
        return values

    @cached_property
    def norms(self) -> dict[int, np.ndarray]:
        """How much each head writes: (N,) for each layer."""
        from headway.interventions.objects import output_norms

        return {layer: norm.cpu().numpy() for layer, norm in output_norms(self._input.model, self._ids).items()}

    @cached_property
    def _substitutes(self) -> Substitutes:
        from headway.interventions.objects import Substitutes

        return Substitutes(self._input.model, self._ids, self._seed)

    def _intervention(self, operation: str, heads: Heads) -> Intervention:
        return self._substitutes.ablation(operation, heads)


def _falls(score: str) -> bool | None:
    """Whether a head loses what the score is for when it falls: so for shares of attention, and for none that has no better side."""
    return True if SCORES[score].unit == "probability" else None


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


def _row(before: float, after: float, controls: Sequence[float], higher_is_better: bool | None) -> dict[str, Any]:
    """Columns of one effect. What a group costs is the change for the worse; without a better side, its size."""
    change = after - before
    changes = np.array(controls) - before

    def cost(of: Any) -> Any:
        return np.abs(of) if higher_is_better is None else -of if higher_is_better else of

    row: dict[str, Any] = {
        "higher_is_better": higher_is_better,
        "before": before,
        "after": after,
        "change": change,
        "n_controls": len(controls),
        **dict.fromkeys(("control_low", "control_median", "control_high", "percentile", "p")),
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
