"""One group, whose members must agree after every commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import mls_rs

from schemas.ids import IdentityKey
from schemas.messages import GROUP_INFO_EXTENSION, GroupInfo, GroupKind, InvitePolicy
from tests.openmls.members import Change, Extensions, Member, Offer, Ours, Received, Theirs
from tests.openmls.program import PeerProcess

Side = Literal["ours", "openmls"]

GROUP_ID = bytes(range(200, 232))
GROUP_INFO = GroupInfo(
    "tea", GroupKind.GROUP, (IdentityKey(bytes(range(32))),), InvitePolicy.MEMBERS
).encode()
EXTENSIONS = [(GROUP_INFO_EXTENSION, GROUP_INFO)]
REQUIRED_CAPABILITIES = (3, b"\x02" + GROUP_INFO_EXTENSION.to_bytes(2) + b"\0\0")
"""An extension of the group context too: every leaf knows the group info (RFC 9420, 11.1)."""


class Table:
    """Whoever sits at it is in the group."""

    def __init__(self, process: PeerProcess) -> None:
        self._process = process
        self.seated: list[Member] = []
        self._authenticators: set[bytes] = set()

    def ours(self, name: str, *, extension_types: Sequence[int] = (GROUP_INFO_EXTENSION,)) -> Ours:
        return Ours(name, extension_types=extension_types)

    def openmls(
        self, name: str, *, extension_types: Sequence[int] = (GROUP_INFO_EXTENSION,)
    ) -> Theirs:
        return Theirs(self._process, name, extension_types=extension_types)

    def member(self, side: Side, name: str) -> Member:
        return self.ours(name) if side == "ours" else self.openmls(name)

    def found(self, founder: Member, extensions: Extensions = EXTENSIONS) -> None:
        founder.create(GROUP_ID, extensions)
        self.seated = [founder]
        self.agree()

    def commit(
        self,
        author: Member,
        *,
        add: Sequence[Member] = (),
        remove: Sequence[Member] = (),
        extensions: Extensions | None = None,
        tree_in_welcome: bool = True,
        last_resort: bool = False,
    ) -> None:
        """`author` commits, everybody else follows, newcomers join, and all agree."""
        offer = author.commit(
            add=[member.key_package(last_resort=last_resort) for member in add],
            remove=[member.own_index for member in remove],
            extensions=extensions,
            authenticated_data=b"beside the commit",
            tree_in_welcome=tree_in_welcome,
        )
        self.settle(
            author,
            offer,
            add=add,
            remove=remove,
            authenticated_data=b"beside the commit",
            tree_in_welcome=tree_in_welcome,
        )

    def settle(
        self,
        author: Member,
        offer: Offer,
        *,
        add: Sequence[Member] = (),
        remove: Sequence[Member] = (),
        authenticated_data: bytes = b"",
        tree_in_welcome: bool = True,
    ) -> None:
        header = mls_rs.inspect(offer.commit)
        assert (header.kind, header.content) == ("public", "commit")
        committer = author.own_index
        removed = frozenset(member.own_index for member in remove)
        for member in self.seated:
            if member is not author:
                assert member.process(offer.commit) == Change(
                    committer, removed, member in remove, authenticated_data
                )
        author.merge()
        assert (offer.welcome is not None) == bool(add)
        for member in add:
            assert offer.welcome is not None
            member.join(offer.welcome, None if tree_in_welcome else author.ratchet_tree())
        assert not any(member.active for member in remove)
        self.seated = [member for member in self.seated if member not in remove] + list(add)
        self.agree()

    def agree(self) -> None:
        """The same epoch, secrets, members and extension for all; and an epoch of its own."""
        views = [member.view() for member in self.seated]
        assert all(view == views[0] for view in views), views
        assert all(member.active for member in self.seated)
        roster = [leaf.index for leaf in views[0].roster]
        assert roster == sorted(member.own_index for member in self.seated)
        assert views[0].epoch_authenticator not in self._authenticators
        self._authenticators.add(views[0].epoch_authenticator)

    def talk(self, plaintext: bytes = b"good evening") -> None:
        """Everybody says something, and everybody else reads it."""
        for speaker in self.seated:
            message = speaker.encrypt(plaintext, b"beside the message")
            header = mls_rs.inspect(message)
            assert (header.kind, header.content) == ("private", "application")
            for reader in self.seated:
                if reader is not speaker:
                    assert reader.process(message) == Received(
                        speaker.own_index, speaker.view().epoch, plaintext, b"beside the message"
                    )
