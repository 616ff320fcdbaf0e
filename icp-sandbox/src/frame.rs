//! Frames: how host and worker talk over the worker's standard input and output.
//!
//! A frame is the length of its head and of its body, four bytes each, least significant first,
//! then the head as JSON, then the body as it is.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest head, in bytes.
pub(crate) const MAX_HEAD: usize = 512 << 10;

/// The longest body, in bytes: the text of a plan.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// A head that is still to be read, and a body.
#[derive(Debug)]
pub(crate) struct Frame {
    head: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// Reads the head.
    pub(crate) fn head<T: DeserializeOwned>(&self) -> io::Result<T> {
        serde_json::from_slice(&self.head).map_err(malformed)
    }
}

/// The bytes of one frame.
pub(crate) fn encode<T: Serialize>(head: &T, body: &[u8]) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(head).map_err(malformed)?;
    if head.len() > MAX_HEAD || body.len() > MAX_BODY {
        return Err(malformed("the frame is too long"));
    }
    let mut bytes = Vec::with_capacity(8 + head.len() + body.len());
    for length in [head.len(), body.len()] {
        bytes.extend(u32::try_from(length).map_err(malformed)?.to_le_bytes());
    }
    bytes.extend(&head);
    bytes.extend(body);
    Ok(bytes)
}

/// Writes one frame.
pub(crate) fn write<T: Serialize>(to: &mut impl Write, head: &T, body: &[u8]) -> io::Result<()> {
    to.write_all(&encode(head, body)?)?;
    to.flush()
}

/// Reads one frame; none at the end of the stream.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut lengths = [0; 8];
    match from.read_exact(&mut lengths) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (head, body) = split(lengths, MAX_BODY)?;
    let mut frame = Frame { head: vec![0; head], body: vec![0; body] };
    from.read_exact(&mut frame.head)?;
    from.read_exact(&mut frame.body)?;
    Ok(Some(frame))
}

/// Writes one frame that was encoded before.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Reads one frame whose body has at most `most` bytes. Lengths are judged before room is made.
pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Frame> {
    let mut lengths = [0; 8];
    from.read_exact(&mut lengths).await?;
    let (head, body) = split(lengths, most)?;
    let mut frame = Frame { head: vec![0; head], body: vec![0; body] };
    from.read_exact(&mut frame.head).await?;
    from.read_exact(&mut frame.body).await?;
    Ok(frame)
}

fn split(lengths: [u8; 8], most: usize) -> io::Result<(usize, usize)> {
    let lengths = u64::from_le_bytes(lengths);
    let head = usize::try_from(lengths & 0xffff_ffff).map_err(malformed)?;
    let body = usize::try_from(lengths >> 32).map_err(malformed)?;
    if head > MAX_HEAD || body > most {
        return Err(malformed("the frame is too long"));
    }
    Ok((head, body))
}

fn malformed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let mut pipe = Vec::new();
        write(&mut pipe, &("one", 1), b"body").unwrap();
        write(&mut pipe, &("two", 2), b"").unwrap();
        let mut pipe = pipe.as_slice();
        let first = read(&mut pipe).unwrap().unwrap();
        assert_eq!(first.head::<(String, u8)>().unwrap(), ("one".to_owned(), 1));
        assert_eq!(first.body, b"body");
        assert_eq!(read(&mut pipe).unwrap().unwrap().body, b"");
        assert!(read(&mut pipe).unwrap().is_none());
    }

    #[tokio::test]
    async fn frames_that_are_cut_or_too_long_are_refused() {
        let whole = encode(&"head", b"0123456789").unwrap();
        for cut in 1..whole.len() {
            assert!(receive(&mut &whole[..cut], 10).await.is_err(), "{cut}");
        }
        assert!(receive(&mut whole.as_slice(), 10).await.is_ok());
        assert!(receive(&mut whole.as_slice(), 9).await.is_err());
        assert!(receive(&mut [0xff_u8; 64].as_slice(), MAX_BODY).await.is_err());
        assert!(encode(&"head", &vec![0; MAX_BODY + 1]).is_err());
        let frame = receive(&mut whole.as_slice(), 10).await.unwrap();
        assert!(frame.head::<u64>().is_err());
    }
}
