//! From a configuration to the engine's outside worlds: the stream, the tables, CloudWatch.
//!
//! Owns no decision: only what is connected to what.

use multilangd_config::config::{Fanout, MetricsLevel};
use multilangd_config::{ClientConfig, Config};
use multilangd_engine::fetch::WantedConsumer;

use crate::aws::client::{Aws, NoRegion, Service, ServiceSettings, Signing, UserAgent};
use crate::aws::cloudwatch::{self, CloudWatch};
use crate::aws::credentials::{Surroundings, dummy, signing};
use crate::aws::dynamodb::{self, DynamoDbTable};
use crate::aws::fanout::{self, KinesisFanOut};
use crate::aws::kinesis::{self, Clients, KinesisStream};
use crate::aws::trust::BadBundle;
use crate::endpoints::Endpoints;

/// Signed for where nothing else is said and the services are local: they take any.
pub const LOCAL_REGION: &str = "us-east-1";

/// All services, ready to make clients for.
#[derive(Clone, Debug)]
pub struct Worlds {
    kinesis: Service,
    dynamodb: Service,
    /// `None`: metrics go nowhere.
    cloudwatch: Option<Service>,
    stream_name: String,
    stream_arn: Option<String>,
    is_local: bool,
    language: Option<String>,
}

/// Services cannot even be asked.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// Nobody knows where they are.
    #[error(transparent)]
    Nowhere(#[from] NoRegion),
    /// Nobody vouches for them.
    #[error(transparent)]
    Unvouched(#[from] BadBundle),
}

impl Worlds {
    /// Finds out how to reach the services. With `local`, stream and tables are reached there, with credentials that mean
    /// nothing, whatever the configuration says about endpoints and providers; CloudWatch only at an endpoint that the
    /// configuration names.
    pub async fn find(config: &Config, local: Option<&Endpoints>) -> Result<Self, Unreachable> {
        let aws = Aws::from_env()?;
        let last_resort = config.region_of_last_resort();
        let clients = [&config.kinesis, &config.dynamodb, &config.cloudwatch];
        let mut settings = clients.map(|client| settings(client, last_resort));
        let signing = match local {
            Some(endpoints) => {
                let metrics = settings[2].endpoint.clone().unwrap_or_default();
                let places = [&endpoints.kinesis, &endpoints.dynamodb, &metrics];
                for (settings, endpoint) in settings.iter_mut().zip(places) {
                    *settings = local_settings(settings, endpoint, &endpoints.region);
                }
                [dummy(), dummy(), dummy()]
            }
            None => signings(&aws, config, last_resort).await,
        };
        let has_metrics = config.metrics.level != MetricsLevel::None
            && (local.is_none() || config.cloudwatch.endpoint.is_some());
        let cloudwatch = match has_metrics {
            true => Some(aws.service("CloudWatch", &settings[2], &signing[2]).await?),
            false => None,
        };
        Ok(Self {
            cloudwatch,
            kinesis: aws.service("Kinesis", &settings[0], &signing[0]).await?,
            dynamodb: aws.service("DynamoDB", &settings[1], &signing[1]).await?,
            stream_name: config.stream.name.clone(),
            // The local services' account is not the ARN's.
            stream_arn: config
                .stream
                .arn
                .as_ref()
                .filter(|_| local.is_none())
                .map(|arn| arn.text.clone()),
            is_local: local.is_some(),
            language: config.processing_language.clone(),
        })
    }

    /// The stream. `consumer_id`: `KCL-ConsumerId-…`, where it is known.
    pub fn stream(&self, consumer_id: Option<&str>) -> KinesisStream {
        let agent = UserAgent::new(consumer_id, self.language.as_deref());
        KinesisStream::new(
            Clients {
                answers: self.kinesis.answers(kinesis::READ_TIMEOUT, &agent),
                read: self.kinesis.kinesis(kinesis::READ_TIMEOUT, &agent),
                list: self.kinesis.kinesis(kinesis::LIST_TIMEOUT, &agent),
            },
            self.stream_name.clone(),
            self.stream_arn.clone(),
            self.kinesis.place.clone(),
        )
    }

    /// Enhanced fan-out of the stream.
    pub fn fan_out(&self, consumer_id: Option<&str>) -> KinesisFanOut {
        let agent = UserAgent::new(consumer_id, self.language.as_deref());
        let service = self.kinesis.clone();
        let list = service.kinesis(kinesis::LIST_TIMEOUT, &agent);
        KinesisFanOut::new(self.stream(consumer_id), list, move || {
            service.subscriptions(fanout::SUBSCRIBE_TIMEOUT, &agent)
        })
    }

    /// Which consumer to subscribe with. `stream_arn`: as the service said it.
    pub fn consumer(&self, fan_out: &Fanout, stream_arn: Option<&str>) -> WantedConsumer {
        match &fan_out.consumer_arn {
            // Local services know no consumer of another place.
            Some(arn) if !self.is_local => WantedConsumer::Arn(arn.clone()),
            Some(_) | None => WantedConsumer::Named {
                name: fan_out.consumer_name.clone(),
                stream_arn: stream_arn.map(str::to_owned).or_else(|| self.stream_arn.clone()),
            },
        }
    }

    /// A table with this key attribute.
    pub fn table(&self, name: &str, key_name: &str) -> DynamoDbTable {
        let agent = UserAgent::new(None, self.language.as_deref());
        DynamoDbTable::new(
            self.dynamodb.dynamodb(dynamodb::REQUEST_TIMEOUT, &agent),
            name.to_owned(),
            key_name.to_owned(),
            self.dynamodb.place.clone(),
        )
    }

    /// Where metrics go; `None`: nowhere.
    pub fn metrics(&self) -> Option<CloudWatch> {
        let service = self.cloudwatch.as_ref()?;
        let agent = UserAgent::new(None, self.language.as_deref());
        let client = service.cloudwatch(cloudwatch::REQUEST_TIMEOUT, &agent);
        Some(CloudWatch::new(client, service.place.clone()))
    }

    /// A table's ARN, as far as it can be known without asking: in the account of the stream.
    pub fn table_arn(&self, name: &str, stream_arn: &str) -> String {
        let mut parts = stream_arn.split(':').skip(1);
        let (partition, account) = (parts.next().unwrap_or("aws"), parts.nth(2).unwrap_or_default());
        format!(
            "arn:{partition}:dynamodb:{}:{account}:table/{name}",
            self.dynamodb.region
        )
    }

    /// Where Kinesis is, for people.
    pub fn kinesis(&self) -> &Service {
        &self.kinesis
    }

    /// Where DynamoDB is, for people.
    pub fn dynamodb(&self) -> &Service {
        &self.dynamodb
    }
}

/// What one client's configuration says.
pub fn settings(client: &ClientConfig, region_fallback: Option<&str>) -> ServiceSettings {
    ServiceSettings {
        region: client.region.clone(),
        region_fallback: region_fallback.map(str::to_owned),
        endpoint: client.endpoint.clone(),
        fips: client.fips,
        dualstack: client.dualstack,
        call_timeout: client.call_timeout,
        attempt_timeout: client.attempt_timeout,
        profile: client.profile.clone(),
    }
}

/// Time-outs and region stay; everything that would lead elsewhere goes.
fn local_settings(settings: &ServiceSettings, endpoint: &str, region: &str) -> ServiceSettings {
    ServiceSettings {
        region: settings.region.clone().or_else(|| Some(region.to_owned())),
        endpoint: Some(endpoint.to_owned()),
        fips: Some(false),
        dualstack: Some(false),
        call_timeout: settings.call_timeout,
        attempt_timeout: settings.attempt_timeout,
        ..ServiceSettings::default()
    }
}

/// One chain for services that are configured alike, so that credentials are fetched once.
async fn signings(aws: &Aws, config: &Config, last_resort: Option<&str>) -> [Signing; 3] {
    let surroundings = |client: &ClientConfig| Surroundings {
        profile: client.profile.clone(),
        region_fallback: client.region.clone().or_else(|| last_resort.map(str::to_owned)),
    };
    let (kinesis, dynamodb, cloudwatch) = (&config.kinesis, &config.dynamodb, &config.cloudwatch);
    let alike = |a: &ClientConfig, b: &ClientConfig| a.credentials == b.credentials && a.profile == b.profile;
    let first = signing(aws, &kinesis.credentials, &surroundings(kinesis)).await;
    let second = match alike(dynamodb, kinesis) {
        true => first.clone(),
        false => signing(aws, &dynamodb.credentials, &surroundings(dynamodb)).await,
    };
    let third = if alike(cloudwatch, kinesis) {
        first.clone()
    } else if alike(cloudwatch, dynamodb) {
        second.clone()
    } else {
        signing(aws, &cloudwatch.credentials, &surroundings(cloudwatch)).await
    };
    [first, second, third]
}
