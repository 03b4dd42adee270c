//! One registry: who may do what, and which handler does it.

use std::sync::Arc;

use barque_model::Result;
use http::header::{ALLOW, AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::ServerConfig;
use super::auth::Users;
use super::mirror::Mirror;
use super::respond::{API_VERSION, Problem, Reply, json, set, without_body};
use super::route::{Route, Target};
use super::storage::Storage;
use super::uploads::Sessions;
use crate::wire::code;

/// A registry ready to answer.
pub(super) struct App {
    pub(super) config: ServerConfig,
    pub(super) storage: Arc<Storage>,
    pub(super) sessions: Sessions,
    pub(super) mirror: Option<Mirror>,
    users: Option<Arc<Users>>,
}

/// Runs blocking work off the async threads.
pub(super) async fn block<T, F>(work: F) -> std::result::Result<T, Problem>
where
    T: Send + 'static,
    F: FnOnce() -> std::io::Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Problem::from(std::io::Error::other(error))),
    }
}

impl App {
    /// Opens the directory and reads the files the settings name.
    pub(super) fn new(config: ServerConfig) -> Result<Self> {
        let storage = Arc::new(Storage::open(&config.root, config.durable)?);
        let users = config.htpasswd.clone().map(Users::load).transpose()?.map(Arc::new);
        let mirror = config.mirror.clone().map(|mirror| Mirror::new(mirror, storage.clone())).transpose()?;
        Ok(Self { config, storage, sessions: Sessions::default(), mirror, users })
    }

    /// Answers one request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let head = request.method() == Method::HEAD;
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let reply = self.route(request).await;
        let mut reply = reply.unwrap_or_else(|problem| Problem { about: format!("{method} {path}"), ..problem }.into());
        tracing::debug!(%method, path, status = reply.status().as_u16(), "registry");
        set(&mut reply, API_VERSION, "registry/2.0");
        if head { without_body(reply) } else { reply }
    }

    async fn route(self: &Arc<Self>, request: Request<Incoming>) -> std::result::Result<Reply, Problem> {
        self.authenticate(&request).await?;
        let route = Route::parse(request.uri().path())?;
        let allowed = route.allowed();
        if !allowed.contains(request.method()) {
            let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
            return Err(Problem::unsupported("the operation is unsupported").with(ALLOW, names.join(", ")));
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if !reads && self.mirror.is_some() {
            return Err(Problem::unsupported("this registry is a pull-through cache: push to its upstream instead"));
        }
        if *request.method() == Method::DELETE && !self.config.allow_delete && !matches!(route, Route::Upload(..)) {
            return Err(Problem::unsupported("deletion is disabled on this registry"));
        }
        let query = request.uri().query().map(str::to_owned);
        let query = query.as_deref();
        match (route, request.method().as_str()) {
            (Route::Base, _) => Ok(json(StatusCode::OK, "{}")),
            (Route::Catalog, _) => self.catalog(query).await,
            (Route::Search, _) => self.search(query).await,
            (Route::Tags(name), _) => self.tags(name, query).await,
            (Route::Referrers(name, digest), _) => self.referrers(name, digest, query).await,
            (Route::Manifest(name, target), "PUT") => self.put_manifest(name, target, request).await,
            (Route::Manifest(name, target), "DELETE") => self.delete_manifest(name, target).await,
            (Route::Manifest(name, target), method) => self.get_manifest(name, target, method == "HEAD").await,
            (Route::Blob(name, digest), "DELETE") => self.delete_blob(name, digest).await,
            (Route::Blob(name, digest), _) => self.get_blob(name, digest, &request).await,
            (Route::Uploads(name), _) => self.begin_upload(name, query, request).await,
            (Route::Upload(name, id), "PATCH") => self.patch_upload(name, id, request).await,
            (Route::Upload(name, id), "PUT") => self.put_upload(name, id, query, request).await,
            (Route::Upload(name, id), "DELETE") => self.cancel_upload(name, id).await,
            (Route::Upload(name, id), _) => self.upload_status(name, id).await,
        }
    }

    async fn authenticate(&self, request: &Request<Incoming>) -> std::result::Result<(), Problem> {
        let Some(users) = self.users.clone() else { return Ok(()) };
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // bcrypt takes its time, on purpose.
        let admitted = header.is_some() && block(move || Ok(users.admits(header.as_deref()))).await?;
        if admitted {
            return Ok(());
        }
        let realm = self.config.realm.replace(['"', '\\'], "");
        Err(Problem::new(StatusCode::UNAUTHORIZED, code::UNAUTHORIZED, "authentication required")
            .with(WWW_AUTHENTICATE, format!("Basic realm=\"{realm}\"")))
    }

    async fn delete_manifest(&self, name: super::storage::Name, target: Target) -> std::result::Result<Reply, Problem> {
        let storage = self.storage.clone();
        let deleted = block(move || {
            if !storage.knows(&name) {
                return Ok(None);
            }
            match target {
                Target::Tag(tag) => storage.delete_tag(&name, &tag).map(Some),
                Target::Digest(digest) => storage.delete_manifest(&name, digest).map(Some),
            }
        });
        match deleted.await? {
            None => Err(Problem::name_unknown()),
            Some(false) => Err(Problem::manifest_unknown()),
            Some(true) => Ok(super::respond::empty(StatusCode::ACCEPTED)),
        }
    }
}
