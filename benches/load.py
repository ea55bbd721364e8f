#!/usr/bin/env python3
"""From a build to `docker run`: rbuild's --load beside `docker load` of a whole archive, and beside docker's own builder.

    cargo build --release
    benches/load.py [--program target/release/rbuild] [--size 400] [--rounds 5] [--builders rbuild,archive,docker,buildkit]

Needs a running dockerd of an own ($DOCKER_HOST), which it fills and empties; for buildkit also a running buildkitd
($BUILDKIT_HOST) and buildctl. The image has one layer of --size MB of noise, which is in the context, and a small one on top.
Each builder builds and loads: first `unchanged`, then with `one small layer` changed, then `all of it` into a docker that has
nothing, with a warm cache of its own. Prints the median and the least of the rounds in seconds.

rbuild    rbuild --load=docker -t NAME
archive   rbuild -o type=docker,dest=- | docker load: the way without --load
docker    DOCKER_BUILDKIT=0 docker build, of docker up to 28; it keeps its layers where its images are
buildkit  buildctl build --output type=docker | docker load, as buildx does it with a builder of its own
"""
import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time

DOCKERFILE = "FROM scratch\nCOPY large /large\nCOPY small /small\n"


def run(command, **more):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)


def piped(first, folder):
    """`first`, whose output docker loads."""
    source = subprocess.Popen(first, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    run(["docker", "load"], stdin=source.stdout)
    source.stdout.close()
    if source.wait() != 0:
        raise SystemExit(f"{first} failed")


def builders(program, store):
    own = [program, "--root", store, "build", "--progress=quiet"]
    name = "bench-load:1"
    return {
        "rbuild": lambda folder: run([*own, "--load=docker", "-t", name, folder]),
        "archive": lambda folder: piped([*own, "-o", "type=docker,dest=-", "-t", name, "."], folder),
        "docker": lambda folder: run(
            ["docker", "build", "-q", "-t", name, folder], env={**os.environ, "DOCKER_BUILDKIT": "0"}
        ),
        "buildkit": lambda folder: piped(
            ["buildctl", "build", "--frontend=dockerfile.v0", "--local=context=.", "--local=dockerfile=.",
             f"--output=type=docker,name={name}"],
            folder,
        ),
    }


def change(folder):
    with open(os.path.join(folder, "small"), "w") as file:
        file.write(f"{time.monotonic_ns()}\n")


def timed(build, folder):
    begun = time.perf_counter()
    build(folder)
    return time.perf_counter() - begun


def forget():
    ids = subprocess.run(["docker", "images", "-q"], check=True, capture_output=True, text=True).stdout.split()
    if ids:
        run(["docker", "rmi", "-f", *set(ids)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/rbuild")
    parser.add_argument("--size", type=int, default=400, help="MB of the large layer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--builders", default="rbuild,archive,docker")
    options = parser.parse_args()
    work = tempfile.mkdtemp(prefix="rbuild-load-")
    try:
        folder = os.path.join(work, "context")
        os.mkdir(folder)
        with open(os.path.join(folder, "Dockerfile"), "w") as file:
            file.write(DOCKERFILE)
        with open(os.path.join(folder, "large"), "wb") as file:
            for _ in range(options.size):
                file.write(os.urandom(1 << 20))
        all_builders = builders(os.path.abspath(options.program), os.path.join(work, "store"))
        chosen = {name: all_builders[name] for name in options.builders.split(",")}
        print(f"| seconds, median (least) of {options.rounds} | unchanged | one small layer | all of it |")
        print("|---|---|---|---|")
        for name, build in chosen.items():
            rows = {"unchanged": [], "small": [], "all": []}
            change(folder)
            build(folder)
            for _ in range(options.rounds):
                rows["unchanged"].append(timed(build, folder))
                change(folder)
                rows["small"].append(timed(build, folder))
            # Docker's own builder has its cache in its images: all of it is built anew then.
            for _ in range(max(1, options.rounds // 2)):
                forget()
                rows["all"].append(timed(build, folder))
            forget()
            cells = [f"{statistics.median(times):.2f} ({min(times):.2f})" for times in rows.values()]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    finally:
        shutil.rmtree(work)


main()
