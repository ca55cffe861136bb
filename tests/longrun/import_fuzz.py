"""Imports random descriptions, and adds others to the result: `python -m longrun.import_fuzz --documents 100000`.

Each ends in an error message or in a policy that loads and opens nothing that its description protects.
"""

import argparse
import json
import multiprocessing
import random
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from support.apis import random_api
from support.import_checks import check_import, check_merge

from authz.adapters.api_files.plain import parsed
from authz.core.errors import PolicyError
from authz.core.imports.scopes import ScopeBy

_ODDNESS = (0.0, 0.02, 0.1, 0.3)
_DAMAGES = 8
_BATCH = 500


def run(first: int, documents: int) -> Counter[str]:
    """Return how often each end was reached; raises what an import raises by mistake."""
    ends: Counter[str] = Counter()
    for seed in range(first, first + documents):
        try:
            ends[_one(seed)] += 1
        except Exception:
            sys.stderr.write(f"seed {seed}\n")
            raise
    return ends


def _one(seed: int) -> str:
    chance = random.Random(seed)  # noqa: S311 -- for tests
    by, oddness = chance.choice(list(ScopeBy)), chance.choice(_ODDNESS)
    try:
        _damaged(chance, random_api(seed, oddness))
        text = check_import(random_api(seed, oddness), by)
        if not text:
            return "nothing to import"
        check_merge(text, random_api(seed + 1, oddness), by)
    except PolicyError:
        return "refused"
    return "imported"


def _damaged(chance: random.Random, document: object) -> None:
    """Read a document whose bytes were changed, as JSON or YAML: it is read or refused."""
    data = bytearray(json.dumps(document, indent=chance.choice([None, 1])).encode())
    for _ in range(chance.randrange(_DAMAGES)):
        position = chance.randrange(len(data))
        data[position : position + chance.randrange(3)] = chance.choice(
            [b"", b"{", b"}", b"\n- ", b": ", b"&a ", b"*a", b"\xff"]
        )
    try:
        parsed(bytes(data))
    except PolicyError:
        return


def main() -> None:
    """Run, and print the ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    first, last = arguments.seed, arguments.seed + arguments.documents
    starts = range(first, last, _BATCH)
    sizes = [min(_BATCH, last - start) for start in starts]
    # Each process imports the checks anew, and so has files of its own.
    context = multiprocessing.get_context("spawn")
    ends = Counter[str]()
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as processes:
        for found in processes.map(run, starts, sizes):
            ends += found
            sys.stderr.write(f"{ends.total()} of {arguments.documents}\n")
    sys.stdout.write(f"{sum(ends.values())} documents, none with a fault of the import: {dict(ends)}\n")


if __name__ == "__main__":
    main()
