//! How an answer goes over the wire: whole, or broken in the ways a fault asks for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::answer::Answer;

/// How much a chunk of an endless body holds.
const CHUNK: u64 = 64 * 1024;

/// How much of a body is sent, and what is said about its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// All of it.
    Whole,
    /// So many bytes, then the connection is closed.
    CutAfter(usize),
    /// All of it under another `Content-Length`.
    Declared(u64),
    /// All of it, then so many bytes more, in chunks.
    Followed(u64),
}

/// The answer as hyper sends it.
pub(super) fn response(answer: Answer, delivery: Delivery) -> Response<WireBody> {
    let length = match delivery {
        Delivery::Whole | Delivery::CutAfter(_) => Some(answer.body.len() as u64),
        Delivery::Declared(length) => Some(length),
        Delivery::Followed(_) => None,
    };
    let mut response = Response::new(WireBody::new(answer.body.into(), delivery));
    // Statuses come from scripts: what is none becomes a plain 500.
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(&value);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    response
}

/// A body that may end too early or too late.
#[derive(Debug)]
pub(super) struct WireBody {
    unsent: Bytes,
    /// How many filler bytes follow.
    filler: u64,
    /// Whether the connection is to be closed at the end.
    cut: bool,
    /// Whether hyper had a turn to flush what was sent before the cut.
    flushed: bool,
}

impl WireBody {
    fn new(body: Bytes, delivery: Delivery) -> Self {
        let (unsent, filler, cut) = match delivery {
            Delivery::Whole | Delivery::Declared(_) => (body, 0, false),
            Delivery::CutAfter(sent) => (body.slice(..sent.min(body.len())), 0, true),
            Delivery::Followed(filler) => (body, filler, false),
        };
        Self {
            unsent,
            filler,
            cut,
            flushed: false,
        }
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if !self.unsent.is_empty() {
            let unsent = std::mem::take(&mut self.unsent);
            return Poll::Ready(Some(Ok(Frame::data(unsent))));
        }
        if self.filler > 0 {
            let chunk = self.filler.min(CHUNK);
            self.filler -= chunk;
            let filler = vec![b'x'; usize::try_from(chunk).unwrap_or_default()];
            return Poll::Ready(Some(Ok(Frame::data(filler.into()))));
        }
        if !self.cut {
            return Poll::Ready(None);
        }
        if !self.flushed {
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::Error::other("cut by a scripted fault"))))
    }

    fn is_end_stream(&self) -> bool {
        self.unsent.is_empty() && self.filler == 0 && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        // The header says what shall be believed.
        SizeHint::default()
    }
}
