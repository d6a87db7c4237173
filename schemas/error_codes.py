"""Every code that a relay answers a call with: what it means, and what to do.

The code is the first field of an `Error` on the wire. docs/relay-errors.md is written from this
table, and tests/relay/test_error_codes.py holds it complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """`seed`: the seed system's number and name, where it had one; the message begins with it."""

    code: str
    meaning: str
    action: str
    seed: str = ""


_MAIL: Final = (
    ErrorCode("parcel-expired", "the parcel's time was over when it came", "send it again"),
    ErrorCode("mailbox-full", "the mailbox holds as many parcels or bytes as it may",
              "try later, after `retryAfterMs`, or another relay of theirs"),
    ErrorCode("no-mailbox", "a relay that is not open, and a recipient who is no member",
              "ask them which relay they use"),
    ErrorCode("delivery-token-refused", "no delivery token of the recipient, or not a good one",
              "wait until they give you a new one; nodes do so by themselves"),
    ErrorCode("delivery-token-full", "what came with this token fills its share of the mailbox",
              "try later"),
    ErrorCode("not-your-mailbox", "somebody else's mailbox",
              "connect with the device key that it belongs to"),
    ErrorCode("too-many-waits", "more fetchWait at once than one connection may have",
              "wait for the answers first"),
    ErrorCode("too-many-subscriptions", "more subscriptions than allowed", "read with peek"),
    ErrorCode("malformed-parcel", "an item of a batch that is not a parcel", "mend the client"),
    ErrorCode("channel-access-denied", "caller or recipient is not one of the channel's members",
              "use a channel of these two, or none", "E022 CHANNEL_ACCESS_DENIED"),
    ErrorCode("channel-not-found", "no channel has this id", "make one with createChannel",
              "E023 CHANNEL_NOT_FOUND"),
    ErrorCode("too-many-channels", "the caller has made as many channels as a device may",
              "use mailboxes without a channel"),
)  # fmt: skip
_DIRECTORY: Final = (
    ErrorCode("not-found", "the relay does not hold that", "ask the person; try another relay"),
    ErrorCode("no-key-package", "no key package of that device for that suite",
              "wait until they are online, or try the other suite"),
    ErrorCode("key-package-used", "this key package was handed out before", "make a new one"),
    ErrorCode("key-packages-full", "the device's stock is full", "bring more when some are used"),
    ErrorCode("too-many-suites", "last resorts of more suites than the relay keeps",
              "replace one that is there"),
    ErrorCode("too-many-people", "bundles or statements of more people than one device may bring",
              "let them bring their own"),
    ErrorCode("stale", "the relay has the same number, or a newer one",
              "publish with a higher number"),
    ErrorCode("not-your-key", "something for another device key than the connection's",
              "connect with that key"),
    ErrorCode("bad-signature", "a signature that does not hold", "mend the client"),
    ErrorCode("wrong-signer", "signed by somebody who may not sign it", "mend the client"),
    ErrorCode("bad-hybrid-key", "a hybrid key in a bundle that its device did not sign",
              "mend the client"),
    ErrorCode("not-their-device", "a bundle with a device that does not say it is theirs",
              "mend the client"),
    ErrorCode("malformed-bundle", "bytes that are not a bundle", "upgrade whichever is older"),
    ErrorCode("oversized-bundle", "a bundle above its limit", "list fewer devices or relays"),
    ErrorCode("malformed-endpoint-record", "bytes that are not an endpoint record",
              "upgrade whichever is older"),
    ErrorCode("oversized-endpoint-record", "an endpoint record above its limit",
              "list fewer addresses"),
    ErrorCode("malformed-relay-statement", "bytes that are not a relay statement",
              "upgrade whichever is older"),
    ErrorCode("oversized-relay-statement", "a relay statement above its limit",
              "list fewer relays"),
    ErrorCode("bad-lifetime", "an endpoint record that lives backwards, or too long",
              "mend the client"),
    ErrorCode("issued-in-future", "a record of a time to come", "set the clock of the device"),
    ErrorCode("expired", "an endpoint record whose time is over", "sign a new one"),
    ErrorCode("not-here", "that device cannot be met by this relay now",
              "nothing: what you send waits in its mailbox"),
)  # fmt: skip
_BLOBS: Final = (
    ErrorCode("blob-too-large", "a blob above what this relay takes",
              "send it in parts, or by another relay"),
    ErrorCode("blob-differs", "another total than the upload began with",
              "begin with the right bytes"),
    ErrorCode("blob-mismatch", "the bytes are not those that the id says; they are dropped",
              "bring them again from the beginning"),
    ErrorCode("blobs-full", "the device has brought as much as the relay keeps for one",
              "wait until older ones expire, or use another relay"),
)  # fmt: skip
_ACCOUNTS: Final = (
    ErrorCode("bad-name", "not a name that an account can have",
              "2 to 32 letters and digits of one script, with . _ or - between them"),
    ErrorCode("name-taken", "the name cannot be had here", "choose another"),
    ErrorCode("identity-taken", "this identity has an account here already",
              "log in with its name, or delete that account first"),
    ErrorCode("device-taken", "this device belongs to an account here already",
              "revoke it there first"),
    ErrorCode("accounts-full", "the relay has as many accounts as it takes",
              "ask whoever runs it"),
    ErrorCode("bad-invite", "no invite, or one that is used up, expired or revoked",
              "ask whoever runs the relay for one"),
    ErrorCode("not-admitted", "the relay keeps things for its members only",
              "register an account, or show the relay's token"),
    ErrorCode("login-failed", "unknown name, wrong password, or a login that took too long: which, "
              "nobody is told", "check both, and try again"),
    ErrorCode("not-logged-in", "no session of this device with this token, or not any more",
              "log in again"),
    ErrorCode("bad-credential", "not the identity's signature over the caller's device key",
              "mend the client"),
    ErrorCode("not-your-identity", "a credential of another person than the account's",
              "use the identity that the account was made with"),
    ErrorCode("no-account", "the account was deleted meanwhile", "register it again"),
    ErrorCode("no-such-device", "the account has no such device", "list its devices"),
    ErrorCode("too-many-devices", "the account has as many devices as it may", "revoke one"),
    ErrorCode("device-revoked", "the device was revoked by its owner",
              "log in with it and register it again, if it is yours"),
    ErrorCode("unsupported-ksf", "a version of the key stretching that the relay does not know",
              "upgrade whichever is older"),
)  # fmt: skip
_RELAY: Final = (
    ErrorCode("try-later", "more than a rate allows", "try again after `retryAfterMs`"),
    ErrorCode("too-many-connections", "more connections than allowed; the connection is closed "
              "with it", "try again later"),
    ErrorCode("relay-full", "the whole relay has no room left", "use another relay meanwhile"),
    ErrorCode("busy", "more is under way than the relay's disk or memory takes", "try again"),
    ErrorCode("draining", "the relay is shutting down", "try again in some seconds"),
    ErrorCode("unimplemented", "a method that this relay does not have", "upgrade the relay"),
    ErrorCode("unsupported-auth", "a version of Auth that this relay does not read",
              "upgrade whichever is older"),
    ErrorCode("malformed-request", "parameters that are not what the method takes",
              "mend the client"),
    ErrorCode("internal", "the relay failed; its log has the details under the id in the message",
              "try again; tell the operator if it stays"),
    ErrorCode("disk-full", "no space on the relay's disk; mail can still be read",
              "try later, or another relay of theirs"),
    ErrorCode("store-unavailable", "the relay can keep nothing or find nothing at present; its log "
              "has the details under the id in the message; what was asked may have been done or "
              "not", "ask again: it is safe to"),
)  # fmt: skip

GROUPS: Final = {
    "mail": _MAIL,
    "directory": _DIRECTORY,
    "blobs": _BLOBS,
    "accounts": _ACCOUNTS,
    "relay": _RELAY,
}
ERROR_CODES: Final = {each.code: each for group in GROUPS.values() for each in group}
