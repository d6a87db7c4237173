"""Keys, credentials, bundles, envelope and safety numbers: what holds, and what is refused."""

from __future__ import annotations

import dataclasses
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import mlkem
from hypothesis import given
from hypothesis import strategies as st
from pqcrypto.kem import ml_kem_768

from identity import bundle, credential, envelope, kem, keys, safety, signing
from schemas.card import Card
from schemas.errors import Malformed
from schemas.group_records import Intent, IntentKind
from schemas.ids import GroupId, IntentId
from schemas.records import BundleCore, Signed, SignedType

PERSON = keys.identity_from_seed(b"\x01" * 32)
DEVICE = keys.device_from_seed(b"\x02" * 32)
STRANGER = keys.identity_from_seed(b"\x03" * 32)
HYBRID = envelope.generate_hybrid()


def make_bundle(number: int = 1) -> Signed:
    entry = bundle.bundle_device(PERSON.public, DEVICE, "laptop", HYBRID.public, issued=10)
    return bundle.sign_bundle(PERSON, BundleCore(PERSON.public, number, "Ada", (entry,), ()))


def test_seed_stays_out_of_repr() -> None:
    assert "seed" not in repr(PERSON)
    assert PERSON.seed.hex() not in repr(PERSON)


def test_derived_keys_differ_by_purpose_and_device() -> None:
    assert len({DEVICE.derive(b"a"), DEVICE.derive(b"b"), PERSON.derive(b"a")}) == 3


def test_credential_names_the_owner_and_no_other_device() -> None:
    issued = credential.issue_credential(PERSON, DEVICE.public)
    assert credential.verify_credential_untrusted(DEVICE.public, issued) == PERSON.public
    other = keys.device_from_seed(b"\x09" * 32).public
    forged = bytes(STRANGER.public) + issued[32:]
    for device, value in [(other, issued), (DEVICE.public, forged), (DEVICE.public, issued[:-1])]:
        with pytest.raises(Malformed) as caught:
            credential.verify_credential_untrusted(device, value)
        assert caught.value.code == "bad-credential"


def test_bundle_opens_and_each_forgery_is_refused() -> None:
    signed = make_bundle()
    core = bundle.open_bundle_untrusted(signed)
    assert core.name == "Ada"
    entry = core.devices[0]
    stolen = dataclasses.replace(entry, hybrid_key=envelope.generate_hybrid().public)
    mine = dataclasses.replace(core, identity=STRANGER.public)
    forgeries = {
        "bad-signature": dataclasses.replace(signed, payload=signed.payload[:-1] + b"\x01"),
        "not-their-device": bundle.sign_bundle(STRANGER, mine),
        "wrong-signer": bundle.sign_bundle(STRANGER, core),
        "bad-hybrid-key": bundle.sign_bundle(PERSON, dataclasses.replace(core, devices=(stolen,))),
        "malformed-bundle": bundle.sign_bundle(PERSON, dataclasses.replace(core, devices=())),
    }
    for code, forged in forgeries.items():
        with pytest.raises(Malformed) as caught:
            bundle.open_bundle_untrusted(forged)
        assert caught.value.code == code


def test_bundle_must_fit_the_card() -> None:
    first, other = make_bundle(), make_bundle(number=2)
    card = Card(PERSON.public, DEVICE.public, b"s" * 32, 1, bundle.bundle_hash(first), 99)
    bundle.check_against_card(bundle.open_bundle_untrusted(first), first, card)
    bundle.check_against_card(bundle.open_bundle_untrusted(other), other, card)  # newer, signed
    wrong = dataclasses.replace(card, bundle_hash=b"x" * 32)
    with pytest.raises(Malformed):
        bundle.check_against_card(bundle.open_bundle_untrusted(first), first, wrong)


def test_signature_of_one_kind_is_no_signature_of_another() -> None:
    intent = Intent(IntentId(b"i" * 16), GroupId(b"g" * 16), DEVICE.public, IntentKind.LEAVE)
    signed = signing.sign(SignedType.SUMMARY, DEVICE, intent.encode())
    with pytest.raises(Malformed) as caught:
        signing.open_signed(SignedType.INTENT, signed, Intent.decode, lambda i: i.author)
    assert caught.value.code == "bad-signature"


@given(st.binary(max_size=2000))
def test_envelope_opens_for_its_recipient(plaintext: bytes) -> None:
    assert envelope.open_untrusted(HYBRID, envelope.seal(HYBRID.public, plaintext)) == plaintext


def test_envelope_layout_is_the_published_one() -> None:
    sealed = envelope.seal(HYBRID.public, b"hello")
    assert sealed[0] == 1
    assert len(sealed) == 1 + 32 + 1088 + 12 + len(b"hello") + 16


def test_envelopes_sealed_together_open_each_for_itself_and_in_any_order() -> None:
    plaintexts = [b"one", b"", b"three" * 100]
    sealed = envelope.seal_all(HYBRID.public, plaintexts)
    assert len({one[:1121] for one in sealed}) == 1, "one header"
    assert len({one[1121:1133] for one in sealed}) == 3, "a nonce of its own each"
    alone = envelope.seal(HYBRID.public, b"between")
    reader = envelope.HybridKeyPair(HYBRID.public, HYBRID.private)
    for at in (2, 0, 2, 1):
        assert envelope.open_untrusted(reader, sealed[at]) == plaintexts[at]
        damaged = sealed[0][:-1] + bytes([sealed[0][-1] ^ 1])
        with pytest.raises(Malformed):
            envelope.open_untrusted(reader, damaged)
        swapped = sealed[0][:1133] + sealed[2][1133:]
        with pytest.raises(Malformed):
            envelope.open_untrusted(reader, swapped)
        assert envelope.open_untrusted(reader, alone) == b"between"
    with pytest.raises(Malformed):
        envelope.open_untrusted(envelope.generate_hybrid(), sealed[0])


def test_every_flipped_byte_and_every_other_key_is_refused() -> None:
    sealed = envelope.seal(HYBRID.public, b"hello")
    for at in [*range(0, len(sealed), 37), len(sealed) - 1]:
        damaged = bytearray(sealed)
        damaged[at] ^= 1
        with pytest.raises(Malformed):
            envelope.open_untrusted(HYBRID, bytes(damaged))
    with pytest.raises(Malformed):
        envelope.open_untrusted(envelope.generate_hybrid(), sealed)


@pytest.mark.parametrize("key", [b"", bytes(1216), b"\xff" * 1216, HYBRID.public[:-1]])
def test_bad_recipient_key_is_a_typed_error(key: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        envelope.seal(key, b"x")
    assert caught.value.code == "bad-hybrid-key"


@given(st.binary(max_size=1400))
def test_garbage_envelopes_raise_only_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        envelope.open_untrusted(HYBRID, data)


def test_pqcrypto_and_cryptography_agree_on_ml_kem_768_in_both_directions() -> None:
    public, expanded = ml_kem_768.keygen()
    shared, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(bytes(public)).encapsulate()
    assert bytes(ml_kem_768.decaps(bytes(expanded), ciphertext)) == shared

    private = mlkem.MLKEM768PrivateKey.generate()
    ciphertext, shared = ml_kem_768.encaps(private.public_key().public_bytes_raw())
    assert private.decapsulate(bytes(ciphertext)) == bytes(shared)


def test_envelope_works_with_pqcrypto_keys_where_openssl_has_no_ml_kem() -> None:
    public, expanded = ml_kem_768.keygen()
    pair = envelope.HybridKeyPair(HYBRID.public[:32] + public, HYBRID.private[:32] + expanded)
    assert envelope.open_untrusted(pair, envelope.seal(pair.public, b"hi")) == b"hi"


def test_wrong_kem_ciphertext_gives_another_secret_without_an_error() -> None:
    private, public = kem.generate()
    shared, ciphertext = kem.encapsulate(public)
    assert kem.decapsulate(private, ciphertext) == shared
    assert kem.decapsulate(private, os.urandom(len(ciphertext))) != shared


def test_safety_number_is_the_same_on_both_sides_and_changes_with_either_key() -> None:
    number = safety.safety_number(PERSON.public, STRANGER.public)
    assert number == safety.safety_number(STRANGER.public, PERSON.public)
    assert len(number.split()) == 12
    other = keys.identity_from_seed(b"\x07" * 32).public
    assert number != safety.safety_number(PERSON.public, other)
