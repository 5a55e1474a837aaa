#!/usr/bin/env bash
# Runs fleets of multilangd and real Java daemons:
#
#   MULTILANGD=/path/to/multilangd tests/fleet/run.sh [short]     all scenarios, or a short one of each kind
#
# Installs what is missing first. One fleet at a time, since each measures how long shards wait; the short ones, which promise less, side
# by side. Exit code 0 if all passed. The last line says how many.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! -x "${MULTILANGD:-}" ]; then
    echo "set MULTILANGD to the path of a multilangd" >&2
    exit 2
fi
"$here/../judges/install.sh" python java-3.5.1 java-3.1.3 java-2.5.4 || exit 1
python=${JUDGES_DIR:-$here/../../.judges}/python/bin/python

case "${1:-all}" in
    all) at_once=1 fleets=(
        "single_table follow" "single_table lead" "single_table deaf" "separate_tables roll" "separate_tables migrate" "taking roll" "phases upgrade"
    ) ;;
    short) at_once=3 fleets=("single_table short" "separate_tables short" "taking short") ;;
    *) echo "what is '$1'? Nothing, or: short" >&2; exit 2 ;;
esac
"$python" -m pytest --quiet -p no:cacheprovider "$here/test_accounting.py" || exit 1
logs=$(mktemp -d)
running=()
trap 'rm -rf "$logs"' EXIT
trap '[ ${#running[@]} -eq 0 ] || kill "${running[@]}" 2>/dev/null; exit 130' INT TERM

passed=0 failed=0
for ((first = 0; first < ${#fleets[@]}; first += at_once)); do
    running=()
    for fleet in "${fleets[@]:first:at_once}"; do
        read -r program scenario <<<"$fleet"
        "$python" "$here/$program.py" "$scenario" >"$logs/$program-$scenario" 2>&1 &
        running+=($!)
    done
    for n in "${!running[@]}"; do
        read -r program scenario <<<"${fleets[first + n]}"
        if wait "${running[n]}"; then
            passed=$((passed + 1))
            cat "$logs/$program-$scenario"
        else
            failed=$((failed + 1))
            cat "$logs/$program-$scenario"
            echo "$program $scenario: FAILED"
        fi
    done
done
echo "fleets: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
