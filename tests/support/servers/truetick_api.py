"""The API's public routes and `whoami` as a small HTTP server that keeps to the published contract, for its clients."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from support.builders import FORMAT

BAD_KEY = {"code": 16, "message": "invalid or missing api key", "details": []}
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"


@dataclass
class Answer:
    """A status, a body (JSON unless it is bytes), and headers."""

    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class ReceivedRequest:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    document: dict[str, Any]


@dataclass
class Account:
    account_id: str
    email: str
    password: str
    is_verified: bool = False


@dataclass
class Device:
    user_code: str
    status: str = "pending"
    account: Account | None = None


class ContractApi:
    """The server. `planned` holds answers by path that come before the real ones, in order."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, Account] = {}
        self.devices: dict[str, Device] = {}
        self.planned: dict[str, list[Answer]] = defaultdict(list)
        self.requests: list[ReceivedRequest] = []
        self.expires_in, self.interval = 60, 1
        self.browser_url = ""
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def open_account(self, email: str, password: str) -> None:
        self.accounts[email] = Account(f"acct_{len(self.accounts) + 1}", email, password)

    def approve(self, user_code: str, email: str) -> None:
        device = next(device for device in self.devices.values() if device.user_code == user_code)
        device.account, device.status = self.accounts[email], "approved"

    def refuse(self, user_code: str) -> None:
        next(device for device in self.devices.values() if device.user_code == user_code).status = "expired"

    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def answer(self, request: ReceivedRequest) -> Answer:
        with self._lock:
            self.requests.append(request)
            if self.planned[request.path]:
                return self.planned[request.path].pop(0)
            match (request.method, request.path):
                case ("POST", "/v1/public/signup"):
                    return self._sign_up(request.document)
                case ("POST", "/v1/public/login"):
                    return self._log_in(request.document)
                case ("POST", "/v1/public/device/start"):
                    return self._start()
                case ("POST", "/v1/public/device/poll"):
                    return self._poll(request.document)
                case ("GET", "/v1/whoami"):
                    return self._who_am_i(request.headers.get("x-api-key", ""))
        return Answer(401, BAD_KEY)

    def _sign_up(self, document: dict[str, Any]) -> Answer:
        if document["email"] in self.accounts:
            return Answer(409, {"error": "email already registered"})
        self.open_account(document["email"], document["password"])
        return self._log_in(document)

    def _log_in(self, document: dict[str, Any]) -> Answer:
        account = self.accounts.get(document["email"])
        if account is None or account.password != document["password"]:
            return Answer(401, {"error": "invalid email or password"})
        owner = {"account_id": account.account_id, "email": account.email, "email_verified": account.is_verified}
        return Answer(200, {"api_key": self.mint(account), **owner})

    def _start(self) -> Answer:
        letters = "".join(ALPHABET[byte % len(ALPHABET)] for byte in os.urandom(4))
        device_code, user_code = os.urandom(16).hex(), f"{letters}-1234"
        self.devices[device_code] = Device(user_code)
        where = self.browser_url or f"{self.url}/device"
        return Answer(
            body={
                "device_code": device_code,
                "user_code": user_code,
                "verify_url": where,
                "verification_uri": where,
                "verification_uri_complete": f"{where}?code={user_code}",
                "expires_in": self.expires_in,
                "interval": self.interval,
            }
        )

    def _poll(self, document: dict[str, Any]) -> Answer:
        device = self.devices.get(document["device_code"])
        if device is None or device.status == "expired":
            return Answer(body={"status": "expired"})
        if device.account is None:
            return Answer(body={"status": "pending"})
        device.status = "expired"
        return Answer(body={"status": "approved", "api_key": self.mint(device.account)})

    def _who_am_i(self, key: str) -> Answer:
        account = self.keys.get(key)
        if account is None:
            return Answer(401, BAD_KEY)
        fields = {"accountId": account.account_id, "email": account.email, "emailVerified": account.is_verified}
        return Answer(body=fields)

    def mint(self, account: Account) -> str:
        key = FORMAT.mint(os.urandom(32))
        self.keys[key] = account
        return key


def _handler(api: ContractApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            body = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = api.answer(ReceivedRequest(self.command, self.path, headers, json.loads(body) if body else {}))
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in ({"content-type": "application/json"} | answer.headers).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 -- the library's spelling

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def contract_api() -> Iterator[ContractApi]:
    api = ContractApi()
    yield api
    api.close()
