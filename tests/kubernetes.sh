#!/usr/bin/env bash
# A real API server of Kubernetes 1.20 with its job controller, on this machine alone: `tests/kubernetes.sh DIR [RBUILD]`, as root.
#
# Made of Debian's source package with Debian's Go (both of bookworm, unpacked below DIR and not installed), kept there for the next time: 130 MB to
# download, six minutes of processor time, 5 GB. etcd is Debian's. The node is that of the tests (tests/kubernetes_node.py). What then runs is
# rbuild's own: a build with RUN as a user with the role of packaging/kubernetes/on.yml and no other right, one that is interrupted, and `doctor`.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "${1:?a folder}" && dir=$(cd "$1" && pwd)
rbuild=$(readlink -f "${2:-$here/target/debug/rbuild}")
cd "$dir"

if [ ! -x bin/kube-controller-manager ]; then
  sources=(-o "Dir::Etc::sourcelist=$dir/debian.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$dir/lists")
  key=/usr/share/keyrings/debian-archive-keyring.gpg
  printf '%s [signed-by=%s] http://deb.debian.org/debian bookworm main\n' deb "$key" deb-src "$key" >debian.list
  mkdir -p lists/partial go etcd gopath/src/k8s.io bin
  apt-get "${sources[@]}" update -qq
  apt-get "${sources[@]}" source -qq --download-only kubernetes
  apt-get "${sources[@]}" download -qq etcd-server golang-1.19-go golang-1.19-src golang-github-modern-go-reflect2-dev
  for package in golang-1.19-*.deb; do dpkg-deb -x "$package" go; done
  dpkg-deb -x etcd-server_*.deb etcd
  dpkg-deb -x golang-github-modern-go-reflect2-dev_*.deb newer
  mkdir -p gopath/src/k8s.io/kubernetes
  tar xzf kubernetes_*.orig.tar.gz -C gopath/src/k8s.io/kubernetes --strip-components=1
  # The one that is vendored reads no maps of JSON with a Go of 1.18 or later, and panics.
  rm gopath/src/k8s.io/kubernetes/vendor/github.com/modern-go/reflect2/*
  cp newer/usr/share/gocode/src/github.com/modern-go/reflect2/* gopath/src/k8s.io/kubernetes/vendor/github.com/modern-go/reflect2/
  export GOROOT=$dir/go/usr/lib/go-1.19 GOPATH=$dir/gopath GOCACHE=$dir/gocache GO111MODULE=off GOFLAGS= CGO_ENABLED=0
  export PATH=$GOROOT/bin:$PATH
  cd gopath/src/k8s.io/kubernetes
  # What the API server says of itself is made first, of all that is marked for it.
  go build -o "$dir/bin/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  marked=$(grep -rl '+k8s:openapi-gen=true' --include='*.go' pkg staging/src cmd | grep -v _test | xargs -n1 dirname | sort -u |
    sed 's#^staging/src/#k8s.io/kubernetes/vendor/#; t; s#^#k8s.io/kubernetes/#' | paste -sd,)
  "$dir/bin/openapi-gen" -O zz_generated.openapi --go-header-file /dev/null -i "$marked" -p k8s.io/kubernetes/pkg/generated/openapi \
    --output-base "$dir/gopath/src" -r /dev/null
  go build -o "$dir/bin/" ./cmd/kube-apiserver
  go build -o "$dir/bin/" ./cmd/kube-controller-manager
  cd "$dir"
  rm -rf gocache
fi

run=$(mktemp -d "$dir/run.XXXXXX")
started=()
end() {
  # The node ends with its input, and its pods with it.
  exec 9>&- || true
  [ ${#started[@]} = 0 ] || kill "${started[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  [ -n "${KEEP:-}" ] || rm -rf "$run"
}
trap end EXIT
cd "$run"
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
etcd=$(port) peers=$(port) api=$(port)
printf 'of-admin,admin,admin,system:masters\nof-ci,ci,ci\n' >tokens.csv
openssl genrsa -out account.key 2048 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test-node -keyout node.key -out node.crt 2>/dev/null
"$dir/etcd/usr/bin/etcd" --data-dir etcd --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
  --listen-peer-urls "http://127.0.0.1:$peers" --unsafe-no-fsync >etcd.log 2>&1 &
started+=($!)
"$dir/bin/kube-apiserver" --etcd-servers "http://127.0.0.1:$etcd" --cert-dir certs --secure-port "$api" --bind-address 127.0.0.1 \
  --token-auth-file tokens.csv --authorization-mode RBAC --service-account-key-file account.key --service-account-signing-key-file account.key \
  --service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range 10.0.0.0/24 --disable-admission-plugins ServiceAccount \
  --feature-gates TTLAfterFinished=true >api.log 2>&1 &
started+=($!)
cat >kubeconfig <<EOF
current-context: ci
contexts: [{name: admin, context: {cluster: c, user: admin}}, {name: ci, context: {cluster: c, user: ci, namespace: builds}}]
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:$api', certificate-authority: certs/apiserver.crt}}]
users: [{name: admin, user: {token: of-admin}}, {name: ci, user: {token: of-ci}}]
EOF
ask() {
  curl -sSf --cacert certs/apiserver.crt -H 'Authorization: Bearer of-admin' -H 'Content-Type: application/json' "$@"
}
until ask "https://127.0.0.1:$api/readyz" >/dev/null 2>&1; do
  kill -0 "${started[1]}" || { tail -20 api.log; exit 1; }
  sleep 0.2
done
"$dir/bin/kube-controller-manager" --kubeconfig <(sed 's/current-context: ci/current-context: admin/' kubeconfig | sed "s#certs/#$run/certs/#") \
  --controllers=job,garbagecollector,ttl-after-finished --leader-elect=false --port 0 --secure-port 0 --feature-gates TTLAfterFinished=true >controllers.log 2>&1 &
started+=($!)
# The role for the user `ci` instead of the account.
python3 - "$here/packaging/kubernetes/on.yml" >objects <<'EOF'
import json, sys, yaml
for thing in yaml.safe_load_all(open(sys.argv[1])):
    kind = thing["kind"]
    if kind == "RoleBinding":
        thing["subjects"] = [{"kind": "User", "name": "ci", "apiGroup": "rbac.authorization.k8s.io"}]
    group = "api/v1" if thing["apiVersion"] == "v1" else "apis/" + thing["apiVersion"]
    place = "" if kind == "Namespace" else "/namespaces/builds"
    print(f"{group}{place}/{kind.lower()}s", json.dumps(thing))
EOF
while read -r path object; do
  ask -o /dev/null -d "$object" "https://127.0.0.1:$api/$path"
done <objects
mkdir node
mkfifo input
python3 "$here/tests/kubernetes_node.py" --rbuild "$rbuild" --dir "$run/node" --api "https://127.0.0.1:$api" --token of-admin \
  --certificate node.crt --key node.key <input >node.log 2>&1 &
exec 9>input
until grep -q registered node.log; do sleep 0.1; done

export KUBECONFIG=$run/kubeconfig
on=kubernetes://builds,image=registry.example/rbuild
mkdir context
cp "$(command -v busybox)" context/busybox
echo text >context/a
# What the real server answers stays in DIR/answers, for testdata/kubernetes.
mkdir -p "$dir/answers"
left() { ask "https://127.0.0.1:$api/api/v1/namespaces/builds/pods" | python3 -c 'import json, sys; print(len(json.load(sys.stdin)["items"]))'; }
printf 'FROM scratch\nCOPY busybox /bin/sh\nRUN read x </in/a; echo $x $((6*7)) >/made\nCOPY a /a\n' | sed 's#^RUN #RUN --mount=type=bind,target=/in #' >context/Dockerfile
"$rbuild" --root there build --progress=plain --on "$on" -o type=local,dest=files context 2>&1 | tee said
[ "$(cat files/made)" = 'text 42' ]
grep -q '^note: built on `kubernetes://builds`, pod `rbuild-.* on node `test-node`' said
printf 'FROM scratch\nCOPY busybox /bin/sh\nRUN echo begin$((6*7)); while :; do :; done\n' >context/Dockerfile
"$rbuild" --root there build --progress=plain --on "$on" context >said 2>&1 &
build=$!
until grep -q begin42 said; do kill -0 $build; sleep 0.1; done
ask "https://127.0.0.1:$api/api/v1/namespaces/builds/pods" >"$dir/answers/pods.json"
ask "https://127.0.0.1:$api/apis/batch/v1/namespaces/builds/jobs" >"$dir/answers/jobs.json"
kill -INT $build
code=0; wait $build || code=$?
[ $code = 130 ]
"$rbuild" --root there doctor --on "$on"
for _ in $(seq 100); do [ "$(left)" = 0 ] && break; sleep 0.1; done
[ "$(left)" = 0 ]
echo "a real API server: good"
