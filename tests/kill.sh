#!/usr/bin/env bash
# Kills the headline build with SIGKILL at random moments, and looks each time that no process, no mount and
# nothing half-written is left, and that the next build succeeds.
#
#     tests/kill.sh [N] [SEED]     N kills, 50 if not said; the moments follow from SEED
#
# A build that was over before its moment came does not count, and the moments that follow are drawn from its length.
#
# RBUILD is the program (target/release/rbuild, else target/debug/rbuild); it runs as whoever runs this.
# Every tenth time the next build runs every step again; else it may use the cache of the first, whole build.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
kills=${1:-50}
RANDOM=${2:-1}
target=${CARGO_TARGET_DIR:-$here/target}
program=${RBUILD:-$target/release/rbuild}
[ -x "$program" ] || program=$target/debug/rbuild

work=$(mktemp -d "${TMPDIR:-/tmp}/rbuild-kill.XXXXXX")
port=$((20000 + $$ % 20000))
mark=rbuild-kill-mark-$$
store=$work/store
finish() {
    sh "$here/testdata/fixtures/debian-base.sh" --port "$port" stop
    rm -rf "$work" 2>/dev/null || unshare --user --map-root-user --map-auto rm -rf "$work"
}
trap finish EXIT
sh "$here/testdata/fixtures/debian-base.sh" --port "$port" start

mkdir "$work/context"
# The mark is in the command's environment, too.
cat >"$work/context/Dockerfile" <<END
FROM localhost:$port/debian:bookworm
ARG MARK
RUN apt-get update && apt-get install -y vim
END

build() { "$program" --root "$store" --progress=quiet --build-arg "MARK=$mark" -t ubuntu-with-vi "$@" "$work/context"; }

fail() {
    echo "FAILED at kill $number ($moment ms): $*" >&2
    exit 1
}

# Processes whose environment or command line has the mark. The pattern does not match its own text, so that grep
# does not find itself.
marked() {
    local pid
    for pid in $(grep -lsa -e "[r]${mark#r}" /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | cut -d / -f 3 | sort -u); do
        [ "$pid" = $$ ] || [ "$pid" = "$BASHPID" ] || echo "$pid"
    done
}

# What a process needs to end after its SIGKILL is the kernel's affair: seconds at most on a busy machine.
wait_until_nothing_runs() {
    local left patience=$(($(date +%s) + 20))
    while left=$(marked) && [ -n "$left" ]; do
        [ "$(date +%s)" -lt "$patience" ] || fail "processes are left: $(ps -o pid,stat,args -p "${left//$'\n'/,}")"
        sleep 0.01
    done
}

number=0 moment=0 slowest=0
started=$(date +%s%N)
build
whole=$((($(date +%s%N) - started) / 1000000))
echo "a whole build takes $whole ms"

number=1
while [ "$number" -le "$kills" ]; do
    moment=$(((RANDOM * 32768 + RANDOM) % whole))
    MARK_OF_TEST=$mark "$program" --root "$store" --progress=quiet --build-arg "MARK=$mark" --no-cache -t killed \
        "$work/context" 2>/dev/null &
    victim=$!
    begun=$(date +%s%N)
    while kill -0 "$victim" 2>/dev/null && [ $((($(date +%s%N) - begun) / 1000000)) -lt "$moment" ]; do sleep 0.005; done
    before=$(date +%s%N)
    kill -9 "$victim" 2>/dev/null || true
    status=0
    wait "$victim" 2>/dev/null || status=$?
    if [ "$status" = 0 ]; then
        whole=$(((before - begun) / 1000000))
        continue
    fi
    [ "$status" = 137 ] || fail "the build ended by itself with status $status"
    wait_until_nothing_runs
    gone=$((($(date +%s%N) - before) / 1000000))
    [ "$gone" -le "$slowest" ] || slowest=$gone
    if grep -F "$store" /proc/[0-9]*/mountinfo 2>/dev/null; then fail "mounts are left"; fi
    again=()
    [ $((number % 10)) != 0 ] || again=(--no-cache)
    build "${again[@]}" || fail "the next build fails"
    left=$(find "$store/rbuild/tmp" "$store/rbuild/trash" -mindepth 1 -maxdepth 1)
    [ -z "$left" ] || fail "left in the store: $left"
    skopeo inspect "oci:$store:docker.io/library/ubuntu-with-vi:latest" >/dev/null || fail "skopeo cannot read the store"
    echo "$number: killed after $moment ms; nothing ran any more $gone ms later"
    number=$((number + 1))
done
echo "$kills kills: no process, no mount, every next build succeeded; the slowest end took $slowest ms"
