"""The portal's OpenAPI description, held against what the portal answers."""

import httpx
import pytest


async def test_the_description_has_the_real_statuses_and_the_session(envoy: httpx.AsyncClient) -> None:
    described = (await envoy.get("/dashboard/openapi.json")).json()
    assert "422" not in str(described["paths"].values())
    assert "x-authz-" not in str(described)
    signup = described["paths"]["/v1/public/signup"]["post"]["responses"]
    assert {"200", "400", "409", "413", "429", "503"} <= set(signup)
    create = described["paths"]["/v1/dashboard/keys"]["post"]
    assert create["security"] == [{"session": [], "token": []}]
    assert described["components"]["securitySchemes"]["session"]["name"] == "__Host-session"
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if "{" in path:
                continue
            answer = await envoy.request(method, path, json={})
            assert str(answer.status_code) in operation["responses"], (method, path, answer.status_code)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/dashboard/session", "DELETE, GET, POST"),
        ("/v1/dashboard/keys", "GET, POST"),
        ("/dashboard/login", "GET, HEAD, POST"),
        ("/v1/public/signup", "POST"),
        ("/dashboard/static/portal.css", "GET, HEAD"),
        ("/dashboard/openapi.json", "GET"),
        ("/healthz", "GET"),
    ],
)
async def test_a_405_names_every_method_of_the_path(envoy: httpx.AsyncClient, path: str, methods: str) -> None:
    answer = await envoy.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)
