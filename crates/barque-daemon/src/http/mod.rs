//! Requests and replies as the routes see them.

mod body;
mod call;
mod first_line;
mod gate;
mod hijack;
mod reply;
mod websocket;

pub(crate) use body::Body;
use body::BodyReader;
pub(crate) use call::{Call, Token, decode, decode_base64};
pub(crate) use first_line::FirstLine;
pub(crate) use hijack::{Stream, hijack};
pub(crate) use reply::{
    Outcome, Reply, bytes, created, empty, error_reply, json, json_text, ok, reader, status, stream, text,
};
pub(crate) use websocket::websocket;
