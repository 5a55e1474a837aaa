#!/usr/bin/env python3
"""Runs benches, prints their tables, and writes them into docs/BENCHMARKS.md.

    make bench                  all of them, beside Java and kcl-rs, in about two hours; an hour with PEERS= (nobody beside us).
                                BENCH=NAME… picks, RUNS=5, RESUME=1 leaves out what was done with this very binary, SOAK=120 soaks for
                                two hours instead of half of one
    make bench-short            a few minutes: ours and the floor only; writes nothing

Each bench is a module with a TITLE, a TEXT, `run(world, options)`, which gives figures, and `tables(figures)`. It runs in a process of its
own, with a limit in time; whatever it started ends with it.
"""

import argparse
import dataclasses
import datetime
import hashlib
import importlib
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path.insert(0, str(HERE))

from measure import Figure  # noqa: E402
from world import Failed, World  # noqa: E402

#: In the order of the page, with the minutes that each may take.
BENCHES = {"backlog": 20, "steady": 30, "start": 15, "catch_up": 15, "table_cost": 20, "crowd": 20, "spawn": 10, "clients": 10, "soak": 10, "binary": 5}
PAGE = REPOSITORY / "docs" / "BENCHMARKS.md"


@dataclasses.dataclass
class Options:
    runs: int
    peers: list
    short: bool
    soak_min: int

    def contenders(self, *able):
        """Those of the contenders that can take part which are wanted."""
        return [who for who in able if who == "multilangd" or who in self.peers]

    def sessions(self, who):
        """How many windows each life of a daemon gives: the peers live for all of them, because they take half a minute to
        start, and a JVM still longer to be warm."""
        return [1] * self.runs if who == "multilangd" else [self.runs]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("benches", nargs="*", metavar="BENCH", help=f"of {', '.join(BENCHES)}; none: all")
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--peers", default="Java,kcl-rs")
    arguments.add_argument("--short", action="store_true", help="ours and the floor, two runs, nothing written")
    arguments.add_argument("--resume", action="store_true", help="leave out what was done with this very binary")
    arguments.add_argument("--soak", type=int, default=30, metavar="MINUTES")
    arguments.add_argument("--programs", type=pathlib.Path, required=True, help="where the release build is")
    arguments.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    unknown = [name for name in given.benches if name not in BENCHES]
    if unknown:
        sys.exit(f"no bench is called {unknown[0]}: there are {', '.join(BENCHES)}")
    if given.short:
        given.runs, given.peers = min(given.runs, 2), ""
    if given.one:
        return one(given)
    build_c(given.programs)
    results = given.programs.parent / ("bench-short" if given.short else "bench")
    results.mkdir(exist_ok=True)
    failed = [name for name in given.benches or BENCHES if not bench(name, given, results)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def build_c(programs):
    for name in ("child", "drive", "floor"):
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", programs / f"bench-{name}", HERE / f"{name}.c"], check=True)


def bench(name, given, results):
    """Runs one bench in a process of its own; whether it gave a result."""
    result = results / f"{name}.json"
    binary = hashlib.sha256((given.programs / "multilangd").read_bytes()).hexdigest()[:12]
    if given.resume and result.exists() and json.loads(result.read_text())["binary"] == binary:
        print(f"{name}: done before", flush=True)
    else:
        made_by = versions(given)  # before the run: the repository may go on
        words = [sys.executable, __file__, "--one", name, "--runs", str(given.runs), "--peers", given.peers,
                 "--soak", str(given.soak), "--programs", given.programs]
        minutes = BENCHES[name] + (given.soak if name == "soak" else 0)
        process = subprocess.Popen([*words, *(["--short"] if given.short else [])], stdout=subprocess.PIPE, text=True)
        try:
            out, _ = process.communicate(timeout=minutes * 60)
        except subprocess.TimeoutExpired:
            print(f"{name}: not done within {minutes} minutes", flush=True)
            process.send_signal(signal.SIGTERM)  # ends what it started
            process.communicate(timeout=60)
            return False
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            raise
        if process.returncode:
            return False
        result.write_text(json.dumps(dict(
            json.loads(out), binary=binary, machine=machine(), date=datetime.date.today().isoformat(), versions=made_by, command=command(name, given),
        ), indent=1))
    text = section(name, json.loads(result.read_text()))
    print(text, flush=True)
    if not given.short:
        write(name, text)
    return True


def command(name, given):
    """What somebody types who wants these figures."""
    words = f"make bench BENCH={name}"
    if given.runs != 5:
        words += f" RUNS={given.runs}"
    if name == "soak" and given.soak != 30:
        words += f" SOAK={given.soak}"
    return words


def one(given):
    """In the process of its own: runs the bench, gives its figures to standard output, everything else to standard error."""
    (name,) = given.benches
    answers, sys.stdout = sys.stdout, sys.stderr
    options = Options(given.runs, [peer for peer in given.peers.split(",") if peer], given.short, given.soak)
    try:
        with World(name, given.programs.resolve()) as world:
            figures = importlib.import_module(name).run(world, options)
    except Failed as failed:
        sys.exit(f"{name}: {failed}")
    json.dump({"figures": [dataclasses.asdict(figure) for figure in figures]}, answers)


def section(name, result):
    """A bench's part of the page."""
    module = importlib.import_module(name)
    figures = [Figure(**figure) for figure in result["figures"]]
    parts = [f"### {module.TITLE}", module.TEXT]
    for title, rows, ratios in module.tables(figures):
        if rows:
            parts.append(table(title, rows, ratios))
    parts.append(f"`{result['command']}`, {result['date']}, {result['machine']}; {result['versions']}.")
    return "\n\n".join(parts)


def table(title, rows, ratios):
    """Figures as rows and contenders as columns; `ratios` are (other, whether less is better)."""
    who = list(dict.fromkeys(each for row in rows for each in row.runs))
    ratios = [(other, less) for other, less in ratios if other in who]
    heads = [title, *who]
    heads += [f"{other} / multilangd" if less else f"multilangd / {other}" for other, less in ratios]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.what, *(row.spread(each) for each in who)]
        cells += [row.ratio(*((other, "multilangd") if less else ("multilangd", other))) for other, less in ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(name, text):
    """Into the page, between the bench's marks."""
    begin, end = f"<!-- bench {name} -->", f"<!-- end of bench {name} -->"
    page = PAGE.read_text()
    if begin not in page:
        sys.exit(f"{PAGE} has no {begin}")
    before, rest = page.split(begin, 1)
    PAGE.write_text(before + begin + "\n" + text + "\n" + end + rest.split(end, 1)[1])


def machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {gigabytes:.0f} GB, Linux {platform.release()}"


def versions(given):
    commit = said("git", "-C", REPOSITORY, "describe", "--always", "--dirty")
    found = [f"multilangd at {commit}, {said('rustc', '--version').split(' (')[0]}"]
    if "kcl-rs" in given.peers:
        found.append("kcl-rs 0.1.4")
    if "Java" in given.peers:
        found.append("KCL 3.5.1, " + said("java", "-version").splitlines()[0].replace('"', ""))
    return ", ".join(found)


def said(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
