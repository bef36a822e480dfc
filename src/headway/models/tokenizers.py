"""Load a checkpoint's tokenizer, from tokenizer.json if there is one: that file is complete and needs no model class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from headway.errors import CheckpointError
from headway.suites.selection import TOKENIZER_FILES

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


class Tokenizer:
    """Turns text into token ids, without special tokens, truncation or padding.

    Attributes:
        identity: a hash of the tokenizer's files. Equal identities give equal tokens.
        special_ids: ids of the special tokens, such as <|endoftext|>.
        bos_id: id of the token that starts a text (BOS), or None if the tokenizer has none.
    """

    def __init__(self, backend: Backend, identity: str, bos_token: str | None) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self.identity = identity
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(number for number, token in added.items() if token.special)
        self.bos_id: int | None = None if bos_token is None else backend.token_to_id(bos_token)

    @property
    def vocab(self) -> dict[str, int]:
        """All tokens with their ids. The embedding may have more rows."""
        return self._backend.get_vocab(with_added_tokens=True)

    @property
    def vocab_size(self) -> int:
        return self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and the characters [start, end) of `text` that each token stands for."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    @cached_property
    def around(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and after a text, such as [CLS] and [SEP]."""
        encoding = self._backend.encode("a", add_special_tokens=True)
        own = [at for at, special in enumerate(encoding.special_tokens_mask) if not special]
        if not own:
            return encoding.ids, []
        return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]

    def words(self, ids: Sequence[int]) -> list[str]:
        """The tokens with these ids, as the vocabulary writes them."""
        return [self._backend.id_to_token(number) or str(number) for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        return self._backend.decode(list(ids), skip_special_tokens=False)


def load_tokenizer(folder: str | PathLike[str]) -> Tokenizer:
    """Return the tokenizer of `folder`. Folders with the same files share one object.

    Raises:
        CheckpointError: there is no tokenizer, or it cannot be read. Code that comes with a checkpoint is never run.
    """
    folder = Path(folder)
    files = tuple(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return _load(_Folder(folder, digest.hexdigest()))


class _Folder:
    """A folder that equals every folder with the same tokenizer files, so that `lru_cache` loads a tokenizer once."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Folder) and other.identity == self.identity

    def __hash__(self) -> int:
        return hash(self.identity)


@lru_cache(maxsize=8)
def _load(folder: _Folder) -> Tokenizer:
    path = folder.path / "tokenizer.json"
    if path.is_file():
        return _from_json(path, folder.identity)
    return _from_transformers(folder)


def _from_json(path: Path, identity: str) -> Tokenizer:
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise CheckpointError(f"{path} is not a tokenizer: {error}") from error
    return Tokenizer(backend, identity, _bos_token(path.parent))


def _bos_token(folder: Path) -> str | None:
    import json

    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        try:
            token = json.loads(path.read_text(encoding="utf-8")).get("bos_token") if path.is_file() else None
        except (OSError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path} cannot be read as a JSON object: {error}") from error
        if token is not None:
            bos: str = token["content"] if isinstance(token, dict) else token
            return bos
    return None


def _from_transformers(folder: _Folder) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
        return Tokenizer(found.backend_tokenizer, folder.identity, found.bos_token)
    except Exception as error:  # transformers fails in many ways if files are missing or unusual
        raise CheckpointError(
            f"{folder.path} holds no readable tokenizer: neither tokenizer.json nor the files from which transformers "
            f"makes one ({str(error).splitlines()[0] if str(error) else repr(error)})"
        ) from error
