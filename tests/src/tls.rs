//! A service behind TLS, as AWS is: a front that speaks TLS to the client and passes the bytes on; and a proxy in between.
//!
//! Knows no HTTP but `CONNECT`: whether a connection is HTTP/2 is what ALPN agreed on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::sync::CancellationToken;

/// TLS in front of a service. Ends with the value.
pub struct Front {
    port: u16,
    seen: Arc<Seen>,
    authority: PathBuf,
    _dir: TempDir,
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Seen {
    protocols: Mutex<Vec<String>>,
    frozen: Mutex<CancellationToken>,
}

impl Front {
    /// In front of `http://ADDRESS:PORT`, with a certificate for `localhost`.
    pub fn start(service: &str) -> Self {
        let service = address(service);
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let dir = tempfile::tempdir().expect("a directory");
        let authority = dir.path().join("authority.pem");
        std::fs::write(&authority, made.cert.pem()).expect("it can be written");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("key and certificate fit");
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let seen = Arc::new(Seen::default());
        let shared = seen.clone();
        let (runtime, port) = listen(move |socket| {
            let (acceptor, service, seen) = (acceptor.clone(), service.clone(), shared.clone());
            async move {
                // A client that trusts nobody here hangs up.
                let Ok(mut client) = acceptor.accept(socket).await else {
                    return;
                };
                let protocol = client.get_ref().1.alpn_protocol().unwrap_or_default();
                let protocol = String::from_utf8_lossy(protocol).into_owned();
                seen.protocols.lock().expect("no panic").push(protocol);
                let frozen = seen.frozen.lock().expect("no panic").clone();
                let mut server = TcpStream::connect(service).await.expect("the service is there");
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    () = frozen.cancelled() => std::future::pending().await,
                }
            }
        });
        Self {
            port,
            seen,
            authority,
            _dir: dir,
            runtime: Some(runtime),
        }
    }

    /// `https://localhost:PORT`.
    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The PEM file that vouches for it.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    /// What ALPN agreed on, for every connection so far.
    pub fn connections(&self) -> Vec<String> {
        self.seen.protocols.lock().expect("no panic").clone()
    }

    /// Connections that are open now stay open, and say nothing more, as when a machine vanishes. New ones work.
    pub fn freeze(&self) {
        let mut frozen = self.seen.frozen.lock().expect("no panic");
        std::mem::take(&mut *frozen).cancel();
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Not waited for: a test may drop it inside a runtime of its own.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An HTTP proxy that knows `CONNECT` only. Ends with the value.
pub struct Proxy {
    port: u16,
    tunnels: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Proxy {
    /// On a free port.
    pub fn start() -> Self {
        let tunnels = Arc::new(Mutex::new(Vec::new()));
        let seen = tunnels.clone();
        let (runtime, port) = listen(move |socket| {
            let seen = seen.clone();
            async move {
                let mut client = BufReader::new(socket);
                let Some(target) = connect_target(&mut client).await else {
                    return;
                };
                seen.lock().expect("no panic").push(target.clone());
                let mut server = TcpStream::connect(&target).await.expect("it is there");
                let greeting = client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await;
                greeting.expect("the client waits for it");
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
        Self {
            port,
            tunnels,
            _runtime: runtime,
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `HOST:PORT` of every tunnel so far.
    pub fn tunnels(&self) -> Vec<String> {
        self.tunnels.lock().expect("no panic").clone()
    }
}

/// Reads a request to its empty line: `CONNECT HOST:PORT HTTP/1.1`.
async fn connect_target(
    client: &mut (impl AsyncRead + AsyncWrite + AsyncBufReadExt + Unpin),
) -> Option<String> {
    let mut lines = client.lines();
    let request = lines.next_line().await.ok()??;
    while !lines.next_line().await.ok()??.is_empty() {}
    let mut words = request.split(' ');
    (words.next() == Some("CONNECT")).then(|| words.next().map(str::to_owned))?
}

/// Serves every connection to a free port, on a thread of its own.
fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (Runtime, u16) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()
        .expect("a runtime");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("it can be changed");
    let port = listener.local_addr().expect("an address").port();
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("a runtime");
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            tokio::spawn(serve(socket));
        }
        let _ = writeln!(std::io::stderr(), "a front takes no connections any more");
    });
    (runtime, port)
}

fn address(endpoint: &str) -> String {
    endpoint
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned()
}
