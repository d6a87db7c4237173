"""All planted bugs, by name."""

from __future__ import annotations

from typing import Final

from simulation.planted.bug import Bug
from simulation.planted.carrying import CARRYING
from simulation.planted.choosing import CHOOSING
from simulation.planted.mending import MENDING

BUGS: Final[dict[str, Bug]] = {bug.name: bug for bug in (*CHOOSING, *MENDING, *CARRYING)}
