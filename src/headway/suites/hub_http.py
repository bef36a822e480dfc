"""Send requests to the Hub: each has a time limit, transient failures are retried, and other failures are explained.

Requests use huggingface_hub's session, so that its proxies, certificates and tokens apply. Its own downloads are not
used: they build paths from a server's `ETag` and `X-Repo-Commit`, and sleep for as long as `Retry-After` says. tenacity
would need the rules below (tries by kind of failure, a limit of all pauses together) as callbacks: no less code.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

from headway.errors import CheckpointError, HeadwayError, StorageError

T = TypeVar("T")

PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before the second, third ... try, unless the Hub states a pause
_PATIENCE = 300.0  # the most seconds of pauses in all, for one file or request
_ANNOUNCED_PAUSE = 20.0  # pauses of this many seconds are announced
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_TIMEOUT = 30.0  # the longest time between two bytes
_WINDOW = 60.0  # in this many seconds ...
_MIN_BYTES = 60 * 1024  # ... at least this many bytes must arrive: 1 KiB/s
_MAX_ANSWER = 256 * 2**20  # the most bytes in an answer; the listing of 10,000 files has 3 MiB


class Unreachable(CheckpointError):
    """The Hub did not answer in several tries."""


class Damaged(OSError):
    """The file that arrived differs from the one that the Hub lists."""


class TooSlow(OSError):
    """An answer arrived too slowly."""


def endpoint() -> str:
    """Address of the Hub, by the environment as it is now."""
    from huggingface_hub import constants

    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def cache_dir() -> Path:
    """The Hub's cache folder, by the environment as it is now."""
    from huggingface_hub import constants

    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(constants.HF_HUB_CACHE)


def ask(path: str, what: str) -> Any:
    """Return the Hub's JSON answer to a GET request.

    Raises:
        Unreachable: there is no answer, or another server answers.
        CheckpointError: the Hub refuses.
    """

    def question(meter: _Meter) -> bytes:
        with _opened(f"{endpoint()}{path}", {}, what) as response:
            answer = bytearray()
            for chunk in response.iter_bytes():
                meter.add(len(chunk))
                answer += chunk
                if len(answer) > _MAX_ANSWER:
                    raise Unreachable(f"{what}: {_host()} does not answer like the Hub (its answer is too long)")
            return bytes(answer)

    answer = persistently(lambda: _watched(question), what)
    try:
        return json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise Unreachable(f"{what}: {_host()} does not answer like the Hub (it sent no JSON)") from error


def transfer(path: str, partial: Path, size: int, what: str) -> None:
    """Download the missing rest of the file at `path`, which has `size` bytes, and append it to `partial`.

    Raises:
        Exception: any that `persistently` explains. The bytes that have arrived stay in `partial`.
    """
    start = partial.stat().st_size if partial.exists() else 0
    if start and start == size:
        return

    def rest(meter: _Meter) -> None:
        wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with _opened(f"{endpoint()}{path}", wanted, what) as response, partial.open("ab") as file:
            if response.status_code != 206:
                file.truncate(0)
            for chunk in response.iter_bytes():
                meter.add(len(chunk))
                file.write(chunk)
                if file.tell() > size:
                    raise Damaged(f"{what} arrives with more than the {size} bytes that the Hub states")

    try:
        _watched(rest)
    except Exception as error:
        if _status(error) == 416:  # the file on the server is shorter than what has arrived: start from the beginning
            raise Damaged(f"{what} ends before byte {start:,}, but the Hub states {size:,} bytes") from error
        raise


@contextmanager
def _opened(url: str, headers: Mapping[str, str], what: str) -> Iterator[Any]:
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    with get_session().stream(
        "GET", url, headers={**build_hf_headers(), **headers}, timeout=_TIMEOUT, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        if response.headers.get("content-type", "").strip().lower().startswith("text/html"):
            raise Unreachable(
                f"{what}: {_host()} does not answer like the Hub (it sent HTML: a login page of your network?)"
            )
        yield response


def _host() -> str:
    return urlsplit(endpoint()).netloc or endpoint()


class _Meter:
    """Counts the bytes of an answer. Counting raises `TooSlow` after the waiting thread has given up."""

    def __init__(self) -> None:
        self.bytes, self.given_up = 0, False

    def add(self, number: int) -> None:
        if self.given_up:
            raise TooSlow("given up")
        self.bytes += number


def _watched(work: Callable[[_Meter], T]) -> T:
    """Run `work(meter)`, and give up if fewer than `_MIN_BYTES` bytes arrive in `_WINDOW` seconds.

    The HTTP library's timeout counts from the last byte, so it never ends an answer, or headers, that arrive byte by
    byte. A separate thread can be abandoned. It is a daemon, so that it does not keep the process alive.
    """
    meter, outcome = _Meter(), Future[T]()

    def run() -> None:
        try:
            outcome.set_result(work(meter))
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        while True:
            before = meter.bytes
            if wait([outcome], timeout=_WINDOW).done:
                return outcome.result()
            if meter.bytes - before < _MIN_BYTES:
                raise TooSlow(f"{meter.bytes - before} bytes arrived in {_WINDOW:g} s")
    finally:
        meter.given_up = True


# --- retrying, and explaining failures ------------------------------------------------------------------------------


def persistently(call: Callable[[], T], what: str) -> T:
    """Return `call()`, retried after a pause if the failure may be transient: up to five tries for each kind of failure.

    Raises:
        Unreachable: the last try got no answer.
        CheckpointError: the failure is permanent.
        StorageError: the answer cannot be stored.
    """
    waited, tries = 0.0, Counter[str]()
    while True:
        try:
            return call()
        except HeadwayError:
            raise
        except Exception as error:
            kind = str(_status(error) or ("transport" if _is_transport(error) else type(error).__name__))
            if tries[kind] == len(PAUSES) or waited >= _PATIENCE or not _is_transient(error):
                raise _explained(error, what, waited) from error
            asked = _asked_pause(error)
            pause = min(asked or PAUSES[tries[kind]], _PATIENCE - waited)
            tries[kind] += 1
            if pause >= _ANNOUNCED_PAUSE:
                warnings.warn(
                    f"{what}: {_host()} answers {_status(error)} and asks to wait {asked:,.0f} s; "
                    f"waiting {pause:,.0f} s",
                    stacklevel=2,
                )
            time.sleep(pause)
            waited += pause


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_transport(error: Exception) -> bool:
    from huggingface_hub import errors

    # `errors.HTTPError` is the base class of huggingface_hub's HTTP library. It covers timeouts and broken connections.
    return isinstance(error, errors.HTTPError) and _status(error) is None


def _is_transient(error: Exception) -> bool:
    return _status(error) in _TRANSIENT or _is_transport(error) or isinstance(error, (Damaged, TooSlow))


def _asked_pause(error: Exception) -> float | None:
    """Seconds that the Hub asks to wait, from `Retry-After` or `RateLimit: "api";r=0;t=55`."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    after, limit = headers.get("retry-after", "").strip(), re.search(r"r=0;\s*t=(\d+)", headers.get("ratelimit", ""))
    if re.fullmatch(r"[0-9]{1,9}", after):
        return float(after)
    return float(limit[1][:9]) + 1 if limit else None


def _explained(error: Exception, what: str, waited: float) -> HeadwayError:
    from huggingface_hub import errors

    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    if isinstance(error, errors.GatedRepoError):
        return CheckpointError(
            f"{what}: the repository is gated. Accept its terms on the Hub, then sign in (`hf auth login`, or HF_TOKEN)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"{what}: the repository has no such revision")
    if isinstance(error, errors.RepositoryNotFoundError):
        return CheckpointError(
            f"{what}: the Hub has no such repository, or it is private; sign in if it is (`hf auth login`, or HF_TOKEN)"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return CheckpointError(f"{what}: the Hub lists the file but does not serve it; try again later")
    if _status(error) is not None:
        asked = _asked_pause(error)
        if asked is not None and waited:
            return CheckpointError(
                f"{what}: the Hub answers {_status(error)} and asks to wait {asked:,.0f} s more, after {waited:,.0f} s "
                "of waiting. Run the same command again later"
            )
        return CheckpointError(f"{what}: the Hub answers {_status(error)} ({reason}); try again later")
    if isinstance(error, TooSlow):
        return Unreachable(
            f"{what}: {_host()} answers too slowly ({reason}) in {len(PAUSES) + 1} tries; try again later"
        )
    if _is_transport(error):
        return Unreachable(f"{what}: {endpoint()} does not answer ({type(error).__name__}: {reason}); try again later")
    if isinstance(error, Damaged):
        return CheckpointError(f"{reason}, in {len(PAUSES) + 1} tries; the file on the Hub seems to be damaged")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return StorageError(
            f"{what} cannot be stored in {cache_dir()}: {error.strerror}; free space, or set HF_HUB_CACHE"
        )
    return CheckpointError(f"{what}: {type(error).__name__}: {reason}")
