//! A small registry: it does what tests look at, as Confluent's API has it, and fails when it is told to.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use watermill_core::Backoff;
use watermill_schema_registry::{SchemaRegistryClient, SchemaRegistryConfig};
use watermill_testkit::patience;

/// It ends with its owner.
pub(crate) struct Server {
    address: SocketAddr,
    state: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    kept: Mutex<Kept>,
    heard: Notify,
    gate: Notify,
}

#[derive(Default)]
struct Kept {
    /// By number, from 1.
    schemas: Vec<Value>,
    /// The numbers of each subject's versions.
    subjects: HashMap<String, Vec<usize>>,
    /// Subjects that take nothing.
    full: Vec<String>,
    next: VecDeque<Answer>,
    asked: Vec<(String, HeaderMap)>,
}

/// What a request is answered with instead.
#[derive(Clone)]
pub(crate) enum Answer {
    Status(u16),
    /// With a time after which to ask again, in seconds.
    Busy(u16, &'static str),
    Text(String),
    /// None until the gate opens.
    AfterTheGate,
    Never,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Shared>::default();
        let router = Router::new().fallback(answer).with_state(state.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// Impatient, so that a test that waits does not wait long.
    pub(crate) fn config(&self) -> SchemaRegistryConfig {
        SchemaRegistryConfig::new(self.url()).backoff(Backoff::constant(Duration::from_millis(1)))
    }

    pub(crate) fn client(&self) -> SchemaRegistryClient {
        SchemaRegistryClient::new(self.config()).unwrap()
    }

    /// Answers the next requests so.
    pub(crate) fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.kept.lock().next.extend(answers);
    }

    /// Waits for a request.
    pub(crate) async fn is_asked(&self) {
        tokio::time::timeout(patience(), self.state.heard.notified()).await.expect("it is asked");
    }

    pub(crate) fn open_the_gate(&self) {
        self.state.gate.notify_one();
    }

    /// Takes no more schemas for a subject.
    pub(crate) fn fill(&self, subject: &str) {
        self.state.kept.lock().full.push(subject.to_owned());
    }

    /// Has schemas under this number.
    pub(crate) fn keep(&self, id: usize, schema: Value) {
        let schemas = &mut self.state.kept.lock().schemas;
        let length = schemas.len().max(id);
        schemas.resize(length, Value::Null);
        schemas[id - 1] = schema;
    }

    /// Method and path of each request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.kept.lock().asked.iter().map(|(request, _)| request.clone()).collect()
    }

    /// The headers of the last request.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.state.kept.lock().asked.last().map(|(_, headers)| headers.clone()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(State(state): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let uri = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let instead = {
        let mut kept = state.kept.lock();
        kept.asked.push((format!("{} {uri}", head.method), head.headers));
        // One permit is kept for who comes later.
        state.heard.notify_one();
        kept.next.pop_front()
    };
    match instead {
        None => {}
        Some(Answer::Status(status)) => return StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Busy(status, after)) => {
            return (StatusCode::from_u16(status).unwrap(), [(RETRY_AFTER, after)]).into_response();
        }
        Some(Answer::Text(text)) => return text.into_response(),
        Some(Answer::AfterTheGate) => state.gate.notified().await,
        Some(Answer::Never) => std::future::pending().await,
    }
    let path = head.uri.path().strip_prefix("/api/").unwrap_or_default();
    let segments: Vec<String> = path.split('/').map(decoded).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    state.kept.lock().serve(&head.method, &segments, &body)
}

impl Kept {
    fn serve(&mut self, method: &Method, path: &[&str], body: &Bytes) -> Response {
        match (method.as_str(), path) {
            ("POST", ["subjects", subject, "versions"]) => self.register(subject, body),
            ("POST", ["subjects", subject]) => self.look_up(subject, body),
            ("GET", ["subjects", subject, "versions"]) => match self.subjects.get(*subject) {
                Some(versions) => Json((1..=versions.len()).collect::<Vec<_>>()).into_response(),
                None => fault(404, 40401, "Subject not found."),
            },
            ("GET", ["subjects", subject, "versions", version]) => self.version(subject, version),
            ("GET", ["schemas", "ids", id]) => {
                let id: usize = id.parse().unwrap_or_default();
                match self.schemas.get(id.wrapping_sub(1)) {
                    Some(schema) if !schema.is_null() => Json(schema.clone()).into_response(),
                    _ => fault(404, 40403, "Schema not found"),
                }
            }
            ("POST", ["compatibility", "subjects", subject, "versions", "latest"]) => {
                match self.subjects.contains_key(*subject) {
                    true => {
                        let is_full = self.full.iter().any(|full| full == subject);
                        let messages = if is_full { vec!["it is full"] } else { vec![] };
                        Json(json!({ "is_compatible": !is_full, "messages": messages })).into_response()
                    }
                    false => fault(404, 40401, "Subject not found."),
                }
            }
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn register(&mut self, subject: &str, body: &Bytes) -> Response {
        let schema: Value = serde_json::from_slice(body).unwrap();
        if self.full.iter().any(|full| full == subject) {
            return fault(409, 409, "Schema being registered is incompatible:\nit is full");
        }
        if serde_json::from_str::<Value>(schema["schema"].as_str().unwrap()).is_err()
            && schema.get("schemaType").is_none()
        {
            return fault(422, 42201, "Invalid schema");
        }
        let at = self.schemas.iter().position(|known| *known == schema);
        let id = at.map_or_else(
            || {
                self.schemas.push(schema);
                self.schemas.len()
            },
            |at| at + 1,
        );
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&id) {
            versions.push(id);
        }
        Json(json!({ "id": id, "version": 1, "guid": "ignored" })).into_response()
    }

    fn look_up(&self, subject: &str, body: &Bytes) -> Response {
        let schema: Value = serde_json::from_slice(body).unwrap();
        let Some(versions) = self.subjects.get(subject) else {
            return fault(404, 40401, "Subject not found.");
        };
        match versions.iter().position(|id| self.schemas[id - 1] == schema) {
            Some(at) => self.version(subject, &(at + 1).to_string()),
            None => fault(404, 40403, "Schema not found"),
        }
    }

    fn version(&self, subject: &str, version: &str) -> Response {
        let Some(versions) = self.subjects.get(subject) else {
            return fault(404, 40401, "Subject not found.");
        };
        let at = if version == "latest" { versions.len() } else { version.parse().unwrap_or_default() };
        let Some(id) = at.checked_sub(1).and_then(|at| versions.get(at)) else {
            return fault(404, 40402, "Version not found.");
        };
        let mut found = self.schemas[id - 1].clone();
        found["id"] = json!(id);
        found["subject"] = json!(subject);
        found["version"] = json!(at);
        Json(found).into_response()
    }
}

fn fault(status: u16, code: u32, message: &str) -> Response {
    let body = json!({ "error_code": code, "message": message });
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

/// A segment without its percent-encoding.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        if let (b'%', [high, low, behind @ ..]) = (first, behind) {
            let digits = [*high, *low];
            bytes.push(u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap());
            rest = behind;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}
