//! A synthetic Kinesis for benches: endless records that were made before anybody asked.
//!
//! ```text
//! synthetic-kinesis [--shards N] [--listed M] [--bytes S] [--records R] [--rate PER_SECOND] [--table http://HOST:PORT] [--tls FILE]
//! ```
//!
//! ListShards tells of the first M shards only, if so told; all N can be read. Every shard holds records of S bytes; an answer has
//! at most R of them. Without `--rate` there is no end to the backlog, with it each shard gets so many a second. HTTP/1.1 with
//! JSON, as the AWS SDK for Rust speaks, and HTTP/2 (prior knowledge) with CBOR, as the one for Java does. Calls of DynamoDB go on to
//! `--table`, and `GET /table` tells how many and how many units they took. With `--tls` all of that is behind TLS, where ALPN
//! chooses between HTTP/1.1 and HTTP/2, and FILE gets the certificate that vouches for `localhost`. Prints its address, and works
//! until it is killed. Checks nothing: a client that errs is not what it is for.

mod service;
mod table;
mod tls;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use multilangd_bench::records::Made;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use crate::service::Service;
use crate::table::{Connection, Table};

/// Requests that one HTTP/2 connection may have open: a KCL worker has one for each shard.
const STREAMS_MAX: u32 = 10_000;

struct Options {
    shards: usize,
    listed: Option<usize>,
    bytes: usize,
    records: usize,
    rate: Option<f64>,
    table: Option<String>,
    tls: Option<PathBuf>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            shards: 1,
            listed: None,
            bytes: 1024,
            records: 10_000,
            rate: None,
            table: None,
            tls: None,
        };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = || {
                value
                    .parse()
                    .map_err(|_| format!("{word}: '{value}' is no number"))
            };
            match word.as_str() {
                "--shards" => options.shards = number()?,
                "--listed" => options.listed = Some(number()?),
                "--bytes" => options.bytes = number()?,
                "--records" => options.records = number()?,
                "--rate" => {
                    options.rate = Some(
                        value
                            .parse()
                            .map_err(|_| format!("--rate: '{value}' is no rate"))?,
                    )
                }
                "--table" => options.table = Some(value),
                "--tls" => options.tls = Some(value.into()),
                _ => return Err(format!("there is no option {word}")),
            }
        }
        Ok(options)
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command's output")]
fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let made = Made::new(options.records, options.bytes);
    let service = Rc::new(Service::new(
        made,
        options.shards,
        options.listed.unwrap_or(options.shards),
        options.rate,
    ));
    let table = options.table.map(|url| Rc::new(Table::at(&url)));
    let tls = options.tls.map(|authority| tls::acceptor(&authority));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("an address");
        match &tls {
            None => println!("http://{address}"),
            Some(_) => println!("https://localhost:{}", address.port()),
        }
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                continue;
            };
            let _ = socket.set_nodelay(true);
            let (service, table) = (service.clone(), table.clone().map(Connection::new));
            let tls = tls.clone();
            tokio::task::spawn_local(async move {
                match tls {
                    None => serve(socket, service, table).await,
                    Some(tls) => {
                        if let Ok(socket) = tls.accept(socket).await {
                            serve(socket, service, table).await;
                        }
                    }
                }
            });
        }
    })
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + 'static,
    service: Rc<Service>,
    table: Option<Connection>,
) {
    let mut server = auto::Builder::new(LocalExecutor);
    server.http2().max_concurrent_streams(STREAMS_MAX);
    let handler = service_fn(|request| service::answer(service.clone(), table.clone(), request));
    let _ = server.serve_connection(TokioIo::new(socket), handler).await;
}

/// Runs what HTTP/2 needs beside a connection on the one thread that there is.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
