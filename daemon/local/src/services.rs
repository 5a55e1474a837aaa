//! Starting and stopping both services.
//!
//! Owns the threads, the ports and the data directory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dynamodb::{Engine, Front};
use crate::error::LocalError;
use crate::fault::{Fault, FaultPlan};
use crate::kinesis::{Kinesis, Manners};
use crate::limits::Limits;
use crate::log::Room;
use crate::store::DataDir;
use crate::stream::Home;
use crate::{dynamodb, http};

/// How often expired records and shards are removed.
const SWEEP: Duration = Duration::from_secs(60);
/// Threads that serve Kinesis and the front of DynamoDB. They also write and read the logs.
const THREADS: usize = 2;

/// Where the services keep what they are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// Nowhere: it is gone when the process ends.
    #[default]
    Memory,
    /// In a directory, which is made if it is missing. What was acknowledged survives the process, however that
    /// ends. One process at a time may use it.
    Dir(PathBuf),
}

/// How to start the services. The default: in memory, on free ports of 127.0.0.1, without limits.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// 0: any free port.
    pub kinesis_port: u16,
    /// 0: any free port.
    pub dynamodb_port: u16,
    /// The address to listen on. Whoever reaches it may do everything: there are no permissions.
    pub bind: IpAddr,
    /// Where records, streams and tables are kept.
    pub data: Data,
    /// Bytes of records that memory may hold; more are refused with `InternalFailure`, as on a full disk.
    pub memory_bytes_max: u64,
    /// Whether shards throttle as the service's do.
    pub limits: Limits,
    /// Open shards that all streams may have together; more are refused with `LimitExceededException`.
    pub shard_limit: u32,
    /// The region in ARNs.
    pub region: String,
    /// The account in ARNs, 12 digits.
    pub account: String,
    /// How long a `SubscribeToShard` lasts; the service's: 5 minutes.
    pub subscription_life: Duration,
    /// How long a shard iterator and a `NextToken` can be used; the service's: 5 minutes.
    pub iterator_life: Duration,
    /// Faults that are in force from the first call.
    pub faults: Vec<Fault>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            kinesis_port: 0,
            dynamodb_port: 0,
            bind: Ipv4Addr::LOCALHOST.into(),
            data: Data::Memory,
            memory_bytes_max: 2 << 30,
            limits: Limits::None,
            shard_limit: 500,
            region: "us-east-1".into(),
            account: "000000000000".into(),
            subscription_life: Duration::from_secs(300),
            iterator_life: Duration::from_secs(300),
            faults: Vec::new(),
        }
    }
}

/// Both services, running on threads of their own until they are stopped or dropped.
pub struct LocalServices {
    kinesis: Arc<Kinesis>,
    kinesis_address: SocketAddr,
    dynamodb_address: SocketAddr,
    faults: FaultPlan,
    clock: Clock,
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

/// Starts both services. When this returns they answer.
pub async fn start(options: LocalOptions) -> Result<LocalServices, LocalError> {
    let (started, starting) = oneshot::channel();
    let (ending, ended) = oneshot::channel();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // Opening may read gigabytes of log; and the services' runtime must not be the caller's, which may be busy,
    // single-threaded or paused.
    std::thread::Builder::new()
        .name("local-services".into())
        .spawn(move || {
            let _ended = Ended(Some(ending));
            match Opened::open(&options) {
                Ok(opened) => opened.run(stopped, started),
                Err(error) => drop(started.send(Err(error))),
            }
        })
        .map_err(|error| LocalError::Start {
            what: "the local services",
            reason: error.to_string(),
        })?;
    let ready = starting.await.map_err(|_| LocalError::Start {
        what: "the local services",
        reason: "their thread ended".into(),
    })??;
    let Ready {
        kinesis,
        kinesis_address,
        dynamodb_address,
        faults,
        clock,
    } = ready;
    tracing::info!(kinesis = %kinesis_address, dynamodb = %dynamodb_address, "local services are ready");
    Ok(LocalServices {
        kinesis,
        kinesis_address,
        dynamodb_address,
        faults,
        clock,
        stop,
        ended,
    })
}

impl LocalServices {
    /// Such as `http://127.0.0.1:4567`.
    pub fn kinesis_endpoint(&self) -> String {
        format!("http://{}", self.kinesis_address)
    }

    /// Such as `http://127.0.0.1:8000`.
    pub fn dynamodb_endpoint(&self) -> String {
        format!("http://{}", self.dynamodb_address)
    }

    /// The faults in force; changes apply to the next call.
    pub fn faults(&self) -> &FaultPlan {
        &self.faults
    }

    /// Makes a stream, unless there is one of this name. Says whether it did.
    pub async fn create_stream_if_missing(&self, name: &str, shards: u32) -> Result<bool, LocalError> {
        let (kinesis, name, now_ms) = (self.kinesis.clone(), name.to_owned(), self.clock.now_ms());
        let created =
            tokio::task::spawn_blocking(move || kinesis.create_if_missing(&name, shards, now_ms)).await;
        let created = created.map_err(|error| LocalError::Start {
            what: "the stream",
            reason: error.to_string(),
        })?;
        Ok(created?)
    }

    /// Ends all connections, closes the data, and returns when both are done.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let _ = (&mut self.ended).await;
    }
}

impl Drop for LocalServices {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Tells whoever waits that the thread has ended, also by a panic.
struct Ended(Option<oneshot::Sender<()>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            let _ = sender.send(());
        }
    }
}

struct Ready {
    kinesis: Arc<Kinesis>,
    kinesis_address: SocketAddr,
    dynamodb_address: SocketAddr,
    faults: FaultPlan,
    clock: Clock,
}

/// Everything that is open before the first call. Fields are closed in this order.
struct Opened {
    kinesis: Arc<Kinesis>,
    kinesis_listener: std::net::TcpListener,
    dynamodb_listener: std::net::TcpListener,
    dynamodb: Arc<dynamodb::Port>,
    faults: FaultPlan,
    clock: Clock,
    engine: Engine,
    data: Option<DataDir>,
}

impl Opened {
    fn open(options: &LocalOptions) -> Result<Self, LocalError> {
        let data = match &options.data {
            Data::Memory => None,
            Data::Dir(path) => Some(DataDir::open(path)?),
        };
        let within = |name: &str| data.as_ref().map(|data| data.path.join(name));
        let clock = Clock::System;
        let manners = Manners {
            region: options.region.clone(),
            account: options.account.clone(),
            limits: options.limits,
            shard_limit: options.shard_limit,
            subscription_life: options.subscription_life,
            iterator_life: options.iterator_life,
        };
        let home =
            within("kinesis").map_or_else(|| Home::Memory(Room::new(options.memory_bytes_max)), Home::Folder);
        let kinesis = Arc::new(Kinesis::open(manners, clock.clone(), home)?);
        let engine = Engine::start(within("dynamodb.db").as_deref())?;
        let faults = FaultPlan::default();
        options.faults.iter().for_each(|fault| faults.add(fault.clone()));
        let backups = within("dynamodb-backups.json");
        let dynamodb = Arc::new(dynamodb::Port::new(&engine, faults.clone(), backups.as_deref())?);
        let kinesis_listener = listen("Kinesis", SocketAddr::new(options.bind, options.kinesis_port))?;
        let dynamodb_listener = listen("DynamoDB", SocketAddr::new(options.bind, options.dynamodb_port))?;
        Ok(Self {
            kinesis,
            kinesis_listener,
            dynamodb_listener,
            dynamodb,
            faults,
            clock,
            engine,
            data,
        })
    }

    /// Serves until told to stop.
    fn run(self, stop: CancellationToken, started: oneshot::Sender<Result<Ready, LocalError>>) {
        let Self {
            kinesis,
            kinesis_listener,
            dynamodb_listener,
            dynamodb,
            faults,
            clock,
            engine,
            data,
        } = self;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("local-services")
            .enable_all()
            .build();
        let fault = |error: std::io::Error| LocalError::Start {
            what: "the local services",
            reason: error.to_string(),
        };
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(fault(error)))),
        };
        runtime.block_on(async {
            let listeners = (|| {
                let addresses = (kinesis_listener.local_addr()?, dynamodb_listener.local_addr()?);
                Ok((
                    TcpListener::from_std(kinesis_listener)?,
                    TcpListener::from_std(dynamodb_listener)?,
                    addresses,
                ))
            })();
            let (kinesis_listener, dynamodb_listener, (kinesis_address, dynamodb_address)) = match listeners {
                Ok(listeners) => listeners,
                Err(error) => return drop(started.send(Err(fault(error)))),
            };
            let port = Arc::new(http::kinesis::Port {
                kinesis: kinesis.clone(),
                faults: faults.clone(),
                clock: clock.clone(),
            });
            let ready = Ready {
                kinesis: kinesis.clone(),
                kinesis_address,
                dynamodb_address,
                faults,
                clock: clock.clone(),
            };
            if started.send(Ok(ready)).is_err() {
                return; // nobody waits any more
            }
            let serve_kinesis = http::serve(kinesis_listener, stop.clone(), || {
                let port = port.clone();
                move |request| port.clone().handle(request)
            });
            let serve_dynamodb = http::serve(dynamodb_listener, stop.clone(), || {
                let front = Arc::new(Front::new(dynamodb.clone()));
                move |request| front.clone().handle(request)
            });
            let housekeeping = async {
                loop {
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(SWEEP) => {}
                    }
                    let (kinesis, now_ms) = (kinesis.clone(), clock.now_ms());
                    let _ = tokio::task::spawn_blocking(move || kinesis.sweep(now_ms)).await;
                }
                kinesis.stop();
            };
            tokio::join!(serve_kinesis, serve_dynamodb, housekeeping);
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        drop(engine);
        drop(kinesis);
        drop(data);
    }
}

fn listen(service: &'static str, address: SocketAddr) -> Result<std::net::TcpListener, LocalError> {
    let listener = std::net::TcpListener::bind(address)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|source| LocalError::Listen {
        service,
        address,
        source,
    })
}
