//! Frames by hand against the server's side.

use tokio::io::duplex;

use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a client sends it.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        middle @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    bytes
}

/// A frame of the server: its first byte and payload.
async fn next(client: &mut DuplexStream) -> (u8, Vec<u8>) {
    let [head, length] = [client.read_u8().await.unwrap(), client.read_u8().await.unwrap()];
    let length = match length {
        126 => usize::from(client.read_u16().await.unwrap()),
        127 => client.read_u64().await.unwrap() as usize,
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    client.read_exact(&mut payload).await.unwrap();
    (head, payload)
}

/// A connection to a handler that gives back what it gets and says `end` at the end of its input.
fn echo() -> (DuplexStream, tokio::task::JoinHandle<()>) {
    let (client, server) = duplex(256 << 10);
    let (input, output) = tokio::io::split(server);
    let stream = Stream::new(input, output);
    let task = tokio::spawn(serve(stream, |mut stream| async move {
        let _client_gone = tokio::io::copy(&mut stream.input, &mut stream.output).await;
        let _client_gone = stream.output.shutdown().await;
    }));
    (client, task)
}

#[test]
fn the_example_of_the_rfc() {
    assert_eq!(proof("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[tokio::test(flavor = "current_thread")]
async fn payloads_of_every_length_and_in_fragments() {
    let (mut client, _task) = echo();
    for length in [1, 125, 126, 4096] {
        let payload = vec![b'x'; length];
        client.write_all(&frame(0x82, &payload)).await.unwrap();
        assert_eq!(next(&mut client).await, (0x82, payload));
    }
    // Longer than what is moved at once: the mask goes on over the pieces.
    let long: Vec<u8> = (0..70_001u32).map(|i| (i % 251) as u8).collect();
    client.write_all(&frame(0x81, &long)).await.unwrap();
    let mut back = Vec::new();
    while back.len() < long.len() {
        back.extend(next(&mut client).await.1);
    }
    assert_eq!(back, long);
    // A ping between fragments is answered.
    client.write_all(&[frame(0x01, b"ab"), frame(0x89, b"?"), frame(0x80, b"cd")].concat()).await.unwrap();
    let (mut data, mut pongs) = (Vec::new(), Vec::new());
    while data.len() < 4 || pongs.is_empty() {
        match next(&mut client).await {
            (0x8a, payload) => pongs = payload,
            (head, payload) => {
                assert_eq!(head, 0x82);
                data.extend(payload);
            }
        }
    }
    assert_eq!((data.as_slice(), pongs.as_slice()), (&b"abcd"[..], &b"?"[..]));
}

#[tokio::test(flavor = "current_thread")]
async fn a_closing_client_is_the_end_of_input() {
    let (mut client, task) = echo();
    client.write_all(&frame(0x88, &NORMAL.to_be_bytes())).await.unwrap();
    assert_eq!(next(&mut client).await, (0x88, NORMAL.to_be_bytes().to_vec()));
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    task.await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_client_that_goes_away_ends_the_work() {
    let (client, task) = echo();
    drop(client);
    task.await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn breaches_of_the_protocol_close_the_connection() {
    let mut unmasked = frame(0x82, b"x");
    unmasked[1] &= 0x7f;
    let long_ping = frame(0x89, &[0; 126]);
    for bytes in [
        unmasked,
        long_ping,
        frame(0xc2, b"x"),                               // a bit of an extension
        frame(0x83, b"x"),                               // an unknown kind
        frame(0x80, b"x"),                               // a continuation of nothing
        [frame(0x02, b"x"), frame(0x82, b"y")].concat(), // a message inside another
        frame(0x09, b"x"),                               // a control frame in fragments
    ] {
        let (mut client, task) = echo();
        client.write_all(&bytes).await.unwrap();
        let closing = loop {
            match next(&mut client).await {
                (0x82, _) => {}
                closing => break closing,
            }
        };
        assert_eq!(closing, (0x88, PROTOCOL_ERROR.to_be_bytes().to_vec()), "{bytes:?}");
        drop(client);
        task.await.unwrap();
    }
}
