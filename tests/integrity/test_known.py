"""Public reports of wrong checkpoints: each is planted as it was reported, found, and withdrawn when it is repaired."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from headway import api, cli
from headway.integrity.audit import Audit, audit
from headway.integrity.files import MEANING
from headway.integrity.known import CONFIRMED, UNCHECKED, WITHDRAWN, of_suite, reports, standing
from headway.models.tensors import TensorFiles
from headway.suites import known_suites, open_suite
from headway.suites.registry import PYTHIA_STEPS
from hub_server import HubServer, Stated
from support_suites import CONFIG, TOKENIZER, shard_index

PYTHIA = "https://github.com/EleutherAI/pythia/issues/"
SMALL = {"config.json": CONFIG, "tokenizer.json": TOKENIZER}
BLOOM = (1000, 10_000, 100_000, 200_000, 250_000, 300_000, 500_000, 600_000)


@pytest.fixture(autouse=True)
def no_memory_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADWAY_CACHE", str(tmp_path / "headway-cache"))


def blob(name: str) -> Stated:
    return Stated(2**20, name.encode().hex().ljust(64, "0")[:64])


def one_file(content: str) -> dict[str, bytes | Stated]:
    return {**SMALL, "model.safetensors": blob(content)}


def shards(*contents: str, stem: str = "pytorch_model", ending: str = "bin") -> dict[str, bytes | Stated]:
    names = [f"{stem}-{i:05d}-of-{len(contents):05d}.{ending}" for i in range(1, len(contents) + 1)]
    index = {f"{stem}.{ending}.index.json": next(iter(shard_index(*names).values()))}
    return {**SMALL, **index, **dict(zip(names, map(blob, contents), strict=True))}


def pythia(hub: HubServer, size: str, content: Callable[[int], dict[str, bytes | Stated] | None]) -> Audit:
    """An audit of the run of `size` whose steps have the content."""
    for step in PYTHIA_STEPS:
        files = content(step)
        if files is not None:
            hub.add(f"EleutherAI/pythia-{size}", f"step{step}", files)
    where, seed = size.partition("-")[::2]
    suite = "polypythias" if seed else "pythia"
    return audit(open_suite(suite), f"size={where} seed={seed.removeprefix('seed') or '1234'}")


def said(found: Audit, number: str, status: str) -> list[tuple[int, ...]]:
    """Steps of the verdicts with this status about the issue."""
    return [one.steps for one in found.verdicts if one.report.reported.endswith(number) and one.status == status]


def unlike(step: int) -> str:
    """A name of weights that only steps 0 and 1 share, as they should."""
    return f"step {max(step, 1)}"


def test_the_reports_are_about_known_suites() -> None:
    names = {info.name for info in known_suites()}
    for report in reports():
        assert set(report.suites) <= names
        assert set(report.kinds) <= set(MEANING)
        assert report.reported.startswith("https://")
        assert all(low <= high for low, high in report.steps)
    assert len({report.name for report in reports()}) == len(reports())
    cited = {report.reported.rpartition("/")[2] for report in reports()}
    assert {"195", "198", "202", "203", "205", "206", "915", "3"} <= cited


def test_205_and_195_and_198_are_found_in_pythia_2_8b(hub: HubServer) -> None:
    final = {*(s for s in PYTHIA_STEPS if s <= 53_000), 55_000, 60_000, 65_000, 70_000, 80_000, 90_000, 100_000,
             103_000, 110_000, 120_000, 130_000, 140_000}  # fmt: skip
    end = {54_000, *range(56_000, 60_000, 1000), *range(61_000, 65_000, 1000), 143_000}
    assert (len(final), len(end)) == (76, 10), "as the report counts them"
    found = pythia(hub, "2.8b", lambda s: one_file("main" if s in final else "end" if s in end else unlike(s)))
    assert said(found, "205", CONFIRMED) == [tuple(sorted(final)), tuple(sorted(end))]
    assert said(found, "195", CONFIRMED) == [tuple(s for s in PYTHIA_STEPS if s <= 6300)]
    assert said(found, "198", CONFIRMED) == [(0, 2)]
    # The plain audit finds the same without the reports.
    flagged = {step for one in found.findings if one.kind == "equal_weights" and not one.note for step in one.steps}
    assert flagged == (final | end) - {143_000}


def test_206_is_found_in_pythia_12b(hub: HubServer) -> None:
    def files(step: int) -> dict[str, bytes | Stated]:
        first = "end" if step in (50_000, 58_000, 143_000) else unlike(step)
        return shards(first, f"b{unlike(step)}", f"c{unlike(step)}")

    found = pythia(hub, "12b", files)
    assert said(found, "206", CONFIRMED) == [(50_000, 58_000)]
    assert said(found, "198", WITHDRAWN) == [()]


@pytest.mark.parametrize(("seed", "missing"), [(9, 40_000), (6, 88_000), (2, 111_000)])
@pytest.mark.parametrize("how", ["weights", "revision"])
def test_202_is_found_in_pythia_410m(hub: HubServer, seed: int, missing: int, how: str) -> None:
    lacking = SMALL if how == "weights" else None
    found = pythia(hub, f"410m-seed{seed}", lambda s: lacking if s == missing else one_file(unlike(s)))
    assert said(found, "202", CONFIRMED) == [(missing,)]


def test_915_is_found_in_olmo_2(hub: HubServer) -> None:
    wrong = {101_000: 424, 175_000: 735, 300_000: 1259}
    right = {102_000: 428, 130_000: 546, 301_000: 1263}
    for step, tokens in (wrong | right).items():
        contents = [f"{i}{'same' if step in wrong else step}" for i in range(6)]
        hub.add("allenai/OLMo-2-1124-7B", f"stage1-step{step}-tokens{tokens}B",
                shards(*contents, stem="model", ending="safetensors"))  # fmt: skip
    found = audit(open_suite("olmo2"), "size=7b")
    assert said(found, "915", CONFIRMED) == [tuple(wrong)]


def test_steps_of_bloom_that_are_the_same_model(hub: HubServer) -> None:
    pairs = {"7b1": [(100_000, 200_000)], "560m": [(10_000, 500_000)], "1b7": [(1000, 10_000), (250_000, 300_000)]}
    for size, same in pairs.items():
        for step in BLOOM:
            first = next((low for low, high in same if step == high), step)
            hub.add(f"bigscience/bloom-{size}-intermediate", f"global_step{step}", one_file(f"{size}{first}"))
    found = audit(open_suite("bloom"), "size=7b1,560m,1b7")
    assert {(one.run, one.steps) for one in found.verdicts} == {
        (f"bloom-{size}-intermediate", pair) for size, same in pairs.items() for pair in same
    }
    assert {one.status for one in found.verdicts} == {CONFIRMED}


# --- 203 needs the weights ------------------------------------------------------------------------------------------

STEPS = (0, 1, 2, 4, 16, 64, 256, 1000, 143_000)
RUNS = ("data-seed1", "data-seed2", "weight-seed1", "weight-seed2")


def weights(start: np.ndarray, step: int, seed: int) -> bytes:
    """Weights that leave their start slowly: after the last step they are half of it, and half of something else."""
    own = np.random.default_rng(1000 + seed).normal(size=start.shape)
    share = np.sqrt(step / 143_000) / 2
    matrix = ((1 - share) * start + share * own).astype(np.float32)
    return save({f"layers.{i}.weight": part for i, part in enumerate(np.array_split(matrix, 8))})


def put_decoupled(hub: HubServer, sound: bool) -> None:
    """The four runs of 160m. Unless they are sound, all steps but step 0 go on from the start of data-seed1."""
    starts = {run: np.random.default_rng(i).normal(size=(256, 64)) for i, run in enumerate(RUNS)}
    starts["data-seed2"] = starts["data-seed1"]  # data-seed varies only the data
    for i, run in enumerate(RUNS):
        for step in STEPS:
            start = starts[run if sound or step == 0 else "data-seed1"]
            content = weights(start, 0 if step == 1 else step, i)
            hub.add(f"EleutherAI/pythia-160m-{run}", f"step{step}", {**SMALL, "model.safetensors": content})


def decoupled(deep: bool) -> Audit:
    where = f"size=160m seed={','.join(RUNS)} step={','.join(map(str, STEPS))}"
    return audit(open_suite("polypythias"), where, tensors=TensorFiles if deep else None)


def test_203_is_found_by_a_deep_audit(hub: HubServer) -> None:
    put_decoupled(hub, sound=False)
    found = decoupled(deep=True)
    confirmed = {one.run: one.steps for one in found.verdicts if one.report.reported == f"{PYTHIA}203"}
    assert confirmed.keys() == {"pythia-160m-weight-seed1", "pythia-160m-weight-seed2"}
    assert all(set(steps) >= {4, 16, 64, 256} for steps in confirmed.values())


def test_203_is_not_found_in_runs_that_are_sound(hub: HubServer) -> None:
    put_decoupled(hub, sound=True)
    assert said(decoupled(deep=True), "203", CONFIRMED) == []
    # Steps that were not selected may still be wrong; a shallow audit cannot know at all.
    assert said(decoupled(deep=True), "203", UNCHECKED) == [(), ()]
    assert said(decoupled(deep=False), "203", UNCHECKED) == [(), ()]


# --- what becomes of the verdicts -----------------------------------------------------------------------------------


def put_bloom(hub: HubServer, same: Iterable[int] = ()) -> None:
    for step in BLOOM:
        content = "same" if step in set(same) else str(step)
        hub.add("bigscience/bloom-7b1-intermediate", f"global_step{step}", one_file(content))


def test_reports_warn_until_an_audit_withdraws_them(hub: HubServer, tmp_path: Path) -> None:
    put_bloom(hub)
    suite = open_suite("bloom")
    (one,) = suite.checkpoints("size=7b1 step=100000")
    assert [report.what for report in standing(one)] == ["steps 100,000 and 200,000 seem to be the same model"]
    assert standing(suite.checkpoints("size=7b1 step=300000")[0]) == ()
    narrow = audit(suite, "size=7b1 step=100000")
    assert [verdict.status for verdict in narrow.verdicts] == [UNCHECKED]
    narrow.remember()
    assert standing(one), "an audit that saw one of the steps has not compared them"
    audit(suite, "size=7b1").remember()
    assert standing(one) == ()
    put_bloom(hub, same=(100_000, 200_000))
    found = audit(suite, "size=7b1")
    found.remember()
    assert standing(one), "what is found again is no longer withdrawn"
    found.save(tmp_path)
    (saved,) = json.loads((tmp_path / "audit.json").read_text())["reports"]
    assert (saved["status"], saved["steps"]) == (CONFIRMED, [100_000, 200_000])


def test_measuring_warns_of_what_is_reported(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_bloom(hub)
    monkeypatch.setattr("headway.sweep.run", lambda *_, **__: None)
    with pytest.warns(
        UserWarning, match=r"reports say that 1 of 2 checkpoints may be wrong, such as bloom-7b1.*@200000: "
    ):
        api.measure("bloom", out=tmp_path / "run", where="size=7b1 step=200000,300000", corpus="nano")


def test_the_command_shows_reports_and_verdicts(hub: HubServer) -> None:
    shown = CliRunner().invoke(cli.app, ["suites", "bloom"]).stdout
    assert not hub.asked
    for report in of_suite("bloom"):
        assert f"reported      {report}" in shown
    assert "bloom-7b1-intermediate: steps 100,000 and 200,000 seem to be the same model (https://" in shown
    put_bloom(hub, same=(100_000, 200_000))
    result = CliRunner().invoke(cli.app, ["audit", "bloom", "--where", "size=7b1"])
    assert "confirmed  public report of bloom-7b1-intermediate: steps 100,000 and 200,000 seem" in result.stdout
    assert result.exit_code == 1
    tree = CliRunner().invoke(cli.app, ["suites", "bloom", "--tree", "--where", "size=7b1"]).stdout
    assert "bloom-7b1-intermediate (seed unknown): 8 steps: 1,000, 10,000" in tree
    refused = CliRunner().invoke(cli.app, ["suites", "blom"])
    assert "known suites: bloom" in str(refused.exception)
