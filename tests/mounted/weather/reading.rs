//! What can go wrong with a read.

use std::time::Duration;

use keyvaultfs::emulator::{Certificate, Effect, Fault, RetryAfter, Service};
use nix::errno::Errno;

use super::row::Row;

/// As many requests as a vault that answers "not now" gets until the time is up.
const PERSISTENT: std::ops::RangeInclusive<usize> = 3..=5;

pub(super) fn rows() -> Vec<Row> {
    [
        throttling(),
        failures(),
        refusals(),
        garbage(),
        network(),
        tls(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn throttling() -> Vec<Row> {
    let once = |wish| Fault::throttled().first(1).retry_after(wish);
    vec![
        Row::read("429 twice")
            .fault(Fault::throttled().first(2))
            .requests(3..=3),
        Row::read("429 once, `Retry-After` in seconds")
            .fault(once(RetryAfter::Seconds(1)))
            .requests(2..=2),
        Row::read("429 once, `Retry-After` as a date")
            .fault(once(RetryAfter::DateIn(1)))
            .requests(2..=2),
        Row::read("429 once, `retry-after-ms`")
            .fault(once(RetryAfter::Milliseconds(300)))
            .requests(2..=2),
        Row::read("429 once, `x-ms-retry-after-ms`")
            .fault(once(RetryAfter::MsMilliseconds(300)))
            .requests(2..=2),
        Row::read("429 every time")
            .fault(Fault::throttled())
            .fails(Errno::EAGAIN)
            .requests(PERSISTENT),
        Row::read("429, `Retry-After` past the deadline")
            .fault(Fault::throttled().retry_after(RetryAfter::Seconds(600)))
            .fails(Errno::EAGAIN),
    ]
}

fn failures() -> Vec<Row> {
    let twice = |status| Fault::error(status, "Scripted", None).first(2);
    let always = |status| Fault::error(status, "Scripted", None);
    vec![
        Row::read("408 twice").fault(twice(408)).requests(3..=3),
        Row::read("500 twice").fault(twice(500)).requests(3..=3),
        Row::read("502 twice").fault(twice(502)).requests(3..=3),
        Row::read("503 twice").fault(twice(503)).requests(3..=3),
        Row::read("504 twice").fault(twice(504)).requests(3..=3),
        Row::read("408 every time")
            .fault(always(408))
            .fails(Errno::EIO)
            .requests(PERSISTENT),
        Row::read("500 every time")
            .fault(always(500))
            .fails(Errno::EIO)
            .requests(PERSISTENT),
        Row::read("503 in HTML every time")
            .fault(Fault::new(Effect::Html { status: 503 }))
            .fails(Errno::EIO)
            .requests(PERSISTENT),
        Row::read("501").fault(always(501)).fails(Errno::EIO),
        Row::read("400").fault(always(400)).fails(Errno::EIO),
    ]
}

fn refusals() -> Vec<Row> {
    let forbidden = |inner| Fault::error(403, "Forbidden", Some(inner));
    let unauthorized = || Fault::error(401, "Unauthorized", None);
    let mut challenge = unauthorized();
    let other = "Bearer resource=\"https://graph.microsoft.com\"".to_owned();
    challenge
        .headers
        .insert("www-authenticate".to_owned(), other);
    vec![
        Row::read("404")
            .fault(Fault::error(404, "SecretNotFound", None))
            .fails(Errno::ENOENT),
        Row::read("404 in HTML")
            .fault(Fault::new(Effect::Html { status: 404 }))
            .fails(Errno::ENOENT),
        Row::read("403 `AccessDenied`")
            .fault(forbidden("AccessDenied"))
            .fails(Errno::EACCES),
        Row::read("403 `ForbiddenByRbac`")
            .fault(forbidden("ForbiddenByRbac"))
            .fails(Errno::EACCES),
        Row::read("403 `ForbiddenByPolicy`")
            .fault(forbidden("ForbiddenByPolicy"))
            .fails(Errno::EACCES),
        Row::read("403 `ForbiddenByFirewall`")
            .fault(forbidden("ForbiddenByFirewall"))
            .fails(Errno::EACCES),
        Row::read("403 `ForbiddenByConnection`")
            .fault(forbidden("ForbiddenByConnection"))
            .fails(Errno::EACCES),
        Row::read("403 `SecretDisabled`")
            .fault(forbidden("SecretDisabled"))
            .fails(Errno::EPERM),
        Row::read("the token is revoked")
            .script(|mount| mount.emulator.revoke_tokens())
            .requests(2..=2)
            .tokens(1..=1),
        Row::read("401 once more with a fresh token")
            .fault(unauthorized())
            .fails(Errno::EACCES)
            .requests(2..=2)
            .tokens(1..=1),
        Row::read("401, claims demanded that a managed identity cannot ask for")
            .script(|mount| mount.emulator.demand_claims("{}"))
            .fails(Errno::EACCES)
            .requests(2..=2)
            .tokens(1..=1),
        Row::read("401 `AKV10046` twice")
            .fault(Fault::signing_key_unresolved().first(2))
            .requests(3..=3),
        Row::read("401 `AKV10046` every time")
            .fault(Fault::signing_key_unresolved())
            .fails(Errno::EAGAIN)
            .requests(PERSISTENT),
        Row::read("401, a challenge for another resource")
            .fault(challenge)
            .fails(Errno::EPROTO),
        Row::read("a redirect")
            .fault(Fault::new(Effect::Redirect(
                "https://elsewhere.invalid/".to_owned(),
            )))
            .fails(Errno::EPROTO),
    ]
}

fn garbage() -> Vec<Row> {
    let body = |status, text: &str| {
        Fault::new(Effect::Body {
            status,
            text: text.to_owned(),
        })
    };
    let another = format!(
        r#"{{"value":"wrong","id":"https://localhost/secrets/b/{}"}}"#,
        "0".repeat(32)
    );
    let mut gzip = body(200, &"\u{1f}\u{8b}".repeat(500));
    gzip.headers
        .insert("content-encoding".to_owned(), "gzip".to_owned());
    let unreadable = |weather, fault: Fault| {
        Row::read(weather)
            .fault(fault)
            .fails(Errno::EIO)
            .requests(3..=3)
    };
    vec![
        Row::read("HTML for JSON once")
            .fault(Fault::new(Effect::Html { status: 200 }).first(1))
            .requests(2..=2),
        unreadable(
            "HTML for JSON every time",
            Fault::new(Effect::Html { status: 200 }),
        ),
        unreadable("an empty body", body(200, "")),
        unreadable(
            "JSON cut short by a wrong `Content-Length`",
            Fault::new(Effect::ContentLength(30)),
        ),
        unreadable("JSON without a value", body(200, "{}")),
        unreadable("another secret's answer", body(200, &another)),
        unreadable("a body of 100 MB", Fault::new(Effect::HugeBody(100 << 20))),
        unreadable("a compressed body that was not asked for", gzip),
        Row::read("the body cut short once")
            .fault(Fault::new(Effect::CutBody(30)).first(1))
            .requests(2..=2),
        unreadable(
            "the body cut short every time",
            Fault::new(Effect::CutBody(30)),
        ),
        unreadable(
            "less than `Content-Length` says",
            Fault::new(Effect::ContentLength(5000)),
        ),
        Row::read("204").fault(body(204, "")).fails(Errno::EIO),
    ]
}

fn network() -> Vec<Row> {
    vec![
        Row::read("the connection is cut before the answer, once")
            .fault(Fault::cut().first(1))
            .requests(2..=2),
        Row::read("the connection is cut before the answer, every time")
            .fault(Fault::cut())
            .fails(Errno::EHOSTUNREACH)
            .requests(3..=3),
        Row::read("the vault answers after a second and a half")
            .fault(Fault::delay(Duration::from_millis(1500))),
        Row::read("the vault does not answer")
            .fault(Fault::hang())
            .fails(Errno::ETIMEDOUT),
        Row::read("the vault's port is closed")
            .script(|mount| {
                mount
                    .emulator
                    .pause(Service::KeyVault)
                    .expect("it can be paused")
            })
            .fails(Errno::EHOSTUNREACH)
            .requests(0..=0),
        Row::read("this machine's clock is an hour behind")
            .script(|mount| mount.emulator.set_clock_skew(3600))
            .without_token(1..=1),
        Row::read("this machine's clock is an hour ahead")
            .script(|mount| mount.emulator.set_clock_skew(-3600))
            .without_token(1..=1),
    ]
}

fn tls() -> Vec<Row> {
    let shown = |weather, certificate| {
        Row::read(weather)
            .script(move |mount| {
                let set = mount.emulator.set_certificate(certificate);
                set.expect("it can be changed");
            })
            .fails(Errno::EPROTO)
            .requests(0..=0)
    };
    vec![
        shown("the certificate has expired", Certificate::Expired),
        shown("the certificate is another host's", Certificate::WrongHost),
        shown(
            "the certificate is by a stranger",
            Certificate::UnknownIssuer,
        ),
    ]
}
