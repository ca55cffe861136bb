"""Descriptions of real APIs, trimmed to facts, and random ones that nobody would write."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

APIS = Path(__file__).parents[1] / "data" / "apis"
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")

_WORDS = [
    "a",
    "b",
    "me",
    "v1",
    "users",
    "{id}",
    "{id}",
    "{a}...{b}",
    "{enterprise-team}",
    "{id}.json",
    "{id}:go",
    "x:y",
]
_WORDS += [
    "",
    "",
    "a b",
    "{p+}",
    "{",
    "}",
    "..",
    "*",
    "**",
    "%2e",
    "ä",
    "{ä}",
    "pkg.Svc",
    "x\ny",
    "# c",
    "'",
    '"',
    "?q={x}",
]
_ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    "",
    "text",
    [],
    {},
    [[]],
    [{}],
    {"$ref": "#/"},
    {"$ref": "#/paths"},
    {"$ref": "x.yaml#/a"},
]
_ODD += ["\x00\x1b[31m", "a\u2028b", "\ud83d", "x" * 5000, {"a": {"b": {}}}]
_SECURITY = [[], [{}], [{"key": []}], [{"oauth": ["read:pets", "write:pets"]}], [{"key": []}, {}], None, "none", {}]


def real_api(name: str) -> dict[str, Any]:
    """Return one of github, kubernetes, petstore and stripe."""
    found: dict[str, Any] = json.loads(gzip.decompress((APIS / f"{name}.json.gz").read_bytes()))
    return found


class RandomApi:
    """Makes a description; each part is something else with the probability `oddness`."""

    def __init__(self, chance: random.Random, oddness: float) -> None:
        self._chance, self._oddness = chance, oddness

    def document(self) -> dict[str, Any]:
        """Return a whole description."""
        chance, odd = self._chance, self._odd
        version: dict[str, str] = chance.choice([{"openapi": "3.0.3"}, {"openapi": "3.1.0"}, {"swagger": "2.0"}])
        found: dict[str, Any] = {**version, "info": odd({"title": odd("An API")}), "paths": odd(self._paths())}
        if chance.random() < 0.5:
            found["security"] = odd(chance.choice(_SECURITY))
        if chance.random() < 0.5:
            found["servers"] = odd([self._server() for _ in range(chance.randrange(4))])
        if chance.random() < 0.3:
            found["basePath"] = odd(chance.choice(["/", "/v2", "v2/"]))
        return found

    def _odd(self, value: Any) -> Any:  # noqa: ANN401 -- any part of a document
        return self._chance.choice(_ODD) if self._chance.random() < self._oddness else value

    def _paths(self) -> dict[str, Any]:
        chance = self._chance
        found = {}
        for _ in range(chance.randrange(8)):
            path = "".join(f"/{chance.choice(_WORDS)}" for _ in range(chance.randrange(1, 5)))
            item = {method: self._operation() for method in chance.sample(METHODS, chance.randrange(1, 4))}
            if chance.random() < 0.1:
                item["servers"] = self._odd([self._server()])
            found[path] = self._odd(item)
        return found

    def _server(self) -> Any:  # noqa: ANN401 -- any part of a document
        odd = self._odd
        url = self._chance.choice(
            ["/v1", "https://h.example/base/", "//h/{x}", "{x}", "../v2", "https://x.example/{v}"]
        )
        values = self._chance.choice([["v1", "v2"], ["a/b"], ["https://h/a", "{id}"], []])
        return odd({"url": odd(url), "variables": odd({"x": odd({"enum": odd(values), "default": odd("v1")})})})

    def _operation(self) -> Any:  # noqa: ANN401 -- any part of a document
        chance, odd = self._chance, self._odd
        found: dict[str, Any] = {"tags": odd([odd(chance.choice(["pets", "Pet Store", "ä", ""]))])}
        if chance.random() < 0.6:
            found["security"] = odd(chance.choice(_SECURITY))
        if chance.random() < 0.3:
            found["parameters"] = odd([odd({"in": "query", "name": odd("accountId")}), {"$ref": "#/components/p"}])
        if chance.random() < 0.2:
            wishes: list[Any] = ["pets:read", {"scope": "Ä b"}, {"access": "public"}, {"access": "any"}]
            found["x-authz"] = odd(chance.choice(wishes))
        if chance.random() < 0.1:
            found["responses"] = odd({"200": odd({"content": odd({"text/event-stream": {}})})})
        if chance.random() < 0.1:
            found["servers"] = odd([self._server()])
        found["deprecated"] = odd(chance.random() < 0.1)
        return odd(found)


def random_api(seed: int, oddness: float) -> dict[str, Any]:
    """Return a description at random."""
    return RandomApi(random.Random(seed), oddness).document()  # noqa: S311 -- for tests


def needs_key(document: dict[str, Any], operation: Any) -> bool:  # noqa: ANN401 -- any part of a document
    """Tell whether an operation is protected, read independently of the product: all but a list that is empty is."""
    if not isinstance(operation, dict):
        return True
    security = operation["security"] if "security" in operation else document.get("security")
    return security != [] or not isinstance(security, list)
