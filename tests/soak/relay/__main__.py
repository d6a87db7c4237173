"""`make soak SOAK=relay SECONDS=N`: a relay of two processes on PostgreSQL, at 70 % of its load.

First it is measured what the machine takes: as many parcels as 16 senders bring and 64 subscribed
readers acknowledge over QUIC. Then 70 % of that comes evenly for N seconds (an open loop: nobody
waits for who is slow), while memory must stay flat. Then one process is killed with -9 under the
same load; its senders and readers move to the other one. In the end all is compared: whatever was
acknowledged to its sender was delivered, and nothing again once the relay had confirmed that it is
done with. Exit code 1 otherwise.

A parcel may come twice before that confirmation (it was lost with the process), and after it when
its sender had to ask twice (the answer was lost); both are counted. Nodes tell them by their id.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.soak.relay.run import Plan, run

CAPACITY_S = 30.0
AFTER_KILL_S = 60.0


def main() -> int:
    """0 when nothing was lost, repeated or grown."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.relay", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800.0, help="of the steady load")
    seconds = parser.parse_args().seconds
    plan = Plan(
        capacity_s=min(CAPACITY_S, seconds / 4),
        hold_s=seconds,
        after_kill_s=min(AFTER_KILL_S, seconds / 4),
    )
    with tempfile.TemporaryDirectory(prefix="soak-relay-") as folder:
        try:
            report = asyncio.run(run(Path(folder), plan, lambda line: print(line, flush=True)))
        except KeyboardInterrupt:
            print("stopped before its end: nothing was checked", file=sys.stderr)
            return 130
    print(json.dumps(report.figures))
    for complaint in report.complaints:
        print(f"BROKEN: {complaint}")
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
