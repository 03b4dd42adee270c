//! Pulling: manifest, then all missing layers in parallel, each hashed, inflated and unpacked while it
//! arrives; the image's row comes last, in one durable transaction.

use std::io::Write;
use std::sync::Arc;

use barque_model::{ChainId, DiffId, Digest, Error, ErrorKind, ImageId, Platform, Reference, Result};
use barque_registry::{Client, Credentials, Descriptor, Resolved};
use barque_store::{AppliedLayer, LayerSource, LayerWriter, Lease, NewImage};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};

use super::types::{Progress, ProgressSink, PullOptions, RegistryAuth, SearchHit};
use crate::Engine;

/// Bytes of an image configuration.
const CONFIG_MAX: u64 = 8 << 20;
/// Chunks between the network and the unpacking threads.
const CHUNKS: usize = 16;
/// Bytes between two reports of progress.
const REPORT_EVERY: u64 = 512 << 10;

/// What one pull shares.
struct Pull {
    engine: Engine,
    client: Client,
    reference: Reference,
    credentials: Credentials,
    lease: Arc<Lease>,
    progress: ProgressSink,
    platform: Option<Platform>,
}

/// What the pull of one reference came to.
struct Pulled {
    /// The name did not stand for this image before.
    fresh: bool,
    warning: Option<String>,
}

impl Engine {
    pub async fn image_pull(&self, options: PullOptions, progress: ProgressSink) -> Result<()> {
        let credentials = credentials(&options.auth);
        let (pulled, references) = match options.all_tags {
            true => {
                let tags = self.registry().tags(&options.reference, &credentials).await?;
                let all = tags.iter().map(|tag| options.reference.with_tag(tag)).collect::<Result<Vec<_>>>()?;
                (options.reference, all)
            }
            false => {
                let one = options.reference.with_default_tag();
                (one.clone(), vec![one])
            }
        };
        let (mut fresh, mut warnings) = (false, Vec::new());
        for reference in references {
            let one = self.pull_one(reference, options.platform.clone(), credentials.clone(), progress.clone()).await?;
            fresh |= one.fresh;
            warnings.extend(one.warning);
        }
        let name = pulled.familiar();
        let status = match fresh {
            true => format!("Status: Downloaded newer image for {name}"),
            false => format!("Status: Image is up to date for {name}"),
        };
        for line in std::iter::once(status).chain(warnings) {
            let _reader_gone = progress.send(Progress::status(line));
        }
        self.image_event("pull", &name, &pulled.familiar_name());
        Ok(())
    }

    async fn pull_one(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Credentials,
        progress: ProgressSink,
    ) -> Result<Pulled> {
        if super::is_host_image(&reference.familiar()) {
            return Err(Error::invalid("barque/host is this machine itself: there is nothing to pull"));
        }
        let client = self.registry();
        let resolved = client.resolve(&reference, platform.as_ref(), &credentials).await?;
        let tag = reference.tag().filter(|_| reference.digest().is_none());
        let label = tag.map_or_else(|| reference.to_string(), str::to_owned);
        let from = Progress::of(label, format!("Pulling from {}", shown_path(&reference)));
        let _reader_gone = progress.send(from);
        let lease = {
            let (store, purpose) = (self.store().clone(), format!("pull {}", reference.familiar()));
            Arc::new(self.blocking(move || store.lease(&purpose)).await?)
        };
        let pull = Pull { engine: self.clone(), client, reference, credentials, lease, progress, platform };
        let pulled = pull.run(resolved).await;
        // What broke off goes on with the next try; of a registry that lies nothing is kept, nor what is here as well as
        // what has come.
        if pulled.as_ref().err().is_none_or(|e| e.kind() != ErrorKind::Unavailable) {
            pull.lease.end();
        }
        pulled
    }

    pub async fn image_search(&self, term: &str, limit: u32, auth: &RegistryAuth) -> Result<Vec<SearchHit>> {
        let hits = self.registry().search(term, limit, &credentials(auth)).await?;
        Ok(hits
            .into_iter()
            .map(|h| SearchHit {
                name: h.name,
                description: h.description,
                stars: h.star_count,
                official: h.is_official,
                automated: h.is_automated,
            })
            .collect())
    }

    /// Checks credentials; gives Docker's status text and an identity token.
    pub async fn registry_login(&self, server: &str, auth: &RegistryAuth) -> Result<(String, String)> {
        let login = self.registry().login(server, &credentials(auth)).await?;
        Ok((login.status, login.identity_token))
    }
}

pub(super) fn credentials(auth: &RegistryAuth) -> Credentials {
    match auth {
        RegistryAuth::Anonymous => Credentials::Anonymous,
        RegistryAuth::Password { username, password } => {
            Credentials::Basic { username: username.clone(), password: password.clone() }
        }
        RegistryAuth::IdentityToken(token) => Credentials::IdentityToken(token.clone()),
        RegistryAuth::RegistryToken(token) => Credentials::RegistryToken(token.clone()),
    }
}

/// The repository as Docker names it in `Pulling from`.
fn shown_path(reference: &Reference) -> String {
    reference.path().to_owned()
}

impl Pull {
    fn say(&self, progress: Progress) {
        let _reader_gone = self.progress.send(progress);
    }

    async fn run(&self, resolved: Resolved) -> Result<Pulled> {
        let config =
            self.client.blob_bytes(&self.reference, &resolved.image.config, CONFIG_MAX, &self.credentials).await?;
        let parsed = super::config::parse(&config)?;
        let warning =
            self.platform.as_ref().and_then(|wanted| super::fetch::mismatch(&self.reference, wanted, &parsed));
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() != resolved.image.layers.len() {
            return Err(Error::invalid(format!(
                "the manifest of {} has {} layers, its configuration {}",
                self.reference.familiar(),
                resolved.image.layers.len(),
                diff_ids.len()
            )));
        }
        let id = ImageId(Digest::of(&config));
        self.layers(&id, &resolved.image.layers, &diff_ids).await?;
        self.say(Progress::status(format!("Digest: {}", resolved.digest)));
        let fresh = self.put(&resolved, id, config).await?;
        Ok(Pulled { fresh, warning })
    }

    /// Which layers are here already, and whether the image with all of them is; they are held from now on.
    async fn here(&self, id: ImageId, descriptors: &[Descriptor], chains: &[ChainId]) -> Result<(Vec<bool>, bool)> {
        let (store, lease) = (self.engine.store().clone(), self.lease.clone());
        let parts: Vec<_> = descriptors.iter().map(|d| d.digest).zip(chains.iter().copied()).collect();
        self.engine
            .blocking(move || {
                // Its bytes as they were sent, too: with those of another compression the image would go out again
                // under another digest than it came.
                let both = |(blob, chain)| Ok(store.hold_layer(&lease, chain)? && store.hold_blob(&lease, blob)?);
                let here = parts.iter().map(|(blob, chain)| both((blob, chain))).collect::<Result<Vec<bool>>>()?;
                let whole = here.iter().all(|here| *here) && store.read(|r| r.image(&id))?.is_some();
                Ok((here, whole))
            })
            .await
    }

    /// Brings all layers here, in parallel, and stacks them in order. Of an image that is here nothing is told.
    async fn layers(&self, id: &ImageId, descriptors: &[Descriptor], diff_ids: &[DiffId]) -> Result<()> {
        let chains = ChainId::chain(diff_ids);
        let (here, whole) = self.here(*id, descriptors, &chains).await?;
        if whole {
            return Ok(());
        }
        let mut fetches = Vec::new();
        let slots = self.engine.download_slots();
        for ((descriptor, diff_id), here) in descriptors.iter().zip(diff_ids).zip(here) {
            let short = descriptor.digest.short();
            self.say(Progress::of(&short, if here { "Already exists" } else { "Pulling fs layer" }));
            if here {
                fetches.push(None);
                continue;
            }
            let task = self.fetch(descriptor.clone(), *diff_id, slots.clone());
            fetches.push(Some(AbortOnDrop(tokio::spawn(task))));
        }
        let mut parent = None;
        for ((fetch, descriptor), chain) in fetches.into_iter().zip(descriptors).zip(chains) {
            if let Some(mut fetch) = fetch {
                let applied =
                    (&mut fetch.0).await.map_err(|e| Error::internal(format!("a download broke off: {e}")))??;
                let (store, lease) = (self.engine.store().clone(), self.lease.clone());
                self.engine.blocking(move || store.add_layer(&lease, applied, parent).map(|_| ())).await?;
                self.say(Progress::of(descriptor.digest.short(), "Pull complete"));
            }
            parent = Some(chain);
        }
        Ok(())
    }

    fn fetch(
        &self,
        descriptor: Descriptor,
        diff_id: DiffId,
        slots: Arc<Semaphore>,
    ) -> impl Future<Output = Result<AppliedLayer>> + Send + 'static {
        let (engine, client, reference) = (self.engine.clone(), self.client.clone(), self.reference.clone());
        let (credentials, lease, progress) = (self.credentials.clone(), self.lease.clone(), self.progress.clone());
        async move {
            let _slot = slots.acquire_owned().await.map_err(|_| Error::canceled("the pull was cancelled"))?;
            let short = descriptor.digest.short();
            let source = LayerSource {
                digest: Some(descriptor.digest),
                size: Some(descriptor.size),
                diff_id: Some(diff_id),
                media_type: Some(descriptor.media_type.clone()),
                discard_blob: false,
                alone: false,
            };
            let store = engine.store().clone();
            let held = lease.clone();
            let writer = engine.blocking(move || store.layer_writer(&held, source)).await?;
            let offset = writer.offset();
            let (chunks, receiver) = mpsc::channel(CHUNKS);
            let writing = tokio::task::spawn_blocking(move || write_chunks(writer, receiver));
            let streamed = async {
                if offset >= descriptor.size {
                    return Ok(());
                }
                let mut blob = client.blob(&reference, &descriptor, offset, &credentials).await?;
                let (mut done, mut told) = (offset, offset);
                while let Some(chunk) = blob.chunk().await? {
                    done += chunk.len() as u64;
                    if chunks.send(chunk).await.is_err() {
                        // The writer has the better reason.
                        break;
                    }
                    if done - told >= REPORT_EVERY || done == descriptor.size {
                        told = done;
                        let at = Progress::of(&short, "Downloading").at(done, descriptor.size);
                        let _reader_gone = progress.send(at);
                    }
                }
                Ok(())
            }
            .await;
            drop(chunks);
            let writer = writing.await.map_err(|e| Error::internal(format!("unpacking broke off: {e}")))?;
            let writer = match (writer, streamed) {
                (Ok(writer), Ok(())) => writer,
                (Err(e), _) | (Ok(_), Err(e)) => return Err(e),
            };
            let _reader_gone = progress.send(Progress::of(&short, "Download complete"));
            let _reader_gone = progress.send(Progress::of(&short, "Extracting").at(descriptor.size, descriptor.size));
            engine.blocking(move || writer.finish()).await
        }
    }

    /// Tells whether the name stood for another image before, or for none.
    async fn put(&self, resolved: &Resolved, id: ImageId, config: Bytes) -> Result<bool> {
        let mut names = vec![self.reference.repository().with_digest(resolved.digest)];
        if self.reference.digest().is_none() {
            names.push(self.reference.clone());
        }
        let raw = |m: &barque_registry::RawManifest| (m.media_type.clone(), m.bytes.to_vec());
        let image = NewImage {
            config: config.to_vec(),
            manifest: Some(raw(&resolved.manifest)),
            index: resolved.index.as_ref().map(raw),
            names: names.clone(),
            parent: None,
        };
        let (engine, lease, reference) = (self.engine.clone(), self.lease.clone(), self.reference.clone());
        self.engine
            .blocking(move || {
                let known = engine.store().read(|r| r.image_by_name(&reference))? == Some(id);
                let put = engine.store().put_image(&lease, image)?;
                Ok(!known || !put.existed)
            })
            .await
    }
}

fn write_chunks(mut writer: LayerWriter, mut chunks: mpsc::Receiver<Bytes>) -> Result<LayerWriter> {
    while let Some(chunk) = chunks.blocking_recv() {
        writer.write_all(&chunk).map_err(Error::from)?;
    }
    Ok(writer)
}

/// A download that nobody waits for any more ends.
struct AbortOnDrop(tokio::task::JoinHandle<Result<AppliedLayer>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
