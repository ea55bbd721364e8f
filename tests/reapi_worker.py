#!/usr/bin/env python3
"""A worker of BuildGrid for tests: reapi_worker.py HOST:PORT NAME FOLDER [UID]

Takes one job at a time over the remote-workers protocol and runs it as Buildbarn's and NativeLink's runners do: the inputs are laid out
in a folder, where the command is started as an ordinary process, with the action's variables and no others, as that user if one is
named. Needs grpcio and
the stubs of PyPI's `buildgrid`; BuildGrid's own worker program is on no registry.

Prints a line when a job begins. Killed, it takes the job's processes with it.
"""
import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import grpc
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re
from buildgrid._protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from buildgrid._protos.google.bytestream import bytestream_pb2 as bs
from buildgrid._protos.google.bytestream import bytestream_pb2_grpc as bs_grpc
from buildgrid._protos.google.devtools.remoteworkers.v1test2 import bots_pb2 as bots
from buildgrid._protos.google.devtools.remoteworkers.v1test2 import bots_pb2_grpc as bots_grpc
from buildgrid._protos.google.devtools.remoteworkers.v1test2 import worker_pb2

ACTIVE, COMPLETED, CANCELLED = 2, 4, 5
LARGE = 1 << 20

server, name, base = sys.argv[1:4]
user = int(sys.argv[4]) if len(sys.argv) > 4 else None
limit = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
channel = grpc.insecure_channel(server, options=limit)
cas = re_grpc.ContentAddressableStorageStub(channel)
stream = bs_grpc.ByteStreamStub(channel)


def read(digest):
    if digest.size_bytes == 0:
        return b""
    if digest.size_bytes < LARGE:
        answer = cas.BatchReadBlobs(re.BatchReadBlobsRequest(digests=[digest]))
        assert answer.responses[0].status.code == 0, answer.responses[0].status
        return answer.responses[0].data
    resource = f"blobs/{digest.hash}/{digest.size_bytes}"
    return b"".join(piece.data for piece in stream.Read(bs.ReadRequest(resource_name=resource)))


def write(data):
    digest = re.Digest(hash=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    if len(data) < LARGE:
        request = re.BatchUpdateBlobsRequest(requests=[{"digest": digest, "data": data}])
        assert cas.BatchUpdateBlobs(request).responses[0].status.code == 0
        return digest
    resource = f"uploads/{os.urandom(8).hex()}/blobs/{digest.hash}/{digest.size_bytes}"

    def pieces():
        for at in range(0, len(data), LARGE):
            piece = data[at:at + LARGE]
            yield bs.WriteRequest(resource_name=resource, write_offset=at, data=piece,
                                  finish_write=at + len(piece) == len(data))

    stream.Write(pieces())
    return digest


def lay_out(digest, folder):
    os.mkdir(folder)
    directory = re.Directory.FromString(read(digest))
    for file in directory.files:
        path = os.path.join(folder, file.name)
        with open(path, "wb") as out:
            out.write(read(file.digest))
        # As runners that link files from a cache: nobody may write.
        os.chmod(path, 0o555 if file.is_executable else 0o444)
    for inner in directory.directories:
        lay_out(inner.digest, os.path.join(folder, inner.name))


def tree_of(folder):
    children = []

    def directory(path):
        message = re.Directory()
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                inner = directory(entry.path)
                children.append(inner)
                data = inner.SerializeToString()
                digest = re.Digest(hash=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
                message.directories.add(name=entry.name, digest=digest)
            elif entry.is_file(follow_symlinks=False):
                with open(entry.path, "rb") as file:
                    message.files.add(name=entry.name, digest=write(file.read()))
        return message

    root = directory(folder)
    return re.Tree(root=root, children=children)


class Job:
    """One action, in a thread of its own."""

    def __init__(self, lease):
        self.lease, self.process, self.is_cancelled = lease, None, False
        self.action = re.Action()
        lease.payload.Unpack(self.action)
        self.result = re.ActionResult()
        self.is_done, self.failed = False, None
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            self.work()
        except Exception as error:  # Told to the server, which gives the job to another.
            self.failed = error
            print(name, "failed", repr(error), flush=True)
        self.is_done = True

    def work(self):
        command = re.Command.FromString(read(self.action.command_digest))
        folder = tempfile.mkdtemp(dir=base)
        root = os.path.join(folder, "root")
        try:
            lay_out(self.action.input_root_digest, root)
            variables = {variable.name: variable.value for variable in command.environment_variables}
            # What an operator gives to all actions, as NativeLink's `additional_environment` does.
            variables.update((key, value) for key, value in os.environ.items() if key.startswith("RBUILD_") or key == "DOCKER_CONFIG")
            libc = ctypes.CDLL(None)
            if user is not None:
                for path in [folder, *(entry[0] for entry in os.walk(root))]:
                    os.chown(path, user, user)

            def prepare():
                if user is not None:
                    os.setgroups([])
                    os.setgid(user)
                    os.setuid(user)
                libc.prctl(1, signal.SIGKILL)

            self.process = subprocess.Popen(
                list(command.arguments), cwd=root, env=variables, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                preexec_fn=prepare)
            print(name, "began", flush=True)
            timeout = self.action.timeout.seconds or None
            try:
                out, err = self.process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                out, err = self.process.communicate()
            self.result.exit_code = self.process.returncode
            self.result.stdout_raw = out
            self.result.stderr_digest.CopyFrom(write(err))
            for path in command.output_paths:
                made = os.path.join(root, path)
                if os.path.isdir(made):
                    tree = write(tree_of(made).SerializeToString())
                    self.result.output_directories.add(path=path, tree_digest=tree)
            self.result.execution_metadata.worker = name
            print(name, "ended", self.process.returncode, flush=True)
        finally:
            subprocess.run(["chmod", "-R", "u+rwx", folder], stderr=subprocess.DEVNULL)
            shutil.rmtree(folder, ignore_errors=True)

    def cancel(self):
        if self.process and self.process.poll() is None:
            print(name, "cancelled", flush=True)
            os.killpg(self.process.pid, signal.SIGKILL)


def main():
    stub = bots_grpc.BotsStub(channel)
    properties = [worker_pb2.Device.Property(key=key, value=value)
                  for key, value in (("OSFamily", "linux"), ("ISA", "x86-64"))]
    worker = worker_pb2.Worker(devices=[worker_pb2.Device(handle="d", properties=properties)])
    session = bots.BotSession(bot_id=name, status=1, worker=worker)
    session = stub.CreateBotSession(bots.CreateBotSessionRequest(parent="", bot_session=session), timeout=20)
    print(name, "ready", flush=True)
    job = None
    while True:
        for lease in session.leases:
            if lease.state == ACTIVE and job is None:
                job = Job(lease)
            if lease.state == CANCELLED and job is not None:
                job.cancel()
            if job is not None and job.is_done:
                lease.result.Pack(job.result)
                lease.status.code = 13 if job.failed else 0
                if lease.state != CANCELLED:
                    lease.state = COMPLETED
        if job is not None and (job.is_done or not session.leases):
            if not session.leases:
                job.cancel()
            job = None
        try:
            request = bots.UpdateBotSessionRequest(name=session.name, bot_session=session)
            session = stub.UpdateBotSession(request, timeout=2 if job else 20)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                print(name, error.code(), error.details(), flush=True)
                time.sleep(0.2)
        if job is not None:
            time.sleep(0.1)


main()
