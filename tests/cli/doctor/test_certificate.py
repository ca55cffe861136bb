"""When a certificate ends, as the TLS library says it."""

import ssl
import time
from pathlib import Path

import pytest
from support.certificates import Authority

from authz.cli.doctor.findings import State
from authz.cli.doctor.local import certificate
from authz.edge.check.certificate import earliest_end_s


def test_the_end_is_that_of_the_tls_library(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "one")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    (known,) = context.get_ca_certs()
    assert earliest_end_s(authority.certificate.read_bytes()) == ssl.cert_time_to_seconds(str(known["notAfter"]))


def test_a_chain_ends_with_its_first_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "one")
    leaf, _ = authority.issue("DNS:envoy")
    end_s = earliest_end_s(leaf.read_bytes())
    assert abs(end_s - time.time() - 86_400) < 60
    assert earliest_end_s(authority.certificate.read_bytes() + leaf.read_bytes()) == end_s


@pytest.mark.parametrize("damage", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_an_error(damage: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        earliest_end_s(damage)


def test_every_cut_of_a_certificate_is_an_error_and_nothing_else(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(Authority(tmp_path, "one").certificate.read_text())
    for size in range(len(der)):
        with pytest.raises(ValueError, match=r"."):
            earliest_end_s(ssl.DER_cert_to_PEM_cert(der[:size]).encode())


@pytest.mark.parametrize("is_expired", [True, False])
def test_a_certificate_that_ends_within_a_week_is_wrong(tmp_path: Path, *, is_expired: bool) -> None:
    leaf, _ = Authority(tmp_path, "one").issue("DNS:envoy", is_expired=is_expired)
    found = certificate("check", leaf)
    assert found.state is State.WRONG
    assert ("has expired" if is_expired else "expires soon") in found.detail
