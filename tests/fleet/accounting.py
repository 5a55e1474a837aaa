"""What was put, what the children noted, and whether both agree: every record at least once, in order per key, duplicates counted.

Pure but for reading the notes. Times are seconds of the machine's clock, the same for the producer and for all children.
"""

import collections

from bench import check

Put = collections.namedtuple("Put", "time shard number key n")


class Notes:
    """The lines that the children of all workers have appended so far, read on from where the last look ended."""

    def __init__(self, directory):
        self.directory, self.offsets = directory, {}
        self.events = []  # (time, worker, pid, shard, what, sequence number or None)
        self.first = {}  # (shard, sequence number) -> time of its first delivery, and the worker

    def look(self):
        for path in sorted(self.directory.glob("*.notes")):
            with open(path, "rb") as notes:
                notes.seek(self.offsets.get(path, 0))
                text = notes.read()
            whole = text.rfind(b"\n") + 1
            self.offsets[path] = self.offsets.get(path, 0) + whole
            for line in text[:whole].decode().splitlines():
                time, pid, shard, what, number = line.split(" ")
                event = (float(time), path.stem, int(pid), shard, what, int(number) if number.isdigit() else None)
                self.events.append(event)
                if what == "record":
                    where = (shard, event[5])
                    self.first[where] = min(event[:2], self.first.get(where, event[:2]))
        return self

    def tenures(self):
        """(worker, pid, shard) -> its events in order; one for each child."""
        out = {}
        for event in sorted(self.events, key=lambda e: e[0]):  # stable: the lines of one child stay as it wrote them
            out.setdefault(event[1:4], []).append(event)
        return out


def undelivered(puts, notes):
    return [p for p in puts if (p.shard, p.number) not in notes.first]


def account(puts, notes):
    """Checks every promise that holds in any fleet; gives the number of deliveries beyond the first, by worker."""
    missing = undelivered(puts, notes)
    check(not missing, f"{len(missing)} of {len(puts)} records were never delivered, the first: {missing[:1]}")
    shards = collections.defaultdict(list)
    for p in puts:
        shards[p.shard].append(p.number)
    place = {}
    for shard, numbers in shards.items():
        check(numbers == sorted(numbers), f"the stream itself mixed up the order in {shard}")
        place.update({(shard, number): i for i, number in enumerate(numbers)})
    again = collections.Counter()
    reached = collections.Counter()  # shard -> how many of its first records were delivered
    for (worker, pid, shard), events in notes.tenures().items():
        numbers = [e[5] for e in events if e[4] == "record"]
        unknown = [n for n in numbers if (shard, n) not in place]
        check(not unknown, f"{worker} delivered {unknown[:1]} of {shard}, which nobody put there")
        places = [place[shard, n] for n in numbers]
        if not places:
            continue
        whole = places == list(range(places[0], places[0] + len(places)))
        check(whole, f"the child {pid} of {worker} did not get {shard} in one piece and in order: {odd_place(places)}")
        check(places[0] <= reached[shard], f"the child {pid} of {worker} began {shard} at record {places[0]}, but only {reached[shard]} had been delivered")
        again[worker] += sum(i < reached[shard] for i in places)
        reached[shard] = max(reached[shard], places[-1] + 1)
    keys = collections.defaultdict(list)
    for p in puts:
        keys[p.key].append((notes.first[p.shard, p.number][0], p.n, p.shard))
    for key, seen in keys.items():
        by_number = sorted(seen, key=lambda s: s[1])
        for before, after in zip(by_number, by_number[1:]):
            check(before[0] <= after[0], f"record {after[1]} of key {key} ({after[2]}) was delivered before record {before[1]} ({before[2]})")
    return again


def odd_place(places):
    return next((f"record {b} came after record {a}" for a, b in zip(places, places[1:]) if b != a + 1), "nothing odd")


def waits(puts, notes, begin, end):
    """Shard -> (the longest that a record of it waited for its first delivery, the worker that then got it).

    Counted from `begin` for records put a little before it.
    """
    out = {}
    for p in puts:
        delivered, worker = notes.first.get((p.shard, p.number), (0, None))
        if begin - 5 <= p.time <= end and delivered >= begin:
            out[p.shard] = max(out.get(p.shard, (0.0, worker)), (delivered - max(p.time, begin), worker))
    return out
