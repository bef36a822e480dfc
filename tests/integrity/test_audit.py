"""Audits of suites in which each defect is planted, one at a time, on a server and in folders."""

import gc
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Timer
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

import headway
from headway.errors import CheckpointError, StorageError
from headway.integrity import signatures as audit_signatures
from headway.integrity.audit import Audit, audit
from headway.integrity.files import MEANING
from headway.integrity.memory import flags
from headway.integrity.signatures import Signature, sign
from headway.progress import Silent
from headway.suites import Suite, open_suite
from hub_server import HubServer, Stated
from support_suites import CONFIG, TOKENIZER

STEPS = (0, 1, 2, 4, 8, 16, 32, 64)
RUNS = tuple(f"toy-1m-seed{seed}" for seed in (1, 2, 3))
MIB = 2**20


@pytest.fixture(autouse=True)
def no_memory_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "headway-cache"))


def stated(seed: int, step: int, n_bytes: int = MIB) -> dict[str, bytes | Path | Stated]:
    name = f"{seed:08d}{step:08d}"
    return {"config.json": CONFIG, "tokenizer.json": TOKENIZER, "model.safetensors": Stated(n_bytes, name * 4)}


def put(hub: HubServer, run: str, step: int, files: dict[str, bytes | Path | Stated] | None) -> None:
    if files is None:
        del hub.repos[f"someone/{run}"].revisions[f"step{step}"]
    else:
        hub.add(f"someone/{run}", f"step{step}", files)


@pytest.fixture
def suite(hub: HubServer) -> Suite:
    for seed, run in enumerate(RUNS, 1):
        for step in STEPS:
            put(hub, run, step, stated(seed, max(step, 1)))
    return open_suite("hf:" + ",".join(f"someone/{run}" for run in RUNS))


def warnings(found: Audit) -> set[tuple[str, str, tuple[int, ...]]]:
    assert {f.kind for f in found.findings} <= set(MEANING)
    return {(f.kind, f.run, f.steps) for f in found.findings if not f.note}


def test_a_sound_suite_is_sound_and_nothing_is_downloaded(hub: HubServer, suite: Suite) -> None:
    found = audit(suite)
    assert not warnings(found)
    assert [f.message for f in found.findings if f.run == RUNS[0]] == [
        "steps 0 and 1 have equal weights, as expected if the first step's learning rate is 0"
    ]
    assert found.table.height == 24
    assert found.table["findings"].null_count() == 24
    assert {asked.path.split("/")[1] for asked in hub.asked} == {"api"}


def test_final_weights_under_early_names(hub: HubServer, suite: Suite) -> None:
    for step in (0, 1, 4):
        put(hub, RUNS[0], step, stated(1, 64))
    found = audit(suite)
    assert warnings(found) == {("equal_weights", RUNS[0], (0, 1, 4))}
    assert "steps 0, 1 and 4 have the weights of the last step, 64" in found.findings[0].message
    assert found.table.filter(found.table["findings"] == "equal_weights")["step"].to_list() == [0, 1, 4]


def test_the_last_step_is_compared_with_even_if_it_was_not_selected(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[0], 4, stated(1, 64))
    found = audit(suite, "step=0..32")
    assert warnings(found) == {("equal_weights", RUNS[0], (4,))}
    assert found.table.filter(found.table["reference"]).select("run", "step").rows() == [(run, 64) for run in RUNS]
    assert found.to_json() | {"n_checkpoints": 21, "n_references": 3, "where": "step=0..32"} == found.to_json()
    assert {asked.path.split("/")[1] for asked in hub.asked} == {"api"}


def test_a_reference_decides_which_of_two_sizes_is_odd(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[0], 8, stated(1, 8, MIB // 3))
    assert warnings(audit(suite, "seed=1 step=8")) == {("odd_size", RUNS[0], (8,))}


def test_steps_beyond_the_selection_are_not_missed(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[2], 64, None)
    assert not warnings(audit(suite, "step=0..32"))


def test_equal_steps_in_the_middle(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[1], 8, stated(2, 4))
    assert warnings(audit(suite)) == {("equal_weights", RUNS[1], (4, 8))}


def test_weights_of_another_run(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[1], 8, stated(1, 8))
    found = audit(suite)
    assert warnings(found) == {("equal_weights", RUNS[0], (8,)), ("equal_weights", RUNS[1], (8,))}
    assert any(f"{RUNS[1]} has the weights of {RUNS[0]}" in f.message for f in found.findings)


def test_the_same_first_step_of_a_selection_is_not_the_start(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[1], 8, stated(1, 8))
    assert warnings(audit(suite, "step=8..")) == {("equal_weights", run, (8,)) for run in RUNS[:2]}


def test_runs_that_branch_off_one_other_are_a_note(hub: HubServer) -> None:
    for seed, run in enumerate(RUNS, 1):
        for step in (1000, 2000):
            put(hub, run, step, stated(0 if step == 1000 else seed, step))
    assert not warnings(audit(open_suite("hf:" + ",".join(f"someone/{run}" for run in RUNS))))


def test_runs_that_share_their_initialisation_are_a_note(hub: HubServer, suite: Suite) -> None:
    for step in (0, 1):
        put(hub, RUNS[1], step, stated(1, 1))
    found = audit(suite)
    assert not warnings(found)
    assert any(f"{RUNS[1]} begins with the weights of {RUNS[0]}" in f.message for f in found.findings)


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        (stated(1, 8, MIB // 2), "odd_size", "weights of 524,288 bytes, but the run's other steps have 1,048,576"),
        (stated(1, 8, 0), "odd_size", "model.safetensors is empty"),
        ({"config.json": CONFIG, "tokenizer.json": TOKENIZER}, "missing_files", "step 8: no weights"),
        ({**stated(1, 8), "config.json": None}, "missing_files", "no config.json"),
        (
            {"config.json": CONFIG, "model.safetensors.index.json": b"{}",
             **{f"model-0000{i}-of-00003.safetensors": Stated(MIB, f"{i}" * 64) for i in (1, 3)}},
            "missing_files", "no model-00002-of-00003.safetensors",
        ),
        ({"config.json": CONFIG, "model.safetensors.index.json": b"{}"}, "missing_files", "any shard"),
        (
            {"config.json": CONFIG, "pytorch_model-00001-of-00001.bin": Stated(MIB, "1" * 64)},
            "missing_files", "no pytorch_model.bin.index.json",
        ),
    ],
)  # fmt: skip
def test_missing_and_odd_files(hub: HubServer, suite: Suite, files: dict, kind: str, message: str) -> None:
    put(hub, RUNS[0], 8, {name: content for name, content in files.items() if content is not None})
    found = audit(suite)
    assert (kind, RUNS[0], (8,)) in warnings(found)
    assert message in " ".join(f.message for f in found.findings)


def test_headers_of_other_lengths_are_not_odd(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[0], 8, stated(1, 8, MIB + 40))
    assert not warnings(audit(suite))


def test_other_formats_and_absent_tokenizers_are_notes(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[0], 8, {"config.json": CONFIG, "pytorch_model.bin": Stated(MIB + 9000, "9" * 64)})
    found = audit(suite)
    assert not warnings(found)
    said = [f.message for f in found.findings if f.run == RUNS[0]]
    assert any("step 8 without a tokenizer" in message for message in said)
    assert any("step 8 as .bin" in message for message in said)


def test_odd_sizes_are_one_finding_and_another_precision_is_named(hub: HubServer, suite: Suite) -> None:
    for step in (2, 4):
        put(hub, RUNS[0], step, stated(1, step, MIB // 2))
    found = audit(suite)
    assert warnings(found) == {("odd_size", RUNS[0], (2, 4))}
    assert any(f.message.endswith("which suggests another precision") for f in found.findings)


def test_a_server_that_fails_makes_no_revision_missing(hub: HubServer, suite: Suite) -> None:
    hub.plant("503", "seed1/revision/step8", times=99)
    found = audit(suite)
    assert warnings(found) == {("unreadable", RUNS[0], (8,))}
    assert any("answers 503" in f.message for f in found.findings)


def test_absent_steps(hub: HubServer, suite: Suite) -> None:
    put(hub, RUNS[2], 16, None)
    assert warnings(audit(suite)) == {("absent_step", RUNS[2], (16,))}


def test_a_revision_that_the_grid_has_and_the_hub_has_not(hub: HubServer) -> None:
    for step in (0, 1, 2, 143000):
        hub.add("EleutherAI/pythia-14m", f"step{step}", stated(1, max(step, 1)))
    found = audit(open_suite("pythia"), "size=14m step=0..8")
    assert warnings(found) == {("missing_revision", "pythia-14m", (4, 8))}
    assert found.findings[0].message == "steps 4 and 8: the repository has no such revision"


def test_a_hub_that_is_away_is_no_finding(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    suite.checkpoints()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="does not answer"):
        audit(suite)


# --- with the weights -----------------------------------------------------------------------------------------------


class Opened:
    """A folder's tensors by name."""

    def __init__(self, folder: Path) -> None:
        try:
            self.file = safe_open(folder / "model.safetensors", framework="pt")
        except Exception as error:
            raise CheckpointError(str(error)) from error

    @property
    def names(self) -> list[str]:
        return list(self.file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.file.get_tensor(name)


def trained(seed: int, step: int) -> dict[str, torch.Tensor]:
    """A run that moves from a random start to a random end, a little noise on the way; its gains start at 1."""
    generator = torch.Generator().manual_seed(seed)
    start, end = (torch.randn(2, 61, 53, generator=generator) for _ in range(2))
    noise = torch.randn(2, 61, 53, generator=torch.Generator().manual_seed(1000 * seed + max(step, 1)))
    moved = np.log2(max(step, 1)) / np.log2(STEPS[-1])
    matrices = (1 - 0.8 * moved) * start + moved * end + (0.02 * noise if step > 1 else 0)
    return {"a.weight": matrices[0], "b.weight": matrices[1].bfloat16(), "norm.weight": torch.ones(53) + moved / 9}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, run in enumerate(RUNS, 1):
        for step in STEPS:
            write(tmp_path / "mine" / run / f"step{step}", trained(seed, step))
    return tmp_path / "mine"


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes(CONFIG)
    (folder / "tokenizer.json").write_bytes(TOKENIZER)
    (folder / "model.safetensors").write_bytes(save(tensors))


def deep(folder: Path) -> Audit:
    return audit(open_suite(folder), tensors=Opened, progress=Silent())


def test_a_sound_folder_is_sound(folder: Path) -> None:
    found = deep(folder)
    assert not warnings(found)
    assert {f.message[:37] for f in found.findings} == {"steps 0 and 1 have equal weights, as "}


@pytest.mark.parametrize("step", [0, 2, 16])
def test_a_step_with_nearly_the_last_weights(folder: Path, step: int) -> None:
    write(folder / RUNS[0] / f"step{step}", nearly(trained(1, 64)))
    found = warnings(deep(folder))
    assert ("out_of_place", RUNS[0], (step,)) in found
    assert {(kind, run) for kind, run, _ in found} <= {("out_of_place", RUNS[0]), ("not_from_own_start", RUNS[0])}


def test_a_block_of_late_weights(folder: Path) -> None:
    for i, step in enumerate((2, 4, 8)):
        late = trained(1, 64)
        late["a.weight"] = late["a.weight"] + (i + 1) * 1e-2
        write(folder / RUNS[0] / f"step{step}", late)
    found = warnings(deep(folder))
    assert {("out_of_place", RUNS[0], (step,)) for step in (2, 4, 8)} <= found


def test_nan_is_found_in_any_tensor(folder: Path) -> None:
    broken = trained(2, 8)
    broken["norm.weight"][7] = float("nan")
    write(folder / RUNS[1] / "step8", broken)
    found = deep(folder)
    assert warnings(found) == {("not_finite", RUNS[1], (8,))}
    assert any("step 8: NaN or infinities in norm.weight" in f.message for f in found.findings)


def test_a_run_that_went_on_from_another_start(folder: Path) -> None:
    for step in STEPS[1:]:
        tensors = trained(3, step)
        tensors["norm.weight"] += 1  # so that no file equals one of the other run
        write(folder / RUNS[0] / f"step{step}", tensors)
    # The last step has forgotten more of its start than two matrices' signatures can tell from chance.
    assert warnings(deep(folder)) == {("not_from_own_start", RUNS[0], STEPS[1:-1])}


def test_a_step_0_that_is_nobodys(folder: Path) -> None:
    write(folder / RUNS[0] / "step0", trained(77, 0))
    assert ("not_from_own_start", RUNS[0], (1,)) in warnings(deep(folder))


def test_a_late_step_may_have_forgotten_its_start(folder: Path) -> None:
    for step in STEPS[1:-1]:
        shutil.rmtree(folder / RUNS[0] / f"step{step}")
    late = trained(1, 64)
    for name in ("a.weight", "b.weight"):
        late[name] = torch.randn(61, 53, generator=torch.Generator().manual_seed(ord(name[0]))).to(late[name].dtype)
    write(folder / RUNS[0] / "step64", late)
    assert not {found for found in warnings(deep(folder)) if found[0] != "absent_step"}


def test_a_run_that_wavers_about_its_end_is_sound(tmp_path: Path) -> None:
    # Its neighbours are sqrt(2) times as far from each other as from the end, which is their mean.
    centre, *around = torch.randn(20, 61, 53, generator=torch.Generator().manual_seed(5))
    for step, noise in enumerate(around, 1):
        write(tmp_path / "mine" / RUNS[0] / f"step{step}", {"a.weight": centre + 0.3 * noise})
    write(tmp_path / "mine" / RUNS[0] / "step20", {"a.weight": centre})
    assert not warnings(deep(tmp_path / "mine"))


def test_equal_weights_in_other_files(folder: Path) -> None:
    write(folder / RUNS[0] / "step32", {**trained(1, 2), "norm.weight": torch.ones(53)})
    found = deep(folder)
    assert warnings(found) == {("equal_weights", RUNS[0], (2, 32))}
    assert any("steps 2 and 32 have equal weights in every matrix, though their files differ: at most" in f.message
               for f in found.findings)  # fmt: skip


def test_too_few_steps_say_nothing(folder: Path) -> None:
    for run in RUNS:
        for step in STEPS[1:-1]:
            shutil.rmtree(folder / run / f"step{step}")
    assert not deep(folder).findings


def nearly(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same but for an offset that no hash forgives."""
    return {**tensors, "a.weight": tensors["a.weight"] + 1e-3}


ODD = {
    "also has more.weight (2 × 2)": lambda sound: {**sound, "more.weight": torch.ones(2, 2)},
    "lacks norm.weight": lambda sound: {name: sound[name] for name in ("a.weight", "b.weight")},
    "has in another shape b.weight (53 × 61 instead of 61 × 53)": (
        lambda sound: {**sound, "b.weight": sound["b.weight"].T.contiguous()}
    ),
}


@pytest.mark.parametrize("said", ODD)
def test_an_odd_shape_is_found_and_hides_nothing(folder: Path, said: str) -> None:
    for step in (2, 16):
        write(folder / RUNS[0] / f"step{step}", nearly(trained(1, 64)))
    write(folder / RUNS[0] / "step8", ODD[said](trained(1, 8)))
    found = deep(folder)
    assert warnings(found) >= {
        ("odd_shape", RUNS[0], (8,)), ("out_of_place", RUNS[0], (2,)), ("out_of_place", RUNS[0], (16,)),
    }  # fmt: skip
    assert ("out_of_place", RUNS[0], (8,)) not in warnings(found)
    assert any(said in f.message for f in found.findings if f.kind == "odd_shape")


def test_masks_that_some_files_store_are_no_odd_shape(folder: Path) -> None:
    buffers = {"h.0.attn.bias": torch.ones(5, 5), "h.0.rotary_emb.inv_freq": torch.ones(7)}
    write(folder / RUNS[0] / "step8", {**trained(1, 8), **buffers})
    assert not {found for found in warnings(deep(folder)) if found[0] == "odd_shape"}


def test_damaged_weights_are_a_finding_and_the_others_are_audited(folder: Path) -> None:
    path = folder / RUNS[0] / "step8" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2000])
    found = warnings(deep(folder))
    assert found == {("odd_size", RUNS[0], (8,)), ("unreadable", RUNS[0], (8,))}


# --- many checkpoints -----------------------------------------------------------------------------------------------


class Counted(Opened):
    """Notes which folders were opened, and at each how many signatures were held."""

    opened: ClassVar[list[str]] = []
    held: ClassVar[list[int]] = []

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.opened.append(f"{folder.parent.name}/{folder.name}")
        self.held.append(sum(type(thing) is Signature for thing in gc.get_objects()))


@pytest.fixture
def counted() -> Iterator[type[Counted]]:
    yield Counted
    Counted.opened.clear()
    Counted.held.clear()


def test_audited_files_are_not_read_again(folder: Path, counted: type[Counted]) -> None:
    suite = open_suite(folder)
    first = audit(suite, "seed=1,2", tensors=counted)
    assert len(counted.opened) == 16 - 2, "steps 0 and 1 of a run are the same weights"
    counted.opened.clear()
    assert audit(suite, "seed=1,2", tensors=counted).findings == first.findings
    assert not counted.opened
    write(folder / RUNS[0] / "step4", trained(77, 4))
    audit(suite, tensors=counted)
    assert set(counted.opened) == {f"{RUNS[0]}/step4"} | {f"{RUNS[2]}/step{step}" for step in STEPS if step != 1}


def test_an_audit_that_was_stopped_goes_on(folder: Path, counted: type[Counted]) -> None:
    class Stopped(Exception):
        pass

    stopped = Event()

    class Waits(counted):
        """Reads nothing after the first steps of the second run before the audit was stopped."""

        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            if folder.parent.name == RUNS[1] and int(folder.name.removeprefix("step")) > 2:
                stopped.wait(20)

    class Stops(Silent):
        def advance(self, n: int = 1, note: str = "") -> None:
            if note == f"{RUNS[1]}@2" and f"{RUNS[0]}/step64" in counted.opened:
                Timer(0.3, stopped.set).start()
                raise Stopped

    with pytest.raises(Stopped):
        audit(open_suite(folder), tensors=Waits, progress=Stops())
    before = set(counted.opened)
    counted.opened.clear()
    audit(open_suite(folder), tensors=counted)
    assert f"{RUNS[0]}/step64" in before
    assert f"{RUNS[1]}/step64" not in before, "what is only queued is not read before the audit ends"
    assert not before & set(counted.opened)
    assert len(before) + len(counted.opened) == 3 * 7


def test_one_run_is_held_at_a_time(folder: Path, counted: type[Counted]) -> None:
    deep_audit = audit(open_suite(folder), tensors=counted)
    assert len(counted.held) == 3 * 7
    # A run's own, each run's first, and two that are being read.
    assert max(counted.held) <= len(STEPS) + len(RUNS) + 2
    assert deep_audit.table.height == 24


def test_a_damaged_signature_is_made_again(folder: Path, counted: type[Counted], tmp_path: Path) -> None:
    found = audit(open_suite(folder), tensors=counted)
    kept = sorted((tmp_path / "headway-cache" / "audits" / "signatures").iterdir())
    assert len(kept) == 3 * 7
    kept[0].write_bytes(kept[0].read_bytes()[:-3])
    kept[1].write_bytes(b"")
    counted.opened.clear()
    assert audit(open_suite(folder), tensors=counted).findings == found.findings
    assert len(counted.opened) == 2


class InMemory(dict[str, torch.Tensor]):
    @property
    def names(self) -> list[str]:
        return list(self)


def test_a_signature_is_small_and_its_distances_are_those_of_the_weights() -> None:
    weights = np.random.default_rng(3).normal(size=(2, 20, 211, 307))
    weights[1] += 0.7 * weights[0]
    signed = [
        sign(InMemory({str(i): torch.from_numpy(matrix).float() for i, matrix in enumerate(side)})) for side in weights
    ]
    assert all(direction.size == 256 for direction in signed[0].directions.values())
    directions = weights / np.linalg.norm(weights, axis=(2, 3), keepdims=True)
    true = np.sqrt(np.mean(np.sum((directions[0] - directions[1]) ** 2, axis=(1, 2))))
    # 4 % for each of 20 matrices: 1 % for their mean, of which four times is allowed.
    assert signed[0].distance(signed[1]) == pytest.approx(true, rel=0.04)
    # A cosine of n entries has an error of at most 1 / sqrt(n), here of 20 * 256.
    assert signed[0].likeness(signed[1]) == pytest.approx(np.sum(directions[0] * directions[1]) / 20, abs=4 / 71)


def test_the_sampled_entries_lie_in_all_columns() -> None:
    # At equal strides they would all lie in the first column.
    columns = torch.arange(512.0).repeat(512, 1)
    assert len(np.unique(sign(InMemory(a=columns + 1)).directions["a"])) > 200


class Breaks(Opened):
    """Damage that shows only while tensors are read, as an error of the library's own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.broken = (folder.parent.name, folder.name) in {(RUNS[0], "step0"), (RUNS[1], "step8")}

    def __getitem__(self, name: str) -> torch.Tensor:
        if self.broken:
            raise RuntimeError("a storage is not what it should be")
        return super().__getitem__(name)


def test_no_error_of_a_library_ends_an_audit(folder: Path) -> None:
    write(folder / RUNS[2] / "step4", nearly(trained(3, 64)))
    found = audit(open_suite(folder), tensors=Breaks)
    assert warnings(found) == {
        ("unreadable", RUNS[0], (0,)), ("unreadable", RUNS[1], (8,)), ("out_of_place", RUNS[2], (4,)),
    }  # fmt: skip
    assert any("step 8: RuntimeError: a storage is not" in f.message for f in found.findings)


# --- with the weights, from the Hub ---------------------------------------------------------------------------------


@pytest.fixture
def served(hub: HubServer, folder: Path) -> str:
    """The folder's runs on the server; one step has nearly the last weights."""
    write(folder / RUNS[0] / "step4", nearly(trained(1, 64)))
    for run in RUNS:
        for step in STEPS:
            hub.add_folder(f"someone/{run}", f"step{step}", folder / run / f"step{step}")
    return "hf:" + ",".join(f"someone/{run}" for run in RUNS)


def test_weights_from_the_hub_are_read_once_and_do_not_stay(hub: HubServer, served: str, tmp_path: Path) -> None:
    found = headway.audit(served, deep=True, keep_files=False)
    assert warnings(found) == {("out_of_place", RUNS[0], (4,))}
    assert hub.sent("model.safetensors") == 3 * 7
    assert not list((tmp_path / "hub-cache").rglob("*.safetensors"))
    headway.audit(served, deep=True, keep_files=False, where="step=0..32")
    assert hub.sent("model.safetensors") == 3 * 7


def test_a_file_that_the_hub_does_not_send_ends_no_audit(hub: HubServer, served: str) -> None:
    commits = [hub.repos[f"someone/{RUNS[1]}"].revisions[f"step{step}"] for step in (8, 32)]
    hub.plant("wrong_bytes", f"{commits[0]}/someone/{RUNS[1]}/model.safetensors", times=99)
    hub.plant("timeout", f"{commits[1]}/someone/{RUNS[1]}/model.safetensors", times=99)
    found = headway.audit(served, deep=True)
    assert warnings(found) == {("out_of_place", RUNS[0], (4,)), ("unreadable", RUNS[1], (8,))}
    (note,) = [f for f in found.findings if f.kind == "not_read"]
    assert (note.run, note.steps, note.note) == (RUNS[1], (32,), True)
    hub.faults.clear()
    assert warnings(headway.audit(served, deep=True)) == {("out_of_place", RUNS[0], (4,))}


def test_no_room_for_the_weights_ends_the_audit(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise StorageError(f"{path} cannot be written: No space left on device")

    monkeypatch.setattr(audit_signatures, "write_whole", full)
    with pytest.raises(StorageError):
        headway.audit(served, deep=True)


# --- kept, and warned of --------------------------------------------------------------------------------------------


def test_flags_are_remembered_until_the_next_audit(hub: HubServer, suite: Suite) -> None:
    (early,) = suite.checkpoints("seed=1 step=4")
    (sound,) = suite.checkpoints("seed=2 step=4")
    assert flags(early) == ()
    right = stated(1, 4)
    put(hub, RUNS[0], 4, stated(1, 64))
    put(hub, RUNS[0], 8, stated(1, 64, 5))
    audit(suite).remember()
    assert any("weights of the last step, 64" in said for said in flags(early))
    assert flags(sound) == ()
    put(hub, RUNS[0], 4, right)
    audit(suite, "step=4").remember()
    assert flags(early) == ()
    assert flags(suite.checkpoints("seed=1 step=8")[0]), "an audit of step 4 forgets nothing of step 8"


def test_a_shallower_or_narrower_audit_refutes_nothing(folder: Path) -> None:
    write(folder / RUNS[0] / "step4", nearly(trained(1, 64)))
    write(folder / RUNS[0] / "step16", trained(1, 8))
    near_the_end, twice = open_suite(folder).checkpoints("seed=1 step=4,16")
    deep(folder).remember()
    said = flags(near_the_end), flags(twice)
    assert all(said)
    audit(open_suite(folder)).remember()
    audit(open_suite(folder), "step=4,16", tensors=Opened).remember()
    assert (flags(near_the_end), flags(twice)) == said
    write(folder / RUNS[0] / "step8", trained(1, 7))
    audit(open_suite(folder)).remember()
    assert not any("equal weights" in words for words in flags(twice))
    assert flags(near_the_end) == said[0], "hashes alone do not say where weights lie"
    write(folder / RUNS[0] / "step4", trained(1, 4))
    audit(open_suite(folder), "step=4").remember()
    assert not flags(near_the_end), "it was said of other weights"


def test_a_memory_that_cannot_be_read_is_none(suite: Suite, hub: HubServer, tmp_path: Path) -> None:
    put(hub, RUNS[0], 4, stated(1, 64))
    audit(suite).remember()
    (early,) = suite.checkpoints("seed=1 step=4")
    assert flags(early)
    for content in ("{", "[]", '{"flags": {"4": ["old"]}}', '{"flags": {"4": [{"text": 1}]}}'):
        for path in (tmp_path / "headway-cache" / "audits").glob("*.json"):
            path.write_text(content)
        assert flags(early) == ()


def test_notes_are_no_flags(suite: Suite) -> None:
    found = audit(suite)
    found.remember()
    assert found.findings
    assert not any(flags(checkpoint) for checkpoint in suite.checkpoints())


def test_an_audit_is_saved(suite: Suite, hub: HubServer, tmp_path: Path) -> None:
    put(hub, RUNS[0], 4, stated(1, 64))
    audit(suite).save(tmp_path / "run")
    said = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert said["n_checkpoints"] == 24
    assert said["n_flagged"] == 1
    assert {"kind": "equal_weights", "run": RUNS[0], "steps": [4], "note": False}.items() <= said["findings"][1].items()
    assert (tmp_path / "run" / "audit.parquet").stat().st_size > 0


# --- a part of the weights of another step --------------------------------------------------------------------------


def in_shards(seed: int, *steps: int) -> dict[str, bytes | Path | Stated]:
    """Weights in three files, each of the step named."""
    n = len(steps)
    shards = {
        f"model-{i:05d}-of-{n:05d}.safetensors": Stated(MIB, f"{i:04d}{seed:04d}{step:08d}" * 4)
        for i, step in enumerate(steps, 1)
    }
    return {"config.json": CONFIG, "tokenizer.json": TOKENIZER, "model.safetensors.index.json": b"{}"} | shards


@pytest.fixture
def sharded(hub: HubServer) -> Suite:
    for seed, run in enumerate(RUNS, 1):
        for step in STEPS:
            put(hub, run, step, in_shards(seed, *[max(step, 1)] * 3))
    return open_suite("hf:" + ",".join(f"someone/{run}" for run in RUNS))


def test_sound_shards_are_sound(sharded: Suite) -> None:
    assert not warnings(audit(sharded))


@pytest.mark.parametrize(("later", "steps"), [(64, (4,)), (16, (4, 16))])
def test_a_shard_of_a_later_step(hub: HubServer, sharded: Suite, later: int, steps: tuple[int, ...]) -> None:
    put(hub, RUNS[0], 4, in_shards(1, 4, later, 4))
    found = audit(sharded)
    assert warnings(found) == {("equal_shard", RUNS[0], steps)}
    (finding,) = [f for f in found.findings if f.kind == "equal_shard"]
    assert finding.message.startswith(
        f"model-00002-of-00003.safetensors of steps 4 and {later} is the same file, although other files"
    )
    assert {asked.path.split("/")[1] for asked in hub.asked} == {"api"}, "nothing is downloaded"


def with_layers(seed: int, step: int, layers: int = 6) -> dict[str, torch.Tensor]:
    return {
        f"model.layers.{layer}.{name}": tensor
        for layer in range(layers)
        for name, tensor in trained(100 * seed + layer, step).items()
    }


@pytest.fixture
def deep_folder(tmp_path: Path) -> Path:
    for seed, run in enumerate(RUNS[:2], 1):
        for step in STEPS:
            write(tmp_path / "layered" / run / f"step{step}", with_layers(seed, step))
    return tmp_path / "layered"


def test_sound_layers_are_sound(deep_folder: Path) -> None:
    assert not warnings(deep(deep_folder))


@pytest.mark.parametrize(("later", "steps"), [(64, (4,)), (16, (4, 16))])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_layers_of_a_later_step(deep_folder: Path, later: int, steps: tuple[int, ...], n_layers: int) -> None:
    mixed, other = with_layers(1, 4), with_layers(1, later)
    names = [name for name in mixed if int(name.split(".")[2]) in range(2, 2 + n_layers)]
    write(deep_folder / RUNS[0] / "step4", mixed | {name: other[name] for name in names})
    found = deep(deep_folder)
    assert warnings(found) == {("out_of_place", RUNS[0], steps)}
    (finding,) = [f for f in found.findings if f.kind == "out_of_place"]
    assert finding.message.startswith("model.layers.2")
    assert f"of step 4 match{'es' if n_layers == 1 else ''} step {later}" in finding.message


# --- equal weights that hashes do not show, and ties ----------------------------------------------------------------


@pytest.mark.parametrize("zeros", [False, True])
def test_equal_weights_in_other_files_of_another_run(folder: Path, zeros: bool) -> None:
    tensors = trained(1, 8)
    tensors["a.weight"][:3] = 0.0
    write(folder / RUNS[0] / "step8", tensors)
    if zeros:
        tensors["a.weight"][:3] = -0.0
    target = folder / RUNS[1] / "step8"
    write(target, tensors)
    (target / "model.safetensors").write_bytes(save(tensors, metadata={"saved": "again"}))
    found = deep(folder)
    assert {("equal_weights", RUNS[0], (8,)), ("equal_weights", RUNS[1], (8,))} <= warnings(found)
    assert any(
        f.message == f"step 8: {RUNS[0]} has the weights of {RUNS[1]}, though their files differ"
        for f in found.findings
    )


def test_if_two_steps_have_different_tensors_neither_is_called_right(tmp_path: Path) -> None:
    for step in (0, 8):
        write(
            tmp_path / "two" / RUNS[0] / f"step{step}",
            trained(1, step) | ({"c.weight": torch.ones(3, 2)} if step else {}),
        )
    found = deep(tmp_path / "two")
    assert ("odd_shape", RUNS[0], (0, 8)) in warnings(found)
    assert any("it is not known which are right" in f.message for f in found.findings)


# --- settings -------------------------------------------------------------------------------------------------------


def config(**settings: object) -> bytes:
    return json.dumps({"model_type": "gpt_neox", "rope_theta": 1e4, "transformers_version": "5.0"} | settings).encode()


def with_config(hub: HubServer, step: int, content: bytes, name: str = "config.json") -> None:
    put(hub, RUNS[0], step, stated(1, max(step, 1)) | {name: content})


def test_settings_that_differ_between_steps(hub: HubServer, suite: Suite) -> None:
    for step in STEPS:
        with_config(hub, step, config(rope_theta=5e5 if step in (2, 4) else 1e4, transformers_version=f"4.{step}"))
    found = audit(suite)
    assert warnings(found) == {("other_settings", RUNS[0], (2, 4))}
    assert any(
        f.message == "steps 2 and 4: rope_theta is 500000.0, but 10000.0 at the run's other steps"
        for f in found.findings
    )


def test_other_words_of_the_same_config_are_no_finding(hub: HubServer, suite: Suite) -> None:
    for step in STEPS:
        with_config(hub, step, config(transformers_version=f"4.{step}", torch_dtype="float16" if step else "bfloat16"))
    assert not warnings(audit(suite))


def test_another_tokenizer(hub: HubServer, suite: Suite) -> None:
    with_config(hub, 8, b'{"version": "2.0"}', "tokenizer.json")
    found = audit(suite)
    assert warnings(found) == {("other_settings", RUNS[0], (8,))}
    assert any(f.message == "step 8: tokenizer.json differs from the run's other steps" for f in found.findings)


def test_settings_in_folders(folder: Path) -> None:
    (folder / RUNS[0] / "step8" / "config.json").write_bytes(CONFIG.replace(b"}", b', "rope_theta": 3}'))
    (folder / RUNS[1] / "step8" / "tokenizer.json").write_bytes(b"{}")
    found = warnings(audit(open_suite(folder)))
    assert found == {("other_settings", RUNS[0], (8,)), ("other_settings", RUNS[1], (8,))}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder: Path, name: str) -> None:
    path = folder / RUNS[0] / "step8" / name
    path.unlink()
    os.mkfifo(path)
    for found in (audit(open_suite(folder)), deep(folder)):
        assert {finding.steps for finding in found.findings if finding.run == RUNS[0] and not finding.note} == {(8,)}
