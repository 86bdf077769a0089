//! Tokens: how many are asked for, with what words, and what happens when none is to be had.

use std::time::{Duration, Instant};

use keyvaultfs::config::{IdentityEndpoint, IdentityKind, IdentitySelector};
use keyvaultfs::emulator::{Fault, Identity, Options, Service};
use keyvaultfs::secrets::Failure;
use tokio::task::JoinSet;

use super::bench::{Bench, LONG};

const SECOND: Duration = Duration::from_secs(1);

fn vm_extension() -> Bench {
    let options = Options::default();
    // The endpoint is known once the emulator runs, so a first configuration is replaced.
    let bench = Bench::with(options, |_| {});
    bench.rebuilt(|config, endpoints| {
        config.identity.kind = IdentityKind::VmExtension;
        let endpoint = IdentityEndpoint::parse(&endpoints.vm_extension).unwrap();
        config.identity.endpoint = Some(endpoint);
    })
}

fn selecting(selector: IdentitySelector, identities: Vec<Identity>) -> Bench {
    let options = Options {
        identities,
        ..Options::default()
    };
    Bench::with(options, |config| config.identity.selector = Some(selector))
}

fn with_identities(identities: Vec<Identity>) -> Bench {
    let options = Options {
        identities,
        ..Options::default()
    };
    Bench::with(options, |_| {})
}

#[tokio::test]
async fn many_who_need_a_token_cause_one_request_for_it() {
    let bench = std::sync::Arc::new(Bench::new());
    bench.set_secret("a", "v");
    bench.add_fault(Fault::delay(SECOND / 5).of(Service::Imds));
    let mut readers = JoinSet::new();
    for _ in 0..50 {
        let bench = bench.clone();
        readers.spawn(async move { bench.get("a").await.map(drop) });
    }
    for result in readers.join_all().await {
        result.unwrap();
    }
    assert_eq!((bench.tokens(), bench.gets()), (1, 50));
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_for_all_who_hold_it() {
    let bench = std::sync::Arc::new(Bench::new());
    bench.set_secret("a", "v");
    bench.get("a").await.unwrap();
    bench.revoke_tokens();
    bench.clear_log();
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let bench = bench.clone();
        readers.spawn(async move { bench.get("a").await.map(drop) });
    }
    for result in readers.join_all().await {
        result.unwrap();
    }
    assert_eq!(bench.tokens(), 1);
}

#[tokio::test]
async fn a_revoked_token_does_not_lose_or_double_a_set() {
    let bench = Bench::new();
    bench.get("a").await.unwrap_err();
    bench.revoke_tokens();
    bench.set_within("a", b"v", None, LONG).await.unwrap();
    assert_eq!(bench.values("a"), ["v"]);
}

#[tokio::test]
async fn a_token_refused_twice_is_an_error_and_is_not_asked_for_in_a_storm() {
    let bench = Bench::new();
    bench.add_fault(Fault::error(401, "Unauthorized", None));
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::Unauthorized);
    assert_eq!((bench.tokens(), bench.gets()), (2, 2));
    let began = Instant::now();
    for _ in 0..3 {
        bench.get("a").await.unwrap_err();
    }
    let allowed = 3 + began.elapsed().as_secs() as usize;
    assert!(bench.tokens() <= allowed, "{} tokens", bench.tokens());
}

#[tokio::test]
async fn a_vault_that_cannot_check_a_token_is_asked_again_with_the_same_one() {
    let bench = Bench::new();
    bench.set_secret("a", "v");
    let fault = bench.add_fault(Fault::signing_key_unresolved().only([1, 2]));
    bench.get("a").await.unwrap();
    assert_eq!((bench.tokens(), bench.gets()), (1, 3));
    bench.remove_fault(fault);
    bench.add_fault(Fault::signing_key_unresolved());
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::SigningKeyUnresolved);
    assert_eq!(error.code.as_deref(), Some("Unauthorized/AKV10046"));
    assert_eq!(bench.tokens(), 1);
}

#[tokio::test]
async fn a_challenge_for_another_resource_is_refused_and_no_token_is_fetched_for_it() {
    let bench = Bench::new();
    let mut fault = Fault::error(401, "Unauthorized", None);
    let challenge = "Bearer authorization=\"https://login.microsoftonline.com/t\", \
                     resource=\"https://graph.microsoft.com\"";
    let header = ("www-authenticate".to_owned(), challenge.to_owned());
    fault.headers.extend([header]);
    bench.add_fault(fault);
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::WrongChallenge);
    assert_eq!((bench.tokens(), bench.gets()), (1, 1));
}

#[tokio::test]
async fn a_vault_of_another_audience_is_an_error_that_names_the_option() {
    let bench = Bench::with(Options::default(), |config| {
        config.resource = "https://management.azure.com".to_owned();
    });
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::WrongChallenge);
    assert!(error.hint.unwrap().contains("--resource"));
}

#[tokio::test]
async fn the_vm_extension_is_asked_by_a_form() {
    let bench = vm_extension();
    bench.set_secret("a", "v");
    bench.get("a").await.unwrap();
    let asked = bench.log().remove(0);
    assert_eq!(asked.service, Service::VmExtension);
    assert_eq!(
        (&*asked.method, &*asked.path, &*asked.query),
        ("POST", "/oauth2/token", "")
    );
}

#[tokio::test]
async fn the_metadata_service_is_asked_as_microsoft_documents() {
    let bench = Bench::new();
    bench.vault.warm_up().await;
    let asked = bench.log().remove(0);
    assert_eq!(
        (&*asked.method, &*asked.path),
        ("GET", "/metadata/identity/oauth2/token")
    );
    assert_eq!(
        asked.query,
        "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"
    );
    assert_eq!(asked.status, Some(200));
}

#[tokio::test]
async fn each_way_to_name_an_identity_gets_that_identitys_token() {
    let (one, two) = (
        Identity::user_assigned("one"),
        Identity::user_assigned("two"),
    );
    for selector in [
        IdentitySelector::ClientId(two.client_id.clone()),
        IdentitySelector::ObjectId(two.object_id.clone()),
        IdentitySelector::ResourceId(two.resource_id.clone().unwrap()),
    ] {
        let bench = selecting(selector.clone(), vec![one.clone(), two.clone()]);
        bench.set_secret("a", "v");
        bench.get("a").await.unwrap();
        let log = bench.log();
        assert!(
            log.iter()
                .all(|entry| entry.identity.as_ref() == Some(&two.client_id)),
            "{selector:?} {log:?}"
        );
    }
}

#[tokio::test]
async fn an_identity_that_is_missing_unknown_or_ambiguous_is_an_error_that_says_what_to_do() {
    let (one, two) = (
        Identity::user_assigned("one"),
        Identity::user_assigned("two"),
    );
    let stranger = IdentitySelector::ClientId("stranger".to_owned());
    for (bench, words) in [
        (with_identities(vec![]), "az vm identity assign -g"),
        (with_identities(vec![one.clone(), two]), "--client-id"),
        (selecting(stranger, vec![one]), "check --client-id"),
    ] {
        let error = bench.get("a").await.unwrap_err();
        assert_eq!(error.failure, Failure::IdentityRefused);
        assert_eq!(error.code.as_deref(), Some("invalid_request"));
        assert!(error.hint.as_ref().unwrap().contains(words), "{error:?}");
        assert_eq!((bench.tokens(), bench.gets()), (1, 0));
    }
}

#[tokio::test]
async fn a_metadata_service_that_stumbles_is_asked_again() {
    async fn check(status: u16) {
        let bench = Bench::new();
        bench.set_secret("a", "v");
        let fault = Fault::error(status, "unknown", None).of(Service::Imds);
        bench.add_fault(fault.first(1));
        let began = Instant::now();
        bench.get("a").await.unwrap();
        assert!(began.elapsed() >= SECOND, "{status}");
        assert_eq!(bench.tokens(), 2, "{status}");
    }
    tokio::join!(check(404), check(410), check(429), check(500), check(503));
}

#[tokio::test]
async fn who_waits_for_a_failing_metadata_service_is_told_before_the_deadline_what_failed() {
    async fn check(status: u16, failure: Failure) {
        let bench = Bench::new();
        let fault = Fault::error(status, "unknown", None).of(Service::Imds);
        bench.add_fault(fault);
        let began = Instant::now();
        let error = bench.get_within("a", 2 * SECOND).await.unwrap_err();
        assert_eq!(error.failure, failure, "{status} {error}");
        assert_eq!(error.status, Some(status), "{error}");
        assert!(began.elapsed() <= 2 * SECOND + SECOND / 2, "{status}");
        assert!(bench.tokens() <= 2, "{status}");
    }
    tokio::join!(
        check(404, Failure::IdentityRefused),
        check(410, Failure::TimedOut),
        check(429, Failure::Throttled),
        check(500, Failure::ServerError),
    );
}

#[tokio::test]
async fn a_slow_metadata_service_costs_one_operation_its_deadline_and_serves_the_next() {
    let bench = Bench::new();
    bench.set_secret("a", "v");
    bench.add_fault(Fault::delay(2 * SECOND).of(Service::Imds));
    let began = Instant::now();
    let error = bench.get_within("a", SECOND).await.unwrap_err();
    assert_eq!(error.failure, Failure::TimedOut);
    assert!((SECOND..2 * SECOND).contains(&began.elapsed()));
    bench.get("a").await.unwrap();
    assert_eq!(bench.tokens(), 1);
}

#[tokio::test]
async fn a_machine_without_an_identity_service_is_told_so_soon() {
    let bench = Bench::new();
    bench.pause(Service::Imds).unwrap();
    let began = Instant::now();
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::Unreachable);
    assert!(error.hint.unwrap().contains("Azure VM"));
    assert!(began.elapsed() < 2 * SECOND);
    bench.resume(Service::Imds).unwrap();
    bench.set_secret("a", "v");
    tokio::time::sleep(SECOND).await;
    bench.get("a").await.unwrap();
}

#[tokio::test]
async fn an_identity_service_that_refuses_is_not_asked_for_every_operation() {
    let bench = with_identities(vec![]);
    let began = Instant::now();
    for _ in 0..30 {
        bench.get("a").await.unwrap_err();
    }
    let allowed = 1 + began.elapsed().as_secs() as usize;
    assert!(bench.tokens() <= allowed, "{} tokens", bench.tokens());
}

#[tokio::test]
async fn an_identity_service_that_answers_nonsense_is_an_error() {
    use keyvaultfs::emulator::Effect;
    for effect in [
        Effect::Html { status: 200 },
        Effect::CutBody(20),
        Effect::HugeBody(100 << 20),
        Effect::Body {
            status: 200,
            text: r#"{"access_token":"","expires_in":"1"}"#.to_owned(),
        },
    ] {
        let bench = Bench::new();
        bench.add_fault(Fault::new(effect.clone()).of(Service::Imds));
        let error = bench.get("a").await.unwrap_err();
        assert_eq!(error.failure, Failure::Malformed, "{effect:?}");
        assert_eq!(bench.gets(), 0);
    }
}

#[tokio::test]
async fn the_identity_service_is_not_followed_elsewhere() {
    use keyvaultfs::emulator::Effect;
    let bench = Bench::new();
    let elsewhere = bench.endpoints().vm_extension.clone();
    bench.add_fault(Fault::new(Effect::Redirect(elsewhere)).of(Service::Imds));
    assert_eq!(
        bench.get("a").await.unwrap_err().failure,
        Failure::Redirected
    );
    assert_eq!(bench.log().len(), 1);
}

#[tokio::test]
async fn a_machine_whose_clock_is_an_hour_off_asks_for_no_more_tokens_than_others() {
    for skew in [-3600, 3600] {
        let bench = Bench::new();
        bench.set_clock_skew(skew);
        bench.set_token_lifetime(3600);
        bench.set_secret("a", "v");
        for _ in 0..3 {
            bench.get("a").await.unwrap();
        }
        assert_eq!(bench.tokens(), 1, "{skew}");
    }
}
