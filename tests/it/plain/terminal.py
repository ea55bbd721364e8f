"""A shell in a terminal: types into it, and prints what it showed and its exit code.

    terminal.py RBUILD STORE CONTEXT
"""
import fcntl, os, pty, struct, sys, termios

rbuild, store, context = sys.argv[1:]
# What is typed when something was shown that does not stand in what is typed.
script = [
    (" # ", "tty; stty size; echo to-tty > /dev/tty; test -c $(tty) && echo is-there; echo after-$((1+1))\n"),
    ("after-2", "sleep 1000 & echo asleep-$((1+2)); fg\n"),
    ("asleep-3", "\x03"),
    ("^C", "jobs; echo still-$((40+2)); exit 7\n"),
]
pid, fd = pty.fork()
if pid == 0:
    os.execv(rbuild, [rbuild, "--root", store, "shell", "--at", "shell", context])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
shown, seen = "", 0
while True:
    try:
        data = os.read(fd, 4096)
    except OSError:
        break
    if not data:
        break
    shown += data.decode(errors="replace")
    if script and script[0][0] in shown[seen:]:
        seen = len(shown)
        os.write(fd, script.pop(0)[1].encode())
print(shown.replace("\r", ""))
print("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
