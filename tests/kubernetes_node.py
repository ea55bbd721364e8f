#!/usr/bin/env python3
"""A node of a Kubernetes cluster for tests: runs the containers of pods as ordinary processes, and programs beside them.

With --check it only holds files of objects to the API's schema. With --api it is a node of a real API server, which needs no kubelet then: it registers itself, takes pods that are bound to nobody,
runs them, says how they are, and answers `exec` as a kubelet does. Without, it is the API server, too, as far as rbuild asks
one: objects are held to the API's own schema (testdata/kubernetes/schema.json), and refusals have the form of the real ones.

The first line on standard output is the port. What may be asked at another one, the second line, beside the API:

    POST /test/set      {"unable": WORDS, "waits": WORDS, "forbidden": BOOL}: what becomes of the pods to come
    POST /test/evict    takes the pods that run away, as a node does that runs out of disk
    POST /test/memory   ends containers as the kernel does those with too much memory
    POST /test/break    ends all connections to programs in pods
    GET  /test/log      what was asked so far
    GET  /test/jobs     the jobs as they were made, also those that are gone
"""

import argparse
import base64
import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK = threading.RLock()
NODE = "test-node"


class Pod:
    """A pod's processes, and where its volumes are."""

    def __init__(self, spec, name, arguments, settings):
        self.spec, self.name, self.arguments, self.settings = spec, name, arguments, settings
        self.container = next(c for c in spec["containers"] if c["name"] == "rbuild")
        self.process, self.places, self.sockets = None, [], []
        self.phase, self.reason, self.message = "Pending", "", ""
        self.state, self.is_over = {"waiting": {"reason": "ContainerCreating"}}, False
        self.folder = os.path.join(arguments.dir, name)
        os.makedirs(self.folder)

    def mount(self):
        volumes = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        for mount in self.container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            if "persistentVolumeClaim" in volume:
                place = os.path.join(self.arguments.dir, "claims", volume["persistentVolumeClaim"]["claimName"])
                os.makedirs(place, exist_ok=True)
            elif "secret" in volume:
                place = os.path.join(self.arguments.dir, "secrets", volume["secret"]["secretName"])
                if not os.path.isdir(place):
                    return False
            else:
                place = os.path.join(self.folder, mount["name"])
                os.makedirs(place, exist_ok=True)
            self.places.append((mount["mountPath"], place))
        return True

    def here(self, word):
        if word == "rbuild":
            return self.arguments.rbuild
        for path, place in self.places:
            if word == path or word.startswith(path + "/"):
                return place + word[len(path):]
        return word

    def start(self):
        settings = self.settings
        if settings.get("unable"):
            self.state = {"waiting": {"reason": "ImagePullBackOff", "message": settings["unable"]}}
            return
        if settings.get("waits") or not self.mount():
            self.message = settings.get("waits", "")
            return
        self.environment = {"PATH": os.environ["PATH"], "HOME": self.folder}
        for variable in self.container.get("env", []):
            self.environment[variable["name"]] = self.here(variable["value"])
        words = [self.here(word) for word in self.container["command"]]
        log = open(os.path.join(self.arguments.dir, self.name + ".log"), "wb")
        self.process = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log, start_new_session=True)
        self.phase, self.state = "Running", {"running": {"startedAt": "2030-01-01T00:00:00Z"}}
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        code = self.process.wait()
        with LOCK:
            if not self.is_over:
                self.end(128 - code if code < 0 else code, "Completed" if code == 0 else "Error")

    def end(self, code, reason, of_pod=""):
        self.is_over = True
        self.phase, self.reason = "Succeeded" if code == 0 else "Failed", of_pod
        self.message = "The node was low on resource: ephemeral-storage." if of_pod == "Evicted" else ""
        self.state = {"terminated": {"exitCode": code, "reason": reason}}

    def kill(self, how):
        for connection in self.sockets:
            shut(connection)
        if self.process and self.process.poll() is None:
            try:
                os.killpg(self.process.pid, how)
            except ProcessLookupError:
                pass

    def remove(self):
        self.kill(signal.SIGTERM)
        if self.process:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill(signal.SIGKILL)

    def status(self):
        status = {"phase": self.phase, "containerStatuses": [
            {"name": "rbuild", "image": self.container.get("image", ""), "imageID": "", "ready": self.phase == "Running",
             "restartCount": 0, "state": self.state}]}
        if self.reason:
            status.update(reason=self.reason, message=self.message)
        elif self.settings.get("waits"):
            del status["containerStatuses"]
            status["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                                     "message": self.message}]
        return status


def shut(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def frame(kind, payload):
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | kind, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | kind, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | kind, 127, size)
    return head + payload


def read_frame(file):
    head = file.read(2)
    if len(head) < 2:
        return None
    kind, size = head[0] & 15, head[1] & 127
    assert head[1] & 128, "frames of clients are masked"
    if size == 126:
        size = struct.unpack("!H", file.read(2))[0]
    elif size == 127:
        size = struct.unpack("!Q", file.read(8))[0]
    mask, payload = file.read(4), file.read(size)
    if len(payload) < size:
        return None
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return kind, (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def execute(handler, pod, words):
    """The WebSocket of `exec`: channels of the program's streams in its messages."""
    asked = [word.strip() for word in handler.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if "v4.channel.k8s.io" not in asked:
        return handler.refuse(400, "BadRequest", "no protocol that is known")
    accept = hashlib.sha1((handler.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode())
    handler.send_response(101)
    for name, value in [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Protocol", "v4.channel.k8s.io"),
                        ("Sec-WebSocket-Accept", base64.b64encode(accept.digest()).decode())]:
        handler.send_header(name, value)
    handler.end_headers()
    handler.close_connection = True
    connection, writing = handler.connection, threading.Lock()

    def send(channel, piece, kind=2):
        with writing:
            try:
                connection.sendall(frame(kind, bytes([channel]) + piece if kind == 2 else piece))
            except OSError:
                pass

    process = subprocess.Popen([pod.here(word) for word in words], cwd=pod.folder, env=pod.environment,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with LOCK:
        pod.sockets.append(connection)

    def pump(channel, stream):
        send(channel, b"")
        while piece := stream.read1(32768):
            send(channel, piece)

    def end():
        pumps = [threading.Thread(target=pump, args=pair, daemon=True)
                 for pair in [(1, process.stdout), (2, process.stderr)]]
        [thread.start() for thread in pumps]
        [thread.join() for thread in pumps]
        code = process.wait()
        status = {"metadata": {}, "status": "Success"} if code == 0 else {
            "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": f"exit code {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]}}
        send(3, json.dumps(status).encode())
        send(0, b"", 8)
        shut(connection)

    threading.Thread(target=end, daemon=True).start()
    try:
        while (came := read_frame(handler.rfile)) and came[0] != 8:
            if came[0] == 9:
                send(0, came[1], 10)
            elif came[0] == 2 and came[1][:1] == b"\0":
                process.stdin.write(came[1][1:])
                process.stdin.flush()
    except (OSError, ValueError):
        pass
    try:
        process.stdin.close()
    except OSError:
        pass
    shut(connection)


class Api:
    """The objects of an API server without one."""

    def __init__(self, arguments):
        self.arguments, self.settings, self.log, self.made = arguments, {}, [], []
        self.jobs, self.pods = {}, {}
        with open(arguments.schema) as file:
            self.schema = json.load(file)

    def check(self, value, schema, path):
        """What is wrong with a value, by the API's definitions: unknown fields, too."""
        if "$ref" in schema:
            return self.check(value, self.schema[schema["$ref"].rsplit("/", 1)[1]], path)
        kind = schema.get("type")
        if "properties" in schema:
            if not isinstance(value, dict):
                return f"{path}: no object"
            for name in schema.get("required", []):
                if name not in value:
                    return f"{path}.{name}: required"
            for name, inner in value.items():
                if name not in schema["properties"]:
                    return f"{path}.{name}: unknown field"
                if wrong := self.check(inner, schema["properties"][name], f"{path}.{name}"):
                    return wrong
        elif kind == "array":
            if not isinstance(value, list):
                return f"{path}: no list"
            for at, inner in enumerate(value):
                if wrong := self.check(inner, schema["items"], f"{path}[{at}]"):
                    return wrong
        elif kind == "object" and "additionalProperties" in schema:
            if not isinstance(value, dict):
                return f"{path}: no object"
            for name, inner in value.items():
                if wrong := self.check(inner, schema["additionalProperties"], f"{path}.{name}"):
                    return wrong
        elif kind == "string" and not isinstance(value, str) and schema.get("format") != "int-or-string":
            return f"{path}: no text"
        elif kind == "integer" and (not isinstance(value, int) or isinstance(value, bool)):
            return f"{path}: no whole number"
        elif kind == "boolean" and not isinstance(value, bool):
            return f"{path}: neither true nor false"
        return ""

    def object_of(self, pod):
        meta = dict(self.jobs[pod.name]["spec"]["template"]["metadata"], name=pod.name + "-x7x7x", namespace="builds")
        return {"metadata": meta, "spec": dict(pod.spec, nodeName=NODE), "status": pod.status()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value, code=200):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        # As the real one, which answers longer lists in chunks.
        if len(body) > 1000:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body), 700):
                piece = body[at:at + 700]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, code, reason, message):
        self.answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
                     "reason": reason, "code": code}, code)

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

    def do_GET(self):
        self.serve()

    do_POST = do_DELETE = do_GET

    def serve(self):
        url = urllib.parse.urlsplit(self.path)
        query, parts = urllib.parse.parse_qs(url.query), url.path.strip("/").split("/")
        if parts[0] == "exec":
            # Asked by an API server.
            return execute(self, self.server.pods[parts[2]], query["command"])
        api, body = self.server.api, self.body()
        if parts[0] == "test":
            return self.test(parts[1], body)
        with LOCK:
            api.log.append(f"{self.command} {self.path}")
        if api.arguments.token and self.headers.get("Authorization") != f"Bearer {api.arguments.token}":
            return self.refuse(401, "Unauthorized", "Unauthorized")
        if api.settings.get("down"):
            return self.refuse(503, "ServiceUnavailable", "the server is currently unable to handle the request")
        match [self.command, *parts]:
            case ["POST", "apis", "batch", "v1", "namespaces", namespace, "jobs"]:
                self.make(api, namespace, body)
            case ["GET", "apis", "batch", "v1", "namespaces", "builds", "jobs", name] if name in api.jobs:
                self.answer(api.jobs[name])
            case ["DELETE", "apis", "batch", "v1", "namespaces", "builds", "jobs", name] if name in api.jobs:
                wrong = api.check(body, {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"}, "")
                if wrong:
                    return self.refuse(400, "BadRequest", wrong)
                with LOCK:
                    pod = api.pods.pop(name, None) if body.get("propagationPolicy") == "Background" else None
                    api.jobs.pop(name)
                if pod:
                    threading.Thread(target=pod.remove, daemon=True).start()
                self.answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})
            case ["GET", "api", "v1", "namespaces", "builds", "pods"]:
                label, value = query["labelSelector"][0].split("=")
                with LOCK:
                    pods = [api.object_of(pod) for pod in api.pods.values()]
                pods = [pod for pod in pods if pod["metadata"]["labels"].get(label) == value]
                self.answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods})
            case ["GET", "api", "v1", "namespaces", "builds", "pods", name, "exec"]:
                pod = api.pods.get(name.removesuffix("-x7x7x"))
                if not pod or pod.phase != "Running":
                    return self.refuse(404, "NotFound", f'pods "{name}" not found')
                assert query["container"] == ["rbuild"] and query["stdin"] == ["true"], query
                execute(self, pod, query["command"])
            case _:
                self.refuse(404, "NotFound", "the server could not find the requested resource")

    def make(self, api, namespace, job):
        wrong = api.check(job, {"$ref": "#/definitions/io.k8s.api.batch.v1.Job"}, "job")
        if namespace != "builds" or api.settings.get("forbidden"):
            return self.refuse(403, "Forbidden", f'jobs.batch is forbidden: User "ci" cannot create resource "jobs" in API group '
                               f'"batch" in the namespace "{namespace}"')
        if wrong:
            return self.refuse(400, "BadRequest", wrong)
        name = job["metadata"]["name"]
        with LOCK:
            if name in api.jobs:
                return self.refuse(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
            api.jobs[name] = job
            api.made.append(job)
            pod = Pod(job["spec"]["template"]["spec"], name, api.arguments, dict(api.settings))
            api.pods[name] = pod
        self.answer(dict(job, status={}), 201)
        with LOCK:
            pod.start()

    def test(self, what, body):
        api = self.server.api
        with LOCK:
            running = [pod for pod in api.pods.values() if pod.phase == "Running"]
            if what == "set":
                api.settings = body
            elif what == "evict":
                for pod in running:
                    # As a kubelet, which lets what runs end itself first; `exec` stays open meanwhile.
                    pod.end(143, "Error", "Evicted")
                    os.killpg(pod.process.pid, signal.SIGTERM)
            elif what == "memory":
                for pod in running:
                    pod.end(137, "OOMKilled")
                    pod.kill(signal.SIGKILL)
            elif what == "break":
                for pod in running:
                    [shut(connection) for connection in pod.sockets]
            found = {"log": api.log, "jobs": api.made}.get(what, [pod.name for pod in api.pods.values()])
        self.answer(found)


class Real:
    """A node of an API server."""

    def __init__(self, arguments, port, pods):
        self.arguments, self.port, self.pods, self.seen = arguments, port, pods, {}
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE

    def ask(self, method, path, body=None, kind="application/json"):
        request = urllib.request.Request(self.arguments.api + path, method=method,
                                         data=json.dumps(body).encode() if body is not None else None)
        request.add_header("Authorization", f"Bearer {self.arguments.token}")
        request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, context=self.tls) as answer:
            return json.load(answer)

    def register(self):
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        try:
            self.ask("POST", "/api/v1/nodes", node)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
        status = {"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                             "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
                             "conditions": [{"type": "Ready", "status": "True", "reason": "x", "message": "x"}]}}
        self.ask("PATCH", f"/api/v1/nodes/{NODE}/status", status, "application/merge-patch+json")

    def run(self):
        while True:
            pods = self.ask("GET", "/api/v1/pods")["items"]
            for pod in pods:
                self.look(pod)
            there = {pod["metadata"]["uid"] for pod in pods}
            for uid in set(self.seen) - there:
                self.seen.pop(uid)
            time.sleep(0.1)

    def look(self, pod):
        meta, path = pod["metadata"], f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        if meta["uid"] not in self.seen:
            if meta.get("deletionTimestamp"):
                return
            if not pod["spec"].get("nodeName"):
                self.ask("POST", path + "/binding", {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]},
                                                     "target": {"kind": "Node", "name": NODE}})
            its = Pod(pod["spec"], meta["name"], self.arguments, {})
            self.seen[meta["uid"]] = (its, None)
            self.pods[meta["name"]] = its
            with LOCK:
                its.start()
        its, told = self.seen[meta["uid"]]
        status = its.status()
        if status != told and not meta.get("deletionTimestamp"):
            self.ask("PATCH", path + "/status", {"status": status}, "application/merge-patch+json")
            self.seen[meta["uid"]] = (its, status)
        if meta.get("deletionTimestamp"):
            its.remove()
            self.ask("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})


GROUPS = {"v1": "core", "apps/v1": "apps", "batch/v1": "batch", "rbac.authorization.k8s.io/v1": "rbac"}


def check(arguments):
    import yaml
    api, wrong = Api(arguments), []
    for name in arguments.check:
        with open(name) as file:
            for thing in yaml.safe_load_all(file):
                definition = f"io.k8s.api.{GROUPS[thing['apiVersion']]}.v1.{thing['kind']}"
                told = api.check(thing, {"$ref": "#/definitions/" + definition}, thing["kind"])
                print(f"{thing['kind']}: {told or 'good'}")
                wrong.append(told)
    sys.exit(1 if any(wrong) else 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", nargs="*", default=[])
    for name in ["rbuild", "dir", "schema", "token", "api", "certificate", "key", "client-ca"]:
        parser.add_argument("--" + name, default="")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if arguments.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments.certificate, arguments.key)
        if arguments.client_ca:
            tls.load_verify_locations(arguments.client_ca)
            tls.verify_mode = ssl.CERT_REQUIRED
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.pods = {}
    print(server.server_port, flush=True)
    if not arguments.api:
        server.api = Api(arguments)
        server.pods = server.api.pods
        # Plain, for tests alone.
        control = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        control.daemon_threads, control.api = True, server.api
        threading.Thread(target=control.serve_forever, daemon=True).start()
        print(control.server_port, flush=True)

    def end():
        # With whoever started it.
        sys.stdin.read()
        [pod.kill(signal.SIGKILL) for pod in list(server.pods.values())]
        os._exit(0)

    threading.Thread(target=end, daemon=True).start()
    if arguments.api:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        real = Real(arguments, server.server_port, server.pods)
        real.register()
        print("registered", flush=True)
        real.run()
    server.serve_forever()


main()
