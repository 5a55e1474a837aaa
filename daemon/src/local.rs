//! `multilangd local` and `run --local`: the built-in services, and what their users need to know of them.
//!
//! Owns no service: only where they keep their data, and what is printed.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use multilangd_config::invocation;
use multilangd_local::{Data, Limits, LocalError, LocalOptions, LocalServices, start};
use tracing::{info, warn};

use crate::endpoints::{Endpoints, Published, publish};
use crate::signals::Signals;
use crate::worlds::LOCAL_REGION;

/// What the command line says about the services.
pub fn options(services: &invocation::LocalServices) -> LocalOptions {
    LocalOptions {
        kinesis_port: services.kinesis_port,
        dynamodb_port: services.dynamodb_port,
        data: match &services.data {
            invocation::Data::Directory(path) => Data::Dir(path.clone()),
            invocation::Data::Memory => Data::Memory,
        },
        limits: if services.aws_limits {
            Limits::Aws
        } else {
            Limits::None
        },
        region: LOCAL_REGION.to_owned(),
        subscription_life: services
            .subscription_life_secs
            .map_or(LocalOptions::default().subscription_life, |secs| {
                Duration::from_secs(secs.into())
            }),
        ..LocalOptions::default()
    }
}

/// Running services, and the file by which `put` finds them.
pub struct Local {
    services: LocalServices,
    endpoints: Endpoints,
    /// `None` where the directory cannot be written to.
    _published: Option<Published>,
}

impl Local {
    /// Starts both services, on threads of their own.
    pub async fn start(options: LocalOptions) -> Result<Self, LocalError> {
        let services = start(options).await?;
        let endpoints = Endpoints {
            kinesis: services.kinesis_endpoint(),
            dynamodb: services.dynamodb_endpoint(),
            region: LOCAL_REGION.to_owned(),
        };
        let published = publish(Path::new("."), &endpoints)
            .inspect_err(|error| warn!(%error, "`multilangd put` will not find the local services by itself"))
            .ok();
        Ok(Self {
            services,
            endpoints,
            _published: published,
        })
    }

    /// Where they are.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Makes the stream that a worker wants to read, unless there is one.
    pub async fn make_stream(&self, name: &str, shards: u32) -> Result<(), LocalError> {
        self.services
            .create_stream_if_missing(name, shards)
            .await
            .map(|_| ())
    }

    /// Stops both services and closes their data.
    pub async fn stop(self) {
        self.services.stop().await;
    }
}

/// `multilangd local`: starts the services, prints how to reach them, and waits for a signal. Answers its exit code.
pub async fn serve(options: LocalOptions, signals: &mut Signals) -> Result<u8, LocalError> {
    let local = Local::start(options).await?;
    // Nobody may be reading; the services are useful all the same.
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(introduction(local.endpoints()).as_bytes())
        .and_then(|()| stdout.flush());
    drop(stdout);
    let signal = signals.next().await;
    info!(signal = signal.name(), "stopping the local services");
    local.stop().await;
    Ok(signal.exit_code())
}

/// What `multilangd local` prints: first the two endpoints, for programs, then the same for shells.
pub fn introduction(endpoints: &Endpoints) -> String {
    let Endpoints {
        kinesis,
        dynamodb,
        region,
    } = endpoints;
    format!(
        "Kinesis   {kinesis}\n\
         DynamoDB  {dynamodb}\n\
         \n\
         # for the AWS CLI and every SDK:\n\
         export AWS_ENDPOINT_URL_KINESIS={kinesis}\n\
         export AWS_ENDPOINT_URL_DYNAMODB={dynamodb}\n\
         export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_REGION={region} AWS_DEFAULT_REGION={region}\n\
         \n\
         # for a properties file:\n\
         kinesisEndpoint = {kinesis}\n\
         dynamoDBEndpoint = {dynamodb}\n"
    )
}

/// What `run --local` says at its start, on stderr: how a producer writes to the stream.
pub fn hint(endpoints: &Endpoints, stream: &str) -> [String; 2] {
    let kinesis = &endpoints.kinesis;
    [
        format!("echo hello | multilangd put {stream}"),
        format!(
            "aws kinesis put-record --endpoint-url {kinesis} --stream-name {stream} --partition-key k \
             --data hello --cli-binary-format raw-in-base64-out"
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_introduction_names_both_endpoints_before_anything_else() {
        let endpoints = Endpoints {
            kinesis: "http://127.0.0.1:1".into(),
            dynamodb: "http://127.0.0.1:2".into(),
            region: "us-east-1".into(),
        };
        let text = introduction(&endpoints);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("Kinesis   http://127.0.0.1:1"));
        assert_eq!(lines.next(), Some("DynamoDB  http://127.0.0.1:2"));
        assert!(text.contains("\nexport AWS_ENDPOINT_URL_KINESIS=http://127.0.0.1:1\n"));
    }
}
