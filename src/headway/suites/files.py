"""Get a checkpoint's files: downloaded if they are on the Hub, and removed after use if asked for."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from headway.errors import CheckpointError
from headway.suites import hub
from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource
from headway.suites.hub_answers import Listing
from headway.suites.hub_http import endpoint
from headway.suites.selection import CONFIG, WeightFiles, tokenizer_files, weight_files
from headway.suites.shelf import Shelf

NEED = frozenset({"config", "weights", "tokenizer"})
_SHELF = Shelf()


@dataclass(frozen=True)
class CheckpointFiles:
    """The folders of a checkpoint's files.

    Attributes:
        folder: holds config.json and the weights, if they were asked for.
        tokenizer_folder: holds the tokenizer; equals `folder` if no tokenizer was asked for.
        identity: a hash of the names and contents of the weight files, and of the config and tokenizer files if they
            were asked for. It does not depend on where the files come from.
    """

    folder: Path
    tokenizer_folder: Path
    identity: str


@contextmanager
def files(checkpoint: Checkpoint, need: Collection[str] = NEED, keep: bool = True) -> Iterator[CheckpointFiles]:
    """Provide the files of `checkpoint` while the block runs.

    Only the needed files are downloaded from the Hub, through its cache: safetensors rather than .bin, and compared with
    the sizes and hashes that the Hub states. Threads and processes may call this at the same time.

    Args:
        need: some of `config`, `weights` and `tokenizer`. The identity always covers the weights.
        keep: false removes downloaded weights when the block ends, and waits until fewer than two checkpoints that will be
            removed are on disk. Weights that were in the cache before stay. Small
            files (config, tokenizer) also stay, because checkpoints share them.

    Raises:
        CheckpointError: a file is missing or damaged, or cannot be downloaded after several tries.
        StorageError: the disk is full.
    """
    if unknown := set(need) - NEED:
        raise ValueError(f"`need` takes some of {sorted(NEED)}, not {sorted(unknown)}")
    if isinstance(checkpoint.source, FolderSource):
        yield _in_folder(checkpoint.source, need)
        return
    with _from_hub(checkpoint.source, need, keep) as found:
        yield found


def room_for(checkpoints: Iterable[Checkpoint], keep: bool) -> AbstractContextManager[None]:
    """Reserve room on disk for several checkpoints that are read together, unless they are kept.

    A process holds two at most that are removed after use. Without this, two threads could each hold one and wait for another.
    """
    sources = {one.source for one in checkpoints if isinstance(one.source, HubSource)}
    return nullcontext() if keep or not sources else _SHELF.reserve(sources)


def identity_of(checkpoint: Checkpoint, need: Collection[str] = NEED) -> str:
    """Return the identity that `files` would give now. It downloads no weights from the Hub, but reads those in a folder.

    Raises:
        CheckpointError: a file is missing, or the Hub cannot be reached.
    """
    with files(checkpoint, set(need) - {"weights"}) as found:
        return found.identity


# --- in a folder ----------------------------------------------------------------------------------------------------


def _in_folder(source: FolderSource, need: Collection[str]) -> CheckpointFiles:
    names = names_in(source.path)
    if "config" in need and CONFIG not in names:
        raise CheckpointError(f"{source} holds no {CONFIG}")
    weights = weight_files(names, lambda name: (source.path / name).read_bytes(), str(source))
    digests = {name: content_digest(source.path / name) for name in weights.names}
    small = [source.path / name for name in _small_files(need, weights)]
    tokenizer = _folder_with_tokenizer(source) if "tokenizer" in need else source.path
    if "tokenizer" in need:
        small += [tokenizer / name for name in tokenizer_files(names_in(tokenizer))]
    return CheckpointFiles(source.path, tokenizer, identity(digests | _digests(small)))


def _small_files(need: Collection[str], weights: WeightFiles) -> list[str]:
    """Small files that are read together with the weights."""
    return ([CONFIG] if "config" in need else []) + ([weights.shard_index] if weights.shard_index else [])


def _digests(small: Iterable[Path]) -> dict[str, str]:
    """Digests of small local files."""
    return {path.name: content_digest(path) for path in small}


def names_in(folder: Path) -> set[str]:
    """Names of the files in a folder.

    Raises:
        CheckpointError: there is no such folder, or it cannot be read.
    """
    try:
        return {entry.name for entry in folder.iterdir() if entry.is_file()}
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror or error}") from error


def _folder_with_tokenizer(source: FolderSource) -> Path:
    looked_in = (source.path, *source.fallbacks)
    for folder in looked_in:
        if folder.is_dir() and tokenizer_files(names_in(folder)):
            return folder
    raise CheckpointError(f"{source} has no tokenizer: looked in {', '.join(map(str, looked_in))}")


def content_digest(path: Path) -> str:
    """SHA-256 digest of a local file, written as in `FileFacts.digest`."""
    try:
        facts = path.stat()
        return f"sha256:{_content_hash(path, facts.st_ino, facts.st_size, facts.st_mtime_ns)}"
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=4096)
def _content_hash(path: Path, inode: int, size: int, modified: int) -> str:
    """Hash of a file's content. The other arguments are the cache key: the file is read again only if they change."""
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs.github.com"):
            raise CheckpointError(f"{path} is a git-lfs pointer instead of the file itself: run `git lfs pull` there")
    return hub.sha256_of(path)


def identity(digests: Mapping[str, str]) -> str:
    """Hash of file names and contents, given as digests by name."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


# --- from the Hub ---------------------------------------------------------------------------------------------------


@contextmanager
def _from_hub(source: HubSource, need: Collection[str], keep: bool) -> Iterator[CheckpointFiles]:
    listing = hub.list_files(source.repo, source.revision)
    if "config" in need and CONFIG not in listing.files:
        raise CheckpointError(f"{source} holds no {CONFIG}")
    weights = hub_weights(source, listing)
    digests = {name: listing.files[name].digest for name in weights.names}
    paths = [hub.fetch(source.repo, source.revision, listing, name) for name in _small_files(need, weights)]
    snapshot = hub.repo_folder(source.repo) / "snapshots" / listing.commit
    tokenizer = _hub_tokenizer(source, listing) if "tokenizer" in need else []
    tokenizer_folder = tokenizer[0].parent if tokenizer else snapshot
    digest = identity(digests | _digests([*paths, *tokenizer]))
    here = all(hub.in_cache(source.repo, listing, name) for name in weights.names)
    if "weights" not in need or here or keep:
        if "weights" in need:
            for name in weights.names:
                hub.fetch(source.repo, source.revision, listing, name)
        yield CheckpointFiles(snapshot, tokenizer_folder, digest)
        return

    def fill(folder: Path) -> None:
        for path in paths:
            shutil.copyfile(path, folder / path.name)
        for name in weights.names:
            hub.fetch(source.repo, source.revision, listing, name, into=folder)

    with _SHELF.reserve({source}):
        root = hub.repo_folder(source.repo) / "headway"
        folder = _SHELF.folder(source, root, listing.commit, fill)
        if folder is None:  # the revision has moved on while another thread uses the files of before
            raise CheckpointError(f"{source} has changed on the Hub while it was read. Run the same command again")
        yield CheckpointFiles(folder, tokenizer_folder, digest)


def hub_weights(source: HubSource, listing: Listing) -> WeightFiles:
    """Return the weight files of a revision. An index of shards is downloaded to know them.

    Raises:
        CheckpointError: there are no weights, or a shard is missing.
    """

    def read(name: str) -> bytes:
        return hub.fetch(source.repo, source.revision, listing, name).read_bytes()

    return weight_files(listing.files, read, str(source))


def _hub_tokenizer(source: HubSource, listing: Listing) -> list[Path]:
    """Download the tokenizer's files from the first repository and revision that has one."""
    candidates = [(source.repo, source.revision), (source.repo, "main")]
    if source.tokenizer_repo:
        candidates.append((source.tokenizer_repo, "main"))
    for repo, revision in dict.fromkeys(candidates):
        there = listing if (repo, revision) == candidates[0] else _main_listing(repo, revision, endpoint())
        names = tokenizer_files(there.files)
        if names:
            return [hub.fetch(repo, revision, there, name) for name in names]
    raise CheckpointError(
        f"{source} has no tokenizer: looked in {', '.join(' at '.join(location) for location in candidates)}"
    )


@lru_cache(maxsize=256)
def _main_listing(repo: str, revision: str, endpoint: str) -> Listing:
    """Files of a repository's `main`: cached, so that the Hub is asked once per repository instead of per checkpoint."""
    return hub.list_files(repo, revision)


def forget_listings() -> None:
    """Clear the cached listings of `main`, which may have changed on the Hub."""
    _main_listing.cache_clear()
