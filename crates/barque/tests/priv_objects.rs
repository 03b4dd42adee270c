//! Networks and volumes as objects: every flag, filter and refusal of their commands, played on Barque and on Docker.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::play::same;
use pair::{Engine, in_namespaces};

/// Words of commands; `~` is a space within one.
const NETWORKS: &[&str] = &[
    "network ls --format {{.Name}}~{{.Driver}}~{{.Scope}}",
    "network create --driver bridge --subnet 10.81.0.0/16 --gateway 10.81.0.254 --ip-range 10.81.5.0/24 --label a=b \
     --label c --opt com.docker.network.bridge.name=bqobj0 --attachable full",
    "network inspect -f {{.Name}}~{{.Driver}}~{{.Scope}}~{{.Internal}}~{{.Attachable}}~{{.EnableIPv6}} full",
    "network inspect -f {{json~.IPAM}}~{{json~.Labels}}~{{json~.Options}} full",
    "network create full",
    "network create --subnet 10.81.4.0/24 overlap",
    "network create --subnet nonsense bad",
    "network create --subnet 10.82.0.0/24 --gateway 10.83.0.1 bad",
    "network create --subnet 10.82.0.0/24 --ip-range 10.83.0.0/24 bad",
    "network create --gateway 10.83.0.1 bad",
    "network create --driver nosuch bad",
    "network create bridge",
    "network create --internal --label tier=back inner",
    "network inspect -f {{.Internal}}~{{json~.Labels}} inner",
    "network create --ipv6 --subnet 10.84.0.0/24 --subnet fd84::/64 six",
    "network inspect -f {{.EnableIPv6}}~{{(index~.IPAM.Config~0).Subnet}}~{{(index~.IPAM.Config~1).Subnet}} six",
    "network ls --filter label=a --format {{.Name}}",
    "network ls --filter label=tier=back --format {{.Name}}",
    "network ls --filter driver=host --format {{.Name}}",
    "network ls --filter name=ful --format {{.Name}}",
    "network ls --filter type=custom --format {{.Name}}",
    "network ls --filter type=builtin --format {{.Name}}",
    "network ls --filter dangling=true --format {{.Name}}",
    "network ls --filter nosuch=1",
    "run -d --name box --network full --network-alias web --ip 10.81.5.7 busybox:1 sleep 1000",
    "inspect -f {{with~.NetworkSettings.Networks.full}}{{.IPAddress}}/{{.IPPrefixLen}}~{{.Gateway}}{{end}} box",
    "network connect --ip 10.84.0.9 --ip6 fd84::9 --alias guest six box",
    "inspect -f {{with~.NetworkSettings.Networks.six}}{{.IPAddress}}~{{.GlobalIPv6Address}}~{{.IPAMConfig}}{{end}} box",
    "network connect six box",
    "network connect nosuch box",
    "network connect six nobody",
    "network connect host box",
    "network connect --ip 10.99.0.1 inner box",
    "network inspect -f {{range~.Containers}}{{.Name}}~{{.IPv4Address}}~{{.IPv6Address}}{{end}} six",
    "run --rm --network full --ip 10.81.5.7 busybox:1 true",
    "run --rm --network full --ip 10.90.0.1 busybox:1 true",
    "run --rm --network full --ip nonsense busybox:1 true",
    "run --rm --ip 172.17.0.9 busybox:1 true",
    "run --rm --network inner --ip 10.1.1.1 busybox:1 true",
    "run --rm --network nosuch busybox:1 true",
    "run --rm --network host --network-alias x busybox:1 true",
    "run --rm --network container:nobody busybox:1 true",
    "network rm six",
    "network disconnect six box",
    "network disconnect six box",
    "network disconnect nosuch box",
    "network disconnect full nobody",
    "network rm bridge",
    "network rm nosuch",
    "network prune -f --filter label=tier",
    "network rm six nosuch2",
    "rm -f box",
    "ps -aq",
    "network rm full",
    "network ls --format {{.Name}}",
];

const VOLUMES: &[&str] = &[
    "volume create --label a=b --label c -d local vol1",
    "volume inspect -f {{.Name}}~{{.Driver}}~{{.Scope}}~{{json~.Labels}}~{{json~.Options}} vol1",
    "volume create vol1",
    "volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,uid=33 mem",
    "volume inspect -f {{json~.Labels}}~{{json~.Options}} mem",
    "volume create -o bogus=1 bad",
    "volume create -o type=tmpfs bad",
    "volume create -d nosuch bad",
    "volume create a!b",
    "volume create x",
    "volume ls --format {{.Driver}}~{{.Name}}",
    "volume ls -q -f label=a",
    "volume ls -q -f label=a=c",
    "volume ls -q -f name=ol",
    "volume ls -q -f driver=local",
    "volume ls -q -f nosuch=1",
    "run -d --name box --network none -v vol1:/d -v mem:/m busybox:1 sleep 1000",
    "exec box stat -c %F~%a~%u:%g /d /m",
    "volume ls -q -f dangling=false",
    "volume ls -q -f dangling=true",
    "volume rm vol1",
    "volume rm -f vol1",
    "volume inspect nosuch",
    "volume rm nosuch",
    "volume rm -f nosuch",
    "volume rm nosuch vol1",
    "rm -f -v box",
    "volume ls -q",
    "volume rm vol1 mem",
    "volume ls -q",
];

/// Steps to which 20.10 says less or says it in words that later versions have changed, and what has to be said here.
const KNOWN: &[(&str, &str)] = &[
    // Who is in the way.
    (
        "network create --subnet 10.81.4.0/24 overlap",
        "Pool overlaps with other one on this address space: 10.81.0.0/16 of network full",
    ),
    ("network rm six", "error while removing network: network six has active endpoints (name:\"box\" id:"),
    ("run --rm --network full --ip 10.81.5.7 busybox:1 true", "Address already in use: 10.81.5.7 is held by box"),
    ("run --rm --network full --ip nonsense busybox:1 true", "invalid IPv4 address: nonsense: "),
    // Words of later versions.
    ("network create --driver nosuch bad", "could not find plugin nosuch in v1 plugin registry: plugin not found"),
    ("network create --subnet nonsense bad", "invalid subnet nonsense: invalid CIDR block notation"),
    ("network ls --filter nosuch=1", "invalid filter 'nosuch'"),
    ("volume ls -q -f nosuch=1", "invalid filter 'nosuch'"),
    ("network connect host box", "container cannot be connected to host network"),
    ("network connect --ip 10.99.0.1 inner box", "no configured subnet of network inner contains it"),
    ("run --rm --network inner --ip 10.1.1.1 busybox:1 true", "no configured subnet of network inner contains it"),
    ("run --rm --network full --ip 10.90.0.1 busybox:1 true", "no configured subnet of network full contains it"),
];

fn play(name: &str, list: &[&str]) {
    in_namespaces(name, |dir| {
        let barque = Engine::barque(dir, &[]);
        let docker = Engine::docker(dir, &[]);
        for engine in [Some(&barque), docker.as_ref()].into_iter().flatten() {
            engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        }
        let list: Vec<String> = list.iter().map(|step| (*step).to_owned()).collect();
        same(dir, &barque, docker.as_ref(), &list, KNOWN, false);
    });
}

#[test]
fn priv_networks_are_told_of_as_dockers() {
    play("priv_networks_are_told_of_as_dockers", NETWORKS);
}

#[test]
fn priv_volumes_are_told_of_as_dockers() {
    play("priv_volumes_are_told_of_as_dockers", VOLUMES);
}
