"""Messaging Layer Security (RFC 9420) for Python, over the Rust crate mls-rs."""

from collections.abc import Callable, Sequence
from typing import Final, Literal, final

__all__ = [
    "CLASSIC",
    "HYBRID",
    "AuthenticationFailed",
    "BlobError",
    "Change",
    "Client",
    "Commit",
    "CredentialRefused",
    "DecodeError",
    "EpochInFuture",
    "EpochTooOld",
    "Group",
    "Header",
    "InvalidCommit",
    "KeyPackage",
    "KeyPackageInfo",
    "KeyUnavailable",
    "LogEntry",
    "Member",
    "Message",
    "MlsError",
    "NoSuchMember",
    "NotActive",
    "OwnMessage",
    "PendingCommit",
    "RefusedByRules",
    "StaleCommit",
    "UnknownKeyPackage",
    "WrongGroup",
    "encode_policy",
    "inspect",
    "verify_key_package",
    "welcome_references",
]

CLASSIC: Final[int]
"""`MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519` (cipher suite 1)."""
HYBRID: Final[int]
"""ML-KEM-768 + X25519 with Ed25519 signatures (private code point 65100)."""

class MlsError(Exception):
    """Base of every error this package raises on purpose. `code` is stable, in kebab-case."""

    code: str

class DecodeError(MlsError):
    """Not an MLS message, not the expected kind, or with trailing bytes."""

class WrongGroup(MlsError):
    """The message names another group."""

class EpochTooOld(MlsError):
    """A handshake message of an earlier epoch, or a message whose epoch secrets are gone."""

class EpochInFuture(MlsError):
    """The message belongs to an epoch this group has not reached."""

class KeyUnavailable(MlsError):
    """The message's key was used already (a duplicate), or lies too far ahead."""

class AuthenticationFailed(MlsError):
    """A signature, tag or ciphertext does not verify: tampered, or of another branch."""

class OwnMessage(MlsError):
    """The message was made by this very client."""

class UnknownKeyPackage(MlsError):
    """The Welcome is for somebody else, or its KeyPackage is gone."""

class RefusedByRules(MlsError):
    """A stranger's external commit, a by-reference proposal, a re-initialisation, or what the
    group's policy forbids: "add-not-allowed", "add-for-another", "remove-not-allowed",
    "extensions-not-allowed", "policy-malformed". Or "not-authorized": `authorize_commit` raised;
    its exception is `__cause__`."""

class CredentialRefused(MlsError):
    """The validator raised; its exception is `__cause__`."""

class InvalidCommit(MlsError):
    """The commit or its proposals break RFC 9420 (section 12)."""

class StaleCommit(MlsError):
    """A detached commit applied to a group that is not its base."""

class NotActive(MlsError):
    """This client is no longer a member of the group."""

class NoSuchMember(MlsError):
    """No leaf with that index, or a late message whose sender has left it ("sender-left")."""

class BlobError(MlsError):
    """A stored blob is tampered with, sealed under another key, or of a newer version."""

@final
class KeyPackage:
    """A KeyPackage of this client, ready to publish."""

    @property
    def message(self) -> bytes:
        """The MLSMessage, exact bytes."""
    @property
    def reference(self) -> bytes:
        """KeyPackageRef, 32 bytes (RFC 9420 section 5.2)."""

@final
class KeyPackageInfo:
    """What a stranger's KeyPackage says, after its signatures were verified."""

    @property
    def suite(self) -> int: ...
    @property
    def signature_key(self) -> bytes: ...
    @property
    def credential(self) -> bytes:
        """Identity bytes of the Basic credential."""
    @property
    def not_before(self) -> int:
        """Unix seconds."""
    @property
    def not_after(self) -> int:
        """Unix seconds."""
    @property
    def reference(self) -> bytes: ...
    @property
    def last_resort(self) -> bool: ...

@final
class Member:
    @property
    def index(self) -> int: ...
    @property
    def signature_key(self) -> bytes: ...
    @property
    def credential(self) -> bytes: ...

@final
class Header:
    """What can be read of a message without any key."""

    @property
    def kind(self) -> Literal["public", "private", "welcome", "group-info", "key-package"]: ...
    @property
    def content(self) -> Literal["application", "proposal", "commit"] | None: ...
    @property
    def group_id(self) -> bytes | None: ...
    @property
    def epoch(self) -> int | None: ...

@final
class LogEntry:
    """One write that the caller must store, in order, in one transaction."""

    @property
    def kind(
        self,
    ) -> Literal[
        "state", "tree", "epoch-insert", "epoch-update", "key-package-insert", "key-package-delete"
    ]: ...
    @property
    def group_id(self) -> bytes | None:
        """None for key packages."""
    @property
    def id(self) -> int | bytes | None:
        """Epoch number for epochs, KeyPackageRef for key packages, None otherwise."""
    @property
    def data(self) -> bytes | None:
        """A sealed blob; None for a deletion."""

@final
class Message:
    """An application message that was opened."""

    @property
    def sender(self) -> Member: ...
    @property
    def epoch(self) -> int: ...
    @property
    def plaintext(self) -> bytes: ...
    @property
    def authenticated_data(self) -> bytes: ...

@final
class Commit:
    """What a commit did, by whoever made it; `added` as after it, `removed` as before it."""

    @property
    def committer(self) -> Member: ...
    @property
    def epoch(self) -> int:
        """The epoch that the commit opened."""
    @property
    def added(self) -> list[Member]: ...
    @property
    def removed(self) -> list[Member]: ...
    @property
    def updated_extensions(self) -> bool:
        """The commit replaced the group-context extensions."""
    @property
    def removes_me(self) -> bool: ...
    @property
    def authenticated_data(self) -> bytes: ...

@final
class Change:
    """What a commit would do, and to which group: what `authorize_commit` judges.

    All members that process a commit see an equal one, and so does its committer.
    """

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int:
        """The epoch that the commit opens."""
    @property
    def committer(self) -> Member:
        """As before the commit; one who comes back from outside (`rejoin`): as after it."""
    @property
    def members(self) -> list[Member]:
        """All members before the commit, by leaf index. Each reading makes a new list."""
    @property
    def added(self) -> list[Member]:
        """As after the commit."""
    @property
    def removed(self) -> list[Member]:
        """As before the commit."""
    @property
    def extensions_before(self) -> list[tuple[int, bytes]]:
        """The group-context extensions before the commit: types and data."""
    @property
    def extensions_after(self) -> list[tuple[int, bytes]]:
        """The group-context extensions after the commit: types and data."""
    @property
    def authenticated_data(self) -> bytes:
        """What the committer signed beside the commit; empty for `rejoin`."""

@final
class PendingCommit:
    """A detached commit. It is bound to its base: group id, epoch and epoch authenticator."""

    @property
    def message(self) -> bytes:
        """The Commit as an MLSMessage holding a PublicMessage."""
    @property
    def welcome(self) -> bytes | None:
        """One Welcome for all added members, when any was added."""
    @property
    def tree(self) -> bytes | None:
        """The ratchet tree after the commit, when it does not travel inside the Welcome."""
    def seal(self) -> bytes:
        """A blob that `Client.open_pending_commit` reads back."""

@final
class Group:
    """One member's view of one group. Operations either succeed or leave it as it was."""

    @property
    def group_id(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def suite(self) -> int: ...
    @property
    def active(self) -> bool: ...
    @property
    def own_index(self) -> int: ...
    @property
    def inviter_index(self) -> int | None:
        """The leaf that signed the Welcome this group was joined by; None once it was loaded."""
    @property
    def epoch_authenticator(self) -> bytes: ...
    @property
    def tree_hash(self) -> bytes:
        """RFC 9420 section 7.8."""
    @property
    def skipped_keys(self) -> int:
        """Message keys kept for messages that were skipped, in this epoch and the prior ones.

        At most 4,096 per epoch and 1,024 per sender and epoch; one message may lie at most 1,024
        ahead of the last one of its sender. Beyond the caps the oldest keys of the sender with most
        are dropped; in a prior epoch the message is refused (KeyUnavailable "too-many-skipped").
        """
    @property
    def dropped_keys(self) -> int:
        """How many skipped keys were dropped beyond the caps; their messages cannot be opened."""
    def roster(self) -> list[Member]:
        """All members, by leaf index."""
    def find_member(self, signature_key: bytes) -> Member | None:
        """The member with this signature key; a dictionary is made once per epoch."""
    def find_members(self, credential: bytes) -> list[Member]:
        """The members with exactly these credential bytes, by leaf index; looks at every leaf."""
    def extension(self, extension_type: int) -> bytes | None:
        """A group-context extension's data."""
    def export_secret(self, label: bytes, context: bytes, length: int) -> bytes:
        """RFC 9420 section 8.5."""
    def ratchet_tree(self) -> bytes:
        """The public tree (RFC 9420 section 12.4.3.3), for one who joins or comes back."""
    def group_info(self, *, tree: bool = True) -> bytes:
        """A GroupInfo for `Client.rejoin`, with the tree inside; it lets nobody else in."""
    def encrypt(self, plaintext: bytes, authenticated_data: bytes = b"") -> bytes:
        """An application message as an MLSMessage holding a PrivateMessage."""
    @property
    def next_generation(self) -> int:
        """The generation that the next `encrypt` of this epoch uses (RFC 9420 section 9.1)."""
    def skip_to_generation(self, generation: int) -> None:
        """Skips forward, so that the next `encrypt` uses `generation`; skipped keys are erased.

        For a caller who stored ciphertext and `next_generation` of each message but not the state.
        Raises KeyUnavailable: "generation-used" when it lies behind, "generation-too-far" when more
        than 1,048,576 ahead.
        """
    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        extensions: Sequence[tuple[int, bytes]] | None = None,
        psk: Sequence[bytes] = (),
        authenticated_data: bytes = b"",
        tree_in_welcome: bool = True,
        now: int,
    ) -> PendingCommit:
        """A commit by value with an update path, detached: the group stays as it is.

        `add` holds KeyPackage messages, `remove` leaf indices, `extensions` the whole new list of
        group-context extensions, `psk` ids of pre-shared keys that every member has (`add_psk`).
        `now` (Unix seconds) is held against the lifetimes of the KeyPackages added.
        Raises InvalidCommit, RefusedByRules, CredentialRefused, NoSuchMember or NotActive.
        """
    def apply(self, pending: PendingCommit) -> Commit:
        """Moves to the epoch of one's own commit.

        Raises StaleCommit on another base, RefusedByRules or NotActive.
        """
    def process(self, message: bytes) -> Message | Commit:
        """Processes one message of this group; after an error the group is as it was.

        Raises DecodeError, WrongGroup, EpochTooOld, EpochInFuture, KeyUnavailable,
        AuthenticationFailed, OwnMessage, RefusedByRules, CredentialRefused, InvalidCommit,
        NoSuchMember or NotActive.
        """
    def process_many(self, messages: Sequence[bytes]) -> list[Message | Commit | MlsError]:
        """Processes messages in order, each as `process` would; an error is a value in the list.

        Other threads run meanwhile. Save once per batch: the first message after a save clones the
        group, which takes 0.3 ms at 1,000 members.
        """
    def clone(self) -> Group:
        """An independent copy; it costs microseconds for ten members, 0.5 ms for 1,000."""
    def save(self, *, tree: bool | None = None) -> None:
        """Appends this group's writes to the client's log.

        The tree is written when the epoch changed since the last save, or as `tree` says.
        """

@final
class Client:
    """A device: one signature key, one credential, both suites. Safe to share between threads."""

    def __new__(
        cls,
        *,
        signing_seed: bytes,
        credential: bytes,
        storage_key: bytes,
        validate_credential: Callable[[bytes, bytes], None],
        authorize_commit: Callable[[Change], None] | None = None,
        extension_types: Sequence[int] = (),
        policy_extension: int | None = None,
    ) -> Client:
        """`signing_seed` is the 32-byte Ed25519 seed, `storage_key` 32 bytes that seal every blob.

        `validate_credential(signature_key, credential)` is called for each leaf that enters a
        group and raises to refuse it; it must not use groups or this client.

        `authorize_commit(change)` is called before a commit takes effect, on every path: by
        `Group.commit` and again by `Group.apply`, by `process` and `process_many`, by `rejoin`. It
        raises to refuse the commit: RefusedByRules "not-authorized", the group stays as it was. It
        must not use groups or this client either, and must decide from its argument alone, or
        members part ways. A Welcome is no commit that one could judge: who joins trusts the
        inviter for what came before.

        `extension_types` are listed in each leaf's capabilities. `policy_extension` is the type of
        the group-context extension that says who may change a group (`encode_policy`); all members
        must agree on it.
        """
    @property
    def signature_key(self) -> bytes: ...
    def key_package(
        self, suite: int, *, now: int, lifetime_s: int, last_resort: bool = False
    ) -> KeyPackage:
        """Makes a KeyPackage; its private part goes to the log (and is kept for `join`).

        It is valid from one hour before `now`, because clocks differ, until `now + lifetime_s`.
        """
    def restore_key_package(self, reference: bytes, blob: bytes) -> None:
        """Gives back a stored "key-package-insert" blob, so that `join` can use it."""
    def create_group(
        self, group_id: bytes, suite: int, extensions: Sequence[tuple[int, bytes]] = ()
    ) -> Group: ...
    def join(self, welcome: bytes, *, tree: bytes | None = None) -> Group:
        """Joins by Welcome. The KeyPackage is deleted (log) when the group is first saved.

        `authorize_commit` is not asked: the commit behind a Welcome cannot be seen.
        """
    def rejoin(
        self, group_info: bytes, *, tree: bytes | None = None, now: int
    ) -> tuple[Group, bytes]:
        """Replaces this client's own old leaf by an external commit: the group and the commit.

        For a member whose state is lost or stuck. `group_info` is any member's
        `Group.group_info()`, `tree` its `ratchet_tree()` if that is not inside. Save the group,
        then publish the commit. Raises NoSuchMember without a leaf of the same signature key and
        credential, and RefusedByRules; a stranger's external commit is refused by every member.
        """
    def add_psk(self, id: bytes, psk: bytes) -> None:
        """Keeps an external pre-shared key (RFC 9420 section 8.4) for commits and joins.

        It is kept in memory only, and wiped when removed.
        """
    def remove_psk(self, id: bytes) -> None:
        """Forgets a pre-shared key; an unknown id is no error."""
    def load_group(
        self, group_id: bytes, state: bytes, tree: bytes, epochs: Sequence[tuple[int, bytes]] = ()
    ) -> Group:
        """Loads a group from stored blobs; `epochs` are (epoch number, blob) pairs, any selection.

        The 16 newest are kept.
        """
    def open_pending_commit(self, blob: bytes) -> PendingCommit: ...
    def take_log(self) -> list[LogEntry]:
        """Every write since the last call, in order."""

def inspect(message: bytes) -> Header: ...
def welcome_references(welcome: bytes) -> list[bytes]:
    """The KeyPackageRefs that a Welcome is for."""

def verify_key_package(message: bytes) -> KeyPackageInfo:
    """Verifies both signatures, not the lifetime. Raises DecodeError or AuthenticationFailed."""

def encode_policy(
    *,
    admins: Sequence[bytes],
    add: Literal["everyone", "admins", "nobody"] = "everyone",
    remove: Literal["everyone", "admins", "nobody"] = "admins",
    id_length: int = 0,
) -> bytes:
    """The bytes of a policy extension: who may add members, and remove others.

    `admins` are member ids: the first `id_length` bytes of a credential, or all of it. Only admins
    change the extensions; a member's own leaves are its own business; without an admin among the
    members everybody is one. Layout: version 1 (1) | add (1) | remove (1) | id_length (1) | number
    of admins (2, big-endian) | ids, each after its length (2) if `id_length` is 0; add and remove
    are 0 everyone, 1 admins, 2 nobody. Raises ValueError.
    """
