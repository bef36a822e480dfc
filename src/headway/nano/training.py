"""Training runs of one size together, from initialisation to the last step, with checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from headway.nano.data import END_OF_TEXT, UNKNOWN, batches, token_stream
from headway.nano.recipe import Recipe, Size
from headway.store.files import to_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from torch.optim import AdamW

    from headway.nano.stacked import Stack


OPTIMIZER = "optimizer.safetensors"  # a checkpoint's file with AdamW's moments
_MOMENTS = ("exp_avg", "exp_avg_sq")


def train_runs(
    recipe: Recipe,
    size: Size,
    folders: Mapping[int, Path],
    tokenizer: Tokenizer,
    *,
    device: str = "cpu",
    start: Path | None = None,
    keep_optimizer: bool = False,
    step_done: Callable[[], None] = lambda: None,
) -> None:
    """Train one run for each seed in `folders`, and write its checkpoints to FOLDER/stepN/ with files as on the Hub.

    Args:
        start: for a recipe with an origin, the file with the weights, and with AdamW's moments if they were kept. Without
            moments, AdamW starts with none.
        keep_optimizer: whether each checkpoint also holds AdamW's moments, twice as large as the weights.

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
        first = recipe.first_step
        if start is not None:
            _resume(stack, optimizer, start, first)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda since: _rate(recipe, first + since))
        stream = token_stream(tokenizer)
        # The batches before the first step are drawn as well: a fork reads on where its run was.
        data = [islice((batch.ids for batch in batches(recipe, stream, seed)), first, None) for seed in folders]
        for step in range(first, recipe.steps[-1] + 1):
            if step in recipe.steps:
                places = [folder / f"step{step}" for folder in folders.values()]
                _save(stack, recipe, size, tokenizer, places)
                if keep_optimizer:
                    _save_moments(stack, optimizer, places)
            if step == recipe.steps[-1]:
                break
            ids = torch.stack([torch.from_numpy(next(own)) for own in data]).to(device)
            (gradient,) = torch.autograd.grad(stack.losses(ids).sum(), stack.weights)
            stack.weights.grad = _clipped(gradient, recipe.max_gradient_norm)
            optimizer.step()
            schedule.step()
            step_done()


def _resume(stack: Stack, optimizer: AdamW, start: Path, step: int) -> None:
    """Give all runs the weights in the file `start`, and their optimizer its moments, if they are there."""
    import torch
    from safetensors.torch import load_file

    given = load_file(start)
    with torch.no_grad():
        stack.weights.copy_(stack.row(given))  # to the row of every run
    if any(name.startswith(_MOMENTS) for name in given):
        moments = {
            moment: stack.row({name: given[f"{moment}.{name}"] for name in stack.names}).expand_as(stack.weights)
            for moment in _MOMENTS
        }
        own = {moment: rows.clone().to(stack.weights.device) for moment, rows in moments.items()}
        optimizer.state[stack.weights] = {"step": torch.tensor(float(step)), **own}


def _save_moments(stack: Stack, optimizer: AdamW, folders: list[Path]) -> None:
    """AdamW's moments of each run, zero before its first step."""
    import torch
    from safetensors.torch import save_file

    state = optimizer.state[stack.weights]
    rows = {moment: state.get(moment, torch.zeros_like(stack.weights)) for moment in _MOMENTS}
    for run, folder in enumerate(folders):
        named = {f"{moment}.{name}": part for moment, of in rows.items() for name, part in stack.parts(of[run]).items()}
        save_file(named, folder / OPTIMIZER)


def _clipped(gradient: Tensor, largest: float) -> Tensor:
    """Each run's gradient, a row, shortened to the norm `largest`."""
    norms = gradient.norm(dim=1, keepdim=True)
    shortened: Tensor = gradient * (largest / (norms + 1e-6)).clamp(max=1)
    return shortened


def _rate(recipe: Recipe, step: int) -> float:
    """The learning rate of the step after `step`, as a share of the highest."""
    left = 1 - step / recipe.steps[-1]
    # A rate that falls before the roles have arisen delays them: if from half of the steps, beyond the last.
    return min(1.0, (step + 1) / recipe.warmup) * min(1.0, max(0.1, 4 * left))


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
