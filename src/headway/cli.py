"""The command line: each command is a few lines around one verb."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from headway import __version__, interrupts
from headway.attention import DEFAULT_SCORES
from headway.errors import HeadwayError, UsageError
from headway.progress import Showing
from headway.terminal import printable, say
from headway.text import count

if TYPE_CHECKING:
    from headway.studies import Result
    from headway.sweep import Executor, Summary


class YesNo(StrEnum):
    yes = "yes"
    no = "no"


app = typer.Typer(
    name="headway",
    help="When, where and how consistently do attention heads take on a role during training, and does it matter?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
nano = typer.Typer(help="The embedded suite of small models, trained on this machine.", no_args_is_help=True)
app.add_typer(nano, name="nano")

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="a known suite's name, or a folder RUN/REVISION/")]
Directory = Annotated[str, typer.Argument(metavar="DIR", help="the run directory")]
Where = Annotated[str, typer.Option(help='which checkpoints: "size=14m,70m seed=1..3 step=0,512,last"')]


def _lasting(out: str) -> str:
    """Refuses a place that is gone when the command ends."""
    if out.startswith("memory://"):
        raise UsageError(f"--out {out}: what is kept in memory is lost when the command ends. Name a folder")
    return out


Out = Annotated[
    str,
    typer.Option("--out", metavar="DIR", callback=_lasting, help="the run directory to write to; it may exist already"),
]
Layers = Annotated[str, typer.Option(help="layers, counted from 0, separated by commas; all if empty")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one")]
KeepFiles = Annotated[YesNo, typer.Option(help="keep downloaded weights after use")]
Force = Annotated[
    bool, typer.Option("--force", help="overwrite results that were computed with other settings or package versions")
]
Workers = Annotated[int, typer.Option(min=1, help="worker processes (with GPUs: one a GPU)")]
Ray = Annotated[bool, typer.Option("--ray", help="do the work as Ray tasks (pip install 'headway[ray]')")]
RayAddress = Annotated[str, typer.Option(help="an existing Ray cluster; implies --ray")]
RayCpus = Annotated[float, typer.Option(help="CPUs a Ray task asks for")]
RayGpus = Annotated[float, typer.Option(help="GPUs a Ray task asks for; fractions let several share one")]


def main() -> None:
    """Runs the command line; what headway can explain ends as one message, never as a traceback."""
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    try:
        app()
    except interrupts.Stopped:
        interrupts.ignore()
        _stop(interrupts.STOPPED, interrupts.EXIT_CODE)
    except HeadwayError as error:
        _stop(str(error), error.exit_code)
    except BrokenPipeError:
        _discard_stdout()
        sys.exit(1)
    except _StdoutLost as error:
        _discard_stdout()
        _stop(f"standard output cannot be written to: {error}. What was computed is kept", 1)
    except Exception as error:
        if os.environ.get("HEADWAY_DEBUG"):
            raise
        _stop(f"a defect in headway, {type(error).__name__}: {error}. Set HEADWAY_DEBUG=1 to see where", 1)


class _StdoutLost(Exception):
    """Standard output is full or closed."""


def _discard_stdout() -> None:
    """Else Python fails once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(message: str, code: int) -> None:
    say(message)
    sys.exit(code)


def _echo(line: str = "") -> None:
    """Writes one line to standard output; what is in it may come from anybody's files."""
    try:
        typer.echo(printable(line))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _StdoutLost(error.strerror) from error


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"headway {__version__}")
        raise typer.Exit


@app.callback()
def headway(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="say which version this is, and end")
    ] = False,
) -> None:
    # Without a docstring, which would stand in --help in place of the app's own words.
    pass


@app.command()
def suites() -> None:
    """What is known: name, sizes, seeds, steps, where from."""
    from headway.suites import known_suites

    for info in known_suites():
        for line in f"{info}\n".split("\n"):
            _echo(line)


@app.command()
def measure(
    suite: SuiteName,
    out: Out,
    corpus: Annotated[
        str,
        typer.Option(help="texts.txt, table.csv:Column, book.xlsx:Column (all sheets), book.xlsx[A,B]:Column, or nano"),
    ] = "",
    where: Where = "",
    scores: Annotated[str, typer.Option(help="names separated by commas, or all")] = ",".join(DEFAULT_SCORES),
    loss: Annotated[bool, typer.Option("--loss", help="record loss and accuracy on repeated tokens, too")] = False,
    add_bos: Annotated[bool, typer.Option("--add-bos", help="put the tokenizer's BOS before each text")] = False,
    dtype: Annotated[str, typer.Option(help="of the weights: float32, bfloat16, float16")] = "float32",
    device: Device = "auto",
    keep_files: KeepFiles = YesNo.yes,
    workers: Workers = 1,
    ray: Ray = False,
    ray_address: RayAddress = "",
    ray_cpus: RayCpus = 1.0,
    ray_gpus: RayGpus = 0.0,
    force: Force = False,
) -> None:
    """Score every head of every checkpoint on a corpus."""
    from headway import api
    from headway.tables import SCORES

    with Showing() as progress:
        summary = api.measure(
            suite,
            out=out,
            corpus=corpus or None,
            where=where,
            scores=tuple(SCORES) if scores == "all" else _words(scores),
            loss=loss,
            add_bos=add_bos,
            dtype=dtype,
            device=device,
            keep_files=keep_files is YesNo.yes,
            executor=_executor(workers, device, ray, ray_address, ray_cpus, ray_gpus),
            force=force,
            progress=progress,
        )
    _end([summary], out)


@app.command()
def cluster(
    suite: SuiteName,
    out: Out,
    where: Where = "",
    layout: Annotated[str, typer.Option(help="true, or published: a fused weight as the study read it")] = "true",
    features: Annotated[str, typer.Option(help="raw, circuit or both, separated by commas")] = "raw,circuit",
    methods: Annotated[str, typer.Option(help="kmeans, ward or both, separated by commas")] = "kmeans,ward",
    ks: Annotated[str, typer.Option(help="numbers of clusters, separated by commas")] = "2,3,4,5",
    layers: Layers = "",
    labels: Annotated[list[str] | None, typer.Option(help="even_odd, or a file with columns head and label")] = None,
    nulls: Annotated[int, typer.Option(min=0, help="draws of each null; 0 leaves nulls out")] = 99,
    most_draws: Annotated[int, typer.Option(min=1, help="draws at most for the p of groups, where it is small")] = 1999,
    keep_files: KeepFiles = YesNo.yes,
    workers: Workers = 1,
    ray: Ray = False,
    ray_address: RayAddress = "",
    ray_cpus: RayCpus = 1.0,
    force: Force = False,
) -> None:
    """Cluster the heads of every layer by their weights, with controls."""
    from headway import api

    with Showing() as progress:
        summary = api.cluster(
            suite,
            out=out,
            where=where,
            layout=layout,
            features=_words(features),
            methods=_words(methods),
            ks=_numbers(ks, "--ks") or (),
            layers=_numbers(layers, "--layers"),
            labels=labels or (),
            nulls=nulls,
            most_draws=most_draws,
            keep_files=keep_files is YesNo.yes,
            executor=_executor(workers, "cpu", ray, ray_address, ray_cpus, 0.0),
            force=force,
            progress=progress,
        )
    _end([summary], out)


@app.command()
def intervene(
    suite: SuiteName,
    out: Out,
    where: Where = "step=last",
    corpus: Annotated[str, typer.Option(help="whose first texts the model reads; as in measure")] = "",
    prompts: Annotated[str, typer.Option(help="a file, one prompt a line: TASK<tab>PROMPT")] = "",
    kinds: Annotated[str, typer.Option(help="weights whose clusters are used, separated by commas")] = "q,k,v",
    clustering: Annotated[str, typer.Option(help="kmeans, ward, or the name of given labels")] = "kmeans",
    k: Annotated[int, typer.Option("--k", min=2, help="how many clusters kmeans or ward made")] = 2,
    layers: Layers = "",
    together: Annotated[
        bool, typer.Option("--together", help="change all the layers at once, clusters joined by size")
    ] = False,
    texts: Annotated[int, typer.Option(min=1, help="how many texts the model reads")] = 16,
    controls: Annotated[int, typer.Option(min=0, help="random groups beside each effect")] = 200,
    dtype: Annotated[str, typer.Option(help="of the weights: float32, bfloat16, float16")] = "float32",
    device: Device = "auto",
    keep_files: KeepFiles = YesNo.yes,
    workers: Workers = 1,
    force: Force = False,
) -> None:
    """Take away and swap clusters of heads, beside random groups of heads."""
    from headway import api

    with Showing() as progress:
        summaries = api.intervene(
            suite,
            out=out,
            where=where,
            corpus=corpus or None,
            prompts=prompts or None,
            kinds=_words(kinds),
            clustering=clustering,
            k=k,
            layers=_numbers(layers, "--layers"),
            together=together,
            n_texts=texts,
            controls=controls,
            dtype=dtype,
            device=device,
            keep_files=keep_files is YesNo.yes,
            executor=_executor(workers, device, False, "", 1.0, 0.0),
            force=force,
            progress=progress,
        )
    _end(summaries, out)


@app.command(name="import-heads")
def import_heads(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="CSV files, plain or gzipped")],
    out: Out,
    suite: Annotated[str, typer.Option(help="what the table's suite shall say")] = "published",
    force: Force = False,
) -> None:
    """Read per-head tables as studies publish them."""
    from headway import api

    rows = api.import_heads(files, out=out, suite=suite, force=force)
    _echo(f"{count(rows, 'row is', 'rows are')} in {out}. Next: headway analyze {out}")


_STUDIED = ["prev_self_ratio"]


@app.command()
def analyze(
    directory: Directory,
    study: Annotated[str, typer.Option(help="studies separated by commas; all that have a table if empty")] = "",
    score: Annotated[list[str], typer.Option(help="a score to study; may be given several times")] = _STUDIED,
    bootstraps: Annotated[int, typer.Option(min=0, help="resamples for intervals and tests; 0 leaves them out")] = 1000,
    seed: Annotated[int, typer.Option(help="of the random numbers")] = 0,
) -> None:
    """Run the studies, and print what they found."""
    from headway import api

    with Showing() as progress:
        results = api.analyze(
            directory,
            studies=_words(study),
            scores=score,
            bootstraps=bootstraps,
            seed=seed,
            progress=progress,
        )
    _print_headlines(results)
    _echo(f"Next: headway report {directory}")


@app.command()
def report(
    directory: Directory,
    format: Annotated[str, typer.Option(help="html: one file that opens offline; md: for a repository")] = "html",
) -> None:
    """Write the report, and each figure as SVG and PNG."""
    from headway import api

    with Showing() as progress:
        path = api.report(directory, format=format, progress=progress)
    _echo(f"The report is {path}")


@app.command()
def audit(
    suite: SuiteName,
    where: Where = "",
    deep: Annotated[bool, typer.Option("--deep", help="read the weights, too")] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="a folder for audit.json and audit.parquet; a run directory's report shows them"
        ),
    ] = None,
    keep_files: KeepFiles = YesNo.yes,
) -> None:
    """Is a suite what it says it is? Equal, missing, odd and misplaced weights.

    Each run's last step is compared with, whether --where selects it or not. What was found is kept in the user's
    cache, where measure and cluster look. Ends with exit code 1 if anything but notes was found.
    """
    from headway import api

    with Showing() as progress:
        found = api.audit(suite, where=where, deep=deep, out=out, keep_files=keep_files is YesNo.yes, progress=progress)
    for finding in found.findings:
        _echo(f"  {'note' if finding.note else 'flag'}  {finding.run}: {finding.message}")
    notes = sum(finding.note for finding in found.findings)
    _echo(
        f"{count(found.table.height, 'checkpoint')} looked at, {found.n_flagged} flagged; "
        f"{count(len(found.findings) - notes, 'flag')}, {count(notes, 'note')}"
    )
    if notes < len(found.findings):
        _echo("Next: leave flagged steps out with --where, or look at them; measure and cluster warn of them")
        raise typer.Exit(1)


@app.command()
def status(
    directory: Directory,
    verify: Annotated[
        bool, typer.Option("--verify", help="read every part wholly, and find those that are damaged")
    ] = False,
) -> None:
    """How far a sweep is, from its files alone."""
    from headway import api
    from headway.progress import clock

    states = api.status(directory, verify=verify)
    for state in states:
        left = f", {clock(state.left / state.rate)} left" if state.rate and state.left else ""
        _echo(
            f"{state.table}: {state.done} of {state.planned} done, {len(state.failed)} failed, {state.left} left"
            + (f"; {state.rate * 60:.1f} a minute{left}" if state.rate else "")
        )
        for key, failure in state.failed.items():
            _echo(f"  failed   {key}: {failure['error']}")
        for name, words in state.damaged.items():
            _echo(f"  damaged  {name}: {words}")
        if len(state.releases) > 1:
            for of, number in state.releases.items():
                _echo(f"  mixed    {number} computed with {of}")
    if any(state.damaged for state in states):
        raise typer.Exit(1)


@nano.command()
def train(
    preset: Annotated[str, typer.Option(help="quick, or standard: 4 sizes × 9 seeds × 16 steps")] = "quick",
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="the suite's folder; in the user's cache if not given")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    workers: Annotated[int, typer.Option(min=0, help="runs trained at once; 0: one a core")] = 0,
) -> None:
    """Train the nano suite; what is there already is kept."""
    from headway import nano as suite

    with Showing() as progress:
        folder = suite.train(preset, out=out, device=device, workers=workers or None, progress=progress)
    _echo(f"The suite is {folder}")


@app.command()
def demo(out: Annotated[str, typer.Option("--out", metavar="DIR", help="the run directory")] = "headway-demo") -> None:
    """Train the nano suite, measure and cluster it, intervene, analyse, and write the report."""
    from headway import api

    with Showing() as progress:
        results, path = api.demo(out, progress=progress)
    _print_headlines(results)
    _echo(f"The report is {path}")


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _numbers(text: str, option: str) -> list[int] | None:
    """Whole numbers separated by commas; None for an empty text."""
    words = _words(text)
    if not all(word.isdigit() for word in words):
        raise UsageError(f"{option} takes whole numbers separated by commas, not {text!r}")
    return [int(word) for word in words] or None


def _executor(workers: int, device: str, ray: bool, address: str, cpus: float, gpus: float) -> Executor | None:
    from headway.sweep import Processes

    if ray or address:
        from headway.sweep.ray_tasks import RayTasks

        return RayTasks(address or None, cpus=cpus, gpus=gpus)
    return Processes(workers, gpus=_gpus() if device in ("auto", "cuda") else 0) if workers > 1 else None


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _end(summaries: Sequence[Summary], out: str) -> None:
    """Says what each table's sweep came to; failures end the command with exit code 1, after all that could be done."""
    _echo("; ".join(f"{one.table}: {one}" if len(summaries) > 1 else str(one) for one in summaries))
    reasons: dict[str, dict[str, None]] = {}  # the keys of checkpoints, each once: tables may fail for the same reason
    for summary in summaries:
        for outcome in summary.failed:
            reasons.setdefault(outcome.error, {})[outcome.checkpoint.key] = None
    for reason, keys in reasons.items():
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        say(f"{', '.join(list(keys)[:3])}{more}: {reason}")
    if reasons:
        say(f"run the same command again to try these again; {out}/failures.jsonl lists them all")
        raise typer.Exit(1)
    _echo(f"Next: headway analyze {out}")


def _print_headlines(results: Mapping[str, Result]) -> None:
    for name, result in results.items():
        _echo()
        study, _, subject = name.partition("/")
        _echo(f"{study.replace('_', ' ')}: {subject}")
        for finding in result.headline:
            _echo(f"  - {finding.text}")
    _echo()


if __name__ == "__main__":
    main()
