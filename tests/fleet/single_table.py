"""Fleets with Java 3.5.1: leases, leader, states and metrics in a single table.

    tests/fleet/single_table.py follow|lead|short|java-only [PATH OF MULTILANGD]

follow      Java leads: we join, get leases handed over, and leave in both ways; then the leader is killed
lead        we lead: Java joins, gets leases handed over, and leaves in both ways; then our leader leaves
short       a minute and a half of both
java-only   the same moves by Java workers alone: what their logs say there is what they may say beside us
"""

import sys

from fleet import FAILOVER, OURS, SINGLE_TABLE, Fleet, check, multilangd_of, need, run

# What is promised: our peers see a lease expire after FAILOVER, and act within 2 s.
RESCUE = FAILOVER + 2
QUICK = 2
PATIENCE = 240


def joined(fleet, worker, least=1, limit=120):
    """Waits until a worker that joined has got leases, and looks at the hand-overs."""
    fleet.until(f"{worker.name} has leases", limit, lambda: len(fleet.owned(worker)) >= least)
    fleet.all_flow(60)


def handed_over(fleet, old, new):
    """The first tenure of `new` on a shard of `old` began exactly where `old` had checkpointed."""
    fleet.notes.look()
    tenures = fleet.notes.tenures()
    seen = 0
    for (worker, pid, shard), events in tenures.items():
        before = [e for (w, _, s), es in tenures.items() if (w, s) == (old.name, shard) for e in es]
        if worker != new.name or not before or events[0][0] < before[-1][0] - 30:
            continue
        asked = [e for e in before if e[4] == "shutdownRequested" and e[0] <= events[0][0]]
        stored = [e for e in before if e[4] == "stored" and e[0] <= events[0][0] and e[5] is not None]
        if not asked or not stored:
            continue
        check(
            events[0][5] == stored[-1][5],
            f"{new.name} began {shard} at {events[0][5]}, but {old.name} had checkpointed {stored[-1][5]}",
        )
        seen += 1
    fleet.say(f"{seen} shards handed over from {old.name} to {new.name}, each at the checkpoint that was left")
    return seen


def follow(fleet, ours=OURS):
    java = fleet.start(SINGLE_TABLE, "java-1")
    joined(fleet, java, fleet.shards, 300)
    check(fleet.leader() == "java-1", f"the leader is {fleet.leader()}")
    first = fleet.start(ours, "ours-1")
    joined(fleet, first)
    check(handed_over(fleet, java, first), "nothing was handed over from Java to us")
    fleet.split(0, PATIENCE)
    fleet.merge(2, 3, PATIENCE)
    fleet.stop(first, PATIENCE)
    second = fleet.start(ours, "ours-2")
    joined(fleet, second)
    fleet.kill(second, PATIENCE)
    third = fleet.start(ours, "ours-3")
    joined(fleet, third)
    check(fleet.leader() == "java-1", f"the leader is {fleet.leader()}")
    fleet.kill(java, PATIENCE, RESCUE if ours == OURS else None)


def lead(fleet, ours=OURS):
    leader = fleet.start(ours, "ours-1")
    joined(fleet, leader, fleet.shards, 300)
    first = fleet.start(SINGLE_TABLE, "java-1")
    joined(fleet, first)
    check(fleet.leader() == "ours-1", f"the leader is {fleet.leader()}")
    check(handed_over(fleet, leader, first), "nothing was handed over from us to Java")
    fleet.split(0, PATIENCE)
    fleet.merge(2, 3, PATIENCE)
    fleet.stop(first, PATIENCE)
    second = fleet.start(SINGLE_TABLE, "java-2")
    joined(fleet, second)
    fleet.kill(second, PATIENCE, RESCUE if ours == OURS else None)
    third = fleet.start(SINGLE_TABLE, "java-3")
    joined(fleet, third)
    follower = fleet.start(ours, "ours-2")
    joined(fleet, follower)
    fleet.stop(leader, PATIENCE)
    fleet.kill(follower, PATIENCE)


def short(fleet, ours=OURS):
    java = fleet.start(SINGLE_TABLE, "java-1")
    first = fleet.start(ours, "ours-1")
    joined(fleet, first)
    joined(fleet, java)
    fleet.split(0, PATIENCE)
    fleet.kill(java, PATIENCE, RESCUE if ours == OURS else None)


SCENARIOS = {"follow": follow, "lead": lead, "short": short}


def main():
    need(SINGLE_TABLE)
    what = sys.argv[1]
    multilangd = multilangd_of(sys.argv[2] if len(sys.argv) > 2 else None)
    if what == "java-only":
        with Fleet("java-only", multilangd) as fleet:
            follow(fleet, SINGLE_TABLE)
            fleet.finish(measure=True)
        return
    with Fleet(what, multilangd) as fleet:
        SCENARIOS[what](fleet)
        fleet.finish()


if __name__ == "__main__":
    run(main)
