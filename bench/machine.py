"""What machine this is: CPU, cores, instruction sets, caches, memory, system. Knows no engine; measures nothing.

Every fact is best effort: one that the system does not tell is left out. The host's name is not among them.
"""

import os
import platform
import subprocess
from pathlib import Path

# The instruction sets that decide which int8, bf16 and fp16 kernels an engine can choose, under Linux's names.
FLAGS = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8",
    "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme",
)  # fmt: skip


def read(path: str) -> str:
    """Return a small file's text, or nothing where there is no such file."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def sysctl(name: str) -> str:
    """Return a macOS system value, or nothing elsewhere."""
    if platform.system() != "Darwin":
        return ""
    return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False).stdout.strip()


def cpuinfo() -> dict[str, str]:
    """Return the first processor's lines of Linux's /proc/cpuinfo."""
    first = read("/proc/cpuinfo").split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def caches() -> dict[str, int]:
    """Return bytes of each data cache that the first processor uses, as Linux tells: {"L1": .., "L2": .., "L3": ..}."""
    sizes = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        size = read(f"{folder}/size").strip()
        if size.endswith("K") and read(f"{folder}/type").strip() != "Instruction":
            sizes[f"L{read(f'{folder}/level').strip()}"] = int(size[:-1]) * 1024
    return sizes


def memory() -> dict[str, int]:
    """Return total and available bytes of memory, as far as the system tells."""
    lines = (line.split() for line in read("/proc/meminfo").splitlines())
    found = {words[0]: int(words[1]) * 1024 for words in lines if words[0] in ("MemTotal:", "MemAvailable:")}
    if not found and (total := sysctl("hw.memsize")):
        found["MemTotal:"] = int(total)
    names = {"MemTotal:": "total", "MemAvailable:": "available"}
    return {names[key]: value for key, value in found.items()}


def cores() -> dict[str, int]:
    """Return logical processors, those this process may use, and physical cores where Linux tells."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on this system: macOS, Windows
        allowed = list(range(os.cpu_count() or 1))
    found = {"logical": os.cpu_count() or 1, "usable": len(allowed)}
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    physical = {siblings for number in allowed if (siblings := read(topology.format(number)))}
    if physical:
        found["physical"] = len(physical)
    return found


def describe() -> dict:
    """Return the machine as one JSON-able dict."""
    processor = cpuinfo()
    flags = set((processor.get("flags") or processor.get("Features") or "").split())
    facts: dict = {
        "cpu": processor.get("model name") or sysctl("machdep.cpu.brand_string") or platform.processor(),
        "arch": platform.machine(),
        "cores": cores(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "virtual": "hypervisor" in flags,
        "caches": caches(),
        "memory": memory(),
        "os": platform.platform(),
    }
    for key in ("vendor_id", "cpu family", "model", "stepping"):  # a virtual machine's model name may say little
        if key in processor:
            facts[key.replace(" ", "_")] = processor[key]
    if hasattr(os, "getloadavg"):
        facts["load_before"] = round(os.getloadavg()[0], 2)
    return facts


def sentence(facts: dict) -> str:
    """Return the machine in one line of a report."""
    amount = facts["memory"].get("total")
    parts = [
        facts["cpu"] + (f" (family {facts['cpu_family']}, model {facts['model']})" if "cpu_family" in facts else ""),
        f"{facts['cores']['usable']} of {facts['cores']['logical']} processors" + (", virtual" * facts["virtual"]),
        " ".join(facts["flags"]) or facts["arch"],
        f"{amount / 2**30:.0f} GiB" if amount else "",
        facts["os"],
    ]
    return "; ".join(part for part in parts if part)
