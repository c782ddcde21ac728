"""How many cores a container may use, where that is fewer than the machine has.

Torch and numpy start a thread for each core that they see; the quota of a container (`docker run --cpus 2`) does not
show there. Threads beyond it only wait for their turn, and all others with them. Affinity (`taskset`, `--cpuset-cpus`)
is seen by OpenMP itself.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_SYSTEM, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
THREADS = "OMP_NUM_THREADS"


def heed_quota() -> None:
    """Let OpenMP start no more threads than there are cores to run them, unless its variable is set.

    To be called before numpy or torch is loaded.
    """
    found = quota()
    if found is not None and math.ceil(found) < (os.cpu_count() or 1):
        os.environ.setdefault(THREADS, str(math.ceil(found)))


def quota(system: Path = _SYSTEM, own: Path = _OWN) -> float | None:
    """Cores that this process's control groups grant together, the tightest of them; None without a quota.

    Args:
        system: where control groups are mounted.
        own: the file that names this process's.
    """
    return min((cores for folder in _folders(system, own) if (cores := _granted(folder)) is not None), default=None)


def _folders(system: Path, own: Path) -> Iterator[Path]:
    """Folders of the groups that limit this process, innermost first.

    Source: man cgroups(7), /proc/PID/cgroup: `NUMBER:CONTROLLERS:PATH`, without controllers in version 2.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = system / "cpu" if controllers else system
        # A container may see its own group as the top, under the path that it has outside.
        inner = top / path.strip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(top))


def _granted(folder: Path) -> float | None:
    """Cores that one control group grants; None where it sets no limit."""
    try:
        if (folder / "cpu.max").exists():  # version 2: `QUOTA PERIOD`, or `max PERIOD`
            told, period = (folder / "cpu.max").read_text().split()
        else:  # version 1: -1 is no limit
            told, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(told) / int(period) if told != "max" and int(told) > 0 and int(period) > 0 else None
    except (OSError, ValueError):
        return None
