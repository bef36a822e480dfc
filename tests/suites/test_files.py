"""Files from a server that speaks the Hub's protocol, and what becomes of each of its faults."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from headway.errors import CheckpointError, StorageError
from headway.suites import Checkpoint, FolderSource, files, identity_of
from headway.suites import hub as hub_module
from headway.suites.hub_http import cache_dir
from hub_server import HubServer
from support_disk import leave_free
from support_suites import CONFIG, REPO, TOKENIZER, checkpoint, shard_index, small, weights

SAFETENSORS = "model.safetensors"


def cached_weights() -> list[str]:
    cache = cache_dir()
    return sorted(path.name for path in cache.rglob("*") if path.suffix in (".safetensors", ".bin") and path.is_file())


def blobs() -> set[str]:
    return {path.name for path in hub_module.repo_folder(REPO).glob("blobs/*")}


def test_only_what_is_needed_comes(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights(), pytorch_model__bin=b"never", README__md=b"x"))
    with files(checkpoint()) as found:
        assert found.folder == found.tokenizer_folder
        assert sorted(path.name for path in found.folder.iterdir()) == ["config.json", SAFETENSORS, "tokenizer.json"]
        assert (found.folder / SAFETENSORS).read_bytes() == weights()
    assert hub.sent("pytorch_model.bin") == hub.sent("README.md") == 0


def test_config_alone_brings_no_weights(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    with files(checkpoint(), need={"config"}) as found:
        assert (found.folder / "config.json").read_bytes() == CONFIG
    assert hub.sent(SAFETENSORS) == hub.sent("tokenizer.json") == 0


def test_cached_files_are_not_downloaded_again(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    for _ in range(3):
        with files(checkpoint()):
            pass
    assert [hub.sent(name) for name in ("config.json", SAFETENSORS, "tokenizer.json")] == [1, 1, 1]


def test_a_bin_is_taken_where_there_is_nothing_else(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(pytorch_model__bin=b"bytes"))
    with files(checkpoint()) as found:
        assert (found.folder / "pytorch_model.bin").read_bytes() == b"bytes"


@pytest.mark.parametrize("keep", [True, False])
def test_shards_come_by_their_index(hub: HubServer, keep: bool) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": weights(i) for i in (1, 2)}
    stray = {"model-00003-of-00009.safetensors": weights(9)}
    hub.add(REPO, "step0", small() | shards | stray | shard_index(*shards))
    with files(checkpoint(), keep=keep) as found:
        names = {path.name for path in found.folder.iterdir()}
        assert {*shards, "model.safetensors.index.json", "config.json"} <= names
        assert not names & {*stray}


def test_a_missing_shard_is_named(hub: HubServer) -> None:
    hub.add(REPO, "step0", small() | shard_index("a.safetensors", "b.safetensors") | {"a.safetensors": weights()})
    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 shards: b\.safetensors"), files(checkpoint()):
        pass
    assert hub.sent("a.safetensors") == 0


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a\\b", ".."])
def test_an_index_does_not_lead_outside(hub: HubServer, name: str) -> None:
    hub.add(REPO, "step0", small() | shard_index(name))
    with pytest.raises(CheckpointError, match="outside its folder"), files(checkpoint()):
        pass


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"weight_map": 3}', b'{"weight_map": {"a": 1}}', b"\xff"])
def test_an_index_that_is_none_is_said(hub: HubServer, content: bytes) -> None:
    hub.add(REPO, "step0", small() | {"model.safetensors.index.json": content})
    with pytest.raises(CheckpointError, match="is not an index of shards"), files(checkpoint()):
        pass


# --- what is missing ------------------------------------------------------------------------------------------------


def test_missing_revision_repository_weights_and_config(hub: HubServer) -> None:
    hub.add(REPO, "step0", {"config.json": CONFIG})
    hub.add(REPO, "step1", {SAFETENSORS: weights()})
    for wanted, message in [
        (checkpoint("step7"), "no such revision"),
        (checkpoint(repo="someone/else"), "no such repository"),
        (checkpoint("step0"), "holds no weights"),
        (checkpoint("step1"), "holds no config.json"),
    ]:
        with pytest.raises(CheckpointError, match=message), files(wanted):
            pass
    assert not hub.waited, "what is not there is not asked for again"


def test_gated(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.gate(REPO)
    with pytest.raises(CheckpointError, match="gated"), files(checkpoint()):
        pass


def test_a_tokenizer_is_looked_for_in_main_and_in_the_repository_that_shares_it(hub: HubServer) -> None:
    for step in ("step0", "step1"):
        hub.add(REPO, step, {"config.json": CONFIG, SAFETENSORS: weights()})
    with pytest.raises(CheckpointError, match="no such revision"), files(checkpoint()):
        pass
    hub.add("someone/shared", "main", {"tokenizer.json": TOKENIZER})
    hub.add(REPO, "main", {"tokenizer_config.json": b"{}"})
    for step in ("step0", "step1"):
        with files(checkpoint(step, tokenizer_repo="someone/shared")) as found:
            assert (found.tokenizer_folder / "tokenizer.json").read_bytes() == TOKENIZER
            assert not (found.folder / "tokenizer.json").exists()
    assert hub.sent("tokenizer.json") == 1
    with pytest.raises(CheckpointError, match=r"at step0 has no tokenizer: looked in"), files(checkpoint()):
        pass


# --- faults that pass, and faults that stay -------------------------------------------------------------------------

PASSING = [
    ("429", {"retry_after": 7}), ("503", {}), ("500", {}), ("timeout", {}), ("reset", {}), ("cut", {}),
    ("truncated", {}), ("too_long", {}), ("wrong_bytes", {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), PASSING)
@pytest.mark.parametrize("keep", [True, False])
def test_a_passing_fault_is_overcome(hub: HubServer, kind: str, options: dict, keep: bool) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.plant(kind, SAFETENSORS, times=2, **options)
    with files(checkpoint(), keep=keep) as found:
        assert (found.folder / SAFETENSORS).read_bytes() == weights()
    if kind == "429":
        assert max(hub.waited) >= 7, "the Hub said how long to wait"


@pytest.mark.parametrize(
    ("kind", "options"), [p for p in PASSING if p[0] not in ("reset", "cut", "truncated", "too_long", "wrong_bytes")]
)
def test_a_passing_fault_of_a_question_is_overcome(hub: HubServer, kind: str, options: dict) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.plant(kind, "/api/models/", times=2, **options)
    with files(checkpoint()) as found:
        assert (found.folder / SAFETENSORS).is_file()
    assert hub.waited[:2] == ([7, 7] if kind == "429" else [1, 2])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("503", "the Hub answers 503"),
        ("truncated", "arrived with 100 bytes, but the Hub states|should be of size"),
        ("wrong_bytes", "with the hash .* but the Hub states"),
        ("reset", "does not answer"),
    ],
)
@pytest.mark.parametrize("keep", [True, False])
def test_a_fault_that_stays_is_said_and_leaves_nothing_behind(
    hub: HubServer, kind: str, message: str, keep: bool
) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    after = {"after": 0} if kind == "reset" else {}  # else what arrived is kept, and the rest comes with the next try
    hub.plant(kind, SAFETENSORS, times=float("inf"), **after)
    with pytest.raises(CheckpointError, match=message), files(checkpoint(), keep=keep):
        pass
    assert cached_weights() == []
    hub.faults.clear()
    with files(checkpoint(), keep=keep) as found:
        assert (found.folder / SAFETENSORS).read_bytes() == weights()


def test_a_connection_that_breaks_is_resumed_where_it_broke(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # it resumes after whole chunks
    content = weights(rows=300, columns=300)
    hub.add(REPO, "step0", small(model__safetensors=content))
    hub.plant("cut", SAFETENSORS, after=200_000)
    with files(checkpoint()) as found:
        assert (found.folder / SAFETENSORS).read_bytes() == content
    assert [asked.range for asked in hub.asked if asked.path.startswith("/cdn") and asked.range] == ["bytes=200000-"]


def test_a_small_file_is_compared_too(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.plant("wrong_bytes", "config.json")
    with files(checkpoint()) as found:
        assert (found.folder / "config.json").read_bytes() == CONFIG
    assert hub.sent("config.json") == 2


def test_a_file_that_was_cut_short_in_the_cache_is_found_and_fetched_anew(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    with files(checkpoint()) as found:
        (found.folder / SAFETENSORS).resolve().write_bytes(b"short")
    with files(checkpoint()) as found:
        assert (found.folder / SAFETENSORS).read_bytes() == weights()
    assert hub.sent(SAFETENSORS) == 2


# --- out of reach ---------------------------------------------------------------------------------------------------


def test_cached_files_are_used_offline(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    with files(checkpoint()) as online:
        pass
    asked = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with files(checkpoint()) as offline:
        assert offline == online
    with pytest.raises(CheckpointError, match=r"not in the cache .* HF_HUB_OFFLINE is"), files(checkpoint("step1")):
        pass
    assert len(hub.asked) == asked


def test_a_hub_that_is_away(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    with files(checkpoint()) as online:
        pass
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with files(checkpoint()) as found:
        assert found == online
    with pytest.raises(CheckpointError, match=r"not in the cache.*does not answer"), files(checkpoint("step1")):
        pass


@pytest.mark.parametrize("keep", [True, False])
def test_a_full_disk_stops_the_sweep(
    hub: HubServer, small_disk: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(small_disk / "cache"))
    content = weights(rows=300, columns=300)
    hub.add(REPO, "step0", small(model__safetensors=content))
    ballast = leave_free(small_disk, len(content) // 2)
    with (
        pytest.raises(StorageError, match=r"cannot be stored .*disk/cache: No space left"),
        files(checkpoint(), keep=keep),
    ):
        pass
    assert cached_weights() == []
    ballast.unlink()
    with files(checkpoint(), keep=keep) as found:
        assert (found.folder / SAFETENSORS).read_bytes() == content


# --- removed after use ----------------------------------------------------------------------------------------------


def test_weights_are_removed_after_use_and_nothing_else(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    with files(checkpoint(), keep=False) as found:
        assert (found.folder / "config.json").read_bytes() == CONFIG
        assert (found.folder / SAFETENSORS).read_bytes() == weights()
    assert not found.folder.exists()
    assert cached_weights() == []
    assert hashlib.sha256(weights()).hexdigest() not in blobs()
    with files(checkpoint(), keep=False):
        pass
    assert hub.sent("config.json") == 1, "small files stay"


def test_weights_that_were_there_before_stay(hub: HubServer) -> None:
    # step 0 and step 1 of every Pythia run are one and the same file.
    for step in ("step0", "step1"):
        hub.add(REPO, step, small(model__safetensors=weights()))
    with files(checkpoint("step0"), keep=True) as kept:
        pass
    with files(checkpoint("step1"), keep=False) as found:
        assert (found.folder / SAFETENSORS).read_bytes() == weights()
    with files(checkpoint("step0"), keep=False) as again:
        assert again.folder == kept.folder
    assert (kept.folder / SAFETENSORS).read_bytes() == weights()


def test_they_are_removed_when_the_work_fails(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    with pytest.raises(ZeroDivisionError), files(checkpoint(), keep=False):
        raise ZeroDivisionError
    assert cached_weights() == []


def test_leftovers_of_a_killed_process_are_removed_but_not_files_in_use(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    root = hub_module.repo_folder(REPO) / "headway"
    for name in ("left", "used"):
        (root / name).mkdir(parents=True)
        (root / name / SAFETENSORS).write_bytes(b"x")
        (root / f"{name}.lock").touch()
    held = FileLock(root / "used.lock")
    with held, files(checkpoint(), keep=False):
        assert not (root / "left").exists()
        assert (root / "used" / SAFETENSORS).exists()


def test_many_threads_side_by_side(hub: HubServer) -> None:
    for step in range(12):
        hub.add(REPO, f"step{step}", small(model__safetensors=weights(step // 2, rows=50, columns=50)))
    together = threading.Barrier(6, timeout=20)

    def read(number: int) -> bool:
        if number < 6:
            together.wait()
        with files(checkpoint(f"step{number % 12}"), keep=number % 3 == 0) as found:
            return (found.folder / SAFETENSORS).read_bytes() == weights(number % 12 // 2, rows=50, columns=50)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(read, range(36)))


# --- identity, and folders ------------------------------------------------------------------------------------------


def in_folder(path: Path, *fallbacks: Path) -> Checkpoint:
    return Checkpoint("toy", "toy", "toy", "1m", "1", 0, path.name, FolderSource(path, fallbacks))


def test_identity_is_of_what_is_read_wherever_it_lies(hub: HubServer, tmp_path: Path) -> None:
    shards = {f"model-{i}.safetensors": weights(i) for i in (1, 2)}
    alike = [
        small(model__safetensors=weights()),
        small(model__safetensors=weights(), pytorch_model__bin=b"other", README__md=b"more"),
    ]
    others = [
        small(model__safetensors=weights(1)),
        small() | shards | shard_index(*shards),
        small(model__safetensors=weights(), config__json=b"{}"),
        small(model__safetensors=weights(), tokenizer__json=b"{}"),
        small(model__safetensors=weights(), tokenizer_config__json=b"{}"),
    ]
    for step, content in enumerate([*alike, *others]):
        hub.add(REPO, f"step{step}", content)
        (tmp_path / f"step{step}").mkdir()
        for name, data in content.items():
            (tmp_path / f"step{step}" / name).write_bytes(data)
    steps = range(len(alike) + len(others))
    on_hub = [identity_of(checkpoint(f"step{step}")) for step in steps]
    assert hub.sent(SAFETENSORS) == 0, "the weights' identity is what the Hub states"
    assert on_hub[0] == on_hub[1]
    assert len(set(on_hub)) == 1 + len(others)
    assert [identity_of(in_folder(tmp_path / f"step{step}")) for step in steps] == on_hub
    with files(checkpoint("step0")) as found:
        assert found.identity == on_hub[0]
    without_tokenizer = [identity_of(checkpoint(f"step{step}"), {"config", "weights"}) for step in (0, 5)]
    assert without_tokenizer[0] == without_tokenizer[1], "what is not read does not matter"


def test_a_folder_is_read_anew_when_its_weights_change(tmp_path: Path) -> None:
    for name, content in small(model__safetensors=weights()).items():
        (tmp_path / name).write_bytes(content)
    with files(in_folder(tmp_path)) as before:
        pass
    (tmp_path / SAFETENSORS).write_bytes(weights(2))
    with files(in_folder(tmp_path)) as after:
        assert after.identity != before.identity


def test_a_folder_lacks_what_it_lacks(tmp_path: Path) -> None:
    run = tmp_path / "run"
    step = run / "step0"
    with pytest.raises(CheckpointError, match="cannot be read: No such file"), files(in_folder(step)):
        pass
    step.mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"holds no config\.json"), files(in_folder(step)):
        pass
    (step / "config.json").write_bytes(CONFIG)
    with pytest.raises(CheckpointError, match="holds no weights"), files(in_folder(step)):
        pass
    (step / SAFETENSORS).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(CheckpointError, match="git lfs pull"), files(in_folder(step)):
        pass
    (step / SAFETENSORS).write_bytes(weights())
    with pytest.raises(CheckpointError, match="has no tokenizer: looked in"), files(in_folder(step, run, tmp_path)):
        pass
    (tmp_path / "vocab.json").write_bytes(b"{}")
    (tmp_path / "merges.txt").write_bytes(b"")
    with files(in_folder(step, run, tmp_path)) as found:
        assert found.tokenizer_folder == tmp_path
    (run / "tokenizer.json").write_bytes(TOKENIZER)
    with files(in_folder(step, run, tmp_path)) as found:
        assert found.tokenizer_folder == run


def test_a_need_that_does_not_exist_is_a_mistake_in_the_code() -> None:
    with pytest.raises(ValueError, match="not \\['wieghts'\\]"), files(checkpoint(), need={"wieghts"}):
        pass
