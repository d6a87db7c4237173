"""What may be kept in the DHT: values whose author, age and place can be checked by strangers."""

from __future__ import annotations

from dataclasses import dataclass

from discovery.dht.contact import node_id
from discovery.record import CLOCK_SKEW_S, open_endpoint_record_untrusted
from identity.keys import signature_holds
from identity.signing import prefixed
from schemas.dht import DhtValue
from schemas.errors import Malformed
from schemas.ids import DeviceKey, DhtId
from schemas.limits import ENDPOINT_LIFETIME_S
from schemas.records import Signed, SignedType


@dataclass(frozen=True, slots=True)
class Age:
    """How new a value is among those of its signer, and when it ends (Unix seconds)."""

    sequence: int
    issued: int
    expires: int

    def newer_than(self, other: Age) -> bool:
        return (self.sequence, self.issued) > (other.sequence, other.issued)


def is_public(key: DhtId, value: Signed) -> bool:
    """Whether `value` is its signer's endpoint record, in plain sight under the signer's id."""
    return len(value.signer) == DeviceKey.LENGTH and key == node_id(DeviceKey(value.signer))


def read_value_untrusted(key: DhtId, value: Signed, *, now: float) -> Age:
    """The age of `value`, if it may be under `key` at `now`; its signature is not looked at yet.

    Raises Malformed: `oversized-dht-value`, `malformed-dht-value`, `wrong-cell`, `bad-lifetime`,
    `issued-in-future`, `expired`.
    """
    read = DhtValue.decode(value.payload)
    if read.cell != key:
        raise Malformed("wrong-cell", "a value for another place")
    if not 0 < read.expires - read.issued <= ENDPOINT_LIFETIME_S:
        raise Malformed("bad-lifetime", "a value with an impossible lifetime")
    if read.issued > now + CLOCK_SKEW_S:
        raise Malformed("issued-in-future", "a value from the future")
    if read.expires <= now:
        raise Malformed("expired", "a value that has expired")
    return Age(read.sequence, read.issued, read.expires)


def check_signature_untrusted(value: Signed) -> None:
    """Raises Malformed `bad-signature`."""
    if not signature_holds(
        value.signer, value.signature, prefixed(SignedType.DHT_VALUE, value.payload)
    ):
        raise Malformed("bad-signature", "the signature of a DHT value does not hold")


def read_public_untrusted(value: Signed, *, now: float) -> Age:
    """The age of a public endpoint record. Raises as `open_endpoint_record_untrusted`."""
    record = open_endpoint_record_untrusted(value, now=now)
    return Age(record.sequence, record.issued, record.expires)
