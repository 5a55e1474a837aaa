//! Servers to talk to, and ways to wait.

#![allow(dead_code, unreachable_pub)] // every test program uses a part of it

use std::time::Duration;

use multilangd_daemon::aws::client::{Aws, Service, ServiceSettings, UserAgent};
use multilangd_daemon::aws::credentials::dummy;
use multilangd_daemon::aws::dynamodb::DynamoDbTable;
use multilangd_daemon::aws::kinesis::{self, Clients, KinesisStream};
use multilangd_local::{Fault, LocalOptions, LocalServices, start};
use tokio::sync::OnceCell;

/// Nothing in a test takes longer than this unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The built-in services, one pair for all tests of a program.
pub async fn services() -> &'static LocalServices {
    static SERVICES: OnceCell<LocalServices> = OnceCell::const_new();
    SERVICES
        .get_or_init(async || start(LocalOptions::default()).await.expect("they start"))
        .await
}

/// The DynamoDB endpoint of these tests.
async fn dynamodb_endpoint() -> String {
    match std::env::var("MULTILANGD_TEST_DYNAMODB") {
        Ok(endpoint) => endpoint,
        Err(_) => services().await.dynamodb_endpoint(),
    }
}

/// The Kinesis endpoint of these tests.
pub async fn kinesis_endpoint() -> String {
    services().await.kinesis_endpoint()
}

/// DynamoDB Local returns no old row with a failed condition.
pub fn returns_no_old_rows() -> bool {
    std::env::var_os("MULTILANGD_TEST_NO_OLD_ROWS").is_some()
}

async fn service(name: &'static str, endpoint: &str) -> Service {
    let settings = ServiceSettings {
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint.into()),
        ..ServiceSettings::default()
    };
    Aws::default()
        .service(name, &settings, &dummy())
        .await
        .expect("a region is given")
}

/// Makes calls to the built-in services fail.
pub async fn fault(fault: Fault) {
    services().await.faults().add(fault);
}

/// A table of the test's own, not created yet.
pub async fn dynamodb(name: &str, key_name: &str) -> DynamoDbTable {
    table_at(&dynamodb_endpoint().await, &unique(name), key_name).await
}

/// A table of any server.
pub async fn table_at(endpoint: &str, name: &str, key_name: &str) -> DynamoDbTable {
    let service = service("DynamoDB", endpoint).await;
    let client = service.dynamodb(PATIENCE, &UserAgent::default());
    DynamoDbTable::new(client, name.into(), key_name.into(), service.place)
}

/// A Kinesis client for what the trait cannot do: create streams, put records, split shards.
pub async fn kinesis_client() -> aws_sdk_kinesis::Client {
    service("Kinesis", &kinesis_endpoint().await)
        .await
        .kinesis(PATIENCE, &UserAgent::default())
}

/// A stream of any server.
pub async fn stream_at(endpoint: &str, name: &str) -> KinesisStream {
    stream_of(&service("Kinesis", endpoint).await, name)
}

/// A stream of a server that is reached in a way of its own.
pub fn stream_of(service: &Service, name: &str) -> KinesisStream {
    let agent = UserAgent::new(Some("KCL-ConsumerId-test"), Some("python"));
    let read = service.kinesis(kinesis::READ_TIMEOUT, &agent);
    let clients = Clients {
        answers: service.answers(kinesis::READ_TIMEOUT, &agent),
        list: read.clone(),
        read,
    };
    KinesisStream::new(clients, name.into(), None, service.place.clone())
}

/// A name that no other run has used on the same server.
pub fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Asks until there is an answer; panics when patience ends.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
