#!/usr/bin/env bash
# Runs every judge against a multilangd:
#
#   MULTILANGD=/path/to/multilangd tests/judges/run.sh [JUDGE…]     all, or: foreign_stream foreign_leases kclpy node_kcl same_lines
#
# Installs what is missing first. One judge at a time, beside same_lines, which waits most of its time for Java.
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
[ ${#judges[@]} -gt 0 ] || judges=(same_lines foreign_stream foreign_leases kclpy node_kcl)
logs=$(mktemp -d)
pids=()
trap 'rm -rf "$logs"' EXIT
trap '[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null; exit 130' INT TERM

# The judge that waits for Java runs beside all the others.
declare -A codes
for name in "${judges[@]}"; do
    if [ "$name" = same_lines ]; then
        "$python" "$here/$name.py" >"$logs/$name.log" 2>&1 &
        pids=($!)
    fi
done
for name in "${judges[@]}"; do
    if [ "$name" != same_lines ]; then
        "$python" "$here/$name.py" >"$logs/$name.log" 2>&1
        codes[$name]=$?
    fi
done
if [ ${#pids[@]} -gt 0 ]; then
    wait "${pids[0]}"
    codes[same_lines]=$?
fi

passed=0 failed=0
for name in "${judges[@]}"; do
    cat "$logs/$name.log"
    if [ "${codes[$name]}" = 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$name: FAILED"
    fi
done
echo "judges: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
