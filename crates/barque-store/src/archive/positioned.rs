//! An archive that is a file: its members are listed first, then its layers are taken side by side.

use std::io::{self, BufRead as _, BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use barque_model::{Error, Result};

use super::LoadEvent;
use super::members::{Found, take};
use crate::{Lease, Store};

/// Layers taken at once: hashing one keeps a processor busy.
const AT_ONCE: usize = 4;

/// Something to be read from any place.
pub trait ReadAt: Send + Sync {
    /// As `pread(2)`: how many bytes there were, 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buffer, offset)
    }
}

/// Reads on from some place.
pub(super) struct Positioned<'a> {
    file: &'a dyn ReadAt,
    offset: u64,
}

impl<'a> Positioned<'a> {
    pub(super) fn new(file: &'a dyn ReadAt, offset: u64) -> BufReader<Positioned<'a>> {
        BufReader::with_capacity(crate::tree::BUFFER, Positioned { file, offset })
    }

    /// Where the next byte comes from.
    pub(super) fn position(reader: &BufReader<Positioned<'_>>) -> u64 {
        reader.get_ref().offset - reader.buffer().len() as u64
    }

    /// Leaves out the next bytes.
    pub(super) fn pass_over(reader: &mut BufReader<Positioned<'_>>, bytes: u64) {
        let buffered = reader.buffer().len();
        let held = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffered);
        reader.consume(held);
        let inner = reader.get_mut();
        inner.offset = inner.offset.saturating_add(bytes - held as u64);
    }
}

impl Read for Positioned<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // Beyond what a file can have there is nothing, whatever a header says.
        if i64::try_from(self.offset).is_err() {
            return Ok(0);
        }
        let n = self.file.read_at(out, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

/// A layer's place in the file.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Takes the layers, several at once, the largest first. Errors: the first that one of them met; the others end then.
pub(super) fn take_all(
    store: &Store,
    lease: &Lease,
    file: &dyn ReadAt,
    mut places: Vec<Place>,
    events: &mut (dyn FnMut(LoadEvent) + Send),
) -> Result<Vec<(String, Found)>> {
    places.sort_by_key(|place| std::cmp::Reverse(place.size));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(AT_ONCE).min(places.len());
    let (next, events) = (AtomicUsize::new(0), Mutex::new(events));
    let found: Mutex<Result<Vec<(String, Found)>>> = Mutex::new(Ok(Vec::new()));
    let work = || {
        while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut input = Positioned::new(file, place.offset);
            let tell = &mut |event| (*events.lock().unwrap_or_else(PoisonError::into_inner))(event);
            let layer = take(store, lease, place, &mut input, tell);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *found, layer) {
                (Ok(list), Ok(layer)) => list.push((place.name.clone(), layer)),
                (Ok(_), Err(error)) => *found = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        for _ in 1..threads {
            let thread = std::thread::Builder::new().name("layer-read".into()).spawn_scoped(scope, work);
            thread.map_err(|e| Error::from(e).context("start a thread to read a layer"))?;
        }
        work();
        Ok(())
    })?;
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_is_not_read() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3 * crate::tree::BUFFER).map(|n| (n % 253) as u8).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let mut input = Positioned::new(&file, 5);
        let mut some = [0; 10];
        input.read_exact(&mut some).unwrap();
        assert_eq!(some, bytes[5..15]);
        Positioned::pass_over(&mut input, 3);
        input.read_exact(&mut some).unwrap();
        assert_eq!(some, bytes[18..28]);
        Positioned::pass_over(&mut input, 2 * crate::tree::BUFFER as u64);
        let at = Positioned::position(&input) as usize;
        assert_eq!(at, 28 + 2 * crate::tree::BUFFER);
        let mut rest = Vec::new();
        input.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, bytes[at..]);
        Positioned::pass_over(&mut input, u64::MAX);
        assert_eq!(input.fill_buf().unwrap(), b"");
    }
}
