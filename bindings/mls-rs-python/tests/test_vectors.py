"""The MLS working group's test vectors, as far as this package's interface reaches.

Not replayed, and why: vectors of key schedule, secret tree, tree operations and crypto basics need
functions that are not exposed; commits of proposals by reference are refused by this package's
rules, which is what the test then asserts.
"""

import json
from pathlib import Path

import blobs
import mls_rs
import pytest

HERE = Path(__file__).parent / "vectors"

MESSAGES = {
    "mls_welcome": ("welcome", None),
    "mls_group_info": ("group-info", None),
    "mls_key_package": ("key-package", None),
    "public_message_application": ("public", "application"),
    "public_message_proposal": ("public", "proposal"),
    "public_message_commit": ("public", "commit"),
    "private_message": ("private", None),
}
FRAGMENTS = {
    "add_proposal",
    "commit",
    "external_init_proposal",
    "group_context_extensions_proposal",
    "group_secrets",
    "pre_shared_key_proposal",
    "ratchet_tree",
    "re_init_proposal",
    "remove_proposal",
    "update_proposal",
}
"""Not MLSMessages: nothing in this package's interface takes them alone."""


def load(name):
    return json.loads((HERE / f"mls-{name}.json").read_text())


def accept(signature_key, credential):
    pass


def vector_bytes(data):
    """RFC 9420 section 2.1.2: a variable-size vector."""
    for bits, size in ((0, 1), (1, 2), (2, 4)):
        if len(data) < 1 << (8 * size - 2):
            return (bits << (8 * size - 2) | len(data)).to_bytes(size, "big") + data
    raise ValueError("too long")


def import_key_package(client, info, message, init_private, leaf_private):
    """Inside the blob: KeyPackage, both private keys, end of the lifetime."""
    package = message[4:]  # without version and wire format of the MLSMessage
    inside = b"".join(map(vector_bytes, (package, init_private, leaf_private))) + b"\xff" * 8
    blob = blobs.seal(blobs.KEY_PACKAGE, b"", info.reference, inside)
    client.restore_key_package(info.reference, blob)


def passive_client(vector):
    """A client with the KeyPackage and the pre-shared keys of a vector."""
    package = bytes.fromhex(vector["key_package"])
    info = mls_rs.verify_key_package(package)
    client = mls_rs.Client(
        signing_seed=bytes.fromhex(vector["signature_priv"]),
        credential=info.credential,
        storage_key=bytes(32),
        validate_credential=accept,
    )
    assert client.signature_key == info.signature_key
    import_key_package(
        client,
        info,
        package,
        bytes.fromhex(vector["init_priv"]),
        bytes.fromhex(vector["encryption_priv"]),
    )
    for psk in vector["external_psks"]:
        client.add_psk(bytes.fromhex(psk["psk_id"]), bytes.fromhex(psk["psk"]))
    return client, info


def join(vector):
    client, info = passive_client(vector)
    welcome = bytes.fromhex(vector["welcome"])
    assert info.reference in mls_rs.welcome_references(welcome)
    tree = vector["ratchet_tree"]
    group = client.join(welcome, tree=bytes.fromhex(tree) if tree else None)
    assert group.epoch_authenticator.hex() == vector["initial_epoch_authenticator"]
    return client, group


def test_every_file_is_here_and_counted():
    counts = {path.stem: len(json.loads(path.read_text())) for path in HERE.glob("*.json")}
    assert counts == {
        "mls-messages": 20,
        "mls-passive-client-handling-commit": 13,
        "mls-passive-client-welcome": 8,
        "mls-welcome": 1,
    }


def test_message_encodings():
    """Parsing re-encodes and compares, so passing means the same bytes."""
    seen = 0
    for vector in load("messages"):
        assert set(vector) == set(MESSAGES) | FRAGMENTS
        for name, (kind, content) in MESSAGES.items():
            data = bytes.fromhex(vector[name])
            header = mls_rs.inspect(data)
            assert header.kind == kind
            if kind == "public":
                assert header.content == content
            assert (header.epoch is None) == (kind in ("welcome", "key-package"))
            with pytest.raises(mls_rs.DecodeError):
                mls_rs.inspect(data + b"\0")
            with pytest.raises(mls_rs.DecodeError):
                mls_rs.inspect(data[:-1])
            seen += 1
        assert mls_rs.welcome_references(bytes.fromhex(vector["mls_welcome"])) is not None
    assert seen == 140


def test_key_packages_of_the_welcome_vectors_verify():
    verified = 0
    for name in ("welcome", "passive-client-welcome", "passive-client-handling-commit"):
        for vector in load(name):
            assert (
                mls_rs.verify_key_package(bytes.fromhex(vector["key_package"])).suite
                == mls_rs.CLASSIC
            )
            verified += 1
    assert verified == 22


def test_the_welcome_vector_opens():
    """It has no tree and no leaf key, so it cannot be joined; everything up to there works."""
    (vector,) = load("welcome")
    package = bytes.fromhex(vector["key_package"])
    info = mls_rs.verify_key_package(package)
    welcome = bytes.fromhex(vector["welcome"])
    assert info.reference in mls_rs.welcome_references(welcome)
    client = mls_rs.Client(
        signing_seed=bytes(32),
        credential=b"",
        storage_key=bytes(32),
        validate_credential=accept,
    )
    with pytest.raises(mls_rs.UnknownKeyPackage):
        client.join(welcome)
    init = bytes.fromhex(vector["init_priv"])
    import_key_package(client, info, package, init, bytes(32))
    with pytest.raises(mls_rs.InvalidCommit) as refused:
        client.join(welcome)
    assert refused.value.code == "ratchet-tree-not-found", "after the GroupInfo was decrypted"
    wrong = bytes([init[0], init[1] ^ 1]) + init[2:]
    import_key_package(client, info, package, wrong, bytes(32))
    with pytest.raises(mls_rs.AuthenticationFailed):
        client.join(welcome)


def test_passive_clients_join():
    joined = [join(vector)[1].epoch for vector in load("passive-client-welcome")]
    assert len(joined) == 8


def test_passive_clients_follow_commits():
    joined = followed = refused_by_reference = 0
    for vector in load("passive-client-handling-commit"):
        client, group = join(vector)
        joined += 1
        for epoch in vector["epochs"]:
            commit = bytes.fromhex(epoch["commit"])
            if epoch["proposals"]:
                for proposal in epoch["proposals"]:
                    with pytest.raises(mls_rs.RefusedByRules):
                        group.process(bytes.fromhex(proposal))
                with pytest.raises(mls_rs.RefusedByRules) as refused:
                    group.process(commit)
                assert refused.value.code == "by-reference-proposal"
                refused_by_reference += 1
                break
            group.process(commit)
            assert group.epoch_authenticator.hex() == epoch["epoch_authenticator"]
            group.save()
            assert client.take_log()[0].kind == "state"
            followed += 1
    assert (joined, followed, refused_by_reference) == (13, 19, 7)
