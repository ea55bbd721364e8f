#!/usr/bin/env python3
"""RUN without namespaces beside RUN with them: the same builds in a container of docker's with no option, and outside of it.

    cargo build --release
    sh testdata/fixtures/debian-base.sh --port 5066 start
    benches/plain.py --base localhost:5066/debian:bookworm --work DIR [--program target/release/rbuild] [--rounds 3] [--only twenty,gcc]

As root, with dockerd (`docker.io`) installed; starts one of its own. DIR is a folder on a file system with a journal: ext4
without one makes files ten times slower after many were removed. The store is in the container's own root there, as it is for who
gives no volume, and beside it outside. Rounds alternate. Prints the medians in seconds, and the ratio.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

INSIDE = ["usr", "etc", "proc", "sys", "dev", "tmp", "root", "run", "work", "var/tmp", "var/lib"]


def timed(command):
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return time.perf_counter() - start, done.stderr[-800:] if done.returncode else ""


def serve():
    """The container's side: a command a line, what it came to a line."""
    for line in sys.stdin:
        print(json.dumps(timed(json.loads(line))), flush=True)


def sources(folder, count, text):
    chance = random.Random(1)
    for number in range(count):
        path = folder / f"p{number // 50:04}" / f"f{number}.c"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(number) + f"/* {chance.random()} */\n" * (1 + number % 200))


def contexts(work, base):
    gcc = "RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev"
    function = "int f{0}(int n) {{ return n + {0}; }}\n".format
    steps = "".join(f"RUN echo {n} > /f{n}\n" for n in range(20))
    wanted = {
        # name: what it is, Dockerfile, its context; whether the store is emptied before
        "tiny": ("W1: scratch and one file", "FROM scratch\nCOPY hello /\n", lambda d: (d / "hello").write_text("hello\n"), False),
        "copy": ("W3: COPY of 50,000 files", f"FROM {base}\nCOPY . /src\n", lambda d: sources(d / "code", 50_000, function), False),
        "twenty": ("W5: 20 RUN", f"FROM {base}\n{steps}", None, False),
        "usr": ("W6: RUN cp -a /usr /opt/usr", f"FROM {base}\nRUN cp -a /usr /opt/usr\n", None, False),
        "cold": ("W9: empty store, RUN true", f"FROM {base}\nRUN true\n", None, True),
        "apt": ("apt-get install gcc", f"FROM {base}\nENV DEBIAN_FRONTEND=noninteractive\n{gcc}\n", None, False),
        "gcc": (
            "gcc of 1,000 files",
            f"FROM {base}\nENV DEBIAN_FRONTEND=noninteractive\n{gcc}\nCOPY code /code\nARG ROUND\n"
            "RUN cd /code && for f in */*.c; do gcc -c -O1 $f -o $f.o || exit 1; done\n",
            lambda d: sources(d / "code", 1000, function),
            False,
        ),
    }
    for name, (_, dockerfile, fill, _) in wanted.items():
        folder = work / "contexts" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "Dockerfile").write_text(dockerfile)
            if fill:
                fill(folder)
    return wanted


class Container:
    """One of a daemon of its own; has the programs of this machine."""

    def __init__(self, work):
        self.docker = ["docker", "-H", f"unix://{work}/docker/docker.sock"]
        root = work / "root"
        for name in INSIDE:
            (root / name).mkdir(parents=True, exist_ok=True)
        for name in ["bin", "sbin", "lib", "lib64"]:
            (root / name).is_symlink() or (root / name).symlink_to(f"usr/{name}")
        (work / "docker").mkdir(exist_ok=True)
        options = ["--iptables=false", "--bridge=none", "--data-root", f"{work}/docker/data", "--exec-root", f"{work}/docker/exec"]
        with open(work / "docker/log", "w") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", *options, "--pidfile", f"{work}/docker/pid", "-H", self.docker[2]], stdout=log, stderr=log
            )
        while subprocess.run([*self.docker, "version"], capture_output=True).returncode:
            if self.daemon.poll() is not None:
                raise SystemExit((work / "docker/log").read_text())
            time.sleep(0.1)
        tar = subprocess.Popen(["tar", "-C", root, "-cf", "-", "."], stdout=subprocess.PIPE)
        subprocess.run([*self.docker, "import", "-", "plain"], stdin=tar.stdout, check=True, stdout=subprocess.DEVNULL)
        shown = ["-v", "/usr:/usr:ro", "-v", "/etc:/etc:ro", "-v", f"{work}:/bench"]
        self.inside = subprocess.Popen(
            [*self.docker, "run", "--rm", "-i", "--network=host", *shown, "plain", "python3", "-u", "/bench/plain.py", "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )

    def run(self, command):
        self.inside.stdin.write(json.dumps(command) + "\n")
        self.inside.stdin.flush()
        return json.loads(self.inside.stdout.readline())

    def end(self, work):
        self.inside.stdin.close()
        self.inside.wait()
        self.daemon.terminate()
        self.daemon.wait()
        subprocess.run(["umount", f"{work}/docker/exec/netns/default"], capture_output=True)


def main(given):
    work = Path(given.work).resolve()
    work.mkdir(parents=True, exist_ok=True)
    shutil.copy(__file__, work / "plain.py")
    shutil.copy(given.program, work / "rbuild")
    wanted = contexts(work, given.base)
    container = Container(work)
    sides = {"rung 1": (timed, str(work), f"{work}/store"), "container": (container.run, "/bench", "/var/lib/store")}
    print(f"{'':32}" + "".join(f"{name:>12}" for name in sides) + "       ratio", flush=True)
    for name in given.only.split(",") if given.only else wanted:
        what, _, _, is_cold = wanted[name]
        times = {side: [] for side in sides}
        for number in range(-1, given.rounds):
            for side, (run, here, store) in sides.items():
                if is_cold:
                    run(["rm", "-rf", store])
                command = [f"{here}/rbuild", "build", "--root", store, "-q", "-o", f"type=oci,tar=false,dest={here}/out-{side[0]}"]
                # The step that is looked at runs each time, and those before it do not.
                command += ["--build-arg", f"ROUND={time.time()}"] if name == "gcc" else [] if is_cold else ["--no-cache"]
                seconds, error = run([*command, f"{here}/contexts/{name}"])
                if error:
                    raise SystemExit(f"{what}, {side}: {error}")
                # The first round fills the stores.
                if number >= 0 or is_cold:
                    times[side].append(seconds)
                shutil.rmtree(work / f"out-{side[0]}", ignore_errors=True)
        first, second = (statistics.median(times[side]) for side in sides)
        print(f"{what:32}{first:10.2f} s{second:10.2f} s{second / first:10.1f} x", flush=True)
    container.end(work)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--program", default="target/release/rbuild")
    options.add_argument("--base", default="localhost:5066/debian:bookworm")
    options.add_argument("--work", default="")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", default="")
    options.add_argument("--serve", action="store_true")
    given = options.parse_args()
    serve() if given.serve else main(given)
