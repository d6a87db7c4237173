"""Members of MLS groups on both implementations, behind one face."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mls_rs

from identity.credential import issue_credential, verify_credential_untrusted
from identity.keys import device_from_seed, identity_from_seed, new_seed
from node.engine.account import KEY_PACKAGE_LIFETIME_S, LAST_RESORT_LIFETIME_S
from node.engine.core import EPOCH_ID_LABEL
from schemas.messages import GROUP_INFO_EXTENSION
from tests.openmls.program import PeerProcess

Extensions = Sequence[tuple[int, bytes]]


@dataclass(frozen=True)
class Leaf:
    index: int
    signature_key: bytes
    credential: bytes


@dataclass(frozen=True)
class View:
    """What every member of a group must hold alike in one epoch."""

    epoch: int
    epoch_authenticator: bytes
    exported: bytes
    roster: tuple[Leaf, ...]
    group_info: bytes | None


@dataclass(frozen=True)
class Received:
    """An application message, opened."""

    sender: int
    epoch: int
    plaintext: bytes
    authenticated_data: bytes


@dataclass(frozen=True)
class Change:
    """A commit of somebody else, done."""

    committer: int
    removed: frozenset[int]
    removes_me: bool
    authenticated_data: bytes


@dataclass(frozen=True)
class Offer:
    """A commit that its author has not merged yet."""

    commit: bytes
    welcome: bytes | None


class Member(Protocol):
    """A member of one group, on either implementation."""

    name: str

    @property
    def active(self) -> bool: ...
    @property
    def own_index(self) -> int: ...
    def key_package(self, *, last_resort: bool = False) -> bytes: ...
    def create(self, group_id: bytes, extensions: Extensions) -> None: ...
    def join(self, welcome: bytes, tree: bytes | None = None) -> None: ...
    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        extensions: Extensions | None = None,
        authenticated_data: bytes = b"",
        tree_in_welcome: bool = True,
    ) -> Offer: ...
    def merge(self) -> None: ...
    def encrypt(self, plaintext: bytes, authenticated_data: bytes = b"") -> bytes: ...
    def process(self, message: bytes) -> Received | Change: ...
    def ratchet_tree(self) -> bytes: ...
    def view(self) -> View: ...


class Ours:
    """A member as the node makes it: device credential, lifetimes, extension and validator."""

    def __init__(self, name: str, *, extension_types: Sequence[int]) -> None:
        self.name = name
        device = device_from_seed(new_seed())
        self.client = mls_rs.Client(
            signing_seed=device.seed,
            credential=issue_credential(identity_from_seed(new_seed()), device.public),
            storage_key=new_seed(),
            validate_credential=_verify,
            extension_types=extension_types,
        )
        self._group: mls_rs.Group | None = None
        self._pending: mls_rs.PendingCommit | None = None

    @property
    def group(self) -> mls_rs.Group:
        assert self._group is not None
        return self._group

    @property
    def active(self) -> bool:
        return self.group.active

    @property
    def own_index(self) -> int:
        return self.group.own_index

    def key_package(self, *, last_resort: bool = False) -> bytes:
        return self.client.key_package(
            mls_rs.CLASSIC,
            now=int(time.time()),
            lifetime_s=LAST_RESORT_LIFETIME_S if last_resort else KEY_PACKAGE_LIFETIME_S,
            last_resort=last_resort,
        ).message

    def create(self, group_id: bytes, extensions: Extensions) -> None:
        self._group = self.client.create_group(group_id, mls_rs.CLASSIC, extensions)

    def join(self, welcome: bytes, tree: bytes | None = None) -> None:
        self._group = self.client.join(welcome, tree=tree)

    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        extensions: Extensions | None = None,
        authenticated_data: bytes = b"",
        tree_in_welcome: bool = True,
    ) -> Offer:
        pending = self.group.commit(
            add=add,
            remove=remove,
            extensions=extensions,
            authenticated_data=authenticated_data,
            tree_in_welcome=tree_in_welcome,
            now=int(time.time()),
        )
        self._pending = pending
        return Offer(pending.message, pending.welcome)

    def merge(self) -> None:
        assert self._pending is not None
        self.group.apply(self._pending)

    def encrypt(self, plaintext: bytes, authenticated_data: bytes = b"") -> bytes:
        return self.group.encrypt(plaintext, authenticated_data)

    def process(self, message: bytes) -> Received | Change:
        done = self.group.process(message)
        if isinstance(done, mls_rs.Message):
            return Received(done.sender.index, done.epoch, done.plaintext, done.authenticated_data)
        return Change(
            done.committer.index,
            frozenset(member.index for member in done.removed),
            done.removes_me,
            done.authenticated_data,
        )

    def ratchet_tree(self) -> bytes:
        return self.group.ratchet_tree()

    def view(self) -> View:
        return View(
            self.group.epoch,
            self.group.epoch_authenticator,
            self.group.export_secret(EPOCH_ID_LABEL, b"context", 32),
            tuple(Leaf(m.index, m.signature_key, m.credential) for m in self.group.roster()),
            self.group.extension(GROUP_INFO_EXTENSION),
        )

    def restart(self) -> None:
        """Saves the group and loads it from the rows, with what is kept of past epochs."""
        self.group.save()
        log = self.client.take_log()
        rows = {entry.kind: entry.data or b"" for entry in log}
        epochs = [
            (entry.id, entry.data)
            for entry in log
            if entry.kind == "epoch-insert" and isinstance(entry.id, int) and entry.data
        ]
        self._group = self.client.load_group(
            self.group.group_id, rows["state"], rows["tree"], epochs
        )


class Theirs:
    """A member on OpenMLS, with a credential of our form."""

    def __init__(self, process: PeerProcess, name: str, *, extension_types: Sequence[int]) -> None:
        self.name = name
        self._process = process
        device = device_from_seed(new_seed())
        credential = issue_credential(identity_from_seed(new_seed()), device.public)
        self._ask(
            "appear",
            signing_seed=device.seed.hex(),
            signature_key=bytes(device.public).hex(),
            credential=credential.hex(),
            extension_types=list(extension_types),
        )

    def _ask(self, operation: str, **arguments: object) -> Any:
        return self._process.ask(self.name, operation, arguments)

    @property
    def active(self) -> bool:
        return bool(self._ask("state")["active"])

    @property
    def own_index(self) -> int:
        return int(self._ask("state")["own_index"])

    def key_package(self, *, last_resort: bool = False) -> bytes:
        lifetime_s = LAST_RESORT_LIFETIME_S if last_resort else KEY_PACKAGE_LIFETIME_S
        return bytes.fromhex(
            self._ask("key_package", lifetime_s=lifetime_s, last_resort=last_resort)
        )

    def create(self, group_id: bytes, extensions: Extensions) -> None:
        self._ask("create", group_id=group_id.hex(), extensions=_hexed(extensions))

    def join(self, welcome: bytes, tree: bytes | None = None) -> None:
        self._ask("join", welcome=welcome.hex(), tree=None if tree is None else tree.hex())

    def commit(
        self,
        *,
        add: Sequence[bytes] = (),
        remove: Sequence[int] = (),
        extensions: Extensions | None = None,
        authenticated_data: bytes = b"",
        tree_in_welcome: bool = True,
        path: bool = True,
    ) -> Offer:
        made = self._ask(
            "commit",
            add=[package.hex() for package in add],
            remove=list(remove),
            extensions=None if extensions is None else _hexed(extensions),
            authenticated_data=authenticated_data.hex(),
            path=path,
            tree_in_welcome=tree_in_welcome,
        )
        welcome = made["welcome"]
        return Offer(
            bytes.fromhex(made["commit"]), None if welcome is None else bytes.fromhex(welcome)
        )

    def merge(self) -> None:
        self._ask("merge")

    def propose_to_leave(self) -> bytes:
        return bytes.fromhex(self._ask("propose_to_leave"))

    def encrypt(self, plaintext: bytes, authenticated_data: bytes = b"") -> bytes:
        return bytes.fromhex(
            self._ask(
                "encrypt", plaintext=plaintext.hex(), authenticated_data=authenticated_data.hex()
            )
        )

    def process(self, message: bytes) -> Received | Change:
        done = self._ask("process", message=message.hex())
        sender, what = int(done["sender"]), done["what"]
        authenticated_data = bytes.fromhex(done["authenticated_data"])
        if "message" in what:
            plaintext = bytes.fromhex(what["message"])
            return Received(sender, int(done["epoch"]), plaintext, authenticated_data)
        commit = what["commit"]
        return Change(
            sender, frozenset(commit["removed"]), bool(commit["removes_me"]), authenticated_data
        )

    def ratchet_tree(self) -> bytes:
        return bytes.fromhex(self._ask("ratchet_tree"))

    def view(self) -> View:
        state = self._ask("state")
        exported = self._ask(
            "export", label=EPOCH_ID_LABEL.decode(), context=b"context".hex(), length=32
        )
        extensions = {kind: bytes.fromhex(data) for kind, data in state["extensions"]}
        return View(
            int(state["epoch"]),
            bytes.fromhex(state["epoch_authenticator"]),
            bytes.fromhex(exported),
            tuple(
                Leaf(
                    int(leaf["index"]),
                    bytes.fromhex(leaf["signature_key"]),
                    bytes.fromhex(leaf["credential"]),
                )
                for leaf in state["roster"]
            ),
            extensions.get(GROUP_INFO_EXTENSION),
        )


def _verify(signature_key: bytes, credential: bytes) -> None:
    verify_credential_untrusted(signature_key, credential)


def _hexed(extensions: Extensions) -> list[tuple[int, str]]:
    return [(kind, data.hex()) for kind, data in extensions]
