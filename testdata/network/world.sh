# Runs a program on a machine (10.77.0.2) with services on its loopback, beside another one (10.77.0.1) with a service of
# the same port. To be started as `unshare --net --mount sh world.sh PROGRAM …`.
set -e
here=$(dirname "$0")
serve() { python3 "$here/serve.py" "$@" & servers="$servers $!"; }
ip link set lo up
unshare --net sleep 1000 & peer=$!
while [ "$(readlink /proc/$peer/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do :; done
ip link add out type veth peer name in netns $peer
ip addr add 10.77.0.2/24 dev out
ip link set out up
ip route add default via 10.77.0.1
nsenter -t $peer -n sh -c 'ip addr add 10.77.0.1/24 dev in && ip link set in up && ip link set lo up'
# Not every machine lets ordinary users open its own.
mount -t tmpfs none /dev/net
mknod -m 666 /dev/net/tun c 10 200
own=$(mktemp)
echo nameserver 127.0.0.1 >"$own"
chmod 644 "$own"
mount --bind "$own" /etc/resolv.conf
rm "$own"
serve tcp 127.0.0.1 8080 machine
serve dns 127.0.0.1 53 10.77.0.1
nsenter -t $peer -n python3 "$here/serve.py" tcp 10.77.0.1 8080 outside & servers="$servers $!"
until python3 "$here/serve.py" probe; do :; done 2>/dev/null
code=0
"$@" || code=$?
kill $peer $servers
exit $code
