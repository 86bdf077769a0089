//! One request's way through the emulator: logged, met by a fault or not, carried out, answered.

use hyper::Response;
use thiserror::Error;

use super::answer::{self, Answer};
use super::clock::Clock;
use super::controls::Controls;
use super::faults::{Acting, Effect, RetryAfter};
use super::key_vault;
use super::request::{Request, Service};
use super::state::{State, random_uuid};
use super::wire::{self, Delivery, WireBody};

/// The connection is to be closed without an answer.
#[derive(Debug, Error)]
#[error("cut by a scripted fault")]
pub(super) struct Cut;

/// Takes a request to one of Azure's services through to its answer.
pub(super) async fn exchange(
    controls: &Controls,
    request: &Request,
) -> Result<Response<WireBody>, Cut> {
    let request_id = random_uuid();
    let (sequence, acting) = controls.with(|state| {
        let sequence = state.log.arrived(request, &request_id);
        (sequence, state.faults.next(request))
    });
    let passed = pass(controls, request, acting, sequence).await;
    let (answer, delivery) = match passed {
        Some(passed) => passed,
        None => return Err(Cut),
    };
    controls.with(|state| {
        if let Some(entry) = state.log.entry(sequence) {
            entry.status = Some(answer.status);
        }
    });
    let date = controls.with(|state| state.clock.system_time());
    let mut answer = dress(answer, request, &request_id);
    if !answer.headers.iter().any(|(name, _)| name == "date") {
        answer = answer.header("date", httpdate::fmt_http_date(date));
    }
    Ok(wire::response(answer, delivery))
}

/// What is answered, and how; `None` if nothing is.
async fn pass(
    controls: &Controls,
    request: &Request,
    acting: Option<Acting>,
    sequence: usize,
) -> Option<(Answer, Delivery)> {
    let carry_out = || controls.with(|state| carry_out(state, request, sequence));
    let Some(mut acting) = acting else {
        return Some((carry_out(), Delivery::Whole));
    };
    let carried_out_before = acting.fault.after.then(carry_out);
    acting.stall().await;
    let fault = acting.fault;
    let (mut answer, delivery) = match &fault.effect {
        Effect::Cut => return None,
        Effect::None | Effect::Hang | Effect::CutBody(_) | Effect::ContentLength(_) => {
            let answer = carried_out_before.unwrap_or_else(carry_out);
            let delivery = match fault.effect {
                Effect::CutBody(sent) => Delivery::CutAfter(sent),
                Effect::ContentLength(length) => Delivery::Declared(length),
                _ => Delivery::Whole,
            };
            (answer, delivery)
        }
        Effect::Error {
            status,
            code,
            inner,
            message,
        } => {
            let error = answer::error(request.service, *status, code, inner.as_deref(), message);
            let error = match (request.service, status) {
                (Service::KeyVault, 401) => error.header(
                    "www-authenticate",
                    controls.with(|state| key_vault::challenge_header(state)),
                ),
                _ => error,
            };
            (error, Delivery::Whole)
        }
        Effect::Html { status } => (
            Answer::with_body(*status, "text/html", HTML.into()),
            Delivery::Whole,
        ),
        Effect::Body { status, text } => (
            Answer::with_body(*status, "application/json", text.clone().into()),
            Delivery::Whole,
        ),
        Effect::HugeBody(length) => (
            Answer::with_body(200, "application/json", b"{\"value\":\"".to_vec()),
            Delivery::Followed(*length),
        ),
        Effect::Redirect(place) => (
            Answer::with_body(302, "text/plain", Vec::new()).header("location", place),
            Delivery::Whole,
        ),
    };
    if let Some(retry_after) = fault.retry_after {
        let (name, value) = controls.with(|state| retry_after_header(retry_after, &state.clock));
        answer = answer.header(name, value);
    }
    for (name, value) in fault.headers {
        answer = answer.header(&name, value);
    }
    Some((answer, delivery))
}

/// Carries the request out and notes what only that tells.
fn carry_out(state: &mut State, request: &Request, sequence: usize) -> Answer {
    let answer = state.carry_out(request);
    if let Some(entry) = state.log.entry(sequence) {
        entry.identity.clone_from(&answer.identity);
        entry.version.clone_from(&answer.version);
    }
    answer
}

/// Adds the headers that every answer has. Source: captures of the service in public issues.
fn dress(answer: Answer, request: &Request, request_id: &str) -> Answer {
    let mut answer = answer.header("x-ms-request-id", request_id);
    if let Some(id) = request.header("x-ms-client-request-id") {
        answer = answer.header("x-ms-client-request-id", id);
    }
    if request.service != Service::KeyVault {
        return answer;
    }
    answer
        .header("cache-control", "no-cache")
        .header("x-ms-keyvault-region", "loopback")
        .header("x-ms-keyvault-service-version", "1.9.0.0")
        .header(
            "x-ms-keyvault-network-info",
            "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;",
        )
}

fn retry_after_header(retry_after: RetryAfter, clock: &Clock) -> (&'static str, String) {
    match retry_after {
        RetryAfter::Seconds(seconds) => ("retry-after", seconds.to_string()),
        RetryAfter::DateIn(seconds) => {
            let then = clock.system_time() + std::time::Duration::from_secs(seconds);
            ("retry-after", httpdate::fmt_http_date(then))
        }
        RetryAfter::Milliseconds(milliseconds) => ("retry-after-ms", milliseconds.to_string()),
        RetryAfter::MsMilliseconds(milliseconds) => {
            ("x-ms-retry-after-ms", milliseconds.to_string())
        }
    }
}

const HTML: &str = "<!DOCTYPE html><html><head><title>Service unavailable</title></head>\
                    <body><h1>Our services aren't available right now</h1></body></html>";
