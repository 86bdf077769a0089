//! Every identity service: that a token comes from it, by its own words, and what is said when
//! none does.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use keyvaultfs::azure::{KeyVault, SetupError, Surroundings};
use keyvaultfs::config::{Config, IdentityEndpoint, IdentityKind, IdentitySelector};
use keyvaultfs::emulator::{Effect, Emulator, Entry, Fault, Identity, Operation, Options, Service};
use keyvaultfs::secrets::Failure;

use super::bench::{Bench, config};

/// Two identities, so that naming one matters.
fn identities() -> Vec<Identity> {
    vec![Identity::system_assigned(), Identity::user_assigned("two")]
}

fn emulator() -> Emulator {
    Emulator::start(Options {
        identities: identities(),
        ..Options::default()
    })
    .unwrap()
}

/// The variables that `kind`'s service sets where its programs run.
fn variables(kind: IdentityKind, emulator: &Emulator) -> Vec<(&'static str, String)> {
    let at = emulator.endpoints();
    let known = at.credentials.clone();
    let application = vec![
        ("AZURE_AUTHORITY_HOST", at.entra.clone()),
        ("AZURE_TENANT_ID", known.tenant_id),
        ("AZURE_CLIENT_ID", known.client_id),
    ];
    match kind {
        IdentityKind::AppService => vec![
            ("IDENTITY_ENDPOINT", at.app_service.clone()),
            ("IDENTITY_HEADER", known.header),
        ],
        IdentityKind::AzureMl => vec![
            ("MSI_ENDPOINT", at.azure_ml.clone()),
            ("MSI_SECRET", known.header),
        ],
        IdentityKind::AzureArc => vec![
            ("IDENTITY_ENDPOINT", at.azure_arc.clone()),
            ("IMDS_ENDPOINT", "http://localhost:40342".to_owned()),
        ],
        IdentityKind::ServiceFabric => vec![
            ("IDENTITY_ENDPOINT", at.service_fabric.clone()),
            ("IDENTITY_HEADER", known.header),
            ("IDENTITY_SERVER_THUMBPRINT", known.thumbprint),
        ],
        IdentityKind::CloudShell => vec![("MSI_ENDPOINT", at.cloud_shell.clone())],
        IdentityKind::WorkloadIdentity => {
            let file = at.root.join("token");
            std::fs::write(&file, format!("{}\n", known.federated_token)).unwrap();
            let file = ("AZURE_FEDERATED_TOKEN_FILE", file.display().to_string());
            [application, vec![file]].concat()
        }
        IdentityKind::ClientSecret => {
            let secret = ("AZURE_CLIENT_SECRET", known.client_secret);
            [application, vec![secret]].concat()
        }
        IdentityKind::Imds => {
            let authority = at.imds.replace("/metadata/identity/oauth2/token", "");
            vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", authority)]
        }
        IdentityKind::Auto | IdentityKind::VmExtension | IdentityKind::AzureCli => vec![],
    }
}

/// What a client made of these finds.
fn try_bench(
    emulator: Emulator,
    variables: &[(&'static str, String)],
    adjust: impl FnOnce(&mut Config),
) -> Result<Bench, SetupError> {
    let mut config = config(&emulator);
    config.identity.endpoint = None;
    config.identity.kind = IdentityKind::Auto;
    adjust(&mut config);
    let root = emulator.endpoints().root.clone();
    let surroundings = Surroundings::given(variables.to_vec(), &root);
    let vault = KeyVault::within(&config, surroundings)?;
    Ok(Bench::of(emulator, vault))
}

fn bench(kind: IdentityKind, adjust: impl FnOnce(&mut Config)) -> Bench {
    let emulator = emulator();
    let variables = variables(kind, &emulator);
    try_bench(emulator, &variables, |config| {
        config.identity.kind = kind;
        adjust(config);
    })
    .unwrap()
}

/// The requests for tokens, after a secret was read.
async fn asked(bench: &Bench) -> Vec<Entry> {
    bench.set_secret("a", "v");
    let secret = bench.get("a").await.unwrap();
    assert_eq!(secret.value.expose(), b"v");
    let log = bench.log().into_iter();
    log.filter(|entry| entry.operation == Operation::Token)
        .collect()
}

#[tokio::test]
async fn each_service_is_asked_in_its_own_words_and_auto_finds_it_by_its_signs() {
    let resource = "resource=https%3A%2F%2Fvault.azure.net";
    for (kind, service, method, query, requests) in [
        (
            IdentityKind::Imds,
            Service::Imds,
            "GET",
            format!("api-version=2018-02-01&{resource}"),
            1,
        ),
        (
            IdentityKind::AppService,
            Service::AppService,
            "GET",
            format!("api-version=2019-08-01&{resource}"),
            1,
        ),
        (
            IdentityKind::AzureMl,
            Service::AzureMl,
            "GET",
            format!("api-version=2017-09-01&{resource}"),
            1,
        ),
        (
            IdentityKind::AzureArc,
            Service::AzureArc,
            "GET",
            format!("api-version=2020-06-01&{resource}"),
            2,
        ),
        (
            IdentityKind::ServiceFabric,
            Service::ServiceFabric,
            "GET",
            format!("api-version=2019-07-01-preview&{resource}"),
            1,
        ),
        (
            IdentityKind::CloudShell,
            Service::CloudShell,
            "POST",
            String::new(),
            1,
        ),
        (
            IdentityKind::WorkloadIdentity,
            Service::Entra,
            "POST",
            String::new(),
            1,
        ),
        (
            IdentityKind::ClientSecret,
            Service::Entra,
            "POST",
            String::new(),
            1,
        ),
    ] {
        let named = |config: &mut Config| {
            // IMDS's variable is for `auto` alone; as an option it is the command line's.
            if kind != IdentityKind::Imds {
                config.identity.kind = kind;
            }
        };
        for auto in [false, true] {
            let emulator = emulator();
            let variables = variables(kind, &emulator);
            let bench = match auto {
                true => try_bench(emulator, &variables, |_| {}),
                false => try_bench(emulator, &variables, named),
            };
            let asked = asked(&bench.unwrap()).await;
            assert_eq!(asked.len(), requests, "{kind:?} {auto} {asked:?}");
            for entry in asked {
                assert_eq!(entry.service, service, "{kind:?} {auto}");
                assert_eq!((&*entry.method, &entry.query), (method, &query), "{kind:?}");
            }
        }
    }
}

#[tokio::test]
async fn each_service_has_its_own_names_for_an_identity() {
    let two = Identity::user_assigned("two");
    let client = IdentitySelector::ClientId(two.client_id.clone());
    let object = IdentitySelector::ObjectId(two.object_id.clone());
    let resource = IdentitySelector::ResourceId(two.resource_id.clone().unwrap());
    for (kind, selector, parameter) in [
        (IdentityKind::AppService, &client, "&client_id="),
        (IdentityKind::AppService, &object, "&principal_id="),
        (IdentityKind::AppService, &resource, "&mi_res_id="),
        (IdentityKind::AzureMl, &client, "&clientid="),
        (IdentityKind::AzureArc, &client, "&client_id="),
        (IdentityKind::AzureArc, &object, "&object_id="),
        (IdentityKind::AzureArc, &resource, "&msi_res_id="),
    ] {
        let bench = bench(kind, |config| {
            config.identity.selector = Some(selector.clone())
        });
        for entry in asked(&bench).await {
            assert!(entry.query.contains(parameter), "{kind:?} {}", entry.query);
            // Arc's first request is answered with a challenge.
            if entry.status == Some(200) {
                assert_eq!(entry.identity.as_ref(), Some(&two.client_id), "{kind:?}");
            }
        }
    }
}

#[test]
fn an_identity_that_a_service_cannot_select_is_an_error_at_once() {
    let selectors = [
        IdentitySelector::ClientId("x".to_owned()),
        IdentitySelector::ObjectId("x".to_owned()),
        IdentitySelector::ResourceId("x".to_owned()),
    ];
    for (kind, selectable) in [
        (IdentityKind::AzureMl, 1),
        (IdentityKind::WorkloadIdentity, 1),
        (IdentityKind::ClientSecret, 1),
        (IdentityKind::ServiceFabric, 0),
        (IdentityKind::CloudShell, 0),
    ] {
        for (number, selector) in selectors.iter().enumerate() {
            let emulator = emulator();
            let variables = variables(kind, &emulator);
            let made = try_bench(emulator, &variables, |config| {
                config.identity.kind = kind;
                config.identity.selector = Some(selector.clone());
            });
            let message = made.err().map(|error| error.to_string());
            let named = message.as_ref().map(|text| text.contains("--client-id"));
            let expected = (number >= selectable).then_some(true);
            assert_eq!(named, expected, "{kind:?} {selector:?} {message:?}");
        }
    }
}

#[test]
fn a_service_whose_variables_are_missing_is_an_error_that_names_one() {
    for (kind, variable) in [
        (IdentityKind::AppService, "IDENTITY_ENDPOINT"),
        (IdentityKind::AzureMl, "MSI_ENDPOINT"),
        (IdentityKind::ServiceFabric, "IDENTITY_ENDPOINT"),
        (IdentityKind::CloudShell, "MSI_ENDPOINT"),
        (IdentityKind::WorkloadIdentity, "AZURE_CLIENT_ID"),
        (IdentityKind::ClientSecret, "AZURE_CLIENT_SECRET"),
        (IdentityKind::AzureCli, "PATH"),
    ] {
        let made = try_bench(emulator(), &[], |config| config.identity.kind = kind);
        let message = made.err().unwrap().to_string();
        assert!(message.contains(variable), "{kind:?} {message}");
        assert!(message.contains(kind.name()), "{kind:?} {message}");
    }
}

#[test]
fn an_endpoint_that_is_neither_https_nor_on_this_machine_is_refused_wherever_it_comes_from() {
    let elsewhere = "http://example.org/token".to_owned();
    let secret = ("IDENTITY_HEADER", "x".to_owned());
    let variables = [("IDENTITY_ENDPOINT", elsewhere), secret];
    let error = try_bench(emulator(), &variables, |_| {}).err().unwrap();
    assert!(
        error.to_string().starts_with("IDENTITY_ENDPOINT"),
        "{error}"
    );
}

#[tokio::test]
async fn a_header_or_secret_that_is_wrong_or_missing_is_an_error() {
    for (kind, variable) in [
        (IdentityKind::AppService, "IDENTITY_HEADER"),
        (IdentityKind::AzureMl, "MSI_SECRET"),
        (IdentityKind::ServiceFabric, "IDENTITY_HEADER"),
        (IdentityKind::ClientSecret, "AZURE_CLIENT_SECRET"),
    ] {
        for wrong in ["wrong", ""] {
            let emulator = emulator();
            let mut variables = variables(kind, &emulator);
            variables.retain(|(name, _)| *name != variable);
            variables.push((variable, wrong.to_owned()));
            let made = try_bench(emulator, &variables, |config| config.identity.kind = kind);
            let bench = match made {
                Ok(bench) => bench,
                Err(error) => {
                    assert!(error.to_string().contains(variable), "{error}");
                    continue;
                }
            };
            let error = bench.get("a").await.unwrap_err();
            assert_eq!(
                error.failure,
                Failure::IdentityRefused,
                "{kind:?} {wrong:?}"
            );
            assert!(error.hint.is_some(), "{kind:?} {wrong:?} {error:?}");
        }
    }
}

#[tokio::test]
async fn a_service_fabric_of_another_certificate_gets_no_secret() {
    let emulator = emulator();
    let mut variables = variables(IdentityKind::ServiceFabric, &emulator);
    variables.retain(|(name, _)| *name != "IDENTITY_SERVER_THUMBPRINT");
    variables.push(("IDENTITY_SERVER_THUMBPRINT", "ab".repeat(20)));
    let bench = try_bench(emulator, &variables, |_| {}).unwrap();
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::Tls);
    assert_eq!(bench.log().len(), 0);
}

#[tokio::test]
async fn an_agent_that_names_another_file_gets_nothing_of_it() {
    let bench = bench(IdentityKind::AzureArc, |_| {});
    for realm in [
        "/etc/hostname",
        "/etc/hostname.key",
        "/var/opt/azcmagent/tokens/a.key",
    ] {
        let mut fault = Fault::error(401, "unauthorized", None).of(Service::AzureArc);
        let challenge = format!("Basic realm={realm}");
        fault
            .headers
            .insert("www-authenticate".to_owned(), challenge);
        let fault = bench.add_fault(fault);
        bench.clear_log();
        let error = bench.get("a").await.unwrap_err();
        assert_eq!(error.failure, Failure::IdentityRefused, "{error}");
        assert_eq!(bench.log().len(), 1, "{realm}");
        bench.remove_fault(fault);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn an_old_agent_that_ignores_the_identity_named_is_found_out() {
    let two = Identity::user_assigned("two");
    let selector = IdentitySelector::ClientId(two.client_id);
    let bench = bench(IdentityKind::AzureArc, |config| {
        config.identity.selector = Some(selector);
    });
    let system_assigned = r#"{"access_token":"t","expires_in":"3600"}"#;
    let fault = Fault::new(Effect::Body {
        status: 200,
        text: system_assigned.to_owned(),
    });
    bench.add_fault(fault.of(Service::AzureArc).only([2]));
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::IdentityRefused);
    assert!(error.to_string().contains("another identity"), "{error}");
    assert_eq!(bench.gets(), 0);
}

#[tokio::test]
async fn a_federated_token_is_read_anew_for_each_question() {
    let bench = bench(IdentityKind::WorkloadIdentity, |_| {});
    asked(&bench).await;
    let file = bench.endpoints().root.join("token");
    std::fs::write(&file, "expired").unwrap();
    bench.revoke_tokens();
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::IdentityRefused);
    assert_eq!(error.code.as_deref(), Some("invalid_client/AADSTS70021"));
    assert!(error.hint.unwrap().contains("federated credential"));
    std::fs::write(&file, &bench.endpoints().credentials.federated_token).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    bench.get("a").await.unwrap();
}

#[tokio::test]
async fn a_client_secret_may_be_in_a_file_that_is_read_anew_too() {
    let emulator = emulator();
    let file = emulator.endpoints().root.join("secret");
    let secret = &emulator.endpoints().credentials.client_secret;
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    let mut variables = variables(IdentityKind::ClientSecret, &emulator);
    variables.retain(|(name, _)| *name != "AZURE_CLIENT_SECRET");
    let bench = try_bench(emulator, &variables, |config| {
        config.identity.kind = IdentityKind::ClientSecret;
        config.identity.client_secret_file = Some(file.clone());
    })
    .unwrap();
    asked(&bench).await;
    std::fs::remove_file(file).unwrap();
    bench.revoke_tokens();
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::IdentityRefused);
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_token_comes_from_whoever_is_logged_in_with_az() {
    let directory = tempfile::tempdir().unwrap();
    let emulator = emulator();
    // An az that asks the emulator, as the real one asks the directory.
    let token = reqwest_token(&emulator).await;
    install_az(
        directory.path(),
        &format!(r#"echo '{{"accessToken":"{token}","expires_on":99999999999}}'"#),
    );
    let path = ("PATH", directory.path().display().to_string());
    let bench = try_bench(emulator, &[path], |config| {
        config.identity.kind = IdentityKind::AzureCli;
    })
    .unwrap();
    bench.clear_log();
    assert!(asked(&bench).await.is_empty());
}

#[tokio::test]
async fn an_az_that_fails_or_prints_nonsense_is_an_error_that_says_az_login() {
    for (script, failure) in [
        (
            "echo 'Please run: az login' >&2; exit 1",
            Failure::IdentityRefused,
        ),
        ("echo nonsense", Failure::Malformed),
        ("echo '{}'", Failure::Malformed),
    ] {
        let directory = tempfile::tempdir().unwrap();
        install_az(directory.path(), script);
        let path = ("PATH", directory.path().display().to_string());
        let bench = try_bench(emulator(), &[path], |config| {
            config.identity.kind = IdentityKind::AzureCli;
        })
        .unwrap();
        let error = bench.get("a").await.unwrap_err();
        assert_eq!(error.failure, failure, "{script}");
        assert!(error.hint.unwrap().contains("az login"));
    }
}

#[tokio::test]
async fn az_is_asked_for_the_resource_and_the_tenant() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = directory.path().join("arguments");
    let script = format!("echo \"$@\" > {}; exit 1", arguments.display());
    install_az(directory.path(), &script);
    let path = ("PATH", directory.path().display().to_string());
    let bench = try_bench(emulator(), &[path], |config| {
        config.identity.kind = IdentityKind::AzureCli;
        config.identity.tenant = Some("tenant".to_owned());
    })
    .unwrap();
    bench.get("a").await.unwrap_err();
    assert_eq!(
        std::fs::read_to_string(arguments).unwrap(),
        "account get-access-token --output json --resource https://vault.azure.net \
         --tenant tenant\n"
    );
}

#[tokio::test]
async fn an_option_for_the_endpoint_wins_over_the_environments() {
    let emulator = emulator();
    let imds = IdentityEndpoint::parse(&emulator.endpoints().imds).unwrap();
    let variables = variables(IdentityKind::AppService, &emulator);
    let bench = try_bench(emulator, &variables, |config| {
        config.identity.endpoint = Some(imds);
    })
    .unwrap();
    assert_eq!(asked(&bench).await[0].service, Service::Imds);
}

fn install_az(directory: &Path, script: &str) {
    let program = directory.join("az");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
}

/// A token of the emulator's, got without the client.
async fn reqwest_token(emulator: &Emulator) -> String {
    let url = format!(
        "{}?api-version=2018-02-01&resource={}",
        emulator.endpoints().imds,
        emulator.endpoints().resource
    );
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let asked = http.get(url).header("Metadata", "true").send();
    let text = asked.await.unwrap().text().await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_that_lacks_claims_is_replaced_by_one_that_was_asked_for_with_them() {
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1726258122"}}}"#;
    for kind in [IdentityKind::ClientSecret, IdentityKind::WorkloadIdentity] {
        let bench = bench(kind, |_| {});
        assert_eq!(asked(&bench).await.len(), 1);
        bench.demand_claims(claims);
        assert_eq!(asked(&bench).await.len(), 2, "{kind:?}");
        // They are asked for once.
        assert_eq!(asked(&bench).await.len(), 2, "{kind:?}");
    }
}

#[tokio::test]
async fn where_no_claims_can_be_asked_for_the_error_says_what_refuses() {
    let bench = bench(IdentityKind::AppService, |_| {});
    bench.set_secret("a", "v");
    bench.demand_claims("{}");
    let error = bench.get("a").await.unwrap_err();
    assert_eq!(error.failure, Failure::Unauthorized);
    assert!(error.hint.unwrap().contains("continuous access evaluation"));
    // The first token, and one in its place.
    let log = bench.log().into_iter();
    assert_eq!(
        log.filter(|entry| entry.operation == Operation::Token)
            .count(),
        2
    );
}
