"""Fleets with Java 2.5.4: leases are taken and stolen, nobody assigns them, and the table may hold nothing but leases.

    tests/fleet/taking.py roll|short|java-only [PATH OF MULTILANGD]

roll        a fleet of 2.5.4 is replaced by ours, worker by worker, then goes back; each side leaves in both ways, under a reshard
short       one worker of each
java-only   the same moves by Java workers alone: the measure for their logs
"""

import sys

from fleet import FAILOVER, OURS, TAKING, Fleet, check, multilangd_of, need, run

PATIENCE = 120
RESCUE, QUICK = FAILOVER + 2, 2
AS_2X = dict(clientVersionConfig="CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1")


class Rolling(Fleet):
    """Workers of ours play by the rules of 2.x here."""

    ours = OURS

    def join_ours(self, name):
        return self.join(self.ours, name, **(AS_2X if self.ours == OURS else {}))

    def join_java(self, name):
        return self.join(TAKING, name)

    def join(self, make, name, **more):
        worker = super().join(make, name, **more)
        self.only_leases()
        return worker

    def owned(self, worker):
        """Finished ones too: what a newcomer steals is chance, and where shards are busy, seldom theirs."""
        return sorted(key for key, row in self.leases().items() if row.get("leaseOwner") == worker.name)

    def only_leases(self):
        """A 2.x worker fails at the first row that is no lease."""
        odd = [row["leaseKey"] for row in self.all_rows() if not row["leaseKey"].startswith("shardId-")]
        check(not odd, f"the lease table has rows that no 2.x worker can read: {odd}")


def roll(fleet):
    rescue, quick = (RESCUE, QUICK) if fleet.ours == OURS else (None, None)
    first, second = fleet.join_java("java-1"), fleet.join_java("java-2")
    fleet.stop(first, PATIENCE)
    ours = fleet.join_ours("ours-1")
    fleet.split(0, PATIENCE, quick)
    fleet.merge(2, 3, PATIENCE, quick)
    fleet.kill(second, PATIENCE, rescue)
    other = fleet.join_ours("ours-2")
    fleet.split(1, PATIENCE, quick)
    third = fleet.join_java("java-3")
    fleet.kill(other, PATIENCE, rescue)
    fleet.stop(third, PATIENCE)
    fourth = fleet.join_java("java-4")
    fleet.stop(ours, PATIENCE)
    fleet.only_leases()
    fleet.say(f"and {fourth.name} has it all again")


def short(fleet):
    java = fleet.join_java("java-1")
    ours = fleet.join_ours("ours-1")
    fleet.split(0, PATIENCE)
    fleet.kill(java, PATIENCE)
    fleet.only_leases()
    return ours


def main():
    need(TAKING)
    what = sys.argv[1]
    multilangd = multilangd_of(sys.argv[2] if len(sys.argv) > 2 else None)
    with Rolling(f"taking-{what}", multilangd) as fleet:
        if what == "java-only":
            fleet.ours = TAKING
            roll(fleet)
        else:
            {"roll": roll, "short": short}[what](fleet)
        fleet.finish(measure=what == "java-only")


if __name__ == "__main__":
    run(main)
