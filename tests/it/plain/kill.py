"""Kills one process of a build after another, at moments by chance, and looks at what is left.

    kill.py RBUILD STORE CONTEXT TIMES SEED

Prints a line for whatever was left, and in the end how often it was tried.
"""
import os, random, signal, subprocess, sys, time

rbuild, store, context, times, seed = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
random.seed(seed)


def processes():
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            found[int(pid)] = (int(stat[1]), stat[0], open(f"/proc/{pid}/cmdline").read().replace("\0", " "))
        except OSError:
            pass
    return found


def outside():
    """Everything in the container's own root that a step could have reached, but the store and /tmp."""
    return sorted(name for name in os.listdir("/")), sorted(os.listdir("/root")), sorted(os.listdir("/run"))


before, files = set(processes()), outside()
kinds = {}
for number in range(times):
    build = subprocess.Popen([rbuild, "--root", store, "--progress=plain", context],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.random() * 0.7)
    now = processes()

    def is_of_it(pid):
        while pid in now and pid != build.pid:
            pid = now[pid][0]
        return pid == build.pid

    mine = [pid for pid in now if is_of_it(pid)]
    helpers = [pid for pid in mine if pid != build.pid and "rbuild" in now[pid][2]]
    kind = random.choice(["rbuild", "helper", "any"])
    victim = random.choice({"rbuild": [], "helper": helpers, "any": mine}[kind] or [build.pid])
    what = now.get(victim, (0, "", "?"))[2]
    kinds[kind] = kinds.get(kind, 0) + 1
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if victim != build.pid:
        # A helper's end is a failure, or nothing; what runs for ever is then asked to end.
        time.sleep(0.1)
        build.send_signal(signal.SIGINT)
    try:
        build.wait(8)
    except subprocess.TimeoutExpired:
        print(f"HANGS {number}: {kind} {what}", flush=True)
        build.kill()
        build.wait()
    end = time.time() + 5
    while True:
        left = {pid: told for pid, told in processes().items()
                if pid not in before and pid != os.getpid() and told[1] != "Z"}
        if not left or time.time() > end:
            break
        time.sleep(0.01)
    if left:
        print(f"LEFT {number}: {kind} {what}: {left}", flush=True)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
if outside() != files:
    print("FILES", outside(), files)
# What was killed is no obstacle, and no root that was cut short is taken for a whole one.
again = subprocess.run([rbuild, "--root", store, "--progress=quiet", "-f", f"{context}/Whole", context],
                       capture_output=True, text=True)
if again.returncode:
    print("AFTERWARDS", again.stderr)
print("killed", times)
