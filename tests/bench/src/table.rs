//! Between a daemon and its lease table: passes every call on, and counts calls and capacity units.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::request::Parts;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Calls that use none of a table's capacity.
const FREE: [&str; 7] = [
    "CreateTable",
    "DescribeTable",
    "UpdateTable",
    "DescribeContinuousBackups",
    "UpdateContinuousBackups",
    "TagResource",
    "ListTables",
];

#[derive(Default)]
struct Cost {
    calls: u64,
    units: f64,
}

/// Where the table is, and what it was asked so far.
pub(crate) struct Table {
    address: String,
    costs: RefCell<BTreeMap<String, Cost>>,
}

impl Table {
    pub(crate) fn at(url: &str) -> Self {
        Self {
            address: url.trim_start_matches("http://").trim_end_matches('/').to_owned(),
            costs: RefCell::default(),
        }
    }
}

/// One client's connection has one of its own to the table.
#[derive(Clone)]
pub(crate) struct Connection {
    table: Rc<Table>,
    upstream: Rc<Mutex<Option<SendRequest<Full<Bytes>>>>>,
}

impl Connection {
    pub(crate) fn new(table: Rc<Table>) -> Self {
        Self {
            table,
            upstream: Rc::default(),
        }
    }

    /// Calls and units by operation.
    pub(crate) fn counts(&self) -> Value {
        let costs = self.table.costs.borrow();
        costs
            .iter()
            .map(|(operation, cost)| {
                (
                    operation.clone(),
                    json!({"calls": cost.calls, "units": cost.units}),
                )
            })
            .collect()
    }

    pub(crate) async fn forward(&self, head: &Parts, body: Bytes) -> Result<Response<Full<Bytes>>, String> {
        let target = head
            .headers
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok())
            .unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = if FREE.contains(&operation.as_str()) {
            body
        } else {
            asking_for_units(&body)
        };
        let mut request = Request::post(Uri::from_static("/")).header("host", &self.table.address);
        for (name, value) in &head.headers {
            if name != "content-length" && name != "host" && name != "accept-encoding" {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let mut upstream = self.upstream.lock().await;
        let answer = match self.send(&mut upstream, request).await {
            Ok(answer) => answer,
            Err(error) => {
                *upstream = None;
                return Err(error);
            }
        };
        drop(upstream);
        self.table.note(operation, answer.body());
        Ok(answer.map(Full::new))
    }

    async fn send(
        &self,
        upstream: &mut Option<SendRequest<Full<Bytes>>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, String> {
        let sender = match upstream {
            Some(sender) if !sender.is_closed() => sender,
            Some(_) | None => {
                let socket = TcpStream::connect(&self.table.address)
                    .await
                    .map_err(|error| error.to_string())?;
                let _ = socket.set_nodelay(true);
                let (sender, connection) = handshake(TokioIo::new(socket))
                    .await
                    .map_err(|error| error.to_string())?;
                tokio::task::spawn_local(connection);
                upstream.insert(sender)
            }
        };
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

impl Table {
    fn note(&self, operation: String, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let units = |of: &Value| of["CapacityUnits"].as_f64().unwrap_or_default();
        let consumed = match &answer["ConsumedCapacity"] {
            Value::Array(tables) => tables.iter().map(units).sum(),
            one => units(one),
        };
        let mut costs = self.costs.borrow_mut();
        let cost = costs.entry(operation).or_default();
        cost.calls += 1;
        cost.units += consumed;
    }
}

fn asking_for_units(body: &Bytes) -> Bytes {
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut fields)) => {
            fields.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
            Value::Object(fields).to_string().into()
        }
        Ok(_) | Err(_) => body.clone(),
    }
}
