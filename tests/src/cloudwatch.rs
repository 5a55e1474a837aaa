//! A CloudWatch that remembers what it was sent, and can be made to refuse or to keep silent.
//!
//! Knows of the bodies (Smithy RPC v2 CBOR) only that names stand in them as text; the
//! judge `tests/judges/metrics.py` reads them properly.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::http::{Request, listen};

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes it.
    Answering,
    /// Answers that there are too many.
    Throttling,
    /// Never answers.
    Silent,
}

/// A running CloudWatch. Its threads end with the process.
#[derive(Clone)]
pub struct CloudWatch {
    state: Arc<Mutex<State>>,
    /// `http://127.0.0.1:PORT`.
    pub endpoint: String,
}

struct State {
    mood: Mood,
    paths: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

impl CloudWatch {
    /// Listens on a free port.
    pub fn start(mood: Mood) -> Self {
        let state = Arc::new(Mutex::new(State {
            mood,
            paths: Vec::new(),
            bodies: Vec::new(),
        }));
        let shared = state.clone();
        let endpoint = listen(move |stream| serve(stream, &shared));
        Self { state, endpoint }
    }

    /// Changes its mood; who waits already goes on waiting.
    pub fn set(&self, mood: Mood) {
        self.state.lock().expect("no panic while locked").mood = mood;
    }

    /// How many requests have come.
    pub fn requests(&self) -> usize {
        self.state.lock().expect("no panic while locked").paths.len()
    }

    /// The paths of all requests.
    pub fn paths(&self) -> Vec<String> {
        self.state.lock().expect("no panic while locked").paths.clone()
    }

    /// Whether a text stands in any request that was taken.
    pub fn was_told(&self, text: &str) -> bool {
        let state = self.state.lock().expect("no panic while locked");
        let has = |body: &Vec<u8>| body.windows(text.len()).any(|part| part == text.as_bytes());
        state.bodies.iter().any(has)
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader) {
        let mood = {
            let mut state = state.lock().expect("no panic while locked");
            state.paths.push(request.path);
            if state.mood == Mood::Answering {
                state.bodies.push(request.body);
            }
            state.mood
        };
        let answer: &[u8] = match mood {
            Mood::Answering => b"HTTP/1.1 200 OK\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-length: 0\r\n\r\n",
            // {"__type": "Throttling"}
            Mood::Throttling => {
                b"HTTP/1.1 400 Bad Request\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-type: application/cbor\r\n\
                content-length: 19\r\n\r\n\xa1\x66__type\x6aThrottling"
            }
            Mood::Silent => {
                // Until the client gives up.
                let _ = reader.read(&mut [0]);
                return;
            }
        };
        let mut writer = stream;
        if writer.write_all(answer).is_err() {
            return;
        }
    }
}
