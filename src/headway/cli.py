"""The command line: each command is a few lines around one verb."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from headway.errors import HeadwayError

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
Out = Annotated[str, typer.Option(metavar="DIR", help="the run directory to write to; it may exist already")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one")]
KeepFiles = Annotated[bool, typer.Option(help="keep downloaded weights after use", show_default="keep")]
Force = Annotated[bool, typer.Option("--force", help="replace what was made from something else")]
Workers = Annotated[int, typer.Option(min=1, help="worker processes (with GPUs: one a GPU)")]
Ray = Annotated[bool, typer.Option("--ray", help="do the work as Ray tasks (pip install 'headway[ray]')")]
RayAddress = Annotated[str, typer.Option(help="an existing Ray cluster; implies --ray")]
RayCpus = Annotated[float, typer.Option(help="CPUs a Ray task asks for")]
RayGpus = Annotated[float, typer.Option(help="GPUs a Ray task asks for; fractions let several share one")]


def main() -> None:
    """Runs the command line; what headway can explain ends as one message, never as a traceback."""
    try:
        app(standalone_mode=True)
    except HeadwayError as error:
        _stop(str(error), error.exit_code)
    except KeyboardInterrupt:
        _stop("stopped; what was finished is kept: run the same command again to go on", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("HEADWAY_DEBUG"):
            raise
        _stop(f"a defect in headway, {type(error).__name__}: {error}. Set HEADWAY_DEBUG=1 to see where", 1)


def _stop(message: str, code: int) -> None:
    print(f"headway: {message}", file=sys.stderr)
    sys.exit(code)


@app.command()
def suites() -> None:
    """What is known: name, sizes, seeds, steps, where from."""
    from headway.suites import known_suites

    for suite in known_suites():
        typer.echo(suite.describe())


if __name__ == "__main__":
    main()
