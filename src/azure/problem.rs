//! What a service's refusal means: the error envelope and the status, read as a [`Failure`].
//!
//! Pure functions over bytes. The service's message is read for one thing, the `AKV` number of a
//! refused token, and never kept: it may name people and addresses.

#![forbid(unsafe_code)]

use reqwest::header::HeaderMap;
use serde::Deserialize;

use crate::secrets::Failure;

/// The longest code or request id that is quoted.
const QUOTED_MAX: usize = 64;

/// The codes of an error envelope; all empty for a body that is none, such as a proxy's HTML.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// `error.code`.
    pub code: Option<String>,
    /// `error.innererror.code`, or the `AKV` number in front of the message.
    pub inner: Option<String>,
}

impl Problem {
    /// Reads `{"error":{"code","message","innererror":{"code"}}}`, any part of which may be absent.
    pub(super) fn parse(body: &[u8]) -> Self {
        let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
        let error = envelope.error.unwrap_or_default();
        let inner = error.innererror.and_then(|inner| inner.code);
        let inner = inner.or_else(|| akv_number(&error.message.unwrap_or_default()));
        Self {
            code: error.code.filter(|code| is_quotable(code)),
            inner: inner.filter(|code| is_quotable(code)),
        }
    }

    /// What an answer of this status means: the inner code says it best, then the code, then the
    /// status. Every row of the protocol's error table has its place here.
    pub(super) fn failure(&self, status: u16) -> Failure {
        let codes = [&self.inner, &self.code].into_iter().flatten();
        codes
            .filter_map(|code| failure_by_code(code))
            .next()
            .unwrap_or_else(|| failure_by_status(status))
    }

    /// Both codes, `Forbidden/ForbiddenByFirewall`, as far as they are there.
    pub(super) fn label(&self) -> Option<String> {
        match (&self.code, &self.inner) {
            (Some(code), Some(inner)) => Some(format!("{code}/{inner}")),
            (code, inner) => code.clone().or_else(|| inner.clone()),
        }
    }

    /// Whether the inner code, or else the code, is `code`.
    pub(super) fn is(&self, code: &str) -> bool {
        self.inner.as_deref().or(self.code.as_deref()) == Some(code)
    }
}

/// The service's id of a request, if it is fit to be quoted.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("x-ms-request-id")?.to_str().ok()?;
    is_quotable(text).then(|| text.to_owned())
}

fn failure_by_code(code: &str) -> Option<Failure> {
    Some(match code {
        "SecretNotFound" => Failure::NotFound,
        "SecretDisabled" => Failure::Disabled,
        "SecretManagedByKeyVault" => Failure::Managed,
        "SecretTooLarge" => Failure::TooLarge,
        "AccessDenied" => Failure::Forbidden,
        "ObjectIsDeletedButRecoverable" => Failure::DeletedButRecoverable,
        "ObjectIsBeingDeleted" | "ObjectIsBeingRecovered" => Failure::Busy,
        "ScopeLocked" => Failure::ScopeLocked,
        "Throttled" => Failure::Throttled,
        "AKV10046" => Failure::SigningKeyUnresolved,
        _ if code.starts_with("ForbiddenBy") => Failure::Forbidden,
        _ => return None,
    })
}

fn failure_by_status(status: u16) -> Failure {
    match status {
        300..=399 => Failure::Redirected,
        401 => Failure::Unauthorized,
        403 => Failure::Forbidden,
        404 => Failure::NotFound,
        409 => Failure::Busy,
        413 => Failure::TooLarge,
        429 => Failure::Throttled,
        200..=299 => Failure::Malformed,
        _ => Failure::ServerError,
    }
}

/// The number in front of `AKV10046: Unable to resolve the key used for signature validation.`
fn akv_number(message: &str) -> Option<String> {
    let digits = message.strip_prefix("AKV")?.as_bytes();
    let length = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    (length == 5).then(|| message[..3 + length].to_owned())
}

fn is_quotable(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=QUOTED_MAX).contains(&text.len()) && text.bytes().all(plain)
}

#[derive(Default, Deserialize)]
struct Envelope {
    error: Option<WireError>,
}

#[derive(Default, Deserialize)]
struct WireError {
    code: Option<String>,
    message: Option<String>,
    innererror: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    code: Option<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(code: &str, message: &str, inner: &str) -> String {
        format!(
            r#"{{"error":{{"code":"{code}","message":"{message}","innererror":{{"code":"{inner}"}}}}}}"#
        )
    }

    #[test]
    fn each_documented_refusal_is_read_by_its_innermost_code() {
        for (status, code, inner, failure) in [
            (404, "SecretNotFound", "", Failure::NotFound),
            (403, "Forbidden", "SecretDisabled", Failure::Disabled),
            (403, "Forbidden", "AccessDenied", Failure::Forbidden),
            (403, "Forbidden", "ForbiddenByRbac", Failure::Forbidden),
            (403, "Forbidden", "ForbiddenByPolicy", Failure::Forbidden),
            (403, "Forbidden", "ForbiddenByFirewall", Failure::Forbidden),
            (
                403,
                "Forbidden",
                "ForbiddenByConnection",
                Failure::Forbidden,
            ),
            (
                403,
                "Forbidden",
                "SecretManagedByKeyVault",
                Failure::Managed,
            ),
            (
                409,
                "Conflict",
                "ObjectIsDeletedButRecoverable",
                Failure::DeletedButRecoverable,
            ),
            (409, "Conflict", "ObjectIsBeingDeleted", Failure::Busy),
            (409, "Conflict", "ObjectIsBeingRecovered", Failure::Busy),
            (409, "ScopeLocked", "", Failure::ScopeLocked),
            (429, "Throttled", "", Failure::Throttled),
            (400, "BadParameter", "SecretTooLarge", Failure::TooLarge),
            (400, "BadParameter", "", Failure::ServerError),
            (401, "Unauthorized", "", Failure::Unauthorized),
        ] {
            let problem = Problem::parse(body(code, "words", inner).as_bytes());
            assert_eq!(problem.failure(status), failure, "{status} {code}/{inner}");
        }
    }

    #[test]
    fn a_token_whose_key_the_vault_lost_is_told_from_a_bad_one() {
        let message = "AKV10046: Unable to resolve the key used for signature validation.";
        let text = format!(r#"{{"error":{{"code":"Unauthorized","message":"{message}"}}}}"#);
        let problem = Problem::parse(text.as_bytes());
        assert_eq!(problem.failure(401), Failure::SigningKeyUnresolved);
        assert_eq!(problem.label().as_deref(), Some("Unauthorized/AKV10046"));
        let text = text.replace("AKV10046", "AKV10032");
        let problem = Problem::parse(text.as_bytes());
        assert_eq!(problem.failure(401), Failure::Unauthorized);
        assert!(problem.is("AKV10032"));
    }

    #[test]
    fn what_has_no_envelope_is_read_by_its_status() {
        for (status, failure) in [
            (302, Failure::Redirected),
            (401, Failure::Unauthorized),
            (403, Failure::Forbidden),
            (404, Failure::NotFound),
            (408, Failure::ServerError),
            (409, Failure::Busy),
            (418, Failure::ServerError),
            (429, Failure::Throttled),
            (500, Failure::ServerError),
            (503, Failure::ServerError),
            (204, Failure::Malformed),
        ] {
            for text in ["", "<html>Not here</html>", "{}", r#"{"error":null}"#, "[]"] {
                let problem = Problem::parse(text.as_bytes());
                assert_eq!(problem, Problem::default(), "{text}");
                assert_eq!(problem.failure(status), failure, "{status} {text}");
            }
        }
    }

    #[test]
    fn a_code_that_is_no_code_is_not_quoted() {
        for odd in ["line\\nbreak", "sp ace", "\\u001b[31m", &"x".repeat(65)] {
            let problem = Problem::parse(body(odd, "", odd).as_bytes());
            assert_eq!(problem.label(), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), status in any::<u16>()
        ) {
            let problem = Problem::parse(&bytes);
            let _ = (problem.failure(status), problem.label());
        }

        #[test]
        fn no_message_makes_the_parser_panic(message in "(AKV)?\\PC{0,12}") {
            let text = serde_json::json!({"error": {"message": message}}).to_string();
            let _ = Problem::parse(text.as_bytes());
        }
    }
}
