#!/usr/bin/env bash
# Installs the judges: programs by other authors that multilangd is measured against.
#
#   tests/judges/install.sh [NAME…]     all of them, or: python kclpy npm ministack dynamodb-local java-3.5.1 java-3.1.3 java-2.5.4 kcl-rs
#
# They go to $JUDGES_DIR (default: .judges in the repository), one directory each, with a stamp of what was installed, so that
# a second run takes no time. Needs Python 3, Node with npm, a JDK (17 or later) with Maven; uses the package registries only.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
judges=${JUDGES_DIR:-$(cd "$here/../.." && pwd)/.judges}
kclpy_version=3.2.0
ministack_version=1.5.33
kcl_rs_version=0.1.4
mkdir -p "$judges"

# One installation at a time; a second one waits, then finds the stamps.
exec 9>"$judges/.lock"
flock 9

say() { printf 'judges: %s\n' "$*"; }

# retry COMMAND…: a registry may be slow for a moment; three tries, then its last words.
retry() {
    local try log
    log=$(mktemp)
    for try in 1 2 3; do
        if "$@" >"$log" 2>&1; then rm -f "$log"; return 0; fi
        sleep "$try"
    done
    cat "$log" >&2
    rm -f "$log"
    return 1
}

# judge NAME WANTED FUNCTION: run FUNCTION in an empty directory unless the stamp says that WANTED is there already.
judge() {
    local name=$1 wanted=$2 install=$3 dir="$judges/$1" started=$SECONDS
    if [ "$(cat "$dir/.installed" 2>/dev/null)" = "$wanted" ]; then
        say "$name is installed"
        return 0
    fi
    rm -rf "$dir"
    mkdir -p "$dir"
    if ! "$install" "$dir"; then
        say "$name could not be installed" >&2
        exit 1
    fi
    printf '%s' "$wanted" >"$dir/.installed"
    say "$name installed in $((SECONDS - started)) s"
}

sum_of() { cat "$@" | cksum; }

python() {
    python3 -m venv "$1" && retry "$1/bin/pip" install --quiet --requirement "$here/requirements.txt"
}

# The package wants jars while it is built; unpacking it is enough to import it.
kclpy() {
    retry python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$1" "amazon_kclpy==$kclpy_version" &&
        tar -xzf "$1"/amazon_kclpy-*.tar.gz -C "$1" --strip-components 1
}

npm_judges() {
    cp "$here/npm/package.json" "$1/" &&
        (cd "$1" && retry npm install --no-audit --no-fund --no-package-lock --ignore-scripts --loglevel=error)
}

ministack() {
    python3 -m venv "$1" && retry "$1/bin/pip" install --quiet "ministack==$ministack_version"
}

kcl_rs() {
    python3 -m venv "$1" && retry "$1/bin/pip" install --quiet "kcl-rs==$kcl_rs_version"
}

maven_jars() {
    retry mvn --quiet --batch-mode --file "$here/$(basename "$1")/pom.xml" dependency:copy-dependencies -DoutputDirectory="$1"
}

wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(python kclpy npm ministack dynamodb-local java-3.5.1)
for name in "${wanted[@]}"; do
    case $name in
        python) judge python "$(sum_of "$here/requirements.txt")" python ;;
        kclpy) judge kclpy "$kclpy_version" kclpy ;;
        npm) judge npm "$(sum_of "$here/npm/package.json")" npm_judges ;;
        kcl-rs) judge kcl-rs "$kcl_rs_version" kcl_rs ;;
        ministack) judge ministack "$ministack_version" ministack ;;
        dynamodb-local | java-3.5.1 | java-3.1.3 | java-2.5.4) judge "$name" "$(sum_of "$here/$name/pom.xml")" maven_jars ;;
        *) say "there is no judge called '$name'" >&2; exit 2 ;;
    esac
done
