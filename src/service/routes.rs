//! The addresses, and what each of them takes. Whatever cannot be understood is refused before the database is asked.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::csrf::CsrfLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use super::problem::{self, Problem};
use super::view::{self, Execution, FlowLog, Status, TransactionLog};
use super::{ApiState, gauges, page};
use crate::runs::{
    AgentConfig, BenchmarkId, PerformanceFilter, SessionFilter, SessionId, SessionLog, SessionStatus, Store,
};

/// No body is longer, in bytes.
const LONGEST_BODY: usize = 64 * 1024;
/// No address is longer, in bytes.
const LONGEST_ADDRESS: usize = 2048;
/// No answer takes longer; the pool and the lane give up long before.
const LONGEST: Duration = Duration::from_secs(30);

/// Under which names the service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// `localhost`, `127.0.0.1` and `[::1]`: a page of another site cannot make a name of its own mean this machine, and then
    /// ask as if it were ours (DNS rebinding).
    Local,
    /// Any: others reach it, or a proxy does.
    Any,
}

/// Everything that the service answers.
pub fn router<S: Store>(state: ApiState<S>, hosts: Hosts) -> Router {
    let api = Router::new()
        .route("/agent-performance", get(agent_performance))
        .route("/flow-logs/{benchmark_id}", get(flow_log))
        .route("/transaction-logs/{benchmark_id}", get(transaction_log))
        .route("/ascii-tree/{benchmark_id}/{agent_type}", get(ascii_tree))
        .route("/benchmarks", get(benchmarks))
        .route("/benchmarks/{benchmark_id}/run", post(run))
        .route("/benchmarks/{benchmark_id}/status/{execution_id}", get(status))
        .route("/sessions", get(sessions))
        .route("/agents/config", get(agent_configs).put(put_agent_config));
    let header = |name: HeaderName, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    Router::new()
        .nest("/api/v1", api)
        .route("/", get(page::index))
        .route("/page.js", get(page::script))
        .route("/page.css", get(page::style))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(nothing_here)
        // As one layer: each of a router's own is boxed, and cloned for each request. The first is the outermost.
        .layer((
            TraceLayer::new_for_http(),
            header(header::CACHE_CONTROL, "no-store"),
            header(header::CONTENT_SECURITY_POLICY, "default-src 'self'; img-src data:; frame-ancestors 'none'"),
            header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            CompressionLayer::new(),
            middleware::from_fn_with_state(state.clone(), gauges::count::<S>),
            middleware::from_fn(refusals),
            CatchPanicLayer::new(),
            TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, LONGEST),
            middleware::from_fn(move |request: Request, next: Next| for_us(hosts, request, next)),
            CsrfLayer::new(),
            middleware::from_fn(not_too_long),
            DefaultBodyLimit::max(LONGEST_BODY),
        ))
        .with_state(state)
}

async fn refusals(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    problem::every_refusal(method, next.run(request).await).await
}

async fn not_too_long(request: Request, next: Next) -> Response {
    if request.uri().to_string().len() > LONGEST_ADDRESS {
        let detail = format!("the address is longer than {LONGEST_ADDRESS} bytes");
        return Problem::new(StatusCode::URI_TOO_LONG, detail).into_response();
    }
    next.run(request).await
}

async fn for_us(hosts: Hosts, request: Request, next: Next) -> Response {
    let said = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let named = request.uri().authority().cloned().or_else(|| said?.parse::<Authority>().ok());
    let is_local = named.is_some_and(|named| matches!(named.host(), "localhost" | "127.0.0.1" | "[::1]"));
    match hosts {
        Hosts::Local if !is_local => {
            Problem::new(StatusCode::MISDIRECTED_REQUEST, "this service is asked as localhost only").into_response()
        }
        _ => next.run(request).await,
    }
}

async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is nothing at this address")
}

/// A path or a query that was understood.
struct Understood<E>(E);

impl<S, E> FromRequestParts<S> for Understood<E>
where
    S: Send + Sync,
    E: FromRequestParts<S, Rejection: IntoResponse + std::fmt::Display>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let understood = E::from_request_parts(parts, state).await;
        understood.map(Self).map_err(|why| Problem::bad(why.to_string()))
    }
}

/// A body as JSON.
fn from_json<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|why| match why.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {LONGEST_BODY} bytes"))
        }
        status => Problem::new(status, why.to_string()),
    })?;
    serde_json::from_slice(&body).map_err(|error| Problem::bad(format!("the body: {error}")))
}

/// A list's length.
fn limit(asked: Option<u32>) -> Result<Option<u32>, Problem> {
    match asked {
        Some(0 | 1001..) => Err(Problem::bad("limit: choose 1 to 1000")),
        fine => Ok(fine),
    }
}

/// # Errors
/// What is wrong with an agent's name.
fn agent_name(name: &str) -> Result<(), Problem> {
    AgentConfig::of(name).validate().map_err(Problem::bad)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PerformanceQuery {
    benchmark: Option<BenchmarkId>,
    agent: Option<String>,
    since_ms: Option<i64>,
    limit: Option<u32>,
}

async fn agent_performance<S: Store>(
    State(state): State<ApiState<S>>,
    Understood(Query(query)): Understood<Query<PerformanceQuery>>,
) -> Result<Response, Problem> {
    let PerformanceQuery { benchmark, agent, since_ms, limit: most } = query;
    let filter = PerformanceFilter { benchmark, agent, since_ms, limit: limit(most)? };
    let report = state.db().performance_report(filter).await?;
    Ok(Json(&*report).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogQuery {
    agent: Option<String>,
    execution: Option<SessionId>,
}

/// The log that was asked for.
enum Asked {
    /// Of one execution.
    Of(Arc<SessionLog>),
    /// Of the latest, if there was any.
    Latest(Arc<Option<SessionLog>>),
}

impl Asked {
    fn log(&self) -> Option<&SessionLog> {
        match self {
            Asked::Of(log) => Some(log),
            Asked::Latest(log) => Option::as_ref(log),
        }
    }
}

/// The log of an execution of this benchmark.
async fn log_of<S: Store>(
    state: &ApiState<S>,
    benchmark: &BenchmarkId,
    id: SessionId,
    agent: Option<&str>,
) -> Result<Arc<SessionLog>, Problem> {
    let log = state.db().session_log(id.clone()).await?;
    let is_meant = log.session.benchmark_id == *benchmark && agent.is_none_or(|agent| agent == log.session.agent);
    if is_meant { Ok(log) } else { Err(crate::runs::Error::NoSession(id).into()) }
}

/// The log of this execution, or else of the latest, by this agent if one is named.
async fn asked_for<S: Store>(state: &ApiState<S>, benchmark: &BenchmarkId, query: LogQuery) -> Result<Asked, Problem> {
    let LogQuery { agent, execution } = query;
    match execution {
        Some(id) => log_of(state, benchmark, id, agent.as_deref()).await.map(Asked::Of),
        None => Ok(Asked::Latest(state.db().latest_log(benchmark.clone(), agent).await?)),
    }
}

async fn flow_log<S: Store>(
    State(state): State<ApiState<S>>,
    Understood(Path(benchmark)): Understood<Path<BenchmarkId>>,
    Understood(Query(query)): Understood<Query<LogQuery>>,
) -> Result<Response, Problem> {
    let asked = asked_for(&state, &benchmark, query).await?;
    Ok(Json(FlowLog::of(&benchmark, asked.log())).into_response())
}

async fn transaction_log<S: Store>(
    State(state): State<ApiState<S>>,
    Understood(Path(benchmark)): Understood<Path<BenchmarkId>>,
    Understood(Query(query)): Understood<Query<LogQuery>>,
) -> Result<Response, Problem> {
    let asked = asked_for(&state, &benchmark, query).await?;
    Ok(Json(TransactionLog::of(&benchmark, asked.log())).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TreeQuery {
    execution: Option<SessionId>,
}

async fn ascii_tree<S: Store>(
    State(state): State<ApiState<S>>,
    Understood(Path((benchmark, agent))): Understood<Path<(BenchmarkId, String)>>,
    Understood(Query(query)): Understood<Query<TreeQuery>>,
) -> Result<String, Problem> {
    agent_name(&agent)?;
    let query = LogQuery { agent: Some(agent.clone()), execution: query.execution };
    let asked = asked_for(&state, &benchmark, query).await?;
    Ok(view::ascii_tree(&benchmark, &agent, asked.log()))
}

async fn benchmarks<S: Store>(State(state): State<ApiState<S>>) -> Result<impl IntoResponse, Problem> {
    let all = state.db().benchmarks().await?;
    let shown = all
        .into_iter()
        .map(|benchmark| json!({ "id": benchmark.id, "name": benchmark.name, "prompt": benchmark.prompt }));
    Ok(Json(shown.collect::<Vec<_>>()))
}

/// What may be said of a run. Without a body: agent "default", a seed of the service's choice.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunOrder {
    agent: Option<String>,
    seed: Option<u64>,
    resume: Option<SessionId>,
}

async fn run<S: Store>(
    State(state): State<ApiState<S>>,
    Understood(Path(benchmark)): Understood<Path<BenchmarkId>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<impl IntoResponse, Problem> {
    let order = match &body {
        Ok(body) if body.is_empty() => RunOrder::default(),
        _ => from_json(body)?,
    };
    let id = match order {
        RunOrder { resume: Some(id), agent: None, seed: None } => {
            state.executions().resume(benchmark.clone(), id).await?
        }
        RunOrder { resume: Some(_), .. } => {
            return Err(Problem::bad("resume: the session keeps its agent and seed; leave them out"));
        }
        RunOrder { agent, seed, resume: None } => {
            let agent = agent.unwrap_or_else(|| "default".to_owned());
            agent_name(&agent)?;
            state.executions().run(benchmark.clone(), agent, seed).await?
        }
    };
    let status = format!("/api/v1/benchmarks/{benchmark}/status/{id}");
    let said = json!({ "execution_id": id, "benchmark_id": benchmark, "status_url": status });
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, status)], Json(said)))
}

async fn status<S: Store>(
    State(state): State<ApiState<S>>,
    Understood(Path((benchmark, id))): Understood<Path<(BenchmarkId, SessionId)>>,
) -> Result<Response, Problem> {
    let log = log_of(&state, &benchmark, id, None).await?;
    Ok(Json(Status::from(&*log)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionQuery {
    benchmark: Option<BenchmarkId>,
    agent: Option<String>,
    status: Option<SessionStatus>,
    limit: Option<u32>,
}

async fn sessions<S: Store>(
    State(state): State<ApiState<S>>,
    Understood(Query(query)): Understood<Query<SessionQuery>>,
) -> Result<Response, Problem> {
    let SessionQuery { benchmark, agent, status, limit: most } = query;
    let filter = SessionFilter { benchmark, agent, status, limit: limit(most)? };
    let sessions = state.db().list_sessions(&filter).await?;
    Ok(Json(sessions.iter().map(Execution::from).collect::<Vec<_>>()).into_response())
}

async fn agent_configs<S: Store>(State(state): State<ApiState<S>>) -> Result<Json<Vec<AgentConfig>>, Problem> {
    Ok(Json(state.db().agent_configs().await?))
}

async fn put_agent_config<S: Store>(
    State(state): State<ApiState<S>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<AgentConfig>, Problem> {
    let config: AgentConfig = from_json(body)?;
    config.validate().map_err(Problem::bad)?;
    state.db().put_agent_config(&config).await?;
    Ok(Json(config))
}

/// The pool and the lane at this moment. It asks nobody, so it answers whatever they do.
async fn health<S: Store>(State(state): State<ApiState<S>>) -> impl IntoResponse {
    let status = state.db().db().status();
    let warning = status.warning();
    let (code, word) = match (status.pool.closed, &warning) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "closed"),
        (false, Some(_)) => (StatusCode::OK, "warning"),
        (false, None) => (StatusCode::OK, "ok"),
    };
    let pool = json!({
        "max": status.pool.max, "open": status.pool.open, "idle": status.pool.idle, "in_use": status.pool.in_use,
        "waiting": status.pool.waiting,
    });
    let lane = json!({
        "queued": status.queued, "committed": status.committed, "rolled_back": status.rolled_back,
        "unknown": status.unknown, "commits": status.commits, "largest_batch": status.largest_batch,
        "wal_pages": status.wal.pages,
    });
    let running = state.executions().running();
    (code, Json(json!({ "status": word, "warning": warning, "running": running, "pool": pool, "lane": lane })))
}

async fn metrics<S: Store>(State(state): State<ApiState<S>>) -> Result<impl IntoResponse, Problem> {
    let text = state.gauges().text().map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no metrics"))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
