"""A real Ray cluster of several nodes on this machine; one is lost in the middle."""

import os
import socket
import threading
import time

import pytest

from headway.errors import StorageError, UsageError
from headway.store.directory import RunDirectory
from headway.sweep import ray_tasks, run
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


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nowhere.invalid:6379", "::1:x"])
def test_an_address_of_nothing_is_refused_at_once(tmp_path, address):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # not listening: a connection is refused
        address = address.format(port=free.getsockname()[1])
        with pytest.raises(UsageError, match=r"no Ray cluster answers at .*Check --ray-address"):
            run(Squares(), grid(1, 2), RunDirectory(tmp_path / "out"), executor=RayTasks(address))


def test_a_server_that_is_no_ray_cluster_is_refused_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_tasks, "HEALTH_S", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(UsageError, match="something listens there, but it is no head node of Ray"):
            run(Squares(), grid(1, 2), RunDirectory(tmp_path / "out"), executor=RayTasks(address))


@pytest.mark.slow
def test_a_sweep_survives_the_loss_of_a_node(cluster, tmp_path):
    cluster, nodes = cluster
    directory = RunDirectory(tmp_path / "out")

    def lose_a_node():
        while len(directory.partitions("heads")) < 5:
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
