"""How many threads this process may really use. Knows affinity, control groups and cores, and nothing of what runs on them."""

import os
from pathlib import Path

__all__ = ["granted"]


def granted() -> int:
    """Threads that computation may keep busy at once, at least 1.

    The smallest of: processors that the affinity mask allows, the processor time that the control group grants (cgroup v2
    `cpu.max`, v1 `cpu.cfs_quota_us`), and physical cores (two hyper-threads share the one vector unit that matrix products
    saturate).
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on this system: macOS, Windows
        return os.cpu_count() or 1
    return max(1, min(len(allowed), _quota(), _cores(allowed)))


def _quota() -> int:
    """Processors granted by the tightest control group from this process up to the root, rounded up."""
    best = 1 << 16
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return best
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = Path("/sys/fs/cgroup") / (controllers and "cpu")
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            best = min(best, _limit(folder))
            if folder == mount:
                break
    return best


def _limit(folder: Path) -> int:
    """Processors that one control group grants, a large number where it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        if quota != "max" and int(quota) > 0:
            return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass  # no such file, or a kernel that writes it otherwise: no limit known
    return 1 << 16


def _cores(processors: set[int]) -> int:
    """Physical cores among the given processors."""
    cores = set()
    for processor in processors:
        try:
            siblings = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
            cores.add(siblings.read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(processor))
    return len(cores)
