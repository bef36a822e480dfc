"""A checkpoint's files, here: fetched if they lie on the Hub, and removed after use if so asked."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout

from headway.errors import CheckpointError, StorageError
from headway.suites import hub
from headway.suites.checkpoint import Checkpoint, FolderSource, HubSource
from headway.suites.hub_answers import Listing
from headway.suites.hub_http import endpoint
from headway.suites.selection import CONFIG, WeightFiles, tokenizer_files, weight_files

NEED = frozenset({"config", "weights", "tokenizer"})


@dataclass(frozen=True)
class CheckpointFiles:
    """Where a checkpoint's files lie.

    Attributes:
        folder: holds config.json and the weights, as far as they were asked for.
        tokenizer_folder: holds the tokenizer; `folder` where none was asked for.
        identity: a hash of the names and contents of the weights' files, and of the config's and the tokenizer's as far
            as they were asked for; the same wherever they come from.
    """

    folder: Path
    tokenizer_folder: Path
    identity: str


@contextmanager
def files(checkpoint: Checkpoint, need: Collection[str] = NEED, keep: bool = True) -> Iterator[CheckpointFiles]:
    """The files of `checkpoint`, for as long as the block lasts.

    From the Hub comes only what is needed, through its cache: safetensors rather than .bin, and compared with the
    sizes and hashes that the Hub states. Threads and processes may do this side by side.

    Args:
        need: of `config`, `weights` and `tokenizer`. The identity is of the weights in any case.
        keep: false removes weights that had to be downloaded when the block ends. What the cache held before stays,
            and so do the small files (config, tokenizer), which checkpoints share.

    Raises:
        CheckpointError: something is missing, damaged, or out of reach, though tried again.
        StorageError: the disk is full.
    """
    if unknown := set(need) - NEED:
        raise ValueError(f"a checkpoint's files are {sorted(NEED)}, not {sorted(unknown)}")
    if isinstance(checkpoint.source, FolderSource):
        yield _in_folder(checkpoint.source, need)
        return
    with _from_hub(checkpoint.source, need, keep) as found:
        yield found


def identity_of(checkpoint: Checkpoint, need: Collection[str] = NEED) -> str:
    """The identity that `files` would state now. Weights on the Hub are not downloaded for it; in a folder they are read.

    Raises:
        CheckpointError: something is missing, or out of reach.
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
    small = [source.path / name for name in _small(need, weights)]
    tokenizer = _folder_with_tokenizer(source) if "tokenizer" in need else source.path
    if "tokenizer" in need:
        small += [tokenizer / name for name in tokenizer_files(names_in(tokenizer))]
    return CheckpointFiles(source.path, tokenizer, identity(digests | _contents(small)))


def _small(need: Collection[str], weights: WeightFiles) -> list[str]:
    """The files beside the weights that are read with them."""
    return ([CONFIG] if "config" in need else []) + ([weights.shard_index] if weights.shard_index else [])


def _contents(small: Iterable[Path]) -> dict[str, str]:
    """The digests of small files that are here."""
    return {path.name: content_digest(path) for path in small}


def names_in(folder: Path) -> set[str]:
    """The files of a folder.

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
    raise CheckpointError(f"no tokenizer for {source}: looked in {', '.join(map(str, looked_in))}")


def content_digest(path: Path) -> str:
    """The digest of a file here, as the Hub states that of a large one."""
    try:
        facts = path.stat()
        return f"sha256:{_content_hash(path, facts.st_ino, facts.st_size, facts.st_mtime_ns)}"
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=4096)
def _content_hash(path: Path, inode: int, size: int, modified: int) -> str:
    """A file is read again only if it changed as far as the file system knows."""
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs.github.com"):
            raise CheckpointError(f"{path} is a pointer to a large file, not the file: run `git lfs pull` there")
    return hub.sha256_of(path)


def identity(digests: Mapping[str, str]) -> str:
    """The hash of files' names and contents."""
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
    paths = [hub.fetch(source.repo, source.revision, listing, name) for name in _small(need, weights)]
    snapshot = hub.repo_folder(source.repo) / "snapshots" / listing.commit
    tokenizer = _hub_tokenizer(source, listing) if "tokenizer" in need else []
    tokenizer_folder = tokenizer[0].parent if tokenizer else snapshot
    digest = identity(digests | _contents([*paths, *tokenizer]))
    here = all(hub.in_cache(source.repo, listing, name) for name in weights.names)
    if "weights" not in need or here or keep:
        if "weights" in need:
            for name in weights.names:
                hub.fetch(source.repo, source.revision, listing, name)
        yield CheckpointFiles(snapshot, tokenizer_folder, digest)
        return
    with _passing_folder(source.repo) as folder:
        for path in paths:
            shutil.copyfile(path, folder / path.name)
        for name in weights.names:
            hub.fetch(source.repo, source.revision, listing, name, into=folder)
        yield CheckpointFiles(folder, tokenizer_folder, digest)


def hub_weights(source: HubSource, listing: Listing) -> WeightFiles:
    """The files of a revision's weights; an index of shards is fetched to know them.

    Raises:
        CheckpointError: there are none, or a shard is missing.
    """

    def read(name: str) -> bytes:
        return hub.fetch(source.repo, source.revision, listing, name).read_bytes()

    return weight_files(listing.files, read, str(source))


def _hub_tokenizer(source: HubSource, listing: Listing) -> list[Path]:
    """The tokenizer's files, from the first place that has one."""
    places = [(source.repo, source.revision), (source.repo, "main")]
    if source.tokenizer_repo:
        places.append((source.tokenizer_repo, "main"))
    for repo, revision in dict.fromkeys(places):
        there = listing if (repo, revision) == places[0] else _main_listing(repo, revision, endpoint())
        names = tokenizer_files(there.files)
        if names:
            return [hub.fetch(repo, revision, there, name) for name in names]
    raise CheckpointError(f"no tokenizer for {source}: looked in {', '.join(' at '.join(place) for place in places)}")


@lru_cache(maxsize=256)
def _main_listing(repo: str, revision: str, endpoint: str) -> Listing:
    """Asked once per repository, not once per checkpoint."""
    return hub.list_files(repo, revision)


def forget_listings() -> None:
    """Has repositories asked again what their `main` holds: it may have changed since."""
    _main_listing.cache_clear()


@contextmanager
def _passing_folder(repo: str) -> Iterator[Path]:
    """A folder in the cache that goes when the block ends. Those of processes that were killed are removed first."""
    root = hub.repo_folder(repo) / "headway"
    folder = root / uuid.uuid4().hex
    lock = FileLock(f"{folder}.lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        lock.acquire()
        folder.mkdir()
    except OSError as error:
        raise StorageError(f"{root} cannot be written to: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _remove_abandoned(root: Path) -> None:
    # A process holds its folder's lock for as long as it lives.
    for path in root.glob("*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        path.unlink(missing_ok=True)
        lock.release()
