"""Running a sweep as Ray tasks, on this machine or on an existing cluster.

Workers write the partitions themselves, so all of them must see the run directory: on a shared disk, or at an address
such as `s3://bucket/sweep`. Ray returns only the outcome of each checkpoint.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from headway.errors import HeadwayError, UsageError
from headway.suites import Checkpoint
from headway.sweep.executors import ATTEMPTS, InProcess
from headway.sweep.job import Outcome, Work

CONNECT_S = 10.0  # seconds within which a cluster must accept a connection
HEALTH_S = 60.0  # seconds within which its head node must say that it is well
_WAY_OUT = "Check --ray-address with `ray status --address ADDRESS`, or use --workers"
CHECKPOINTS_A_TASK = 4  # enough for a task to read one ahead while it computes, few enough to lose with a node


class RayTasks:
    """An executor that runs Ray tasks of a few checkpoints each. A task is retried if its worker or node dies.

    Args:
        address: of an existing cluster (`auto`, `ray://host:10001`); None takes RAY_ADDRESS, else starts Ray here.
        cpus, gpus: resources of one task; a fraction lets several tasks share a GPU.
    """

    def __init__(self, address: str | None = None, cpus: float = 1.0, gpus: float = 0.0) -> None:
        self.address, self.cpus, self.gpus = address, cpus, gpus

    def run(self, work: Work, checkpoints: Sequence[Checkpoint]) -> Iterator[Outcome]:
        ray = _connect(self.address)
        task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)(_do)
        shared = ray.put(work)
        chunks = [checkpoints[i : i + CHECKPOINTS_A_TASK] for i in range(0, len(checkpoints), CHECKPOINTS_A_TASK)]
        running = {task.remote(shared, chunk, self.cpus): chunk for chunk in chunks}
        try:
            while running:
                done, _ = ray.wait(list(running))
                yield from _outcomes(ray, done[0], running.pop(done[0]))
        finally:
            for left in running:
                ray.cancel(left)


def _connect(address: str | None) -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("Ray is not installed: pip install 'headway[ray]'") from error
    if not ray.is_initialized():
        address = address or os.environ.get("RAY_ADDRESS")
        _require_cluster(address)
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=False)
        except (ConnectionError, ImportError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from error
    return ray


def _no_cluster(address: str | None, reason: object) -> UsageError:
    return UsageError(f"no Ray cluster answers at {address!r}: {str(reason).rstrip('.')}. {_WAY_OUT}")


def _require_cluster(address: str | None) -> None:
    """Refuse an address at which Ray itself would keep trying for minutes.

    Raises:
        UsageError: `address` names a host and a port, and no cluster answers there.
    """
    location = (address or "").removeprefix("ray://").split("/")[0]
    host, colon, port = location.rpartition(":")
    if not colon:  # auto, local, or none: Ray finds or starts a cluster on this machine
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, (isinstance(error, OSError) and error.strerror) or error) from error
    if not (address or "").startswith("ray://"):  # Ray's client has a time limit of its own
        try:
            ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", location]
            subprocess.run(ask, check=True, capture_output=True, timeout=HEALTH_S)
        except (subprocess.SubprocessError, OSError) as error:
            raise _no_cluster(address, "something listens there, but it is no head node of Ray") from error


def _do(work: Work, checkpoints: Sequence[Checkpoint], cpus: float) -> list[Outcome]:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, int(cpus))))
    return list(InProcess().run(work, checkpoints))


def _outcomes(ray: Any, reference: Any, checkpoints: Sequence[Checkpoint]) -> list[Outcome]:
    try:
        outcomes: list[Outcome] = ray.get(reference)
        return outcomes
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, HeadwayError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        words = f"its Ray task died {ATTEMPTS} times: {error}"
        return [Outcome(checkpoint, error=words, kind=type(error).__name__) for checkpoint in checkpoints]
