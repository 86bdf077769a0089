//! Connections: kept, lost, refused, through a proxy, and TLS that is not to be trusted.

use std::time::{Duration, Instant};

use keyvaultfs::azure::{KeyVault, SetupError};
use keyvaultfs::config::VaultUrl;
use keyvaultfs::emulator::{Certificate, Emulator, Fault, Options, Service};
use keyvaultfs::secrets::Failure;

use super::bench::{Bench, LONG, config};
use super::relay::{Kind, Relay};

const SECOND: Duration = Duration::from_secs(1);

fn port(bench: &Bench) -> u16 {
    let vault = VaultUrl::parse(&bench.endpoints().vault).unwrap();
    vault.url().port().unwrap()
}

/// A bench whose client reaches the vault through a relay.
async fn relayed() -> (Bench, Relay) {
    let bench = Bench::new();
    let relay = Relay::start(Kind::Plain(port(&bench))).await;
    let address = format!("https://localhost:{}", relay.address.port());
    let bench = bench.rebuilt(|config, _| config.vault = VaultUrl::parse(&address).unwrap());
    (bench, relay)
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_request() {
    let (bench, relay) = relayed().await;
    bench.set_secret("a", "v");
    for _ in 0..5 {
        bench.get("a").await.unwrap();
    }
    assert_eq!(relay.connections(), 1);
}

#[tokio::test]
async fn a_read_on_a_connection_the_service_gave_up_is_sent_again_at_once() {
    let (bench, relay) = relayed().await;
    bench.set_secret("a", "v");
    bench.get("a").await.unwrap();
    relay.poison();
    let began = Instant::now();
    assert_eq!(bench.get("a").await.unwrap().value.expose(), b"v");
    assert!(began.elapsed() < SECOND);
    assert_eq!(relay.connections(), 2);
}

#[tokio::test]
async fn many_kept_connections_given_up_at_once_fail_no_read() {
    let (bench, relay) = relayed().await;
    let bench = std::sync::Arc::new(bench);
    bench.set_secret("a", "v");
    let delay = bench.add_fault(Fault::delay(SECOND / 5));
    let read_by_ten = || async {
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let bench = bench.clone();
            readers.spawn(async move { bench.get("a").await.map(drop) });
        }
        readers.join_all().await
    };
    assert!(read_by_ten().await.iter().all(Result::is_ok));
    assert!(relay.connections() >= 10);
    bench.remove_fault(delay);
    relay.poison();
    // One after the other, so that each may pick one of the dead ones.
    for _ in 0..10 {
        bench.get("a").await.unwrap();
    }
    relay.poison();
    for result in read_by_ten().await {
        result.unwrap();
    }
}

#[tokio::test]
async fn a_set_on_a_connection_the_service_gave_up_makes_one_version() {
    let (bench, relay) = relayed().await;
    bench.set_clock_skew(-3600);
    let old = bench.set_secret("a", "old");
    bench.set_clock_skew(0);
    bench.get("a").await.unwrap();
    relay.poison();
    bench
        .set_within("a", b"new", Some(&old), LONG)
        .await
        .unwrap();
    assert_eq!(bench.values("a"), ["old", "new"]);
}

#[tokio::test]
async fn a_dead_port_is_an_error_soon_and_a_vault_that_comes_back_is_read() {
    let bench = Bench::new();
    bench.set_secret("a", "v");
    bench.pause(Service::KeyVault).unwrap();
    let began = Instant::now();
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::Unreachable);
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(began.elapsed() < 2 * SECOND);
    let error = bench.set_within("a", b"w", None, LONG).await.unwrap_err();
    assert_eq!(error.failure, Failure::Unreachable);
    bench.resume(Service::KeyVault).unwrap();
    bench.get("a").await.unwrap();
}

#[tokio::test]
async fn connections_cut_again_and_again_are_an_error() {
    let bench = Bench::new();
    bench.set_secret("a", "v");
    let fault = bench.add_fault(Fault::cut().first(2));
    bench.get("a").await.unwrap();
    bench.remove_fault(fault);
    bench.clear_log();
    bench.add_fault(Fault::cut());
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::Unreachable);
    // Over TLS it would be taken for a handshake that failed.
    assert!(
        error.context.ends_with("closed before an answer"),
        "{error}"
    );
    assert_eq!(bench.gets(), 3);
}

#[tokio::test]
async fn a_certificate_that_is_not_to_be_trusted_ends_the_call_before_the_token_is_sent() {
    for certificate in [
        Certificate::Expired,
        Certificate::WrongHost,
        Certificate::UnknownIssuer,
    ] {
        let options = Options {
            certificate,
            ..Options::default()
        };
        let bench = Bench::with(options, |_| {});
        let error = bench.get("a").await.unwrap_err();
        assert_eq!(error.failure, Failure::Tls, "{certificate:?} {error}");
        assert!(error.hint.is_some());
        assert_eq!(bench.gets(), 0, "{certificate:?}");
        let error = bench.set_within("a", b"v", None, LONG).await.unwrap_err();
        assert_eq!(error.failure, Failure::Tls);
    }
}

#[tokio::test]
async fn a_service_that_speaks_no_tls_is_a_tls_failure() {
    let bench = Bench::new();
    let imds = bench.endpoints().imds.clone();
    let port = url::Url::parse(&imds).unwrap().port().unwrap();
    let address = format!("https://localhost:{port}");
    let bench = bench.rebuilt(|config, _| config.vault = VaultUrl::parse(&address).unwrap());
    assert_eq!(bench.get("a").await.unwrap_err().failure, Failure::Tls);
}

#[tokio::test]
async fn the_vault_is_reached_through_the_proxy_and_the_identity_service_never() {
    let bench = Bench::new();
    bench.set_secret("a", "v");
    let proxy = Relay::start(Kind::Proxy).await;
    let url = format!("http://{}", proxy.address);
    let bench = bench.rebuilt(|config, _| config.proxy = Some(url.parse().unwrap()));
    assert_eq!(bench.get("a").await.unwrap().value.expose(), b"v");
    assert_eq!((proxy.connections(), proxy.tunnels()), (1, 1));
    assert_eq!((bench.tokens(), bench.gets()), (1, 1));
}

#[tokio::test]
async fn a_proxy_that_refuses_makes_the_vault_unreachable() {
    let bench = Bench::new();
    let proxy = Relay::start(Kind::Proxy).await;
    proxy.refuse();
    let url = format!("http://{}", proxy.address);
    let bench = bench.rebuilt(|config, _| config.proxy = Some(url.parse().unwrap()));
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::Unreachable);
    let error = bench.set_within("a", b"v", None, LONG).await.unwrap_err();
    assert_eq!(error.failure, Failure::Unreachable);
    assert_eq!(bench.gets() + bench.sets(), 0);
}

#[test]
fn a_ca_that_is_none_is_a_setup_error() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let mut config = config(&emulator);
    config.ca_certificates = vec!["no certificate".to_owned()];
    let error = KeyVault::new(&config).err().unwrap();
    assert!(matches!(error, SetupError::CaCertificate(_)), "{error}");
}
