"""The key exchange of TLS 1.3: X25519MLKEM768 first, X25519 for those who have nothing better.

draft-ietf-tls-ecdhe-mlkem: shares and secrets are concatenations, ML-KEM first, then X25519.
RFC 8446, 4.2.8: whoever dials sends a share for each group at once, because aioquic knows no
HelloRetryRequest.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from identity import kem
from schemas.errors import Malformed

X25519_LENGTH = 32


class Group(IntEnum):
    """Code points of the IANA registry "TLS Supported Groups"."""

    X25519MLKEM768 = 0x11EC
    X25519 = 0x001D


PREFERENCE = (Group.X25519MLKEM768, Group.X25519)
_CLIENT_SHARE_LENGTH = {
    Group.X25519MLKEM768: kem.ENCAPSULATION_KEY_LENGTH + X25519_LENGTH,
    Group.X25519: X25519_LENGTH,
}
_SERVER_SHARE_LENGTH = {
    Group.X25519MLKEM768: kem.CIPHERTEXT_LENGTH + X25519_LENGTH,
    Group.X25519: X25519_LENGTH,
}


class Offer:
    """The private halves of the shares in a ClientHello: good for one answer."""

    def __init__(self, groups: Sequence[Group]) -> None:
        # One X25519 key serves both groups, as draft-ietf-tls-hybrid-design, 3.2 allows: their
        # secrets part in the key schedule, where the ServerHello names the group.
        self._x25519 = X25519PrivateKey.generate()
        public = self._x25519.public_key().public_bytes_raw()
        self.shares: dict[Group, bytes] = {}
        for group in groups:
            if group is Group.X25519MLKEM768:
                encapsulation_key, self._decapsulate = kem.generate_ephemeral()
                self.shares[group] = encapsulation_key + public
            else:
                self.shares[group] = public

    def agree_untrusted(self, group: int, share: bytes) -> tuple[Group, bytes]:
        """(the group, its shared secret) from the server's answer.

        Raises Malformed `key-share-malformed`, also for a group that was not offered.
        """
        chosen = next((each for each in self.shares if each == group), None)
        if chosen is None:
            raise _malformed(f"group {group:#06x} was not offered")
        _check_length(share, _SERVER_SHARE_LENGTH[chosen])
        kem_part, x25519_part = share[:-X25519_LENGTH], share[-X25519_LENGTH:]
        try:
            secret = self._x25519.exchange(X25519PublicKey.from_public_bytes(x25519_part))
            if chosen is Group.X25519MLKEM768:
                secret = self._decapsulate(kem_part) + secret
        except ValueError as error:
            raise _malformed("it is no key of its group") from error
        return chosen, secret


def answer_untrusted(group: Group, share: bytes) -> tuple[bytes, bytes]:
    """(our share, shared secret) for a client's share.

    Raises Malformed `key-share-malformed`: another length, an encapsulation key that fails the
    modulus check of FIPS 203, 7.2, an X25519 point of small order.
    """
    _check_length(share, _CLIENT_SHARE_LENGTH[group])
    kem_part, x25519_part = share[:-X25519_LENGTH], share[-X25519_LENGTH:]
    private = X25519PrivateKey.generate()
    answer = private.public_key().public_bytes_raw()
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(x25519_part))
        if group is Group.X25519MLKEM768:
            kem_secret, ciphertext = kem.encapsulate(kem_part)
            return ciphertext + answer, kem_secret + secret
    except ValueError as error:
        raise _malformed("it is no key of its group") from error
    return answer, secret


def _check_length(share: bytes, expected: int) -> None:
    if len(share) != expected:
        raise _malformed(f"{len(share)} bytes instead of {expected}")


def _malformed(why: str) -> Malformed:
    return Malformed("key-share-malformed", f"The peer's key share is refused: {why}")
