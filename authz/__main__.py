"""The entry point: `authz serve` by itself, every other command through `cli.py`.

The sidecar must not carry what only an operator at a terminal needs: it would be a tenth of its memory.
"""

import sys


def main() -> None:
    """Run what the command line asks for."""
    if sys.argv[1:] == ["serve"]:
        from authz.sidecar import main as serve  # noqa: PLC0415 -- see above

        serve()
    else:
        from authz.cli.app import main as command  # noqa: PLC0415 -- see above

        command()


if __name__ == "__main__":
    main()
