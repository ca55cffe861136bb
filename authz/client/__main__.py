"""The entry point of `truetick`: Ctrl-C ends it without a traceback at any moment, also while modules load.

The subcommands are `command.py`.
"""

import os
import sys
from pathlib import Path

from authz.client.faults import EXIT_FAILED, EXIT_INTERRUPTED


def main() -> None:
    """Run the command line."""
    try:
        from authz.client.command import app, plain_help_columns, with_prompts  # noqa: PLC0415 -- see above

        sys.argv[1:] = with_prompts(sys.argv[1:])
        columns = plain_help_columns()
        app.rich_markup_mode = "rich" if columns is None else None
        app(prog_name="truetick", terminal_width=columns)
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    except OSError as error:  # faults of files and connections are reported where they occur
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 -- the interpreter flushes it again at its end
        print(f"error: cannot write: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_FAILED) from None
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        print("error: truetick needs the package httpx: pip install 'authz[truetick]'", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_FAILED) from None


if __name__ == "__main__":
    main()
