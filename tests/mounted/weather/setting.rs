//! What can go wrong with a set. Each begins with a GET, of the lookup; where the answer is lost,
//! the current version is looked at before it is sent again.

use keyvaultfs::emulator::{Deletion, Effect, Fault, Permission, Service};
use nix::errno::Errno;

use super::row::Row;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = lost();
    rows.extend(refused());
    rows
}

fn put(fault: Fault) -> Fault {
    fault.method("PUT")
}

fn unavailable() -> Fault {
    put(Fault::error(503, "ServiceUnavailable", None))
}

fn lost() -> Vec<Row> {
    vec![
        Row::set("a set, cut before it arrived")
            .fault(put(Fault::cut()).first(1))
            .requests(4..=4),
        Row::set("a set, cut after it was carried out")
            .fault(put(Fault::cut()).after().first(1))
            .requests(3..=3),
        Row::set("a set, its answer cut short")
            .fault(put(Fault::new(Effect::CutBody(20))).after().first(1))
            .requests(3..=3),
        Row::set("a set, its answer HTML")
            .fault(
                put(Fault::new(Effect::Html { status: 200 }))
                    .after()
                    .first(1),
            )
            .requests(3..=3),
        Row::set("a set, 503 and not carried out")
            .fault(unavailable().first(1))
            .requests(4..=4),
        Row::set("a set, 503 and carried out")
            .fault(unavailable().after().first(1))
            .requests(3..=3),
        Row::set("a set, 500 twice")
            .fault(put(Fault::error(500, "InternalServerError", None)).first(2))
            .requests(6..=6),
        Row::set("a set, 503 every time")
            .fault(unavailable())
            .fails(Errno::EIO)
            .requests(7..=11),
        Row::set("a set, 503 and carried out, and `get` not granted")
            .script(|mount| {
                mount.emulator.set_policy([Permission::Set]);
                mount.emulator.add_fault(unavailable().after().first(1));
            })
            .fails(Errno::EIO)
            .carried_out()
            .requests(2..=3),
        Row::set("a set, unanswered")
            .fault(put(Fault::hang()))
            .fails(Errno::ETIMEDOUT),
        Row::set("a set, carried out and unanswered")
            .fault(put(Fault::hang()).after())
            .fails(Errno::ETIMEDOUT)
            .carried_out(),
        Row::set("a set, 429 twice")
            .fault(put(Fault::throttled()).first(2))
            .requests(4..=4),
        Row::set("a set, 429 every time")
            .fault(put(Fault::throttled()))
            .fails(Errno::EAGAIN)
            .requests(4..=6),
        Row::set("a set, the token revoked")
            .script(|mount| mount.emulator.revoke_tokens())
            .requests(3..=3)
            .tokens(1..=1),
        Row::set("a set, the vault's port closed")
            .script(|mount| {
                mount
                    .emulator
                    .pause(Service::KeyVault)
                    .expect("it can be paused")
            })
            .fails(Errno::EHOSTUNREACH)
            .requests(0..=0),
    ]
}

fn refused() -> Vec<Row> {
    let deleted = |weather, deletion, errno| {
        Row::set(weather)
            .script(move |mount| assert!(mount.emulator.set_deletion("a", deletion)))
            .fails(errno)
    };
    vec![
        Row::set("a set, 403 `AccessDenied`")
            .fault(put(Fault::error(403, "Forbidden", Some("AccessDenied"))))
            .fails(Errno::EACCES),
        Row::set("a set, 400 `SecretTooLarge`")
            .fault(put(Fault::error(
                400,
                "BadParameter",
                Some("SecretTooLarge"),
            )))
            .fails(Errno::EFBIG),
        deleted(
            "a set, a deleted secret holds the name",
            Deletion::Recoverable,
            Errno::EEXIST,
        ),
        deleted(
            "a set, the secret is being deleted",
            Deletion::BeingDeleted,
            Errno::EBUSY,
        ),
        deleted(
            "a set, the secret is being recovered",
            Deletion::BeingRecovered,
            Errno::EBUSY,
        ),
        Row::set("a set that is not granted: the first write(2) says so")
            .asked_first()
            .script(|mount| mount.emulator.set_policy([Permission::Get]))
            .fails(Errno::EACCES),
    ]
}
