"""The command line. Each command is a few lines around the function of `headway.api` with the same name.

The commands' options are those that `headway.options` declares.
"""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from headway import __version__, options
from headway.errors import HeadwayError, UsageError
from headway.known_scores import SCORES
from headway.options import Command, Option, Takes
from headway.progress import showing
from headway.terminal import printable, say
from headway.text import count, listed

if TYPE_CHECKING:
    from headway.studies import Result
    from headway.sweep import Executor, Processes, Summary


class YesNo(StrEnum):
    """How a boolean that is true by default is written."""

    yes = "yes"
    no = "no"


# How long a thread of torch spins at a barrier before it sleeps. By libgomp's default it spins for milliseconds, in which it keeps
# a thread that it waits for from running if other programs use the cores: small models then run at a tenth of their speed.
_SPINS = "1000"
_MOST_STEPS = 20  # rows of `nano data`

app = typer.Typer(
    name="headway",
    help="When, where and how consistently do attention heads take on a role during training, and does it matter?",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
nano = typer.Typer(help="The embedded suite of small models, trained on this machine.", no_args_is_help=True)
app.add_typer(nano, name="nano")


def main() -> None:
    """Run the command line. An error that headway can explain is shown as one message, never as a traceback."""
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    try:
        app()
    except HeadwayError as error:
        _stop(str(error), error.exit_code)
    except BrokenPipeError:
        _discard_stdout()
        sys.exit(1)
    except _StdoutLost as error:
        _discard_stdout()
        _stop(f"standard output cannot be written to: {error}. Results that were computed are kept", 1)
    except Exception as error:
        if os.environ.get("HEADWAY_DEBUG"):
            raise
        _stop(f"a defect in headway, {type(error).__name__}: {error}. Set HEADWAY_DEBUG=1 to see the traceback", 1)


class _StdoutLost(Exception):
    """Standard output is full or closed."""


def _discard_stdout() -> None:
    """Send standard output nowhere; Python would fail once more when it flushes it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stop(message: str, code: int) -> None:
    say(message)
    sys.exit(code)


def _echo(line: str = "") -> None:
    """Write one line to standard output. Control characters are escaped, because names come from files of others."""
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
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # A docstring here would replace the app's help.
    pass


# --- from a declaration to a command --------------------------------------------------------------------------------


class _Command(TyperCommand):
    """Writes what follows the options as it stands, because a wrapped example could not be copied.

    An option that takes one value and is given twice is an error, because the first value would be lost unseen.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = [word.partition("=")[0] for word in args[: args.index("--") if "--" in args else None]]
        for parameter in self.params:
            if parameter.nargs == 1 and not parameter.multiple and not getattr(parameter, "is_flag", False):
                for name in parameter.opts:
                    if name.startswith("--") and given.count(name) > 1:
                        raise UsageError(f"{name} is given twice. Give it once; commas separate several values")
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write(f"\n{self.epilog}\n" if self.epilog else "")


def _command(declared: Command, after: str = "") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make the function below it the command that is `declared`. It gets the arguments of the Python function.

    Args:
        after: Further help, shown between the options and the examples.
    """

    def register(run: Callable[..., None]) -> Callable[..., None]:
        def command(**given: Any) -> None:
            run(**_arguments(declared, given))

        parameters = [_parameter(option) for option in declared.options]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        *group, name = declared.name.split()
        register_to = nano if group else app
        register_to.command(
            name,
            cls=_Command,
            help="\n\n".join(filter(None, [declared.summary, declared.more])),
            short_help=declared.summary,
            epilog=after + _examples(declared),
        )(command)
        return run

    return register


def _parameter(option: Option[Any]) -> inspect.Parameter:
    """The option as a parameter that Typer understands."""
    default = option.default
    if option.takes is Takes.YES_NO:
        default = YesNo.yes if default else YesNo.no
    elif option.takes is Takes.SEVERAL and default is not options.REQUIRED:
        default = list(default) or None
    elif option.takes in (Takes.WORDS, Takes.NUMBERS):
        default = option.show()
    kind = {
        Takes.NUMBER: int,
        Takes.FRACTION: float,
        Takes.SWITCH: bool,
        Takes.YES_NO: YesNo,
        Takes.SEVERAL: list[str],
    }.get(option.takes, str)
    shared: dict[str, Any] = {"help": option.help}
    if option.takes not in (Takes.SWITCH, Takes.YES_NO):
        shared["metavar"] = option.metavar
    if option.at_least is not None:
        shared["min"] = option.at_least
    if option.choices:
        shared["autocompletion"] = _completion(option)
    made = typer.Argument(**shared) if option.positional else typer.Option(option.spelling, **shared)
    annotation: Any = Annotated[kind if default is not None else kind | None, made]
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _completion(option: Option[Any]) -> Callable[[str], list[str]]:
    """A function that completes the option's value, or the last of several values that commas separate."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if option.takes is Takes.WORDS else ("", "", incomplete)
        return [f"{before}{comma}{choice}" for choice in option.choices if choice.startswith(last)]

    return complete


def _examples(declared: Command) -> str:
    lines = [f"  # {does}\n  headway {words}" for words, does in declared.examples]
    return "Examples:\n" + "\n\n".join(lines)


def _arguments(declared: Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the Python function: lists are parsed, and workers and Ray become an executor.

    Raises:
        UsageError: A list does not parse, or `--out` is in memory.
    """
    own = [option for option in declared.options if option not in (*options.SPREAD, options.STUDY_WORKERS)]
    arguments = {option.name: _value(option, given[option.name]) for option in own}
    spread = {option.name: given[option.name] for option in declared.options if option in options.SPREAD}
    if spread:
        arguments["executor"] = _executor(**spread, device=given.get("device", "cpu"))
    if options.STUDY_WORKERS in declared.options:
        arguments["executor"] = _sharing(given["workers"])
    if str(arguments.get("out")).startswith("memory://"):
        raise UsageError(
            f"--out {arguments['out']}: files in memory are lost when the command ends. Name a folder instead"
        )
    return arguments


def _value(option: Option[Any], given: Any) -> Any:
    match option.takes:
        case Takes.YES_NO:
            return given is YesNo.yes
        case Takes.WORDS | Takes.NUMBERS:
            return option.parse(given)
        case Takes.SEVERAL:
            return tuple(given or ())
    return given


def _scores() -> str:
    """The scores with one line each, for `headway measure --help`."""
    # As wide as most names. The longest ones would leave no room for titles.
    lines = [f"  {score.name:15}  {score.title} ({score.unit})" for score in SCORES.values()]
    return "\n".join(["Scores:", *lines, "", ""])


# --- the commands ---------------------------------------------------------------------------------------------------


@_command(options.SUITES)
def suites(**given: Any) -> None:
    from headway import api

    for text in api.describe_suites(**given):
        for line in f"{text}\n".split("\n"):
            _echo(line)


@_command(options.MEASURE, after=_scores())
def measure(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        summary = api.measure(out=out, progress=progress, **given)
    _end([summary], out)


@_command(options.CLUSTER)
def cluster(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        summary = api.cluster(out=out, progress=progress, **given)
    _end([summary], out)


@_command(options.INTERVENE)
def intervene(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        summaries = api.intervene(out=out, progress=progress, **given)
    _end(summaries, out)


@_command(options.RELATE)
def relate(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        summaries = api.relate(out=out, progress=progress, **given)
    _end(summaries, out)


@_command(options.DESCRIBE)
def describe(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        summary = api.describe(out=out, progress=progress, **given)
    _end([summary], out)


@_command(options.IMPORT_HEADS)
def import_heads(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        rows = api.import_heads(out=out, progress=progress, **given)
    _echo(f"{count(rows, 'row is', 'rows are')} in {out}. Next: headway analyze {out}")


@_command(options.IMPORT_ABILITIES)
def import_abilities(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        rows = api.import_abilities(out=out, progress=progress, **given)
    _echo(f"{count(rows, 'row is', 'rows are')} in the table imported_abilities of {out}")


@_command(options.ANALYZE)
def analyze(directory: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        results = api.analyze(directory, progress=progress, **given)
    _print_headlines(results)
    _echo(f"Next: headway report {directory}")


@_command(options.SCORECARD)
def scorecard(directory: str, json: bool, **given: Any) -> None:
    from headway import api
    from headway.store.directory import RunDirectory
    from headway.studies.scorecard.words import as_document, as_text
    from headway.studies.several import place_of

    with showing() as progress:
        results = list(api.scorecard(directory, progress=progress, **given).values())
    if json:
        typer.echo(as_document(*results))
        return
    for line in as_text(*results):
        _echo(line)
    places = dict.fromkeys(
        f"{place_of(result, RunDirectory(directory)).path}/analysis/scorecard/" for result in results
    )
    _echo(f"The numbers are in {listed(list(places))}. Next: headway report {directory}")


@_command(options.REPORT)
def report(**given: Any) -> None:
    from headway import api

    with showing() as progress:
        path = api.report(progress=progress, **given)
    _echo(f"The report is {path}")


@_command(options.POWER)
def power(**given: Any) -> None:
    from headway import api

    found = api.power(**given)
    for row in found.table.drop_nulls("seeds").iter_rows(named=True):
        _echo(f"  {count(row['seeds'], 'seed')}: power {row['power']:.0%} (±{1.96 * row['std_error']:.1%})")
    for sentence in found.sentences:
        _echo(sentence)


@_command(options.AUDIT)
def audit(**given: Any) -> None:
    from headway import api

    with showing() as progress:
        found = api.audit(progress=progress, **given)
    for finding in found.findings:
        _echo(f"  {'note' if finding.note else 'flag'}  {finding.run}: {finding.message}")
    for verdict in found.verdicts:
        _echo(f"  {verdict.status}  public report of {verdict}")
    notes = sum(finding.note for finding in found.findings)
    _echo(
        f"{count(found.table.height, 'checkpoint')} looked at, {found.n_flagged} flagged; "
        f"{count(len(found.findings) - notes, 'flag')}, {count(notes, 'note')}"
    )
    if notes < len(found.findings):
        _echo("Next: look at the flagged steps, or leave them out with --where; measure and cluster warn of them")
        raise typer.Exit(1)


@_command(options.STATUS)
def status(**given: Any) -> None:
    from headway import api
    from headway.progress import clock

    states = api.status(**given)
    several = len({state.suite for state in states}) > 1
    for state in states:
        left = f", {clock(state.left / state.rate)} left" if state.rate and state.left else ""
        _echo(
            (f"{state.suite}  " if several else "")
            + f"{state.table}: {state.done} of {state.planned} done, {len(state.failed)} failed, {state.left} left"
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


@_command(options.NANO_TRAIN)
def train(preset: str, **given: Any) -> None:
    from headway import nano as suite

    with showing() as progress:
        folder = suite.train(preset, progress=progress, **given)
    _echo(f"The suite is {folder}")


@_command(options.NANO_DATA)
def data(out: str | None, **given: Any) -> None:
    from headway import nano as suite

    seen = suite.read_data(out=out, **given)
    for text in seen.texts:
        _echo(f"  {text}")
    table = seen.table
    _echo(f"{'step':>8} {'repeats':>8} {'repeated 4-grams':>17} {'novel 4-grams':>14} {'entropy (nats)':>15}")
    shown = table if table.height <= _MOST_STEPS else table.gather_every(-(-table.height // _MOST_STEPS))
    for row in shown.iter_rows(named=True):
        _echo(
            f"{row['step']:>8,} {row['repeats']:>8.0%} {row['repeated_ngrams']:>17.1%} {row['novel_ngrams']:>14.1%} "
            f"{row['entropy']:>15.3f}"
        )
    if out:
        _echo(f"{count(table.height, 'step is', 'steps are')} in {out}")
    elif shown.height < table.height:
        _echo(f"{shown.height} of {table.height} steps are shown. --out writes all")


@_command(options.NANO_STATISTICS)
def statistics(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        rows = api.nano_statistics(out=out, progress=progress, **given)
    _echo(f"{count(rows, 'row is', 'rows are')} in {out}. Next: headway analyze {out}")


@_command(options.PATTERN)
def pattern(out: str | None, **given: Any) -> None:
    from headway import api

    found = api.pattern(out=out, **given)
    _echo(f"{found.checkpoint}, layer {found.layer}, head {found.head}: the token to which each one attends most")
    for query, row in enumerate(found.matrix):
        key = int(row.argmax())
        _echo(f"  {query:>4} {found.tokens[query]!r:>16} → {key:>4} {found.tokens[key]!r:<16} {row[key]:.3f}")
    if out:
        _echo(f"All pairs of tokens are in {out}")


@_command(options.PATTERNS)
def patterns(out: str, **given: Any) -> None:
    from headway import api

    with showing() as progress:
        summary = api.patterns(out=out, progress=progress, **given)
    _end([summary], out)


@_command(options.DEMO)
def demo(**given: Any) -> None:
    from headway import api

    with showing() as progress:
        results, path = api.demo(progress=progress, **given)
    _print_headlines(results)
    _echo(f"The report is {path}")


# --- what several commands share ------------------------------------------------------------------------------------


def _executor(
    workers: int,
    ray: bool,
    ray_address: str,
    ray_cpus: float,
    ray_gpus: float = 0.0,
    *,
    device: str,
) -> Executor | None:
    """Ray tasks or worker processes; None for this process."""
    from headway.sweep import Processes

    if ray or ray_address:
        from headway.sweep.ray_tasks import RayTasks

        return RayTasks(ray_address or None, cpus=ray_cpus, gpus=ray_gpus)
    return Processes(workers, gpus=_gpus() if device in ("auto", "cuda") else 0) if workers > 1 else None


def _sharing(workers: int | None) -> Processes | None:
    """Processes that share studies, one for each core if their number is not given; None for this process alone."""
    from headway.devices import cores
    from headway.sweep import Processes

    n = workers or cores()
    return Processes(n) if n > 1 else None


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _end(summaries: Sequence[Summary], out: str) -> None:
    """Show what each sweep did and which checkpoints failed. Failures end the command with exit code 1."""
    _echo("; ".join(f"{one.table}: {one}" if len(summaries) > 1 else str(one) for one in summaries))
    reasons: dict[str, dict[str, None]] = {}  # keys once each: two tables may fail for one reason
    for summary in summaries:
        for outcome in summary.failed:
            reasons.setdefault(outcome.error, {})[outcome.checkpoint.key] = None
    for reason, keys in reasons.items():
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        say(f"{', '.join(list(keys)[:3])}{more}: {reason}")
    if reasons:
        say(f"{out}/failures.jsonl lists all failures. Run the same command again to retry them")
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
