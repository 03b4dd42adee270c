//! Plain downloads by URL, with the registries' proxies, TLS settings, redirects and retries (`ADD URL`).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use barque_model::{Error, Result, Timestamp};
use bytes::Bytes;
use futures_util::Stream;
use http::Method;
use http::header::LAST_MODIFIED;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use super::Client;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::request::Ask;

/// A file on its way: a [`Stream`] of chunks.
pub struct Download {
    body: Incoming,
    /// How long the server may send nothing.
    patience: Duration,
    /// Runs while the server is waited for.
    idle: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
    size: Option<u64>,
    modified: Option<Timestamp>,
}

impl Download {
    /// Bytes, if the server tells.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// `Last-Modified`.
    pub fn modified(&self) -> Option<Timestamp> {
        self.modified
    }
}

impl Stream for Download {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
                let idle = this.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.patience)));
                std::task::ready!(idle.as_mut().poll(cx));
                let text = format!("the server sent nothing for {} seconds", this.patience.as_secs());
                return Poll::Ready(Some(Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text))));
            };
            this.idle = None;
            return Poll::Ready(match frame {
                None => None,
                Some(Err(e)) => Some(Err(std::io::Error::other(e))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    // Trailers.
                    Err(_) => continue,
                },
            });
        }
    }
}

impl Client {
    /// Fetches `url` (http or https) without credentials.
    ///
    /// # Errors
    /// `InvalidArgument` for another scheme; the server's answer or the failure otherwise.
    pub async fn download(&self, url: &str) -> Result<Download> {
        let bad = || Error::invalid(format!("cannot download '{url}': expected an http:// or https:// address"));
        let endpoint = Endpoint::foreign(url).ok_or_else(bad)?;
        let target = endpoint.base.clone();
        let ask = Ask::new(Method::GET, Vec::new());
        let answer = self
            .inner
            .send(&endpoint, &ask, &target, self.inner.config.retries)
            .await
            .map_err(|failure: Failure| failure.as_error())?;
        let size = answer.content_length();
        let modified = answer.header(LAST_MODIFIED).and_then(http_date);
        let (body, permit) = answer.into_body();
        let patience = self.inner.config.idle_timeout;
        Ok(Download { body, patience, idle: None, _permit: permit, size, modified })
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(value: &str) -> Option<Timestamp> {
    let parsed = jiff::fmt::rfc2822::parse(value).ok()?;
    Some(Timestamp::from_secs(parsed.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(date.to_string(), "1994-11-06T08:49:37Z");
    }
}
