"""A whole `measure` sweep over a network at fault: all its parts are whole, and those of a faultless one."""

import pytest
from polars.testing import assert_frame_equal

from headway import api, sweep
from headway.store.directory import RunDirectory
from hub_server import HubServer
from support_models import saved_suite

pytestmark = pytest.mark.slow
STEPS = 6
RUN = "toy-1m-seed1"


@pytest.mark.parametrize("keep_files", [True, False])
def test_a_sweep_over_a_network_at_fault(hub: HubServer, tmp_path, monkeypatch, keep_files: bool) -> None:
    saved_suite(tmp_path, STEPS)
    run = tmp_path / "suite" / RUN
    for step in range(STEPS):
        hub.add_folder(f"someone/{RUN}", f"step{step}", run / f"step{step}")
    hub.add("someone/toy-1m-seed1", "main", {"tokenizer.json": run / "tokenizer.json"})

    def measured(out: str) -> RunDirectory:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / f"cache of {out}"))
        summary = api.measure(
            f"hf:someone/{RUN}",
            corpus=str(tmp_path / "texts.txt"),
            where="step=0..5",
            out=tmp_path / out,
            loss=True,
            keep_files=keep_files,
        )
        assert (summary.done, summary.failed) == (STEPS, [])
        return RunDirectory(tmp_path / out)

    faultless = measured("faultless")
    for kind in ("timeout", "429", "503", "reset", "cut", "truncated", "wrong_bytes"):
        hub.plant(kind, "model.safetensors")
    for kind in ("timeout", "429", "503"):
        hub.plant(kind, "/api/models/")
    for kind in ("503", "reset", "truncated", "wrong_bytes"):
        hub.plant(kind, "tokenizer.json")
    at_fault = measured("at fault")
    assert [fault for fault in hub.faults if fault.times] == []
    assert [state.damaged for state in sweep.status(at_fault, verify=True)] == [{}, {}]
    for table in ("heads", "abilities"):
        assert_frame_equal(at_fault.read(table), faultless.read(table), check_exact=True)
