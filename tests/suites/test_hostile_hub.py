"""A server that is hostile, or no Hub at all: nothing that it says becomes a path, and nothing is waited for without end."""

import re
from pathlib import Path

import pytest

from headway.errors import CheckpointError
from headway.suites import files, hub_http
from headway.suites import hub as hub_module
from hub_server import HubServer
from support_suites import REPO, checkpoint, small, weights

PATHS = (
    "/abs/victim",
    "../../../victim",
    "../victim",
    "a/../../victim",
    "C:\\victim",
    "..\\victim",
    "a\x1b[2K",
    "",
    ".",
)


@pytest.fixture
def victim(tmp_path: Path):
    """A file outside of the cache, which must be there afterwards; and nothing else may appear beside it."""
    place = tmp_path / "victim"
    place.write_text("precious")
    yield place
    assert place.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} <= {
        "victim",
        "hub-cache",
        "headway-cache",
        "out",
        "suite",
        "texts.txt",
    }


def refused(call) -> str:
    with pytest.raises(CheckpointError) as caught:
        call()
    assert "\x1b" not in str(caught.value)
    return str(caught.value)


def use(keep: bool) -> None:
    with files(checkpoint(), keep=keep):
        pass


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("said", [*PATHS, "0" * 39, "g" * 40, "A" * 40, "0" * 65])
@pytest.mark.parametrize("field", ["blobId", "lfs", "sha"])
def test_a_hash_that_is_none_is_refused(hub: HubServer, victim: Path, field: str, said: str, keep: bool) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    said = said.replace("/abs", str(victim.parent))

    def spoil(told):
        if "siblings" not in told:
            return told
        if field == "sha":
            return told | {"sha": said}
        for file in told["siblings"]:
            if field == "lfs" and "lfs" in file:
                file["lfs"]["sha256"] = said
            elif field == "blobId" and "lfs" not in file:
                file["blobId"] = said
        return told

    hub.spoil = spoil
    assert re.search("no hash of 40 hex|not (40|64) hex digits", refused(lambda: use(keep)))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("said", PATHS)
def test_a_file_name_that_leads_elsewhere_is_refused(hub: HubServer, victim: Path, said: str, keep: bool) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.spoil = lambda told: (
        told | {"siblings": [*told["siblings"], {"rfilename": said, "size": 8, "blobId": "0" * 40}]}
        if "siblings" in told
        else told
    )
    assert "is not a plain relative path" in refused(lambda: use(keep))


@pytest.mark.parametrize("said", PATHS)
def test_a_revision_name_that_leads_elsewhere_is_refused(hub: HubServer, victim: Path, said: str) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.spoil = lambda told: (
        told | {"branches": [*told["branches"], {"name": said, "ref": said, "targetCommit": "0" * 40}]}
        if "branches" in told
        else told
    )
    assert "is not a plain relative path" in refused(lambda: hub_module.commits(REPO))


@pytest.mark.parametrize(
    "told", [None, [], 3, "x", {}, {"siblings": 3}, {"siblings": [3]}, {"siblings": [{"rfilename": 3}]}, {"sha": 3}]
)
def test_an_answer_of_another_shape_is_refused(hub: HubServer, told: object) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.spoil = lambda _: told
    assert "does not answer like the Hub" in refused(lambda: use(True))
    assert hub.waited == []


def test_headers_name_no_path(hub: HubServer, victim: Path) -> None:
    """ETag and X-Repo-Commit are not used: the file is what its listing says, or is refused."""
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.headers = {
        "ETag": '"../../../victim"',
        "X-Linked-Etag": '"../../../victim"',
        "X-Repo-Commit": "../../../victim",
    }
    with files(checkpoint()) as found:
        assert (found.folder / "model.safetensors").read_bytes() == weights()


def test_a_cache_whose_links_lead_elsewhere_loses_nothing(hub: HubServer, victim: Path) -> None:
    """A link of the cache to another file of the wrong size is replaced, not what it leads to."""
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    with files(checkpoint()) as found:
        link = found.folder / "model.safetensors"
    link.unlink()
    link.symlink_to(victim)
    with files(checkpoint()) as found:
        assert (found.folder / "model.safetensors").read_bytes() == weights()


@pytest.mark.parametrize("repo", ["../../etc", "/etc/passwd", "a/../b", "a/b/c", "a"])
def test_a_repository_name_is_no_path(repo: str) -> None:
    with pytest.raises(CheckpointError, match="does not name a repository"):
        hub_module.repo_folder(repo)


# --- no answer, no end ----------------------------------------------------------------------------------------------


def test_a_login_page_is_called_one(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.plant("html", "/", times=float("inf"))
    said = refused(lambda: use(True))
    assert re.search(
        r"127\.0\.0\.1:\d+ does not answer like the Hub \(it sent HTML: a login page of your network\?\)", said
    )


@pytest.mark.parametrize("match", ["/api/models/", "model.safetensors"])
def test_a_server_that_drips_is_given_up(hub: HubServer, monkeypatch, match: str) -> None:
    monkeypatch.setattr(hub_http, "_WINDOW", 0.4)
    monkeypatch.setattr(hub_http, "_TIMEOUT", 5.0)  # for the next byte, which always comes in time
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.plant("drip", match, times=float("inf"), after=40, seconds=0.05)
    assert "answers too slowly" in refused(lambda: use(True))


def test_a_long_wait_is_said_and_bounded(hub: HubServer) -> None:
    hub.add(REPO, "step0", small(model__safetensors=weights()))
    hub.plant("429", "model.safetensors", times=float("inf"), retry_after=3600)
    with pytest.warns(UserWarning, match=r"answers 429 and asks to wait 3,600 s; waiting 300 s"):
        said = refused(lambda: use(True))
    assert "asks to wait 3,600 s more, after 300 s of waiting" in said
    assert sum(hub.waited) == 300
