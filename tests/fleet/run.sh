#!/usr/bin/env bash
# Runs fleets of multilangd and real Java daemons:
#
#   MULTILANGD=/path/to/multilangd tests/fleet/run.sh [short]     all scenarios, or a short one of each kind
#
# Installs what is missing first. One fleet at a time: each measures how long shards wait. Exit code 0 if all passed.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ ! -x "${MULTILANGD:-}" ]; then
    echo "set MULTILANGD to the path of a multilangd" >&2
    exit 2
fi
"$here/../judges/install.sh" python java-3.5.1 java-3.1.3 java-2.5.4 || exit 1
python=${JUDGES_DIR:-$here/../../.judges}/python/bin/python

case "${1:-all}" in
    all) fleets=("single_table follow" "single_table lead") ;;
    short) fleets=("single_table short") ;;
    *) echo "what is '$1'? Nothing, or: short" >&2; exit 2 ;;
esac
"$python" -m pytest --quiet -p no:cacheprovider "$here/test_accounting.py" || exit 1

passed=0 failed=0
for fleet in "${fleets[@]}"; do
    read -r program scenario <<<"$fleet"
    if "$python" "$here/$program.py" "$scenario"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$fleet: FAILED"
    fi
done
echo "fleets: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
