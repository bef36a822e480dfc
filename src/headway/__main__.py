"""The start of the command `headway`, and of `python -m headway`."""

from headway import allocation, interrupts, terminal


def main() -> None:
    terminal.prepare()
    allocation.end_quickly()
    interrupts.exit_on_interrupt()
    from headway import cli

    cli.main()


if __name__ == "__main__":
    main()
