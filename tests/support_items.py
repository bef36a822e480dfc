"""A small random checkpoint with a tokenizer of words, and files of items that it can read."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from headway.suites import Checkpoint, FolderSource
from support_models import saved

WORDS = [f"w{number}" for number in range(89)]  # fewer than the 101 rows of the embedding
CONTEXT = 41


def toy_checkpoint(folder: Path, *, bos: bool = False, step: int = 7, seed: int = 0, **changes: object) -> Checkpoint:
    """A checkpoint in `folder`; with `bos` its tokenizer has a token that starts a text, of id 89."""
    saved(folder, "gpt_neox", seed=seed, **{"max_position_embeddings": CONTEXT, **changes})
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
        (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"}))
    tokenizer.save(str(folder / "tokenizer.json"))
    return Checkpoint("toy", "toy-seed1", "toy", "1m", "1", step, f"step{step}", FolderSource(folder))


def json_lines(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path
