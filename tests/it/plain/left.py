"""Kills processes of a build whose step has a cache and a secret, and looks at what becomes of these.

    left.py RBUILD STORE CONTEXT

The context's step adds a line to /c/lines, says `begun` and sleeps; that of its Dockerfile `Whole` says how many lines there
are. Prints a line for each victim.
"""
import os, signal, subprocess, sys, threading

rbuild, store, context = sys.argv[1:]
secret = "of-the-secret"
open("/tmp/secret", "w").write(secret)


def parents():
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            if stat[0] != "Z":
                found[int(pid)] = int(stat[1])
        except OSError:
            pass
    return found


def children(of):
    return [pid for pid, parent in parents().items() if parent == of]


def is_ours(pid):
    """The command has executed; what is rbuild's has the program that its parent has."""
    return b"rbuild" in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")[0]


def holds_secret():
    grep = subprocess.run(["grep", "-rl", "--exclude-dir=logs", secret, store], capture_output=True, text=True)
    return bool(grep.stdout)


def lines():
    # Another argument each time, so that the step runs.
    args = ["--secret", "id=s,src=/tmp/secret", "--build-arg", f"AT={expected}", "-f", f"{context}/Whole", context]
    done = subprocess.run([rbuild, "--root", store, "--progress=plain", *args], capture_output=True, text=True)
    said = [line.split()[-1] for line in (done.stdout + done.stderr).splitlines() if " lines " in line]
    return said[-1] if said and done.returncode == 0 else done.stdout + done.stderr


before = set(parents())
expected = 0
for victim in ["rbuild", "zygote", "keeper", "supervisor", "keeper and rbuild", "all"]:
    build = subprocess.Popen([rbuild, "--root", store, "--progress=plain", "--secret", "id=s,src=/tmp/secret", context],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    for line in build.stderr:
        if line.rstrip().endswith(" begun"):
            break
    else:
        sys.exit(f"{victim}: the step did not begin")
    threading.Thread(target=build.stderr.read, daemon=True).start()
    expected += 1
    zygote = next(pid for pid in children(build.pid) if any(is_ours(child) for child in children(pid)))
    keeper = next(pid for pid in children(zygote) if is_ours(pid))
    supervisor = next(pid for pid in children(keeper) if is_ours(pid))
    pids = {"rbuild": [build.pid], "zygote": [zygote], "keeper": [keeper], "supervisor": [supervisor],
            "keeper and rbuild": [keeper, build.pid],
            "all": [pid for pid in parents() if pid not in before and pid != os.getpid()]}[victim]
    for sign in [signal.SIGSTOP, signal.SIGKILL]:
        for pid in pids:
            os.kill(pid, sign)
    build.wait(20)
    while set(parents()) - before:
        pass
    # When nobody is left of a build who could do it, the next one does.
    at_once = victim not in ["keeper and rbuild", "all"]
    left = "left" if at_once and holds_secret() else "gone"
    found = lines()
    left = "left" if holds_secret() else left
    print(f"{victim}: secret {left}, lines {'all' if found == str(expected) else found}", flush=True)
