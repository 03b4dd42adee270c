//! Netlink's wire format: messages with nested attributes (RFC 3549, include/uapi/linux/netlink.h).

use rustix::io::Errno;

const HEADER: usize = 16;
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3fff;

/// Request flags.
pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
pub(crate) const DUMP: u16 = 0x300;

/// Messages to be sent in one system call, in order.
#[derive(Debug, Default)]
pub struct Batch {
    buf: Vec<u8>,
    /// Whether each message asks for an acknowledgement.
    acks: Vec<bool>,
}

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.acks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.acks.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf
    }

    pub(crate) fn acks(&self) -> &[bool] {
        &self.acks
    }

    /// Appends a message of type `kind` whose body `fill` writes. `NLM_F_REQUEST` is implied.
    pub(crate) fn message(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; HEADER]);
        fill(&mut Body { buf: &mut self.buf });
        let length = (self.buf.len() - start) as u32;
        let header = &mut self.buf[start..start + HEADER];
        header[..4].copy_from_slice(&length.to_ne_bytes());
        header[4..6].copy_from_slice(&kind.to_ne_bytes());
        header[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.acks.push(flags & ACK != 0);
        pad(&mut self.buf);
    }

    /// Asks for an acknowledgement of message `index` as well.
    pub(crate) fn request_ack(&mut self, index: usize) {
        let Some(start) = self.offset(index) else { return };
        let flags = u16::from_ne_bytes([self.buf[start + 6], self.buf[start + 7]]) | ACK;
        self.buf[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        self.acks[index] = true;
    }

    /// Numbers the messages from `first`.
    pub(crate) fn number(&mut self, first: u32) {
        let mut at = 0;
        let mut seq = first;
        while let Some(length) = self.length_at(at) {
            self.buf[at + 8..at + 12].copy_from_slice(&seq.to_ne_bytes());
            at += align(length);
            seq = seq.wrapping_add(1);
        }
    }

    fn offset(&self, index: usize) -> Option<usize> {
        let mut at = 0;
        for _ in 0..index {
            at += align(self.length_at(at)?);
        }
        self.length_at(at).map(|_| at)
    }

    fn length_at(&self, at: usize) -> Option<usize> {
        let bytes = self.buf.get(at..at + 4)?;
        Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    }
}

/// The part of a message after its header, being written.
pub(crate) struct Body<'a> {
    buf: &'a mut Vec<u8>,
}

impl Body<'_> {
    /// A fixed protocol header.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        pad(self.buf);
        self
    }

    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (value.len() + 4) as u16;
        self.buf.extend_from_slice(&length.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value);
        pad(self.buf);
        self
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Network byte order, as netfilter's attributes are.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// A string with its terminating zero.
    pub(crate) fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        let length = (value.len() + 5) as u16;
        self.buf.extend_from_slice(&length.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value.as_bytes());
        self.buf.push(0);
        pad(self.buf);
        self
    }

    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        fill(&mut Body { buf: self.buf });
        let length = (self.buf.len() - start) as u16;
        self.buf[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.buf[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

fn pad(buf: &mut Vec<u8>) {
    buf.resize(align(buf.len()), 0);
}

/// One message as received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) body: &'a [u8],
}

/// The messages of a datagram; stops at the first malformed one.
pub(crate) fn messages(mut data: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let header = data.get(..HEADER)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = data.get(HEADER..length)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            seq: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body,
        };
        data = data.get(align(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `data`: type without flags, value. Stops at the first malformed one.
pub(crate) fn attributes(mut data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = data.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = data.get(4..length)?;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & TYPE_MASK;
        data = data.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(crate) fn find(data: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(data).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

pub(crate) fn get_u32(value: &[u8]) -> Option<u32> {
    value.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)
}

pub(crate) fn get_be32(value: &[u8]) -> Option<u32> {
    value.get(..4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes)
}

pub(crate) fn get_be16(value: &[u8]) -> Option<u16> {
    value.get(..2).and_then(|b| b.try_into().ok()).map(u16::from_be_bytes)
}

/// A string up to its first zero; unreadable bytes are replaced.
pub(crate) fn get_str(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The error of an `NLMSG_ERROR` message (`None`: an acknowledgement) and the kernel's explanation.
pub(crate) fn error_of(message: &Message<'_>) -> Option<(Errno, Option<String>)> {
    const CAPPED: u16 = 0x100;
    const TLVS: u16 = 0x200;
    let code = i32::from_ne_bytes(message.body.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let text = (message.flags & TLVS != 0).then(|| {
        let original = if message.flags & CAPPED != 0 {
            HEADER
        } else {
            message.body.get(4..8).and_then(get_u32).map_or(HEADER, |n| align(n as usize))
        };
        let tail = message.body.get(4 + original..).unwrap_or_default();
        find(tail, 1).map(get_str)
    });
    Some((Errno::from_raw_os_error(-code), text.flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let mut batch = Batch::new();
        batch.message(16, ACK, |m| {
            m.raw(&[1, 2, 3, 4]).str(3, "eth0").nest(18, |n| {
                n.u32(1, 7).attr(2, &[9]);
            });
        });
        batch.message(20, 0, |m| {
            m.be16(5, 80);
        });
        batch.number(40);
        let all: Vec<_> = messages(batch.bytes()).collect();
        assert_eq!(all.iter().map(|m| (m.kind, m.seq)).collect::<Vec<_>>(), [(16, 40), (20, 41)]);
        assert_eq!(find(&all[0].body[4..], 3).map(get_str).as_deref(), Some("eth0"));
        let nested = find(&all[0].body[4..], 18).unwrap();
        assert_eq!(find(nested, 1).and_then(get_u32), Some(7));
        assert_eq!(find(nested, 2), Some(&[9u8][..]));
        assert_eq!(find(all[1].body, 5).and_then(get_be16), Some(80));
        assert_eq!(batch.acks(), [true, false]);
    }

    #[test]
    fn an_ack_can_be_asked_for_later() {
        let mut batch = Batch::new();
        batch.message(1, 0, |_| {});
        batch.message(2, 0, |_| {});
        batch.request_ack(1);
        assert_eq!(messages(batch.bytes()).map(|m| m.flags & ACK).collect::<Vec<_>>(), [0, ACK]);
    }

    #[test]
    fn malformed_input_ends_the_iteration() {
        assert_eq!(messages(&[255; 20]).count(), 0);
        assert_eq!(messages(&[0; 20]).count(), 0);
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[0xff, 0xff, 1, 0, 0]).count(), 0);
        assert_eq!(get_str(b"ab\0cd"), "ab");
    }

    #[test]
    fn errors_carry_the_kernels_words() {
        let mut body = (-17i32).to_ne_bytes().to_vec();
        body.extend_from_slice(&[16, 0, 0, 0]);
        body.extend_from_slice(&[0; 12]);
        body.extend_from_slice(&[9, 0, 1, 0]);
        body.extend_from_slice(b"busy\0\0\0\0");
        let message = Message { kind: 2, flags: 0x300, seq: 0, body: &body };
        let (errno, text) = error_of(&message).unwrap();
        assert_eq!((errno, text.as_deref()), (Errno::EXIST, Some("busy")));
    }
}
