"""Generated requests to the portal, held against its OpenAPI description: `make fuzz-portal EXAMPLES=200`."""

import argparse
import sys

from support.clients.openapi_fuzzer import OpenApiFuzzer

from authz.demo.stack import Stack


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="requests of each operation")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    stack = Stack(portal=True)
    try:
        stack.start()
        fuzzer = OpenApiFuzzer(stack.url, given.seed)
        for operation in fuzzer.operations:
            fuzzer.run(operation, given.examples)
            statuses = sorted(fuzzer.outcomes.statuses[operation.label].items())
            print(operation.label, *(f"{status}x{count}" for status, count in statuses), flush=True)  # noqa: T201
    finally:
        stack.stop()
    print(f"{fuzzer.outcomes.count} requests, {len(fuzzer.outcomes.failures)} not as described")  # noqa: T201
    print("\n".join(fuzzer.outcomes.failures[:20]))  # noqa: T201
    return bool(fuzzer.outcomes.failures)


if __name__ == "__main__":
    sys.exit(main())
