"""The job that answers prompts with one cluster of a layer's heads at a time.

It tests whether clusters differ more than random groups of heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from headway import options, tables
from headway.corpora import Corpus, read_lines
from headway.errors import CheckpointError, CorpusError
from headway.interventions.controls import share_at_least
from headway.interventions.groups import Grouping, named
from headway.interventions.job import (
    DEFINITIONS_VERSION,
    LanguageModel,
    OnClusters,
    checkpoint_columns,
    groupings_of,
    not_finite,
)
from headway.options import documented
from headway.suites import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Prompt(NamedTuple):
    """A prompt and its kind of task."""

    task: str
    text: str


# "Pythia clustering dynamics" used decimal comparison, arithmetic, language and patterns. The others are
# common prompts in work on attention heads.
PROMPTS = (
    Prompt("decimal comparison", "Which is bigger, 9.9 or 9.11? The bigger number is"),
    Prompt("decimal comparison", "Q: Is 3.8 larger than 3.11? A:"),
    Prompt("arithmetic", "2 + 2 ="),
    Prompt("arithmetic", "Seven minus three is"),
    Prompt("language", "The capital of France is"),
    Prompt("language", "The opposite of hot is"),
    Prompt("patterns", "1, 2, 3, 4,"),
    Prompt("patterns", "red blue red blue red"),
    Prompt("indirect object", "When Mary and John went to the store, John gave a drink to"),
    Prompt("agreement", "The keys to the old wooden cabinet"),
    Prompt("induction", "Vernon Dursley was a big man. His neighbours knew Vernon"),
)


def read_prompts(path: str | Path) -> tuple[Prompt, ...]:
    """Read the prompts of a text file, one per line, optionally with a task and a tab before the prompt.

    Raises:
        CorpusError: the file cannot be read as UTF-8, holds no prompt, or has a line with a task but no prompt.
    """
    path = Path(path).expanduser()
    try:
        lines = read_lines(path)
    except OSError as error:
        raise CorpusError(f"the prompts {path} cannot be read: {error.strerror or error}") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        task, tab, text = line.partition("\t")
        if tab and line.strip() and not text.strip():
            raise CorpusError(
                f"{path}, line {number}: the task {task.strip()!r} has no prompt after its tab. Add the prompt"
            )
        if line.strip():
            prompts.append(Prompt(task.strip(), text) if tab else Prompt("", line))
    if not prompts:
        raise CorpusError(f"{path} holds no prompts: write one per line, as TASK<tab>PROMPT or only PROMPT")
    return tuple(prompts)


def prompts_of(corpus: Corpus, n: int = 8) -> tuple[Prompt, ...]:
    """First half of each of the first `n` texts, as prompts for models that were trained only on such texts."""
    halves = (text[: text.rfind(" ", 0, 2 + len(text) // 2)] for text in corpus.texts)
    return tuple(Prompt("own corpus", half) for half in halves if half.strip())[:n]


@documented(options.INTERVENE)
@dataclass(frozen=True)
class PromptAnswers(OnClusters):
    """The job that asks each cluster of heads alone to answer prompts, table `prompts`.

    The controls are random clusters of the same sizes.

    Attributes:
        {options}
        groupings: The clusters of each run.
        lacking: The reason for each run that has no clusters; its checkpoints fail with that message.
        choice: How the clusters were chosen, as in `ClusterEffects`.
    """

    prompts: tuple[Prompt, ...]
    groupings: Mapping[str, Sequence[Grouping]]
    lacking: Mapping[str, str] = field(default_factory=dict)
    choice: Mapping[str, Any] = field(default_factory=dict)
    controls: int = options.CONTROLS.default
    seed: int = options.CONTROLS_SEED.default
    dtype: str = options.DTYPE.default
    device: str = options.DEVICE.default
    keep_files: bool = options.KEEP_FILES.default

    table = "prompts"

    def identity(self) -> dict[str, Any]:
        return {
            "prompts": [list(prompt) for prompt in self.prompts],
            **self.choice,
            "controls": self.controls,
            "seed": self.seed,
            "dtype": self.dtype,
            "definitions": DEFINITIONS_VERSION,
        }

    def compute(self, checkpoint: Checkpoint, input: LanguageModel) -> pl.DataFrame:
        """Return one row per grouping, prompt and cluster. Prompts that the model cannot read are listed in `left_out`.

        Raises:
            CheckpointError: the model can read no prompt, or its predictions are not finite.
        """
        readable, left_out = self._readable(input)
        if not readable:
            more = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
            raise CheckpointError(f"{left_out[0]}{more}")
        rows = [
            {**checkpoint_columns(checkpoint, input.geometry), **row, "left_out": left_out}
            for prompt, ids in readable
            for row in self._answers(prompt, ids, input, groupings_of(checkpoint, self.groupings, self.lacking))
        ]
        return pl.DataFrame(rows, schema=tables.schema(tables.PROMPTS_COLUMNS, dict(checkpoint.axes)))

    def _readable(self, input: LanguageModel) -> tuple[list[tuple[Prompt, np.ndarray]], list[str]]:
        """Prompts that the model can read, with their token ids, and the reasons why it cannot read the others."""
        readable, left_out = [], []
        for prompt in self.prompts:
            ids = np.asarray(input.tokenizer.encode(prompt.text), dtype=np.int64)
            if why := _unreadable(ids, input):
                left_out.append(f"the prompt {prompt.text[:40]!r} {why}")
            else:
                readable.append((prompt, ids))
        return readable, left_out

    def _answers(
        self, prompt: Prompt, ids: np.ndarray, input: LanguageModel, groupings: Sequence[Grouping]
    ) -> Iterator[dict[str, Any]]:
        n_heads = input.geometry.n_heads
        whole = _answers_with(input.model, ids, np.ones((1, 1, n_heads), dtype=bool), [0])[0]
        for grouping in groupings:
            chance = grouping.shuffled(self.controls, self.seed)
            kept = np.stack([_kept(one) for one in (grouping, *chance)])
            masks = kept.reshape(-1, *kept.shape[2:])
            log_p = _answers_with(input.model, ids, masks, grouping.layers).reshape(len(kept), len(kept[0]), -1)
            if np.isnan(log_p).any():
                raise not_finite(self.dtype)
            tops = log_p.argmax(-1)
            differ = (tops != tops[:, :1]).any(1)
            divergence = _divergence(log_p)
            partitions = {one.partition for one in chance}
            own = grouping.partition in partitions
            for row, cluster in enumerate(grouping.clusters):
                yield {
                    "layers": grouping.layers,
                    "kind": grouping.kind,
                    "clustering": grouping.clustering,
                    "task": prompt.task,
                    "prompt": prompt.text,
                    "cluster": cluster,
                    "heads": named(grouping.heads(cluster)),
                    "top_token": input.tokenizer.decode([int(tops[0, row])]),
                    "top_probability": float(np.exp(log_p[0, row, tops[0, row]])),
                    "model_top_token": input.tokenizer.decode([int(whole.argmax())]),
                    "model_top_probability": float(np.exp(whole.max())),
                    "clusters_differ": bool(differ[0]),
                    "divergence": float(divergence[0]),
                    "n_controls": len(partitions),
                    "controls_differ": float(differ[1:].mean()) if chance else None,
                    "divergence_p": share_at_least(
                        float(divergence[0]), divergence[1:].tolist() if own else divergence.tolist()
                    ),
                }


def _unreadable(ids: np.ndarray, input: LanguageModel) -> str:
    """Reason why the model cannot read a prompt; empty if it can."""
    context, vocabulary = input.geometry.context_length, input.geometry.vocab_size
    if not 1 <= len(ids) <= context:
        return f"has {len(ids)} tokens; the model reads 1 to {context}: shorten it"
    if ids.max() >= vocabulary:
        return f"has token {ids.max()}, outside the model's {vocabulary}"
    return ""


def _kept(grouping: Grouping) -> np.ndarray:
    """Mask of the query heads in each cluster: (clusters, layers, heads)."""
    rows = np.array([grouping.of_query_heads(layer) for layer in grouping.layers])
    return np.stack([rows == cluster for cluster in grouping.clusters])


def _answers_with(model: PreTrainedModel, ids: np.ndarray, masks: np.ndarray, layers: Sequence[int]) -> np.ndarray:
    """Log-probabilities of the token after `ids` with only the heads of each mask in `layers`: (masks, tokens).

    Many masks are evaluated at once, each as a row of the batch.
    """
    import torch

    from headway.interventions.text_effects import BATCH_TOKENS
    from headway.models.anatomy import changing

    rows = max(1, BATCH_TOKENS // len(ids))
    answers = []
    for start in range(0, len(masks), rows):
        batch = torch.from_numpy(masks[start : start + rows]).to(model.device)

        def keep(layer: int, batch: Tensor = batch) -> Any:
            return lambda outputs: outputs * batch[:, layer, None, :, None].to(outputs.dtype)

        repeated = torch.from_numpy(ids).expand(len(batch), -1).to(model.device)
        with torch.inference_mode(), changing(model, {layer: keep(i) for i, layer in enumerate(layers)}):
            logits = model(input_ids=repeated, use_cache=False, logits_to_keep=1).logits[:, -1]
        answers.append(logits.float().log_softmax(-1).cpu().numpy())
    return np.concatenate(answers)


def _divergence(log_p: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence between the clusters' answers in nats, from (partitions, clusters, tokens)."""
    p = np.exp(log_p.astype(np.float64))
    mixture = p.mean(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(mixture)), 0.0)
    divergence: np.ndarray = terms.sum(-1).mean(1)
    return divergence.clip(0.0)
