"""Trims OpenAPI files to what rows are made of: `python -m longrun.trim_apis FILE… --into tests/data/apis`.

What stays are facts: paths, methods, security, tags' names, deprecations, the names of parameters, and media types.
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import yaml

_METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
_ROOT = ("openapi", "swagger", "servers", "basePath", "host", "security")
_OPERATION = ("tags", "security", "deprecated")


def trimmed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a document, in its own form."""
    facts = {name: document[name] for name in _ROOT if name in document}
    facts["info"] = {"title": document["info"]["title"], "version": document["info"]["version"]}
    schemes = document.get("securityDefinitions") or document.get("components", {}).get("securitySchemes", {})
    kept = {name: {it: scheme[it] for it in ("type", "in", "name") if it in scheme} for name, scheme in schemes.items()}
    if "swagger" in document:
        facts["securityDefinitions"] = kept
    else:
        facts["components"] = {"securitySchemes": kept}
    facts["paths"] = {path: _item(document, item) for path, item in document["paths"].items()}
    return facts


def _item(document: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if parameters := _parameters(document, item):
        found["parameters"] = parameters
    for method in _METHODS:
        if method in item:
            found[method] = _operation(document, item[method])
    return found


def _operation(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    found = {name: operation[name] for name in _OPERATION if name in operation}
    if "servers" in operation:
        found["servers"] = [{"url": it["url"]} for it in operation["servers"]]
    if parameters := _parameters(document, operation):
        found["parameters"] = parameters
    if "text/event-stream" in json.dumps(operation.get("responses", {})):
        found["responses"] = {"200": {"content": {"text/event-stream": {}}}}
    return found


def _parameters(document: dict[str, Any], part: dict[str, Any]) -> list[dict[str, str]]:
    found = []
    for value in part.get("parameters", ()):
        parameter = value
        if "$ref" in value:
            parameter = document
            for step in value["$ref"][2:].split("/"):
                parameter = parameter[step.replace("~1", "/").replace("~0", "~")]
        if parameter["in"] in {"path", "query"}:
            found.append({"in": parameter["in"], "name": parameter["name"]})
    return found


def main() -> None:
    """Trim each NAME=FILE of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--into", type=Path, required=True)
    arguments = parser.parse_args()
    for named in arguments.files:
        name, _, file = named.partition("=")
        text = Path(file).read_text()
        document = json.loads(text) if file.endswith("json") else yaml.safe_load(text)
        data = json.dumps(trimmed(document), separators=(",", ":")).encode()
        (arguments.into / f"{name}.json.gz").write_bytes(gzip.compress(data, 9, mtime=0))


if __name__ == "__main__":
    main()
