use super::*;

#[tokio::test(start_paused = true)]
async fn a_shard_is_read_in_order_and_ends_with_its_children() {
    let stream = FakeStream::new("s", 1, Clock::simulated(1000, 7));
    let (shard, _) = stream.put("a", "1");
    stream.put("a", "2");
    let children = stream.split(&shard);
    let batch = read(&stream, &shard, StartAt::TrimHorizon).await.unwrap();
    assert_eq!(texts(&batch), ["1", "2"]);
    assert_eq!(batch.next_iterator, None);
    let named: Vec<&ShardId> = batch.child_shards.iter().map(|child| &child.id).collect();
    assert_eq!(named, [&children[0], &children[1]]);
}

#[tokio::test(start_paused = true)]
async fn iterators_begin_where_they_are_asked_to() {
    let clock = Clock::simulated(1000, 7);
    let stream = FakeStream::new("s", 1, clock.clone());
    let (shard, first) = stream.put("a", "1");
    sleep(Duration::from_secs(1)).await;
    let asked = clock.epoch_ms();
    stream.put("a", "2");
    for (start, seen) in [
        (StartAt::TrimHorizon, vec!["1", "2"]),
        (StartAt::At(first.clone()), vec!["1", "2"]),
        (StartAt::After(first), vec!["2"]),
        (StartAt::Timestamp(asked), vec!["2"]),
        (StartAt::Latest, vec![]),
    ] {
        let batch = read(&stream, &shard, start.clone()).await.unwrap();
        assert_eq!(texts(&batch), seen, "{start:?}");
        assert!(batch.next_iterator.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_far_behind_it_is() {
    let stream = FakeStream::new("s", 1, Clock::simulated(1000, 7));
    stream.set_latency(Duration::ZERO);
    let (shard, _) = stream.put("a", "1");
    stream.put("a", "2");
    sleep(Duration::from_millis(700)).await;
    let iterator = stream
        .shard_iterator(&shard, &StartAt::TrimHorizon)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        stream
            .get_records(&iterator, 1)
            .await
            .unwrap()
            .millis_behind_latest,
        Some(700)
    );
    assert_eq!(
        stream
            .get_records(&iterator, 2)
            .await
            .unwrap()
            .millis_behind_latest,
        Some(0)
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_holds_at_most_10_mb() {
    let stream = FakeStream::new("s", 1, Clock::simulated(1000, 7));
    let shard = stream.shard_of(0);
    for _ in 0..11 {
        stream.put_into(&shard, "a", vec![0; 1024 * 1024]);
    }
    assert_eq!(
        read(&stream, &shard, StartAt::TrimHorizon)
            .await
            .unwrap()
            .records
            .len(),
        10
    );
}

#[tokio::test(start_paused = true)]
async fn an_iterator_lives_five_minutes() {
    let stream = FakeStream::new("s", 1, Clock::simulated(1000, 7));
    let shard = stream.shard_of(0);
    let iterator = stream
        .shard_iterator(&shard, &StartAt::Latest)
        .await
        .unwrap()
        .unwrap();
    sleep(Duration::from_secs(299)).await;
    assert!(stream.get_records(&iterator, 1).await.is_ok());
    sleep(Duration::from_secs(2)).await;
    assert!(matches!(
        stream.get_records(&iterator, 1).await,
        Err(StreamError::ExpiredIterator)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_sixth_call_within_a_second_is_throttled() {
    let stream = FakeStream::new("s", 1, Clock::simulated(1000, 7));
    stream.set_limits(true);
    let shard = stream.shard_of(0);
    let iterator = stream
        .shard_iterator(&shard, &StartAt::Latest)
        .await
        .unwrap()
        .unwrap();
    for _ in 0..5 {
        assert!(stream.get_records(&iterator, 1).await.is_ok());
    }
    assert!(matches!(
        stream.get_records(&iterator, 1).await,
        Err(StreamError::Throttled(_))
    ));
    sleep(Duration::from_secs(1)).await;
    assert!(stream.get_records(&iterator, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn listings_are_filtered_and_paged() {
    let clock = Clock::simulated(1000, 7);
    let stream = FakeStream::new("s", 2, clock.clone());
    stream.set_page_max(2);
    sleep(Duration::from_secs(1)).await;
    let merged = stream.merge(&shard(0), &shard(1));
    let between = clock.epoch_ms();
    sleep(Duration::from_secs(1)).await;
    stream.split(&merged);
    for (filter, seen) in [
        (None, vec![0, 1, 2, 3, 4]),
        (Some(ShardFilter::AtLatest), vec![3, 4]),
        (Some(ShardFilter::AtTrimHorizon), vec![0, 1]),
        (Some(ShardFilter::AtTimestamp(between)), vec![2]),
    ] {
        let (mut listed, mut page) = (Vec::new(), ShardPage::First(filter));
        loop {
            let answer = stream.list_shards(&page).await.unwrap();
            assert!(answer.shards.len() <= 2);
            listed.extend(answer.shards.into_iter().map(|shard| shard.id));
            match answer.next_token {
                Some(token) => page = ShardPage::Next(token),
                None => break,
            }
        }
        assert_eq!(
            listed,
            seen.into_iter().map(shard).collect::<Vec<_>>(),
            "{filter:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_trimmed_shard_is_not_found() {
    let stream = FakeStream::new("s", 1, Clock::simulated(1000, 7));
    stream.split(&shard(0));
    stream.trim(&shard(0));
    assert!(matches!(
        read(&stream, &shard(0), StartAt::Latest).await,
        Err(StreamError::NotFound(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn faults_come_as_asked() {
    let stream = FakeStream::new("s", 1, Clock::simulated(1000, 7));
    stream.fail_next(1, Fault::Throttled);
    assert!(matches!(stream.describe().await, Err(StreamError::Throttled(_))));
    assert_eq!(stream.describe().await.unwrap().open_shards, 1);
}

async fn read(stream: &FakeStream, shard: &ShardId, start: StartAt) -> Result<Batch, StreamError> {
    let iterator = stream.shard_iterator(shard, &start).await?.expect("an iterator");
    stream.get_records(&iterator, 10_000).await
}

fn texts(batch: &Batch) -> Vec<String> {
    batch
        .records
        .iter()
        .map(|record| String::from_utf8(record.data.decoded().into_owned()).unwrap())
        .collect()
}

fn shard(place: usize) -> ShardId {
    format!("shardId-{place:012}").into()
}
