"""The entry point: `authz serve` directly, every other command through `authz/cli/app.py`.

The sidecar must not import the modules of the other commands: they are a tenth of its memory.
"""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line."""
    try:
        if sys.argv[1:] == ["serve"]:
            from authz.sidecar import main as serve  # noqa: PLC0415 -- see above

            serve()
        else:
            from authz.cli.app import main as command  # noqa: PLC0415 -- see above

            command()
    except KeyboardInterrupt:  # also while modules load
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
