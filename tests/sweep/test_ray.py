"""A real Ray cluster of several nodes on this machine; one is lost in the middle."""

import os
import threading
import time

import pytest

from headway.errors import StorageError
from headway.rundir import RunDirectory
from headway.sweep import run
from headway.sweep.ray_tasks import RayTasks
from support_sweep import Squares, expected, found, grid

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'headway[ray]'")


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    # Workers unpickle the job by name, so they must find the tests' own modules.
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(os.path.dirname(__file__)))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_sweep_survives_the_loss_of_a_node(cluster, tmp_path):
    cluster, nodes = cluster
    directory = RunDirectory(tmp_path / "out")

    def lose_a_node():
        while len(directory.parts("heads")) < 5:
            time.sleep(0.02)
        cluster.remove_node(nodes[0], allow_graceful=False)

    loss = threading.Thread(target=lose_a_node)
    loss.start()
    summary = run(Squares(seconds=0.15), grid(6, 10), directory, executor=RayTasks())
    loss.join()
    deadline = time.monotonic() + 60  # Ray takes missed heartbeats to call a node dead, more on a busy machine
    while sum(node["Alive"] for node in ray.nodes()) > 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert sum(node["Alive"] for node in ray.nodes()) == 2
    assert (summary.done, summary.failed) == (60, [])
    assert found(directory.read("heads")) == expected(grid(6, 10))

    # The same cluster: failures come back as outcomes, a worker that dies is replaced, a lost place stops the sweep.
    faults = {"toy-1m-seed1@10": "missing", "toy-1m-seed1@20": "bug", "toy-1m-seed2@20": "dies once"}
    other = RunDirectory(tmp_path / "other")
    summary = run(Squares(faults=faults, marks=str(tmp_path)), grid(), other, executor=RayTasks())
    assert sorted(o.checkpoint.key for o in summary.failed) == ["toy-1m-seed1@10", "toy-1m-seed1@20"]
    assert summary.done == 8

    blocked = RunDirectory(tmp_path / "blocked")
    blocked.path.mkdir()
    (blocked.path / "heads").write_text("a file where the parts' folder should be")
    with pytest.raises(StorageError, match="heads"):
        run(Squares(), grid(), blocked, executor=RayTasks())
