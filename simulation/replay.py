"""Replay files: what repeats a run in which an invariant broke."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from node.engine.groups.fork_choice import RULES
from schemas.errors import Blame, Refused
from simulation.run import TIERS, Plan, Result, scenarios_of
from simulation.world.means import NAMES

FORMAT = 1


def write_replay(folder: Path, result: Result) -> Path:
    """One file for one violation, in `folder`; answers where. Raises OSError."""
    plan, finding = result.plan, result.finding
    path = folder / f"replay-{plan.scenario}-{plan.nodes}-{plan.seed}.json"
    content = {
        "format": FORMAT,
        "version": version("quicnprotochat"),
        "plan": asdict(plan),
        "digest": result.digest,
        "violation": None if finding is None else asdict(finding),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return path


def read_replay(path: Path) -> tuple[Plan, str]:
    """The plan, and the digest that the event log had. Raises Refused `bad-replay`, OSError."""
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        plan = Plan(**content["plan"])
        known = plan.tier in TIERS and plan.scenario in scenarios_of(plan.tier)
        if not known or plan.mls not in NAMES or plan.rule not in RULES:
            raise ValueError(f"no scenario {plan.scenario!r}")
        return plan, str(content["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(
            "bad-replay",
            f"{path} is no replay file of this version: {error}",
            blame=Blame.CALLER,
            hint="a run that breaks an invariant writes one",
        ) from error
