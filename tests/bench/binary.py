"""The program as it is shipped: its size, what it needs to run, and how long it takes to say its version."""

import pathlib
import subprocess
import time

from measure import Figure
from world import JUDGES, environment, need_judge

TITLE = "The program"
TEXT = """\
The release build, stripped; the one *without local services* is built with `--no-default-features`. Java's daemon is its jars from Maven and a
JVM; it knows no `--version`, so that its start is the time until it has refused to start without a properties file."""

STARTS = 10


def run(world, options):
    programs = {"multilangd": world.programs / "multilangd", "without local services": world.programs / "multilangd-without-local"}
    size, jvm = Figure("size (MB)", "", {}, digits=1), Figure("JVM beside it (MB)", "", {}, digits=0)
    libraries = Figure("dynamic libraries, beside the C library's", "", {})
    start = Figure("start (ms)", "", {}, digits=1)
    for who, program in programs.items():
        size.runs[who] = [program.stat().st_size / 1e6]
        libraries.runs[who] = [len(needed(program))]
        world.say(f"{who} needs {', '.join(needed(program)) or 'nothing'}")
        started(start, who, [program, "--version"], options.runs * STARTS)
    if "Java" in options.peers:
        need_judge("java-3.5.1")
        jars = JUDGES / "java-3.5.1"
        size.runs["Java"] = [sum(jar.stat().st_size for jar in jars.glob("*.jar")) / 1e6]
        java = pathlib.Path(subprocess.run(["which", "java"], capture_output=True, check=True, text=True).stdout.strip()).resolve()
        jvm.runs["Java"] = [sum(file.lstat().st_size for file in java.parents[1].rglob("*") if file.is_file() and not file.is_symlink()) / 1e6]
        daemon = ["java", "-cp", f"{jars}/*", "software.amazon.kinesis.multilang.MultiLangDaemon"]
        started(start, "Java", daemon, options.runs)
    return [size, jvm, libraries, start]


def needed(program):
    """The dynamic libraries of a program that are not parts of the C library."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    names = [line.split()[0].rsplit("/", 1)[-1] for line in listed.splitlines() if line.strip()]
    of_libc = ("linux-vdso", "ld-linux", "libc.", "libm.", "libpthread.", "libdl.", "librt.", "statically", "not")
    return [name for name in names if not name.startswith(of_libc)]


def started(start, who, command, times):
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), check=False)
        start.runs.setdefault(who, []).append((time.perf_counter() - began) * 1e3)


def tables(figures):
    return [("the program", [figure for figure in figures if figure.runs], [])]
