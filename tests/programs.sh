#!/usr/bin/env bash
# Runs the programs that are published in roots that have next to nothing: as root, and as a user whom no file names.
#
#     tests/programs.sh x86_64=FILE aarch64=FILE     programs of packaging/dist/make: target/TARGET/dist/rbuild, bin/rbuild of an archive
#
# The roots: `nothing` (certificates, resolv.conf and the program), `busybox` (as Alpine has it: no glibc, /etc/ssl/cert.pem) and `debian11`
# (glibc 2.31, no nsswitch.conf). A program of another processor is run by qemu-user. In each: --version; a COPY, whose image has the same
# digest everywhere; the crates that the program says it is made of; an ADD from a server whose name a DNS server tells and whose certificate
# the root's authorities signed, refused where they did not. To be run as root. Name and server are in a network namespace of their own.
set -euo pipefail
if [ -z "${RBUILD_PROGRAMS_WORK:-}" ]; then
    [ $# -gt 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
    [ "$(id -u)" = 0 ] || { echo "programs.sh: only root can change the root" >&2; exit 2; }
    work=$(mktemp -d "${TMPDIR:-/tmp}/rbuild-programs.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    # A root of Debian 11's, from where this machine's packages come.
    address=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } | grep -E '^(URIs:|deb) ' | grep -v security |
        grep -oE 'https?://[^ ]+' | sed -n 1p || true)
    [ -n "$address" ] || { echo "programs.sh: no source of Debian's is in /etc/apt" >&2; exit 1; }
    mmdebstrap --quiet --variant=extract bullseye "$work/debian11" "$address" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
    rm -f "$work/debian11/etc/nsswitch.conf"
    RBUILD_PROGRAMS_WORK=$work unshare --net --mount --pid --fork --kill-child -- "$0" "$@"
    exit
fi
ip link set lo up
started=$PWD
cd "$RBUILD_PROGRAMS_WORK"

# An authority, a certificate of its for files.test, and another authority that signed nothing.
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj "/CN=authority" 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj "/CN=other" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj "/CN=files.test" 2>/dev/null
printf 'subjectAltName=DNS:files.test\n' >extensions
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem 2>/dev/null

mkdir served
echo served >served/file
cat >servers.py <<'PYTHON'
import functools, http.server, socket, ssl, threading
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
def answer():
    while True:
        question, asker = names.recvfrom(512)
        end = question.index(b"\0", 12) + 5
        is_a = question[end - 4:end - 2] == b"\0\1" and question[12:end - 4] == b"\5files\4test\0"
        address = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if is_a else b""
        names.sendto(question[:2] + b"\x81\x80\0\1" + bytes([0, is_a]) + b"\0\0\0\0" + question[12:end] + address, asker)
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), functools.partial(Quiet, directory="served"))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=answer, daemon=True).start()
print("ready", flush=True)
server.serve_forever()
PYTHON
exec 3< <(exec python3 servers.py)
read -r ready <&3
[ "$ready" = ready ]

mkdir -p nothing busybox/bin
cp "$(command -v busybox)" busybox/bin/busybox
ln -s busybox busybox/bin/sh

bundle() { case $1 in busybox) echo etc/ssl/cert.pem ;; *) echo etc/ssl/certs/ca-certificates.crt ;; esac; }
for root in nothing busybox debian11; do
    mkdir -p "$root/etc/ssl/certs" "$root/tmp" "$root/w/context"
    rm -f "$root/etc/resolv.conf"
    echo 'nameserver 127.0.0.1' >"$root/etc/resolv.conf"
    chmod 1777 "$root/tmp" "$root/w"
    (umask 022; mkdir -p "$root/w/context/d"; echo text >"$root/w/context/d/file"; ln -sf d/file "$root/w/context/link"
     printf 'FROM scratch\nCOPY . /\n' >"$root/w/context/Dockerfile"
     printf 'FROM scratch\nADD https://files.test/file /\n' >"$root/w/add")
    find "$root/w/context" -exec touch -h -d @1700000000 {} +
done

failed=0
check() { # check WHAT COMMAND...: it must succeed
    local what=$1
    shift
    if "$@" >out 2>&1; then echo "ok    $what"; else echo "FAILS $what"; sed 's/^/      /' out; failed=1; fi
}
refused() { ! "$@" >told 2>&1 && grep -qi certificate told || { cat told; return 1; }; }

# Of the program that is being tried: what was compiled into it, which `cargo auditable` put there, as it says itself.
has_crates() {
    "${as[@]}" --root "$state" -t own /w/own && "${as[@]}" sbom --root "$state" own >crates || return 1
    [ "$(grep -c ' rust-crate *$' crates)" -gt 150 ] && grep -q '^rustls ' crates || { cat crates; return 1; }
}

for program in "$@"; do
    processor=${program%%=*} file=${program#*=}
    case $file in /*) ;; *) file=$started/$file ;; esac
    for root in nothing busybox debian11; do
        cp "$file" "$root/rbuild"
        emulator=
        if [ "$processor" != "$(uname -m)" ]; then
            cp "$(command -v "qemu-$processor-static")" "$root/emulator"
            emulator=/emulator
        fi
        for user in 0 54321; do
            as=(env -i "PATH=$PATH" chroot --userspec="+$user:+$user" "$root" $emulator /rbuild)
            state=/w/$processor-$user
            name="$processor, $root, user $user"
            cp ca.pem "$root/$(bundle "$root")"
            check "$name: --version" "${as[@]}" --version
            check "$name: COPY" "${as[@]}" --root "$state" --platform linux/amd64 --progress plain -q -t copied /w/context
            grep sha256: out >>digests || true
            check "$name: ADD by name, over TLS" "${as[@]}" --root "$state" -f /w/add -o "type=local,dest=$state-out" /w/context
            check "$name: what was added" cmp served/file "$root$state-out/file"
            cp other.pem "$root/$(bundle "$root")"
            mkdir -p "$root/w/own"
            cp "$file" "$root/w/own/rbuild"
            printf 'FROM scratch\nCOPY rbuild /\n' >"$root/w/own/Dockerfile"
            check "$name: its crates" has_crates
            check "$name: another authority" refused "${as[@]}" --root "$state" --no-cache -f /w/add -o "type=local,dest=$state-no" /w/context
        done
    done
done
if [ "$(uniq digests | wc -l)" = 1 ] && [ "$(wc -l <digests)" = $(($# * 6)) ]; then echo "ok    all are $(sort -u digests)"; else echo "FAILS images differ:"; sort digests | uniq -c; failed=1; fi
exit $failed
