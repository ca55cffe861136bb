"""The entry point of `truetick`: Ctrl-C ends it quietly at any moment, also while it is still loading.

What it can be asked is `command.py`.
"""

from authz.client.faults import EXIT_INTERRUPTED


def main() -> None:
    """Run what the command line asks for."""
    try:
        from authz.client.command import app  # noqa: PLC0415 -- see above

        app(prog_name="truetick")
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


if __name__ == "__main__":
    main()
