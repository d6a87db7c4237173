"""What the objects give away, and what they do when threads share them."""

import copy
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import opaque_ke
import pytest
from opaque_ke import KSF_LATEST, ClientLogin, ClientRegistration, ServerSetup

PASSWORD, ID = b"a password of mine", b"alice"


@pytest.fixture(scope="module")
def objects():
    setup = ServerSetup.generate()
    client = ClientRegistration(PASSWORD)
    registration = client.finish(setup.registration_response(client.request, ID), ksf=KSF_LATEST)
    at_client = ClientLogin(PASSWORD)
    at_server = setup.login_start(registration.upload, at_client.request, ID)
    login = at_client.finish(at_server.response, ksf=KSF_LATEST)
    fresh = [ClientRegistration(PASSWORD), ClientLogin(PASSWORD)]
    return [setup, client, registration, at_client, at_server, login, *fresh]


def test_nothing_can_be_pickled_or_copied(objects):
    for thing in objects:
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                way(thing)


def test_nothing_secret_is_shown(objects):
    setup, login = objects[0], objects[5]
    secrets = [PASSWORD, setup.to_bytes(), login.session_key, login.export_key]
    for thing in objects:
        shown = repr(thing) + str(thing)
        assert shown.count(type(thing).__name__) == 2
        for secret in secrets:
            for form in (secret.hex()[2:18], repr(secret)[2:-1], str(list(secret))):
                assert form not in shown
        assert not hasattr(thing, "__dict__")


def test_nothing_can_be_changed_or_extended(objects):
    for thing in objects:
        with pytest.raises(AttributeError):
            thing.anything = 1
        for name in (name for name in dir(type(thing)) if not name.startswith("_")):
            with pytest.raises(AttributeError):
                setattr(thing, name, b"")
        with pytest.raises(TypeError):
            type("Mine", (type(thing),), {})


def test_states_come_from_the_protocol_alone():
    for made in (opaque_ke.ServerSetup, opaque_ke.ServerLogin, opaque_ke.Registration):
        with pytest.raises(TypeError):
            made()


def test_errors_keep_their_code_when_pickled():
    with pytest.raises(opaque_ke.DecodeError) as refused:
        opaque_ke.check_record(b"")
    again = pickle.loads(pickle.dumps(refused.value))
    assert (type(again), again.code) == (opaque_ke.DecodeError, "malformed-upload")
    assert {kind.code for kind in opaque_ke.OpaqueError.__subclasses__()} == {
        "malformed",
        "invalid-login",
        "state-used",
    }


def test_one_of_many_threads_gets_the_one_try():
    setup = ServerSetup.generate()
    client = ClientRegistration(PASSWORD)
    response = setup.registration_response(client.request, ID)
    ready = threading.Barrier(8)

    def finish(_):
        ready.wait()
        try:
            return client.finish(response, ksf=KSF_LATEST).upload
        except opaque_ke.StateUsed:
            return None

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(finish, range(8)))
    assert [len(upload) for upload in results if upload] == [192]


def test_a_server_answers_from_many_threads():
    setup = ServerSetup.generate()
    client = ClientRegistration(PASSWORD)
    record = client.finish(setup.registration_response(client.request, ID), ksf=KSF_LATEST).upload

    def answer(index):
        request = ClientLogin(b"%d" % index).request
        return setup.login_start(record if index % 2 else None, request, ID).response

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(answer, range(400)))) == 400


@pytest.mark.parametrize("half", ["registration", "login"])
def test_other_threads_run_while_a_password_is_stretched(half):
    """Python never takes the interpreter away here, so another thread runs if it is given away."""
    setup = ServerSetup.generate()
    client = ClientRegistration(PASSWORD)
    response = setup.registration_response(client.request, ID)
    if half == "login":  # one that succeeds: PyO3 gives the interpreter away when it makes an error
        record = client.finish(response, ksf=KSF_LATEST).upload
        client = ClientLogin(PASSWORD)
        response = setup.login_start(record, client.request, ID).response
    stop, ticks = threading.Event(), []

    def watch():
        while not stop.wait(0.001):
            ticks.append(time.perf_counter())

    thread = threading.Thread(target=watch)
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    thread.start()
    try:
        started = time.perf_counter()
        client.finish(response, ksf=KSF_LATEST)
        ended = time.perf_counter()
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(before)
    assert any(started < tick < ended for tick in ticks)
