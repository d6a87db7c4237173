"""How many bytes mls-rs needs: the model fills up to that, so that what a run sends can be counted.

Measured with credentials of 96 bytes, in groups whose members have all committed once. Where leaves
are fresh (RFC 9420 section 7.8: unmerged), real commits are larger, up to one ciphertext a member.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import mls_rs


class Sizes(NamedTuple):
    leaf: int  # of a leaf, its signature and the node above it, beside key and credential
    commit: int  # without levels and KeyPackages
    level: int  # of a commit, for each level of the tree
    invitee: int  # of a Welcome, for each KeyPackage it is for


OF_SUITE: Final = {
    mls_rs.CLASSIC: Sizes(leaf=210, commit=360, level=117, invitee=118),
    mls_rs.HYBRID: Sizes(leaf=2580, commit=1555, level=2391, invitee=1207),
}

_WELCOME_AROUND: Final = 90
_MESSAGE_AROUND: Final = 108
_MESSAGE_STEP: Final = 32
_MESSAGE_START: Final = 20


def path(suite: int, leaves: int) -> bytes:
    """What fills a commit in a tree of so many leaves."""
    sizes = OF_SUITE[suite]
    return bytes(sizes.commit + sizes.level * (leaves - 1).bit_length())


def secrets(suite: int, invitees: int) -> bytes:
    """What fills a Welcome."""
    return bytes(_WELCOME_AROUND + OF_SUITE[suite].invitee * invitees)


def padding(plaintext: bytes) -> bytes:
    """What fills a message: its length tells that of its plaintext by steps only."""
    return bytes(_MESSAGE_AROUND + -(len(plaintext) + _MESSAGE_START) % _MESSAGE_STEP)
