"""Training runs of one size together, from initialisation to the last step, with checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headway.nano.data import END_OF_TEXT, UNKNOWN, batches, token_stream
from headway.nano.recipe import Recipe, Size
from headway.store.files import to_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from headway.nano.stacked import Stack


def train_runs(
    recipe: Recipe,
    size: Size,
    folders: Mapping[int, Path],
    tokenizer: Tokenizer,
    *,
    device: str = "cpu",
    step_done: Callable[[], None] = lambda: None,
) -> None:
    """Train one run for each seed in `folders`, and write its checkpoints to FOLDER/stepN/ with files as on the Hub.

    The seed decides initialisation and data order, which are the same alone and beside other runs. On a CPU the same
    runs together give the same weights, bit for bit, with the same versions of PyTorch and NumPy on the same kind of
    processor: training keeps to one thread, since the number of threads decides in which order sums are taken. Beside
    other runs, or on a GPU, a run is the same only up to rounding, which training amplifies.
    """
    import torch

    from headway.nano.stacked import Stack

    with _one_thread():
        stack = Stack(recipe, size, list(folders), device)
        optimizer = torch.optim.AdamW(
            [stack.weights],
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(recipe, step))
        stream = token_stream(tokenizer)
        data = [batches(recipe, stream, seed) for seed in folders]
        for step in range(recipe.steps[-1] + 1):
            if step in recipe.steps:
                _save(stack, recipe, size, tokenizer, [folder / f"step{step}" for folder in folders.values()])
            if step == recipe.steps[-1]:
                break
            ids = torch.stack([torch.from_numpy(next(own)) for own in data]).to(device)
            (gradient,) = torch.autograd.grad(stack.losses(ids).sum(), stack.weights)
            stack.weights.grad = _clipped(gradient, recipe.max_gradient_norm)
            optimizer.step()
            schedule.step()
            step_done()


def _clipped(gradient: Tensor, largest: float) -> Tensor:
    """Each run's gradient, a row, shortened to the norm `largest`."""
    norms = gradient.norm(dim=1, keepdim=True)
    shortened: Tensor = gradient * (largest / (norms + 1e-6)).clamp(max=1)
    return shortened


def _rate(recipe: Recipe, step: int) -> float:
    """The learning rate of the step after `step`, as a share of the highest."""
    left = 1 - step / recipe.steps[-1]
    # A rate that falls from the beginning delays the roles: three layers then need more than 450 steps.
    return min(1.0, (step + 1) / recipe.warmup) * min(1.0, max(0.1, 2 * left))


def _save(stack: Stack, recipe: Recipe, size: Size, tokenizer: Tokenizer, folders: list[Path]) -> None:
    """A checkpoint of each run: `AutoModelForCausalLM` and `AutoTokenizer` read its folder as it is.

    The files are written here, because importing transformers takes longer than a tenth of a training.
    """
    from safetensors.torch import save_file

    from headway.nano.stacked import config

    for run, folder in enumerate(folders):
        folder.mkdir(parents=True)
        save_file(stack.state(run), folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_bytes(to_json(config(recipe, size)))
        (folder / "tokenizer_config.json").write_text(json.dumps(_tokenizer_config(recipe)))
        tokenizer.save(str(folder / "tokenizer.json"))


def _tokenizer_config(recipe: Recipe) -> dict[str, str | int]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": UNKNOWN,
        "model_max_length": recipe.context_length,
    }


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
