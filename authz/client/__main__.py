"""The entry point of `truetick`: Ctrl-C ends it without a traceback at any moment, also while modules load.

The subcommands are `command.py`.
"""

import sys

from authz.client.faults import EXIT_FAILED, EXIT_INTERRUPTED


def main() -> None:
    """Run the command line."""
    try:
        from authz.client.command import app, with_prompts  # noqa: PLC0415 -- see above

        sys.argv[1:] = with_prompts(sys.argv[1:])
        app(prog_name="truetick")
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        print("error: truetick needs the package httpx: pip install 'authz[truetick]'", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_FAILED) from None


if __name__ == "__main__":
    main()
