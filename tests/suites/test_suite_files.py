"""Suites in files, and the known suites, which are described in the same way."""

import warnings
from pathlib import Path

import pytest

from headway.errors import SelectionError
from headway.suites import HubSource, Suite, known_suites, open_suite
from headway.suites.tree import tree
from hub_server import HubServer

MINE = """
name = "mine"
about = "Models of two corpora"
licence = "MIT"
tokens = "1B"
tokens_per_step = 1_000_000
unverified = ["tokens"]
notes = ["seed 2 diverged"]

[[runs]]
repository = "someone/mine-{data}-{size}"
size = ["30M", "60M"]
seed = ["default", "2"]
axes = { data = ["c4", "pile"] }
revision = 'step(?P<step>\\d+k?)-seed-(?P<seed>.+)'
"""


def described(folder: Path, text: str = MINE) -> Suite:
    path = folder / "mine.toml"
    path.write_text(text)
    return open_suite(path)


def up(hub: HubServer, repo: str, *revisions: str) -> None:
    for revision in revisions:
        hub.add(repo, revision, {})


def test_a_file_describes_a_suite(tmp_path: Path, hub: HubServer) -> None:
    suite = described(tmp_path)
    assert [run.name for run in suite.runs][:3] == [
        "mine-c4-30M-seed-2", "mine-c4-30M-seed-default", "mine-pile-30M-seed-2"]  # fmt: skip
    assert suite.axes == {"data": ("c4", "pile")}
    info = suite.describe()
    assert (info.name, info.n_runs, info.sizes, info.seeds) == ("mine", 8, ("30m", "60m"), ("2", "default"))
    assert "licence       MIT\n" in str(info)
    assert "tokens        1B (unverified)" in str(info)
    assert "tokens a step 1,000,000\n" in str(info)
    assert not hub.asked
    up(hub, "someone/mine-c4-30M", "main", "step0-seed-default", "step2k-seed-default", "step500-seed-2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the other seed's revisions are understood
        found = suite.checkpoints("size=30M data=c4")
    assert [(one.key, one.revision, one.tokens) for one in found] == [
        ("mine-c4-30M-seed-2@500", "step500-seed-2", 500_000_000),
        ("mine-c4-30M-seed-default@0", "step0-seed-default", 0),
        ("mine-c4-30M-seed-default@2000", "step2k-seed-default", 2_000_000_000),
    ]
    (one,) = suite.checkpoints("size=30m data=c4 tokens=1B..")
    assert one.columns["seed"] == "default"
    assert one.axes == (("data", "c4"),)
    assert (one.source, one.model) == (HubSource("someone/mine-c4-30M", "step2k-seed-default"), "mine-c4-30M")


def test_a_group_may_have_another_name_than_its_meaning(tmp_path: Path, hub: HubServer) -> None:
    up(hub, "someone/mine", "phase1/it-5/of-240b", "phase2/it-7/of-300b")
    suite = described(
        tmp_path,
        """
        [[runs]]
        repository = "someone/mine"
        revision = '(?P<phase>phase\\d)/it-(?P<it>\\d+)/of-(?P<seen>\\d+b)'
        groups = { phase = "stage", it = "step", seen = "tokens" }
        """,
    )
    found = suite.checkpoints("stage=phase1,phase2")
    # Tokens of a later stage may count from its start, so they are not taken for those of the whole run.
    assert [(one.key, one.tokens) for one in found] == [("mine@5", 240 * 10**9), ("mine-phase2@7", None)]
    assert suite.name == "mine", "the file's name"


def test_each_step_may_be_a_repository(tmp_path: Path) -> None:
    suite = described(
        tmp_path,
        """
        [[runs]]
        repository = "someone/mine-seed_{seed}-step_{step}"
        run = "mine-seed_{seed}"
        seed = ["1", "2"]
        steps = ["0k", "20k", "1.5M"]
        """,
    )
    found = suite.checkpoints("seed=2")
    assert [one.key for one in found] == ["mine-seed_2@0", "mine-seed_2@20000", "mine-seed_2@1500000"]
    place = "someone/mine-seed_2-step_*"
    assert found[1].source == HubSource("someone/mine-seed_2-step_20k", "main", run_location=place)
    assert {one.source.location for one in found} == {place}, "one run, wherever its steps lie"


def test_checkpoints_may_be_listed_one_by_one(tmp_path: Path) -> None:
    suite = described(
        tmp_path,
        """
        [[runs]]
        repository = "someone/mine"
        checkpoints = [
            { step = 0, revision = "3f2a91c" },
            { step = "20k", repository = "other/mine-20k", tokens = "1.5T" },
        ]
        """,
    )
    assert [(one.step, one.source.repo, one.source.revision, one.tokens) for one in suite.checkpoints()] == [
        (0, "someone/mine", "3f2a91c", None), (20_000, "other/mine-20k", "main", 1_500_000_000_000)]  # fmt: skip


RUNS = '[[runs]]\nrepository = "a/b"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"mine.toml: 'runs' is missing: write at least one table \[\[runs\]\]"),
        ("runs = 3", "'runs' must be a list, not 3"),
        ("runs = [3]", "'runs' must be tables"),
        ("name = ", "is no TOML file"),
        ("licens = 'MIT'\n" + RUNS, "'licens' is no key of a suite file, did you mean 'licence'?"),
        ("name = 3\n" + RUNS, "'name' must be a text, not 3"),
        ("tokens_per_step = 0\n" + RUNS, "'tokens_per_step' must be at least 1"),
        ("tokens_per_step = true\n" + RUNS, "'tokens_per_step' must be a whole number"),
        ("unverified = ['runz']\n" + RUNS, "'unverified' names 'runz'. Known are licence"),
        ("[[runs]]\nsize = '1b'", r"\[\[runs\]\] 1: 'repository' is missing"),
        ("[[runs]]\nrepository = 'b'", "'repository' must be OWNER/NAME, not 'b'"),
        ("[[runs]]\nrepository = '../x'", "'repository' must be OWNER/NAME"),
        ("[[runs]]\nrepository = 'a/b-{size}'", r"'repository' has a placeholder that is not filled: 'size'. Known are \{step\}"),
        ("[[runs]]\nrepository = 'a/b-{0}'", "'repository' has a placeholder"),
        ("[[runs]]\nrepository = 'a/b-{'", "'repository' has a placeholder"),
        (RUNS + "revison = 'x'", "'revison' is no key of a suite file, did you mean 'revision'?"),
        (RUNS + "revision = '('", "'revision' is no regular expression"),
        (RUNS + "revision = '\\\\d+'", "'revision' states no step: name a group"),
        (RUNS + "revision = '(?P<step>.)(?P<foo>.)'", "'revision' has the group 'foo': say in `groups` which of step"),
        (RUNS + "revision = '(?P<step>.)'\ngroups = { a = 'step' }", "'groups' names 'a', which is no group"),
        (RUNS + "revision = '(?P<step>.)-(?P<seed>.)'", "'seed' is missing: list the seeds"),
        (RUNS + "revision = '(?P<step>.)'\nsteps = ['1']", "'steps' cannot stand beside 'revision'"),
        (RUNS + "steps = ['1']", r"'steps' needs \{step\} in the repository's name"),
        ("[[runs]]\nrepository = 'a/b-{step}'", "'steps' is missing: list the steps that a/b-"),
        ("[[runs]]\nrepository = 'a/b-{step}'\nsteps = ['soon']", "'steps' has 'soon', which is no number"),
        (RUNS + "checkpoints = [{ revision = 'x' }]", "checkpoint 1: 'step' must be a number"),
        (RUNS + "checkpoints = [{ step = 1 }, { step = 1 }]", "checkpoint 2: 'step' is 1 for the second time"),
        (RUNS + "checkpoints = [{ step = 1, tokens = 'x' }]", "checkpoint 1: 'tokens' must be a number"),
        (RUNS + "checkpoints = [{ step = 1, repository = 'x' }]", "checkpoint 1: 'repository' must be OWNER/NAME"),
        (RUNS + "axes = { size = ['1'] }", "'axes' cannot have 'size'"),
        (RUNS + "axes = { data = ['a b'] }", "'axes' cannot have the value 'a b'"),
        (RUNS + "size = 3", "'size' must be a text or a list of texts, not 3"),
        (RUNS + "run = 'x'\nsize = ['1b', '2b']", "'runs' gives the name 'x' to two runs"),
        (RUNS + "run = 'a..b'", "'runs' gives a run a name that no file can have"),
        (RUNS + "tokenizer = 'x'", "'tokenizer' must be OWNER/NAME"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_and_the_key_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        described(tmp_path, text)


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match=r"absent.toml cannot be read: No such file"):
        open_suite(tmp_path / "absent.toml")


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_tokens_follow_from_steps_or_from_names(hub: HubServer) -> None:
    (last,) = open_suite("pythia").checkpoints("size=14m step=last")
    assert last.tokens == 143_000 * 2_097_152  # https://arxiv.org/abs/2304.01373: 1,024 sequences of 2,048 tokens
    assert round(last.tokens / 1e9) == 300  # as it says there
    up(hub, "allenai/OLMo-7B-0424-hf", "step1000-tokens4B", "step0-tokens0B")
    assert [one.tokens for one in open_suite("olmo-1.7").checkpoints()] == [0, 4 * 10**9]


@pytest.mark.parametrize(
    ("size", "repo", "names"),
    [
        ("1b", "OLMo-2-0425-1B", {"stage1-step10000-tokens21B": 21, "stage1-step120000-tokens252B": 252}),
        ("7b", "OLMo-2-1124-7B", {"stage1-step20000-tokens84B": 84, "stage1-step300000-tokens1259B": 1259}),
        ("13b", "OLMo-2-1124-13B", {"stage1-step102500-tokens860B": 860, "stage1-step128000-tokens1074B": 1074}),
    ],
)
def test_the_batches_of_olmo_2_are_those_of_its_names(
    hub: HubServer, size: str, repo: str, names: dict[str, int]
) -> None:
    """The names round up, so they are less than 1B above the exact number."""
    up(hub, f"allenai/{repo}", *names)
    for one in open_suite("olmo2").checkpoints(f"size={size}"):
        assert one.tokens is not None
        assert 0 <= names[one.revision] - one.tokens / 1e9 < 1


def test_selecting_by_tokens(hub: HubServer) -> None:
    suite = open_suite("pythia")
    found = suite.checkpoints("size=14m tokens=1B..10B")
    assert [one.step for one in found] == [512, 1000, 2000, 3000, 4000]  # 512 steps are 1.07B, 4,000 are 8.4B
    assert [one.step for one in suite.checkpoints("size=14m tokens=..3M")] == [0, 1]
    assert [one.step for one in suite.checkpoints("size=14m tokens=2097152000")] == [1000]
    with pytest.raises(
        SelectionError, match=r"no tokens in the range '1M\.\.2M'; close: 0, 2097152, 4194304; known: 154"
    ):
        suite.checkpoints("size=14m tokens=1M..2M")
    with pytest.raises(SelectionError, match=r"has no tokens 'many'"):
        suite.checkpoints("size=14m tokens=many")
    up(hub, "LLM360/Amber", "ckpt_001", "ckpt_002")
    with pytest.raises(SelectionError, match=r"'amber' does not say how many tokens .*: select by step"):
        open_suite("amber").checkpoints("tokens=1B..")


# --- the known suites -----------------------------------------------------------------------------------------------

# Revisions that public sources name, and what they are: run, step, tokens.
SEEN = [
    ("datadecide", "allenai/DataDecide-dolma1_7-1B", "step69369-seed-default", "data=dolma1_7 size=1b",
     ("DataDecide-dolma1_7-1B-seed-default", 69_369, 69_369 * 704 * 2048)),
    ("datadecide", "allenai/DataDecide-dclm-baseline-150M", "step37500-seed-small-aux-2", "data=dclm-baseline size=150m",
     ("DataDecide-dclm-baseline-150M-seed-small-aux-2", 37_500, None)),
    ("olmo", "allenai/OLMo-1B", "step20000-tokens84B", "size=1b", ("OLMo-1B", 20_000, 84 * 10**9)),
    ("olmo-0724", "allenai/OLMo-1B-0724-hf", "step500-tokens2B", "size=1b", ("OLMo-1B-0724-hf", 500, 2 * 10**9)),
    ("olmo3", "allenai/Olmo-3-1025-7B", "stage1-step1413814", "size=7b", ("Olmo-3-1025-7B", 1_413_814, None)),
    ("olmoe", "allenai/OLMoE-1B-7B-0924", "step1220000-tokens5117B", "", ("OLMoE-1B-7B-0924", 1_220_000, 5117 * 10**9)),
    ("smollm2", "HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints", "step-1200000", "size=135m",
     ("SmolLM2-135M", 1_200_000, None)),
    ("smollm3", "HuggingFaceTB/SmolLM3-3B-checkpoints", "stage3-step-4720000", "",
     ("SmolLM3-3B", 4_720_000, 4_720_000 * 2_359_296)),
    ("fineweb-ablations", "HuggingFaceFW/ablation-model-fineweb-edu", "step-001000-2BT", "data=fineweb-edu",
     ("ablation-model-fineweb-edu", 1000, 2 * 10**9)),
    ("amber", "LLM360/Amber", "ckpt_040", "", ("Amber", 40, None)),
    ("crystal", "LLM360/CrystalCoder", "CrystalCoder_phase1_checkpoint_055500", "", ("CrystalCoder", 55_500, None)),
    ("bloom", "bigscience/bloom-1b1-intermediate", "global_step1000", "size=1b1", ("bloom-1b1-intermediate", 1000, None)),
    ("redpajama-incite", "togethercomputer/RedPajama-INCITE-7B-Base", "1t_tokens", "",
     ("RedPajama-INCITE-7B-Base", 1_000_000, 10**12)),
    ("babylm", "BabyLM-community/babylm-baseline-100m-gpt2", "chck_1000M", "data=100m",
     ("babylm-baseline-100m-gpt2", 10**9, None)),
    ("trillion", "trillionlabs/0.5B-Intermediate-Checkpoints", "0000020000", "size=0.5b", ("Tri-0.5B", 20_000, None)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "repo", "revision", "where", "expected"), SEEN, ids=lambda one: str(one)[:40])
def test_revisions_of_known_suites_are_read(
    hub: HubServer, name: str, repo: str, revision: str, where: str, expected: tuple[str, int, int | None]
) -> None:
    up(hub, repo, "main", revision)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (one,) = open_suite(name).checkpoints(where)
    assert (one.run, one.step, one.tokens) == expected
    assert (one.suite, one.revision, one.source.repo) == (name, revision, repo)


def test_the_known_suites() -> None:
    known = {info.name: info for info in known_suites()}
    assert len(known) == 28
    assert known["datadecide"].n_runs == 25 * 14 * 3  # https://arxiv.org/abs/2504.11393
    assert len(dict(known["datadecide"].axes)["data"]) == 25
    assert known["multiberts"].n_runs == 25  # https://arxiv.org/abs/2106.16163
    # 140 intermediate checkpoints: 28 of each of the first five seeds, and their initialisations.
    assert len(open_suite("multiberts").checkpoints("seed=0..4 step=1..")) == 140
    for info in known.values():
        if not info.name.startswith("nano"):
            assert {"licence", "tokens"} <= {fact.name for fact in info.facts}, info.name
            assert info.sources, info.name


def test_what_is_not_verified_is_marked() -> None:
    assert "steps         listed from the Hub when used (unverified)" in str(open_suite("k2").describe())
    assert "licence       Apache-2.0 (unverified)" in str(open_suite("smollm2").describe())
    assert "(unverified)" not in str(open_suite("smollm3").describe())


def test_steps_without_names_are_refused_with_what_to_do() -> None:
    with pytest.raises(SelectionError, match=r"'pico' cannot be listed: .* commits .*suite file"):
        open_suite("pico").checkpoints("size=tiny")


def test_the_tree_shows_runs_and_steps(hub: HubServer) -> None:
    up(hub, "HuggingFaceTB/SmolLM3-3B-checkpoints", "stage1-step-40000", "stage1-step-80000", "stage2-step-3480000")
    assert tree(open_suite("smollm3")).split("\n") == [
        "smollm3: 3 checkpoints",
        "└─ 3b",
        "   └─ SmolLM3-3B (seed unknown): 3 steps: 40,000, 80,000, 3,480,000; 94.4B to 8.21T tokens",
    ]
    shown = tree(open_suite("pythia"), "size=14m,70m")
    assert (
        "├─ 14m\n│  └─ pythia-14m (seed 1234): 154 steps: 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, …, 143,000; 0 to"
        in shown
    )
