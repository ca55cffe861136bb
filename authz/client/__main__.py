"""The entry point of `truetick`: Ctrl-C ends it without a traceback at any moment, also while modules load.

The subcommands are `command.py`.
"""

from authz.client.faults import EXIT_INTERRUPTED


def main() -> None:
    """Run the command line."""
    try:
        from authz.client.command import app  # noqa: PLC0415 -- see above

        app(prog_name="truetick")
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


if __name__ == "__main__":
    main()
