//! The one background thread: empties the trash, renews leases, collects, waits for files to reach the disk.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use barque_model::{Id, Timestamp};
use barque_sys::rootdir::Dir;

use crate::lease;
use crate::store::Inner;

/// How long after the last new layer its files are forced to the disk: long enough for a burst of layers to be
/// done together, short enough that little is lost with the power.
const SYNC_DELAY: Duration = Duration::from_millis(500);
/// When what an earlier run left is first collected: not while everybody is starting.
const FIRST_TICK: Duration = Duration::from_secs(120);
/// The thread only walks directories.
const STACK: usize = 256 * 1024;

enum Job {
    /// Delete everything in the trash.
    Empty,
    /// Layers were added: make their files durable.
    Sync,
    /// Something is held by nobody any more, not by this lease either: a full disk may have kept its row.
    Collect(Id),
    /// Answer when everything before is done.
    Flush(Sender<()>),
    Stop,
}

/// Handle of the thread. It ends with the store.
pub(crate) struct Janitor {
    jobs: Sender<Job>,
    /// Until the thread takes it.
    queue: Mutex<Option<Receiver<Job>>>,
    leases: Arc<Mutex<HashSet<Id>>>,
    /// The thread deletes what may be very much.
    emptying: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Janitor {
    pub(crate) fn new() -> Janitor {
        let (jobs, queue) = mpsc::channel();
        let queue = Mutex::new(Some(queue));
        Janitor { jobs, queue, leases: Arc::default(), emptying: Arc::default(), thread: Mutex::new(None) }
    }

    /// Starts the thread. It reaches the store by a weak reference, so as not to keep it open.
    pub(crate) fn start(&self, trash: PathBuf, store: Weak<Inner>) -> std::io::Result<()> {
        let Some(queue) = lock(&self.queue).take() else { return Ok(()) };
        let (leases, emptying) = (Arc::clone(&self.leases), Arc::clone(&self.emptying));
        let thread = std::thread::Builder::new()
            .name("store-janitor".into())
            .stack_size(STACK)
            .spawn(move || run(&queue, &trash, &store, &leases, &emptying))?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    pub(crate) fn empty_trash(&self) {
        let _ = self.jobs.send(Job::Empty);
    }

    pub(crate) fn sync_layers(&self) {
        let _ = self.jobs.send(Job::Sync);
    }

    /// Ends a lease and collects what it held, once the trash of its work is gone.
    pub(crate) fn end(&self, lease: Id) {
        let _ = self.jobs.send(Job::Collect(lease));
    }

    /// Waits until the work ordered so far is done.
    pub(crate) fn flush(&self) {
        let (done, wait) = mpsc::channel();
        if self.jobs.send(Job::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    pub(crate) fn renew(&self, lease: Id) {
        lock(&self.leases).insert(lease);
    }

    /// Whether the work that took the lease still goes on.
    pub(crate) fn is_live(&self, lease: &Id) -> bool {
        lock(&self.leases).contains(lease)
    }

    pub(crate) fn forget(&self, lease: &Id) {
        lock(&self.leases).remove(lease);
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        let _ = self.jobs.send(Job::Stop);
        if let Some(thread) = lock(&self.thread).take()
            // The last reference to the store may be the thread's own, while it works.
            && thread.thread().id() != std::thread::current().id()
            // Nobody waits for the trash: what is left of it is deleted after the next start.
            && !self.emptying.load(Ordering::Acquire)
        {
            let _ = thread.join();
        }
    }
}

fn run(queue: &Receiver<Job>, trash: &Path, store: &Weak<Inner>, leases: &Mutex<HashSet<Id>>, emptying: &AtomicBool) {
    let mut unsynced = false;
    let mut tick = Instant::now() + FIRST_TICK;
    loop {
        let wait = if unsynced { SYNC_DELAY } else { tick.saturating_duration_since(Instant::now()) };
        match queue.recv_timeout(wait) {
            Ok(Job::Empty) => {
                emptying.store(true, Ordering::Release);
                empty(trash);
                emptying.store(false, Ordering::Release);
                // What was used to delete this is there again.
                trash.parent().into_iter().for_each(crate::reserve::set_aside);
            }
            Ok(Job::Sync) => unsynced = true,
            Ok(Job::Collect(lease)) => {
                end(store, &lease);
                collect(store);
            }
            Ok(Job::Flush(done)) => {
                if std::mem::take(&mut unsynced) {
                    sync(store);
                }
                let _ = done.send(());
            }
            Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) if unsynced => {
                unsynced = false;
                sync(store);
            }
            Err(RecvTimeoutError::Timeout) => {
                renew(store, leases);
                collect(store);
                tick = Instant::now() + lease::RENEWAL;
            }
        }
    }
}

fn end(store: &Weak<Inner>, lease: &Id) {
    let Some(store) = store.upgrade() else { return };
    if let Err(error) = store.db.write(crate::db::Durability::Process, |tx| tx.lease_delete(lease)) {
        tracing::warn!(error = %error.chain(), "a lease stays until it expires");
    }
}

fn collect(store: &Weak<Inner>) {
    let Some(store) = store.upgrade() else { return };
    match store.collect() {
        Ok(found) if found.bytes > 0 => tracing::debug!(bytes = found.bytes, "collected what nothing referred to"),
        Ok(_) => {}
        Err(error) => tracing::warn!(error = %error.chain(), "the store could not be collected"),
    }
}

/// Deletes what is in the trash. What cannot be deleted now (a mount still pinned) stays for the next time.
fn empty(trash: &Path) {
    let Ok(dir) = Dir::open(trash) else { return };
    let Ok(entries) = dir.entries() else { return };
    for entry in entries {
        if let Err(error) = dir.remove_all(&entry.name) {
            tracing::debug!(name = %entry.name.to_string_lossy(), %error, "trash stays for later");
        }
    }
}

fn sync(store: &Weak<Inner>) {
    let Some(store) = store.upgrade() else { return };
    if let Err(error) = store.sync_layers() {
        tracing::warn!(error = %error.chain(), "layers could not be made durable");
    }
}

fn renew(store: &Weak<Inner>, leases: &Mutex<HashSet<Id>>) {
    let Some(store) = store.upgrade() else { return };
    let held: Vec<Id> = lock(leases).iter().copied().collect();
    let until = Timestamp::now() + lease::LIFETIME;
    for id in held {
        if let Err(error) = store.db.write(crate::db::Durability::Process, |tx| tx.lease_renew(&id, until)) {
            tracing::warn!(error = %error.chain(), "a lease could not be renewed");
        }
    }
}
