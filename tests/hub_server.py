"""A small server that speaks the Hub's protocol, as huggingface_hub asks it, with faults that can be planted.

    with HubServer() as hub:
        hub.add("EleutherAI/pythia-14m", "step0", {"config.json": b"{}", "model.safetensors": weights})
        hub.add_folder("EleutherAI/pythia-14m", "step1", folder)         # every file in it
        hub.plant("503", "model.safetensors", times=2)                   # the next two requests for that file
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        ...
        assert hub.sent("model.safetensors") == 1                        # how often its content was sent whole

`serving(monkeypatch, folder)` does the environment, and lets nobody wait between tries. Files of weights are in
large-file storage: their SHA-256 is stated, and their content comes by a redirect, from another host. Others are
stated by git's hash of them.
`Stated(size, sha256)` in place of a content lists a file that is never served: whole suites without their bytes.

Faults (`plant(kind, match, times, **options)`; they hit requests whose path holds `match`, in the order planted):
    "429", "500", "503"   that answer; `retry_after=SECONDS` says how long to wait
    "timeout"             no answer for `seconds`, then the connection closes
    "reset"               the connection is reset after `after` bytes of the content
    "cut"                 the connection closes after `after` bytes, though more were announced
    "truncated"           `after` bytes are announced and sent: the file itself is too short
    "too_long"            `after` bytes follow the content
    "wrong_bytes"         the right length, but one byte differs
    "html"                a login page of the network, with status 200
    "drip"                a byte every `seconds`, `after` of them
`hub.spoil` changes what is answered in JSON, and `hub.headers` replace those of any answer, as a hostile server would.
A missing revision or file is one that was not added; `hub.gate(repo)` asks for terms to be accepted.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

LARGE = (".safetensors", ".bin", ".pt", ".h5")
_OF_THE_LIBRARY = "/api/agent-harnesses"  # huggingface_hub asks once a process, on its own account
_IN_CONTENT = ("reset", "cut", "truncated", "too_long", "wrong_bytes")


@dataclass(frozen=True)
class Stated:
    """A file that is listed with this size and hash, and never served."""

    size: int
    sha256: str


@dataclass(frozen=True)
class File:
    name: str
    size: int
    sha256: str
    git: str
    content: bytes | Path | None

    @classmethod
    def of(cls, name: str, content: bytes | Path | Stated) -> File:
        if isinstance(content, Stated):
            return cls(name, content.size, content.sha256, content.sha256[:40], None)
        data = content.read_bytes() if isinstance(content, Path) else content
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return cls(name, len(data), hashlib.sha256(data).hexdigest(), git, content)

    @property
    def large(self) -> bool:
        return self.name.endswith(LARGE)

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git

    def read(self) -> bytes:
        assert self.content is not None, f"{self.name} is only stated"
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


@dataclass
class Fault:
    kind: str
    match: str
    times: float
    after: int = 100
    seconds: float = 0.5
    retry_after: int | None = None


@dataclass
class Asked:
    method: str
    path: str
    status: int = 0
    range: str = ""
    whole: bool = False


@dataclass
class Repo:
    revisions: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    gated: bool = False


class HubServer:
    """The server; use it as a context manager. `url` is the endpoint, `asked` every request so far."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.waited: list[float] = []
        self.spoil: Callable[[Any], Any] = lambda told: told
        self.headers: dict[str, str] = {}
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        self.cdn = f"http://localhost:{port}"  # another host, as on the Hub: a redirect there is not followed blindly
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo: str, revision: str, files: dict[str, bytes | Path | Stated]) -> str:
        """Puts a revision up, in place of the one of that name; its commit."""
        listed = {name: File.of(name, content) for name, content in files.items()}
        said = json.dumps([repo, revision, sorted((file.name, file.etag) for file in listed.values())])
        commit = hashlib.sha1(said.encode()).hexdigest()
        there = self.repos.setdefault(repo, Repo())
        there.revisions[revision], there.commits[commit] = commit, listed
        return commit

    def add_folder(self, repo: str, revision: str, folder: Path) -> str:
        return self.add(repo, revision, {path.name: path for path in sorted(folder.iterdir()) if path.is_file()})

    def gate(self, repo: str) -> None:
        self.repos[repo].gated = True

    def plant(self, kind: str, match: str, times: float = 1, **options: float | int | None) -> None:
        self.faults.append(Fault(kind, match, times, **options))  # type: ignore[arg-type]

    def sent(self, name: str) -> int:
        """How many times the whole content of files of this name was sent."""
        return sum(asked.whole for asked in self.asked if asked.path.endswith(f"/{name}"))

    def _take(self, path: str, kinds: tuple[str, ...]) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.kind in kinds and fault.match in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that goes away is no news here


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.noted = Asked(self.command, path, range=self.headers.get("Range", ""))
        if path == _OF_THE_LIBRARY:
            self._refuse(404, "EntryNotFound")
            return
        self.hub.asked.append(self.noted)
        fault = self.hub._take(path, ("timeout", "429", "500", "503", "html", "drip"))
        if fault is not None and fault.kind == "timeout":
            time.sleep(fault.seconds)
            self.close_connection = True
            return
        if fault is not None and fault.kind == "html":
            self._reply(200, b"<html>Please sign in</html>", {"Content-Type": "text/html; charset=utf-8"})
            return
        if fault is not None and fault.kind == "drip":
            self._head(200, 10**6, {"Content-Type": "application/json"})
            for _ in range(fault.after):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(fault.seconds)
            self.close_connection = True
            return
        if fault is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._reply(int(fault.kind), b"{}", headers)
            return
        # The path's parts stay quoted until they are parted: a revision's name may hold a slash.
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:], parse_qs(url.query))
        elif parts[0] == "cdn":
            file = self.hub.repos["/".join(parts[2:4])].commits[parts[1]][parts[4]]
            self._content(file, {"ETag": f'"{file.sha256}"'})
        elif len(parts) >= 5 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._refuse(404, "EntryNotFound")

    def _api(self, name: str, rest: list[str], query: dict[str, list[str]]) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        if rest == ["refs"]:
            refs = [
                {"name": revision, "ref": f"refs/heads/{revision}", "targetCommit": commit}
                for revision, commit in repo.revisions.items()
            ]
            self._json({"branches": refs, "converts": [], "tags": []})
            return
        revision = rest[1] if rest else "main"
        commit = self._commit(repo, revision)
        if commit is None:
            return
        files = repo.commits[commit].values()
        if rest and rest[0] == "tree":
            tree = ({"type": "file", "path": f.name, "size": f.size, "oid": f.git} | _lfs(f, "oid") for f in files)
            self._json(list(tree))
            return
        siblings: list[dict[str, object]] = [{"rfilename": f.name} for f in files]
        if "blobs" in query:
            siblings = [{"rfilename": f.name, "size": f.size, "blobId": f.git} | _lfs(f, "sha256") for f in files]
        self._json({"_id": "0", "id": name, "modelId": name, "sha": commit, "private": False, "siblings": siblings,
                    "tags": [], "downloads": 0, "likes": 0})  # fmt: skip

    def _resolve(self, name: str, revision: str, filename: str) -> None:
        repo = self._repo(name)
        commit = repo and self._commit(repo, revision)
        if not repo or not commit:
            return
        file = repo.commits[commit].get(filename)
        if file is None:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.git}"'}
        if not file.large:
            self._content(file, headers)
            return
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        headers["Location"] = f"{self.hub.cdn}/cdn/{commit}/{name}/{quote(filename)}"
        self._reply(302, b"", headers)

    def _repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._refuse(404, "RepoNotFound")
        elif repo.gated:
            self._refuse(403, "GatedRepo")
            return None
        return repo

    def _commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.revisions.get(revision, revision)
        if commit not in repo.commits:
            self._refuse(404, "RevisionNotFound")
            return None
        return commit

    def _content(self, file: File, headers: dict[str, str]) -> None:
        if file.content is None:
            self._refuse(404, "EntryNotFound")
            return
        data = file.read()
        fault = self.hub._take(self.noted.path, _IN_CONTENT) if self.command == "GET" else None
        if fault is not None and fault.kind == "wrong_bytes":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if fault is not None and fault.kind == "truncated":
            data = data[: fault.after]
        if fault is not None and fault.kind == "too_long":
            data += bytes(fault.after)
        start = int(self.noted.range.removeprefix("bytes=").split("-")[0]) if self.noted.range else 0
        if start and start >= len(data):
            self._reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        body = data[start:]
        if start:
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        if fault is None or fault.kind in ("wrong_bytes", "truncated", "too_long"):
            self.noted.whole = self.command == "GET" and start == 0
            self._reply(206 if start else 200, body, {**headers, "Accept-Ranges": "bytes"})
            return
        self._head(206 if start else 200, len(body), headers)
        self.wfile.write(body[: fault.after])
        self.wfile.flush()
        if fault.kind == "reset":
            # Closing with nothing allowed to linger sends RST in place of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        self.close_connection = True

    def _json(self, value: object) -> None:
        self._reply(200, json.dumps(self.hub.spoil(value)).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._reply(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.noted.status = status
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers, **self.hub.headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, len(body), headers)
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[HubServer]:
    """A server that huggingface_hub takes for the Hub; its cache is in `folder`. `hub.waited` notes each pause."""
    from headway.suites import hub_http

    with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub-cache"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        if "HEADWAY_CACHE" not in os.environ:
            monkeypatch.setenv("HEADWAY_CACHE", str(folder / "headway-cache"))
        monkeypatch.setattr(hub_http, "_TIMEOUT", 0.3)
        clock = SimpleNamespace(**{name: getattr(time, name) for name in dir(time)} | {"sleep": hub.waited.append})
        monkeypatch.setattr(hub_http, "time", clock)
        yield hub


def _lfs(file: File, key: str) -> dict[str, object]:
    return {"lfs": {key: file.sha256, "size": file.size, "pointerSize": 134}} if file.large else {}
