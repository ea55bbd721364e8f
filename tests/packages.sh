#!/usr/bin/env bash
# Installs Debian packages in a RUN as root, as a user with ranges of ids, as a user with one id and as root of an ordinary
# container (one of Docker's, with its default profile), and compares the images: type, mode, owner and path of every file.
#
#     tests/packages.sh [PACKAGE...]     vim man-db openssh-client dbus postgresql python3-pip nginx if none is named
#     tests/packages.sh --languages      builds with gcc, pip, npm, go and cargo instead
#
# RUNGS names the rungs that are compared with root ("ranges single plain"). To be run as root; makes the two users and the daemon
# for its own length. RBUILD is the program (target/release/rbuild, else
# target/debug/rbuild). The packages come from this machine's own sources (see testdata/fixtures/debian-base.sh).
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
languages=
[ "${1:-}" != --languages ] || { languages=yes; shift; }
[ $# -gt 0 ] || set -- vim man-db openssh-client dbus postgresql python3-pip nginx
target=${CARGO_TARGET_DIR:-$here/target}
program=${RBUILD:-$target/release/rbuild}
[ -x "$program" ] || program=$target/debug/rbuild
if [ "$(id -u)" != 0 ]; then
    echo "packages.sh: only root can become the users that this compares" >&2
    exit 2
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/rbuild-packages.XXXXXX")
port=$((20000 + $$ % 20000))
ranges=rbranges$$ single=rbsingle$$
daemon=
finish() {
    [ -z "$daemon" ] || { kill "$daemon"; wait "$daemon" || true; umount "$work/docker/exec/netns/default" 2>/dev/null || true; }
    sh "$here/testdata/fixtures/debian-base.sh" --port "$port" stop
    userdel "$ranges" 2>/dev/null || true
    userdel "$single" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
sh "$here/testdata/fixtures/debian-base.sh" --port "$port" start
useradd --no-create-home "$ranges"
useradd --no-create-home --system "$single"

chmod 755 "$work"
install -m 755 "$program" "$work/rbuild"
mkdir "$work/context"
if [ "$languages" ]; then
    # A machine may have authorities of its own.
    cp /etc/ssl/certs/ca-certificates.crt "$work/context/"
    sed "s|^FROM .*|FROM localhost:$port/debian:bookworm|" "$here/testdata/languages/Dockerfile" >"$work/context/Dockerfile"
else
    cat >"$work/context/Dockerfile" <<END
FROM localhost:$port/debian:bookworm
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update && apt-get install -y --no-install-recommends $*
END
fi
cat >>"$work/context/Dockerfile" <<END
# What the next step sees is what the layer holds.
RUN find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /seen-by-a-step \) -prune -o -printf '%y %m %U:%G %p\n' | sort -k 4 >/seen-by-a-step
END

docker() { command docker -H "unix://$work/docker/docker.sock" "$@"; }

# A container has the programs of this machine, and nothing else.
start_docker() {
    mkdir -p "$work/docker" "$work/image"
    (cd "$work/image" && mkdir -p usr etc proc sys dev tmp root run work var/tmp var/lib &&
        for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done)
    dockerd --iptables=false --bridge=none --data-root "$work/docker/data" --exec-root "$work/docker/exec" \
        --pidfile "$work/docker/pid" -H "unix://$work/docker/docker.sock" >"$work/docker/log" 2>&1 &
    daemon=$!
    until docker version >/dev/null 2>&1; do kill -0 "$daemon" || { cat "$work/docker/log" >&2; return 1; }; done
    tar -C "$work/image" -cf - . | docker import - plain >/dev/null
}

build() { # NAME USER
    local as=() store=$work/$1/store user=$2
    case $1 in
    root) ;;
    plain)
        start_docker
        as=(docker run --rm --network host -v /usr:/usr:ro -v /etc:/etc:ro -v "$work:$work" plain)
        store=/var/lib/store user=root
        ;;
    *) as=(runuser -u "$2" --) ;;
    esac
    install -d -o "$user" "$work/$1"
    "${as[@]}" env HOME="$work/$1" XDG_CACHE_HOME="$work/$1" "$work/rbuild" --root "$store" build --progress=plain \
        -o "type=tar,dest=$work/$1/files.tar" "$work/context" >"$work/$1.log" 2>&1 || {
        tail -n 40 "$work/$1.log" >&2
        echo "FAILED as $1" >&2
        return 1
    }
    grep -h '^note: \|one id\|this container' "$work/$1.log" || true
    # Sizes and times differ from build to build; so do the names of some files that hold a random part.
    tar --numeric-owner -tvf "$work/$1/files.tar" |
        sed -E 's/^(\S+) (\S+) +[0-9,]+ +\S+ \S+ /\1 \2 /; s/ (->|link to) .*//' | grep -v ' seen-by-a-step$' |
        sort -k 3 >"$work/$1.list"
    tar -xOf "$work/$1/files.tar" seen-by-a-step >"$work/$1.seen"
    echo "$1: $(wc -l <"$work/$1.list") files, $(awk '$2 != "0/0"' "$work/$1.list" | wc -l) not root's"
}

build root root
status=0
plain=root
for rung in ${RUNGS:-ranges single plain}; do
    if [ "$rung" = plain ] && ! command -v dockerd >/dev/null; then
        echo "plain: docker.io is not installed" >&2
        status=1
        continue
    fi
    build "$rung" "${!rung}" || {
        status=1
        continue
    }
    for list in list seen; do
        if ! diff "$work/root.$list" "$work/$rung.$list" >"$work/$rung.$list.diff"; then
            echo "$rung ($list) differs from root in $(grep -c '^[<>]' "$work/$rung.$list.diff") lines:" >&2
            head -n 40 "$work/$rung.$list.diff" >&2
            status=1
        fi
    done
done
exit $status
