"""Ten thousand seeds over all scenarios of the World tier, for docs/simulation-seeds.json.

`python -m simulation.sweep FILE [JOBS]` writes FILE after each scenario. Run again, it goes on
where FILE ends: delete it to begin anew. One line a scenario; ends with 1 on a violation.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from simulation.many import run_all
from simulation.run import Plan, Result

# Scenario, nodes, seeds: most where a run is cheap.
SWEEP: Final = (
    ("mutual-removal", 5, 300),
    ("two-at-once", 5, 400),
    ("late-release", 5, 150),
    ("reader-only", 4, 150),
    ("removed-while-offline", 4, 120),
    ("commit-storm", 5, 100),
    ("insider-outvotes", 5, 80),
    ("equivocating-member", 5, 100),
    ("crash-loop", 3, 80),
    ("withholding-relay", 4, 70),
    ("joins-during-a-fork", 4, 80),
    ("quiet-group", 4, 80),
    ("partition-and-heal", 8, 40),
    ("asleep-ten-days", 4, 29),
    ("thousand-devices", 20, 1),
    ("anything", 6, 920),
    ("three-members", 3, 1300),
    ("two-members", 2, 6000),
)
JOBS: Final = 2  # processes, where the second argument says nothing else


def main() -> None:
    path = Path(sys.argv[1])
    jobs = int(sys.argv[2]) if len(sys.argv) > 2 else JOBS
    done: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    for scenario, nodes, seeds in SWEEP[len(done) :]:
        plans = [Plan(scenario, nodes, seed) for seed in range(seeds)]
        done.append(_summary(scenario, nodes, list(run_all(plans, jobs))))
        path.write_text(json.dumps(done, indent=1) + "\n")
        found = len(done[-1]["violations"])
        print(f"{scenario}: {seeds} seeds, {found} violations", flush=True)
    sys.exit(any(row["violations"] for row in done))


def _summary(scenario: str, nodes: int, results: list[Result]) -> dict[str, Any]:
    """`digests`: SHA-256 over the digests of the runs, in the order of their seeds."""
    results.sort(key=lambda result: result.plan.seed)
    took = sorted(seconds for result in results for seconds in result.converged)
    return {
        "scenario": scenario,
        "nodes": nodes,
        "seeds": f"0..{len(results)}",
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "violations": [
            {"seed": r.plan.seed, "invariant": r.finding.invariant, "detail": r.finding.detail}
            for r in results
            if r.finding is not None
        ],
        "engine_events": sum(result.engine_events for result in results),
        "node_hours": round(sum(r.virtual_s for r in results) * nodes / 3600, 1),
        "messages": sum(result.messages for result in results),
        "forks_healed": sum(result.events.get("group-healed", 0) for result in results),
        "one_epoch_p50_s": took[len(took) // 2] if took else None,
        "one_epoch_max_s": took[-1] if took else None,
        "cpu_s": round(sum(result.cpu_s for result in results), 1),
        "digests": sha256("".join(result.digest for result in results).encode()).hexdigest(),
    }


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()


if __name__ == "__main__":
    main()
