"""Answers: `serve.py tcp HOST PORT TEXT` with a text, `serve.py dns HOST PORT ADDRESS` with an address for every
name; `serve.py probe` fails as long as one of world.sh's does not answer."""
import socket
import sys

if sys.argv[1] == "probe":
    for host in ("127.0.0.1", "10.77.0.1"):
        socket.create_connection((host, 8080))
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.2)
    s.connect(("127.0.0.1", 53))
    s.send(b"??\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1")
    s.recv(512)
    sys.exit()
kind, host, port, answer = sys.argv[1:]

if kind == "tcp":
    s = socket.create_server((host, int(port)))
    while True:
        c, _ = s.accept()
        c.sendall(answer.encode())
        c.close()
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((host, int(port)))
    while True:
        question, who = s.recvfrom(512)
        end = question.index(0, 12) + 5
        # Type A; for others there is no answer.
        is_address = question[end - 4 : end - 2] == b"\0\1"
        head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_address else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(answer) if is_address else b""
        s.sendto(head + question[12:end] + record, who)
