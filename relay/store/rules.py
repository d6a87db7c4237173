"""Rules that are the same in every store, with their refusals."""

from __future__ import annotations

from relay.store.contract import LAST_RESORT_SUITES, Quotas
from schemas.errors import Refused


def check_newer(held: tuple[int, bytes] | None, number: int, data: bytes) -> bool:
    """Whether to store; False when the very same is held. Raises Refused `stale`."""
    if held is None or number > held[0]:
        return True
    if held == (number, data):
        return False
    raise Refused(
        "stale",
        f"number {number} is not newer than {held[0]}, which the relay has",
        hint="publish again with a higher number",
    )


def check_stock(held: int, quotas: Quotas) -> None:
    """Whether a device may have one more than `held`. Raises Refused `key-packages-full`."""
    if held >= quotas.key_packages:
        raise Refused(
            "key-packages-full",
            f"the relay keeps {quotas.key_packages} key packages for a device",
            hint="no more are needed until some were fetched",
        )


def check_suites(held: int) -> None:
    """Whether a device may have one more last resort. Raises Refused `too-many-suites`."""
    if held >= LAST_RESORT_SUITES:
        raise Refused(
            "too-many-suites", f"the relay keeps last resorts of {LAST_RESORT_SUITES} suites"
        )


def key_package_used() -> Refused:
    return Refused(
        "key-package-used",
        "this key package has been handed out already",
        hint="make a new one; each is good for one group",
    )
