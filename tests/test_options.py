"""Each option is declared once: the command, the Python function and the job have the same ones, with equal defaults and
equal help. Every exception stands here with its reason."""

import inspect
import re
import shlex
from dataclasses import MISSING, fields

import pytest
import typer
from typer.testing import CliRunner

import headway
from headway import api, cli, models, options, studies
from headway.abilities import CheckpointAbilities
from headway.attention import HeadScores
from headway.attention.pattern_job import KeptPatterns
from headway.attention.spans import SpanScores
from headway.circuits.description_job import HeadDescriptions
from headway.circuits.job import HeadCompositions
from headway.circuits.path_job import HeadPaths
from headway.clusters import WeightClusters
from headway.clusters.features import KINDS
from headway.errors import UsageError
from headway.interventions.ablations import HeadAblations
from headway.interventions.job import ClusterEffects
from headway.interventions.prompts import PromptAnswers
from headway.interventions.published import PublishedEffects
from headway.known_scores import SCORES
from headway.nano import PRESETS, read_data, train
from headway.options import COMMANDS, Takes
from headway.suites import known_suites, open_suite
from headway.suites.where import parse_where
from headway.sweep import Processes
from headway.sweep.ray_tasks import RayTasks

APP = typer.main.get_command(cli.app)
FUNCTIONS = {
    "suites": api.describe_suites,
    "measure": api.measure,
    "cluster": api.cluster,
    "intervene": api.intervene,
    "relate": api.relate,
    "describe": api.describe,
    "import-heads": api.import_heads,
    "import-abilities": api.import_abilities,
    "analyze": api.analyze,
    "scorecard": api.scorecard,
    "report": api.report,
    "power": api.power,
    "audit": api.audit,
    "status": api.status,
    "nano train": train,
    "nano data": read_data,
    "nano statistics": api.nano_statistics,
    "pattern": api.pattern,
    "patterns": api.patterns,
    "demo": api.demo,
}
JOBS = {
    "measure": (HeadScores, CheckpointAbilities, SpanScores),
    "cluster": (WeightClusters,),
    "intervene": (ClusterEffects, PromptAnswers, HeadAblations),
    "relate": (HeadCompositions, HeadPaths),
    "describe": (HeadDescriptions,),
    "patterns": (KeptPatterns,),
}

# --- the exceptions -------------------------------------------------------------------------------------------------

_SPREAD = "the command makes the executor from it"
NOT_IN_PYTHON = {
    **{
        (command, name): _SPREAD
        for command in JOBS
        for name in ("workers", "ray", "ray_address", "ray_cpus", "ray_gpus")
        if (command, name) != ("cluster", "ray_gpus")  # which no command has: weights are clustered on CPUs
    },
    ("analyze", "workers"): _SPREAD,
    ("scorecard", "json"): "Python returns the result",
    ("nano train", "preset"): "Python calls it `recipe`, because it takes a recipe of one's own, too",
}
NOT_ON_THE_COMMAND_LINE = {
    **dict.fromkeys(((command, "executor") for command in JOBS), "the command makes it from --workers and --ray"),
    ("analyze", "executor"): "the command makes it from --workers",
    **dict.fromkeys(
        (
            (command, "progress")
            for command in FUNCTIONS
            if command not in ("suites", "power", "status", "nano data", "pattern")  # these take no time
        ),
        "the command always shows progress",
    ),
    ("nano train", "recipe"): "called --preset, because only recipes with a name can be written there",
}
_SWEEP = "it says which checkpoints a sweep visits, or where their results go; a job sees one checkpoint"
_CHOICE = "it selects clusters, which a job gets as `groupings`"
NOT_IN_JOB = {
    **{(job, name): _SWEEP for jobs in JOBS.values() for job in jobs for name in ("suite", "out", "where", "force")},
    **{
        (job, name): _CHOICE for job in JOBS["intervene"] for name in ("kinds", "clustering", "k", "layers", "together")
    },
    (HeadScores, "abilities"): "CheckpointAbilities measures them",
    (CheckpointAbilities, "scores"): "HeadScores computes them",
    **{(job, "loss"): "it stands for two abilities" for job in JOBS["measure"]},
    **{(job, "keep"): "it makes TextScores of HeadScores" for job in JOBS["measure"]},
    **{(job, "spans"): "SpanScores reads them" for job in JOBS["measure"][:2]},
    **{
        (SpanScores, name): "the job reads the texts of the spans"
        for name in ("corpus", "scores", "abilities", "repeated_length", "repeated_texts", "seed")
    },
    **{(job, name): "HeadAblations takes them" for job in JOBS["intervene"][:2] for name in ("heads", "effects")},
    (HeadAblations, "prompts"): "PromptAnswers reads them",
    **{(job, "convention"): "it makes PublishedEffects of ClusterEffects" for job in JOBS["intervene"]},
    **{(job, "relations"): "it says which of the jobs are run" for job in JOBS["relate"]},
    **{
        (HeadCompositions, name): "HeadPaths takes it: composition reads weights alone, in float32"
        for name in (
            "senders",
            "receivers",
            "corpus",
            "replacements",
            "n_texts",
            "repeated_length",
            "controls",
            "seed",
            "dtype",
        )
    },
    (ClusterEffects, "prompts"): "the job reads the corpus; PromptAnswers reads the prompts",
    **{
        (PromptAnswers, name): "the job reads prompts; ClusterEffects reads the corpus"
        for name in ("corpus", "operations", "n_texts")
    },
}
ONLY_IN_JOB = {
    (WeightClusters, "previous"): "it follows from the checkpoints of the sweep",
    **{
        (job, name): "it is read from the table of clusters"
        for job in JOBS["intervene"][:2]
        for name in ("groupings", "lacking", "choice")
    },
    (HeadAblations, "groups"): "they are read from the table of heads",
    **{(HeadPaths, name): "they are read from the table of heads" for name in ("sending", "receiving", "score")},
}
OTHER_DEFAULT_IN_JOB = {
    (HeadScores, "corpus"): "the suite's own corpus is taken before the job is made",
    (SpanScores, "spans"): "the file is read before the job is made",
    (CheckpointAbilities, "corpus"): "the suite's own corpus is taken before the job is made",
    (ClusterEffects, "corpus"): "the suite's own corpus is taken before the job is made",
    (HeadDescriptions, "corpus"): "the suite's own corpus is taken before the job is made",
    (HeadPaths, "corpus"): "the suite's own corpus is taken before the job is made",
    (HeadAblations, "corpus"): "the suite's own corpus is taken before the job is made",
    (KeptPatterns, "corpus"): "the suite's own corpus is taken before the job is made",
    (PromptAnswers, "prompts"): "the built-in prompts are taken before the job is made",
}

# --- the comparison -------------------------------------------------------------------------------------------------


def clicked(name):
    """The command that Typer made."""
    command = APP
    for word in name.split():
        command = command.commands[word]
    return command


def of_command(command):
    return {one.name for one in clicked(command.name).params} - {"help"}


def parameters(command):
    return inspect.signature(FUNCTIONS[command.name]).parameters


def all_names(exceptions, key):
    return {name for of, name in exceptions if of == key}


def plain(text):
    """The text without its line breaks."""
    return re.sub(r"\s+", " ", text)


def jobs():
    return [(command, job) for command in COMMANDS for job in JOBS.get(command.name, ())]


def test_every_command_and_function_is_compared():
    names = {name for name in APP.commands if name != "nano"} | {
        f"nano {name}" for name in APP.commands["nano"].commands
    }
    assert names == {command.name for command in COMMANDS}
    assert set(FUNCTIONS) == {command.name for command in COMMANDS}
    assert {name.replace("-", "_") for name in FUNCTIONS} >= set(headway.__all__) - {"head_scores", "open_suite"}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_the_command_has_the_options_of_the_python_function(command):
    here, there = of_command(command), set(parameters(command))
    assert here - there == all_names(NOT_IN_PYTHON, command.name)
    assert there - here == all_names(NOT_ON_THE_COMMAND_LINE, command.name)


@pytest.mark.parametrize(("command", "job"), jobs(), ids=lambda one: getattr(one, "__name__", ""))
def test_the_job_has_the_options_of_the_python_function(command, job):
    asked = set(parameters(command)) - {"executor", "progress"}
    own = {field.name for field in fields(job)}
    assert asked - own == all_names(NOT_IN_JOB, job)
    assert own - asked == all_names(ONLY_IN_JOB, job)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_the_command_and_the_python_function_have_equal_defaults(command):
    required = [one for one in clicked(command.name).params if one.required]
    words = [word for one in required for word in ([one.opts[0], "1"] if one.opts[0].startswith("-") else ["1"])]
    given = clicked(command.name).make_context(command.name, words).params
    called = cli._arguments(command, {name: value for name, value in given.items() if name != "help"})
    for name, parameter in parameters(command).items():
        if (command.name, name) == ("analyze", "executor"):
            continue  # see test_processes_share_the_studies: a script of the user's may not start processes unasked
        if (command.name, name) in NOT_ON_THE_COMMAND_LINE:
            assert called.get(name) is None
        elif parameter.default is inspect.Parameter.empty:
            assert name in {one.name for one in required}
        else:
            assert called[name] == parameter.default, name


@pytest.mark.parametrize(("command", "job"), jobs(), ids=lambda one: getattr(one, "__name__", ""))
def test_the_job_and_the_python_function_have_equal_defaults(command, job):
    compared = 0
    for field in fields(job):
        parameter = parameters(command).get(field.name)
        if parameter is None or (job, field.name) in OTHER_DEFAULT_IN_JOB:
            assert parameter is None or field.default is MISSING
            continue
        assert field.default == parameter.default, field.name
        compared += 1
    assert compared >= (2 if job is HeadCompositions else 4)  # weights alone need few options


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_help_and_docstring_have_equal_lines(command):
    shown = CliRunner().invoke(cli.app, [*command.name.split(), "--help"], env={"COLUMNS": "200"}).stdout
    documented = plain(inspect.getdoc(FUNCTIONS[command.name]))
    assert "{options}" not in documented
    assert command.summary in plain(shown)
    if command.name != "nano train":  # `train` takes other recipes, too
        assert documented.startswith(command.summary)
    for option in command.options:
        assert option.help in plain(shown), option.name
        if option.name in parameters(command):
            assert f"{option.name}: {option.help} " in f"{documented} ", option.name
    for name in ("executor", "progress"):
        assert (f" {name}: " in documented) == (name in parameters(command))


@pytest.mark.parametrize(("command", "job"), jobs(), ids=lambda one: getattr(one, "__name__", ""))
def test_the_jobs_docstring_has_the_same_lines(command, job):
    documented = plain(inspect.getdoc(job))
    assert "{options}" not in documented
    for option in command.options:
        assert (f"{option.name}: {option.help}" in documented) == (option.name in {field.name for field in fields(job)})
    for of, name in ONLY_IN_JOB:
        assert of is not job or name == "table" or f" {name}: " in documented


@pytest.mark.parametrize(
    "option", dict.fromkeys(option for command in COMMANDS for option in command.options), ids=lambda o: o.name
)
def test_help_is_one_sentence_of_plain_words(option):
    assert option.help[0].isupper()
    assert option.help.endswith(".")
    assert len(option.help) <= 115  # one line of the docstring, after its indentation
    assert "\n" not in option.help


def test_defaults_are_those_of_the_published_analyses():
    of = {command.name: {one.name: one.default for one in command.options} for command in COMMANDS}
    assert (of["cluster"]["nulls"], of["cluster"]["most_draws"], of["cluster"]["ks"]) == (99, 1999, (2, 3, 4, 5))
    assert (of["cluster"]["seed"], of["measure"]["seed"], of["intervene"]["seed"], of["analyze"]["seed"]) == (
        42,
        0,
        0,
        0,
    )
    assert (of["intervene"]["n_texts"], of["intervene"]["controls"], of["intervene"]["k"]) == (16, 200, 2)
    assert (of["measure"]["repeated_length"], of["measure"]["repeated_texts"]) == (64, 32)
    assert (of["analyze"]["bootstraps"], of["analyze"]["scores"]) == (1000, ())
    assert options.STUDIED_SCORE_FIRST == "prev_self_ratio"


def test_studies_have_the_same_defaults():
    declared = {option.name: option.default for option in options.ANALYZE.options}
    for study in studies.STUDIES.values():
        for name, parameter in inspect.signature(study).parameters.items():
            assert name not in declared or parameter.default == declared[name], name


# --- what is given arrives ------------------------------------------------------------------------------------------


def another(option):
    """Words that give another value than the default, and that value in Python."""
    match option.takes:
        case Takes.NUMBER:
            return ["57"], 57
        case Takes.FRACTION:
            return ["0.5"], 0.5
        case Takes.SWITCH:
            return [], True
        case Takes.YES_NO:
            return ["no"], False
        case Takes.WORDS:
            return ["one,two"], ("one", "two")
        case Takes.NUMBERS:
            return ["7,5"], (7, 5)
    return ["other"], "other"


def words_for(option):
    """The words of the command line that give `option` another value, and that value."""
    if option.takes is Takes.SEVERAL:
        flags = [] if option.positional else [option.spelling]
        return [*flags, "a", *flags, "b"], ("a", "b")
    words, value = another(option)
    return (words if option.positional else [option.spelling, *words]), value


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_option_of_the_command_reaches_the_python_function(command, monkeypatch):
    got = {}

    class Reached(Exception):
        pass

    def function(*args, **given):
        got.update(inspect.signature(real).bind(*args, **given).arguments)
        raise Reached

    real = FUNCTIONS[command.name]
    package = {"nano train": "nano", "nano data": "nano"}.get(command.name, "api")
    monkeypatch.setattr(f"headway.{package}.{real.__name__}", function)
    own = [
        option
        for option in command.options
        if option not in (*options.SPREAD, options.STUDY_WORKERS, options.CARD_JSON)
    ]
    given = {option.name: words_for(option) for option in own}
    with pytest.raises(Reached):
        APP(args=[*command.name.split(), *(word for words, _ in given.values() for word in words)])
    got.pop("progress", None)
    got.pop("executor", None)
    renamed = {"recipe" if (command.name, name) in NOT_IN_PYTHON else name: value for name, (_, value) in given.items()}
    assert got == renamed


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ([], None),
        (["--workers", "3", "--device", "cpu"], (Processes, {"n": 3, "gpus": 0})),
        (["--ray", "--ray-cpus", "2"], (RayTasks, {"address": None, "cpus": 2.0, "gpus": 0.0})),
        (["--ray-address", "auto", "--ray-gpus", "0.5"], (RayTasks, {"address": "auto", "cpus": 1.0, "gpus": 0.5})),
    ],
)
@pytest.mark.parametrize("name", ["measure", "intervene", "cluster"])
def test_workers_and_ray_become_an_executor(name, words, made, monkeypatch):
    if name == "cluster" and {"--device", "--ray-gpus"} & set(words):
        words = [word for word in words if word not in ("--device", "cpu", "--ray-gpus", "0.5")]
        made = (made[0], made[1] | {"gpus": 0})
    got = {}
    monkeypatch.setattr(f"headway.api.{name}", lambda *_, **given: got.update(given) or [])
    monkeypatch.setattr(cli, "_end", lambda *_: None)
    APP(args=[name, "suite", "--out", "out", *words], standalone_mode=False)
    executor = got["executor"]
    settings = executor and {name: value for name, value in vars(executor).items() if not name.startswith("_")}
    assert (executor and (type(executor), settings)) == made


@pytest.mark.parametrize(("words", "n"), [([], 5), (["--workers", "3"], 3), (["--workers", "1"], None)])
def test_processes_share_the_studies(words, n, monkeypatch):
    got = {}
    monkeypatch.setattr("headway.devices.cores", lambda: 5)
    monkeypatch.setattr("headway.api.analyze", lambda *_, **given: got.update(given) or {})
    APP(args=["analyze", "out", *words], standalone_mode=False)
    executor = got["executor"]
    assert (executor and executor.n) == n


def job_of(monkeypatch, call):
    """The jobs that a function hands to the sweep."""
    got = []
    monkeypatch.setattr("headway.sweep.run", lambda job, *_, **__: got.extend(job if isinstance(job, list) else [job]))
    monkeypatch.setattr("headway.sweep.begun", lambda *_: True)
    call()
    return got


def test_every_option_of_measure_reaches_the_job(tmp_path, monkeypatch):
    of_heads = {"scores": ("induction",)}
    given = {
        "add_bos": True,
        "repeated_length": 8,
        "repeated_texts": 3,
        "seed": 5,
        "dtype": "bfloat16",
        "device": "cpu",
        "keep_files": False,
    }
    asked = set(parameters(options.MEASURE))
    own = [asked & {field.name for field in fields(job)} - {"corpus"} for job in JOBS["measure"]]
    of_spans = {"add_bos", "dtype", "device", "keep_files"}
    assert own == [{*given, *of_heads}, {*given, "abilities"}, {*of_spans, "spans"}]
    call = {"where": "size=14m seed=1 step=0", "corpus": "nano", "out": tmp_path / "out"}
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"sentence_good": "a b", "sentence_bad": "a c"}')
    (tmp_path / "spans.jsonl").write_text('{"text": "a b", "query": [2, 3], "key": [0, 1], "label": "x"}')
    new = {"abilities": ["icl", pairs], "loss": True, "keep": "texts", "spans": tmp_path / "spans.jsonl"}
    heads, texts, spans, abilities = job_of(
        monkeypatch, lambda: api.measure("polypythias", **new, **call, **given, **of_heads)
    )
    assert texts.heads == heads
    assert {name: getattr(spans, name) for name in of_spans} == {name: given[name] for name in of_spans}
    assert [tuple(item) for item in spans.spans.items] == [(1, "a b", (2, 3), (0, 1), "x")]
    assert {name: getattr(heads, name) for name in (given | of_heads)} == given | of_heads
    assert {name: getattr(abilities, name) for name in given} == given
    assert heads.corpus.name == abilities.corpus.name == "nano"
    icl, items, *loss = abilities.abilities
    assert (icl, items.name, loss) == ("icl", "pairs.jsonl", ["loss", "repeat"])


def test_every_option_of_cluster_reaches_the_job(tmp_path, monkeypatch):
    given = {
        "layout": "published",
        "features": ("raw",),
        "methods": ("ward",),
        "ks": (3,),
        "layers": (1, 0),
        "nulls": 20,
        "most_draws": 30,
        "seed": 5,
        "keep_files": False,
    }
    assert set(given) == set(parameters(options.CLUSTER)) & {field.name for field in fields(WeightClusters)} - {
        "labels"
    }
    call = {"where": "size=14m seed=1 step=0", "out": tmp_path / "out"}
    (job,) = job_of(monkeypatch, lambda: api.cluster("polypythias", labels=["even_odd"], **call, **given))
    assert {name: getattr(job, name) for name in given} == given
    assert [labels.name for labels in job.labels] == ["even_odd"]


def test_every_option_of_intervene_reaches_its_jobs(tmp_path, monkeypatch):
    both = {"controls": 3, "seed": 5, "dtype": "bfloat16", "device": "cpu", "keep_files": False}
    effects = both | {"operations": ("swap",), "n_texts": 2}
    choice = {"kinds": ["v"], "clustering": "ward", "k": 3, "layers": [1], "together": True}
    (tmp_path / "prompts.txt").write_text("sum\t2 + 2 =\n")
    asked = set(parameters(options.INTERVENE))
    assert set(effects) == asked & {field.name for field in fields(ClusterEffects)} - {"corpus"}
    monkeypatch.setattr(api, "_groupings", lambda rundir, selected, choice: ({one.run: [] for one in selected}, {}))
    call = {"where": "size=14m seed=1 step=last", "corpus": "nano", "prompts": str(tmp_path / "prompts.txt")}
    jobs = job_of(monkeypatch, lambda: api.intervene("polypythias", out=tmp_path / "out", **call, **(effects | choice)))
    assert [type(job) for job in jobs] == [ClusterEffects, PromptAnswers]
    call["convention"] = "published"
    (job,) = job_of(
        monkeypatch, lambda: api.intervene("polypythias", out=tmp_path / "out", **call, **(effects | choice))
    )
    assert type(job) is PublishedEffects
    assert {name: getattr(job, name) for name in effects} == effects
    assert {name: getattr(jobs[0], name) for name in effects} == effects
    assert {name: getattr(jobs[1], name) for name in both} == both
    assert jobs[0].corpus.name == "nano"
    assert [tuple(prompt) for prompt in jobs[1].prompts] == [("sum", "2 + 2 =")]
    for job in jobs:
        assert {name: job.choice[name] for name in choice} == choice


def test_one_word_is_a_list_of_one(tmp_path, monkeypatch):
    call = {"where": "size=14m seed=1 step=0", "out": tmp_path / "out"}
    (job,) = job_of(
        monkeypatch, lambda: api.cluster("polypythias", features="raw", methods="ward", labels="even_odd", **call)
    )
    assert (job.features, job.methods, job.labels[0].name) == (("raw",), ("ward",), "even_odd")
    (job,) = job_of(monkeypatch, lambda: api.measure("polypythias", corpus="nano", scores="first", **call))
    assert job.scores == ("first",)
    (job,) = job_of(monkeypatch, lambda: api.measure("polypythias", corpus="nano", scores="all", **call))
    assert job.scores == tuple(name for name, score in SCORES.items() if score.kind != "causal")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda out: api.measure("nano", out=out, repeated_length=1), "--repeat-length must be at least 2, not 1"),
        (lambda out: api.measure("nano", out=out, repeated_texts=0), "--repeat-texts must be at least 1, not 0"),
        (lambda out: api.measure("nano", out=out, keep="text"), "--keep: unknown value 'text', did you mean 'texts'?"),
        (lambda out: api.cluster("nano", out=out, layout="publised"), "'publised', did you mean 'published'?"),
        (lambda out: api.cluster("nano", out=out, most_draws=0), "--most-draws must be at least 1, not 0"),
        (lambda out: api.intervene("nano", out=out, operations=["zero", "swop"]), "'swop', did you mean 'swap'?"),
        (lambda out: api.intervene("nano", out=out, operations="mean", controls=-1), "--controls must be at least 0"),
        (lambda out: api.intervene("nano", out=out, operations=[]), "--operations is empty. Name one or more of zero"),
        (lambda out: api.intervene("nano", out=out, n_texts=0), "--texts must be at least 1, not 0"),
        (lambda out: api.intervene("nano", out=out, k=1), "--k must be at least 2, not 1"),
    ],
)
def test_a_wrong_value_ends_before_anything_is_done(tmp_path, call, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        call(tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- choices, examples and completion -------------------------------------------------------------------------------


def test_choices_are_those_of_the_modules_that_use_them():
    assert options.SUITE.choices == tuple(info.name for info in known_suites())
    assert options.SCORES.choices == ("all", *SCORES)
    assert options.DTYPE.choices == tuple(models.DTYPES)
    assert options.LAYOUT.choices == tuple(models.LAYOUTS)
    assert options.KINDS.choices == tuple(KINDS)
    assert options.STUDIES.choices == tuple(studies.STUDIES)
    assert options.PRESET.choices == tuple(PRESETS)
    for device in options.DEVICE.choices[:2]:
        assert models.choose_device(device)
    for unknown in ("gpu", "auto:1", "cpu:x"):
        with pytest.raises(UsageError, match="unknown device"):
            models.choose_device(unknown)


EXAMPLES = [pytest.param(command, words, id=words) for command in COMMANDS for words, _ in command.examples]


@pytest.mark.parametrize(("command", "words"), EXAMPLES)
def test_an_example_parses_and_selects_checkpoints(command, words):
    name, rest = command.name, shlex.split(words)[len(command.name.split()) :]
    given = clicked(name).make_context(name, rest).params
    cli._arguments(command, {key: value for key, value in given.items() if key != "help"})
    assert f"  headway {words}\n" in CliRunner().invoke(cli.app, [*name.split(), "--help"]).stdout
    if "where" in given:
        parse_where(given["where"])
        if given.get("suite") in ("pythia", "polypythias"):  # their grids are known without asking the Hub
            assert open_suite(given["suite"]).checkpoints(given["where"])


def test_every_command_has_examples():
    assert {command.name for command in COMMANDS if not command.examples} == set()


def test_measure_lists_every_score_on_a_line():
    shown = CliRunner().invoke(cli.app, ["measure", "--help"], env={"COLUMNS": "80"}).stdout
    lines = shown.partition("\nScores:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == list(SCORES)
    for line, score in zip(lines, SCORES.values(), strict=True):
        assert score.title in line
        assert len(line) <= 80


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("headway measure poly", ["polypythias"]),
        ("headway measure nano --scores prev,ind", ["prev,induction"]),
        ("headway cluster nano --layout ", ["true", "published"]),
        ("headway nano train --preset st", ["standard"]),
        ("headway analyze runs --study dev", ["development"]),
        ("headway report runs --format ", ["html", "md"]),
        ("headway clu", ["cluster"]),
    ],
)
def test_the_shell_completes(words, expected):
    asked = {"_HEADWAY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    assert CliRunner().invoke(cli.app, [], prog_name="headway", env=asked).stdout.split() == expected


def test_completion_can_be_installed():
    shown = CliRunner().invoke(cli.app, ["--help"]).stdout
    assert "--install-completion" in shown
    assert "--show-completion" in shown
