"""The suites that headway knows by name, with their repositories, seeds and steps.

Most are described in `known/`, in the format of suite files. Those whose steps follow a rule of their own stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path

from headway.errors import SelectionError
from headway.suites import hub
from headway.suites.description import ENDING, read_suite
from headway.suites.folder import folder_suite
from headway.suites.names import PYTHIA_SEED, RunName, parse_run
from headway.suites.steps import HubRevisions, OlmoStage2, is_olmo, olmo_stage1
from headway.suites.suite import Fact, Run, Stages, Suite, SuiteInfo

# 0, 1, 2, 4 ... 512, then every 1,000 to 143,000: 154 steps.
PYTHIA_STEPS = (0, *(2**i for i in range(10)), *range(1000, 144_000, 1000))
_SIZES = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
_SEEDED_SIZES = _SIZES[:5]
_PYTHIA_TOKENS = 1024 * 2048  # sequences in a batch, and tokens in each of them
_PYTHIA_FACTS = (Fact("licence", "Apache-2.0"), Fact("tokens", "300B"), Fact("tokens a step", f"{_PYTHIA_TOKENS:,}"))
_PYTHIA_SOURCES = ("https://arxiv.org/abs/2304.01373",)
_STEP_1 = "the weights of step 0 and step 1 are equal, because the first step's learning rate is 0"
_EARLY_SMALL = (
    "the repositories pythia-14m and pythia-31m used to hold the runs that are now called -deduped (14m until 27 February "
    "2026), so older tables may name the wrong run"
)


@dataclass(frozen=True)
class KnownSteps:
    """The steps that all runs of a suite share, called stepN. They are known without looking."""

    steps: tuple[int, ...]
    described: str

    def __call__(self) -> Stages:
        return {"step": {step: f"step{step}" for step in self.steps}}

    def describe(self) -> str:
        return self.described

    def tokens(self, revision: str) -> int | None:
        return None  # names state none; they follow from the steps


_PYTHIA = KnownSteps(PYTHIA_STEPS, f"{len(PYTHIA_STEPS)}: 0, 1, 2, 4 … 512, then every 1,000 to 143,000")


def _hub_run(
    repo: str, name: RunName, revisions: HubRevisions | KnownSteps, suffix: str = "", per_step: int | None = None
) -> Run:
    # All Pythia models share one tokenizer, and some revisions of some runs lack it.
    shared = "EleutherAI/pythia-70m" if revisions is _PYTHIA else ""
    return Run(
        repo.split("/")[1] + suffix,
        *name,
        location=repo,
        revisions=revisions,
        tokenizer_repo=shared,
        tokens_per_step=per_step,
    )


def _pythia_run(name: str) -> Run:
    return _hub_run(f"EleutherAI/{name}", parse_run(name), _PYTHIA, per_step=_PYTHIA_TOKENS)


def _pythia() -> Suite:
    return Suite(
        "pythia",
        [_pythia_run(f"pythia-{size}") for size in _SIZES],
        about="Pythia, trained on the Pile; one run per size",
        origin="EleutherAI/pythia-SIZE on the Hub",
        notes=[
            _STEP_1,
            "many early revisions of pythia-2.8b have served the final weights: run `headway audit` before you trust them",
            _EARLY_SMALL,
        ],
        facts=_PYTHIA_FACTS,
        sources=_PYTHIA_SOURCES,
    )


def _pythia_deduped() -> Suite:
    return Suite(
        "pythia-deduped",
        [_pythia_run(f"pythia-{size}-deduped") for size in _SIZES],
        about="Pythia, trained on the deduplicated Pile; one run per size",
        origin="EleutherAI/pythia-SIZE-deduped on the Hub",
        notes=[_STEP_1, _EARLY_SMALL],
        facts=_PYTHIA_FACTS,
        sources=_PYTHIA_SOURCES,
    )


def _polypythias() -> Suite:
    names = [f"pythia-{size}{seed}" for size in _SEEDED_SIZES for seed in ("", *(f"-seed{i}" for i in range(1, 10)))]
    names += [f"pythia-160m-{kind}-seed{i}" for kind in ("data", "weight") for i in (1, 2, 3)]
    return Suite(
        "polypythias",
        [_pythia_run(name) for name in names],
        about="Pythia with more seeds; data-seed varies only the order of the data, weight-seed only the initialisation",
        origin="EleutherAI/pythia-SIZE-seedN on the Hub",
        notes=[
            f"seed {PYTHIA_SEED} is the run without a seed in its name",
            _STEP_1,
            "410m seeds 3 and 4 are outliers: their training was unstable",
            _EARLY_SMALL,
        ],
        facts=_PYTHIA_FACTS,
        sources=("https://arxiv.org/abs/2503.09543",),
    )


@dataclass(frozen=True)
class _Olmo2:
    """One size of OLMo 2.

    Attributes:
        per_step: tokens in a step, which the names of its revisions round; None if no name was seen.
        ingredients: orders of the data in the second stage.
    """

    repo: str
    per_step: int | None
    ingredients: int


_OLMO = {
    "1b": _Olmo2("allenai/OLMo-2-0425-1B", 512 * 4096, 3),
    "7b": _Olmo2("allenai/OLMo-2-1124-7B", 1024 * 4096, 3),
    "13b": _Olmo2("allenai/OLMo-2-1124-13B", 2048 * 4096, 4),
    "32b": _Olmo2("allenai/OLMo-2-0325-32B", None, 4),
}
_OLMO_FACTS = (
    Fact("licence", "Apache-2.0"),
    Fact("tokens", "4T for 1b and 7b, 5T for 13b, 6T for 32b", verified=False),
    Fact(
        "tokens a step", "2,097,152 for 1b, 4,194,304 for 7b, 8,388,608 for 13b, from revisions’ names", verified=False
    ),
)
_OLMO_SOURCES = ("https://arxiv.org/abs/2501.00656", "https://huggingface.co/allenai/OLMo-2-1124-7B/discussions/6")


def _olmo2() -> Suite:
    return Suite(
        "olmo2",
        [
            _hub_run(
                one.repo,
                RunName(one.repo.split("/")[1], size, "stage1"),
                HubRevisions(one.repo, olmo_stage1, is_olmo),
                per_step=one.per_step,
            )
            for size, one in _OLMO.items()
        ],
        about="OLMo 2, first stage of pretraining; one run per size",
        origin=", ".join(one.repo for one in _OLMO.values()),
        notes=[
            "the second stage is the suite olmo2-stage2; `main` averages the final checkpoints, so it has no step",
            "some early revisions of 7b lack the name of their stage: step150-tokens1B belongs to stage 1",
            "7b lacks steps 100,000, 174,000, 317,000, 536,000, 605,000, 632,000 and 672,000",
        ],
        facts=_OLMO_FACTS,
        sources=_OLMO_SOURCES,
    )


def _olmo2_stage2() -> Suite:
    return Suite(
        "olmo2-stage2",
        [
            replace(
                _hub_run(
                    one.repo,
                    RunName(one.repo.split("/")[1], size, f"ingredient{i}"),
                    HubRevisions(one.repo, OlmoStage2(i), is_olmo),
                    suffix=f"-stage2-ingredient{i}",
                    per_step=one.per_step,
                ),
                later_stage=True,
            )
            for size, one in _OLMO.items()
            for i in range(1, one.ingredients + 1)
        ],
        about="OLMo 2, second stage of pretraining: orders of the data, all starting from the end of the first stage",
        origin=", ".join(one.repo for one in _OLMO.values()),
        notes=[
            "steps continue from the last step of the first stage",
            "the runs of a size share their initialisation and first stage, so they are not independent seeds",
            "ingredient 4 read three times as many tokens as the others; that of 32b is unverified",
        ],
        facts=_OLMO_FACTS,
        sources=_OLMO_SOURCES,
    )


_CRFM = (
    *(f"{name}-gpt2-small-x{seed}" for name, seed in
      (("alias", 21), ("battlestar", 49), ("caprica", 81), ("darkmatter", 343), ("expanse", 777))),
    *(f"{name}-gpt2-medium-x{seed}" for name, seed in
      (("arwen", 21), ("beren", 49), ("celebrimbor", 81), ("durin", 343), ("eowyn", 777))),
)  # fmt: skip


def _stanford_gpt2() -> Suite:
    repos = [f"stanford-crfm/{name}" for name in _CRFM]
    return Suite(
        "stanford-gpt2",
        [_hub_run(repo, parse_run(repo.split("/")[1]), HubRevisions(repo)) for repo in repos],
        about="GPT-2 small and medium by Stanford CRFM (Mistral), five seeds each",
        origin="stanford-crfm/NAME-gpt2-SIZE-xSEED on the Hub",
        facts=[Fact("licence", "Apache-2.0", verified=False), Fact("tokens", "unknown", verified=False)],
        sources=["https://github.com/stanford-crfm/mistral"],
    )


# The nano preset of each suite.
_NANO = {"nano": "quick", "nano-standard": "standard"}


def _nano(name: str) -> Suite:
    from headway import nano

    preset = _NANO[name]
    recipe, place = nano.PRESETS[preset], nano.place(preset).resolve()
    steps = KnownSteps(recipe.steps, f"{len(recipe.steps)}: {', '.join(map(str, recipe.steps))}")
    return Suite(
        name,
        [Run(run, *parse_run(run), location=place / run, revisions=steps) for run in nano.planned_runs(recipe)],
        about="small models, trained from scratch on this machine",
        origin="this machine: trained when first used, then kept in the user's cache folder",
        corpus="nano",
        make=lambda runs, progress: nano.folder(preset, progress, runs),
    )


_FILES = Path(__file__).parent / "known"


def _described(name: str) -> Callable[[], Suite]:
    return lambda: read_suite(_FILES / f"{name}{ENDING}")


_KNOWN: dict[str, Callable[[], Suite]] = {
    "pythia": _pythia,
    "pythia-deduped": _pythia_deduped,
    "polypythias": _polypythias,
    "olmo2": _olmo2,
    "olmo2-stage2": _olmo2_stage2,
    "stanford-gpt2": _stanford_gpt2,
    **{path.stem: _described(path.stem) for path in sorted(_FILES.glob(f"*{ENDING}"))},
}
_HUB = "hf:"


def open_suite(name: str | PathLike[str]) -> Suite:
    """Open a suite by its name, its folder, or its Hub repositories.

    Args:
        name: a known name (see `known_suites()`); a folder `FOLDER/RUN/REVISION/`; a folder `RUN/REVISION/` of one
            run; a suite file `NAME.toml`; or `hf:OWNER/NAME,OWNER/NAME`, repositories whose revision names contain a step.

    Raises:
        SelectionError: `name` is none of these. The message lists the known names.
    """
    name = str(name)
    if name in _KNOWN:
        return _KNOWN[name]()
    if name in _NANO:
        return _nano(name)
    if name.startswith(_HUB):
        return _hub_suite(name.removeprefix(_HUB).split(","))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder_suite(folder)
    if name.endswith(ENDING):
        return read_suite(folder)
    known = [*_KNOWN, *_NANO]
    close = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    listed = ", ".join([*close, *(other for other in known if other not in close)])
    raise SelectionError(
        f"no suite is called {name!r}, and no such folder exists; known suites: {listed}. "
        f"Write repositories of the Hub as {_HUB}OWNER/NAME"
    )


def known_suites() -> list[SuiteInfo]:
    """Describe the suites that are known by name. Nothing is fetched."""
    return [*(make().describe() for make in _KNOWN.values()), *(_nano(name).describe() for name in _NANO)]


def _hub_suite(repos: Sequence[str]) -> Suite:
    for repo in repos:
        if not hub.is_repo(repo):
            raise SelectionError(f"{repo!r} does not name a repository of the Hub: write {_HUB}OWNER/NAME")
    names = [repo.split("/")[1] for repo in repos]
    if len(set(names)) < len(names):
        raise SelectionError(f"two of {', '.join(repos)} have the same name: measure them into separate directories")
    runs = [_hub_run(repo, parse_run(name), HubRevisions(repo)) for repo, name in zip(repos, names, strict=True)]
    name = "+".join(names)
    return Suite(name, runs, about="repositories of the Hub", origin=", ".join(repos))
