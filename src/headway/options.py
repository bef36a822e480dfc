"""Every option of headway, declared once: its name, default, unit and one line of help.

A job's fields, a Python function's signature and docstring, and a command's options are made from these declarations.
The module needs neither torch nor polars, because `headway --help` reads it.

To add an option, write an `Option` here, name it in its `Command`, and give the function in `headway.api` a parameter of
the same name whose default is `options.NAME.default`. `tests/test_options.py` says what is missing.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum, auto
from typing import Any, Generic, TypeVar

from headway.errors import UsageError
from headway.known_scores import SCORES as KNOWN_SCORES

T = TypeVar("T")
Documented = TypeVar("Documented", bound=Callable[..., Any])

_MOST = 10_000  # numbers in a range: a longer one is a slip, and would fill the memory
REQUIRED: Any = inspect.Parameter.empty  # the default of an option that must be given


class Takes(Enum):
    """The form that a value has on the command line."""

    TEXT = auto()
    NUMBER = auto()
    FRACTION = auto()
    SWITCH = auto()  # False, unless the option is named
    YES_NO = auto()
    WORDS = auto()  # separated by commas
    NUMBERS = auto()  # whole numbers and ranges separated by commas, such as 1,2,5..9
    SEVERAL = auto()  # one value each time that the option is named


@dataclass(frozen=True)
class Option(Generic[T]):
    """One option, of the command line and of Python.

    Attributes:
        name: the name of the parameter in Python.
        default: the value if it is not given; `REQUIRED` if it must be.
        help: one line, for `--help` and for the docstring.
        takes: the form of the value on the command line.
        unit: what the value counts or names, as `--help` shows it: `--nulls DRAWS`.
        choices: the known values. Completion offers them, and `require` refuses others.
        at_least: the smallest number.
        positional: the command takes it by position, without a flag.
        flag: the option's spelling, if it is not the name with hyphens.
    """

    name: str
    default: T
    help: str
    takes: Takes = Takes.TEXT
    unit: str = ""
    choices: tuple[str, ...] = ()
    at_least: int | None = None
    positional: bool = False
    flag: str = ""

    @property
    def spelling(self) -> str:
        """`--out`, or the name of an argument that has no flag."""
        return self.name if self.positional else self.flag or f"--{self.name.replace('_', '-')}"

    @property
    def metavar(self) -> str:
        """The word for the value in `--help`."""
        if self.unit:
            return self.unit.upper()
        if self.choices and self.takes is Takes.TEXT:
            return "|".join(self.choices)
        return {Takes.WORDS: "NAMES", Takes.NUMBER: "NUMBER", Takes.NUMBERS: "NUMBERS"}.get(self.takes, "TEXT")

    def parse(self, text: str | None) -> Any:
        """The Python value of `WORDS` or `NUMBERS`; no words are None if that is the default.

        Raises:
            UsageError: One of `NUMBERS` is not a whole number.
        """
        words = (text or "").replace(",", " ").split()
        if not words and self.default is None:
            return None
        if self.takes is Takes.NUMBERS:
            ranges = [re.fullmatch(r"(\d{1,9})(?:\.\.(\d{1,9}))?", word) for word in words]
            if not all(ranges):
                raise UsageError(f"{self.spelling} takes whole numbers and ranges separated by commas, not {text!r}")
            ends = [(int(found[1]), int(found[2] or found[1])) for found in ranges if found]
            return tuple(number for first, last in ends for number in range(first, min(last, first + _MOST) + 1))
        return tuple(words)

    def show(self) -> str | None:
        """The default as it is written on the command line; the inverse of `parse`."""
        return None if self.default is None else ",".join(map(str, self.default))  # type: ignore[call-overload]

    def require(self, value: Any) -> None:
        """Check a value: each of its words must be a choice, and a number must not be too small.

        Raises:
            UsageError: It is not so. The message names the choices, or the smallest number.
        """
        if self.at_least is not None and value < self.at_least:
            raise UsageError(f"{self.spelling} must be at least {self.at_least}, not {value}")
        if self.takes is Takes.WORDS and self.default and not value:
            raise UsageError(f"{self.spelling} is empty. Name one or more of {', '.join(self.choices)}")
        if self.choices:
            for word in [value] if isinstance(value, str) else value:
                self._require_choice(word)

    def _require_choice(self, word: str) -> None:
        if word not in self.choices:
            near = get_close_matches(str(word), self.choices, n=1)
            meant = f", did you mean {near[0]!r}?" if near else "."
            raise UsageError(f"{self.spelling}: unknown value {word!r}{meant} Known are {', '.join(self.choices)}")


@dataclass(frozen=True)
class Command:
    """A command and the Python function behind it.

    Attributes:
        name: the words after `headway`.
        summary: one line for `headway --help`.
        options: in the order of `--help`.
        examples: commands that `--help` shows, without the word `headway`, each with what it does.
        more: a paragraph below the summary.
    """

    name: str
    summary: str
    options: tuple[Option[Any], ...]
    examples: tuple[tuple[str, str], ...]
    more: str = ""

    def require(self, **values: Any) -> None:
        """Check values by the names of their options, as `Option.require` does."""
        for option in self.options:
            if option.name in values:
                option.require(values[option.name])


def documented(command: Command) -> Callable[[Documented], Documented]:
    """Replace the line `{options}` in the docstring of a function or dataclass by one line of help for each option.

    Only its own parameters are listed, so that a job does not show what only the function has.
    """

    def fill(thing: Documented) -> Documented:
        if thing.__doc__:  # there is none under `python -OO`
            parameters = inspect.signature(thing).parameters
            own = [option for option in (*command.options, *IN_PYTHON) if option.name in parameters]
            thing.__doc__ = re.sub(
                r"^( *)\{options\}$", lambda found: _lines(own, found[1]), thing.__doc__, flags=re.MULTILINE
            )
        return thing

    return fill


def _lines(own: Iterable[Option[Any]], indent: str) -> str:
    return "\n".join(
        textwrap.fill(
            f"{option.name}: {option.help}",
            width=100,
            initial_indent=indent,
            subsequent_indent=f"{indent}    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for option in own
    )


# --- what several commands share ------------------------------------------------------------------------------------

SUITE = Option[str](
    "suite",
    REQUIRED,
    "A suite's name, a folder RUN/REVISION/ or FOLDER/RUN/REVISION/, a suite file NAME.toml, or hf:OWNER/NAME.",
    unit="suite",
    choices=(
        "pythia",
        "pythia-deduped",
        "polypythias",
        "olmo2",
        "olmo2-stage2",
        "stanford-gpt2",
        "amber",
        "babylm",
        "bloom",
        "crystal",
        "datadecide",
        "fineweb-ablations",
        "k2",
        "multiberts",
        "olmo-0724",
        "olmo-1.7",
        "olmo",
        "olmo3",
        "olmoe",
        "open-sci-ref",
        "pico",
        "redpajama-incite",
        "smollm2",
        "smollm3",
        "tinyllama",
        "trillion",
        "nano",
        "nano-standard",
    ),
    positional=True,
)
DIRECTORY = Option[str]("directory", REQUIRED, "The run directory.", unit="dir", positional=True)
OUT = Option[str]("out", REQUIRED, "The run directory to write to; it may exist already.", unit="dir")
WHERE = Option(
    "where",
    "",
    'The checkpoints to take, such as "size=14m,70m seed=1..3 step=0,512,last"; all of them if empty.',
    unit="selection",
)
CORPUS = Option[str | None](
    "corpus",
    None,
    "The texts: texts.txt, table.csv:Column, book.xlsx:Column (all sheets), book.xlsx[A,B]:Column, or nano.",
)
LAYERS = Option[tuple[int, ...] | None](
    "layers", None, "The layers to take, counted from 0; all of them if not given.", Takes.NUMBERS, unit="layers"
)
DTYPE = Option(
    "dtype",
    "float32",
    "The number type of weights and activations: float32, bfloat16, float16 or float64.",
    choices=("float32", "bfloat16", "float16", "float64"),
)
DEVICE = Option(
    "device",
    "auto",
    "The device that models run on: cpu, cuda, cuda:NUMBER, or auto for a GPU if there is one.",
    choices=("auto", "cpu", "cuda"),
)
SEED = Option("seed", 0, "The seed of the random numbers.", Takes.NUMBER)
KEEP_FILES = Option("keep_files", True, "Whether to keep downloaded weights after use.", Takes.YES_NO)
FORCE = Option(
    "force",
    False,
    "Overwrite results that were computed with other settings or package versions.",
    Takes.SWITCH,
)
# How a sweep's work is spread: options of the command line, from which it makes an executor.
WORKERS = Option(
    "workers", 1, "How many processes share the work; with GPUs, one for each GPU.", Takes.NUMBER, "processes", (), 1
)
RAY = Option("ray", False, "Do the work as Ray tasks (pip install 'headway[ray]').", Takes.SWITCH)
RAY_ADDRESS = Option("ray_address", "", "The address of an existing Ray cluster; implies --ray.", unit="address")
RAY_CPUS = Option("ray_cpus", 1.0, "How many CPUs each Ray task asks for.", Takes.FRACTION, "CPUs")
RAY_GPUS = Option(
    "ray_gpus", 0.0, "How many GPUs each Ray task asks for; a fraction lets tasks share one.", Takes.FRACTION, "GPUs"
)
SPREAD = (WORKERS, RAY, RAY_ADDRESS, RAY_CPUS, RAY_GPUS)
# What only Python can say; the command line makes both itself.
EXECUTOR = Option[Any](
    "executor", None, "Where the work is done, such as `headway.sweep.Processes(4)`; in this process if None."
)
PROGRESS = Option[Any]("progress", None, "Shows how far the work is, such as `headway.progress.showing()`.")
IN_PYTHON = (EXECUTOR, PROGRESS)

# --- suites ---------------------------------------------------------------------------------------------------------

SUITE_NAME = Option[str | None](
    "name",
    None,
    "The suite to show, with what public reports say of it; all known suites if not given.",
    unit="suite",
    choices=SUITE.choices,
    positional=True,
)
TREE = Option("tree", False, "List each run with its steps; the Hub is asked for those that it names.", Takes.SWITCH)
SUITES = Command(
    "suites",
    "List the known suites, or show one: sizes, seeds, steps, tokens, licence and origin.",
    (SUITE_NAME, TREE, WHERE),
    (
        ("suites", "Then name one in headway measure; a folder of checkpoints is a suite, too."),
        ('suites smollm3 --tree --where "tokens=1T..2T"', "Each of its runs, with its steps."),
    ),
)

# --- measure --------------------------------------------------------------------------------------------------------

SCORES = Option[tuple[str, ...]](
    "scores",
    ("prev", "self", "first", "prev_self_ratio", "prev_all_ratio", "prev_fraction"),
    "The names of the scores to compute, or all but the causal ones.",
    Takes.WORDS,
    choices=("all", *KNOWN_SCORES),
)
REPEATED_SEED = replace(SEED, help="The seed of the repeated random tokens.")
ABILITIES = Option[tuple[str, ...]](
    "abilities",
    (),
    "What to measure of a checkpoint: loss, positions, icl, repeat, or files of minimal pairs or cloze items.",
    Takes.WORDS,
)
LOSS = Option("loss", False, "The same as --abilities loss,repeat.", Takes.SWITCH)
KEEP = Option[tuple[str, ...]](
    "keep",
    (),
    "What to keep besides the means over texts: texts, a row per head and text.",
    Takes.WORDS,
    choices=("texts",),
)
SPANS = Option[str | None](
    "spans", None, "JSON lines with two spans of a text each; the attention between them is kept.", unit="file"
)
ADD_BOS = Option("add_bos", False, "Put the tokenizer's BOS token before each text.", Takes.SWITCH)
REPEATED_LENGTH = Option(
    "repeated_length",
    64,
    "How many random tokens are repeated, as for induction; fewer if the context or the vocabulary is small.",
    Takes.NUMBER,
    "tokens",
    at_least=2,
    flag="--repeat-length",
)
REPEATED_TEXTS = Option(
    "repeated_texts",
    32,
    "How many sequences of repeated random tokens a model reads.",
    Takes.NUMBER,
    "texts",
    at_least=1,
    flag="--repeat-texts",
)
MEASURE = Command(
    "measure",
    "Score every head of every checkpoint on a corpus.",
    (
        SUITE,
        OUT,
        CORPUS,
        WHERE,
        SCORES,
        ABILITIES,
        KEEP,
        SPANS,
        LOSS,
        ADD_BOS,
        REPEATED_LENGTH,
        REPEATED_TEXTS,
        REPEATED_SEED,
        DTYPE,
        DEVICE,
        KEEP_FILES,
        *SPREAD,
        FORCE,
    ),
    (
        ("measure nano --out runs/nano", "Train the small built-in suite and score it on its own texts."),
        (
            'measure polypythias --where "size=14m seed=1..3 step=0,512,last" --corpus texts.txt --out runs/mine',
            "Score three steps of three runs.",
        ),
        (
            "measure pythia --corpus stories.xlsx:Sentence --scores all --workers 2 --out runs/all",
            "Compute every score, in two processes.",
        ),
        (
            "measure pythia --corpus texts.txt --abilities loss,icl,repeat,blimp.jsonl --out runs/able",
            "Measure abilities beside the heads: the table abilities.",
        ),
        (
            "measure hf:OWNER/NAME --corpus texts.txt --keep-files no --out runs/own",
            "Score a repository of the Hub, and keep no weights.",
        ),
    ),
)

# --- cluster --------------------------------------------------------------------------------------------------------

LAYOUT = Option(
    "layout",
    "true",
    "How a fused weight is read: true, or published for GPT-NeoX as the published study read it, which mixes heads.",
    choices=("true", "published"),
)
FEATURES = Option[tuple[str, ...]](
    "features",
    ("raw", "circuit"),
    "What describes a head: raw (its weights), circuit (what no change of basis inside a head alters), or both.",
    Takes.WORDS,
    choices=("raw", "circuit"),
)
METHODS = Option[tuple[str, ...]](
    "methods",
    ("kmeans", "ward"),
    "How heads are clustered: kmeans, ward, or both.",
    Takes.WORDS,
    choices=("kmeans", "ward"),
)
KS = Option[tuple[int, ...]]("ks", (2, 3, 4, 5), "The numbers of clusters.", Takes.NUMBERS, "clusters")
LABELS = Option[tuple[str, ...]](
    "labels",
    (),
    "Clusters of your own: even_odd, or a file with the columns head and label.",
    Takes.SEVERAL,
    "labels",
    ("even_odd",),
)
NULLS = Option(
    "nulls", 99, "How many random draws of each null; 0 computes no nulls.", Takes.NUMBER, "draws", at_least=0
)
MOST_DRAWS = Option(
    "most_draws",
    1999,
    "The most random draws for the p-value of groups, which are made where p is small.",
    Takes.NUMBER,
    "draws",
    at_least=1,
)
CLUSTER_SEED = replace(SEED, default=42, help="The seed of the nulls; k-means has its own.")  # as published
CLUSTER = Command(
    "cluster",
    "Cluster the heads of every layer by their weights, with controls.",
    (
        SUITE,
        OUT,
        WHERE,
        LAYOUT,
        FEATURES,
        METHODS,
        KS,
        LAYERS,
        LABELS,
        NULLS,
        MOST_DRAWS,
        CLUSTER_SEED,
        KEEP_FILES,
        *(option for option in SPREAD if option is not RAY_GPUS),  # weights are clustered on CPUs
        FORCE,
    ),
    (
        ('cluster nano --where "seed=1 step=0,last" --out runs/nano', "Cluster the heads of one run at two steps."),
        (
            'cluster polypythias --where "size=160m step=1000,143000" --ks 2,3 --nulls 199 --out runs/clusters',
            "Look for two and three clusters, with twice as many draws of the nulls.",
        ),
        (
            'cluster nano --where "seed=1 step=last" --labels even_odd --labels mine.csv --out runs/labels',
            "Describe clusters of your own beside those that are found.",
        ),
    ),
)

# --- intervene ------------------------------------------------------------------------------------------------------

WHERE_LAST = replace(WHERE, default="step=last", help=f"{WHERE.help.partition(';')[0]}; one step of each run.")
FIRST_TEXTS = replace(
    CORPUS, help="The corpus whose first texts a model reads, as in measure; the suite's if not given."
)
PROMPTS = Option[str | None](
    "prompts", None, "A file of prompts, each a line TASK<tab>PROMPT; built-in prompts if not given.", unit="file"
)
KINDS = Option[tuple[str, ...]](
    "kinds",
    ("q", "k", "v"),
    "The kinds of weights whose clusters are used.",
    Takes.WORDS,
    choices=("q", "k", "v", "o"),
)
CLUSTERING = Option("clustering", "kmeans", "The clusters to use: kmeans, ward, or the name of labels of your own.")
K = Option("k", 2, "How many clusters kmeans or ward made.", Takes.NUMBER, "clusters", at_least=2)
TOGETHER = Option(
    "together",
    False,
    "Change all layers at once, not one at a time; clusters that were found are joined by size.",
    Takes.SWITCH,
)
SUBSTITUTES = ("zero", "mean", "resample")  # what an ablated head says
OPERATIONS = Option[tuple[str, ...]](
    "operations",
    ("zero", "mean", "swap"),
    "What is done: zero, mean or resample ablate heads, swap exchanges two clusters.",
    Takes.WORDS,
    choices=(*SUBSTITUTES, "swap"),
)
CONVENTION = Option(
    "convention",
    "true",
    "How heads are changed: true, or published for the interventions of the published study, which are not of heads.",
    choices=("true", "published"),
    flag="--as",
)
N_TEXTS = Option(
    "n_texts", 16, "How many texts of the corpus a model reads.", Takes.NUMBER, "texts", (), 1, flag="--texts"
)
CONTROLS = Option(
    "controls",
    200,
    "How many random groups of heads stand beside each effect; all of them if there are fewer.",
    Takes.NUMBER,
    "groups",
    at_least=0,
)
CONTROLS_SEED = replace(SEED, help="The seed of the random groups.")
ABLATED_HEADS = Option(
    "heads",
    "clusters",
    "What to ablate: clusters, 'top N by SCORE' or 'role=NAME' ('at each', 'at last' or 'at STEP'), or a file of heads.",
    unit="heads",
)
EFFECTS = Option[tuple[str, ...]](
    "effects",
    ("repeat", "loss", "kl"),
    "What to measure without heads: kl, abilities as in measure, and scores of other heads.",
    Takes.WORDS,
    "names",
)
INTERVENE = Command(
    "intervene",
    "Ablate and swap the clusters of heads, beside random groups of heads.",
    (
        SUITE,
        OUT,
        WHERE_LAST,
        ABLATED_HEADS,
        EFFECTS,
        FIRST_TEXTS,
        PROMPTS,
        KINDS,
        CLUSTERING,
        K,
        LAYERS,
        TOGETHER,
        OPERATIONS,
        CONVENTION,
        N_TEXTS,
        CONTROLS,
        CONTROLS_SEED,
        DTYPE,
        DEVICE,
        KEEP_FILES,
        *SPREAD,
        FORCE,
    ),
    (
        ('intervene nano --where "seed=1 step=last" --out runs/nano', "Use the clusters that headway cluster found."),
        (
            'intervene polypythias --where "size=160m step=last" --prompts prompts.txt --k 3 --out runs/clusters',
            "Use three clusters in each layer, and prompts of your own.",
        ),
        (
            'intervene nano --where "size=50k" --heads "role=induction at last" --controls 20 --texts 4 --out runs/nano',
            "Follow the final induction heads back through training: what is lost without them?",
        ),
        (
            'intervene nano --where "seed=1 step=last" --clustering even_odd --together --controls 50 --out runs/labels',
            "Ablate clusters of your own in all layers at once, beside 50 random groups.",
        ),
    ),
)

# --- relate ---------------------------------------------------------------------------------------------------------

RELATIONS = Option[tuple[str, ...]](
    "relations",
    ("composition", "paths"),
    "What to compute: composition (of weights), paths (from one head to another), or both.",
    Takes.WORDS,
    choices=("composition", "paths"),
)
SENDERS = Option(
    "senders",
    "role=previous-token",
    "The heads that paths start from: 'top N by SCORE' or 'role=NAME', with 'at each', 'at last' or 'at STEP' behind it.",
    unit="heads",
    flag="--from",
)
RECEIVERS = Option("receivers", "role=induction", "The heads that paths lead to, as --from.", unit="heads", flag="--to")
REPLACEMENTS = Option[tuple[str, ...]](
    "replacements",
    ("mean",),
    "What replaces the part of a head: mean (over texts), resample (its part on another text), or both.",
    Takes.WORDS,
    choices=("mean", "resample"),
    flag="--replace",
)
PATH_CONTROLS = replace(
    CONTROLS,
    default=20,
    help="How many other heads of each sender's layer stand beside it; all of them if there are fewer.",
    unit="heads",
)
PATH_SEED = replace(SEED, help="The seed of the controls and of the repeated random tokens.")
RELATE = Command(
    "relate",
    "Say which head feeds which: composition of weights, and paths from heads to heads.",
    (
        SUITE,
        OUT,
        WHERE,
        RELATIONS,
        SENDERS,
        RECEIVERS,
        FIRST_TEXTS,
        REPLACEMENTS,
        N_TEXTS,
        REPEATED_LENGTH,
        PATH_CONTROLS,
        PATH_SEED,
        DTYPE,
        DEVICE,
        KEEP_FILES,
        *SPREAD,
        FORCE,
    ),
    (
        ("relate nano --relations composition --out runs/nano", "Composition of all pairs of heads, at every step."),
        (
            'relate nano --where "size=50k" --from "role=previous-token at last" --to "role=induction at last" --out runs/nano',
            "Paths between the final heads, followed back through training.",
        ),
    ),
    more="Paths need the table of heads, in which headway measure has scored heads into the same run directory.",
)

# --- describe -------------------------------------------------------------------------------------------------------

DESCRIBED_TEXTS = replace(
    N_TEXTS, default=4, help="How many texts of the corpus, and how many of repeated random tokens, a model reads."
)
DESCRIBED_LENGTH = replace(
    REPEATED_LENGTH,
    default=12,
    help="How many random tokens are repeated. Texts of the corpus are cut to twice as many tokens.",
)
DESCRIBED_SEED = replace(SEED, help="The seed of the repeated random tokens.")
DESCRIBE = Command(
    "describe",
    "Describe each head so that heads of different runs can be compared: weight features, attention and outputs.",
    (
        SUITE,
        OUT,
        WHERE,
        FIRST_TEXTS,
        DESCRIBED_TEXTS,
        DESCRIBED_LENGTH,
        DESCRIBED_SEED,
        DTYPE,
        DEVICE,
        KEEP_FILES,
        *SPREAD,
        FORCE,
    ),
    (
        (
            'describe nano --where "step=0,last" --out runs/nano',
            "Then headway analyze compares heads of a role over runs.",
        ),
        (
            'describe polypythias --where "size=14m,70m step=last" --corpus texts.txt --out runs/mine',
            "Describe the final heads of two sizes, on texts of your own.",
        ),
    ),
)

# --- import-heads ---------------------------------------------------------------------------------------------------

FILES = Option[tuple[str, ...]](
    "files", REQUIRED, "The CSV files, plain or gzipped.", Takes.SEVERAL, "file...", positional=True
)
SUITE_COLUMN = Option("suite", "published", "The suite's name in the table.", unit="name")
COLUMNS = Option(
    "columns",
    "",
    'Which column is what, such as "run=mpath+seed, step=step, layer=layer, head=head, induction=ps".',
    unit="names",
)
FIRST_LAYER = Option[int | None](
    "first_layer",
    None,
    "The number of the first layer and head in the files, 0 or 1; as the files show it if not given.",
    Takes.NUMBER,
    at_least=0,
)
REPLACE_TABLE = replace(FORCE, help="Overwrite what was imported from other files or with other options.")
IMPORT_HEADS = Command(
    "import-heads",
    "Read per-head tables as studies publish them, and join them.",
    (FILES, OUT, SUITE_COLUMN, COLUMNS, FIRST_LAYER, REPLACE_TABLE),
    (
        ("import-heads pythia_heads.csv.gz --out runs/published", "Then run headway analyze runs/published."),
        (
            "import-heads pythia_heads.csv.gz pythia_induction.csv.gz --out runs/pythia",
            "Join two tables by run, step, layer and head.",
        ),
        (
            'import-heads mine.csv --columns "run=model+seed, step=step, layer=block, head=head, induction=ps" '
            "--first-layer 1 --out runs/mine",
            "Say which column is what. A column that is neither a score nor a name of a row becomes an ability.",
        ),
    ),
    "Rows of samples are averaged. Numbers that all heads of a checkpoint share, such as accuracy on repeated sequences, "
    "go to the table imported_abilities. The command says how it read each file, and what is missing.",
)

# --- import-abilities -----------------------------------------------------------------------------------------------

ABILITY_FILES = replace(FILES, help="JSON results of lm-evaluation-harness, or CSV tables, plain or gzipped.")
ABILITY_COLUMNS = replace(
    COLUMNS, help='Which column of a CSV table is what, such as "run=mpath+seed, step=step, accuracy=acc".'
)
IMPORT_ABILITIES = Command(
    "import-abilities",
    "Read what others measured of checkpoints: evaluations, losses, accuracies.",
    (ABILITY_FILES, OUT, SUITE_COLUMN, ABILITY_COLUMNS, REPLACE_TABLE),
    (
        ("import-abilities evals/*.json --out runs/pythia", "Put evaluations beside the heads of runs/pythia."),
        (
            'import-abilities losses.csv --columns "run=model+seed, step=step, loss=nll" --out runs/pythia',
            "Read a table with a column for each ability.",
        ),
        (
            'import-abilities long.csv --columns "run=name, step=step, ability=task+metric, value=score" --out runs/pythia',
            "Read a table with a row for each ability.",
        ),
    ),
    "Several imports add up in one table. The command says how it read the files, and which runs and steps the table heads "
    "does not have.",
)

# --- analyze, report ------------------------------------------------------------------------------------------------

STUDIES = Option[tuple[str, ...]](
    "studies",
    (),
    "The studies to run; if not given, all that have a table.",
    Takes.WORDS,
    choices=(
        "development",
        "roles",
        "abilities",
        "weight_clusters",
        "causes",
        "ablations",
        "relations",
        "configuration",
        "suites",
        "scorecard",
    ),
    flag="--study",
)
STUDIED_SCORE_FIRST = "prev_self_ratio"
STUDIED_SCORES = Option[tuple[str, ...]](
    "scores",
    (),
    f"A score that development and causes look at, or several. Default: {STUDIED_SCORE_FIRST}, or else the table's first.",
    Takes.SEVERAL,
    "name",
    flag="--score",
)
ROLES = Option[tuple[str, ...]](
    "roles",
    (),
    "A role that the studies roles and abilities look for: NAME=SCORE, or NAME=SCORE>LEVEL for a level of your own.",
    Takes.SEVERAL,
    "role",
    flag="--role",
)
BOOTSTRAPS = Option(
    "bootstraps",
    1000,
    "How many resamples for intervals and tests; 0 leaves both out.",
    Takes.NUMBER,
    "resamples",
    at_least=0,
)
RESAMPLING_SEED = replace(SEED, help="The seed of the resamples.")
FORCE_STUDIES = replace(FORCE, help="Run studies again whose tables and options have not changed.")
STUDY_WORKERS = Option[int | None](
    "workers",
    None,
    "How many processes share the studies; one for each core if not given.",
    Takes.NUMBER,
    "processes",
    at_least=1,
)
ANALYZE = Command(
    "analyze",
    "Run the studies, and save what they find.",
    (DIRECTORY, STUDIES, STUDIED_SCORES, ROLES, BOOTSTRAPS, RESAMPLING_SEED, FORCE_STUDIES, STUDY_WORKERS),
    (
        ("analyze runs/mine", "Run every study that has a table."),
        (
            "analyze runs/mine --score prev_self_ratio --score induction",
            "Study two scores, a chapter of the report each.",
        ),
        (
            "analyze runs/mine --study roles --role 'induction=induction>0.4'",
            "Count a head as an induction head from a score of 0.4 on.",
        ),
        ("analyze runs/mine --bootstraps 0", "Leave out intervals and tests, for a first look."),
    ),
)
CARD_SCORES = Option[tuple[str, ...]](
    "scores",
    (),
    "A score that is put on the axes as a role of its own name. It leaves out the known roles.",
    Takes.SEVERAL,
    "name",
    flag="--score",
)
CARD_ROLES = replace(
    ROLES, help="A role: NAME, which leaves out the others, NAME=SCORE, or NAME=SCORE>LEVEL for a level of your own."
)
AGAINST = Option[str | None]("against", None, "Another run directory, whose scorecard stands beside.", unit="dir")
CARD_SUITE = Option[str | None](
    "suite", None, "The suite to look at, if the run directory holds several; each of them if not given.", unit="name"
)
CARD_DRAWS = replace(
    BOOTSTRAPS, help="How many draws of what chance gives; 0 leaves out the axes that need them.", unit="draws"
)
CARD_JSON = Option("json", False, "Print the scorecard as JSON; several as a list.", Takes.SWITCH)
SCORECARD = Command(
    "scorecard",
    "Say on which axes claims about heads generalize, from chance (0) to perfect (1).",
    (DIRECTORY, CARD_SCORES, CARD_ROLES, AGAINST, CARD_SUITE, CARD_DRAWS, RESAMPLING_SEED, CARD_JSON),
    (
        ("scorecard runs/mine", "A line for each role and axis. headway report adds the chapter."),
        ("scorecard runs/mine --role induction --json", "The numbers of one role."),
        ("scorecard runs/mine --score copying --against runs/other", "One score, in two run directories."),
    ),
    more="The axes are functional, developmental, positional, relational and configurational (Trott 2025). An axis that the data "
    "cannot answer says what would.",
)
PILOT = replace(DIRECTORY, help="A run directory that has been analysed: the pilot.")
QUESTION = Option(
    "question",
    "onset by size",
    "What the study asks: 'onset by size', or two sizes such as 'peak 14m 70m'; likewise peak and slope.",
)
STUDIED_SCORE = Option("score", "prev_self_ratio", "The score whose development is asked about.", unit="name")
PILOT_SUITE = replace(CARD_SUITE, help="The suite that is the pilot, if the run directory holds several.")
SEED_COUNTS = Option[tuple[int, ...]](
    "seeds", (3, 6, 9, 12, 18, 24, 30), "The numbers of seeds of each size.", Takes.NUMBERS, "seeds"
)
SIMULATIONS = Option(
    "simulations",
    2000,
    "How many studies are simulated for each number of seeds.",
    Takes.NUMBER,
    "studies",
    at_least=1,
)
SIMULATION_SEED = replace(SEED, help="The seed of the simulation.")
POWER = Command(
    "power",
    "Say how many seeds a study needs, from a pilot.",
    (PILOT, QUESTION, STUDIED_SCORE, PILOT_SUITE, SEED_COUNTS, SIMULATIONS, SIMULATION_SEED),
    (
        ("power runs/pilot", "How many seeds show that larger models start earlier or later?"),
        ("power runs/pilot --question 'peak 14m 70m' --seeds 3..30", "How many show a difference of two sizes?"),
    ),
)
FORMAT = Option(
    "format",
    "html",
    "The form of the report: html is one file that opens offline, md is for a repository.",
    choices=("html", "md"),
)
FIGURES = Option("figures", True, "Whether to write each figure as SVG and PNG, too.", Takes.YES_NO)
REPORT = Command(
    "report",
    "Write the report, and each figure as SVG and PNG.",
    (DIRECTORY, FORMAT, FIGURES),
    (
        ("report runs/mine", "Write runs/mine/report.html."),
        ("report runs/mine --format md", "Write runs/mine/report.md."),
    ),
)

# --- audit, status --------------------------------------------------------------------------------------------------

DEEP = Option("deep", False, "Read the weights, too.", Takes.SWITCH)
AUDIT_OUT = Option[str | None](
    "out", None, "A folder for audit.json and audit.parquet; the report of a run directory shows them.", unit="dir"
)
AUDIT = Command(
    "audit",
    "Check that a suite is what it says: equal, missing, odd and misplaced weights.",
    (SUITE, WHERE, DEEP, AUDIT_OUT, KEEP_FILES),
    (
        ("audit polypythias", "Compare names, sizes and hashes; download nothing."),
        (
            'audit pythia --where "size=160m" --deep --keep-files no --out runs/mine',
            "Read the weights, keep none, and save what is found.",
        ),
    ),
    "Each checkpoint is compared with the last step of its run, whether --where selects that or not. measure and "
    "cluster warn of checkpoints that an audit flagged. The exit code is 1 if there are flags; notes are no flags.",
)
VERIFY = Option("verify", False, "Read every partition whole, and name the damaged ones.", Takes.SWITCH)
STATUS = Command(
    "status",
    "Say how far a sweep is, from its files alone.",
    (DIRECTORY, VERIFY),
    (
        ("status runs/mine", "Count what is done, failed and left."),
        ("status runs/mine --verify", "Look for damaged files, too."),
    ),
)

# --- nano, demo -----------------------------------------------------------------------------------------------------

PRESET = Option(
    "preset",
    "quick",
    "The recipe: quick, or standard for 4 sizes, 9 seeds and 21 steps.",
    choices=("quick", "standard"),
)
SUITE_FOLDER = Option[str | None]("out", None, "The suite's folder; in the user's cache if not given.", unit="dir")
TRAINING_DEVICE = Option(
    "device", "cpu", "The device to train on: cpu, cuda, cuda:NUMBER, or auto for a GPU if there is one."
)
RUNS_AT_ONCE = Option[int | None](
    "workers",
    None,
    "How many processes train runs; if not given, one for each core, or up to twice as many if each run can have one.",
    Takes.NUMBER,
    "processes",
    at_least=1,
)
VARY = Option[tuple[str, ...]](
    "vary",
    (),
    'A factor that runs differ in, with its levels, such as "repeated=0,0.1,0.5"; give it for each factor.',
    Takes.SEVERAL,
    "factor=levels",
)
N_SEEDS = Option[int | None](
    "seeds", None, "How many seeds: 1, 2 and so on; the recipe's if not given.", Takes.NUMBER, "seeds", at_least=1
)
SIZES = Option[tuple[str, ...]](
    "sizes", (), "The sizes of the recipe to train, such as 50k; all of them if not given.", Takes.WORDS
)
START = Option[str | None](
    "start",
    None,
    "The checkpoint that all runs start from, such as labs/mine/nano-50k-seed1@128.",
    unit="run@step",
    flag="--from",
)
KEEP_OPTIMIZER = Option(
    "keep_optimizer", False, "Keep the optimizer's moments at each checkpoint, for forks.", Takes.SWITCH
)
NANO_TRAIN = Command(
    "nano train",
    "Train the nano suite; runs that are there already are kept.",
    (PRESET, SUITE_FOLDER, VARY, N_SEEDS, SIZES, START, KEEP_OPTIMIZER, TRAINING_DEVICE, RUNS_AT_ONCE),
    (
        ("nano train", "Train the quick suite into the cache, in about two minutes of two cores."),
        (
            'nano train --vary "repeated=0.5,0.7,0.9" --seeds 6 --sizes 50k --out labs/repeats',
            "A laboratory: 18 runs that differ in the share of repeated passages, and in their seeds.",
        ),
        (
            'nano train --from labs/repeats/nano-50k-repeated0.9-seed1@128 --vary "withheld=none,128-224" --out labs/fork',
            "Start from a checkpoint, with and without repeated passages in the steps after it.",
        ),
        ("nano train --preset standard --out suites/nano --workers 2", "Train the large suite into a folder."),
    ),
)
NANO_RUN = Option[str](
    "run",
    REQUIRED,
    "The folder of a run in its suite, such as labs/repeats/nano-50k-seed1.",
    unit="run",
    positional=True,
)
READ_STEPS = Option[tuple[int, ...] | None](
    "steps", None, "The steps whose batches are looked at, such as 200..300; all if not given.", Takes.NUMBERS, "steps"
)
SHOWN = Option("show", 3, "How many sequences of the first of these steps to show.", Takes.NUMBER, "texts", at_least=0)
DATA_OUT = Option[str | None]("out", None, "A file for the statistics: .csv or .parquet.", unit="file")
NANO_DATA = Command(
    "nano data",
    "Show what a nano run read: sequences as text, and statistics of each step.",
    (NANO_RUN, READ_STEPS, SHOWN, DATA_OUT),
    (
        (
            "nano data labs/repeats/nano-50k-repeated0.9-seed1 --steps 200..300 --out data.csv",
            "Draw the batches of these steps again, and describe them.",
        ),
    ),
)
NANO_SUITE = Option[str](
    "suite", REQUIRED, "The folder of a nano suite, such as labs/repeats.", positional=True, unit="folder"
)
NANO_STATISTICS = Command(
    "nano statistics",
    "Describe what every run of a nano suite read, for the study of causes.",
    (NANO_SUITE, OUT, FORCE),
    (("nano statistics labs/repeats --out runs/repeats", "Put statistics of the data beside the trajectories."),),
)
PATTERN_RUN = Option[str]("run", REQUIRED, "The run, as `headway suites` or a table names it.", unit="name")
PATTERN_STEP = Option("step", "last", "The step, or first or last.", unit="step")
PATTERN_LAYER = Option[int]("layer", REQUIRED, "The layer, counted from 0.", Takes.NUMBER, "number", at_least=0)
PATTERN_HEAD = Option[int](
    "head", REQUIRED, "The head of that layer, counted from 0.", Takes.NUMBER, "number", at_least=0
)
TEXT = Option[str]("text", REQUIRED, "The text to read.", unit="text")
PATTERN_OUT = Option[str | None]("out", None, "A file for all pairs of tokens: .csv or .parquet.", unit="file")
PATTERN = Command(
    "pattern",
    "Show where one head looks in a text: its attention pattern.",
    (SUITE, PATTERN_RUN, PATTERN_STEP, PATTERN_LAYER, PATTERN_HEAD, TEXT, ADD_BOS, DTYPE, DEVICE, PATTERN_OUT),
    (
        (
            "pattern pythia --run pythia-14m --layer 3 --head 1 --text 'The cat sat on the mat'",
            "Print the token to which each token attends most.",
        ),
    ),
)
PATTERN_TEXTS = Option(
    "n_texts", 3, "How many texts of the corpus to show.", Takes.NUMBER, "texts", at_least=0, flag="--texts"
)
PATTERN_REPEATED = replace(
    REPEATED_LENGTH,
    default=12,
    help="Show also so many random tokens, repeated once, as induction heads need them; 0 for none.",
    at_least=0,
)
PATTERN_HEADS = Option[tuple[str, ...]](
    "heads", ("all",), "The heads to keep: all, or heads such as L3H1,L5H0.", Takes.WORDS, "heads"
)
PATTERNS = Command(
    "patterns",
    "Keep attention patterns on a few texts, for the viewer in the report.",
    (
        SUITE,
        OUT,
        WHERE_LAST,
        FIRST_TEXTS,
        PATTERN_TEXTS,
        PATTERN_REPEATED,
        PATTERN_HEADS,
        ADD_BOS,
        DTYPE,
        DEVICE,
        KEEP_FILES,
        *SPREAD,
        FORCE,
    ),
    (
        ('patterns nano --where "seed=1 step=0,last" --out runs/nano', "Keep all heads of one run at two steps."),
        (
            'patterns pythia --where "size=160m step=512,last" --heads L4H6,L5H0 --corpus texts.txt --out runs/mine',
            "Keep two heads on texts of your own.",
        ),
    ),
)
DEMO_OUT = replace(OUT, default="headway-demo")
DEMO = Command(
    "demo",
    "Train the nano suite, measure and cluster it, intervene, relate heads, analyse, and write the report.",
    (DEMO_OUT,),
    (("demo --out runs/demo", "Open runs/demo/report.html afterwards."),),
)

COMMANDS = (
    SUITES,
    MEASURE,
    CLUSTER,
    INTERVENE,
    RELATE,
    DESCRIBE,
    IMPORT_HEADS,
    IMPORT_ABILITIES,
    ANALYZE,
    SCORECARD,
    REPORT,
    POWER,
    AUDIT,
    STATUS,
    NANO_TRAIN,
    NANO_DATA,
    NANO_STATISTICS,
    PATTERN,
    PATTERNS,
    DEMO,
)
