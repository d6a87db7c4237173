"""Who asks a relay for somebody's account learns nothing: unknown names are answered alike."""

from __future__ import annotations

from typing import Any

import pytest
from opaque_ke import ClientLogin

from relay.server import Relay
from schemas.accounts import framed
from tests.relay.people import PASSWORD, begin_login, person, register
from tests.relay.support import Client, client_of


class Recorded:
    """An object, and the names of what was called on it, with the kinds of the arguments."""

    def __init__(self, inner: Any, done: list[str]) -> None:
        self._inner = inner
        self._done = done

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **fields: Any) -> Any:
            self._done.append(name)
            result = found(*args, **fields)
            if name == "login_start":
                return Recorded(result, self._done)
            return result

        return call


@pytest.fixture
def done(relay: Relay) -> list[str]:
    """Every operation of the store and of OPAQUE that a login causes."""
    done: list[str] = []
    accounts = relay.service.accounts
    accounts._store = Recorded(accounts._store, done)
    return done


async def attempt(client: Client, relay: Relay, name: str) -> tuple[tuple[Any, ...], str]:
    """(the answer to the first message by its shape, the whole answer to the second)."""
    halfway = await begin_login(client, relay.device, name, b"wrong")
    assert halfway.finalization is None, "the client cannot tell either"
    finish = {"login": halfway.login, "finalization": framed(1, bytes(64))}
    answer = await client.call("opaqueLoginFinish", **finish)
    return (len(halfway.login), len(halfway.response), halfway.response[0]), str(answer)


async def test_unknown_name_and_wrong_password_are_one_thing_in_bytes_and_work(
    relay: Relay, done: list[str]
) -> None:
    async with client_of(relay) as client:
        assert await register(client, person("ann")) == ""
        accounts = relay.service.accounts
        accounts._setup = Recorded(accounts._setup, done)  # type: ignore[assignment]
        seen, work = [], []
        for name in ("ann", "nobody", "ann", "somebody"):
            done.clear()
            seen.append(await attempt(client, relay, name))
            work.append(tuple(done))
        assert len(set(seen)) == 1
        assert "login-failed" in seen[0][1]
        assert len(set(work)) == 1
        assert work[0] == ("account", "standing", "login_start", "finish")
        assert relay.desk.refusals["login-failed"] == 4


async def test_answers_to_unknown_names_differ_each_time_as_those_to_known_ones_do(
    relay: Relay,
) -> None:
    async with client_of(relay) as client:
        assert await register(client, person("ann")) == ""
        for name in ("ann", "nobody"):
            request = framed(1, ClientLogin(PASSWORD).request)
            answers = [
                bytes((await client.call("opaqueLoginStart", name=name, request=request)).response)
                for _ in range(2)
            ]
            # The same request gets the same evaluation (32 B), masked and signed anew.
            assert answers[0][:33] == answers[1][:33]
            assert answers[0][33:65] != answers[1][33:65]
            assert answers[0][65:] != answers[1][65:]
