//! A connection that asks one thing after the other and stays open. It reads answers no further
//! than their length, so that the cores are the server's.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(64 << 10) })
    }

    /// Sends the request and reads its answer, which has to be a success of known length.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.read.clear();
        let head = loop {
            self.more().await?;
            if let Some(head) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break head;
            }
        };
        let fields = std::str::from_utf8(&self.read[..head])?;
        let fine = fields.starts_with("HTTP/1.1 2");
        let end = head + 4 + length(fields).ok_or("the answer has no length")?;
        while self.read.len() < end {
            self.more().await?;
        }
        if fine {
            return Ok(());
        }
        Err(format!("the server answers {}", String::from_utf8_lossy(&self.read)).into())
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err("the server hung up".into()),
            _ => Ok(()),
        }
    }
}

fn length(fields: &str) -> Option<usize> {
    let mut lines = fields.lines();
    if lines.next()?.contains(" 204 ") {
        return Some(0);
    }
    let named = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    };
    lines.find_map(named)
}
