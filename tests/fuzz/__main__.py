"""`python -m tests.fuzz [TARGET…] [--seconds S]`: the time is shared by the targets."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import TARGETS, Target, corpus_file

PROCESSES = 2
LEAST_S = 2
TOO_SLOW_S = 5
MEMORY_MIB = 1024


def start(target: Target, seconds: int, work: Path) -> subprocess.Popen[bytes]:
    """The target at work on its seeds and corpus; what it finds lies in `work` afterwards."""
    folder = work / target.name
    folder.mkdir()
    for number, known in enumerate(target.known()):
        (folder / f"known-{number}").write_bytes(known)
    with (work / f"{target.name}.log").open("wb") as log:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.fuzz.run",
                target.name,
                f"-max_total_time={seconds}",
                f"-timeout={TOO_SLOW_S}",
                f"-rss_limit_mb={MEMORY_MIB}",
                "-max_len=4096",
                f"-artifact_prefix={work}/found-{target.name}-",
                str(folder),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def keep(work: Path, name: str) -> int:
    """Adds what broke a target to its corpus; how many inputs."""
    found = [path.read_bytes() for path in sorted(work.glob(f"found-{name}-*"))]
    with corpus_file(name).open("a") as lines:
        lines.writelines(f"{each.hex()}\n" for each in found)
    return len(found)


def report(target: Target, exit_status: int, work: Path) -> bool:
    """True when nothing was found."""
    lines = (work / f"{target.name}.log").read_text(errors="replace").splitlines()
    done = next((line for line in reversed(lines) if line.startswith("Done ")), "")
    if exit_status == 0:
        print(f"{target.name}: {done or 'nothing found'}", flush=True)
        return True
    print("\n".join(lines[-40:]))
    print(f"{target.name}: FOUND {keep(work, target.name)}, now in its corpus", flush=True)
    return False


def main() -> int:
    """1 when a target did what its contract does not allow; the input is then in the corpus."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.targets) - set(TARGETS))
    if unknown:
        parser.error(f"no target {', '.join(unknown)}; there are: {', '.join(TARGETS)}")
    waiting = [TARGETS[name] for name in arguments.targets or TARGETS]
    each = max(LEAST_S, arguments.seconds * PROCESSES // len(waiting))
    good = True
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        work = Path(folder)
        while waiting:
            now, waiting = waiting[:PROCESSES], waiting[PROCESSES:]
            running = [(target, start(target, each, work)) for target in now]
            for target, process in running:
                good &= report(target, process.wait(), work)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
