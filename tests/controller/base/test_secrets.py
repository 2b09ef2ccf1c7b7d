"""Secrets are removed from texts of a support bundle; texts that only look similar stay."""

from __future__ import annotations

import time

import pytest

from controller.base.log_ring import MAX_KEPT, MAX_SHOWN, LogRing
from controller.base.secrets import LEFT_OUT, without_secrets

SECRET = "pl4nted-S3cret"
KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\nabc\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        f"token: {SECRET}",
        f'"token": "{SECRET}"',
        f"{{'password': '{SECRET}'}}",
        f"client-key-data: {SECRET}",
        f"certificate-authority-data: {SECRET}",
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"sent Bearer {SECRET} and was refused",
        f"https://admin:{SECRET}@192.0.2.1:6443/api",
        f"https://{SECRET}@192.0.2.1:6443/api",
        f"id_token={SECRET}&x=1",
        f"API_KEY={SECRET}",
        f"refresh-token: '{SECRET}'",
        f"eyJhbGciOi.{SECRET}.c2ln",
        f"a-eyJhbGciOi.{SECRET}",
        KEY,
        KEY.partition("abc")[0],
        f"a {KEY} b".replace("\n", "\\n"),
    ],
)
def test_secrets_are_left_out(text: str) -> None:
    found = without_secrets(text)
    assert SECRET not in found and LEFT_OUT in found


@pytest.mark.parametrize(
    "text",
    [
        "pod tenant-a/token-service is on node-1",
        "kubeconfig /etc/headgate/kubeconfig",
        "ct_state=+trk+new,ct_nw_src=10.0.0.1,reg3=0x3/0xffff",
        "the API server answers 401 Unauthorized: its token is not valid",
        "tcp:[2001:db8::1]:6640",
        "basic checks are done, bearer of a name",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    "unit",
    ["x", "-", ".", "eyJ-", "eyJabcd", "eyJabcd.", "a.", "a-token", "token=", "token='", 'token="', 'token="\\"',
     "token ", "basic ", "basic x", "x:", "http://", "http://x:x", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----",
     "'", " "],
)  # fmt: skip
def test_any_text_costs_as_much_as_it_is_long(unit: str) -> None:
    began = time.process_time()
    without_secrets(unit * (400_000 // len(unit)))
    assert time.process_time() - began < 2


@pytest.mark.slow
def test_the_ring_is_bounded_and_keeps_no_secret() -> None:
    for length in (5000, MAX_KEPT, 500_000):
        ring = LogRing(3)
        for n in range(10):
            ring.take(f"line {n} token={SECRET} {'x' * length}")
        lines = ring.lines()
        assert [line.split()[1] for line in lines] == ["7", "8", "9"]
        assert all(SECRET not in line and len(line) <= MAX_SHOWN for line in lines)
