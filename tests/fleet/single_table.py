"""Fleets with Java 3.5.1: leases, leader, states and metrics in a single table.

    tests/fleet/single_table.py follow|lead|deaf|short|java-only [PATH OF MULTILANGD]

follow      Java leads: we join, get leases handed over, and leave in both ways; then the leader is killed
lead        we lead: Java joins, gets leases handed over, and leaves in both ways; then our leader leaves. Java looks for what it
            was given every 10 s, as it does by default
deaf        children that never answer shutdownRequested: each make's owner loses the lease after gracefulLeaseHandoffTimeoutMillis
short       a Java leader, one of ours, a split, a kill
java-only   the same moves by Java workers alone: what their logs say there is what they may say beside us
"""

import sys

from fleet import FAILOVER, OURS, SINGLE_TABLE, Fleet, check, multilangd_of, need, run

# What is promised: our peers see a lease expire after FAILOVER, and act within 2 s.
RESCUE = FAILOVER + 2
# After a split or a merge under a leader of ours.
QUICK = 2
# In the short scenario, beside other tests: less than the 120 s that a Java leader's lock would stand.
SHORT = 30
PATIENCE = 240


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
    java = fleet.join(SINGLE_TABLE, "java-1", fleet.shards)
    check(fleet.leader() == "java-1", f"the leader is {fleet.leader()}")
    first = fleet.join(ours, "ours-1")
    check(handed_over(fleet, java, first), "nothing was handed over from Java to us")
    fleet.split(0, PATIENCE)
    fleet.merge(2, 3, PATIENCE)
    fleet.stop(first, PATIENCE)
    second = fleet.join(ours, "ours-2")
    fleet.kill(second, PATIENCE)
    third = fleet.join(ours, "ours-3")
    # One of ours is left, and does not wait for the leader.
    rescue = RESCUE if ours == OURS else None
    fleet.kill(fleet.join(ours, "ours-4"), PATIENCE, rescue)
    fleet.kill(fleet.join(SINGLE_TABLE, "java-2"), PATIENCE, rescue)
    check(fleet.leader() == "java-1", f"the leader is {fleet.leader()}")
    fleet.kill(java, PATIENCE, rescue)


def lead(fleet, ours=OURS):
    leader = fleet.join(ours, "ours-1", fleet.shards)
    first = fleet.join(SINGLE_TABLE, "java-1")
    check(fleet.leader() == "ours-1", f"the leader is {fleet.leader()}")
    check(handed_over(fleet, leader, first), "nothing was handed over from us to Java")
    second = fleet.join(SINGLE_TABLE, "java-2")
    fleet.split(0, PATIENCE, QUICK)
    fleet.merge(2, 3, PATIENCE, QUICK)
    fleet.stop(first, PATIENCE)
    fleet.kill(second, PATIENCE, RESCUE)
    third = fleet.join(SINGLE_TABLE, "java-3")
    follower = fleet.join(ours, "ours-2")
    fleet.kill(follower, PATIENCE, RESCUE)
    follower = fleet.join(ours, "ours-3")
    fleet.stop(leader, PATIENCE)
    fleet.kill(follower, PATIENCE)
    fleet.say(f"and {third.name} goes on alone")


def leave(fleet):
    """Java workers that stop beside a Java leader, just when a shard of theirs has ended: what they complain about then."""
    fleet.join(SINGLE_TABLE, "java-1", fleet.shards)
    for name in ("java-2", "java-3"):
        worker = fleet.join(SINGLE_TABLE, name)
        shard = fleet.owned(worker)[0]
        fleet.stream.split(int(shard[-12:]))
        fleet.until(f"{shard} has ended", 30, lambda: ("shardEnded", shard) in {(e[4], e[3]) for e in fleet.notes.look().events})
        fleet.stop(worker, PATIENCE)


def deaf(fleet):
    """An owner whose child never answers loses the lease in the end: gracefulLeaseHandoffTimeoutMillis is kept by both makes."""
    leader = fleet.join(OURS, "ours-1", fleet.shards, deaf=True)
    java = fleet.join(SINGLE_TABLE, "java-1", deaf=True)
    check(fleet.leader() == "ours-1", f"the leader is {fleet.leader()}")
    fleet.kill(leader, PATIENCE)
    fleet.until("java-1 leads", 120, lambda: fleet.leader() == "java-1")
    fleet.join(OURS, "ours-2")
    # A Java leader may now give the lease back to java-1, which then renews it for ever beside its deaf child: not for us to heal.
    fleet.kill(java, PATIENCE, RESCUE)


def short(fleet):
    java = fleet.join(SINGLE_TABLE, "java-1", fleet.shards)
    fleet.join(OURS, "ours-1")
    fleet.split(0, PATIENCE)
    fleet.kill(java, PATIENCE, SHORT)


SCENARIOS = {"follow": follow, "lead": lead, "deaf": deaf, "short": short}


def main():
    need(SINGLE_TABLE)
    what = sys.argv[1]
    multilangd = multilangd_of(sys.argv[2] if len(sys.argv) > 2 else None)
    if what == "java-only":
        for moves in (leave, lambda fleet: follow(fleet, SINGLE_TABLE)):
            with Fleet("java-only", multilangd) as fleet:
                moves(fleet)
                fleet.finish(measure=True)
        return
    pace = dict(leaseAssignmentIntervalMillis=20000) if what == "lead" else {}
    with Fleet(what, multilangd, **pace) as fleet:
        SCENARIOS[what](fleet)
        fleet.finish()


if __name__ == "__main__":
    run(main)
