#!/usr/bin/env python3
"""The child of latency.py: notes each record's number and how old it is, in nanoseconds. Usage: latency_child.py FILE"""

import base64
import json
import sys
import time

with open(sys.argv[1], "a", buffering=1) as noted:
    for line in sys.stdin:
        message = json.loads(line)
        now = time.time_ns()
        for record in message.get("records", []):
            number, put = base64.b64decode(record["data"]).split()
            noted.write(f"{int(number)} {now - int(put)}\n")
        print(json.dumps({"action": "status", "responseFor": message["action"]}), flush=True)
