"""The calls that Portainer and lazydocker make, and the fields they read; plain HTTP over the engine's socket."""
import base64
import http.client
import json
import os
import socket
import struct
import sys
import time
import urllib.parse

import checks
from checks import check

PATH = sys.argv[1]


class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(PATH)


def ask(method, path, body=None, status=(200, 201, 204, 304), version="/v1.41"):
    """One request; the answer as JSON if it is."""
    connection = Connection("engine")
    text = None if body is None else json.dumps(body)
    connection.request(method, version + path, text, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status not in (status if isinstance(status, tuple) else (status,)):
        raise SystemExit(f"not ok: {method} {path}: {answer.status} {data[:300]!r}")
    try:
        return json.loads(data)
    except ValueError:
        return data


def has(thing, names, what):
    """All fields are there; a dot goes into an object or the first of a list."""
    for name in names.split():
        value = thing
        for part in name.split("."):
            value = value[0] if isinstance(value, list) else value
            if not isinstance(value, dict) or part not in value:
                raise SystemExit(f"not ok: {what}: no {name} in {json.dumps(thing)[:600]}")
            value = value[part]
    check(True, what)


def filters(**wanted):
    return urllib.parse.quote(json.dumps(wanted))


def upgrade(path, headers, body=b""):
    """A connection that leaves HTTP; its first bytes after the headers, and the status line."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(20)
    stream.connect(PATH)
    method = "GET" if "websocket" in headers else "POST"
    stream.sendall(f"{method} /v1.41{path} HTTP/1.1\r\nHost: engine\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    head = b""
    while b"\r\n\r\n" not in head:
        head += stream.recv(1)
    return stream, head.split(b"\r\n")[0].decode(), head.decode()


def until(stream, wanted):
    """Reads until `wanted` has come."""
    seen = b""
    while wanted not in seen:
        piece = stream.recv(4096)
        if not piece:
            raise SystemExit(f"not ok: {wanted!r} did not come: {seen!r}")
        seen += piece
    return seen


def overview():
    """What the first page of a tool asks for: Portainer's snapshot."""
    check(ask("GET", "/_ping") == b"OK", "ping")
    has(ask("GET", "/version", version=""), "Version ApiVersion MinAPIVersion Os Arch KernelVersion Components.Name", "version")
    info = ask("GET", "/info")
    has(info, "ID Name ServerVersion NCPU MemTotal OperatingSystem KernelVersion Architecture Driver Containers "
        "ContainersRunning ContainersStopped ContainersPaused Images Plugins.Volume Plugins.Network Plugins.Log "
        "Swarm.LocalNodeState Swarm.ControlAvailable SecurityOptions DockerRootDir CgroupVersion Warnings Labels "
        "Runtimes DefaultRuntime", "info: what is shown of an environment")
    check(info["Swarm"]["LocalNodeState"] == "inactive", "info: no swarm, so no tool looks for services")
    has(ask("GET", "/system/df"), "LayersSize Images Containers Volumes BuildCache", "disk usage")
    check(isinstance(ask("GET", "/plugins"), list), "plugins")
    for path in ("/swarm", "/services", "/nodes", "/secrets", "/configs", "/tasks"):
        answer = ask("GET", path, status=501)
        if "message" not in answer:
            raise SystemExit(f"not ok: {path}: {answer}")
    check(True, "swarm's nouns answer with a message")


def lists(box):
    row = next(c for c in ask("GET", "/containers/json?all=1&size=1") if c["Id"] == box)
    has(row, "Id Names Image ImageID Command Created State Status Ports.PrivatePort Ports.PublicPort Ports.Type Ports.IP "
        "Labels SizeRootFs HostConfig.NetworkMode NetworkSettings.Networks.bridge.IPAddress Mounts.Type",
        "containers: the columns")
    check(row["Names"] == ["/gui"] and row["State"] == "running" and row["Status"].startswith("Up"), "containers: the row")
    stopped = ask("GET", f"/containers/json?all=1&filters={filters(status=['exited'])}")
    check(box not in [c["Id"] for c in stopped], "containers: a filter")
    image = next(i for i in ask("GET", "/images/json?all=0") if "busybox:latest" in (i["RepoTags"] or []))
    has(image, "Id ParentId RepoTags RepoDigests Created Size SharedSize Labels Containers", "images: the columns")
    has(ask("GET", f"/images/{image['Id']}/json"), "Id RepoTags Architecture Os Size Config.Cmd Config.Env RootFS.Layers "
        "Metadata.LastTagTime GraphDriver.Name Created", "an image")
    has(ask("GET", f"/images/{image['Id']}/history"), "Id Created CreatedBy Size Tags Comment", "its layers")
    networks = ask("GET", "/networks")
    check({"bridge", "host", "none"} <= {n["Name"] for n in networks}, "networks")
    bridge = ask("GET", "/networks/bridge")
    has(bridge, "Id Name Driver Scope Internal Attachable Ingress IPAM.Driver IPAM.Config.Subnet IPAM.Config.Gateway "
        "Options Labels Created EnableIPv6", "a network")
    has(bridge["Containers"][box], "Name EndpointID MacAddress IPv4Address IPv6Address", "who is in it")
    volumes = ask("GET", "/volumes")
    has(volumes, "Volumes.Name Volumes.Driver Volumes.Mountpoint Volumes.Scope Volumes.Labels Volumes.CreatedAt Warnings", "volumes")
    dangling = ask("GET", f"/volumes?filters={filters(dangling=['true'])}")["Volumes"] or []
    check("guidata" not in [v["Name"] for v in dangling], "volumes that nobody uses")


def details(box):
    has(ask("GET", f"/containers/{box}/json"), "Id Name Created Path Args State.Status State.Running State.StartedAt "
        "State.FinishedAt State.ExitCode State.Pid State.Health.Status State.Health.FailingStreak State.Health.Log Image "
        "RestartCount Config.Env Config.Cmd Config.Labels Config.Image Config.Tty Config.OpenStdin Config.Hostname "
        "HostConfig.RestartPolicy.Name HostConfig.Binds HostConfig.PortBindings HostConfig.Memory HostConfig.NanoCpus "
        "HostConfig.Privileged HostConfig.Runtime HostConfig.LogConfig.Type HostConfig.CapAdd "
        "NetworkSettings.Networks.bridge.Gateway NetworkSettings.Ports Mounts.Type Mounts.Name Mounts.Source "
        "Mounts.Destination Mounts.RW Mounts.Driver LogPath", "a container")
    stats = ask("GET", f"/containers/{box}/stats?stream=false")
    has(stats, "read preread num_procs pids_stats.current cpu_stats.cpu_usage.total_usage cpu_stats.system_cpu_usage "
        "cpu_stats.cpu_usage.usage_in_kernelmode cpu_stats.online_cpus precpu_stats.cpu_usage.total_usage "
        "precpu_stats.system_cpu_usage memory_stats.usage memory_stats.limit memory_stats.stats "
        "blkio_stats.io_service_bytes_recursive networks.eth0.rx_bytes networks.eth0.tx_bytes", "stats: the curves")
    check(stats["precpu_stats"]["system_cpu_usage"] > 0, "stats without stream: two samples, or there is no percentage")
    connection = Connection("engine")
    connection.request("GET", f"/v1.41/containers/{box}/stats?stream=1")
    lines = connection.getresponse()
    first, second = json.loads(lines.readline()), json.loads(lines.readline())
    check(first["read"] < second["read"] and second["precpu_stats"]["system_cpu_usage"] > 0, "stats as a stream")
    connection.close()
    has(ask("GET", f"/containers/{box}/top"), "Titles Processes", "top")
    logs = ask("GET", f"/containers/{box}/logs?stdout=1&stderr=1&timestamps=1&tail=100&since=0")
    kind, size = struct.unpack(">BxxxI", logs[:8])
    stamp, text = logs[8:8 + size].split(b" ", 1)
    check(kind == 1 and stamp.startswith(b"20") and stamp.endswith(b"Z") and text == b"ready\n", "logs with times, in frames")


def consoles(box):
    """A shell in the browser: exec with a terminal, made larger, over the connection that stops to be HTTP."""
    exec_id = ask("POST", f"/containers/{box}/exec", {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True,
                                                      "Tty": True, "Cmd": ["sh"], "User": ""})["Id"]
    body = json.dumps({"Detach": False, "Tty": True}).encode()
    stream, status, head = upgrade(f"/exec/{exec_id}/start", "Connection: Upgrade\r\nUpgrade: tcp\r\n"
                                   "Content-Type: application/json\r\n", body)
    check(" 101 " in status and "application/vnd.docker.raw-stream" in head, "exec: the connection is handed over")
    ask("POST", f"/exec/{exec_id}/resize?h=40&w=120")
    stream.sendall(b"stty size; exit 7\n")
    check(b"40 120" in until(stream, b"40 120"), "exec: a terminal of the browser's size")
    while stream.recv(4096):
        pass
    check(ask("GET", f"/exec/{exec_id}/json")["ExitCode"] == 7, "exec: its exit status")
    key = base64.b64encode(os.urandom(16)).decode()
    stream, status, _ = upgrade(f"/containers/{box}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1",
                                f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n")
    check(" 101 " in status, "attach by websocket")
    mask, text = b"abcd", b"word\n"
    stream.sendall(bytes([0x82, 0x80 | len(text)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(text)))
    check(b"got word" in until(stream, b"got word"), "attach by websocket: input and output")
    stream.close()


def actions(box):
    connection = Connection("engine")
    connection.request("GET", f"/v1.41/events?filters={filters(container=[box])}")
    stream = connection.getresponse()
    for verb in ("pause", "unpause", "restart?t=1", "stop?t=1", "start", "kill?signal=KILL"):
        ask("POST", f"/containers/{box}/{verb}")
    ask("POST", f"/containers/{box}/wait")
    seen = []
    while "die" not in seen or seen.count("die") < 3:
        event = json.loads(stream.readline())
        seen.append(event["Action"])
    has(event, "Type Action Actor.ID Actor.Attributes.name Actor.Attributes.image time timeNano status id from", "an event")
    order = [a for a in seen if a in ("pause", "unpause", "restart", "start", "stop")]
    if order != ["pause", "unpause", "stop", "start", "restart", "stop", "start"]:
        raise SystemExit(f"not ok: events of the buttons: {seen}")
    check(True, "events of the buttons")
    connection.close()
    now = int(time.time())
    check(isinstance(ask("GET", f"/events?since={now - 60}&until={now}"), (bytes, dict)), "events of the last minute")
    ask("POST", f"/containers/{box}/rename?name=renamed")
    ask("POST", f"/containers/{box}/update", {"RestartPolicy": {"Name": "unless-stopped"}})
    policy = ask("GET", "/containers/renamed/json")["HostConfig"]["RestartPolicy"]["Name"]
    check(policy == "unless-stopped", "rename and update")
    ask("DELETE", f"/containers/{box}?v=0&force=true")
    ask("DELETE", "/volumes/guidata?force=false")
    for noun in ("containers", "images", "networks", "volumes"):
        if not isinstance(ask("POST", f"/{noun}/prune"), dict):
            raise SystemExit(f"not ok: {noun}/prune")
    has(ask("POST", "/build/prune"), "SpaceReclaimed", "everything is pruned")


def main():
    overview()
    made = ask("POST", "/containers/create?name=gui", {
        "Image": "busybox:latest", "OpenStdin": True, "Cmd": ["sh", "-c", "echo ready; while read a; do echo got $a; done"],
        "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["CMD", "true"], "Interval": 500_000_000},
        "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8090"}]}, "Binds": ["guidata:/data"]}})
    has(made, "Id Warnings", "created")
    box = made["Id"]
    ask("POST", f"/containers/{box}/start")
    time.sleep(0.7)
    lists(box)
    details(box)
    consoles(box)
    actions(box)
    print(checks.passed, "checks passed with the calls of graphical tools")


main()
