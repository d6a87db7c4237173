"""Registration and login, both sides, as it should go and as it should not."""

import json
from pathlib import Path

import opaque_ke
import pytest
from opaque_ke import KSF_LATEST, ClientLogin, ClientRegistration, ServerSetup, check_record

PASSWORD, ID = b"correct horse", b"alice"


def register(setup, password=PASSWORD, **identities):
    client = ClientRegistration(password)
    response = setup.registration_response(client.request, ID)
    return client.finish(response, ksf=KSF_LATEST, **identities)


def log_in(setup, record, password=PASSWORD, credential_id=ID, server=None, client=None):
    """A whole login; returns what the client and the server have of it."""
    at_client = ClientLogin(password)
    at_server = setup.login_start(record, at_client.request, credential_id, **(server or {}))
    login = at_client.finish(at_server.response, ksf=KSF_LATEST, **(client or {}))
    return login, at_server.finish(login.finalization)


@pytest.fixture(scope="module")
def setup():
    return ServerSetup.generate()


@pytest.fixture(scope="module")
def registration(setup):
    return register(setup)


def test_both_sides_have_the_session_key(setup, registration):
    record = check_record(registration.upload)
    login, at_server = log_in(setup, record)
    assert login.session_key == at_server
    assert login.export_key == registration.export_key
    assert login.server_public_key == registration.server_public_key == setup.public_key
    other, _ = log_in(setup, record)
    assert other.session_key != login.session_key
    assert len({login.session_key, login.export_key, login.finalization}) == 3


def test_lengths_are_those_of_the_documentation(setup, registration):
    client = ClientRegistration(PASSWORD)
    at_client = ClientLogin(PASSWORD)
    at_server = setup.login_start(registration.upload, at_client.request, ID)
    login = at_client.finish(at_server.response, ksf=KSF_LATEST)
    measured = {
        "request": len(client.request),
        "response": len(setup.registration_response(client.request, ID)),
        "upload": len(registration.upload),
        "login request": len(at_client.request),
        "login response": len(at_server.response),
        "finalization": len(login.finalization),
        "session key": len(at_server.finish(login.finalization)),
        "export key": len(login.export_key),
        "set-up": len(setup.to_bytes()),
    }
    assert list(measured.values()) == [32, 64, 192, 96, 320, 64, 64, 64, 129]


def test_another_registration_of_the_same_password_shares_nothing(setup, registration):
    again = register(setup)
    assert again.upload != registration.upload
    assert again.export_key != registration.export_key


def test_a_wrong_password_is_noticed_by_the_client(setup, registration):
    with pytest.raises(opaque_ke.InvalidLogin) as refused:
        log_in(setup, registration.upload, password=b"correct horsf")
    assert refused.value.code == "invalid-login"


def test_an_unknown_user_is_like_a_wrong_password(setup, registration):
    failed = {}
    for record in (registration.upload, None):
        client = ClientLogin(b"guess")
        server = setup.login_start(record, client.request, ID)
        with pytest.raises(opaque_ke.InvalidLogin) as at_client:
            client.finish(server.response, ksf=KSF_LATEST)
        with pytest.raises(opaque_ke.InvalidLogin) as at_server:
            server.finish(bytes(64))
        said = [(str(e.value), e.value.code) for e in (at_client, at_server)]
        failed[record] = [len(server.response), *said]
    assert failed[None] == failed[registration.upload]


def test_an_unknown_user_answers_the_same_request_as_one_would_who_exists(setup, registration):
    """The OPRF's part is constant per credential id, everything else fresh, with and without."""
    request = ClientLogin(PASSWORD).request
    answers = [
        setup.login_start(record, request, ID).response
        for record in (None, None, registration.upload, registration.upload)
    ]
    assert len({answer[:32] for answer in answers}) == 1
    for start in range(32, 320, 32):
        assert len({answer[start : start + 32] for answer in answers}) == 4
    assert setup.login_start(None, request, b"bob").response[:32] != answers[0][:32]


def test_a_record_is_of_use_under_its_id_and_server_only(setup, registration):
    with pytest.raises(opaque_ke.InvalidLogin):
        log_in(setup, registration.upload, credential_id=b"bob")
    with pytest.raises(opaque_ke.InvalidLogin):
        log_in(ServerSetup.generate(), registration.upload)


@pytest.mark.parametrize("name", ["context", "client_identity", "server_identity"])
def test_what_both_sides_must_agree_on(setup, name):
    named = {"context": b"app", "client_identity": b"alice", "server_identity": b"relay"}
    identities = {key: value for key, value in named.items() if key != "context"}
    record = register(setup, **identities).upload
    login, at_server = log_in(setup, record, server=named, client=named)
    assert login.session_key == at_server
    for other in ({**named, name: b"other"}, {k: v for k, v in named.items() if k != name}):
        with pytest.raises(opaque_ke.InvalidLogin):
            log_in(setup, record, server=other, client=named)
        with pytest.raises(opaque_ke.InvalidLogin):
            log_in(setup, record, server=named, client=other)


def test_a_set_up_that_was_stored_serves_the_same_records(setup, registration):
    stored = setup.to_bytes()
    again = ServerSetup.from_bytes(stored)
    assert (again.to_bytes(), again.public_key) == (stored, setup.public_key)
    login, at_server = log_in(again, registration.upload)
    assert login.session_key == at_server
    assert ServerSetup.generate().to_bytes() != stored


def test_records_of_every_version_open_for_ever():
    assert opaque_ke.KSF_VERSIONS == (1,)
    assert opaque_ke.KSF_LATEST in opaque_ke.KSF_VERSIONS
    for version in opaque_ke.KSF_VERSIONS:
        path = Path(__file__).parent / "vectors" / f"record-ksf-{version}.json"
        kept = {key: bytes.fromhex(value) for key, value in json.loads(path.read_text()).items()}
        setup = ServerSetup.from_bytes(kept["setup"])
        named = {"client_identity": b"alice", "server_identity": b"relay"}
        client = ClientLogin(PASSWORD)
        server = setup.login_start(kept["record"], client.request, ID, **named)
        login = client.finish(server.response, ksf=version, **named)
        assert login.export_key == kept["export_key"]
        assert login.server_public_key == kept["server_public_key"]
        assert server.finish(login.finalization) == login.session_key


def test_each_object_has_one_try(setup, registration):
    used = []
    client = ClientRegistration(PASSWORD)
    response = setup.registration_response(client.request, ID)
    client.finish(response, ksf=KSF_LATEST)
    used.append(lambda: client.finish(response, ksf=KSF_LATEST))

    at_client = ClientLogin(PASSWORD)
    at_server = setup.login_start(registration.upload, at_client.request, ID)
    login = at_client.finish(at_server.response, ksf=KSF_LATEST)
    used.append(lambda: at_client.finish(at_server.response, ksf=KSF_LATEST))
    at_server.finish(login.finalization)
    used.append(lambda: at_server.finish(login.finalization))

    for finish in used:
        with pytest.raises(opaque_ke.StateUsed) as refused:
            finish()
        assert refused.value.code == "state-used"
    assert len(client.request) == 32, "what was sent can still be read"


def test_a_failed_try_is_a_try(setup, registration):
    server = setup.login_start(registration.upload, ClientLogin(PASSWORD).request, ID)
    with pytest.raises(opaque_ke.InvalidLogin):
        server.finish(bytes(64))
    client, registering = ClientLogin(PASSWORD), ClientRegistration(PASSWORD)
    for half in (client, registering):
        with pytest.raises(opaque_ke.DecodeError):
            half.finish(b"short", ksf=KSF_LATEST)
    for finish in (
        lambda: server.finish(bytes(64)),
        lambda: client.finish(server.response, ksf=KSF_LATEST),
        lambda: registering.finish(bytes(64), ksf=KSF_LATEST),
    ):
        with pytest.raises(opaque_ke.StateUsed):
            finish()


def test_wrong_arguments_are_no_try(setup, registration):
    at_client = ClientLogin(PASSWORD)
    at_server = setup.login_start(registration.upload, at_client.request, ID)
    for wrong in ({"ksf": 0}, {"ksf": 2}, {"ksf": -1}, {"ksf": 1, "context": bytes(65_536)}):
        with pytest.raises(ValueError, match=r"ksf|context"):
            at_client.finish(at_server.response, **wrong)
    with pytest.raises(TypeError):
        at_client.finish(at_server.response)
    login = at_client.finish(at_server.response, ksf=1)
    assert at_server.finish(login.finalization) == login.session_key


def test_lengths_of_arguments(setup, registration):
    for half in (ClientLogin, ClientRegistration):
        assert half(b"x").request
        assert half(bytes(65_535)).request
        for password in (b"", bytes(65_536)):
            with pytest.raises(ValueError, match="password"):
                half(password)
        with pytest.raises(TypeError):
            half("text is the caller's to encode")
    request = ClientLogin(PASSWORD).request
    for name in ("context", "client_identity", "server_identity"):
        assert setup.login_start(None, request, ID, **{name: bytes(65_535)})
        with pytest.raises(ValueError, match=name):
            setup.login_start(None, request, ID, **{name: bytes(65_536)})
    long = {"client_identity": bytes(65_535), "context": bytes(65_535)}
    record = register(setup, client_identity=bytes(65_535)).upload
    login, at_server = log_in(setup, record, server=long, client=long)
    assert login.session_key == at_server
