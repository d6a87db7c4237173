"""RFC 9807, appendix C: the vectors for ristretto255, through the functions that users call.

The vectors fix what is random, and have no key stretching. So they run on the extension that
taped/ builds: blinds, nonces and seeds are put on its tape in the order in which opaque-ke reads
them, and `play` says whether any were left over.
"""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

VECTORS = [
    {key: value if key == "name" else bytes.fromhex(value) for key, value in vector.items()}
    for vector in json.loads(
        (Path(__file__).parent / "vectors/rfc9807-ristretto255.json").read_text()
    )
]
REAL, FAKE = VECTORS[:2], VECTORS[2:]
IDENTITY = 0


def name(vector):
    return vector["name"]


def blind(scalar):
    """A scalar is drawn as 64 bytes, reduced: those of a given scalar are itself and zeros."""
    return scalar + bytes(32)


def server(taped, vector, stand_in=None):
    """The set-up's bytes: version, seed, private key, public key for unknown users."""
    stand_in = stand_in or vector["server_public_key"]
    data = b"\x01" + vector["oprf_seed"] + vector["server_private_key"] + stand_in
    setup = taped.ServerSetup.from_bytes(data)
    assert setup.public_key == vector["server_public_key"]
    assert setup.to_bytes() == data
    return setup


def identities(vector):
    return {
        "client_identity": vector.get("client_identity"),
        "server_identity": vector.get("server_identity"),
    }


def test_the_vectors_are_those_of_the_appendix():
    assert [name(vector) for vector in VECTORS] == [
        "OPAQUE-3DH Real Test Vector 1",
        "OPAQUE-3DH Real Test Vector 2",
        "OPAQUE-3DH Fake Test Vector 1",
    ]
    assert [name(v) for v in VECTORS if "client_identity" in v] == [name(REAL[1]), name(FAKE[0])]


@pytest.mark.parametrize("vector", REAL, ids=name)
def test_registration(taped, vector):
    setup = server(taped, vector)

    taped.play(blind(vector["blind_registration"]))
    client = taped.ClientRegistration(vector["password"])
    assert client.request == vector["registration_request"]

    assert taped.play(b"") == 0
    response = setup.registration_response(client.request, vector["credential_identifier"])
    assert response == vector["registration_response"]

    taped.play(vector["envelope_nonce"])
    done = client.finish(response, ksf=IDENTITY, **identities(vector))
    assert taped.play(b"") == 0
    assert taped.check_record(done.upload) == vector["registration_upload"]
    assert done.export_key == vector["export_key"]
    assert done.server_public_key == vector["server_public_key"]


@pytest.mark.parametrize("vector", REAL, ids=name)
def test_login(taped, vector):
    setup = server(taped, vector)

    taped.play(
        blind(vector["blind_login"]) + vector["client_keyshare_seed"] + vector["client_nonce"]
    )
    client = taped.ClientLogin(vector["password"])
    assert taped.play(b"") == 0
    assert client.request == vector["KE1"]

    unused_key_for_unknown_users = bytes(64)
    taped.play(
        unused_key_for_unknown_users
        + vector["masking_nonce"]
        + vector["server_keyshare_seed"]
        + vector["server_nonce"]
    )
    login = setup.login_start(
        vector["registration_upload"],
        client.request,
        vector["credential_identifier"],
        context=vector["context"],
        **identities(vector),
    )
    assert taped.play(b"") == 0
    assert login.response == vector["KE2"]

    done = client.finish(
        login.response, ksf=IDENTITY, context=vector["context"], **identities(vector)
    )
    assert done.finalization == vector["KE3"]
    assert done.session_key == vector["session_key"]
    assert done.export_key == vector["export_key"]
    assert done.server_public_key == vector["server_public_key"]
    assert login.finish(done.finalization) == vector["session_key"]


@pytest.mark.parametrize("vector", FAKE, ids=name)
def test_answer_for_an_unknown_user(taped, vector):
    """It draws just as much randomness as the answer for a known one, above."""
    setup = server(taped, vector, stand_in=vector["client_public_key"])
    taped.play(
        vector["masking_key"]
        + vector["masking_nonce"]
        + vector["server_keyshare_seed"]
        + vector["server_nonce"]
    )
    login = setup.login_start(
        None,
        vector["KE1"],
        vector["credential_identifier"],
        context=vector["context"],
        **identities(vector),
    )
    assert taped.play(b"") == 0
    assert login.response == vector["KE2"]


def test_stretching_version_1_is_argon2id_as_openssl_computes_it(taped):
    """The form of RFC 9807, section 7: 16 zero bytes of salt, 64 bytes out."""
    secret = bytes(range(64))
    argon2id = Argon2id(salt=bytes(16), length=64, iterations=3, lanes=4, memory_cost=64 * 1024)
    assert bytes(taped.stretch(1, secret)) == argon2id.derive(secret)
