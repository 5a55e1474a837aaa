"""What the Java workers complain about, in a form that can be compared: a fleet of Java alone is the measure.

`java-only/MAKE.txt` holds every kind of warning and error that fleets of that make alone wrote in the same events, one a line; the
`java-only` scenarios add to it. Anything else is strange.
"""

import pathlib
import re

KNOWN = pathlib.Path(__file__).resolve().parent / "java-only"
COMPLAINT = re.compile(r"\b(WARN|ERROR)\b\s+(.*)")
CHILDREN = re.compile(r"STDERR|Received error line from subprocess")


def kind(line):
    """A complaint without what differs from run to run; None for a line that is none."""
    match = COMPLAINT.search(line)
    if not match or CHILDREN.search(line):
        return None
    text = f"{match[1]} {match[2]}"
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"\b(java|ours)-?\w*\b", "WORKER", text)
    text = re.sub(r"(/tmp|/work)\S*", "PATH", text)
    text = re.sub(r"@[0-9a-f]{5,}", "@X", text)
    text = re.sub(r"\d+(\.\d+)?", "N", text)
    return text[:240].strip()


def complaints(text):
    return {k for k in map(kind, text.splitlines()) if k}


def known(make):
    path = KNOWN / f"{make}.txt"
    return set(path.read_text().splitlines()) if path.exists() else set()


def strange(workers):
    return sorted({f"{w.make}: {k}" for w in workers for k in complaints(w.process.text()) - known(w.make)})


def remember(workers):
    KNOWN.mkdir(exist_ok=True)
    for w in workers:
        kinds = known(w.make) | complaints(w.process.text())
        (KNOWN / f"{w.make}.txt").write_text("".join(f"{k}\n" for k in sorted(kinds)))
