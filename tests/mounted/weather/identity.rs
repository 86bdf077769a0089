//! What can go wrong with the identity service. There is no token yet when it does.

use std::time::Duration;

use keyvaultfs::emulator::{Effect, Fault, Service};
use nix::errno::Errno;

use super::row::Row;

fn imds(fault: Fault) -> Fault {
    fault.of(Service::Imds)
}

pub(super) fn rows() -> Vec<Row> {
    let once = |weather, status| {
        Row::read(weather)
            .fault(imds(Fault::error(status, "unknown", None)).first(1))
            .without_token(2..=2)
    };
    let always = |weather, status, errno| {
        Row::read(weather)
            .fault(imds(Fault::error(status, "unknown", None)))
            .without_token(1..=4)
            .requests(0..=0)
            .fails(errno)
    };
    let nonsense = |weather, effect| {
        Row::read(weather)
            .fault(imds(Fault::new(effect)))
            .without_token(1..=9)
            .requests(0..=0)
            .fails(Errno::EIO)
    };
    vec![
        once("the identity service says 404 once", 404),
        once("the identity service says 410 once", 410),
        once("the identity service says 429 once", 429),
        once("the identity service says 500 once", 500),
        always(
            "the identity service says 404 every time",
            404,
            Errno::EACCES,
        ),
        always(
            "the identity service says 410 every time",
            410,
            Errno::ETIMEDOUT,
        ),
        always(
            "the identity service says 429 every time",
            429,
            Errno::EAGAIN,
        ),
        always("the identity service says 500 every time", 500, Errno::EIO),
        always("the identity service says 400", 400, Errno::EACCES),
        Row::read("the machine has no identity")
            .script(|mount| mount.emulator.set_identities([]))
            .without_token(1..=4)
            .requests(0..=0)
            .fails(Errno::EACCES),
        Row::read("the identity service takes a second")
            .fault(imds(Fault::delay(Duration::from_secs(1))))
            .without_token(1..=1),
        Row::read("the identity service does not answer")
            .fault(imds(Fault::hang()))
            .without_token(1..=1)
            .requests(0..=0)
            .fails(Errno::ETIMEDOUT),
        Row::read("the identity service's port is closed")
            .script(|mount| {
                mount
                    .emulator
                    .pause(Service::Imds)
                    .expect("it can be paused")
            })
            .without_token(0..=0)
            .requests(0..=0)
            .fails(Errno::EHOSTUNREACH),
        nonsense(
            "the identity service answers HTML",
            Effect::Html { status: 200 },
        ),
        nonsense(
            "the identity service answers 100 MB",
            Effect::HugeBody(100 << 20),
        ),
        Row::read("the identity service redirects")
            .fault(imds(Fault::new(Effect::Redirect(
                "http://127.0.0.1:9/".to_owned(),
            ))))
            .without_token(1..=4)
            .requests(0..=0)
            .fails(Errno::EPROTO),
        Row::read("tokens that have expired when they come")
            .script(|mount| mount.emulator.set_token_lifetime(-1))
            // It is due for renewal as soon as it comes.
            .without_token(2..=3)
            .requests(2..=2)
            .fails(Errno::EACCES),
    ]
}
