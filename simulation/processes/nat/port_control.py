"""A home router that forwards ports on request: miniupnpd, which speaks PCP, NAT-PMP and UPnP."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from simulation.processes.nat.internet import Router

PROGRAMS: Final = (("miniupnpd", "miniupnpd-nftables"),)
"""As `reason_against_namespaces` takes them."""

_START_S: Final = 5.0
# Beside the router's own rules: a chain each for what is let through and what is translated.
_TABLE: Final = "miniupnpd"
_RULES: Final = f"""
    table inet {_TABLE} {{
        chain let_in {{
        }}
        chain send_in {{
        }}
        chain send_out {{
        }}
        chain prerouting {{
            type nat hook prerouting priority dstnat;
            jump send_in;
        }}
        chain postrouting {{
            type nat hook postrouting priority srcnat;
            jump send_out;
        }}
    }}
"""
_CONFIGURATION: Final = """
ext_ifname=wan
listening_ip=lan0
enable_upnp={upnp}
enable_natpmp={pcp}
secure_mode=yes
system_uptime=no
uuid=f0e53881-22c6-469b-b689-b2d253f39cbf
upnp_table_name={table}
upnp_nat_table_name={table}
upnp_forward_chain=let_in
upnp_nat_chain=send_in
upnp_nat_postrouting_chain=send_out
allow 1024-65535 0.0.0.0/0 1024-65535
"""


class PortControl:
    """A context manager: while it is entered `router` does what its first segment asks."""

    def __init__(self, router: Router, *, pcp: bool = True, upnp: bool = True) -> None:
        self._router = router
        self._configuration = _CONFIGURATION.format(
            table=_TABLE,
            pcp="yes" if pcp else "no",
            upnp="yes" if upnp else "no",
        )
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Raises what `start` does."""
        self._folder = tempfile.TemporaryDirectory()
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with what it said when it does not."""
        self._router.run("nft", "-f", "-", text=_RULES)
        configuration = Path(self._folder.name, "miniupnpd.conf")
        configuration.write_text(self._configuration)
        log, pid = Path(self._folder.name, "log"), Path(self._folder.name, "pid")
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [*self._router.enter, *["miniupnpd", "-d", "-f"], configuration, "-P", pid],
                stdout=out,
                stderr=out,
                text=True,
            )
        deadline = time.monotonic() + _START_S
        while "HTTP listening" not in (said := log.read_text()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"miniupnpd does not run: {said}")
            time.sleep(0.01)

    def stop(self) -> None:
        """It and its mappings are gone, as when a router restarts."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None
            self._router.run("nft", "delete", "table", "inet", _TABLE)

    def mappings(self) -> str:
        """The rules in force for what was asked."""
        return self._router.run("nft", "list", "chain", "inet", _TABLE, "send_in")
