"""A flood of names and forged neighbours: bounded, counted, and the true ones are found."""

from __future__ import annotations

from collections import Counter

from discovery.lan_departed import Departed
from discovery.lan_events import PeerChange
from discovery.lan_names import NamesHeard
from discovery.lan_peers import LanPeers
from schemas.ids import DeviceKey
from tests.discovery.test_mdns_pure import ADA, BOB, peer


def forged(number: int) -> DeviceKey:
    return DeviceKey(number.to_bytes(32))


def test_names_are_read_at_a_bounded_rate_and_the_others_counted() -> None:
    names = NamesHeard(Counter(), per_s=10.0, waiting=20)
    read = sum(names.admit(f"n{n}", 0.0) for n in range(5000))
    assert read == 256, "a LAN full of our own users is read at once"
    assert len(names) == 20
    assert names.dropped["names-not-read"] == 5000 - read - 20
    assert names.wait_s(0.0) > 0
    names.take(0.2)
    assert len(names) == 19


def test_a_true_name_among_a_flood_has_its_turn() -> None:
    """It is said three times and again when we ask; the flood cannot tell which are left out."""
    names = NamesHeard(Counter(), per_s=100.0, waiting=64)
    now, found, n = 0.0, False, 0
    while not found and now < 30.0:
        now += 0.01
        for _ in range(5):  # 500 a second
            n += 1
            names.admit(f"n{n}", now)
        if n % 200 == 0:
            names.admit("ada", now)
        while len(names) and not names.wait_s(now):
            found |= names.take(now) == "ada"
    assert found


def test_a_contact_has_a_place_in_a_table_full_of_strangers() -> None:
    table = LanPeers(instances=3)
    for n in range(3):
        table.see(f"x{n}", peer(forged(n)))
    table.favour([ADA])
    events = table.see("ada", peer(ADA))
    assert [(e.change, e.peer.device) for e in events] == [
        (PeerChange.DISAPPEARED, forged(2)),
        (PeerChange.APPEARED, ADA),
    ]
    assert table.see("bob", peer(BOB)) == [], "a stranger pushes nobody out"
    assert table.dropped["table-full"] == 2


def test_nobody_takes_the_label_of_somebody_who_is_there() -> None:
    table = LanPeers()
    table.see("ada", peer(ADA))
    assert table.see("ada", peer(BOB)) == []
    assert [each.device for each in table.peers()] == [ADA]
    assert table.dropped["label-collision"] == 1


def test_those_who_departed_are_bounded() -> None:
    departed = Departed()
    for n in range(1000):
        departed.left(f"x{n}", peer(forged(n)))
    assert "x0" not in departed
    assert "x999" in departed
    departed.left("newer label", peer(forged(999)))
    assert departed.take_back(forged(999)) == ("newer label", peer(forged(999)))
    assert departed.take_back(forged(999)) is None, "the label before it was given up"
    assert departed.stays("newer label")
    departed.silent("newer label")
    assert not departed.stays("newer label")
