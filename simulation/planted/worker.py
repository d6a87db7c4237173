"""python -m simulation.planted.worker NAME: plays the run of one planted bug, in a process of its
own, and prints what it came to as JSON."""

from __future__ import annotations

import json
import sys

from simulation.planted.catalogue import BUGS
from simulation.planted.hook import plant


def main() -> None:
    bug = BUGS[sys.argv[1]]
    plant(bug.changes)
    from simulation.many import quieten
    from simulation.planted.hunt import plan_of
    from simulation.run import run

    quieten()
    finding = run(plan_of(bug)).finding
    told = None
    if finding is not None:
        told = {
            "invariant": finding.invariant,
            "detail": finding.detail,
            "node": finding.node,
            "at_s": finding.at,
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
