"""Calls that several processes share are all made, whatever happens to a process or to a call."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from headway.errors import StatisticsError
from headway.sweep import Processes


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Workers that import nothing ahead: these calls need neither torch nor transformers."""
    monkeypatch.setattr("headway.sweep.executors._HEAVY", ())


def here(answer):
    return answer, os.getpid()


def together(folder, n, answer):
    """Waits until `n` processes are at work."""
    (Path(folder) / str(os.getpid())).touch()
    end = time.monotonic() + 120
    while len(list(Path(folder).iterdir())) < n and time.monotonic() < end:
        time.sleep(0.01)
    return here(answer)


def refused(number):
    raise StatisticsError(f"call {number} cannot be done")


def noted(folder, number):
    time.sleep(0.05)
    (Path(folder) / str(number)).touch()


def unless_elsewhere(home):
    """Kills every process but `home`."""
    if os.getpid() != home:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return os.getpid()


def test_answers_come_in_the_order_of_the_calls_from_this_process_and_others(tmp_path):
    told = []
    with Processes(3) as processes:
        found = processes.share(
            [partial(together, tmp_path, 3, number) for number in range(12)], lambda number, _: told.append(number)
        )
    assert [answer for answer, _ in found] == list(range(12))
    assert len({pid for _, pid in found}) == 3
    assert os.getpid() in {pid for _, pid in found}
    assert sorted(told) == list(range(12))


def test_workers_are_hired_if_the_work_takes_long(tmp_path):
    found = Processes(2).share([partial(together, tmp_path, 2, number) for number in range(6)], lambda *_: None)
    assert len({pid for _, pid in found}) == 2


def test_no_worker_is_hired_for_quick_calls(monkeypatch):
    monkeypatch.setattr(Processes, "_hire", lambda *_: pytest.fail("a worker was hired"))
    calls = [partial(here, number) for number in range(5)]
    assert Processes(2).share(calls, lambda *_: None) == [(number, os.getpid()) for number in range(5)]


def test_the_first_error_is_raised_and_nothing_is_begun_after_it(tmp_path):
    with Processes(2) as processes:
        calls = [partial(noted, tmp_path, 0), partial(refused, 1), *(partial(noted, tmp_path, n) for n in range(2, 50))]
        with pytest.raises(StatisticsError, match="call 1 cannot be done"):
            processes.share(calls, lambda *_: None)
        there = {int(path.name) for path in tmp_path.iterdir()}
        assert 0 in there
        assert len(there) < 10
        assert len(processes.share([partial(here, 0)] * 4, lambda *_: None)) == 4  # they can go on


def test_an_answer_that_cannot_be_sent_is_an_error_and_not_a_wait():
    with Processes(1) as processes, pytest.raises(RuntimeError, match="cannot be sent"):
        processes.ask(threading.Lock)


def test_what_a_worker_died_of_is_done_here():
    with Processes(3) as processes:
        assert processes.share([partial(unless_elsewhere, os.getpid())] * 6, lambda *_: None) == [os.getpid()] * 6
