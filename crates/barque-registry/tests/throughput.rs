//! How fast blobs travel on loopback. Ignored: `cargo nextest run -p barque-registry --run-ignored only --no-capture`.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::time::Instant;

use barque_model::Reference;
use barque_registry::{BytesSource, Credentials, Descriptor, PushBlob, media};
use common::{Distribution, Server, client, noise};
use futures_util::StreamExt as _;

const ANON: Credentials = Credentials::Anonymous;
const MIB: usize = 1024 * 1024;
const LAYERS: usize = 4;
const LAYER_BYTES: usize = 128 * MIB;

async fn measure(label: &str, addr: SocketAddr) {
    let client = client();
    let name: Reference = format!("{addr}/bench:1").parse().unwrap();
    let layers: Vec<_> = (0..LAYERS).map(|seed| bytes::Bytes::from(noise(seed as u64 + 1, LAYER_BYTES))).collect();
    let descriptors: Vec<_> = layers.iter().map(|layer| Descriptor::of(media::OCI_LAYER, layer)).collect();
    let total = (LAYERS * LAYER_BYTES / MIB) as f64;
    let report = |what: &str, start: Instant, mib: f64| {
        println!("{label}: {what}: {:.0} MiB/s", mib / start.elapsed().as_secs_f64());
    };

    let start = Instant::now();
    let pushes = layers.iter().zip(&descriptors).map(|(layer, descriptor)| {
        let (client, name, descriptor, source) =
            (client.clone(), name.clone(), descriptor.clone(), BytesSource(layer.clone()));
        tokio::spawn(async move {
            let blob = PushBlob {
                reference: &name,
                descriptor: &descriptor,
                source: &source,
                mount_from: &[],
                progress: None,
            };
            client.push_blob(blob, &ANON).await.unwrap();
        })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap();
    }
    report("push, 4 at once", start, total);

    for (what, verified) in [("pull, one stream", false), ("pull, one stream, verified", true)] {
        let start = Instant::now();
        let blob = client.blob(&name, &descriptors[0], 0, &ANON).await.unwrap();
        let mut blob = if verified { blob.verified() } else { blob };
        while let Some(chunk) = blob.next().await {
            chunk.unwrap();
        }
        report(what, start, total / LAYERS as f64);
    }
    let start = Instant::now();
    let pulls = descriptors.iter().map(|descriptor| {
        let (client, name, descriptor) = (client.clone(), name.clone(), descriptor.clone());
        tokio::spawn(async move {
            let mut blob = client.blob(&name, &descriptor, 0, &ANON).await.unwrap();
            while let Some(chunk) = blob.next().await {
                chunk.unwrap();
            }
        })
    });
    for pull in pulls.collect::<Vec<_>>() {
        pull.await.unwrap();
    }
    report("pull, 4 at once", start, total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput() {
    let server = Server::start().await;
    measure("barque registry", server.addr).await;
    if let Some(registry) = Distribution::start("").await {
        measure("docker-registry", registry.addr).await;
    }
}
