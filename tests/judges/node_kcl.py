"""Judge: the unmodified aws-kcl 2.3.2 (npm), started by its own `kcl-bootstrap` with `--java multilangd`.

    tests/judges/node_kcl.py [PATH OF MULTILANGD]

Both of its processor interfaces count every record of a stream, through a split, and finish cleanly. (The package on npm holds no sample
application.) The bootstrap wants jars: empty files with their names keep it from fetching them. Our own Kinesis and DynamoDB serve them.
"""

import os
import signal
import sys
from xml.etree import ElementTree

import bench
from bench import HERE, JUDGES, Bench, Stream, check, client, multilangd_of, need, shell_name, wait_for
from counting import Noted, Sent, app_values, check_all

CLIENT = JUDGES / "npm" / "node_modules" / "aws-kcl"


def empty_jars(directory):
    """An empty file for each jar that the bootstrap would fetch."""
    directory.mkdir()
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    project = ElementTree.parse(CLIENT / "pom.xml").getroot()
    versions = {"${%s}" % p.tag.split("}")[1]: p.text for p in project.find("m:properties", space)}
    for dependency in project.find("m:dependencies", space):
        artifact, version = (dependency.find(f"m:{what}", space).text for what in ("artifactId", "version"))
        (directory / f"{artifact}-{versions.get(version, version)}.jar").touch()
    return directory


def children_of(pid):
    try:
        return [int(p) for p in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except OSError:
        return []


def main():
    need("npm")
    multilangd = multilangd_of(sys.argv[1] if len(sys.argv) > 1 else None)
    with Bench("node_kcl") as b:
        kinesis_url, dynamodb_url = b.multilangd_local(multilangd)
        stream = Stream(client("kinesis", kinesis_url), "words", 2)
        sent = Sent(stream)
        sent.put("early", 300)
        sent.put_aggregates("aggregate", 10, shard=1)
        jars = empty_jars(b.dir / "jars")
        apps = {}
        for version in ("1", "2"):
            name = f"node-v{version}"
            counts = b.dir / f"{name}-counts"
            counts.mkdir()
            shell_name(b.dir, f"count-{name}", ["node", HERE / "node_counter.js", version])
            values = app_values(kinesis_url, dynamodb_url, executableName=f"count-{name}", applicationName=name, streamName="words",
                                processingLanguage="nodejs")
            properties = b.properties(name, **values)
            env = bench.environment(COUNT_DIR=counts, NODE_PATH=CLIENT.parent, PATH=f"{b.dir}:{os.environ['PATH']}")
            process = b.start(
                name, ["node", CLIENT / "bin/kcl-bootstrap", "--java", multilangd, "--jar-path", jars, "--properties", properties, "--execute"],
                cwd=b.dir, env=env,
            )
            apps[name] = (process, counts)

        def all_counted():
            for name, (process, _) in apps.items():
                check(process.running(), f"{name}: the launcher ended:\n{process.tail()}")
            return all(len(Noted(counts).records()) >= len(sent.all) for _, counts in apps.values())

        wait_for("all records in both interfaces", 180, all_counted, every=0.3)
        b.say(f"both interfaces have counted {len(sent.all)} records each")
        stream.split(0)
        sent.put("late", 200)
        wait_for("the records after the split", 60, all_counted, every=0.3)
        b.say(f"and {len(sent.all)} after a split")
        for name, (process, counts) in apps.items():
            wait_for(
                f"{name}: the end of the split shard", 30,
                lambda counts=counts: any(words[:2] in (["shard_ended", "shardId-000000000000"], ["shutdown", "shardId-000000000000"])
                                          for words in Noted(counts).lines),
            )
            daemons = children_of(process.pid)
            check(len(daemons) == 1, f"{name}: the bootstrap should have one child, it has {daemons}")
            os.kill(daemons[0], signal.SIGTERM)  # the bootstrap passes no signal on
            code = process.wait(60)
            check(code == 0, f"{name}: the bootstrap ended with {code}")
            noted = Noted(counts)
            check_all(sent, noted)
            check(noted.count("checkpoint-error") == 0, f"{name}: a checkpoint failed")
            check(noted.count("shutdown_requested") >= 3, f"{name}: 3 shards should be asked to stop, {noted.count('shutdown_requested')} were")
            lost = noted.count("lease_lost") + sum(words[::2] == ["shutdown", "ZOMBIE"] for words in noted.lines)
            check(lost >= 3, f"{name}: 3 leases should be lost at the end, {lost} were")
        b.say("both interfaces have ended as they should")


if __name__ == "__main__":
    bench.run(main)
