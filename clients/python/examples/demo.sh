#!/bin/sh
# Starts a daemon with its own Kinesis and DynamoDB, lets a producer write a line every half second, and shows what the
# Python processor prints. Ctrl-C ends all of it. Usage: demo.sh /path/to/multilangd, from the root of the repository.
set -eu
multilangd=$1
seconds=${DEMO_SECONDS:-0} # 0: until Ctrl-C

produce() {
    n=0
    for word in $(yes "the quick brown fox jumps over the lazy dog" | head -n 10000); do
        n=$((n + 1))
        echo "$n $word"
        sleep 0.5
    done
}

"$multilangd" run --local --memory clients/python/examples/print_records.properties &
daemon=$!
trap 'trap - INT TERM EXIT; kill "$daemon" "$producer" 2>/dev/null; wait "$daemon" 2>/dev/null || true' INT TERM EXIT
producer=
until [ -s .multilangd/endpoints.json ]; do
    kill -0 "$daemon" || exit 1
    sleep 0.05
done
produce | "$multilangd" put words &
producer=$!
if [ "$seconds" -gt 0 ]; then
    sleep "$seconds"
else
    wait "$daemon"
fi
