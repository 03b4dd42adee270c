//! Makes one file system of a saved image's layers: what `build --output` gives.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Reads what `save` sent (in `archive`) and writes the image's file system as one tar stream.
pub(crate) fn flatten(archive: File, out: &mut dyn Write) -> io::Result<()> {
    let index = Index::read(archive)?;
    let layers = index.layers()?;
    let plan = Plan::make(&layers)?;
    let mut builder = tar::Builder::new(out);
    for (layer, kept) in layers.iter().zip(&plan.kept) {
        copy_layer(layer, kept, &mut builder)?;
    }
    builder.into_inner()?.flush()
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// Where each file of the archive lies.
struct Index {
    archive: File,
    places: HashMap<String, (u64, u64)>,
    links: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

impl Index {
    fn read(mut archive: File) -> io::Result<Index> {
        let (mut places, mut links) = (HashMap::new(), HashMap::new());
        archive.seek(SeekFrom::Start(0))?;
        let mut reader = tar::Archive::new(&archive);
        for entry in reader.entries_with_seek()? {
            let entry = entry?;
            let name = entry.path()?.display().to_string();
            if let Some(target) = entry.link_name()? {
                let base = Path::new(&name).parent().unwrap_or(Path::new(""));
                let target = barque_model::path::clean(&base.join(target).display().to_string());
                links.insert(name, target);
            } else {
                places.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        Ok(Index { archive, places, links })
    }

    fn place(&self, name: &str) -> io::Result<(u64, u64)> {
        let real = self.links.get(name).map_or(name, String::as_str);
        self.places.get(real).copied().ok_or_else(|| invalid(format!("the saved image lacks {name}")))
    }

    fn open(&self, name: &str) -> io::Result<io::Take<File>> {
        let (at, size) = self.place(name)?;
        let mut file = self.archive.try_clone()?;
        file.seek(SeekFrom::Start(at))?;
        Ok(file.take(size))
    }

    /// The layers, lowest first, each in a file of its own and without compression.
    fn layers(&self) -> io::Result<Vec<File>> {
        let manifests: Vec<Manifest> =
            serde_json::from_reader(self.open("manifest.json")?).map_err(|e| invalid(e.to_string()))?;
        let manifest = manifests.into_iter().next().ok_or_else(|| invalid("the saved image has no manifest"))?;
        let extract = |name: &String| {
            let mut file = temporary()?;
            let mut magic = [0; 2];
            let gzip = self.open(name)?.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
            let mut layer = self.open(name)?;
            match gzip {
                true => io::copy(&mut flate2::read::MultiGzDecoder::new(layer), &mut file)?,
                false => io::copy(&mut layer, &mut file)?,
            };
            Ok(file)
        };
        manifest.layers.iter().map(extract).collect()
    }
}

/// A file without a name, gone when it is closed.
pub(crate) fn temporary() -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let directory = std::env::temp_dir();
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(&directory, flags, Mode::from(0o600)) {
        Ok(fd) => Ok(File::from(fd)),
        Err(_) => {
            // Not every file system has nameless files.
            let path = directory.join(format!("barque-{}-{:?}", std::process::id(), std::time::Instant::now()));
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

fn entries<T>(
    layer: &File,
    mut each: impl FnMut(usize, PathBuf, &mut tar::Entry<'_, &File>) -> io::Result<T>,
) -> io::Result<()> {
    let mut layer = layer;
    layer.seek(SeekFrom::Start(0))?;
    let mut archive = tar::Archive::new(layer);
    for (number, entry) in archive.entries()?.enumerate() {
        let mut entry = entry?;
        let path = normal(&entry.path()?);
        each(number, path, &mut entry)?;
    }
    Ok(())
}

fn normal(path: &Path) -> PathBuf {
    path.components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect()
}

/// Which entries of which layer are seen in the end.
struct Plan {
    kept: Vec<HashSet<usize>>,
}

impl Plan {
    fn make(layers: &[File]) -> io::Result<Plan> {
        let mut kept = vec![HashSet::new(); layers.len()];
        // What upper layers hide: these paths, and everything below those paths.
        let (mut hidden, mut hidden_below) = (HashSet::new(), HashSet::new());
        for (index, layer) in layers.iter().enumerate().rev() {
            let (mut paths, mut below) = (Vec::new(), Vec::new());
            entries(layer, |number, path, entry| {
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                let parent = path.parent().map(Path::to_owned).unwrap_or_default();
                if name == ".wh..wh..opq" {
                    below.push(parent);
                } else if let Some(gone) = name.strip_prefix(".wh.") {
                    paths.push(parent.join(gone));
                    below.push(parent.join(gone));
                } else if path.as_os_str().is_empty() {
                    // The root itself.
                } else if !hidden.contains(&path) && !path.ancestors().skip(1).any(|a| hidden_below.contains(a)) {
                    kept[index].insert(number);
                    if !entry.header().entry_type().is_dir() {
                        below.push(path.clone());
                    }
                    paths.push(path);
                }
                Ok(())
            })?;
            hidden.extend(paths);
            hidden_below.extend(below);
        }
        Ok(Plan { kept })
    }
}

fn copy_layer<W: Write>(layer: &File, kept: &HashSet<usize>, out: &mut tar::Builder<W>) -> io::Result<()> {
    let mut kept_paths = HashSet::new();
    entries(layer, |number, path, _| {
        if kept.contains(&number) {
            kept_paths.insert(path);
        }
        Ok(())
    })?;
    entries(layer, |number, path, entry| {
        if !kept.contains(&number) {
            return Ok(());
        }
        let mut header = entry.header().clone();
        let link = entry.link_name()?.map(|l| l.into_owned());
        match (header.entry_type(), link) {
            (tar::EntryType::Link, Some(target)) => {
                let target = normal(&target);
                if kept_paths.contains(&target) {
                    return out.append_link(&mut header, &path, &target);
                }
                // What it was linked to is hidden: the content remains under this name.
                let content = content_of(layer, &target)?;
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(content.len() as u64);
                out.append_data(&mut header, &path, content.as_slice())
            }
            (tar::EntryType::Symlink, Some(target)) => out.append_link(&mut header, &path, target),
            (kind, _) if kind.is_dir() => {
                let mut slashed = path.into_os_string();
                slashed.push("/");
                out.append_data(&mut header, slashed, io::empty())
            }
            _ => {
                header.set_size(entry.size());
                out.append_data(&mut header, &path, entry)
            }
        }
    })
}

/// A file's bytes, found anew in its layer.
fn content_of(layer: &File, wanted: &Path) -> io::Result<Vec<u8>> {
    let mut again = layer.try_clone()?;
    let back = again.stream_position()?;
    again.seek(SeekFrom::Start(0))?;
    let mut content = None;
    let mut archive = tar::Archive::new(&again);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if normal(&entry.path()?) == wanted && entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            content = Some(bytes);
        }
    }
    // The position is shared with the reader of the layer.
    again.seek(SeekFrom::Start(back))?;
    content.ok_or_else(|| invalid(format!("a layer links to {}, which it does not hold", wanted.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    enum E<'a> {
        Dir(&'a str),
        File(&'a str, &'a str),
        Hard(&'a str, &'a str),
    }

    fn layer(list: &[E<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for entry in list {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            match entry {
                E::Dir(name) => {
                    header.set_entry_type(tar::EntryType::Directory);
                    builder.append_data(&mut header, name, io::empty()).expect("dir");
                }
                E::File(name, text) => {
                    header.set_size(text.len() as u64);
                    builder.append_data(&mut header, name, text.as_bytes()).expect("file");
                }
                E::Hard(name, target) => {
                    header.set_entry_type(tar::EntryType::Link);
                    builder.append_link(&mut header, name, target).expect("link");
                }
            }
        }
        builder.into_inner().expect("finish")
    }

    fn saved(layers: &[Vec<u8>]) -> File {
        let mut builder = tar::Builder::new(temporary().expect("file"));
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes).expect("append");
        };
        let names: Vec<String> = (0..layers.len()).map(|i| format!("{i}/layer.tar")).collect();
        for (name, bytes) in names.iter().zip(layers) {
            add(name, bytes);
        }
        add("manifest.json", serde_json::json!([{"Layers": names}]).to_string().as_bytes());
        builder.into_inner().expect("finish")
    }

    #[test]
    fn upper_layers_hide_lower_ones() {
        let bottom = layer(&[
            E::Dir("d/"),
            E::File("d/gone", "1"),
            E::File("d/kept", "2"),
            E::File("changed", "old"),
            E::Hard("linked", "changed"),
            E::Dir("opaque/"),
            E::File("opaque/below", "3"),
            E::Dir("tree/"),
            E::File("tree/x", "4"),
        ]);
        let top = layer(&[
            E::File("d/.wh.gone", ""),
            E::File("changed", "new"),
            E::Dir("opaque/"),
            E::File("opaque/.wh..wh..opq", ""),
            E::File("opaque/above", "5"),
            E::File(".wh.tree", ""),
        ]);
        let mut out = Vec::new();
        flatten(saved(&[bottom, top]), &mut out).expect("flattens");
        let mut archive = tar::Archive::new(out.as_slice());
        let mut found: Vec<(String, String)> = Vec::new();
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("entry");
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            found.push((entry.path().expect("path").display().to_string(), text));
        }
        found.sort();
        let want = [
            ("changed", "new"),
            ("d/", ""),
            ("d/kept", "2"),
            ("linked", "old"),
            ("opaque/", ""),
            ("opaque/above", "5"),
        ];
        let want: Vec<(String, String)> = want.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, want);
    }
}
