#!/usr/bin/env bash
# Runs every judge against a multilangd:
#
#   MULTILANGD=/path/to/multilangd tests/judges/run.sh [JUDGE…]     all, or: same_lines java_on_local metrics foreign_stream foreign_leases boto3_local kclpy node_kcl
#
# Installs what is missing first. One judge at a time, beside those that wait most of their time for Java.
# Exit code 0 if all passed. The last line says how many.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! -x "${MULTILANGD:-}" ]; then
    echo "set MULTILANGD to the path of a multilangd" >&2
    exit 2
fi
"$here/install.sh" || exit 1
python=${JUDGES_DIR:-$here/../../.judges}/python/bin/python

judges=("$@")
[ ${#judges[@]} -gt 0 ] || judges=(same_lines java_on_local metrics foreign_stream foreign_leases boto3_local kclpy node_kcl)
"$python" -m pytest --quiet -p no:cacheprovider "$here/test_comparison.py" || exit 1
logs=$(mktemp -d)
slow=
trap 'rm -rf "$logs"' EXIT
trap '[ -z "$slow" ] || kill "$slow" 2>/dev/null; exit 130' INT TERM

run() { "$python" "$here/$1.py" >"$logs/$1.log" 2>&1; }

# Those that wait for Java run one after the other, beside all the others.
waits_for_java() { [ "$1" = same_lines ] || [ "$1" = java_on_local ] || [ "$1" = metrics ]; }
(
    trap 'kill $! 2>/dev/null; exit 130' TERM
    for name in "${judges[@]}"; do
        if waits_for_java "$name"; then
            run "$name" &
            wait $!
            echo $? >"$logs/$name.code"
        fi
    done
) &
slow=$!
for name in "${judges[@]}"; do
    if ! waits_for_java "$name"; then
        run "$name"
        echo $? >"$logs/$name.code"
    fi
done
wait "$slow"

passed=0 failed=0
for name in "${judges[@]}"; do
    cat "$logs/$name.log"
    if [ "$(cat "$logs/$name.code" 2>/dev/null)" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$name: FAILED"
    fi
done
echo "judges: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
