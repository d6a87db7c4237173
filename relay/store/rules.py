"""Rules that are the same in every store, with their refusals."""

from __future__ import annotations

from typing import Final

from relay.refusals import blobs_full
from relay.store.accounts import Standing, name_taken
from relay.store.contract import LAST_RESORT_SUITES, Quotas
from schemas.errors import Blame, Fault, Refused
from schemas.ids import IdentityKey

# Owners: what the directory keeps is somebody's, a device's or an identity's. An owner is known who
# has an account, or whose things come from a device of an account or with a mailbox that is known.
# Others are strangers: they share a part of the room, and end when nobody brings anything for them
# for so long. Nodes publish what they have each time that they connect.
DIRECTORY_MEMORY_S: Final = 90 * 86400
DEVICE_PEOPLE: Final = 8  # identities without an account whose things one device may bring


def check_people(held: int) -> None:
    """Whether a device that brought things of `held` people may bring another one's.

    Raises Refused `too-many-people`.
    """
    if held >= DEVICE_PEOPLE:
        raise Refused(
            "too-many-people",
            f"the relay keeps bundles and statements of {DEVICE_PEOPLE} people from one device",
            hint="let them bring their own",
        )


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


def check_upload(total: int, uploads: int, reserved: int, quotas: Quotas) -> None:
    """Whether a device with so many uploads, of `reserved` bytes together, may begin one more.

    Raises Refused `blob-too-large`, TryLater `blobs-full`.
    """
    if total > quotas.blob_bytes:
        raise Refused(
            "blob-too-large",
            f"this relay takes blobs of up to {quotas.blob_bytes} bytes",
            hint="send it in parts, or by another relay",
        )
    if uploads >= quotas.device_blobs or reserved + total > quotas.device_blob_bytes:
        raise blobs_full()


def has_room(
    added: int, *, held: int, most: int, strangers: int, quotas: Quotas, stranger: bool
) -> bool:
    """Whether a part of the store that may hold `most` bytes, and holds `held`, has room for more;
    strangers, who have so many of them, share a part of it.
    """
    return held + added <= most and (
        not stranger or strangers + added <= int(most * quotas.strangers_share)
    )


def check_account(
    has_name: object, has_identity: object, has_device: object, accounts: int, *, most: int
) -> None:
    """Whether an account more than `accounts` may be made; what is true is another's already.

    Raises Refused `name-taken`, `identity-taken`, `device-taken`, `accounts-full`.
    """
    if has_name:
        raise name_taken()
    if has_identity:
        raise Refused(
            "identity-taken",
            "this identity has an account here already",
            hint="log in with its name, or delete that account first",
        )
    if has_device:
        raise _device_taken()
    if accounts >= most:
        raise Refused(
            "accounts-full", "this relay takes no more accounts", hint="ask whoever runs the relay"
        )


def check_device(standing: Standing | None, identity: IdentityKey, held: int, most: int) -> bool:
    """Whether an account of `held` devices gets one more; False when it has this one.

    Raises Refused `device-taken`, `too-many-devices`.
    """
    if standing is not None and standing.identity != identity:
        raise _device_taken()
    if standing is not None and not standing.revoked:
        return False
    if held >= most:
        raise Refused(
            "too-many-devices",
            f"this relay takes {most} devices of one account",
            hint="revoke a device that is not used any more",
        )
    return True


def _device_taken() -> Refused:
    return Refused(
        "device-taken",
        "this device belongs to an account here already",
        hint="revoke it there first",
    )


def require_version(found: int, newest: int) -> None:
    """For a command beside the relay. Raises Fault `database-older`, `database-newer`."""
    if found != newest:
        raise Fault(
            "database-older" if found < newest else "database-newer",
            f"the database has version {found}; this program knows {newest}",
            blame=Blame.ENVIRONMENT,
            hint="start the relay with this program first"
            if found < newest
            else "upgrade this program",
        )
