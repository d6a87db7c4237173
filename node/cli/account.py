"""Commands about this node itself: made, run, shown, known to relays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.cli.command import Commands, relay_option
from node.cli.output import Fields, clean, short
from node.cli.sentences import sentence
from node.cli.state import State
from schemas.addresses import RelayAddress
from schemas.errors import Fault
from schemas.visibility import DhtVisibility, LanVisibility

if TYPE_CHECKING:
    from node.api.shapes import Account, Registered

commands = Commands("Your node")


@commands.add("init", example="quicnprotochat init --name Alice --encrypt")
@click.option("--name", required=True, help="What others see beside your key.")
@click.option("--encrypt", is_flag=True, help="Ask for a passphrase for this home.")
@relay_option
def init(state: State, name: str, encrypt: bool, relays: tuple[str, ...]) -> None:
    """Create an identity, a device and their store; encrypted when a passphrase is given."""
    from node.api.host import new_home

    _check(relays)
    new_home(state.home, name, state.secrets.new_home(wanted=encrypt))
    with state.session(relays=relays or None) as session:
        from node.api import operations as op
        from node.api.shapes import Nothing

        _show_new(state, session.call(op.WHOAMI, Nothing()), {})


@commands.add(
    "register-state",
    example="quicnprotochat register-state --name Alice --relay relay.example:7000#DEVICE_KEY",
)
@click.option("--name", help="What others see beside your key; needed for a new home.")
@relay_option
def register_state(state: State, name: str | None, relays: tuple[str, ...]) -> None:
    """As `init`, with upload to the relays. An existing home is kept."""
    from node.api import operations as op
    from node.api.host import new_home
    from node.api.shapes import Nothing

    _check(relays)
    if name is not None:
        try:
            new_home(state.home, name, state.secrets.new_home())
        except Fault as fault:
            if fault.code not in ("home-exists", "already-running"):
                raise
    with state.session(relays=relays or None) as session:
        registered = session.call(op.REGISTER, Nothing())
        more = {"registered": [each.to_json() for each in registered]}
        _show_new(state, session.call(op.WHOAMI, Nothing()), more)


def _check(relays: tuple[str, ...]) -> None:
    """A mistyped relay must not leave a home behind. Raises Refused `bad-relay`."""
    for relay in relays:
        RelayAddress.parse(relay)


def _show_new(state: State, account: Account, more: Fields) -> None:
    state.out.record(
        {**account.to_json(), **more},
        [("name", account.name), ("identity", account.identity), ("card", account.card)],
    )
    state.out.note(
        f"\nThe keys of this account exist only in {clean(state.home)}: keep that folder, and "
        "never run a copy of it.\nGive the card to people who want to write to you."
    )


@commands.add(
    "run", example="quicnprotochat run --listen 0.0.0.0:7000 --relay HOST:PORT#DEVICE_KEY"
)
@click.option(
    "--listen",
    metavar="ADDR",
    help="UDP address to listen on; [::] takes IPv4 too."
    " [env: QUICNPROTOCHAT_LISTEN; default: [::]:7000]",
)
@relay_option
@click.option(
    "--bootstrap",
    multiple=True,
    metavar="ADDR",
    help="A node of the DHT to begin with, HOST:PORT or HOST:PORT#DEVICE_KEY; repeat for more."
    " Remembered. [env: QUICNPROTOCHAT_BOOTSTRAP]",
)
@click.option(
    "--mdns/--no-mdns",
    default=None,
    help="Be found on the local network, and find others. [env: QUICNPROTOCHAT_MDNS]",
)
@click.option(
    "--lan-visibility",
    type=click.Choice([each.value for each in LanVisibility]),
    help="Who sees you on the local network: everyone there, contacts alone, or nobody, and you see"
    " nobody. [env: QUICNPROTOCHAT_LAN_VISIBILITY; default: everyone]",
)
@click.option(
    "--dht/--no-dht",
    default=None,
    help="Be found through the DHT, and find others. [env: QUICNPROTOCHAT_DHT]",
)
@click.option(
    "--dht-visibility",
    type=click.Choice([each.value for each in DhtVisibility]),
    help="Who finds you there: holders of your card alone, whoever knows your device key, or"
    " nobody. [env: QUICNPROTOCHAT_DHT_VISIBILITY; default: private]",
)
@click.option(
    "--port-mapping/--no-port-mapping",
    default=None,
    help="Ask the router to forward our port (PCP, NAT-PMP, UPnP), so that others can reach us."
    " [env: QUICNPROTOCHAT_PORT_MAPPING]",
)
@click.option(
    "--post-quantum-only/--no-post-quantum-only",
    default=None,
    help="Connect to no peer and no relay that lacks X25519MLKEM768."
    " [env: QUICNPROTOCHAT_POST_QUANTUM_ONLY]",
)
def run(
    state: State,
    listen: str | None,
    relays: tuple[str, ...],
    bootstrap: tuple[str, ...],
    mdns: bool | None,
    lan_visibility: str | None,
    dht: bool | None,
    dht_visibility: str | None,
    port_mapping: bool | None,
    post_quantum_only: bool | None,
) -> None:
    """Run the node until Ctrl-C; other commands then use it."""
    from node.api import host

    state.start_logging("warning")
    out = state.out

    def ready(fields: dict[str, object]) -> None:
        out.result(
            fields,
            f"ready: listening on {fields['listen']} as {short(str(fields['device']))}",
        )

    def event(fields: dict[str, object]) -> None:
        text = None if out.as_json else sentence(fields)
        if out.as_json or text is not None:
            out.result(fields, clean(text))

    settings = state.settings(
        lasting=True,
        listen=listen,
        relays=relays or None,
        mdns=mdns,
        lan_visibility=lan_visibility,
        dht=dht,
        dht_visibility=dht_visibility,
        bootstrap=bootstrap or None,
        port_mapping=port_mapping,
        post_quantum_only=post_quantum_only,
    )
    host.run(settings, ready=ready, event=event, waiting=out.note)


@commands.add("set-name", example='quicnprotochat set-name "Alice B."')
@click.argument("name")
def set_name(state: State, name: str) -> None:
    """Change the NAME that others see beside your key; they are told."""
    from node.api import operations as op
    from node.api.shapes import SetName

    with state.session() as session:
        account = session.call(op.SET_NAME, SetName(name))
    state.out.result(account.to_json(), f"you are now {clean(account.name)}")


@commands.add("whoami", example="quicnprotochat whoami --qr")
@click.option("--qr", is_flag=True, help="Show the card as a QR code too.")
def whoami(state: State, qr: bool) -> None:
    """Show your identity, device, card and safety number."""
    from node.api import operations as op
    from node.api.shapes import Nothing

    with state.session() as session:
        account = session.call(op.WHOAMI, Nothing())
    state.out.record(
        account.to_json(),
        [
            ("name", account.name),
            ("identity", account.identity),
            ("device", account.device),
            ("safety number", account.safety_number),
            ("relays", ", ".join(account.relays) or "none"),
            ("addresses", ", ".join(account.addresses) or "none"),
            ("card", account.card),
        ],
    )
    if qr and not state.json:
        import io

        import segno

        drawing = io.StringIO()
        segno.make(account.card, error="l", micro=False).terminal(drawing, compact=True)
        state.out.say(drawing.getvalue())


@commands.add("register", example="quicnprotochat register")
@relay_option
def register(state: State, relays: tuple[str, ...]) -> None:
    """Upload KeyPackages to your relays. People can then add you while you are away."""
    from node.api import operations as op
    from node.api.shapes import Nothing

    with state.session(relays=relays or None) as session:
        _show_registered(state, session.call(op.REGISTER, Nothing()))


@commands.add("refresh-keypackage", example="quicnprotochat refresh-keypackage")
@relay_option
def refresh_keypackage(state: State, relays: tuple[str, ...]) -> None:
    """Replace the last-resort KeyPackages at your relays."""
    from node.api import operations as op
    from node.api.shapes import Nothing

    with state.session(relays=relays or None) as session:
        _show_registered(state, session.call(op.REFRESH_KEY_PACKAGE, Nothing()))


def _show_registered(state: State, rows: list[Registered]) -> None:
    state.out.listing(
        [row.to_json() for row in rows],
        ("RELAY", "SUITE", "FINGERPRINT", "STOCK"),
        ((row.relay, row.suite, row.fingerprint, row.stock) for row in rows),
        empty="no relay is known; give one with --relay",
    )
