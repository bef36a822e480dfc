"""Names, the known suites, and the language of --where."""

import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.errors import CheckpointError, SelectionError
from headway.suites import FolderSource, HubSource, Suite, known_suites, open_suite
from headway.suites.names import parse_revision, parse_run, parse_step, size_order
from headway.suites.registry import PYTHIA_STEPS
from hub_server import HubServer


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step0", 0), ("step143000", 143000), ("checkpoint-1000", 1000), ("1000", 1000), ("step_12", 12),
        ("global_step7", 7), ("ckpt-3", 3), ("iter_0000500", 500), ("stage1-step10000-tokens21B", 10000),
        ("main", None), ("v1.0", None), ("step10k", 10_000), ("footstep9", None), ("", None), ("step", None),
        ("-5", None), ("step10kg", None), ("step1.0005k", None), ("160m", None), ("1.5", None), ("0.5M", 500_000),
    ],
)  # fmt: skip
def test_the_step_in_a_name(name: str, step: int | None) -> None:
    assert parse_step(name) == step


B = 10**9


# Names that public repositories use, and one of each other form.
@pytest.mark.parametrize(
    ("name", "step", "stage", "tokens", "seed"),
    [
        ("step_20k", 20_000, "step", None, ""),
        ("955k", 955_000, "step", None, ""),
        ("1.5M", 1_500_000, "step", None, ""),
        ("0000020000", 20_000, "step", None, ""),
        ("240b_tokens", 240_000, "tokens", 240 * B, ""),
        ("240B-tokens", 240_000, "tokens", 240 * B, ""),
        ("1t_tokens", 1_000_000, "tokens", 1000 * B, ""),
        ("ckpt_000123", 123, "step", None, ""),
        ("ckpt_356", 356, "step", None, ""),
        ("chck_10M", 10_000_000, "step", None, ""),
        ("global_step1000", 1000, "step", None, ""),
        ("iter-0001000", 1000, "step", None, ""),
        ("iter_0001000", 1000, "step", None, ""),
        ("iteration_500", 500, "step", None, ""),
        ("epoch_3", 3, "epoch", None, ""),
        ("step69369-seed-default", 69_369, "step-seed-default", None, "default"),
        ("step1250-seed-large-aux-2", 1250, "step-seed-large-aux-2", None, "large-aux-2"),
        ("seed_3-step100", 100, "seed_3-step", None, "3"),
        ("step1000-tokens4B", 1000, "step", 4 * B, ""),
        ("step0-tokens0B", 0, "step", 0, ""),
        ("stage1-step1000-tokens5B", 1000, "stage1-step", 5 * B, ""),
        ("stage2-ingredient1-step1000-tokens3B", 1000, "stage2-ingredient1-step", 3 * B, ""),
        ("stage1-step-40000", 40_000, "stage1-step", None, ""),
        ("step-001000-2BT", 1000, "step", 2 * B, ""),
        ("TinyLlama-1.1B-intermediate-step-955k-token-2T", 955_000, "TinyLlama-1.1B-intermediate-step", 2000 * B, ""),
        ("TinyLlama-1.1B-intermediate-step-715k-1.5T", 715_000, "TinyLlama-1.1B-intermediate-step", 1500 * B, ""),
        ("multiberts-seed_1-step_20k", 20_000, "multiberts-seed_1-step", None, "1"),
        ("CrystalCoder_phase1_checkpoint_055500", 55_500, "CrystalCoder_phase1_checkpoint", None, ""),
        ("step-024000_tokens-010B", 24_000, "step", 10 * B, ""),
    ],
)
def test_what_a_revision_states(name: str, step: int, stage: str, tokens: int | None, seed: str) -> None:
    assert parse_revision(name) == (step, stage, tokens, seed)


@given(st.integers(0, 10**9), st.sampled_from(["step", "step_", "step-", "global_step", "ckpt_", "iter_", "iter-"]))
def test_any_number_of_steps_is_read_exactly(step: int, word: str) -> None:
    assert parse_revision(f"{word}{step:07d}") == (step, "step", None, "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pythia-14m-seed1", ("pythia-14m", "14m", "1")),
        ("pythia-14m", ("pythia-14m", "14m", "1234")),
        ("pythia-1.4b-deduped", ("pythia-1.4b-deduped", "1.4b", "1234")),
        ("pythia-160m-data-seed2", ("pythia-160m", "160m", "data-seed2")),
        ("pythia-160m-weight-seed3", ("pythia-160m", "160m", "weight-seed3")),
        ("alias-gpt2-small-x21", ("gpt2-small", "small", "21")),
        ("OLMo-2-0425-1B", ("OLMo-2-0425-1B", "1b", "unknown")),
        ("nano-tiny-seed_4", ("nano-tiny", "tiny", "4")),
        ("my-run", ("my-run", "my-run", "unknown")),
        ("seed7", ("seed7", "seed7", "unknown")),
    ],
)
def test_a_runs_name_gives_size_and_seed(name: str, said: tuple[str, str, str]) -> None:
    assert parse_run(name) == said


def test_sizes_are_ordered_as_numbers() -> None:
    sizes = ["12b", "1b", "70m", "1.4b", "410m", "500k", "medium", "small", "my-run"]
    assert sorted(sizes, key=size_order) == ["500k", "70m", "410m", "1b", "1.4b", "12b", "small", "medium", "my-run"]


# --- the known suites -----------------------------------------------------------------------------------------------


def test_the_grid_of_pythia() -> None:
    # https://huggingface.co/EleutherAI/pythia-70m: step0, 10 log-spaced steps 1 ... 512, 143 evenly spaced from 1000.
    assert len(PYTHIA_STEPS) == 154
    assert PYTHIA_STEPS[:12] == (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
    assert PYTHIA_STEPS[-1] == 143000


def test_polypythias_has_its_runs_and_exact_names() -> None:
    suite = open_suite("polypythias")
    assert len(suite.runs) == 5 * 10 + 6  # https://arxiv.org/abs/2503.09543: five sizes, ten seeds; 160m's six variants
    assert len(suite.checkpoints()) == 56 * 154
    (found,) = suite.checkpoints("size=160m seed=data-seed2 step=last")
    assert found.source == HubSource("EleutherAI/pythia-160m-data-seed2", "step143000", "EleutherAI/pythia-70m")
    assert (found.key, found.model, found.suite) == ("pythia-160m-data-seed2@143000", "pythia-160m", "polypythias")
    assert suite.checkpoints("size=14m seed=1234 step=0")[0].run == "pythia-14m"


def test_pythia_has_all_sizes() -> None:
    assert open_suite("pythia").describe().sizes == (
        "14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")  # fmt: skip
    assert open_suite("pythia-deduped").checkpoints("size=12b step=last")[0].run == "pythia-12b-deduped"


def test_describing_asks_nobody(hub: HubServer) -> None:
    for info in known_suites():
        assert info.name in str(info)
    assert not hub.asked


OLMO = ["main", "stage1-step0-tokens0B", "stage1-step10000-tokens21B", "stage1-step9000-tokens19B",
        "stage2-ingredient1-step0-tokens0B", "stage2-ingredient1-step500-tokens1B",
        "stage2-ingredient2-step500-tokens1B", "stage3-step9-tokens1B"]  # fmt: skip


def test_olmo_steps_are_listed_from_the_hub(hub: HubServer) -> None:
    for revision in OLMO:
        hub.add("allenai/OLMo-2-0425-1B", revision, {})
    with pytest.warns(UserWarning, match=r"1 revision with unknown names is left out: stage3-step9-tokens1B"):
        first = open_suite("olmo2").checkpoints("size=1B")
    assert [(c.step, c.revision) for c in first] == [
        (0, "stage1-step0-tokens0B"), (9000, "stage1-step9000-tokens19B"), (10000, "stage1-step10000-tokens21B"),
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="stage3-step9-tokens1B"):
        second = open_suite("olmo2-stage2").checkpoints("size=1b seed=ingredient1..ingredient2")
    assert [(c.run, c.step) for c in second] == [
        ("OLMo-2-0425-1B-stage2-ingredient1", 10000), ("OLMo-2-0425-1B-stage2-ingredient1", 10500),
        ("OLMo-2-0425-1B-stage2-ingredient2", 10500),
    ]  # fmt: skip
    assert {asked.path for asked in hub.asked} == {"/api/models/allenai/OLMo-2-0425-1B/refs"}, "the 7B is not asked for"


def test_stanford_gpt2_is_listed_from_the_hub(hub: HubServer) -> None:
    for revision in ("main", "checkpoint-400000", "checkpoint-10", "checkpoint-0"):
        hub.add("stanford-crfm/expanse-gpt2-small-x777", revision, {})
    suite = open_suite("stanford-gpt2")
    assert [run.seed for run in suite.runs] == ["21", "49", "81", "343", "777"] * 2
    found = suite.checkpoints("size=small seed=777 step=first,last")
    assert [(c.step, c.revision) for c in found] == [(0, "checkpoint-0"), (400000, "checkpoint-400000")]


def test_any_repository_is_a_suite(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("someone/mine-30m-seed2", "step5", {})
    (found,) = open_suite("hf:someone/mine-30m-seed2").checkpoints()
    assert (found.suite, found.run, found.size, found.seed, found.step) == (
        "mine-30m-seed2", "mine-30m-seed2", "30m", "2", 5)  # fmt: skip
    with pytest.raises(CheckpointError, match="the revisions of someone/absent: the Hub has no such repository"):
        open_suite("hf:someone/absent").checkpoints()
    for wrong in ("hf:one", "hf:../etc/passwd", "hf:a/b/c", "hf:a/..", "hf:"):
        with pytest.raises(SelectionError, match="OWNER/NAME"):
            open_suite(wrong)
    with pytest.raises(SelectionError, match="same name"):
        open_suite("hf:a/x,b/x")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointError, match=r"HF_HUB_OFFLINE is set, and the cache .* has none of its steps"):
        open_suite("hf:someone/never-cached").checkpoints("step=last")


def listed_as(hub: HubServer, *names: str, repo: str = "someone/mine-30m-seed2") -> str:
    for name in names:
        hub.add(repo, name, {})
    return f"hf:{repo}"


@pytest.mark.parametrize("suite", ["olmo2", "hf"])
def test_a_name_without_its_stage_belongs_to_the_first(hub: HubServer, suite: str) -> None:
    names = ("main", "stage1-step0-tokens0B", "step150-tokens1B", "stage1-step3000-tokens13B")
    name = listed_as(hub, *names, repo="allenai/OLMo-2-0425-1B")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_suite("olmo2" if suite == "olmo2" else name).checkpoints("size=1b")
    assert [(one.step, one.revision) for one in found] == [(0, names[1]), (150, names[2]), (3000, names[3])]


def test_names_that_state_no_step_are_named(hub: HubServer) -> None:
    name = listed_as(hub, "main", "step5", "fp16", "v1", "best", "average-of-last")
    with pytest.warns(UserWarning, match="4 revisions with unknown names are left out: fp16, v1, best and 1 more"):
        assert [one.step for one in open_suite(name).checkpoints()] == [5]


ANNEALED = ("pretrain_iter_0000000", "pretrain_iter_0002000", "anneal_iter_0001000", "anneal_iter_0002000")


def test_a_step_that_olmo_has_under_two_names_is_taken_under_the_one_with_its_stage(hub: HubServer) -> None:
    for revision in ("step150-tokens1B", "stage1-step150-tokens1B", "step300-tokens2B"):
        hub.add("allenai/OLMo-2-0425-1B", revision, {})
    found = open_suite("olmo2").checkpoints("size=1b")
    assert [c.revision for c in found] == ["stage1-step150-tokens1B", "step300-tokens2B"]


def test_annealing_is_a_stage_of_its_own(hub: HubServer) -> None:
    suite = open_suite(listed_as(hub, *ANNEALED))
    said = (
        r"several stages: pretrain_iter \(2 steps\), anneal_iter \(2 steps\). Using pretrain_iter. .*stage=anneal_iter"
    )
    with pytest.warns(UserWarning, match=said):
        found = suite.checkpoints()
    assert [(one.run, one.step) for one in found] == [("mine-30m-seed2", 0), ("mine-30m-seed2", 2000)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = suite.checkpoints("stage=anneal_iter step=1000..")
        both = suite.checkpoints("stage=pretrain_iter,anneal_iter step=last")
    assert [(one.run, one.model, one.seed, one.step, one.revision) for one in found] == [
        ("mine-30m-seed2-anneal_iter", "mine-30m-anneal_iter", "2", 1000, "anneal_iter_0001000"),
        ("mine-30m-seed2-anneal_iter", "mine-30m-anneal_iter", "2", 2000, "anneal_iter_0002000"),
    ]
    assert [one.key for one in both] == ["mine-30m-seed2@2000", "mine-30m-seed2-anneal_iter@2000"]
    with pytest.raises(SelectionError, match="has no stage 'anneal'; known: anneal_iter, pretrain_iter"):
        suite.checkpoints("stage=anneal")


def test_a_folder_may_hold_several_stages(tmp_path: Path) -> None:
    for name in ANNEALED:
        (tmp_path / "mine-30m-seed2" / name).mkdir(parents=True)
        (tmp_path / "mine-30m-seed2" / name / "config.json").write_text("{}")
    with pytest.warns(UserWarning, match="several stages"):
        found = open_suite(tmp_path).checkpoints()
    assert [one.revision for one in found] == list(ANNEALED[:2])


def test_one_step_in_several_stages_can_be_chosen(hub: HubServer) -> None:
    names = ("stage1-step0-tokens0B", "stage1-step10-tokens1B", "stage2-ingredient1-step10-tokens1B", "step10-tokens1B")
    suite = open_suite(listed_as(hub, *names))
    with pytest.warns(
        UserWarning, match=r"stage1-step \(2 steps\), stage2-ingredient1-step \(1 step\), step \(1 step\)"
    ):
        assert [one.revision for one in suite.checkpoints()] == list(names[:2])
    (second,) = suite.checkpoints("stage=stage2-ingredient1-step")
    assert second.revision == names[2]
    (plain,) = suite.checkpoints("stage=step")
    assert plain.revision == names[3]


@pytest.mark.parametrize("name", ["polypythia", "Pythia", "no/such/folder"])
def test_an_unknown_suite(name: str) -> None:
    with pytest.raises(SelectionError, match=r"known suites: .*polypythias") as caught:
        open_suite(name)
    if name == "polypythia":
        assert "known suites: polypythias, pythia" in str(caught.value), "the close ones come first"


# --- --where --------------------------------------------------------------------------------------------------------

POLY = open_suite("polypythias")


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("", 8624),
        ("size=14m,70m seed=1..3 step=0,512,last", 18),
        ("size=14m,  70m   seed = 1..3 step=0, 512 ,last", 18),
        ("size=70m..410m step=first", 36),
        ("size=100m..  seed=..2 step=512..2000", 12),
        ("seed=data-seed1..data-seed3 step=0", 3),
        ("run=pythia-14m,pythia-31m-seed9 step=141000..", 6),
        ("size=14M seed=8.. step=0", 3),
        ("step=0,0,first", 56),
        ("size=first,last seed=1 step=1", 2),
    ],
)
def test_selections(where: str, count: int) -> None:
    found = POLY.checkpoints(where)
    assert len(found) == len(set(found)) == count


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("size=15m", "has no size '15m'; known: 14m, 31m, 70m"),
        ("seed=10", "has no seed '10'; known: 9, 8, 7"),
        ("step=513", "has no step '513'; close: 512, 256, 128; known: 154 from 0 to 143000"),
        ("step=513..514", r"no step in the range '513\.\.514'; close: 512"),
        ("step=9..5", "no step in the range"),
        ("size=14m..seed3", "no size in the range"),
        ("size=14m seed=data-seed1", r"\(14m\) has no seed 'data-seed1'; known: 1, 2"),
        ("run=pythia-14m-sed1", "no run 'pythia-14m-sed1'; close: pythia-14m-seed1"),
        ("size=14m size=70m", "names size twice"),
        ("siz=14m", "checkpoints have no axis 'siz'"),
        ("size=", "cannot parse .* at 'size='"),
        ("size=14m,,70m", "cannot parse the selection"),
        ("14m", "cannot parse .* at '14m'"),
        ("size=14m 70m", "cannot parse .* at 'size=14m 70m'"),
        ("step=..", "no step in the range"),
        ("step=-1", "has no step '-1'"),
        ("step=1e3", "has no step '1e3'"),
    ],
)
def test_selections_that_fail(where: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        POLY.checkpoints(where)


@given(low=st.integers(0, 150_000), high=st.integers(0, 150_000))
def test_a_range_is_what_lies_between(low: int, high: int) -> None:
    expected = [step for step in PYTHIA_STEPS if low <= step <= high]
    try:
        found = [c.step for c in open_suite("pythia").checkpoints(f"size=14m step={low}..{high}")]
    except SelectionError:
        found = []
    assert found == expected


@given(st.text(max_size=40))
def test_no_text_makes_it_stumble(text: str) -> None:
    with suppress(SelectionError):
        assert open_suite("pythia").checkpoints(text)


# --- folders --------------------------------------------------------------------------------------------------------


def folder(root: Path, *revisions: str) -> Path:
    for revision in revisions:
        (root / revision).mkdir(parents=True)
        (root / revision / "config.json").write_text("{}")
    return root


def test_a_folder_is_a_suite(tmp_path: Path) -> None:
    runs = ("mine-2m-seed1", "mine-1m-seed2", "mine-1m-seed10")
    root = folder(tmp_path / "mine", *(f"{run}/step{step}" for run in runs for step in (0, 10, 9)))
    folder(root, "mine-1m-seed2/checkpoint-20", "mine-1m-seed2/logs", ".cache/step1", "notes/text")
    suite = open_suite(root)
    assert [run.name for run in suite.runs] == ["mine-1m-seed2", "mine-1m-seed10", "mine-2m-seed1"]
    found = suite.checkpoints("seed=2")
    assert [(c.step, c.revision) for c in found] == [(0, "step0"), (9, "step9"), (10, "step10"), (20, "checkpoint-20")]
    assert found[0].source == FolderSource(root / "mine-1m-seed2" / "step0", (root / "mine-1m-seed2", root))
    assert [c.key for c in suite.checkpoints("step=last")] == [
        "mine-1m-seed2@20", "mine-1m-seed10@10", "mine-2m-seed1@10"]  # fmt: skip
    assert suite.describe().steps == "4: 0, 9, 10, 20; 3: 0, 9, 10"


def test_a_single_run_is_a_suite(tmp_path: Path) -> None:
    suite = open_suite(str(folder(tmp_path / "trained", "checkpoint-500", "checkpoint-1000", "runs")))
    assert [c.key for c in suite.checkpoints()] == ["trained@500", "trained@1000"]


def test_folders_that_are_no_suite(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"holds no checkpoints: expected .*/RUN/REVISION/"):
        open_suite(tmp_path)
    folder(tmp_path / "twice" / "run", "step10", "checkpoint-10")
    with pytest.raises(SelectionError, match="has two revisions of step 10, 'checkpoint-10' and 'step10'"):
        open_suite(tmp_path / "twice").checkpoints()
    folder(tmp_path / "odd" / "a..b", "step1")
    with pytest.raises(SelectionError, match=r"'a\.\.b' cannot be part of a file name"):
        open_suite(tmp_path / "odd")


def test_suites_are_ordered_by_size_seed_and_step() -> None:
    found = POLY.checkpoints("step=0,last")
    assert [(size_order(c.size), c.step) for c in found[:2]] == [(size_order("14m"), 0), (size_order("14m"), 143000)]
    assert [c.size for c in found] == sorted((c.size for c in found), key=size_order)
    assert isinstance(POLY, Suite)
