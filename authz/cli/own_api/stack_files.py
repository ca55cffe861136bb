"""The compose file and the README that `authz init` writes for one's own API."""

from dataclasses import dataclass
from typing import assert_never

from authz import __version__
from authz.adapters.envoy_config.backend import Backend
from authz.adapters.policy_writer.expectations import sample_request
from authz.adapters.policy_writer.lines import quoted
from authz.core.imports.operation import Operation
from authz.core.policy.policy import KeyForm, KeyScheme, Policy
from authz.core.policy.route import Access, Route

_COMPOSE = """\
# Envoy, authz and its stores on one machine, for {name}. Written by `authz init`.
#
# Every port is open to this machine only; Envoy's is the door. The two passwords are for trying out: production has
# stores of its own, with TLS and ACLs (docs/stores.md).
name: {name}
services:
  valkey:
    image: valkey/valkey:9
    command: [valkey-server, --save, "", --maxmemory-policy, noeviction]
    ports: ["127.0.0.1:6379:6379"]
  postgres:
    image: postgres:18
    environment: {{POSTGRES_USER: authz, POSTGRES_PASSWORD: authz, POSTGRES_DB: authz}}
    ports: ["127.0.0.1:5432:5432"]
    volumes: ["postgres:/var/lib/postgresql"]
    healthcheck: {{test: [CMD, pg_isready, -U, authz], interval: 2s, retries: 30}}
  migrate:
    image: &authz {image}
    command: [migrate]
    network_mode: host
    environment: &environment
      AUTHZ_POLICY_FILE: /etc/authz/policy.yaml
      AUTHZ_REDIS_URL: redis://127.0.0.1:6379/0
      AUTHZ_POSTGRES_URL: postgresql://authz:authz@127.0.0.1:5432/authz
    volumes: &policy ["./policy.yaml:/etc/authz/policy.yaml:ro"]
    depends_on: {{postgres: {{condition: service_healthy}}}}
  authz:
    image: *authz
    command: [serve]
    network_mode: host
    environment:
      <<: *environment
      AUTHZ_CHECK_LISTEN: 127.0.0.1:9001
      AUTHZ_ADMIN_LISTEN: 127.0.0.1:9090
    volumes: *policy
    depends_on: {{migrate: {{condition: service_completed_successfully}}, valkey: {{condition: service_started}}}}
  envoy:
    image: envoyproxy/envoy:distroless-v1.40.0
    command: [-c, /etc/envoy/envoy.yaml]
    network_mode: host
    volumes: ["./envoy.yaml:/etc/envoy/envoy.yaml:ro"]
    depends_on: [authz]
volumes:
  postgres:
"""
_README = """\
# {name} behind Envoy and authz

| file | what it is |
|---|---|
| `policy.yaml` | {rows} rows of {source}: what each route needs. Decide the comments. |
| `expectations.yaml` | what each operation needs; `authz policy test expectations.yaml --policy policy.yaml` |
| `envoy.yaml` | Envoy on port 8000, with the backend {backend} |
| `compose.yaml` | Envoy, authz, Valkey and PostgreSQL on one machine |

## Try it without containers

    authz demo --policy policy.yaml --backend {url}

It starts everything on this machine, prints a key, and a request each for 200, 401, 403 and 429.

## Try it with containers

    docker compose up --detach
    docker compose run --rm authz accounts create "First account"
    docker compose run --rm authz keys create ACCOUNT_ID --name first {scopes}
    curl -i {credential} http://127.0.0.1:8000{path}

`compose.yaml` uses the image `{image}`: build it in a checkout of authz with
`docker build -f deploy/Containerfile -t {image} .`.

## When the API changes

    authz policy import openapi {source} --into policy.yaml
    authz policy coverage {source} --policy policy.yaml

The first adds the new rows in a marked block and reports the routes that are gone. The second is for CI: it exits with
1 while the description and the policy differ.

A policy that changed needs another `envoy.yaml` if its headers of keys, account bindings to bodies, streams or error
formats changed. Check the file, and write it again:

    authz envoy check envoy.yaml --policy policy.yaml
    authz envoy render --policy policy.yaml --backend {url} > envoy.yaml
"""


@dataclass(frozen=True, slots=True)
class Texts:
    """The two files."""

    compose: str
    readme: str


def texts(policy: Policy, backend: Backend, source: str) -> Texts:
    """Write both files."""
    route = first_route(policy)
    image = f"authz:{__version__}"
    scheme = "https" if backend.is_tls else "http"
    readme = _README.format(
        name=policy.api,
        rows=len(policy.routes),
        source=source,
        backend=backend,
        url=f"{scheme}://{backend}",
        scopes=" ".join(f"--scope {it}" for it in first_scopes(policy)),
        credential=curl_credential(policy, "KEY"),
        path=sample_path(route) if route else "/",
        image=image,
    )
    return Texts(_COMPOSE.format(name=policy.api, image=quoted(image)), readme)


def first_route(policy: Policy) -> Route | None:
    """Return the route for a first request: a GET without variables if there is one, else any GET; None without any."""
    gets = [it for it in policy.routes if it.method == "GET" and it.access is Access.SCOPE and not it.accounts]
    return min(gets, key=lambda it: (it.template.count("{") + it.template.count("*"), len(it.template)), default=None)


def first_scopes(policy: Policy) -> list[str]:
    """Return the scopes of a first key: those of the first route, or all if there is no such route."""
    first = first_route(policy)
    return sorted(policy.scopes) if first is None else list(first.alternatives[0])


def curl_credential(policy: Policy, secret: str) -> str:
    """Return the arguments by which curl presents a key in the first form that the policy has."""
    form = next(iter(policy.keys.forms), KeyForm(policy.keys.header))
    match form.scheme:
        case KeyScheme.PLAIN:
            return f"-H '{form.header}: {secret}'"
        case KeyScheme.BEARER:
            return f"-H '{form.header}: Bearer {secret}'"
        case KeyScheme.BASIC:
            return f"-u '{secret}:'"
        case _:
            assert_never(form.scheme)


def sample_path(route: Route) -> str:
    """Return a path that a route decides on."""
    return sample_request(Operation(route.method, route.template, is_template=True))[1]
