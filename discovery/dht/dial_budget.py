"""How often we knock where nobody answers: a victim's address in an answer buys no flood."""

from __future__ import annotations

from discovery.dht.quic_limits import QuicLimits
from schemas.addresses import Address
from transport.admission import prefix_of
from transport.rate import Buckets, TokenBucket


class DialBudget:
    """A dial takes a token of everybody, of the address's prefix and of the address itself.

    Whoever answers gives them back, so only silence costs. `now` is a clock that only grows.
    """

    def __init__(self, limits: QuicLimits) -> None:
        self._all = TokenBucket(limits.unanswered_rate, limits.unanswered_burst)
        self._prefixes: Buckets[bytes] = Buckets(
            limits.unanswered_prefix_rate, limits.unanswered_prefix_burst
        )
        self._addresses: Buckets[Address] = Buckets(
            limits.unanswered_address_rate, limits.unanswered_address_burst
        )

    def take(self, address: Address, now: float) -> bool:
        """Whether to dial; `answered` follows if somebody did."""
        buckets = self._of(address)
        if any(bucket.wait_s(now) for bucket in buckets):
            return False
        for bucket in buckets:
            bucket.use(1, now)
        return True

    def answered(self, address: Address, now: float) -> None:
        for bucket in self._of(address):
            bucket.use(-1, now)

    def _of(self, address: Address) -> list[TokenBucket]:
        prefix = prefix_of(address.host)
        of_prefix = [] if prefix is None else [self._prefixes.of(prefix)]
        return [self._all, *of_prefix, self._addresses.of(address)]
