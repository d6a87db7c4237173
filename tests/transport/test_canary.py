"""Every private name of aioquic that the transport takes, each checked to be what it was.

An upgrade that renames, removes or reshapes one fails here by its name; a new use of a private name
fails until it is in the table. What the names are for stands where they are used.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import textwrap
from functools import cache
from pathlib import Path
from types import ModuleType

import aioquic
import pytest
from aioquic import tls
from aioquic.quic import connection, crypto, packet, packet_builder, recovery, retry, stream
from aioquic.quic.congestion.reno import RenoCongestionControl

import transport

# Methods that are overridden or called, with their parameters.
METHODS: dict[tuple[type, str], str] = {
    (tls.Context, "handle_message"): "self, input_data, output_buf",
    (tls.Context, "_check_certificate_verify_signature"): "self, verify",
    (tls.Context, "_client_handle_certificate"): "self, input_buf",
    (tls.Context, "_client_handle_hello"): "self, input_buf, output_buf",
    (tls.Context, "_client_send_hello"): "self, output_buf",
    (tls.Context, "_server_handle_certificate"): "self, input_buf",
    (tls.Context, "_server_handle_hello"): "self, input_buf, initial_buf, handshake_buf",
    (tls.Context, "_set_peer_certificate"): "self, certificate",
    (tls.Context, "_set_state"): "self, state",
    (tls.Context, "_setup_traffic_protection"): "self, direction, epoch, label",
    (tls.Context, "_signature_algorithms_for_private_key"): "self",
    (tls.KeySchedule, "certificate_verify_data"): "self, context_string",
    (tls.KeySchedule, "derive_secret"): "self, label",
    (tls.KeySchedule, "extract"): "self, key_material",
    (tls.KeySchedule, "finished_verify_data"): "self, secret",
    (tls.KeySchedule, "update_hash"): "self, data",
    (tls.KeyScheduleProxy, "extract"): "self, key_material",
    (tls.KeyScheduleProxy, "select"): "self, cipher_suite",
    (connection.QuicConnection, "_confirm_handshake"): "self",
    (connection.QuicConnection, "_handle_crypto_frame"): "self, context, frame_type, buf",
    (
        connection.QuicConnection,
        "_handle_new_connection_id_frame",
    ): "self, context, frame_type, buf",
    (connection.QuicConnection, "_handle_padding_frame"): "self, context, frame_type, buf",
    (connection.QuicConnection, "_handle_stream_frame"): "self, context, frame_type, buf",
    (connection.QuicConnection, "_idle_timeout"): "self",
    (connection.QuicConnection, "_initialize"): "self, peer_cid",
    (connection.QuicConnection, "_on_max_stream_data_delivery"): "self, delivery, stream",
    (connection.QuicConnection, "_parse_transport_parameters"): "self, data, from_session_ticket",
    (
        connection.QuicConnection,
        "_payload_received",
    ): "self, context, plain, crypto_frame_required",
    (connection.QuicConnection, "_replenish_connection_ids"): "self",
    (connection.QuicConnection, "_send_probing_frames"): "self, network_path, now",
    (connection.QuicConnection, "_stream_limit"): "self, stream_id",
    (connection.QuicConnection, "_write_ack_frame"): "self, builder, space, now",
    (connection.QuicConnection, "_write_stream_frame"): "self, builder, space, stream, max_offset",
    (connection.QuicConnection, "_write_stream_limits"): "self, builder, space, stream",
    (crypto.CryptoPair, "_update_key"): "self, trigger",
    (crypto.CryptoPair, "decrypt_packet"): "self, packet, encrypted_offset, expected_packet_number",
    (crypto.CryptoPair, "encrypt_packet"): "self, plain_header, plain_payload, packet_number",
    (recovery.QuicPacketRecovery, "get_probe_timeout"): "self, include_max_ack_delay",
    (recovery.QuicPacketRecovery, "on_packet_sent"): "self, packet, space",
    (packet_builder.QuicPacketBuilder, "start_packet"): "self, packet_type, crypto",
    (
        packet_builder.QuicPacketBuilder,
        "start_frame",
    ): "self, frame_type, capacity, handler, handler_args",
    (packet_builder.QuicPacketBuilder, "flush"): "self",
    (
        retry.QuicRetryTokenHandler,
        "create_token",
    ): "self, address, original_destination_connection_id, retry_source_connection_id, now",
    (
        retry.QuicRetryTokenHandler,
        "validate_token",
    ): "self, address, destination_cid, token, now",
}

# Attributes that are read or written; each must still be set by its class.
ATTRIBUTES: dict[type, tuple[str, ...]] = {
    tls.Context: (
        "_alpn_protocols",
        "_certificate_request",
        "_cipher_suites",
        "_enc_key",
        "_key_schedule_proxy",
        "_legacy_compression_methods",
        "_next_dec_key",
        "_peer_certificate",
        "_psk_key_exchange_mode",
        "_receive_buffer",
        "_signature_algorithms",
        "_supported_versions",
        "alpn_cb",
        "certificate",
        "certificate_private_key",
        "client_random",
        "handshake_extensions",
        "key_schedule",
        "received_extensions",
        "update_traffic_key_cb",
    ),
    tls.KeySchedule: ("algorithm", "hash_empty_value"),
    connection.QuicConnection: (
        "_ack_delay",
        "_ack_eliciting_sent_since_receipt",
        "_close_at",
        "_close_event",
        "_close_pending",
        "_configuration",
        "__frame_handlers",
        "_crypto_buffers",
        "_crypto_streams",
        "_cryptos",
        "_cryptos_initial",
        "_datagrams_pending",
        "_events",
        "_handshake_confirmed",
        "_handshake_done_pending",
        "_host_cids",
        "_is_client",
        "_local_active_connection_id_limit",
        "_local_max_data",
        "_local_max_streams_bidi",
        "_local_max_streams_uni",
        "_logger",
        "_loss",
        "_max_datagram_size",
        "_network_paths",
        "_pacing_at",
        "_packet_number",
        "_peer_cid",
        "_peer_cid_available",
        "_peer_cid_sequence_numbers",
        "_ping_pending",
        "_probe_pending",
        "_remote_max_data",
        "_remote_max_data_used",
        "_remote_max_streams_bidi",
        "_retire_connection_ids",
        "_spaces",
        "_spin_bit",
        "_spin_highest_pn",
        "_state",
        "_streams",
        "_streams_blocked_pending",
        "_streams_queue",
        "_version",
        "tls",
    ),
    connection.QuicNetworkPath: ("addr", "bytes_sent", "is_validated"),
    RenoCongestionControl: ("_max_datagram_size",),
    packet_builder.QuicPacketBuilder: (
        "_buffer",
        "_packet_number",
        "_peer_cid",
    ),
    crypto.CryptoContext: (
        "_setup_cb",
        "_teardown_cb",
        "aead",
        "cipher_suite",
        "secret",
        "version",
    ),
    recovery.QuicPacketNumberWindow: ("_received",),
    recovery.QuicPacketPacer: ("_max_datagram_size",),
    recovery.QuicPacketRecovery: ("_cc", "_pacer", "_rtt_smoothed", "spaces"),
    stream.QuicStreamReceiver: ("_buffer", "_ranges", "highest_offset", "is_finished"),
    stream.QuicStreamSender: ("_buffer", "_pending", "_pending_eof"),
}

# Functions that the library's documentation does not mention.
FUNCTIONS: dict[tuple[ModuleType, str], str] = {
    (tls, "hkdf_expand_label"): "algorithm, secret, label, hash_value, length",
    (tls, "negotiate"): "supported, offered, exc",
    (tls, "pull_certificate"): "buf",
    (tls, "pull_client_hello"): "buf",
    (tls, "pull_server_hello"): "buf",
    (tls, "push_certificate"): "buf, certificate",
    (tls, "push_certificate_request"): "buf, certificate_request",
    (tls, "push_certificate_verify"): "buf, verify",
    (tls, "push_client_hello"): "buf, hello",
    (tls, "push_encrypted_extensions"): "buf, extensions",
    (tls, "push_finished"): "buf, finished",
    (tls, "push_message"): "key_schedule, buf",
    (tls, "push_server_hello"): "buf, hello",
    (
        packet,
        "encode_quic_retry",
    ): "version, source_cid, destination_cid, original_destination_cid, retry_token, unused",
    (
        packet,
        "encode_quic_version_negotiation",
    ): "source_cid, destination_cid, supported_versions",
    (packet, "pull_quic_header"): "buf, host_cid_length",
    (packet, "pull_quic_transport_parameters"): "buf",
}

_NOT_AIOQUIC = {"capnp.AsyncIoStream"}  # objects whose private names only happen to be the same


def parameters(function: object) -> str:
    return ", ".join(inspect.signature(function).parameters)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "owner, name, expected",
    [(owner, name, expected) for (owner, name), expected in METHODS.items()],
    ids=[f"{owner.__name__}.{name}" for owner, name in METHODS],
)
def test_method(owner: type, name: str, expected: str) -> None:
    assert inspect.isfunction(vars(owner).get(name)), f"{owner.__name__}.{name} is gone"
    assert parameters(vars(owner)[name]) == expected


@pytest.mark.parametrize(
    "owner, name",
    [(owner, name) for owner, names in ATTRIBUTES.items() for name in names],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_attribute(owner: type, name: str) -> None:
    assert name in assigned(owner) or isinstance(vars(owner).get(name), property), (
        f"{owner.__name__}.{name} is gone"
    )


@pytest.mark.parametrize(
    "module, name, expected",
    [(module, name, expected) for (module, name), expected in FUNCTIONS.items()],
    ids=[f"{module.__name__}.{name}" for module, name in FUNCTIONS],
)
def test_function(module: ModuleType, name: str, expected: str) -> None:
    assert parameters(getattr(module, name)) == expected


def test_constants() -> None:
    assert tls.SERVER_CONTEXT_STRING == b"TLS 1.3, server CertificateVerify"
    assert connection.MAX_STREAM_DATA_FRAME_CAPACITY == 17
    assert issubclass(tls.AlertIllegalParameter, tls.Alert)


def test_no_private_name_is_used_outside_the_table() -> None:
    listed = {name for _, name in METHODS} | {
        name for names in ATTRIBUTES.values() for name in names
    }
    used = private_names_in_use()
    assert len(used) > 50, "this test finds nothing any more"
    unlisted = {name: where for name, where in used.items() if name not in listed}
    assert not unlisted, f"add to the table: {unlisted}"


def test_the_table_lists_nothing_that_is_not_used() -> None:
    private = {name for _, name in METHODS} | {
        name for names in ATTRIBUTES.values() for name in names
    }
    source = "".join(path.read_text() for path in Path(transport.__path__[0]).glob("*.py"))
    assert not {name for name in private if name not in source}


@cache
def assigned(owner: type) -> set[str]:
    """Names that the class's own methods set on `self`, and its fields."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    found = set()
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                found.add(target.attr)
    return found


def private_names_of_aioquic() -> set[str]:
    root = Path(aioquic.__path__[0])
    found = set()
    for path in [root / "tls.py", *(root / "quic").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", None) or getattr(node, "name", None)
            if isinstance(name, str) and name.startswith("_") and not name.startswith("__"):
                found.add(name)
    return found


def private_names_in_use() -> dict[str, set[str]]:
    """Private names that aioquic has, too, and where the transport uses them.

    `self.x` counts in classes that derive from aioquic's; `other.x` counts everywhere.
    """
    theirs, found = private_names_of_aioquic(), dict[str, set[str]]()
    for info in pkgutil.iter_modules(transport.__path__):
        module = importlib.import_module(f"transport.{info.name}")
        derived = {
            each.__name__
            for each in vars(module).values()
            if inspect.isclass(each)
            and any(base.__module__.startswith("aioquic") for base in each.__mro__)
        }

        def visit(node: ast.AST, owner: str, where: str, derived: set[str]) -> None:
            for child in ast.iter_child_nodes(node):
                name = ""
                if isinstance(child, ast.Attribute):
                    of = ast.unparse(child.value)
                    if of not in _NOT_AIOQUIC and (of != "self" or owner in derived):
                        name = child.attr
                elif isinstance(child, ast.FunctionDef) and owner in derived:
                    name = child.name
                if name in theirs:
                    found.setdefault(name, set()).add(where)
                inner = child.name if isinstance(child, ast.ClassDef) else owner
                visit(child, inner, where, derived)

        visit(ast.parse(inspect.getsource(module)), "", info.name, derived)
    return found
