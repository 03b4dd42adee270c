"""A program's day with the library `docker`: every noun of it once, and its errors."""
import io
import json
import tarfile
import threading
import time

import docker
from docker import errors, types

import checks
from checks import check

client = docker.from_env()
api = client.api


def raises(kind, what, call, *arguments, text="", **named):
    """The call has to fail with this exception."""
    try:
        result = call(*arguments, **named)
    except kind as error:
        check(text in str(error), f"{what}: {kind.__name__}")
        return error
    raise SystemExit(f"not ok: {what} gave {result!r}")


def archive(**files):
    """A tar archive of text files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def system():
    check(client.ping(), "ping")
    check(client.version()["ApiVersion"] == "1.56", "version: the newest API")
    check(docker.from_env(version="1.41").version()["Os"] == "linux", "an older API")
    info = client.info()
    check(info["OSType"] == "linux" and isinstance(info["Containers"], int), "info")
    usage = client.df()
    check({"Images", "Containers", "Volumes", "BuildCache"} <= set(usage), "df")


def containers():
    check(client.containers.run("busybox", "echo hello", remove=True) == b"hello\n", "run gives the output")
    check(client.containers.run("busybox", ["sh", "-c", "echo out; echo err >&2"], stdout=True, stderr=True,
                                remove=True) in (b"out\nerr\n", b"err\nout\n"), "run gives both streams")
    error = raises(errors.ContainerError, "run of a command that fails", client.containers.run, "busybox",
                   ["sh", "-c", "echo why >&2; exit 3"], remove=True)
    check(error.exit_status == 3 and error.stderr == b"why\n", "the error has status and standard error")
    raises(errors.ImageNotFound, "an image that is not there", client.images.get, "nosuch:1")
    raises(errors.NotFound, "a container that is not there", client.containers.get, "nosuch", text="No such container")
    raises(errors.APIError, "a wrong name", client.containers.create, "busybox", name="wrong name")
    box = client.containers.run("busybox", "sleep 300", name="box", detach=True, labels={"of": "scenario"},
                                environment={"A": "1"}, mem_limit="64m", ports={"80/tcp": 8089},
                                tmpfs={"/scratch": "size=1m"}, init=True,
                                healthcheck={"test": ["CMD", "true"], "interval": 200_000_000})
    raises(errors.APIError, "a name that is taken", client.containers.create, "busybox", name="box", text="Conflict")
    check([c.name for c in client.containers.list(filters={"label": "of=scenario"})] == ["box"], "list with a filter")
    box.reload()
    check(box.status == "running" and box.ports["80/tcp"][0]["HostPort"] == "8089", "status and ports")
    check(box.attrs["HostConfig"]["Memory"] == 64 << 20, "attrs")
    for _ in range(100):
        box.reload()
        if box.health == "healthy":
            break
        time.sleep(0.05)
    check(box.health == "healthy", "health")
    return box


def in_a_container(box):
    code, output = box.exec_run("sh -c 'echo $A; exit 4'")
    check((code, output) == (4, b"1\n"), "exec_run: status and output")
    _, (out, err) = box.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
    check((out, err) == (b"o\n", b"e\n"), "exec_run parts the streams")
    _, stream = box.exec_run("seq 3", stream=True)
    check(b"".join(stream) == b"1\n2\n3\n", "exec_run as a stream")
    check(box.exec_run("id -u", user="7", workdir="/tmp", environment=["X=1"])[1] == b"7\n", "exec_run as another user")
    exec_id = api.exec_create("box", "cat", stdin=True)["Id"]
    socket = api.exec_start(exec_id, socket=True)._sock
    socket.sendall(b"typed\n")
    socket.shutdown(1)
    received = b""
    while chunk := socket.recv(100):
        received += chunk
    check(received == b"\x01\0\0\0\0\0\0\x06typed\n", "exec_start over a socket: input, frames, end")
    check(api.exec_inspect(exec_id)["ExitCode"] == 0, "exec_inspect")
    check(box.put_archive("/tmp", archive(file="content\n")), "put_archive")
    chunks, stat = box.get_archive("/tmp/file")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        check(tar.extractfile("file").read() == b"content\n" and stat["size"] == 8, "get_archive")
    raises(errors.NotFound, "get_archive of nothing", box.get_archive, "/nosuch")
    check({"Path": "/tmp/file", "Kind": 1} in box.diff(), "diff")
    check(any("sleep" in process[-1] for process in box.top()["Processes"]), "top")
    stats = box.stats(stream=False)
    check(stats["memory_stats"]["limit"] == 64 << 20 and "total_usage" in stats["cpu_stats"]["cpu_usage"], "stats")
    check(next(box.stats(decode=True))["name"] in ("box", "/box"), "stats as a stream")
    box.pause()
    box.reload()
    check(box.status == "paused", "pause")
    box.unpause()
    box.update(mem_limit="32m", memswap_limit="32m")
    box.reload()
    check(box.attrs["HostConfig"]["Memory"] == 32 << 20, "update")
    box.rename("case")
    check(client.containers.get("case").id == box.id, "rename")
    box.restart(timeout=1)
    box.stop(timeout=1)
    check(box.wait()["StatusCode"] in (137, 143), "restart, stop, wait")
    box.start()
    box.kill("SIGKILL")
    box.wait()
    saved = box.commit("committed", "1", changes=["ENV B=2"])
    check("B=2" in saved.attrs["Config"]["Env"], "commit")
    box.remove(v=True)
    raises(errors.NotFound, "it is gone", box.reload)


def output():
    box = client.containers.create("busybox", ["sh", "-c", "read a; echo got $a; echo end"], stdin_open=True)
    socket = box.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    box.start()
    socket._sock.sendall(b"line\n")
    check(box.wait(timeout=10)["StatusCode"] == 0, "attach_socket writes")
    check(box.logs() == b"got line\nend\n", "logs")
    check(box.logs(tail=1) == b"end\n", "logs, the last line")
    check(box.logs(timestamps=True).split()[0].endswith(b"Z"), "logs with times")
    check(b"".join(box.logs(stream=True, follow=True)) == b"got line\nend\n", "logs followed to the end")
    check(box.attach(logs=True) == b"got line\nend\n", "attach gives what was written")
    box.remove()
    terminal = client.containers.run("busybox", "tty", tty=True, detach=True)
    terminal.wait()
    check(terminal.logs() == b"/dev/pts/0\r\n", "a terminal")
    terminal.remove()


def images():
    image, log = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nARG WHO=nobody\nRUN echo $WHO > /who\nLABEL l=1\n"),
                                     tag="built:1", buildargs={"WHO": "me"}, rm=True)
    check(any("Successfully built" in line.get("stream", "") for line in log), "build: its words")
    check(client.containers.run(image, "cat /who", remove=True) == b"me\n", "build: its image")
    error = raises(errors.BuildError, "a build that fails", client.images.build,
                   fileobj=io.BytesIO(b"FROM busybox\nRUN false\n"))
    check("returned a non-zero code: 1" in error.msg, "the error says why")
    context = archive(Dockerfile="FROM busybox\nCOPY file /\n", file="f\n")
    image, _ = client.images.build(fileobj=io.BytesIO(context), custom_context=True, tag="built:2")
    check(image.labels == {} and "built:2" in image.tags, "build of an archive")
    check(len(image.history()) >= 2, "history")
    check(image.tag("other", "3") and client.images.get("other:3").id == image.id, "tag")
    data = b"".join(image.save(named=True))
    client.images.remove("built:2")
    client.images.remove("other:3")
    raises(errors.ImageNotFound, "it is removed", client.images.get, "built:2")
    check(client.images.load(data)[0].id == image.id, "save and load")
    check(client.images.list(filters={"label": "l=1"})[0].tags == ["built:1"], "list with a filter")
    raises(errors.APIError, "an image in use is not removed", client.images.remove, "nosuch")
    raises(errors.APIError, "pull without a registry", client.images.pull, "127.0.0.1:1/x", tag="1")
    check("SpaceReclaimed" in client.images.prune(), "prune")


def networks_and_volumes():
    pool = types.IPAMPool(subnet="10.77.0.0/24", gateway="10.77.0.1")
    network = client.networks.create("net", ipam=types.IPAMConfig(pool_configs=[pool]), labels={"l": "1"}, check_duplicate=True)
    server = client.containers.run("busybox", ["sh", "-c", "while :; do echo served | nc -l -p 90; done"], name="server",
                                   network="net", detach=True)
    check(client.containers.run("busybox", "sh -c 'sleep 0.3; nc server 90 < /dev/null'", network="net", remove=True)
          == b"served\n", "containers find each other by name")
    client.networks.create("second").connect(server, aliases=["alias"])
    server.reload()
    check(set(server.attrs["NetworkSettings"]["Networks"]) == {"net", "second"}, "connect")
    network.reload()
    check([c.name for c in network.containers] == ["server"], "who is in a network")
    raises(errors.APIError, "a network in use", network.remove, text="active endpoints")
    client.networks.get("second").disconnect(server)
    server.remove(force=True)
    check(len(client.networks.list(names=["net"])) == 1, "list")
    network.remove()
    check(client.networks.prune()["NetworksDeleted"] == ["second"], "networks are pruned")
    volume = client.volumes.create("data", labels={"l": "1"})
    client.containers.run("busybox", "sh -c 'echo kept > /d/file'", volumes={"data": {"bind": "/d", "mode": "rw"}}, remove=True)
    mount = types.Mount("/d", "data", read_only=True)
    check(client.containers.run("busybox", "cat /d/file", mounts=[mount], remove=True) == b"kept\n", "a volume keeps")
    check([v.name for v in client.volumes.list(filters={"label": "l=1"})] == ["data"], "volumes are listed")
    volume.remove()
    raises(errors.NotFound, "a volume that is not there", client.volumes.get, "data")


def events():
    seen, ready = [], threading.Event()

    def listen():
        stream = docker.from_env().events(decode=True, filters={"type": "container"})
        ready.set()
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    ready.wait()
    time.sleep(0.2)
    client.containers.run("busybox", "true", remove=True)
    thread.join(10)
    order = [action for action in seen if action in ("create", "start", "die", "destroy")]
    check(order == ["create", "start", "die", "destroy"], "events as they come")
    past = list(client.events(since=int(time.time()) - 60, until=int(time.time()), decode=True))
    check(past and all("timeNano" in event for event in past), "events of the past")


system()
in_a_container(containers())
output()
images()
networks_and_volumes()
events()
check(client.containers.prune()["SpaceReclaimed"] >= 0 and client.containers.list(all=True) == [], "nothing is left")
print(checks.passed, "checks passed with the library", docker.__version__)
