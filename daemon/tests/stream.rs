//! The contract of `Stream`, over the real SDK, against the built-in Kinesis.
#![cfg(feature = "local")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use common::{kinesis_client, kinesis_endpoint, services, stream_at, stream_of, unique};
use multilangd_core::ids::{HashRange, SequenceNumber, ShardId};
use multilangd_core::stream::{Batch, Shard, ShardFilter, ShardIterator, StartAt};
use multilangd_daemon::aws::client::{Aws, ServiceSettings};
use multilangd_daemon::aws::credentials::dummy;
use multilangd_daemon::aws::kinesis::KinesisStream;
use multilangd_daemon::aws::lanes::Pings;
use multilangd_daemon::aws::trust::Trust;
use multilangd_daemon::put::{PutError, Summary, Target, put};
use multilangd_engine::clock::Clock;
use multilangd_engine::stream::{ShardPage, Stream, StreamError};
use multilangd_local::Fault;
use multilangd_tests::tls::Front;
use tokio::task::JoinSet;

/// The service's maximum for one call.
const RECORDS_MAX: u32 = 10_000;

#[tokio::test]
async fn a_stream_is_described() {
    let stream = created("described", 3).await;
    let description = stream.describe().await.unwrap();
    assert_eq!(description.status, "ACTIVE");
    assert!(description.is_readable);
    assert_eq!(description.open_shards, 3);
    assert!(
        description.arn.starts_with("arn:aws:kinesis:us-east-1:"),
        "{}",
        description.arn
    );
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_not_found() {
    let stream = stream_at(&kinesis_endpoint().await, "absent").await;
    let error = stream.describe().await.unwrap_err();
    assert!(matches!(error, StreamError::NotFound(_)), "{error}");
    assert!(error.to_string().contains("absent"), "{error}");
}

#[tokio::test]
async fn shards_cover_the_whole_hash_space() {
    let stream = created("shards", 2).await;
    let shards = all_shards(&stream, None).await;
    assert_eq!(shards.len(), 2);
    assert_eq!(shards[0].hash_range.start, HashRange::ALL.start);
    assert_eq!(shards[0].hash_range.end + 1, shards[1].hash_range.start);
    assert_eq!(shards[1].hash_range.end, HashRange::ALL.end);
    assert!(shards.iter().all(Shard::is_open));
    assert!(shards.iter().all(|shard| shard.parents().next().is_none()));
}

#[tokio::test]
async fn records_come_back_in_order_with_keys_payloads_and_times() {
    let stream = created("records", 1).await;
    put_texts(&stream, &["a", "b", "c"]).await;
    let shard = &all_shards(&stream, None).await[0].id;
    let batch = read(&stream, shard, &StartAt::TrimHorizon).await;
    assert_eq!(texts(&batch), ["a", "b", "c"]);
    let positions: Vec<_> = (0..batch.records.len())
        .map(|index| batch.records.position(index))
        .collect();
    assert!(positions.is_sorted_by(|a, b| a < b));
    assert!(batch.records.iter().all(|record| record.partition_key == "key"));
    let age_ms = Clock::real().epoch_ms()
        - batch
            .records
            .iter()
            .next()
            .unwrap()
            .approximate_arrival_ms
            .unwrap();
    assert!((0..60_000).contains(&age_ms), "{age_ms}");
    assert!(batch.next_iterator.is_some());
    assert!(batch.child_shards.is_empty());
    assert_eq!(batch.millis_behind_latest, Some(0));
}

#[tokio::test]
async fn over_tls_answers_have_connections_of_their_own_up_to_a_bound_and_all_else_shares_one() {
    let plain = created("tls", 1).await;
    put_texts(&plain, &["a"]).await;
    let front = Front::start(&kinesis_endpoint().await);
    let aws = Aws::new(Trust::in_file(front.authority()).unwrap(), Pings::default());
    let settings = ServiceSettings {
        region: Some("us-east-1".into()),
        endpoint: Some(front.endpoint()),
        ..ServiceSettings::default()
    };
    let service = aws.service("Kinesis", &settings, &dummy()).await.unwrap();
    let stream = stream_of(&service, plain.name());
    let shard = all_shards(&stream, None).await.remove(0).id;
    let start = StartAt::TrimHorizon;
    let iterator = stream.shard_iterator(&shard, &start).await.unwrap().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..80 {
        let (stream, iterator) = (stream.clone(), iterator.clone());
        calls.spawn(async move { stream.get_records(&iterator, RECORDS_MAX).await });
    }
    for answer in calls.join_all().await {
        assert_eq!(texts(&answer.unwrap()), ["a"]);
    }
    let mut connections = front.connections();
    connections.sort();
    // Who offers nothing speaks HTTP/1.1.
    let (of_answers, others) = connections.split_at(connections.partition_point(String::is_empty));
    assert_eq!(others, ["h2"]);
    assert!((1..=64).contains(&of_answers.len()), "{}", of_answers.len());
}

#[tokio::test]
async fn every_kind_of_iterator_begins_where_it_says() {
    let stream = created("iterators", 1).await;
    put_texts(&stream, &["a", "b"]).await;
    tokio::time::sleep(Duration::from_millis(30)).await; // so that the time stamp lies between b and c
    let between_ms = Clock::real().epoch_ms() - 10;
    put_texts(&stream, &["c"]).await;
    let shard = &all_shards(&stream, None).await[0].id;
    let all = read(&stream, shard, &StartAt::TrimHorizon).await;
    let b = SequenceNumber::parse(all.records.iter().nth(1).unwrap().sequence_number.as_str()).unwrap();
    assert_eq!(
        texts(&read(&stream, shard, &StartAt::At(b.clone())).await),
        ["b", "c"]
    );
    assert_eq!(texts(&read(&stream, shard, &StartAt::After(b)).await), ["c"]);
    assert_eq!(
        texts(&read(&stream, shard, &StartAt::Timestamp(between_ms)).await),
        ["c"]
    );
    let latest = stream
        .shard_iterator(shard, &StartAt::Latest)
        .await
        .unwrap()
        .unwrap();
    put_texts(&stream, &["d"]).await;
    assert_eq!(
        texts(&stream.get_records(&latest, RECORDS_MAX).await.unwrap()),
        ["d"]
    );
}

#[tokio::test]
async fn a_limit_is_kept_and_the_next_iterator_goes_on() {
    let stream = created("limit", 1).await;
    put_texts(&stream, &["a", "b", "c"]).await;
    let shard = &all_shards(&stream, None).await[0].id;
    let iterator = stream
        .shard_iterator(shard, &StartAt::TrimHorizon)
        .await
        .unwrap()
        .unwrap();
    let first = stream.get_records(&iterator, 2).await.unwrap();
    let second = stream
        .get_records(&first.next_iterator.clone().unwrap(), 2)
        .await
        .unwrap();
    assert_eq!(
        (texts(&first), texts(&second)),
        (vec!["a".into(), "b".into()], vec!["c".into()])
    );
}

#[tokio::test]
async fn a_closed_shard_ends_with_its_children_and_without_iterator() {
    let stream = created("split", 1).await;
    put_texts(&stream, &["a"]).await;
    let parent = all_shards(&stream, None).await.remove(0);
    split(&stream, &parent).await;
    let iterator = stream
        .shard_iterator(&parent.id, &StartAt::TrimHorizon)
        .await
        .unwrap()
        .unwrap();
    let mut batch = stream.get_records(&iterator, RECORDS_MAX).await.unwrap();
    assert_eq!(texts(&batch), ["a"]);
    if let Some(next) = &batch.next_iterator {
        batch = stream.get_records(next, RECORDS_MAX).await.unwrap();
    }
    assert_eq!(batch.next_iterator, None);
    assert_eq!(batch.child_shards.len(), 2);
    for child in &batch.child_shards {
        assert_eq!(child.parents, std::slice::from_ref(&parent.id));
    }
    let (left, right) = (batch.child_shards[0].hash_range, batch.child_shards[1].hash_range);
    assert_eq!(left.end.max(right.end), HashRange::ALL.end);
    assert_eq!(left.start.min(right.start), HashRange::ALL.start);
}

#[tokio::test]
async fn a_merged_shard_names_both_parents() {
    let stream = created("merge", 2).await;
    let parents = all_shards(&stream, None).await;
    let client = kinesis_client().await;
    let request = client.merge_shards().stream_name(stream.name());
    request
        .shard_to_merge(parents[0].id.as_str())
        .adjacent_shard_to_merge(parents[1].id.as_str())
        .send()
        .await
        .unwrap();
    let shards = all_shards(&stream, Some(ShardFilter::AtLatest)).await;
    assert_eq!(shards.len(), 1);
    let of = shards[0].parents().cloned().collect::<BTreeSet<_>>();
    assert_eq!(of, parents.iter().map(|parent| parent.id.clone()).collect());
    assert!(shards[0].adjacent_parent.is_some());
}

#[tokio::test]
async fn filters_choose_the_shards_of_a_time() {
    let stream = created("filters", 1).await;
    let before_ms = Clock::real().epoch_ms();
    let parent = all_shards(&stream, None).await.remove(0);
    tokio::time::sleep(Duration::from_millis(30)).await; // so that the split is later than `before_ms`
    split(&stream, &parent).await;
    assert_eq!(all_shards(&stream, None).await.len(), 3);
    let latest = all_shards(&stream, Some(ShardFilter::AtLatest)).await;
    assert_eq!(latest.len(), 2);
    assert!(latest.iter().all(Shard::is_open));
    assert_eq!(
        all_shards(&stream, Some(ShardFilter::AtTrimHorizon)).await.len(),
        1
    );
    let then = all_shards(&stream, Some(ShardFilter::AtTimestamp(before_ms))).await;
    assert_eq!(
        then.iter().map(|shard| &shard.id).collect::<Vec<_>>(),
        [&parent.id]
    );
    assert!(!then[0].is_open());
}

#[tokio::test]
async fn an_iterator_of_nothing_is_refused_as_an_argument() {
    let stream = created("garbage", 1).await;
    let error = stream
        .get_records(&ShardIterator("garbage".into()), 1)
        .await
        .unwrap_err();
    assert!(matches!(error, StreamError::InvalidArgument(_)), "{error}");
    let shard = ShardId::from("shardId-000000000099");
    let error = stream
        .shard_iterator(&shard, &StartAt::TrimHorizon)
        .await
        .unwrap_err();
    assert!(matches!(error, StreamError::NotFound(_)), "{error}");
}

#[tokio::test]
async fn every_error_says_what_to_do_next() {
    type Expected = fn(&StreamError) -> bool;
    let cases: [(&str, Expected); 8] = [
        ("ProvisionedThroughputExceededException", |e| {
            matches!(e, StreamError::Throttled(_))
        }),
        ("LimitExceededException", |e| {
            matches!(e, StreamError::Throttled(_))
        }),
        ("ThrottlingException", |e| matches!(e, StreamError::Throttled(_))),
        ("ExpiredIteratorException", |e| {
            matches!(e, StreamError::ExpiredIterator)
        }),
        ("InvalidArgumentException", |e| {
            matches!(e, StreamError::InvalidArgument(_))
        }),
        ("ResourceInUseException", |e| {
            matches!(e, StreamError::NotActive(_))
        }),
        ("AccessDeniedException", |e| matches!(e, StreamError::Refused(_))),
        ("InternalFailure", |e| matches!(e, StreamError::Unavailable(_))),
    ];
    for (code, expected) in cases {
        let stream = created(&format!("error-{code}"), 1).await;
        let shard = &all_shards(&stream, None).await[0].id;
        services().await.faults().add(
            Fault::on("kinesis.GetShardIterator")
                .only(stream.name())
                .error(code),
        );
        let error = stream.shard_iterator(shard, &StartAt::Latest).await.unwrap_err();
        assert!(expected(&error), "{code}: {error:?}");
    }
}

#[tokio::test]
async fn a_call_without_an_answer_can_be_repeated() {
    let stream = created("unanswered", 1).await;
    let fault = || Fault::on("kinesis.DescribeStreamSummary").only(stream.name());
    services().await.faults().add(fault().call(1).unanswered());
    assert!(matches!(
        stream.describe().await,
        Err(StreamError::Unavailable(_))
    ));
    assert!(stream.describe().await.is_ok());
}

#[tokio::test]
async fn no_server_is_no_answer() {
    let stream = stream_at("http://127.0.0.1:1", "any").await;
    let error = stream.describe().await.unwrap_err();
    assert!(matches!(error, StreamError::Unavailable(_)), "{error}");
    assert!(
        error.to_string().contains("Kinesis at http://127.0.0.1:1"),
        "{error}"
    );
}

#[tokio::test]
async fn lines_are_put_as_records_over_all_shards() {
    let stream = created("put", 2).await;
    let lines: String = (0..1_234).map(|i| format!("line {i}\n")).collect();
    let (summary, result) = put_lines(&stream, lines, None).await;
    result.unwrap();
    assert_eq!(
        (summary.records, summary.shards.len(), summary.retries),
        (1_234, 2, 0)
    );
    let mut read_back = BTreeSet::new();
    for shard in all_shards(&stream, None).await {
        read_back.extend(texts(&read(&stream, &shard.id, &StartAt::TrimHorizon).await));
    }
    assert_eq!(read_back.len(), 1_234);
    assert!(read_back.contains("line 1233"));
}

#[tokio::test]
async fn throttled_lines_are_put_again() {
    let stream = created("put-throttled", 1).await;
    let fault = Fault::on("kinesis.PutRecords").only(stream.name()).call(1);
    services()
        .await
        .faults()
        .add(fault.error("ProvisionedThroughputExceededException"));
    let (summary, result) = put_lines(&stream, "a\nb\n".into(), Some("k")).await;
    result.unwrap();
    assert_eq!((summary.records, summary.retries), (2, 1));
    let shard = &all_shards(&stream, None).await[0].id;
    assert_eq!(
        texts(&read(&stream, shard, &StartAt::TrimHorizon).await),
        ["a", "b"]
    );
}

#[tokio::test]
async fn a_refused_put_ends_with_the_reason() {
    let stream = stream_at(&kinesis_endpoint().await, "put-absent").await;
    let (summary, result) = put_lines(&stream, "a\n".into(), None).await;
    assert_eq!(summary.records, 0);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("ResourceNotFoundException"), "{error}");
}

async fn put_lines(
    stream: &KinesisStream,
    lines: String,
    key: Option<&str>,
) -> (Summary, Result<(), PutError>) {
    let target = Target {
        client: kinesis_client().await,
        place: "Kinesis".into(),
        stream: stream.name().into(),
        partition_key: key.map(str::to_owned),
        records_per_second_max: None,
    };
    let input = Box::new(std::io::Cursor::new(lines));
    put(&target, input, &Clock::real(), std::future::pending()).await
}

async fn created(name: &str, shards: u32) -> KinesisStream {
    let stream = stream_at(&kinesis_endpoint().await, &unique(name)).await;
    services()
        .await
        .create_stream_if_missing(stream.name(), shards)
        .await
        .unwrap();
    stream
}

async fn all_shards(stream: &KinesisStream, filter: Option<ShardFilter>) -> Vec<Shard> {
    let (mut page, mut all) = (ShardPage::First(filter), Vec::new());
    loop {
        let shards = stream.list_shards(&page).await.unwrap();
        all.extend(shards.shards);
        match shards.next_token {
            Some(token) => page = ShardPage::Next(token),
            None => return all,
        }
    }
}

async fn read(stream: &KinesisStream, shard: &ShardId, start: &StartAt) -> Batch {
    let iterator = stream.shard_iterator(shard, start).await.unwrap().unwrap();
    stream.get_records(&iterator, RECORDS_MAX).await.unwrap()
}

async fn put_texts(stream: &KinesisStream, texts: &[&str]) {
    let client: Client = kinesis_client().await;
    for text in texts {
        let request = client
            .put_record()
            .stream_name(stream.name())
            .partition_key("key");
        request.data(Blob::new(*text)).send().await.unwrap();
    }
}

async fn split(stream: &KinesisStream, shard: &Shard) {
    let middle = shard.hash_range.start + (shard.hash_range.end - shard.hash_range.start) / 2;
    let request = kinesis_client().await.split_shard().stream_name(stream.name());
    request
        .shard_to_split(shard.id.as_str())
        .new_starting_hash_key(middle.to_string())
        .send()
        .await
        .unwrap();
}

fn texts(batch: &Batch) -> Vec<String> {
    batch
        .records
        .iter()
        .map(|record| String::from_utf8(record.data.decoded().into_owned()).unwrap())
        .collect()
}
