//! Tar streams: packing local files, unpacking into local directories, and the rules of `cp` and `.dockerignore`.

pub mod copy;
pub mod cp;
pub mod ignore;
pub mod pack;
pub mod pipe;
pub mod unpack;

/// An I/O error in the words of the C library, lower case, as Go prints them.
pub fn plain_io(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if error.raw_os_error().is_some() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
