"""The one table of what the control API can do: routes, OpenAPI and the client all follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from node.api import network_shapes as ns
from node.api import relay_shapes as rs
from node.api import shapes as s

Q = TypeVar("Q", bound=s.Request)
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Operation(Generic[Q, A]):
    """One thing to ask. GET takes its request from the query, POST from a JSON body.

    GET changes nothing, so a client may ask again when a connection broke.
    """

    name: str
    method: str
    path: str
    request: type[Q]
    answer: type[A]
    summary: str


PREFIX: Final = "/v1"
EVENTS_PATH: Final = f"{PREFIX}/events"
OPENAPI_PATH: Final = f"{PREFIX}/openapi.json"

_table: list[Operation[Any, Any]] = []


def _operation(
    name: str, method: str, path: str, request: type[Q], answer: type[A], summary: str
) -> Operation[Q, A]:
    operation = Operation(name, method, PREFIX + path, request, answer, summary)
    _table.append(operation)
    return operation


NODE = _operation("node", "GET", "/node", s.Nothing, s.NodeStatus, "The process that answers")
WHOAMI = _operation("whoami", "GET", "/account", s.Nothing, s.Account, "Who this node is")
SET_NAME = _operation(
    "set-name", "POST", "/account/name", s.SetName, s.Account, "Change our display name"
)

BACK_UP = _operation(
    "back-up", "POST", "/backup", s.BackUp, s.BackedUp, "Write a sealed backup to a new file"
)

SET_RELAYS = _operation(
    "set-relays", "POST", "/account/relays", rs.SetRelays, s.Account, "Which relays are ours"
)
RELAYS = _operation(
    "relays",
    "GET",
    "/relays",
    s.Nothing,
    list[rs.Relay],
    "Our relays in order, and those that were and are read still",
)
CHANGE_RELAYS = _operation(
    "change-relays",
    "POST",
    "/relays",
    rs.ChangeRelays,
    list[rs.Relay],
    "Add relays to ours, drop others; everybody is told",
)
SET_RELAY_TOKEN = _operation(
    "set-relay-token",
    "POST",
    "/relays/token",
    rs.SetRelayToken,
    list[rs.Relay],
    "What one of our relays lets us in with",
)
REGISTER_USER = _operation(
    "register-user",
    "POST",
    "/relay-account/register",
    rs.RegisterUser,
    rs.RelayAccount,
    "Make an account at a relay, and log in",
)
LOGIN = _operation(
    "login",
    "POST",
    "/relay-account/login",
    rs.Login,
    rs.RelayAccount,
    "Log in to our account at a relay; this device is let in for good",
)
ACCOUNT_DEVICES = _operation(
    "account-devices",
    "GET",
    "/relay-account/devices",
    rs.AtRelay,
    list[rs.RelayDevice],
    "The devices that a relay lets in for our account",
)
REVOKE_DEVICE = _operation(
    "revoke-device",
    "POST",
    "/relay-account/devices/revoke",
    rs.RevokeDevice,
    rs.RevokedDevice,
    "Shut a device out of our account at a relay",
)
DELETE_ACCOUNT = _operation(
    "delete-account",
    "POST",
    "/relay-account/delete",
    rs.AtRelay,
    rs.RelayAccount,
    "Delete our account at a relay, with all that it keeps for us",
)
REGISTER = _operation(
    "register",
    "POST",
    "/key-packages",
    s.Nothing,
    list[s.Registered],
    "Make KeyPackages and upload them to our relays",
)
REFRESH_KEY_PACKAGE = _operation(
    "refresh-keypackage",
    "POST",
    "/key-packages/refresh",
    s.Nothing,
    list[s.Registered],
    "Replace our last-resort KeyPackages at our relays",
)
FETCH_KEY = _operation(
    "fetch-key",
    "POST",
    "/keys/fetch",
    s.FetchKey,
    list[s.FetchedKey],
    "Take a KeyPackage of each of a person's devices from a relay",
)
CHECK_KEY = _operation(
    "check-key",
    "GET",
    "/keys",
    s.ByPerson,
    list[s.KeyHolding],
    "What relays hold for a person, without taking anything",
)

LOOK = _operation(
    "look",
    "GET",
    "/look",
    s.Nothing,
    s.Done,
    "Answered when our mailboxes were read once since the node started, or after 3 s",
)
PEERS = _operation(
    "peers", "GET", "/peers", s.Nothing, list[ns.Peer], "Who is on the LAN and who is connected"
)
DHT = _operation("dht", "GET", "/dht", s.Nothing, ns.Dht, "How this node stands in the DHT")
DHT_LOOKUP = _operation(
    "dht-lookup",
    "POST",
    "/dht/lookup",
    ns.DhtLookup,
    list[ns.Path],
    "Where a person's devices are by the DHT, asked now; events dht-lookup tell of each step",
)
NETWORK = _operation(
    "network",
    "GET",
    "/network",
    s.Nothing,
    ns.Network,
    "NAT, router, DHT and LAN; answered when they are known, or after 3 s",
)
PATHS = _operation(
    "paths",
    "GET",
    "/paths",
    s.ByPerson,
    list[ns.DevicePaths],
    "All ways to a person's devices, tried now: which is in use, and why no better one",
)
POLICIES = _operation(
    "policies",
    "GET",
    "/policies",
    ns.PoliciesOf,
    list[ns.Policy],
    "By which paths people are reached",
)
SET_POLICY = _operation(
    "set-policy", "POST", "/policies", ns.SetPolicy, ns.Policy, "Choose by which paths"
)
PING = _operation("ping", "GET", "/ping", ns.Ping, ns.Pong, "A round trip over the real transport")
HEALTH = _operation(
    "health", "GET", "/health", rs.HealthOf, list[rs.Health], "Whether relays are up"
)

CONTACTS = _operation(
    "contacts", "GET", "/contacts", s.Nothing, list[s.Contact], "The address book"
)
ADD_CONTACT = _operation(
    "add-contact", "POST", "/contacts", s.AddContact, s.Contact, "Add a person by their card"
)
VERIFY_CONTACT = _operation(
    "verify-contact",
    "POST",
    "/contacts/verify",
    s.ByPerson,
    s.Contact,
    "The safety number was compared: mark the person as verified",
)

BLOCKED = _operation(
    "blocked", "GET", "/blocked", s.Nothing, list[s.Blocked], "The people that we blocked"
)
BLOCK = _operation(
    "block", "POST", "/blocked", s.ByPerson, s.Blocked, "Show nothing of a person any more"
)
UNBLOCK = _operation("unblock", "POST", "/blocked/remove", s.ByPerson, s.Blocked, "Undo `block`")

GROUPS = _operation(
    "groups", "GET", "/groups", s.Nothing, list[s.Group], "The groups we are in or invited to"
)
GROUP = _operation("group", "GET", "/group", s.ByGroup, s.Group, "One group and its members")
EXAMINE_GROUP = _operation(
    "examine-group",
    "GET",
    "/group/examine",
    s.ByGroup,
    list[s.Examined],
    "Why a group waits, if it does, and what to do",
)
CREATE_GROUP = _operation("create-group", "POST", "/groups", s.CreateGroup, s.Group, "A new group")
DIRECT = _operation(
    "direct",
    "POST",
    "/groups/direct",
    s.ByPerson,
    s.Group,
    "The one-to-one group with a person, made if there is none",
)
INVITE = _operation(
    "invite", "POST", "/groups/invite", s.Invite, s.Invited, "Add people to a group"
)
REQUESTS = _operation(
    "requests",
    "GET",
    "/requests",
    s.Nothing,
    list[s.Invitation],
    "Invitations and first messages of strangers",
)
JOIN = _operation("join", "POST", "/groups/join", s.ByGroup, s.Group, "Accept an invitation")
LEAVE = _operation(
    "leave", "POST", "/groups/leave", s.ByGroup, s.Group, "Leave a group, or decline an invitation"
)
REMOVE = _operation(
    "remove", "POST", "/groups/remove", s.Remove, s.Group, "Remove a person from a group"
)
UPDATE_KEY = _operation(
    "update-key", "POST", "/groups/update-key", s.ByGroup, s.Group, "Renew our key in a group"
)

SEND = _operation(
    "send", "POST", "/messages", s.Send, s.Sent, "Queue a message; answered when it is on disk"
)
READ_MESSAGES = _operation(
    "read-messages",
    "GET",
    "/messages",
    s.ReadMessages,
    list[s.Message],
    "What a cursor has not acknowledged, in the group's order",
)
HISTORY = _operation(
    "history",
    "GET",
    "/history",
    s.ReadHistory,
    list[s.Message],
    "The last messages of a group, our own among them; no cursor moves",
)
MOVE_CURSOR = _operation(
    "move-cursor", "POST", "/cursors", s.MoveCursor, s.Done, "Acknowledge messages to a cursor"
)
EXPORT_PARCELS = _operation(
    "export-parcels",
    "POST",
    "/parcels/export",
    s.ExportParcels,
    s.ExportedParcels,
    "Write what waits to be sent, sealed, to a file to be carried by hand",
)
IMPORT_PARCELS = _operation(
    "import-parcels",
    "POST",
    "/parcels/import",
    s.ImportParcels,
    s.ImportedParcels,
    "Take in the parcels of such a file that are for this device",
)
LEDGER = _operation(
    "ledger", "GET", "/ledger", s.ByMessage, list[s.LedgerRow], "Where a message is, per recipient"
)
WHY = _operation(
    "why", "GET", "/why", s.ByMessage, list[s.WhyRow], "Why a message is not everywhere yet"
)

OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = tuple(_table)
