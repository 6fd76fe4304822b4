//! HTTP/2 by hand: what no decent client would send.

use std::io::{self, Write as _};
use std::net::TcpStream;

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const SETTINGS: u8 = 4;
const END_HEADERS: u8 = 4;

/// A connection that has said hello.
pub(crate) struct Raw(TcpStream);

impl Raw {
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let mut raw = Self(TcpStream::connect(address)?);
        raw.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        raw.frame(SETTINGS, 0, 0, &[])?;
        Ok(raw)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame)
    }

    /// Opens a Session that says nothing yet; streams are 1, 3, 5, ….
    pub(crate) fn session(&mut self, stream: u32) -> io::Result<()> {
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/run.v1.Run/Session"),
            (":authority", "x"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let mut block = Vec::new();
        for (name, value) in headers {
            for (before, text) in [(&[0][..], name), (&[], value)] {
                block.extend(before);
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        self.frame(HEADERS, END_HEADERS, stream, &block)
    }

    /// The beginning of a message that is said to have so many bytes.
    pub(crate) fn announce(&mut self, stream: u32, length: u32) -> io::Result<()> {
        let mut prefix = vec![0];
        prefix.extend(length.to_be_bytes());
        self.frame(DATA, 0, stream, &prefix)
    }

    /// So many bytes of a message, in frames.
    pub(crate) fn pour(&mut self, stream: u32, bytes: u64) -> io::Result<()> {
        let piece = [7; 16 << 10];
        (0..bytes / piece.len() as u64).try_for_each(|_| self.frame(DATA, 0, stream, &piece))
    }
}
