"""What a process costs, and what several runs of it say."""

import dataclasses
import pathlib
import statistics
import time


def cpu_seconds(pid):
    """CPU time of a process, all its threads, without its children; in nanoseconds' steps (/proc has ticks of 10 ms)."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3)


def memory_mb(pid, what="VmRSS"):
    """Resident memory of a process in MB of 10^6 bytes; `VmHWM` is the most it ever had."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(what)


def rates(process, counts, seconds):
    """CPU seconds of the process and records of its children, both per second, over so long a time."""
    cpu, records, began = cpu_seconds(process.pid), counts.sum(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return (cpu_seconds(process.pid) - cpu) / took, (counts.sum() - records) / took


def threads(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/task").iterdir()))


@dataclasses.dataclass
class Figure:
    """One line of a table: what was measured, and each contender's runs, in order. Runs with the same number are compared."""

    what: str
    unit: str
    runs: dict  # who -> [value]
    digits: int = 0  # after the point

    def spread(self, who):
        values = self.runs.get(who)
        return spread(values, lambda v: number(v, self.digits)) if values else "–"

    def ratio(self, who, other):
        """`who` divided by `other`, run by run."""
        pairs = [a / b for a, b in zip(self.runs.get(who, []), self.runs.get(other, [])) if b]
        return spread(pairs, lambda v: f"{v:.1f}" if v >= 1 else f"{v:.2f}") if pairs else "–"


def spread(values, text):
    """The median, and in brackets the least and the most."""
    middle, low, high = text(statistics.median(values)), text(min(values)), text(max(values))
    return middle if low == high else f"{middle} ({low}–{high})"


def number(value, digits=0):
    """Three figures are enough of a large number."""
    if digits == 0 and value >= 1000:
        step = 10 ** (len(str(int(value))) - 3)
        value = round(value / step) * step
    return f"{value:,.{digits}f}"
