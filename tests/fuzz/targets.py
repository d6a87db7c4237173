"""The targets: a name, what is fuzzed, seeds. A target raises only what its contract allows."""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discovery.dht.limits import DEFAULT_DHT_LIMITS
from discovery.dht.publication import open_private_untrusted
from discovery.dht.store import ValueStore
from discovery.mdns_txt import parse_txt_untrusted
from discovery.record import open_endpoint_record_untrusted
from identity.bundle import bundle_device, open_bundle_untrusted
from identity.cell import DAY_S, cell_of, seal_into_cell
from identity.envelope import generate_hybrid, open_untrusted, seal
from identity.keys import device_from_seed, identity_from_seed
from identity.relay_statement import open_relay_statement_untrusted
from identity.signing import sign
from node import parcel_file
from schemas import dht, frames, parcels
from schemas.addresses import Address, AddressKind, EndpointAddress, RelayAddress
from schemas.card import Card
from schemas.errors import Fault, Malformed, Refused
from schemas.introduction import Introduction
from schemas.records import BundleCore, EndpointRecord, RelayStatement, SignedType
from tests.fuzz.engine_target import victim
from tests.schemas.samples import (
    BODIES,
    DHT_REQUESTS,
    DHT_RESPONSES,
    FRAMES,
    PARCEL,
    RECORDS,
    RELAY,
    SIGNED,
)
from tests.transport.rpc_by_hand import bootstrap, call, finish, framed, message, subscribe
from transport import DEFAULT_LIMITS
from transport.port_mapping import nat_pmp, pcp
from transport.port_mapping.ssdp import location_untrusted
from transport.rpc_messages import Kind, read_message_untrusted
from transport.rpc_tables import RpcTables

_NOW = 1_800_000_000
_ADA = identity_from_seed(b"a" * 32)
_LAPTOP = device_from_seed(b"l" * 32)
_CELL = cell_of(b"s" * 32, _LAPTOP.public, _NOW // DAY_S)


@dataclass(frozen=True)
class Target:
    """`run` reads the bytes; whatever else than `allowed` comes out of it is a finding."""

    name: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes] | Callable[[], Sequence[bytes]]
    allowed: tuple[type[Exception], ...] = (Malformed,)

    def known(self) -> list[bytes]:
        """Seeds and corpus."""
        seeds = self.seeds() if callable(self.seeds) else self.seeds
        return [*seeds, *corpus(self.name)]

    def once(self, data: bytes) -> None:
        """Raises what nobody promised."""
        try:
            self.run(data)
        except self.allowed:
            return


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def _round_trip(decode: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """What was accepted can be written and read again, and is the same."""

    def run(data: bytes) -> None:
        value = decode(data)
        again = decode(value.encode())  # type: ignore[attr-defined]
        assert again == value, f"{value!r} became {again!r}"

    return run


def _frame(data: bytes) -> None:
    frame = frames.decode_frame(data)
    assert frames.decode_frame(frames.encode_frame(frame)) == frame


def _dht_request(data: bytes) -> None:
    request = dht.decode_dht_request(data)
    assert dht.decode_dht_request(dht.encode_dht_request(request)) == request


def _dht_response(data: bytes) -> None:
    response, observed = dht.decode_dht_response(data)
    again = dht.decode_dht_response(dht.encode_dht_response(response, observed))
    assert again == (response, observed)


@functools.cache
def _keys() -> tuple[object, bytes]:
    keys = generate_hybrid()
    return keys, seal(keys.public, b"a parcel")


def _envelope(data: bytes) -> object:
    return open_untrusted(_keys()[0], data)  # type: ignore[arg-type]


def _bundle(data: bytes) -> object:
    """What a person who signs anything can do."""
    return open_bundle_untrusted(sign(SignedType.BUNDLE_CORE, _ADA, data))


def _endpoint(data: bytes) -> object:
    signed = sign(SignedType.ENDPOINT_RECORD, _LAPTOP, data)
    return open_endpoint_record_untrusted(signed, now=_NOW)


def _relay_statement(data: bytes) -> object:
    return open_relay_statement_untrusted(sign(SignedType.RELAY_STATEMENT, _ADA, data))


def _bundle_seed() -> bytes:
    entry = bundle_device(_ADA.public, _LAPTOP, "laptop", generate_hybrid().public, issued=_NOW)
    return BundleCore(_ADA.public, 3, "Ada", (entry,), (RELAY,)).encode()


def _endpoint_seed() -> bytes:
    addresses = (EndpointAddress(Address("10.0.0.1", 7000), AddressKind.LAN),)
    return EndpointRecord(_LAPTOP.public, 7, addresses, (RELAY,), _NOW - 60, _NOW + 60).encode()


def _dht_value(data: bytes) -> None:
    """What whoever signs anything can have kept, and what a reader makes of it."""
    value = sign(SignedType.DHT_VALUE, _LAPTOP, data)
    ValueStore(DEFAULT_DHT_LIMITS).put(_CELL.id, value, Address("203.0.113.7", 7000), _NOW)
    open_private_untrusted(_CELL, _LAPTOP.public, value, now=_NOW)


def _dht_value_seed() -> bytes:
    record = sign(SignedType.ENDPOINT_RECORD, _LAPTOP, _endpoint_seed())
    sealed = seal_into_cell(_CELL, record.encode())
    return dht.DhtValue(_CELL.id, 7, _NOW - 60, _NOW + 60, sealed).encode()


def _rpc(data: bytes) -> None:
    """A stream of RPC messages, as far as it is read before the library gets it."""
    tables, at = RpcTables(DEFAULT_LIMITS), 0
    while found := read_message_untrusted(data, at, DEFAULT_LIMITS.rpc_message):
        assert at + 8 <= found.end <= len(data)
        if not tables.received(found, found.end - at):
            return
        at = found.end


def _rpc_seeds() -> list[bytes]:
    release = message("release")
    far = framed([2 | 4 | 1 << 32], [2 | 2 << 32, 1 << 32 | 1 << 48], [Kind.RELEASE, 0])
    return [
        bootstrap() + call(1) + finish(0) + release,
        bootstrap() + subscribe(1) + call(2, capabilities=2) + finish(1),
        bootstrap() + far,
        message("abort"),
        message("unimplemented"),
    ]


def _parcel_file(data: bytes) -> None:
    stream, total = io.BytesIO(data), 0
    for kind, content in parcel_file.read_records_untrusted(stream.read):
        assert kind is not parcel_file.Kind.END
        total += len(content)
    assert total <= len(data) == stream.tell(), "something of a good file was passed over"


@functools.cache
def _parcel_file_seeds() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stick"
        with parcel_file.ParcelFileWriter(path) as writer:
            empty = path.with_name("empty")
            with parcel_file.ParcelFileWriter(empty):
                pass
            writer.introduction(Introduction(_ADA.public, SIGNED, (b"package",)))
            writer.parcel(PARCEL)
        return [path.read_bytes(), empty.read_bytes()]


_MAP_REQUEST = pcp.MapRequest("192.168.7.2", 7000, bytes(12), 3600, Address("0.0.0.0", 7000))
_PCP_ANSWER = b"\2\x81\0\0" + bytes(20) + _MAP_REQUEST.encode()[24:]
_NAT_PMP_ANSWERS = ("008000000000004d0b000002", "008100000000004d1b589c4000000708")


def _pcp(data: bytes) -> None:
    found = pcp.map_response_untrusted(data, _MAP_REQUEST)
    if found.external is not None:
        assert found.external.port
        assert found.external.is_literal


def _nat_pmp(data: bytes) -> None:
    if data[1:2] == b"\x80":
        nat_pmp.address_response_untrusted(data)
    else:
        nat_pmp.map_response_untrusted(data, 7000)


def _targets() -> list[Target]:
    found = [
        Target("frame", _frame, [frames.encode_frame(frame) for frame in FRAMES]),
        Target("dht-request", _dht_request, [dht.encode_dht_request(r) for r in DHT_REQUESTS]),
        Target(
            "dht-response",
            _dht_response,
            [dht.encode_dht_response(r, "203.0.113.7:7000") for r in DHT_RESPONSES],
        ),
        Target("dht-value", _dht_value, [_dht_value_seed()]),
        Target("padding", parcels.unpad, [parcels.pad(b"body")]),
        Target("envelope", _envelope, [_keys()[1]]),
        Target("bundle", _bundle, [_bundle_seed()]),
        Target(
            "relay-statement",
            _relay_statement,
            [RelayStatement(_ADA.public, 4, (RELAY,)).encode()],
        ),
        Target("endpoint", _endpoint, [_endpoint_seed()]),
        Target(
            "mdns-txt",
            parse_txt_untrusted,
            [
                b"\x03v=1\x42d=" + b"a" * 64 + b"\x05n=Ada",
                b"\x03v=2\x07e=20000\x22t=" + b"a" * 32,
            ],
        ),
        Target("pcp", _pcp, [_PCP_ANSWER]),
        Target("nat-pmp", _nat_pmp, [bytes.fromhex(each) for each in _NAT_PMP_ANSWERS]),
        Target(
            "ssdp",
            lambda data: location_untrusted(data, "192.168.7.1"),
            [b"HTTP/1.1 200 OK\r\nEXT:\r\nLOCATION: http://192.168.7.1:5000/d.xml\r\n\r\n"],
        ),
        Target("rpc-message", _rpc, _rpc_seeds, (Malformed, Refused)),
        Target("parcel-file", _parcel_file, _parcel_file_seeds),
        Target("card-text", _text(Card.parse), [str(RECORDS[-1]).encode()]),
        Target("relay-text", _text(RelayAddress.parse), [str(RELAY).encode()], (Refused,)),
        Target(
            "address-text",
            _text(Address.parse),
            [b"[fe80::1%eth0]:7000", b"relay.example:7000", b"10.0.0.1:1"],
            (Refused,),
        ),
    ]
    found.append(
        Target("engine", lambda data: victim().give(data), lambda: victim().seeds, (Fault,))
    )
    by_type = {type(value): value for value in [*RECORDS, *BODIES]}
    for kind in by_type:
        seeds = [value.encode() for value in [*RECORDS, *BODIES] if type(value) is kind]
        found.append(Target(f"codec-{kind.__name__}", _round_trip(kind.decode), seeds))
    return found


TARGETS: Final[dict[str, Target]] = {target.name: target for target in _targets()}


def corpus_file(name: str) -> Path:
    """Inputs of a target, one a line, in hex."""
    return Path(__file__).parent / "corpus" / f"{name}.hex"


def corpus(name: str) -> list[bytes]:
    """What reached new code once, or broke something."""
    path = corpus_file(name)
    return [bytes.fromhex(line) for line in path.read_text().split()] if path.exists() else []
