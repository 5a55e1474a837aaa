//! Connections that carry subscriptions: many on each, none of which can hold up another.
//!
//! Owns which connection carries which subscription, its windows, and how it is found dead. Over TLS a lane is one HTTP/2
//! connection, as the service demands; over plain HTTP (local services) every subscription has a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use crate::aws::http::{by_scheme, plain};
use crate::aws::transport::{Speaks, Transport, builder};

/// Subscriptions on one connection. Far below what any server allows, as the next one would wait for a place without a
/// word; 200 shards need 13 connections.
const SUBSCRIPTIONS_PER_LANE: usize = 16;
/// What the service may send of one subscription before we have read it, as in Java. Enough for the 2 MB/s of a shard from
/// a quarter of a second away.
const WINDOW_BYTES: u32 = 512 << 10;
/// The same of all subscriptions of a connection: the sum, so that those that nobody reads leave room for the others.
const LANE_WINDOW_BYTES: u32 = WINDOW_BYTES * SUBSCRIPTIONS_PER_LANE as u32;

/// How a connection whose other end has vanished is found out.
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    /// A ping after so much silence,
    pub every: Duration,
    /// and the connection is dead without an answer within this.
    pub answer_within: Duration,
}

impl Default for Pings {
    /// Sooner than a subscription's silence is noticed, and for all on the connection at once; Java pings every minute.
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            answer_within: Duration::from_secs(10),
        }
    }
}

/// Clients with connections of their own, and how many subscriptions each carries.
pub(super) struct Lanes {
    connect: Box<dyn Fn() -> Client + Send + Sync>,
    lanes: Mutex<Vec<(Client, Arc<()>)>>,
}

/// A place on a connection, held for as long as the subscription lives.
pub(super) type Seat = Arc<()>;

impl Lanes {
    /// `connect` makes a client with connections of its own.
    pub(super) fn new(connect: impl Fn() -> Client + Send + Sync + 'static) -> Self {
        Self {
            connect: Box::new(connect),
            lanes: Mutex::default(),
        }
    }

    /// A place on the first connection that has one.
    pub(super) fn take(&self) -> (Client, Seat) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // The lane itself holds its seats once.
        let free = |(_, seats): &&(Client, Seat)| Arc::strong_count(seats) <= SUBSCRIPTIONS_PER_LANE;
        if let Some(lane) = lanes.iter().find(free) {
            return lane.clone();
        }
        let lane = ((self.connect)(), Seat::default());
        lanes.push(lane.clone());
        lane
    }
}

/// An HTTP client that is one lane.
pub(super) fn lane(transport: &Arc<Transport>, pings: Pings) -> SharedHttpClient {
    let mut builder = builder();
    builder
        // Not as ALPN finds it: requests that begin together would open a connection each.
        .http2_only(true)
        .http2_initial_stream_window_size(WINDOW_BYTES)
        .http2_initial_connection_window_size(LANE_WINDOW_BYTES)
        .http2_keep_alive_interval(pings.every)
        .http2_keep_alive_timeout(pings.answer_within);
    by_scheme(plain(), transport.client(Speaks::Http2, builder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        Lanes::new(|| {
            Client::from_conf(
                aws_sdk_kinesis::Config::builder()
                    .behavior_version(aws_sdk_kinesis::config::BehaviorVersion::latest())
                    .build(),
            )
        })
    }

    fn count(lanes: &Lanes) -> usize {
        lanes.lanes.lock().unwrap().len()
    }

    #[test]
    fn subscriptions_share_a_connection_up_to_a_bound() {
        let lanes = lanes();
        let first: Vec<_> = (0..SUBSCRIPTIONS_PER_LANE).map(|_| lanes.take()).collect();
        assert_eq!(count(&lanes), 1);
        let _second = lanes.take();
        assert_eq!(count(&lanes), 2);
        drop(first);
        let _third = lanes.take();
        assert_eq!(count(&lanes), 2, "a place that became free is taken again");
    }

    #[test]
    fn two_hundred_shards_need_thirteen_connections() {
        let lanes = lanes();
        let _seats: Vec<_> = (0..200).map(|_| lanes.take().1).collect();
        assert_eq!(count(&lanes), 13);
    }
}
