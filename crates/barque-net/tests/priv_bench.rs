//! What plugging in and publishing cost. Prints medians; run with `--run-ignored all --no-capture`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use barque_model::Id;
use barque_net::{EndpointDef, Fabric, FabricConfig, PoolConfig, PortRequest, Proto, Target};
use common::{bridge, on_machine};

struct Row(&'static str, Vec<Duration>);

impl Row {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let out = work();
        self.1.push(start.elapsed());
        out
    }

    fn print(mut self) {
        self.1.sort();
        let us = |i: usize| self.1[i.min(self.1.len() - 1)].as_micros();
        let n = self.1.len();
        println!("{:34} median {:6} us  p95 {:6}  min {:6}  (n={n})", self.0, us(n / 2), us(n * 95 / 100), us(0));
    }
}

#[test]
#[ignore = "a measurement"]
fn plugging_in() {
    on_machine(|_| {
        for (pool, pause) in [(false, 0), (true, 0), (true, 10)] {
            let limits = if pool { PoolConfig { bare: 4, bridged: 8 } } else { PoolConfig { bare: 0, bridged: 0 } };
            let fabric = Fabric::open(FabricConfig { pool: limits, ..FabricConfig::new("bench") }).unwrap();
            let lan = bridge("lan", "barque0", &[("172.17.0.0/16", "172.17.0.1")]);
            fabric.ensure_network(&lan).unwrap();
            fabric.set_pool_network(Some(&lan));
            std::thread::sleep(Duration::from_millis(200));
            println!("pool: {pool}, {pause} ms between containers");
            let mut rows = ["namespace", "attach", "reserve tcp port", "publish", "unpublish", "release", "drop"]
                .map(|name| Row(name, Vec::new()));
            for i in 0..200u16 {
                std::thread::sleep(Duration::from_millis(pause));
                let [ns_row, attach, reserve, publish, unpublish, release, gone] = &mut rows;
                let ns = ns_row.time(|| fabric.netns(Some(&lan)).unwrap());
                let endpoint = EndpointDef::new(Id::random(), Some([172, 17, 1, (i % 250) as u8].into()));
                let attached = attach.time(|| fabric.attach(&lan, &endpoint, &ns).unwrap());
                let wish = PortRequest {
                    container_port: 80,
                    proto: Proto::Tcp,
                    host_ip: None,
                    host_ports: Some((20_000 + i, 20_000 + i)),
                };
                let ports = reserve.time(|| fabric.reserve("bench", &lan, &[wish]).unwrap());
                let target = Target { v4: endpoint.v4, v6: None };
                publish.time(|| fabric.publish(&lan, &endpoint.id, target, ports).unwrap());
                unpublish.time(|| fabric.unpublish(&endpoint.id).unwrap());
                release.time(|| fabric.release(&attached).unwrap());
                gone.time(|| drop(ns));
            }
            rows.into_iter().for_each(Row::print);
            fabric.remove_all().unwrap();
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn networks_come_and_go() {
    on_machine(|_| {
        let fabric = common::fabric("bench");
        let [mut create, mut again, mut remove] =
            ["ensure network", "ensure it again", "remove network"].map(|name| Row(name, Vec::new()));
        for i in 0..50u8 {
            let net = bridge("net", &format!("br-{i}"), &[(&format!("10.{i}.0.0/16"), &format!("10.{i}.0.1"))]);
            create.time(|| fabric.ensure_network(&net).unwrap());
            again.time(|| fabric.ensure_network(&net).unwrap());
            remove.time(|| fabric.remove_network(&net).unwrap());
        }
        create.print();
        again.print();
        remove.print();
    });
}

#[test]
#[ignore = "a measurement"]
fn twenty_at_once() {
    on_machine(|_| {
        let fabric = Fabric::open(FabricConfig::new("bench")).unwrap();
        let lan = bridge("lan", "barque0", &[("172.17.0.0/16", "172.17.0.1")]);
        fabric.ensure_network(&lan).unwrap();
        fabric.set_pool_network(Some(&lan));
        std::thread::sleep(Duration::from_millis(200));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for i in 0..20u8 {
                let (fabric, lan) = (&fabric, &lan);
                scope.spawn(move || {
                    for j in 0..10 {
                        let ns = fabric.netns(Some(lan)).unwrap();
                        let endpoint = EndpointDef::new(Id::random(), Some([172, 17, i + 1, j + 1].into()));
                        let attached = fabric.attach(lan, &endpoint, &ns).unwrap();
                        fabric.release(&attached).unwrap();
                    }
                });
            }
        });
        println!("200 containers by 20 threads: {:?}", start.elapsed());
    });
}
