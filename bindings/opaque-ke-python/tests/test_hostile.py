"""Any bytes in the place of each message: a typed error, or a message that was as good."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

IDENTITY = 0
PASSWORD, ID = b"correct horse", b"alice"
ZERO = bytes(32)
"""The identity element, which no honest message holds."""
ORDER = (2**252 + 27742317777372353535851937790883648493).to_bytes(32, "little")


class World:
    """A user and a server; the client's side does not stretch, or this would take minutes."""

    def __init__(self, taped):
        self.lib = taped
        self.setup = taped.ServerSetup.generate()
        client = taped.ClientRegistration(PASSWORD)
        self.registration_request = client.request
        self.registration_response = self.setup.registration_response(client.request, ID)
        self.record = client.finish(self.registration_response, ksf=IDENTITY).upload
        self.request = taped.ClientLogin(PASSWORD).request

    def login(self, record=None):
        client = self.lib.ClientLogin(PASSWORD)
        return client, self.setup.login_start(record or self.record, client.request, ID)

    # Each takes a message, and runs what reads it to the end of the protocol.

    def reads_registration_request(self, data):
        return self.setup.registration_response(data, ID)

    def reads_registration_response(self, data):
        client = self.lib.ClientRegistration(PASSWORD)
        return self.reads_record(client.finish(data, ksf=IDENTITY).upload)

    def reads_record(self, data):
        client, server = self.login(self.lib.check_record(data))
        return server.finish(client.finish(server.response, ksf=IDENTITY).finalization)

    def reads_login_request(self, data):
        return self.setup.login_start(self.record, data, ID).finish(bytes(64))

    def reads_login_response(self, data):
        return self.lib.ClientLogin(PASSWORD).finish(data, ksf=IDENTITY)

    def reads_finalization(self, data):
        return self.login()[1].finish(data)

    def reads_setup(self, data):
        return self.lib.ServerSetup.from_bytes(data).login_start(self.record, self.request, ID)

    def message(self, reader):
        """A genuine message for that reader, of another run of the protocol."""
        client, server = self.login()
        return {
            "registration_request": self.registration_request,
            "registration_response": self.registration_response,
            "record": self.record,
            "login_request": client.request,
            "login_response": server.response,
            "finalization": bytes(64),
            "setup": self.setup.to_bytes(),
        }[reader]


READERS = {
    "registration_request": "malformed-request",
    "registration_response": "malformed-response",
    "record": "malformed-upload",
    "login_request": "malformed-request",
    "login_response": "malformed-response",
    "finalization": "malformed-finalization",
    "setup": "malformed-setup",
}


@pytest.fixture(scope="module")
def world(taped):
    return World(taped)


@pytest.mark.parametrize("reader", READERS)
def test_every_other_length_is_malformed(world, reader):
    genuine, read = world.message(reader), getattr(world, f"reads_{reader}")
    for length in {*range(0, len(genuine), 7), len(genuine) - 1, len(genuine) + 1, 4096} - {
        len(genuine)
    }:
        with pytest.raises(world.lib.DecodeError) as refused:
            read((genuine + bytes(4096))[:length])
        assert refused.value.code == READERS[reader]


@pytest.mark.parametrize("reader", READERS)
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_bytes_end_in_a_typed_error(world, reader, data):
    genuine = world.message(reader)
    size = len(genuine)
    garbage = data.draw(st.binary(max_size=400) | st.binary(min_size=size, max_size=size))
    run(world, reader, garbage)


@pytest.mark.parametrize("reader", READERS)
@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_changed_message_ends_in_a_typed_error(world, reader, data):
    changed = bytearray(world.message(reader))
    places = st.integers(0, len(changed) - 1)
    for place, mask in data.draw(st.dictionaries(places, st.integers(1, 255), min_size=1)).items():
        changed[place] ^= mask
    run(world, reader, bytes(changed))


def run(world, reader, message):
    """A login is never the end of it; another first request or set-up may be as good as the own."""
    code = None
    try:
        getattr(world, f"reads_{reader}")(message)
    except world.lib.OpaqueError as error:
        code = error.code
    assert code in {
        "registration_request": {READERS[reader], None},
        "setup": {READERS[reader], "unsupported-version", None},
    }.get(reader, {READERS[reader], "invalid-login"})


@pytest.mark.parametrize("element", [ZERO, ORDER, b"\xff" * 32], ids=["zero", "order", "ones"])
@pytest.mark.parametrize(
    ("reader", "places"),
    [
        ("registration_request", [0]),
        ("registration_response", [0, 32]),
        ("record", [0]),
        ("login_request", [0, 64]),
        ("login_response", [0, 224]),
        ("setup", [65, 97]),
    ],
)
def test_what_is_no_element_is_refused_in_each_place(world, reader, places, element):
    """The identity, encodings that are not canonical, a zero private key, one beyond the order."""
    for place in places:
        genuine = bytearray(world.message(reader))
        genuine[place : place + 32] = element
        with pytest.raises(world.lib.DecodeError) as refused:
            getattr(world, f"reads_{reader}")(bytes(genuine))
        assert refused.value.code == READERS[reader]


def test_a_reflected_request_is_refused(world):
    client = world.lib.ClientRegistration(PASSWORD)
    with pytest.raises(world.lib.DecodeError) as refused:
        client.finish(client.request + world.setup.public_key, ksf=IDENTITY)
    assert refused.value.code == "reflected"
    login, server = world.login()
    with pytest.raises(world.lib.DecodeError) as refused:
        login.finish(login.request[:32] + server.response[32:], ksf=IDENTITY)
    assert refused.value.code == "reflected"


def test_a_stored_record_that_rotted_has_a_code_of_its_own(world):
    for record in (b"", world.record[:-1], bytes(192)):
        with pytest.raises(world.lib.DecodeError) as refused:
            world.setup.login_start(record, world.request, ID)
        assert refused.value.code == "malformed-record"


def test_a_set_up_of_another_version_says_so(world):
    for version in (0, 2, 255):
        with pytest.raises(world.lib.DecodeError) as refused:
            world.lib.ServerSetup.from_bytes(bytes([version]) + world.setup.to_bytes()[1:])
        assert refused.value.code == "unsupported-version"


def test_messages_of_two_logins_do_not_mix(world):
    (one, at_one), (two, at_two) = world.login(), world.login()
    with pytest.raises(world.lib.InvalidLogin):
        one.finish(at_two.response, ksf=IDENTITY)
    proof = two.finish(at_two.response, ksf=IDENTITY).finalization
    with pytest.raises(world.lib.InvalidLogin):
        at_one.finish(proof)
