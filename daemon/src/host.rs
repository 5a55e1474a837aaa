//! The machine or container that this worker runs in, as `engine::platform` asks about it.
//!
//! The agents of EC2 and ECS are asked with a small HTTP exchange of our own: plain text over one connection to an address of
//! the same host, which no proxy setting and no TLS may touch.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use multilangd_engine::platform::Host;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

/// For connecting, asking and reading together. Compat: Java gives connecting and reading five seconds each; whoever answers
/// at all answers within milliseconds.
const TIME_MAX: Duration = Duration::from_secs(5);
/// An answer is cut off here, in bytes; a task with ten containers fills a tenth of it.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisHost;

#[async_trait]
impl Host for ThisHost {
    fn environment(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    async fn exists(&self, path: &str) -> bool {
        tokio::fs::try_exists(path).await.unwrap_or(false)
    }

    async fn read(&self, path: &str) -> Option<String> {
        tokio::fs::read_to_string(path).await.ok()
    }

    async fn http(
        &self,
        method: &'static str,
        url: &str,
        header: Option<(&'static str, &str)>,
    ) -> Option<String> {
        let (authority, path) = parts(url)?;
        let why = match timeout(TIME_MAX, exchange(method, authority, path, header)).await {
            Ok(Ok(answer)) => match body(&answer) {
                Some(body) => return Some(body),
                None => "an answer other than 200".to_owned(),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", TIME_MAX.as_secs()),
        };
        debug!(url, why, "the platform's agent did not answer");
        None
    }
}

/// `host:port` and path of an `http://` address.
fn parts(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let path = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path);
    (!authority.is_empty()).then_some((authority, if path.is_empty() { "/" } else { path }))
}

async fn exchange(
    method: &str,
    authority: &str,
    path: &str,
    header: Option<(&'static str, &str)>,
) -> io::Result<Vec<u8>> {
    let address = if authority.contains(':') {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let header = header.map_or_else(String::new, |(name, value)| format!("{name}: {value}\r\n"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {authority}\r\naccept: */*\r\ncontent-length: 0\r\nconnection: close\r\n{header}\r\n"
    );
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// The body of a 200 answer, of the length it states, in chunks or up to the end.
fn body(answer: &[u8]) -> Option<String> {
    let head_end = answer.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..head_end]).ok()?;
    let rest = &answer[head_end + 4..];
    let mut lines = head.split("\r\n");
    let mut status = lines.next()?.split_ascii_whitespace();
    status.next().filter(|version| version.starts_with("HTTP/1."))?;
    status.next().filter(|code| *code == "200")?;
    let field = |wanted: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(value.trim())
    };
    let is_chunked = field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let bytes = match field("content-length") {
        _ if is_chunked => joined(rest)?,
        Some(length) => rest.get(..length.parse().ok()?)?.to_vec(),
        None => rest.to_vec(),
    };
    String::from_utf8(bytes).ok()
}

/// Chunks put together; `None` when the last one is missing.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|it| it == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line_end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[line_end + 2..];
        if size == 0 {
            return Some(bytes);
        }
        bytes.extend(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_is_read_by_its_length_by_its_chunks_or_to_its_end() {
        let read = |text: &str| body(text.as_bytes());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ntokenEXTRA"),
            some("token")
        );
        assert_eq!(
            read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntok\r\n2;x=y\r\nen\r\n0\r\n\r\n"),
            some("token")
        );
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\ntoken"), some("token"));
    }

    #[test]
    fn an_answer_that_is_no_success_or_incomplete_is_none() {
        let read = |text: &str| body(text.as_bytes());
        assert_eq!(read("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"), None);
        assert_eq!(read("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"), None);
        assert_eq!(
            read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nshort"),
            None
        );
        assert_eq!(read("SSH-2.0\r\n\r\n"), None);
    }

    #[test]
    fn addresses_are_plain_http() {
        assert_eq!(
            parts("http://169.254.169.254/latest/api/token"),
            Some(("169.254.169.254", "/latest/api/token"))
        );
        assert_eq!(parts("http://agent:51678"), Some(("agent:51678", "/")));
        assert_eq!(parts("https://agent/"), None);
    }

    #[tokio::test]
    async fn the_agent_is_asked_with_method_path_and_header() {
        let agent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/latest/api/token", agent.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut connection, _) = agent.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let length = connection.read(&mut request).await.unwrap();
            connection
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntoken")
                .await
                .unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let answer = ThisHost.http("PUT", &url, Some(("x-ttl", "600"))).await;
        assert_eq!(answer.as_deref(), Some("token"));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("PUT /latest/api/token HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("\r\nx-ttl: 600\r\n"), "{asked}");
    }
}
