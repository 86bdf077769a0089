//! The words that the parsers of this room give, for [`crate::fuzzed`].

#![forbid(unsafe_code)]

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::bundle::{Bundle, body_to_set};
use super::problem::Problem;
use super::retry::{self, Attempts, Cause};
use super::token::{Granted, LIFETIME_MAX, Refusal, claims, key_path};
use super::{challenge as challenges, storage_keys};
use crate::secrets::{self, ENCODING_TAG, NewSecret, SecretName, SecretVersion};

/// The secret and the version that the seeds are about.
const NAME: &str = "crpsecret";
const VERSION: &str = "03bcccc7c8cf4546a0e3e21e52560441";

/// The resource of our tokens.
const RESOURCE: &str = "https://vault.azure.net";

/// What any identity service answers: the token of a whole answer alone, that can be sent, for a
/// bounded time; and words fit for a log line.
pub fn token_response(body: &[u8]) {
    let now = at(1_560_999_478);
    let clocks = [None, Some(now), Some(at(0))];
    let metadata = clocks.map(|clock| move |body: &[u8]| Granted::parse(body, clock, now).ok());
    for parse in metadata {
        check_token(body, parse);
    }
    check_token(body, |body| Granted::parse_az(body, now).ok());

    let refusal = Refusal::parse(body);
    assert_fit_for_a_log(refusal.label().as_deref());
    let claims = claims(&crate::secret_bytes::SecretBytes::new(body.to_vec()));
    for id in [
        claims.object_id,
        claims.client_id,
        claims.resource_id,
        claims.tenant_id,
    ] {
        let id = id.unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        assert!(id.len() <= 512 && id.bytes().all(plain));
    }
}

fn check_token(body: &[u8], parse: impl Fn(&[u8]) -> Option<Granted>) {
    if let Some(granted) = parse(body) {
        let token = granted.access_token.expose();
        let mut header = b"Bearer ".to_vec();
        header.extend_from_slice(token);
        assert!(!token.is_empty() && HeaderValue::from_bytes(&header).is_ok());
        assert!(granted.lifetime <= LIFETIME_MAX);
        assert!(parse(cut(body)).is_none());
    }
}

/// What a 401 asks for: nothing it says makes another resource ours, or a file a key of the
/// agent's.
pub fn challenge(text: &[u8]) {
    let Some(headers) = header(WWW_AUTHENTICATE, text) else {
        return;
    };
    let keys = Path::new("/var/opt/azcmagent/tokens");
    if let Some(path) = key_path(&headers, keys) {
        assert_eq!(path.parent(), Some(keys));
        assert_eq!(path.extension(), Some("key".as_ref()));
    }
    if let Some(claims) = challenges::claims(&headers) {
        assert!(claims.starts_with(|first: char| first == '{' || first.is_ascii_whitespace()));
        assert!(claims.len() <= text.len());
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let lower = text.to_ascii_lowercase();
    if challenges::names_another(&headers, RESOURCE) {
        assert!(lower.contains("resource") || lower.contains("scope"));
    }
    if text.is_ascii() {
        let first = format!("Bearer resource=\"https://vault.example\", {text}");
        let headers = header(WWW_AUTHENTICATE, first.as_bytes());
        assert!(headers.is_some_and(|headers| challenges::names_another(&headers, RESOURCE)));
    }
}

/// A secret's bundle: read whole or not at all, never another's, and what is set again comes back
/// as it was.
pub fn bundle(body: &[u8]) {
    let name = SecretName::parse(NAME).expect("a name");
    let version = SecretVersion::parse(VERSION).expect("a version");
    let Ok(read) = Bundle::parse(body, &name, None) else {
        return;
    };
    assert!(Bundle::parse(cut(body), &name, None).is_err());
    let other = SecretName::parse("another").expect("a name");
    assert!(Bundle::parse(body, &other, None).is_err());
    let asked = Bundle::parse(body, &name, Some(&version));
    assert_eq!(asked.is_ok(), read.properties.version == version);

    let encoding = read.encoding().map(str::to_owned);
    let decoded = read
        .stored
        .and_then(|value| secrets::decode(value, encoding.as_deref()));
    let Some(value) = decoded else {
        return;
    };
    let new = NewSecret {
        value,
        content_type: read.properties.content_type,
        tags: read.properties.tags,
        expires: read.properties.expires,
        previous: None,
    };
    let sent = body_to_set(&new, &secrets::encode(new.value.expose()));
    let mut json: serde_json::Value = serde_json::from_slice(&sent).expect("what is sent is JSON");
    json["id"] = format!("https://v/secrets/{NAME}/{VERSION}").into();
    let back = Bundle::parse(json.to_string().as_bytes(), &name, Some(&version));
    let back = back.expect("what was set is a bundle");
    let encoding = back.encoding().map(str::to_owned);
    let value = secrets::decode(back.stored.expect("a value"), encoding.as_deref());
    assert!(value.is_some_and(|value| value.expose() == new.value.expose()));
    let own = |tags: &std::collections::BTreeMap<String, String>| {
        let mut tags = tags.clone();
        tags.remove(ENCODING_TAG);
        tags
    };
    assert_eq!(own(&back.properties.tags), own(&new.tags));
    assert_eq!(back.properties.content_type, new.content_type);
    assert_eq!(back.properties.expires, new.expires);
}

/// An error's body: whatever it says, a status has a meaning, and the codes that are quoted are fit
/// for a log line.
pub fn problem(body: &[u8]) {
    let problem = Problem::parse(body);
    assert_fit_for_a_log(problem.label().as_deref());
    for status in (0..1000).step_by(7).chain([401, 403, 404, 409, 429]) {
        let said = problem.failure(status);
        if problem == Problem::default() {
            assert_eq!(said, Problem::default().failure(status));
        }
    }
}

/// How long a service asks to wait, in lines `retry-after`, `retry-after-ms`, `date`: no wish makes
/// a call wait past its deadline.
pub fn retry_after(lines: &[u8]) {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    let milliseconds = HeaderName::from_static("retry-after-ms");
    for name in [RETRY_AFTER, milliseconds, DATE] {
        let value = HeaderValue::from_bytes(lines.next().unwrap_or_default());
        headers.extend(
            value
                .ok()
                .filter(|value| !value.is_empty())
                .map(|value| (name, value)),
        );
    }
    let wish = retry::retry_after(&headers, at(1_560_999_478));
    if headers.is_empty() {
        assert_eq!(wish, None);
    }
    for left in [0, 1, 200, 10_000].map(Duration::from_millis) {
        for cause in [Cause::Answered, Cause::ConnectionLost, Cause::Unanswered] {
            let wait = Attempts::default().next(cause, wish, left, 1.0);
            assert!(wait.is_none_or(|wait| wait < left && wait >= wish.unwrap_or_default()));
        }
    }
}

/// What `listKeys` answers: both keys of a whole answer or none, and neither can add a word to the
/// connection string.
pub fn list_keys(body: &[u8]) {
    let parse = |body: &[u8]| storage_keys::parse(body, "acct01", "core.windows.net");
    if let Some(keys) = parse(body) {
        assert!(!keys.key1.is_empty() && !keys.key2.is_empty());
        let words = keys.connection_string.expose().split(|byte| *byte == b';');
        assert_eq!(words.count(), 4);
        assert!(parse(cut(body)).is_none());
    }
}

/// JSON without its last character that is not white space.
fn cut(body: &[u8]) -> &[u8] {
    let body = body.trim_ascii_end();
    &body[..body.len().saturating_sub(1)]
}

fn assert_fit_for_a_log(quoted: Option<&str>) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte);
    assert!(quoted.is_none_or(|text| (1..=129).contains(&text.len()) && text.bytes().all(plain)));
}

fn header(name: HeaderName, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(name, value)]))
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}
