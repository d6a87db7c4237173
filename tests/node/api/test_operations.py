"""Every operation over the real socket: what it asks of the node, and how it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from node.api import network_shapes as ns
from node.api import operations as op
from node.api import relay_shapes as rs
from node.api import shapes as s
from node.engine import commands as c
from node.parcel_file import ParcelFileWriter
from schemas.errors import Blame, Fault, Unreachable
from tests.node.api.conftest import Served
from tests.node.api.fake_node import ALICE, BOB, CARD, DEVICE, FRIENDS, GROUP, INBOX, MESSAGE, RELAY

REQUESTS: dict[str, s.Request] = {
    "fetch-key": s.FetchKey("Bob", "classic"),
    "check-key": s.ByPerson(BOB.hex()),
    "ping": ns.Ping("Bob"),
    "health": rs.HealthOf("relay"),
    "add-contact": s.AddContact(CARD),
    "verify-contact": s.ByPerson("Bob"),
    "block": s.ByPerson("Bob"),
    "unblock": s.ByPerson("Bob"),
    "set-name": s.SetName("Alice"),
    "group": s.ByGroup("friends"),
    "examine-group": s.ByGroup("friends"),
    "create-group": s.CreateGroup("friends"),
    "invite": s.Invite("friends", ["Bob", CARD], "admin"),
    "join": s.ByGroup("friends"),
    "leave": s.ByGroup("friends"),
    "remove": s.Remove("friends", "Bob"),
    "update-key": s.ByGroup("friends"),
    "send": s.Send("hello", group="friends"),
    "read-messages": s.ReadMessages(cursor="bot", group="friends", limit=5),
    "paths": s.ByPerson("Bob"),
    "dht-lookup": ns.DhtLookup("Bob", "0123"),
    "policies": ns.PoliciesOf("Bob"),
    "set-policy": ns.SetPolicy("Bob", "relay-only"),
    "set-relays": rs.SetRelays([RELAY]),
    "change-relays": rs.ChangeRelays([RELAY], [RELAY[-64:-50]], first=True),
    "set-relay-token": rs.SetRelayToken(RELAY, "open sesame"),
    "register-user": rs.RegisterUser("alice", "a password", RELAY, "ab" * 32),
    "login": rs.Login("alice", "a password"),
    "revoke-device": rs.RevokeDevice(DEVICE.hex()[:8]),
    "direct": s.ByPerson("Bob"),
    "history": s.ReadHistory("friends", after=3, limit=5),
    "move-cursor": s.MoveCursor("bot", [s.Seen(FRIENDS.hex(), 7)]),
    "ledger": s.ByMessage("6d6d6d"),
    "why": s.ByMessage("6d6d6d"),
}


@pytest.mark.parametrize("operation", op.OPERATIONS, ids=lambda each: each.name)
def test_every_operation_of_the_table_is_served(
    served: Served, operation: Any, tmp_path: Path
) -> None:
    stick = str(tmp_path / "stick.qpcp")
    with ParcelFileWriter(Path(stick)):
        pass
    requests = {
        **REQUESTS,
        "back-up": s.BackUp(str(tmp_path / "ada.qpce"), "a passphrase"),
        "export-parcels": s.ExportParcels(stick, "Bob", True),
        "import-parcels": s.ImportParcels(stick),
    }
    if operation is op.EXPORT_PARCELS:
        served.node.answers[c.ListBlocked] = ()

    answer = served.client.call(operation, requests.get(operation.name, s.Nothing()))

    kind = getattr(operation.answer, "__origin__", operation.answer)
    assert isinstance(answer, kind)
    assert not isinstance(answer, list) or len(answer) == 1


def test_a_group_name_with_a_slash_a_space_and_an_umlaut_is_found(served: Served) -> None:
    assert served.client.call(op.GROUP, s.ByGroup("a/b ü")).group == FRIENDS.hex()


def test_an_invitation_by_card_adds_the_contact_first_and_counts_a_person_once(
    served: Served,
) -> None:
    answer = served.client.call(op.INVITE, s.Invite("friends", ["Bob", CARD], "admin", True))

    assert ("add_contact", CARD) in served.node.asked
    assert served.node.asked[-1] == ("invite", FRIENDS, (BOB,), True, True)
    assert (answer.group, answer.epoch, answer.invited) == (FRIENDS.hex(), 3, [BOB.hex()])


def test_a_message_to_a_person_goes_to_the_one_to_one_group(served: Served) -> None:
    answer = served.client.call(op.SEND, s.Send("hello", person="Bob"))

    assert served.node.asked[-2:] == [("direct_group", BOB, None), c.Send(FRIENDS, "hello")]
    assert (answer.message, answer.status) == (MESSAGE.hex(), "queued")


def test_messages_carry_the_names_and_times_of_the_contract(served: Served) -> None:
    (message,) = served.client.call(op.READ_MESSAGES, s.ReadMessages())

    assert message.to_json() == {
        "message": MESSAGE.hex(),
        "group": FRIENDS.hex(),
        "sender": BOB.hex(),
        "text": "hi",
        "sent_at": "1970-01-01T00:00:00.000Z",
        "received_at": "1970-01-01T00:00:01.500Z",
        "path": "direct",
        "sender_name": "Bob",
        "group_name": "friends",
        "device": INBOX.sender_device.hex(),
        "arrival": 7,
        "own": False,
    }


def test_members_are_objects_with_a_role(served: Served) -> None:
    (group,) = served.client.call(op.GROUPS, s.Nothing())

    assert group.suite == GROUP.suite
    assert group.to_json()["members"][0] == {  # type: ignore[index]
        "identity": ALICE.hex(),
        "devices": [GROUP.members[0].devices[0].hex()],
        "name": "Alice",
        "role": "admin",
    }


def test_a_refusal_arrives_as_the_same_fault(served: Served) -> None:
    with pytest.raises(Fault) as refused:
        served.client.call(op.JOIN, s.ByGroup("nothing"))

    fault = refused.value
    assert (fault.code, fault.blame) == ("unknown-group", Blame.CALLER)
    assert (fault.message, fault.hint) == ("nobody knows 'nothing'", "look at the list")


def test_no_network_path_is_told_apart(served: Served) -> None:
    with pytest.raises(Unreachable) as refused:
        served.client.call(op.PING, ns.Ping("away"))

    assert refused.value.code == "unreachable"


def test_a_bug_is_an_internal_error_without_its_traceback(served: Served) -> None:
    served.node.answers[c.WhoAmI] = ZeroDivisionError("secret detail")

    with pytest.raises(Fault) as refused:
        served.client.call(op.WHOAMI, s.Nothing())

    assert refused.value.code == "internal"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "operation, request_",
    [
        (op.CREATE_GROUP, s.CreateGroup("name", "rot13")),
        (op.SEND, s.Send("", group="friends")),
        (op.SEND, s.Send("text")),
        (op.SEND, s.Send("text", group="friends", person="Bob")),
        (op.READ_MESSAGES, s.ReadMessages(limit=0)),
        (op.READ_MESSAGES, s.ReadMessages(limit=100_000)),
        (op.INVITE, s.Invite("friends", [])),
        (op.INVITE, s.Invite("friends", ["Bob"] * 251)),
        (op.MOVE_CURSOR, s.MoveCursor("bot", [s.Seen("xyz", 1)])),
        (op.PING, s.ByPerson("unknown field")),
    ],
)
def test_a_request_out_of_its_bounds_is_refused_by_type(
    served: Served, operation: Any, request_: Any
) -> None:
    with pytest.raises(Fault) as refused:
        served.client.call(operation, request_)

    assert refused.value.code == "bad-request"


def test_the_openapi_document_lists_every_operation(served: Served) -> None:
    document = served.client.call(
        op.Operation("openapi", "GET", op.OPENAPI_PATH, s.Nothing, dict[str, Any], ""), s.Nothing()
    )

    listed = {
        each["operationId"]: (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, each in methods.items()
    }
    wanted = {each.name: (each.method, each.path) for each in op.OPERATIONS}
    assert listed == {**wanted, "events": ("GET", op.EVENTS_PATH)}
    assert document["openapi"].startswith("3.1")
    _check_references(document, document["components"]["schemas"])
    for methods in document["paths"].values():
        for each in methods.values():
            assert each["summary"]
            assert {"200", "default"} <= each["responses"].keys()


def _check_references(part: object, schemas: dict[str, Any]) -> None:
    if isinstance(part, dict):
        reference = part.get("$ref")
        assert reference is None or reference.rpartition("/")[2] in schemas, reference
        for each in part.values():
            _check_references(each, schemas)
    elif isinstance(part, list):
        for each in part:
            _check_references(each, schemas)


def test_no_two_operations_share_a_name_or_a_route() -> None:
    names = [each.name for each in op.OPERATIONS]
    routes = [(each.method, each.path) for each in op.OPERATIONS]

    assert len(set(names)) == len(names)
    assert len(set(routes)) == len(routes)
    assert all(issubclass(each.request, msgspec.Struct) for each in op.OPERATIONS)
