"""PCP and NAT-PMP byte for byte, and against whatever a router may send."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.addresses import Address
from schemas.errors import Malformed
from transport.port_mapping import nat_pmp, pcp
from transport.port_mapping.announcements import announcement_untrusted

NONCE = bytes(range(12))
REQUEST = pcp.MapRequest("192.168.7.2", 7000, NONCE, 3600, Address("0.0.0.0", 7000))
V4 = b"\0" * 10 + b"\xff\xff"


def pcp_answer(
    *,
    result: int = 0,
    nonce: bytes = NONCE,
    port: int = 7000,
    external: int = 40_000,
    host: bytes = V4 + bytes([11, 0, 0, 2]),
    version: int = 2,
    opcode: int = 0x81,
    protocol: int = 17,
) -> bytes:
    """As RFC 6887, figures 3 and 10, draw it."""
    header = struct.pack("!BBxBLL12x", version, opcode, result, 1800, 77)
    return header + struct.pack("!12sB3xHH16s", nonce, protocol, port, external, host)


# --- PCP


def test_a_pcp_request_is_what_the_rfc_draws() -> None:
    assert REQUEST.encode() == bytes.fromhex(
        "02010000 00000e10"  # version 2, MAP; an hour
        "00000000000000000000ffffc0a80702"  # 192.168.7.2
        "000102030405060708090a0b 11000000"  # nonce; UDP
        "1b58 1b58"  # 7000, and as it is outside
        "00000000000000000000ffff00000000"
    )


def test_an_ipv6_host_asks_with_its_own_address() -> None:
    request = pcp.MapRequest("2001:db8::7", 7000, NONCE, 0, Address("::", 0))
    assert request.encode()[8:24] == bytes.fromhex("20010db8000000000000000000000007")


def test_a_pcp_answer() -> None:
    answer = pcp.map_response_untrusted(pcp_answer(), REQUEST)
    assert answer == pcp.MapResponse(pcp.Result.SUCCESS, 1800, Address("11.0.0.2", 40_000))


def test_pcp_options_behind_the_answer_are_passed_over() -> None:
    answer = pcp.map_response_untrusted(pcp_answer() + b"\x03\0\0\x04abcd", REQUEST)
    assert answer.external == Address("11.0.0.2", 40_000)


@pytest.mark.parametrize("code", range(1, 14))
def test_a_pcp_refusal_has_its_reason(code: int) -> None:
    answer = pcp.map_response_untrusted(pcp_answer(result=code), REQUEST)
    assert (answer.result, answer.external) == (code, None)


def test_an_unknown_refusal_is_a_refusal() -> None:
    answer = pcp.map_response_untrusted(pcp_answer(result=200), REQUEST)
    assert (answer.result, answer.external) == (pcp.Result.NETWORK_FAILURE, None)


def test_a_router_that_knows_only_nat_pmp_says_so() -> None:
    answer = pcp.map_response_untrusted(struct.pack("!BBHL", 0, 0x81, 1, 5), REQUEST)
    assert answer.result == pcp.Result.UNSUPP_VERSION


@pytest.mark.parametrize(
    "answer",
    [
        pcp_answer(nonce=bytes(12)),
        pcp_answer(port=7001),
        pcp_answer(protocol=6),
        pcp_answer(nonce=bytes(12), result=2),
    ],
)
def test_an_answer_about_another_mapping_is_nobodys(answer: bytes) -> None:
    with pytest.raises(Malformed, match="not-our-mapping"):
        pcp.map_response_untrusted(answer, REQUEST)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        pcp_answer()[:59],
        pcp_answer() + b"\0",
        pcp_answer() + bytes(1_044),  # above 1,100 bytes
        pcp_answer(version=3),
        pcp_answer(opcode=0x80),
        pcp_answer(opcode=0x01),  # a request
        pcp_answer(external=0),
    ],
)
def test_what_is_not_pcp_is_malformed(answer: bytes) -> None:
    with pytest.raises(Malformed, match="not-pcp"):
        pcp.map_response_untrusted(answer, REQUEST)


# --- NAT-PMP


def test_nat_pmp_requests_are_what_the_rfc_draws() -> None:
    assert nat_pmp.ADDRESS_REQUEST.hex() == "0000"
    assert nat_pmp.map_request(7000, 7001, 3600) == bytes.fromhex("0001 0000 1b58 1b59 00000e10")


def test_nat_pmp_answers() -> None:
    address = nat_pmp.address_response_untrusted(bytes.fromhex("0080 0000 0000004d 0b000002"))
    assert address == nat_pmp.AddressResponse(nat_pmp.Result.SUCCESS, "11.0.0.2")

    mapping = bytes.fromhex("0081 0000 0000004d 1b58 9c40 00000708")
    expected = nat_pmp.MapResponse(nat_pmp.Result.SUCCESS, 40_000, 1800)
    assert nat_pmp.map_response_untrusted(mapping, 7000) == expected


def test_a_router_without_an_address_has_none() -> None:
    answer = nat_pmp.address_response_untrusted(bytes.fromhex("0080 0000 0000004d 00000000"))
    assert answer.host == ""


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 99])
def test_a_nat_pmp_refusal_has_its_reason(code: int) -> None:
    answer = struct.pack("!BBHLHHL", 0, 0x81, code, 77, 7000, 0, 0)
    result = nat_pmp.map_response_untrusted(answer, 7000).result
    assert result == (code if code < 6 else nat_pmp.Result.NETWORK_FAILURE)
    assert (
        nat_pmp.address_response_untrusted(struct.pack("!BBHL", 0, 0x80, code, 7)).result == result
    )


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (struct.pack("!BBHLHHL", 0, 0x81, 0, 77, 7001, 7001, 1800), "not-our-mapping"),
        (struct.pack("!BBHLHHL", 0, 0x81, 0, 77, 7000, 0, 1800), "not-nat-pmp"),
        (struct.pack("!BBHLHHL", 1, 0x81, 0, 77, 7000, 7000, 1800), "not-nat-pmp"),
        (struct.pack("!BBHLHHL", 0, 0x82, 0, 77, 7000, 7000, 1800), "not-nat-pmp"),
        (struct.pack("!BBHLHHL", 0, 0x81, 0, 77, 7000, 7000, 1800) + b"\0", "not-nat-pmp"),
        (b"\0\x81\0\0", "not-nat-pmp"),
    ],
)
def test_what_is_no_nat_pmp_mapping_is_malformed(answer: bytes, code: str) -> None:
    with pytest.raises(Malformed, match=code):
        nat_pmp.map_response_untrusted(answer, 7000)


# --- announcements


def test_announcements_of_both_protocols() -> None:
    announcement_untrusted(struct.pack("!BBxBLL12x", 2, 0x80, 0, 0, 3))
    announcement_untrusted(bytes.fromhex("0080 0000 00000003 0b000002"))


# --- whatever bytes

_HEADS = st.sampled_from(
    [b"", b"\x02\x81", b"\x02\x80", b"\x00\x81", b"\x00\x80\0\0", pcp_answer()[:44]]
)


@given(_HEADS, st.binary(max_size=1_200))
def test_no_bytes_raise_anything_but_malformed(head: bytes, rest: bytes) -> None:
    data = head + rest
    for parse in (
        lambda: pcp.map_response_untrusted(data, REQUEST),
        lambda: nat_pmp.map_response_untrusted(data, 7000),
        lambda: nat_pmp.address_response_untrusted(data),
        lambda: announcement_untrusted(data),
    ):
        try:
            parse()
        except Malformed:
            continue


@given(
    nonce=st.binary(min_size=12, max_size=12),
    port=st.integers(1, 65_535),
    external=st.integers(1, 65_535),
    host=st.ip_addresses(v=4),
)
def test_only_the_right_nonce_and_port_are_believed(
    nonce: bytes, port: int, external: int, host: object
) -> None:
    answer = pcp_answer(
        nonce=nonce, port=port, external=external, host=V4 + bytes(map(int, str(host).split(".")))
    )
    if (nonce, port) == (NONCE, 7000):
        return
    with pytest.raises(Malformed):
        pcp.map_response_untrusted(answer, REQUEST)
    request = pcp.MapRequest("192.168.7.2", port, nonce, 3600, Address("0.0.0.0", port))
    found = pcp.map_response_untrusted(answer, request)
    assert found.external == Address(str(host), external)
