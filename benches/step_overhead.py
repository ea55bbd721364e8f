#!/usr/bin/env python3
"""What a RUN costs by itself: builds of many and of one `RUN true` on a static busybox, as milliseconds for each step.

    cargo build --release
    benches/step_overhead.py [--program target/release/rbuild] [--rounds 20] [--steps 20]

As root it measures root, a user with ranges of ids (--user, default rbuildtest) and nobody, who has one id; else whoever
runs it. Prints the median and the least of the rounds, of the time that passed and of processor time (of all processes together):
on a busy machine the first says little.
"""
import argparse
import os
import pwd
import resource
import shutil
import statistics
import subprocess
import tempfile
import time


def build(program, folder, steps, account):
    # The number makes each step one that the cache does not have.
    lines = ["FROM scratch", "COPY busybox /bin/busybox"]
    lines += [f'RUN ["/bin/busybox", "true", "{time.monotonic_ns()}-{n}"]' for n in range(steps)]
    with open(os.path.join(folder, "Dockerfile"), "w") as file:
        file.write("\n".join(lines) + "\n")
    command = [program, "--root", os.path.join(folder, "home", "store"), "-q", folder]
    who = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    env = {"PATH": os.environ["PATH"], "HOME": os.path.join(folder, "home")}
    begun, used = time.perf_counter(), processor_time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env, **who)
    return (time.perf_counter() - begun) * 1000, (processor_time() - used) * 1000


def processor_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(name, account, options):
    folder = tempfile.mkdtemp(prefix="rbuild-steps-")
    try:
        os.chmod(folder, 0o755)
        os.mkdir(os.path.join(folder, "home"))
        if account is not None:
            os.chown(os.path.join(folder, "home"), account.pw_uid, account.pw_gid)
        shutil.copy("/bin/busybox", folder)
        program = shutil.copy(options.program, os.path.join(folder, "rbuild"))
        build(program, folder, 1, account)
        each = []
        for _ in range(options.rounds):
            one = build(program, folder, 1, account)
            many = build(program, folder, options.steps + 1, account)
            each.append([(m - o) / options.steps for m, o in zip(many, one)])
        for what, values in zip(("passed", "processor"), zip(*each)):
            median, least = statistics.median(values), min(values)
            print(f"{name:14} {what:10} median {median:7.2f} ms  least {least:7.2f} ms", flush=True)
    finally:
        remove = ["rm", "-rf", folder]
        subprocess.run(remove if os.geteuid() == 0 else ["unshare", "--map-root-user", "--map-auto", *remove])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="target/release/rbuild")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--user", default="rbuildtest")
    options = parser.parse_args()
    if os.geteuid() != 0:
        return measure("this user", None, options)
    measure("root", None, options)
    measure("ranges of ids", pwd.getpwnam(options.user), options)
    measure("one id", pwd.getpwnam("nobody"), options)


if __name__ == "__main__":
    main()
