#!/usr/bin/env python3
"""What a build costs on a machine with an empty store, beside a cache that machines share: rbuild, and BuildKit if it runs here.

    benches/shared_cache.py --rbuild target/release/rbuild [--buildctl buildctl] --base localhost:5000/debian:bookworm --work /dev/shm/x

`--delay 20` puts that many milliseconds between the registry and whoever asks it: each answer comes so much later.

A registry of its own (Debian's docker-registry) holds base, cache and image. Told are seconds, requests to that registry and bytes that it
sent. Rounds alternate between the builders. buildkitd must know localhost:PORT as http.

    W0   the same build without a cache, its image pushed
    W14  nothing changed, image pushed
    W15  one of 5,000 sources changed; image and cache pushed
    W16  an empty cache; image and cache pushed
    W17  a compile step with a cache mount of 10,000 objects, one source changed
    W18  200 steps, nothing changed, image pushed
"""
import argparse
import json
import os
import queue
import random
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rbuild", default="rbuild")
parser.add_argument("--buildctl", default="", help="times BuildKit, too")
parser.add_argument("--base", default="localhost:5000/debian:bookworm")
parser.add_argument("--work", required=True)
parser.add_argument("--port", type=int, default=5077)
parser.add_argument("--delay", type=float, default=0, help="milliseconds by which each answer of the registry comes later")
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--only", default="W0,W14,W15,W16,W17,W18")
OPTIONS = parser.parse_args()
WORK = Path(OPTIONS.work)
DIRECT = f"localhost:{OPTIONS.port}"
HOST = f"localhost:{OPTIONS.port + 1}" if OPTIONS.delay else DIRECT
LOG = WORK / "access.log"


def call(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}")


def delayed(seconds):
    """Passes connections on to the registry; what it answers comes later, in its order and at its speed."""
    listener = socket.create_server(("127.0.0.1", OPTIONS.port + 1), backlog=64)

    def pump(source, sink, wait):
        line = queue.Queue()

        def read():
            while data := source.recv(1 << 16):
                line.put((time.monotonic() + wait, data))
            line.put((0, b""))

        threading.Thread(target=shielded(read), daemon=True).start()
        while (due := line.get())[1]:
            time.sleep(max(0, due[0] - time.monotonic()))
            sink.sendall(due[1])
        sink.shutdown(socket.SHUT_WR)

    def accept():
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", OPTIONS.port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=shielded(pump, client, server, 0), daemon=True).start()
            threading.Thread(target=shielded(pump, server, client, seconds), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def shielded(work, *arguments):
    """Connections end as they please."""
    def run():
        try:
            work(*arguments)
        except OSError:
            pass
    return run


class Registry:
    """Empty but for the base, with an access log."""

    def __enter__(self):
        shutil.rmtree(WORK / "registry", ignore_errors=True)
        configuration = {
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": str(WORK / "registry")}},
            "http": {"addr": f"127.0.0.1:{OPTIONS.port}"},
            "log": {"formatter": "json", "accesslog": {"disabled": False}},
        }
        (WORK / "registry.yml").write_text(json.dumps(configuration))
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(WORK / "registry.yml")], stdout=LOG.open("wb"), stderr=subprocess.STDOUT)
        while subprocess.run(["curl", "-sf", f"http://{DIRECT}/v2/"], stdout=subprocess.DEVNULL).returncode:
            time.sleep(0.05)
        call(["skopeo", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false",
              f"docker://{OPTIONS.base}", f"docker://{DIRECT}/base:1"])
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    @staticmethod
    def counted(since):
        """Requests and bytes sent since that place of the log."""
        time.sleep(0.2)
        requests = sent = 0
        for line in LOG.read_bytes()[since:].splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if "http.response.written" in entry:
                requests += 1
                sent += int(entry["http.response.written"])
        return requests, sent


class Rbuild:
    name = "rbuild"
    store = WORK / "store"

    def wipe(self):
        call(["rm", "-rf", str(self.store)])

    def build(self, context, image, source=None, target=None):
        command = [OPTIONS.rbuild, "--root", str(self.store), "build", "-q", "--push", "-t", f"{HOST}/{image}"]
        command += [f"--cache-from={HOST}/{source}"] if source else []
        command += [f"--cache-to={HOST}/{target}"] if target else []
        call(command + [str(context)])


class Buildkit:
    name = "buildkit"

    def wipe(self):
        call([OPTIONS.buildctl, "prune", "--all"])

    def build(self, context, image, source=None, target=None):
        plain = "registry.insecure=true"
        command = [OPTIONS.buildctl, "build", "--frontend=dockerfile.v0", f"--local=context={context}", f"--local=dockerfile={context}",
                   f"--output=type=image,push=true,name={HOST}/{image},{plain}"]
        command += [f"--import-cache=type=registry,ref={HOST}/{source},{plain}"] if source else []
        command += [f"--export-cache=type=registry,mode=max,ref={HOST}/{target},{plain}"] if target else []
        call(command)


def application(folder):
    """Tools, dependencies, 5,000 sources, a step that reads them all, a small last stage."""
    chance = random.Random(15)
    for number in range(5000):
        path = folder / "src" / f"part{number // 50:02}" / f"file{number:04}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(f"w{chance.randrange(4000)}" for _ in range(700)))
    (folder / "Dockerfile").write_text(f"""FROM {HOST}/base:1 AS tools
RUN cp -a /usr/share /opt/tools
FROM tools AS dependencies
WORKDIR /dependencies
RUN for n in $(seq 400); do head -c 300000 /usr/bin/dpkg > lib$n; echo $n >> lib$n; done
FROM tools AS build
COPY --from=dependencies /dependencies /dependencies
COPY src /src
RUN mkdir /out && find /src -type f | sort | xargs cat | sha256sum > /out/sum && find /src -type f | sort | head -2000 | xargs cat > /out/app
FROM {HOST}/base:1
COPY --from=dependencies /dependencies/lib1 /usr/lib/
COPY --from=build /out /app
""")
    return folder / "src/part00/file0000.c"


def objects(folder):
    """10,000 sources, each compiled (compressed, that is) once for each content."""
    for number in range(10_000):
        path = folder / "src" / f"{number // 100:02}" / f"{number:05}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"int f{number}(void) {{ return {number}; }}\n" * 20)
    (folder / "compile").write_text("""set -e
cd /src; touch /objects/.known
find . -name '*.c' -exec sha256sum {} + | LC_ALL=C sort > /tmp/now
LC_ALL=C comm -13 /objects/.known /tmp/now | while read -r sum file; do
  mkdir -p "/objects/${file%/*}"; gzip -9 < "$file" > "/objects/$file.o"
done
cp /tmp/now /objects/.known
find /objects -name '*.o' | LC_ALL=C sort | xargs cat > /app
""")
    (folder / "Dockerfile").write_text(
        f"FROM {HOST}/base:1\nCOPY compile /\nCOPY src /src\nRUN --mount=type=cache,target=/objects sh /compile\n")
    return folder / "src/00/00000.c"


def steps(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {HOST}/base:1\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(200)))


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    if OPTIONS.delay:
        delayed(OPTIONS.delay / 1000)
    rows = OPTIONS.only.split(",")
    figures = {}

    def timed(row, builder, context, image, **caches):
        builder.wipe()
        before, began = LOG.stat().st_size, time.monotonic()
        builder.build(context, f"{builder.name}/{image}", **caches)
        took = time.monotonic() - began
        if row in rows:
            figures.setdefault((row, builder.name), []).append((took, *Registry.counted(before)))
            print(f"{row:4} {builder.name:9} {took:8.3f} s", flush=True)

    for run in range(OPTIONS.runs):
        for builder in [Rbuild()] + ([Buildkit()] if OPTIONS.buildctl else []):
            contexts = WORK / "contexts"
            shutil.rmtree(contexts, ignore_errors=True)
            with Registry():
                cache = f"{builder.name}/cache:1"
                source = application(contexts / "application")
                if "W0" in rows:
                    timed("W0", builder, source.parents[2], "plain:1")
                timed("W16", builder, source.parents[2], "app:1", target=cache)
                timed("W14", builder, source.parents[2], "app:2", source=cache)
                source.write_text(f"changed {run}\n")
                timed("W15", builder, source.parents[2], "app:3", source=cache, target=cache)
                if "W17" in rows:
                    cache = f"{builder.name}/objects-cache:1"
                    source = objects(contexts / "objects")
                    timed("-", builder, source.parents[2], "objects:1", target=cache)
                    source.write_text(f"int changed(void) {{ return {run}; }}\n")
                    timed("W17", builder, source.parents[2], "objects:2", source=cache, target=cache)
                if "W18" in rows:
                    cache = f"{builder.name}/steps-cache:1"
                    steps(contexts / "steps")
                    timed("-", builder, contexts / "steps", "steps:1", target=cache)
                    timed("W18", builder, contexts / "steps", "steps:2", source=cache)
            builder.wipe()
    print()
    for (row, name), runs in sorted(figures.items()):
        took, requests, sent = (statistics.median(column) for column in zip(*runs))
        print(f"{row:4} {name:9} {took:8.3f} s {requests:5.0f} requests {sent / 1e6:7.1f} MB from the registry")


main()
