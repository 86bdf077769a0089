//! What the README promises in tables is what the program does.

use keyvaultfs::cli::exit_code::ExitCode;
use keyvaultfs::fs::errno;
use keyvaultfs::secrets::Failure;

const README: &str = include_str!("../README.md");

/// The cells of the rows of the table in the section that `heading` begins.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let section = README
        .split("\n## ")
        .find(|section| section.starts_with(heading))
        .unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

#[test]
fn exit_codes_are_those_of_the_program() {
    let listed = table("Exit codes");
    let actual: Vec<_> = ExitCode::ALL
        .iter()
        .map(|code| (code.number().to_string(), code.meaning()))
        .collect();
    let listed: Vec<_> = listed
        .iter()
        .map(|row| (row[0].to_owned(), row[1]))
        .collect();
    assert_eq!(listed, actual);
}

/// The row of the errors table that tells of `failure`.
fn row_of(failure: Failure) -> &'static str {
    match failure {
        Failure::NotFound => "no such secret",
        Failure::Forbidden => "the vault's policy, role, firewall or network refuses",
        Failure::Unauthorized => "the vault refuses the token, even a fresh one",
        Failure::IdentityRefused => "the identity service refuses, or there is no such identity",
        Failure::Disabled => "the secret is disabled",
        Failure::Managed => "the secret belongs to a certificate (writing)",
        Failure::ScopeLocked => "a lock on the resource",
        Failure::DeletedButRecoverable => "a deleted secret still holds the name (writing)",
        Failure::Busy => "the secret is being deleted or recovered",
        Failure::Throttled => "the vault throttles, after retries",
        Failure::SigningKeyUnresolved => {
            "the vault cannot check the token's signature, after retries"
        }
        Failure::ServerError => "the vault fails, after retries",
        Failure::Malformed => "an answer that makes no sense, or is cut off",
        Failure::Undecodable => "a value that is not the base64 or hex its tag says",
        Failure::TooLarge => "more than 25,600 bytes",
        Failure::TooManyTags => "more than 15 tags, `--tag` and those kept together",
        Failure::TimedOut => "no answer within `--timeout`",
        Failure::Unreachable => "no connection: DNS, refused, reset",
        Failure::Tls => "a certificate that is not trusted",
        Failure::Redirected => "a redirect",
        Failure::WrongChallenge => "a request for a token for someone else",
    }
}

#[test]
fn errors_are_those_of_the_program() {
    let failures = [
        Failure::NotFound,
        Failure::Forbidden,
        Failure::Unauthorized,
        Failure::IdentityRefused,
        Failure::Disabled,
        Failure::Managed,
        Failure::ScopeLocked,
        Failure::DeletedButRecoverable,
        Failure::Busy,
        Failure::Throttled,
        Failure::SigningKeyUnresolved,
        Failure::ServerError,
        Failure::Malformed,
        Failure::Undecodable,
        Failure::TooLarge,
        Failure::TooManyTags,
        Failure::TimedOut,
        Failure::Unreachable,
        Failure::Tls,
        Failure::Redirected,
        Failure::WrongChallenge,
    ];
    let actual: Vec<_> = failures
        .iter()
        .map(|failure| {
            let errno = errno(*failure);
            let said = std::io::Error::from(errno).to_string();
            let said = said.split(" (os error").next().unwrap().to_owned();
            (row_of(*failure), format!("{errno:?}"), said)
        })
        .collect();
    let listed: Vec<_> = table("Errors")
        .into_iter()
        .map(|row| (row[0], row[1].to_owned(), row[2].to_owned()))
        .collect();
    assert_eq!(listed, actual);
}
