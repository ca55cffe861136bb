"""A real kube-apiserver with etcd on loopback, for the tests of this folder; it runs no controllers and no pods."""

import json
import secrets
import subprocess
from collections.abc import Iterator

import pytest
from apiserver.cluster import ROOT, Cluster

from authz.demo.servers import Server, free_port


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("apiserver")
    etcd_port, peer_port, port = free_port(), free_port(), free_port()
    etcd_url = f"http://127.0.0.1:{etcd_port}"
    listen = ["--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url]
    peers = ["--listen-peer-urls", f"http://127.0.0.1:{peer_port}"]
    etcd = Server("etcd", ["etcd", "--data-dir", folder / "etcd", *listen, *peers], folder / "etcd.log")
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    options = {
        "etcd-servers": etcd_url,
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        "secure-port": port,
        "cert-dir": folder / "certificates",
        "service-account-key-file": key,
        "service-account-signing-key-file": key,
        "service-account-issuer": "https://127.0.0.1",
        "token-auth-file": folder / "tokens.csv",
        "authorization-mode": "RBAC",
        # No controller makes the default ServiceAccount of a namespace.
        "disable-admission-plugins": "ServiceAccount",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    server = Server("kube-apiserver", [ROOT / "build/apiserver/kube-apiserver", *flags], folder / "apiserver.log")
    (folder / "kubeconfig").write_text(_kubeconfig(port, token))
    made = Cluster(folder / "kubeconfig")
    etcd.start(lambda: True)
    try:
        server.start(lambda: made.kubectl("get", "--raw", "/readyz").stdout == "ok")
        yield made
    finally:
        server.stop()
        etcd.stop()


def _kubeconfig(port: int, token: str) -> str:
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
    )
