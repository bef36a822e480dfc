"""Where the command `headway` starts, and `python -m headway`: Ctrl-C is heard from here on, while all else is imported."""

from headway import interrupts, terminal


def main() -> None:
    terminal.prepare()
    interrupts.end_at_once()
    from headway import cli

    cli.main()


if __name__ == "__main__":
    main()
