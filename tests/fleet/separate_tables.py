"""Fleets with Java 3.1.3: leader, states and worker metrics in tables of their own, and the way to the single table.

    tests/fleet/separate_tables.py roll|migrate|short|java-only [PATH OF MULTILANGD]

roll        a fleet of 3.1.3 is replaced by ours, worker by worker, then goes back; each side leaves in both ways, under a reshard.
            Java looks for what it was given every 10 s, as it does by default
migrate     a fleet of 3.1.3, then ours, then the single table: each bake time of an hour is made over by setting its beginning back
short       one worker of each
java-only   the same moves by Java workers alone: the measure for their logs
"""

import sys

from fleet import APPLICATION, FAILOVER, OURS, SEPARATE_TABLES, SINGLE_TABLE, Fleet, check, multilangd_of, need, run

PATIENCE = 240
RESCUE, QUICK = FAILOVER + 2, 2
STATES, METRICS = f"{APPLICATION}-CoordinatorState", f"{APPLICATION}-WorkerMetricStats"
MIGRATION = "TableMigration3.5"
HOUR = 3600


class Rolling(Fleet):
    ours = OURS

    def join(self, make, name, least=1, **more):
        worker = super().join(make, name, least, **more)
        self.separate()
        return worker

    def join_ours(self, name, **more):
        return self.join(self.ours, name, **more)

    def join_java(self, name, **more):
        return self.join(SEPARATE_TABLES, name, **more)

    def separate(self):
        """What no 3.1.3 worker can read is not in the lease table, and every worker reports where Java looks for it."""
        odd = [row["leaseKey"] for row in self.all_rows() if not row["leaseKey"].startswith("shardId-")]
        check(not odd, f"the lease table has rows that no 3.1.3 worker can read: {odd}")

    def status(self):
        row = self.row(MIGRATION, STATES)
        return row["tm"].removeprefix("TABLE_MIGRATION_STATUS_") if row else None

    def an_hour_later(self, hours=1):
        """Sets the beginning of the present state back, instead of waiting."""
        row = self.row(MIGRATION, STATES)
        self.dynamodb.update_item(
            TableName=STATES, Key={"key": {"S": MIGRATION}}, UpdateExpression="SET mts = :mts",
            ExpressionAttributeValues={":mts": {"N": str(int(row["mts"]) - (hours * HOUR + 60) * 1000)}},
        )


def roll(fleet):
    first, second = fleet.join_java("java-1"), fleet.join_java("java-2")
    fleet.stop(first, PATIENCE)
    ours = fleet.join_ours("ours-1")
    fleet.split(0, PATIENCE, QUICK if fleet.ours == OURS else None)
    fleet.merge(2, 3, PATIENCE)
    fleet.stop(second, PATIENCE)
    other = fleet.join_ours("ours-2")
    if fleet.ours == OURS:
        fleet.until("the leader has begun the migration", 60, lambda: fleet.status() == "INIT")
    third = fleet.join_java("java-3")
    if fleet.ours == OURS:
        fleet.until("the leader has taken the migration back", 60, lambda: fleet.status() is None)
    fleet.kill(other, PATIENCE, RESCUE if fleet.ours == OURS else None)
    fleet.kill(third, PATIENCE, RESCUE if fleet.ours == OURS else None)
    fourth = fleet.join_java("java-4")
    fleet.stop(ours, PATIENCE)
    fleet.say(f"and {fourth.name} has it all again")


def migrate(fleet):
    java = fleet.join_java("java-1", least=fleet.shards)
    first = fleet.join_ours("ours-1")
    fleet.stop(java, PATIENCE)
    fleet.until("INIT", 90, lambda: fleet.status() == "INIT")
    fleet.an_hour_later()
    fleet.until("DEPLOYED", 90, lambda: fleet.status() == "DEPLOYED")
    single = dict(migrateAllEntitiesToLeaseTable="true", tableMigrationCompleteBakeTimeSeconds=HOUR)
    second = Fleet.join(fleet, OURS, "ours-2", **single)
    fleet.stop(first, PATIENCE)
    fleet.until("PENDING", 180, lambda: fleet.status() == "PENDING")
    check(fleet.row("Leader", STATES) is not None, "the lock has left its table before the migration is complete")
    # Its multi-language part is older than its core, and cannot be told to move: the leader takes a step back for it.
    back = Fleet.join(fleet, SINGLE_TABLE, "java-2")
    fleet.until("DEPLOYED again", 90, lambda: fleet.status() == "DEPLOYED")
    fleet.stop(back, PATIENCE)
    fleet.until("PENDING again", 180, lambda: fleet.status() == "PENDING")
    fleet.split(0, PATIENCE, QUICK)
    fleet.an_hour_later()
    fleet.until("COMPLETE", 90, lambda: fleet.status() == "COMPLETE")
    fleet.until("the lock is in the lease table", 90, lambda: fleet.row("Leader"))
    third = Fleet.join(fleet, SINGLE_TABLE, "java-3")
    fleet.kill(third, PATIENCE, RESCUE)
    fourth = Fleet.join(fleet, SINGLE_TABLE, "java-4")
    fleet.stop(second, PATIENCE)
    fleet.say(f"and {fourth.name} goes on alone with the single table")


def short(fleet):
    java = fleet.join_java("java-1", least=fleet.shards)
    fleet.join_ours("ours-1")
    fleet.split(0, PATIENCE)
    fleet.kill(java, PATIENCE, 30)


def main():
    need(SEPARATE_TABLES, SINGLE_TABLE)
    what = sys.argv[1]
    multilangd = multilangd_of(sys.argv[2] if len(sys.argv) > 2 else None)
    pace = dict(leaseAssignmentIntervalMillis=20000) if what == "roll" else {}
    with Rolling(f"separate-{what}", multilangd, **pace) as fleet:
        if what == "java-only":
            fleet.ours = SEPARATE_TABLES
            roll(fleet)
        else:
            {"roll": roll, "migrate": migrate, "short": short}[what](fleet)
        fleet.finish(measure=what == "java-only")


if __name__ == "__main__":
    run(main)
