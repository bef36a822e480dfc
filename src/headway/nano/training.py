"""One training run of transformers' GPT-NeoX, from initialisation to the last step, with checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.nano.data import END_OF_TEXT, END_OF_TEXT_ID, batches, token_stream
from headway.nano.recipe import Recipe, Size

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def train_run(
    recipe: Recipe,
    size: Size,
    seed: int,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    device: str = "cpu",
    step_done: Callable[[], None] = lambda: None,
) -> None:
    """Train one run, and write its checkpoints to `folder`/stepN/ with files as on the Hub.

    The seed decides initialisation and data order. On a CPU the same seed gives the same weights, bit for bit, with
    the same versions of PyTorch and NumPy on the same kind of processor: training keeps to one thread, since the number
    of threads decides in which order sums are taken. A GPU gives the same run only up to rounding, which training
    amplifies.
    """
    import torch

    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(recipe, size).to(device)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(recipe, step))
        data = batches(recipe, token_stream(tokenizer), seed)
        if 0 in recipe.steps:
            _save(model, recipe, tokenizer, folder / "step0")
        for step, batch in enumerate(islice(data, recipe.steps[-1]), start=1):
            ids = torch.from_numpy(batch).to(device)
            model(ids, labels=ids).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_gradient_norm)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step in recipe.steps:
                _save(model, recipe, tokenizer, folder / f"step{step}")
            step_done()


def _model(recipe: Recipe, size: Size) -> Any:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=recipe.vocab_size,
        hidden_size=size.hidden_size,
        num_hidden_layers=size.n_layers,
        num_attention_heads=size.n_heads,
        intermediate_size=4 * size.hidden_size,
        max_position_embeddings=recipe.context_length,
        # The heads are small: all of a head's dimensions rotate, and layers build on each other within a block.
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        use_parallel_residual=False,
        initializer_range=recipe.initializer_range,
        bos_token_id=END_OF_TEXT_ID,
        eos_token_id=END_OF_TEXT_ID,
        use_cache=False,
    )
    return GPTNeoXForCausalLM(config)


def _rate(recipe: Recipe, step: int) -> float:
    """The learning rate of the step after `step`, as a share of the highest."""
    falling = max(0.1, 1 - step / recipe.steps[-1])
    return min(1.0, (step + 1) / recipe.warmup) * falling


def _save(model: Any, recipe: Recipe, tokenizer: Tokenizer, folder: Path) -> None:
    """The checkpoint with its tokenizer: `AutoModelForCausalLM` and `AutoTokenizer` read the folder as it is."""
    from transformers import PreTrainedTokenizerFast

    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        model_max_length=recipe.context_length,
    ).save_pretrained(folder)


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
