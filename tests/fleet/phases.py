"""From KCL 2.x to 3.x without an outage: 2.5.4, 3.5.1 and ours together, phase by phase, with a roll-back on the way.

    tests/fleet/phases.py upgrade|java-only [PATH OF MULTILANGD]

upgrade     2.5.4 is replaced under ..._COMPATIBLE_WITH_2X_PHASE1, then ..._COMPATIBLE_WITH_2X, the fleet changes its rules, is
            rolled back, changes again, and ends at ..._3X
java-only   the same moves by Java workers alone: the measure for their logs

A fleet changes its rules by itself once it has been ready for ten minutes, and is rolled back by AWS's KclMigrationTool; here the
row is written in their place, as they write it.
"""

import re
import sys
import time

from fleet import APPLICATION, FAILOVER, OURS, SINGLE_TABLE, TAKING, Fleet, check, multilangd_of, need, run

PATIENCE = 240
RESCUE, QUICK = FAILOVER + 2, 2
ROW, INDEX = "Migration3.0", "LeaseOwnerToLeaseKeyIndex"
# A worker looks at the row once a minute, for the first time up to 90 s after its start.
FOLLOWS = 120
IN_JAVA = {"3X_WITH_ROLLBACK": "KCL workers are v3.x compliant, transition to", "2X": "A rollback has been initiated for the application"}
PHASE_1, PHASE_2, PHASE_3 = (
    dict(clientVersionConfig=f"CLIENT_VERSION_CONFIG_{name}") for name in ("COMPATIBLE_WITH_2X_PHASE1", "COMPATIBLE_WITH_2X", "3X")
)


class Upgrade(Fleet):
    ours = OURS

    def version(self):
        row = self.row(ROW)
        return row["cv"].removeprefix("CLIENT_VERSION_") if row else None

    def change(self, old, new, by):
        """Writes the row as Java does: its present state goes into the history, and nobody else may have changed it."""
        row = self.bench_row()
        entry = {"M": {name: row[name] for name in ("cv", "mb", "mts")}}
        self.dynamodb.update_item(
            TableName=APPLICATION, Key={"leaseKey": {"S": ROW}}, ConditionExpression="cv = :old",
            UpdateExpression="SET cv = :new, mb = :by, mts = :now, h = :history",
            ExpressionAttributeValues={
                ":old": {"S": f"CLIENT_VERSION_{old}"}, ":new": {"S": f"CLIENT_VERSION_{new}"}, ":by": {"S": by},
                ":now": {"N": str(int(time.time() * 1000))}, ":history": {"L": [entry, *row["h"]["L"]][:10]},
            },
        )

    def bench_row(self):
        return self.dynamodb.get_item(TableName=APPLICATION, Key={"leaseKey": {"S": ROW}}, ConsistentRead=True)["Item"]

    def index(self):
        table = self.dynamodb.describe_table(TableName=APPLICATION)["Table"]
        return next((i["IndexStatus"] for i in table.get("GlobalSecondaryIndexes", []) if i["IndexName"] == INDEX), None)

    def report(self, worker):
        row = self.row(worker.name)
        return row is not None and int(row["lut"]) > time.time() - 10

    def rules_change(self, old, new, by, sign, what, limit=None):
        """Every worker follows the row in its own time, so that both rules are played for a while."""

        def act():
            self.change(old, new, by)
            self.until(what, FOLLOWS, sign)

        self.event(f"{old} -> {new}", act, PATIENCE, limit)


def upgrade(fleet):
    ours = fleet.ours == OURS
    rescue, quick = (RESCUE, QUICK) if ours else (None, None)
    old = fleet.join(TAKING, "java-1", fleet.shards)
    # Phase 1: nothing in the table that 2.x could not read.
    first = fleet.join(fleet.ours, "ours-1", **PHASE_1)
    java = fleet.join(SINGLE_TABLE, "java-2", **PHASE_1)
    odd = [row["leaseKey"] for row in fleet.all_rows() if not row["leaseKey"].startswith("shardId-")]
    check(not odd, f"the lease table has rows that no 2.x worker can read: {odd}")
    fleet.split(0, PATIENCE, quick)
    fleet.stop(old, PATIENCE)
    # Phase 2: like 2.x, and getting ready for 3.x.
    second = fleet.join(fleet.ours, "ours-2", **PHASE_2)
    check(fleet.version() == "UPGRADE_FROM_2X", f"the row says {fleet.version()}")
    fleet.stop(first, PATIENCE)
    later = fleet.join(SINGLE_TABLE, "java-3", **PHASE_2)
    fleet.kill(java, PATIENCE, rescue)
    fleet.until("both report, and the index is there", 60, lambda: fleet.index() == "ACTIVE" and fleet.report(second) and fleet.report(later))
    fleet.rules_change("UPGRADE_FROM_2X", "3X_WITH_ROLLBACK", "java-3", fleet.leader, "somebody leads")
    fleet.until("nobody takes leases any more", FOLLOWS, lambda: all(follows(w, "3X_WITH_ROLLBACK") for w in (second, later)))
    fleet.merge(2, 3, PATIENCE)
    # Back, as KclMigrationTool does it: the row, and two minutes later the index.
    fleet.rules_change("3X_WITH_ROLLBACK", "2X", "KclMigrationTool-rollback", lambda: not fleet.leader(), "nobody leads")
    fleet.until("all are back", FOLLOWS, lambda: all(follows(w, "2X") for w in (second, later)))
    fleet.dynamodb.update_table(
        TableName=APPLICATION, AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": INDEX}}],
    )
    fleet.split(1, PATIENCE, quick)
    # And forward again.
    fleet.rules_change("2X", "UPGRADE_FROM_2X", "KclMigrationTool-rollforward", lambda: fleet.index() == "ACTIVE", "the index is there again")
    fleet.until("both report again", FOLLOWS, lambda: fleet.report(second) and fleet.report(later))
    fleet.rules_change("UPGRADE_FROM_2X", "3X_WITH_ROLLBACK", "ours-2", fleet.leader, "somebody leads again")
    fleet.until("nobody takes leases any more", FOLLOWS, lambda: all(follows(w, "3X_WITH_ROLLBACK", 2) for w in (second, later)))
    fleet.kill(later, PATIENCE, rescue)
    # Phase 3: for good.
    last = fleet.join(SINGLE_TABLE, "java-4", **PHASE_3)
    check(fleet.version() == "3X", f"the row says {fleet.version()}")
    third = fleet.join(fleet.ours, "ours-3", **PHASE_3)
    fleet.stop(second, PATIENCE)
    fleet.kill(last, PATIENCE, rescue)
    fleet.say(f"and {third.name} goes on by the rules of 3.x")


def follows(worker, state, times=1):
    """Whether the worker's log says, so often, that it has changed to these rules."""
    said = f"to=\"?CLIENT_VERSION_{state}\\b" if worker.make == OURS else IN_JAVA[state]
    return len(re.findall(said, worker.process.text())) >= times


def main():
    need(TAKING, SINGLE_TABLE)
    what = sys.argv[1]
    multilangd = multilangd_of(sys.argv[2] if len(sys.argv) > 2 else None)
    with Upgrade(f"phases-{what}", multilangd) as fleet:
        if what == "java-only":
            fleet.ours = SINGLE_TABLE
        upgrade(fleet)
        fleet.finish(measure=what == "java-only")


if __name__ == "__main__":
    run(main)
