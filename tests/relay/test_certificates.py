"""Certificates change while the relay runs: its own, and that of /metrics over HTTPS."""

from __future__ import annotations

import asyncio
import datetime
import json
import signal
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

import transport
from relay.server import open_relay
from relay.web_certificate import DAY_S, WebCertificate
from schemas.errors import Fault
from schemas.node_service import RELAY_ALPN, NodeService
from tests.relay.process import RelayProcess, run_relay
from tests.relay.support import Clock, config_for, new_device, within


def issue(folder: Path, serial: int, *, days: float = 30, password: bytes = b"") -> None:
    """`cert.pem` and `key.pem` as an ACME client leaves them: ECDSA, for a domain."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example")])
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(until - datetime.timedelta(days=90))
        .not_valid_after(until)
        .sign(key, hashes.SHA256())
    )
    secret = BestAvailableEncryption(password) if password else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret)
    (folder / "key.pem").write_bytes(pem)
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def dial(where: str) -> ssl.SSLSocket:
    host, _, port = where.rpartition(":")
    return unchecked().wrap_socket(socket.create_connection((host, int(port)), timeout=10))


def serial_of(sock: ssl.SSLSocket) -> int:
    der = sock.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def read_all(sock: ssl.SSLSocket, path: str) -> str:
    sock.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    answer = b""
    while more := sock.recv(65536):
        answer += more
        head, _, body = answer.partition(b"\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length")]
        if lengths and len(body) == int(lengths[0].split()[1]):
            break
    return answer.decode()


async def test_the_relays_own_certificate_is_renewed_while_it_runs(
    kj: None, clock: Clock, tmp_path: Path
) -> None:
    """A year goes by. Who is connected stays so, and who comes now is served."""
    config = replace(config_for(tmp_path), dht=False)

    def utc_now() -> datetime.datetime:
        return datetime.datetime.fromtimestamp(clock(), datetime.UTC)

    async with open_relay(config, clock=clock, certificate_clock=clock) as relay:
        endpoint = await transport.Endpoint.open(
            new_device().private, transport.Address("127.0.0.1", 0), handlers={}, utc_now=utc_now
        )
        try:
            for _ in range(2):  # the second goes over the connection of the year before, too
                dialled = [transport.Address(*relay.listen)]
                connection = await endpoint.dial(dialled, expected=relay.device, alpn=RELAY_ALPN)
                stream = await connection.open_stream()
                async with transport.connect_rpc(stream) as rpc:
                    service = rpc.cast_as(NodeService)
                    assert (await within(service.health())).status == "ok"
                    clock.now += 365 * DAY_S
                    assert (await within(service.health())).status == "ok"
        finally:
            await endpoint.close()


def test_a_new_certificate_of_metrics_is_served_after_sighup(tmp_path: Path) -> None:
    """And a bad one is not: the old one stays, the log and the metrics say why."""
    issue(tmp_path, 1)
    certificate = (
        f"metrics_tls_cert = {json.dumps(str(tmp_path / 'cert.pem'))}\n"
        f"metrics_tls_key = {json.dumps(str(tmp_path / 'key.pem'))}\n"
    )
    (tmp_path / "relay.toml").write_text(certificate)
    settings = ("--config", str(tmp_path / "relay.toml"), "--metrics", "127.0.0.1:0")
    with RelayProcess(tmp_path / "data", *settings) as relay:
        where = relay.ready["metrics"]
        first = dial(where)
        assert serial_of(first) == 1

        def serial_becomes(serial: int) -> None:
            relay.popen.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 10
            while True:
                with dial(where) as sock:
                    if serial_of(sock) == serial:
                        return
                assert time.monotonic() < deadline
                time.sleep(0.02)

        issue(tmp_path, 2, days=90)
        serial_becomes(2)
        assert '"ok"' in read_all(first, "/health"), "an open connection is not dropped"
        first.close()
        with dial(where) as sock:
            told = read_all(sock, "/metrics")
        assert "quicnprotochat_certificate_days 89.9" in told
        assert "quicnprotochat_certificate_refused 0.0" in told

        good = (tmp_path / "cert.pem").read_bytes()
        (tmp_path / "cert.pem").write_bytes(good[:200])
        relay.popen.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while "quicnprotochat_certificate_refused 1.0" not in told:
            assert time.monotonic() < deadline
            with dial(where) as sock:
                assert serial_of(sock) == 2
                told = read_all(sock, "/metrics")
        assert "not used" in relay.end().err


def test_files_that_changed_are_noticed_without_a_signal(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issue(tmp_path, 1)
    clock = Clock(time.time())
    served = WebCertificate(cert, key, clock)
    # They are for whole seconds, and one may have passed since the clock was stopped.
    assert served.days == pytest.approx(30, abs=0.1)
    issue(tmp_path, 2, days=60)
    served.read_if_changed()
    assert served.days == pytest.approx(60, abs=0.1)
    whole = key.read_bytes()
    for wrong in (b"", b"garbage", whole[:100], pem_of_another()):
        key.write_bytes(wrong)
        served.read_if_changed()
        assert served.trouble
        assert served.days > 59, "what is served is what was whole"
    key.unlink()
    served.read_if_changed()
    assert "cannot be read" in served.trouble
    issue(tmp_path, 3, password=b"secret")
    served.read_if_changed()
    assert served.trouble, "OpenSSL must not ask on the terminal"
    issue(tmp_path, 4, days=-1)
    served.read_if_changed()
    assert served.trouble == "it has expired"
    issue(tmp_path, 5)
    served.read_if_changed()
    assert served.trouble == ""
    clock.now += 31 * DAY_S
    assert served.days < 0


def pem_of_another() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_bad_certificate_is_refused_at_the_start(tmp_path: Path) -> None:
    issue(tmp_path, 1, days=-1)
    with pytest.raises(Fault) as raised:
        WebCertificate(tmp_path / "cert.pem", tmp_path / "key.pem", time.time)
    assert raised.value.code == "bad-metrics-cert"
    half = {"QUICNPROTOCHAT_METRICS_TLS_CERT": str(tmp_path / "cert.pem")}
    ended = run_relay("doctor", "--data-dir", str(tmp_path), "--json", **half)
    assert ended.error["code"] == "bad-setting"


async def test_metrics_are_open_to_others_on_request_only(kj: None, tmp_path: Path) -> None:
    wanted = ("--data-dir", str(tmp_path), "--metrics", "0.0.0.0:0", "--json")
    ended = await asyncio.to_thread(run_relay, "doctor", *wanted)
    assert ended.error["code"] == "bad-setting"
    (tmp_path / "relay.toml").write_text("metrics_open = true\n")
    opened = ("--config", str(tmp_path / "relay.toml"), "--metrics", "0.0.0.0:0")
    with RelayProcess(tmp_path, *opened) as relay:
        assert relay.ready["metrics"].startswith("0.0.0.0:")
