//! Measures taking layers as a pull does: `unpack DATA_ROOT LAYER.tar.gz…`, all at once, bytes from the page cache.
//!
//! Prints seconds, throughput, and the peak of resident memory.

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use barque_store::{AppliedLayer, LayerSource, Lease, Store, StoreOptions};

fn take(store: &Store, lease: &Lease, path: &Path) -> barque_model::Result<AppliedLayer> {
    let mut file = std::fs::File::open(path)?;
    let size = Some(file.metadata()?.len());
    let mut writer = store.layer_writer(lease, LayerSource { size, ..LayerSource::default() })?;
    // As large as what a socket yields.
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return writer.finish(),
            n => writer.push(&buffer[..n])?,
        }
    }
}

fn main() -> barque_model::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let root = args.next().ok_or_else(|| barque_model::Error::invalid("usage: unpack DATA_ROOT LAYER…"))?;
    let layers: Vec<_> = args.collect();
    let store = Store::open(StoreOptions::new(root))?;
    let lease = store.lease("measure")?;
    let start = Instant::now();
    let applied = std::thread::scope(|scope| {
        let running: Vec<_> = layers.iter().map(|l| scope.spawn(|| take(&store, &lease, Path::new(l)))).collect();
        running
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(barque_model::Error::internal("died"))))
            .collect::<Vec<_>>()
    });
    let mut parent = None;
    let (mut size, mut entries) = (0, 0);
    for layer in applied {
        let layer = layer?;
        size += layer.size;
        entries += layer.entries;
        parent = Some(store.add_layer(&lease, layer, parent)?.chain_id);
    }
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or_default().to_owned();
    println!("{seconds:.2} s, {:.0} MB/s, {entries} entries, {peak}", size as f64 / 1e6 / seconds);
    Ok(())
}
