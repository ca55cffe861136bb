"""`authz envoy check` as an operator and a pipeline use it: what it prints, and what it exits with."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.envoy_faults import DATA, faults, patched
from typer.testing import CliRunner, Result

from authz.cli.app import app
from authz.demo.servers import shipped

POLICY = str(shipped("policies/truetick.yaml"))
SARIF = json.loads((Path(__file__).parents[2] / "data" / "sarif-2.1.0.json").read_text())
RUNNER = CliRunner()


def check(source: object, *arguments: str, text: str | None = None) -> Result:
    environment = {"AUTHZ_POLICY_FILE": POLICY, "TERMINAL_WIDTH": "200"}
    return RUNNER.invoke(app, ["envoy", "check", str(source), *arguments], input=text, env=environment)


@pytest.fixture
def faulty(folder: Path) -> Path:
    """The shipped file, in which one setting is missing and one value is wrong."""
    text = shipped("envoy.yaml").read_text()
    for old, new in (("          normalize_path: true\n", ""), ("merge_slashes: true", "merge_slashes: false")):
        assert old in text
        text = text.replace(old, new)
    file = folder / "envoy.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("file", ["envoy.yaml", "deploy/kubernetes/chart/files/envoy-sidecar.yaml"])
def test_the_shipped_files_have_no_finding(file: str) -> None:
    path = shipped("envoy.yaml").parent / file
    result = check(path, "--fail-on", "warning")
    assert (result.exit_code, result.output) == (0, f"{path}: 0 errors, 0 warnings, 0 notes\n")


def test_a_finding_has_its_line_its_reason_and_its_fix(faulty: Path) -> None:
    result = check(faulty)
    line = next(n for n, text in enumerate(faulty.read_text().splitlines(), 1) if "merge_slashes" in text)
    assert result.exit_code == 1
    assert f"{faulty}:{line}: warning EA202: merge_slashes is not set\n" in result.output
    assert ": error EA201: normalize_path is not set\n" in result.output
    assert "    fix  normalize_path: true\n" in result.output
    assert "    why  Envoy resolves dot segments. Otherwise /public/../servers" in result.output
    assert "    see  docs/reference/envoy-rules.md#ea201\n" in result.output
    assert result.output.endswith(f"{faulty}: 1 error, 1 warning, 0 notes\n")


def test_the_exit_code_depends_on_severity_and_ignored_rules(faulty: Path) -> None:
    assert check(faulty, "--ignore", "ea201").exit_code == 0
    assert check(faulty, "--ignore", "EA201", "--fail-on", "warning").exit_code == 1
    assert check(faulty, "--ignore", "EA201", "--ignore", "EA202", "--fail-on", "warning").exit_code == 0
    assert check(faulty, "--ignore", "EA999").exit_code == 2


def test_json_names_every_field(faulty: Path) -> None:
    result = check(faulty, "--format", "json")
    document = json.loads(result.stdout)
    first = document["findings"][0]
    assert (document["errors"], document["warnings"], document["notes"]) == (1, 1, 0)
    assert set(first) == {"rule", "severity", "line", "path", "what", "title", "why", "fix", "see"}
    assert first["path"].startswith("static_resources.listeners[0].filter_chains[0].filters[0].typed_config")
    assert first["line"] > 1


def test_sarif_is_valid_for_every_fault(folder: Path) -> None:
    file = folder / "with blank.json"
    for fault in faults()[::18]:
        file.write_text(json.dumps(patched(fault)))
        log = json.loads(check(file, "--format", "sarif").stdout)
        jsonschema.Draft7Validator(SARIF, format_checker=jsonschema.FormatChecker()).validate(log)
        (run,) = log["runs"]
        rules = run["tool"]["driver"]["rules"]
        assert fault["rule"] in {result["ruleId"] for result in run["results"]}
        assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
        uri = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri.endswith("/with%20blank.json")


def test_standard_input_and_addresses_are_read() -> None:
    text = shipped("envoy.yaml").read_text()
    assert check("-", text=text).output.endswith("-: 0 errors, 0 warnings, 0 notes\n")
    dump = json.dumps(yaml.safe_load((DATA / "sound" / "contour.yaml").read_text()))

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(dump.encode())

        def log_message(self, *_args: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        result = check(f"http://127.0.0.1:{server.server_port}/config_dump", "--ignore", "EA401")
        server.shutdown()
        thread.join()
    # The policy binds a body and has streams, of which the dump knows nothing.
    assert {line.split()[2] for line in result.output.splitlines() if ": error " in line} == {"EA301:", "EA406:"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a: [", "neither JSON nor YAML"),
        ("apiVersion: v1\nkind: Pod\n", "a Kubernetes manifest of kind Pod"),
        ("static_resources: {}", "no HTTP connection manager"),
        ("just text", "expected a bootstrap"),
    ],
)
def test_what_is_no_configuration_exits_with_2(text: str, reason: str) -> None:
    result = check("-", text=text)
    assert result.exit_code == 2
    assert reason in " ".join(re.sub("[│\n]", " ", result.output).split())


def test_the_key_header_comes_from_the_policy(folder: Path) -> None:
    policy = folder / "policy.yaml"
    policy.write_text(shipped("policies/truetick.yaml").read_text().replace("header: x-api-key", "header: x-shop-key"))
    result = check(shipped("envoy.yaml"), "--policy", str(policy))
    assert result.exit_code == 1
    assert "error EA212: authz does not see x-shop-key\n" in result.output
    assert "decoder_header_mutation_rules do not allow x-shop-key" in result.output


def test_without_a_policy_the_rest_is_checked(folder: Path) -> None:
    environment = {"AUTHZ_POLICY_FILE": None}
    command = ["envoy", "check", str(shipped("envoy.yaml")), "--fail-on", "warning"]
    result = RUNNER.invoke(app, command, env=environment)
    assert result.exit_code == 0
    assert "no policy: the key is taken to be in x-api-key" in result.output
    missing = RUNNER.invoke(app, ["envoy", "check", str(shipped("envoy.yaml")), "--policy", str(folder / "no.yaml")])
    assert missing.exit_code == 1
