//! From arguments to a [`Config`]: every value checked, every default filled in, every name
//! looked up. Reads the environment and the file system at launch, never the network; whether the
//! mountpoint may be mounted on is the keeper's business.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};

use super::arguments::{ConnectionArguments, FileArguments, Settings};
use super::ca_certificates;
use super::error::Error;
use super::ownership::{ownership, worker_user};
use super::proxy::{ProxyVariables, proxy};
use super::storage::storage;
use crate::azure::check_identity;
use crate::config::{
    Config, Freshness, IdentityConfig, IdentityEndpoint, IdentityKind, IdentitySelector, LogConfig,
    OnSet, VaultUrl, is_guid,
};
use crate::keeper::MountError;
use crate::secrets::TAGS_MAX;

/// Microsoft's SDKs read IMDS's address from here.
const IMDS_VARIABLE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// What a launch finds around it.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// What the environment says about proxies.
    pub proxies: ProxyVariables,
    /// Where the environment puts IMDS.
    pub imds: Option<String>,
    /// Whose effective user id mounts.
    pub uid: u32,
    /// And group id.
    pub gid: u32,
    /// The working directory, without symbolic links.
    pub directory: PathBuf,
}

impl Surroundings {
    /// Looks around.
    pub(super) fn look() -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            proxies: ProxyVariables {
                https_proxy: variable("HTTPS_PROXY").or_else(|| variable("https_proxy")),
                no_proxy: variable("NO_PROXY").or_else(|| variable("no_proxy")),
            },
            imds: variable(IMDS_VARIABLE),
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            // Only compared with: an unreachable one equals nothing.
            directory: env::current_dir().unwrap_or_default(),
        }
    }
}

/// Builds the configuration of a mount of `vault` on `mountpoint`, which has been looked up.
pub(super) fn config(
    vault: &str,
    mountpoint: PathBuf,
    settings: &Settings,
    security_contexts: Vec<String>,
    surroundings: &Surroundings,
) -> Result<Config, Error> {
    let source = vault_as_written(vault, &surroundings.directory);
    let vault = VaultUrl::parse(source).map_err(Error::Vault)?;
    let Settings {
        connection,
        files,
        process,
    } = settings;
    let resource = resource(connection.resource.as_deref(), &vault)?;
    let storage = storage(
        &files.storage_account,
        connection.arm_endpoint.as_deref(),
        &resource,
    )?;
    let mut config = Config {
        source: source.to_owned(),
        mountpoint,
        identity: identity(connection, surroundings)?,
        resource,
        api_version: api_version(&connection.api_version)?,
        ca_certificates: ca_certificates::read(&connection.ca_cert)?,
        timeout: connection.timeout,
        keep_alive: connection.keep_alive,
        freshness: Freshness {
            ttl: connection.cache_ttl,
            stale_if_error: connection.stale_if_error,
        },
        proxy: proxy(connection.proxy.as_deref(), &surroundings.proxies, &vault)?,
        ownership: ownership(files, surroundings.uid, surroundings.gid)?,
        allow_other: files.allow_other,
        read_only: files.read_only,
        set_check: !files.no_set_check,
        trim_newline: files.trim_newline,
        on_set: on_set(files)?,
        storage,
        user: worker_user(process.user.as_deref(), surroundings.uid)?,
        group: None,
        security_contexts,
        log: LogConfig {
            level: process.log_level,
            format: process.log_format,
        },
        vault,
    };
    config.group = check_identity(&config)?.map(str::to_owned);
    Ok(config)
}

/// What is put on every set. Of two tags of one name the later counts.
fn on_set(files: &FileArguments) -> Result<OnSet, Error> {
    let tags: BTreeMap<_, _> = files.tag.iter().cloned().collect();
    if tags.len() > TAGS_MAX {
        let (option, problem) = (
            "--tag",
            "names more than 15 tags, and a vault takes no more",
        );
        return Err(Error::Value { option, problem });
    }
    Ok(OnSet {
        expires_in: files.expires_in,
        content_type: files.content_type.clone(),
        tags,
    })
}

/// The mountpoint, absolute and without symbolic links. A mountpoint whose file system has died
/// answers nothing: then its parent is asked, and the rest left to the keeper, who clears it away.
pub(super) fn mountpoint(path: &Path) -> Result<PathBuf, MountError> {
    let error = match path.canonicalize() {
        Ok(mountpoint) => return Ok(mountpoint),
        Err(error) => error,
    };
    let dead = error.raw_os_error() == Some(nix::libc::ENOTCONN);
    if dead && let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        let parent = if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        };
        if let Ok(parent) = parent.canonicalize() {
            return Ok(parent.join(name));
        }
    }
    Err(match error.kind() {
        io::ErrorKind::NotFound => MountError::MountpointMissing(path.into()),
        io::ErrorKind::NotADirectory => MountError::NotADirectory(path.into()),
        _ => MountError::MountpointUnreadable {
            path: path.into(),
            reason: error.to_string(),
        },
    })
}

/// The vault as the user wrote it. libmount makes a source into an absolute path if it happens to
/// name a file in its working directory: `secrets /secrets keyvaultfs` in fstab arrives as
/// `/secrets /secrets` at boot. Taken back, or `mount -a` would mount it a second time.
fn vault_as_written<'a>(vault: &'a str, directory: &Path) -> &'a str {
    let path = Path::new(vault);
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) if path.is_absolute() && path.parent() == Some(directory) && path.exists() => {
            name
        }
        _ => vault,
    }
}

fn identity(
    connection: &ConnectionArguments,
    surroundings: &Surroundings,
) -> Result<IdentityConfig, Error> {
    let kind = connection.identity;
    let (origin, endpoint) = match (&connection.identity_endpoint, kind) {
        (Some(text), _) => ("--identity-endpoint", Some(text)),
        (None, IdentityKind::Imds) => (IMDS_VARIABLE, surroundings.imds.as_ref()),
        // Their variables are read by the worker; `auto` must not take this one for an option.
        (None, _) => ("", None),
    };
    let endpoint = endpoint
        .map(|text| IdentityEndpoint::parse(text))
        .transpose()
        .map_err(|source| Error::IdentityEndpoint { origin, source })?;
    Ok(IdentityConfig {
        kind,
        endpoint,
        selector: selector(connection)?,
        tenant: connection.tenant_id.clone(),
        client_secret_file: client_secret_file(connection, &surroundings.directory)?,
    })
}

/// The file with an application's secret, absolute: the worker has another working directory.
fn client_secret_file(
    connection: &ConnectionArguments,
    directory: &Path,
) -> Result<Option<PathBuf>, Error> {
    let Some(path) = &connection.client_secret_file else {
        return Ok(None);
    };
    if connection.identity != IdentityKind::ClientSecret {
        return Err(Error::Value {
            option: "--client-secret-file",
            problem: "is for --identity client-secret alone; give both or neither",
        });
    }
    Ok(Some(directory.join(path)))
}

fn selector(connection: &ConnectionArguments) -> Result<Option<IdentitySelector>, Error> {
    let options = [
        ("--client-id", &connection.client_id),
        ("--object-id", &connection.object_id),
        ("--identity-resource-id", &connection.identity_resource_id),
    ];
    let mut named = Vec::new();
    for (option, id) in options {
        let Some(id) = id else {
            continue;
        };
        if id.is_empty() {
            let problem = "is empty; give the identity's id or leave the option out";
            return Err(Error::Value { option, problem });
        }
        named.push((option, id.clone()));
    }
    if named.len() > 1 {
        let options: Vec<_> = named.iter().map(|(option, _)| *option).collect();
        return Err(Error::TwoIdentities(options.join(" and ")));
    }
    let guid = |option, id: String, property| match is_guid(&id) {
        true => Ok(id),
        false => Err(Error::IdentityId {
            option,
            id,
            property,
        }),
    };
    named
        .pop()
        .map(|(option, id)| {
            Ok(match option {
                "--client-id" => IdentitySelector::ClientId(guid(option, id, "clientId")?),
                "--object-id" => IdentitySelector::ObjectId(guid(option, id, "principalId")?),
                _ => IdentitySelector::ResourceId(id),
            })
        })
        .transpose()
}

/// The audience, exactly as given: one with a slash at its end is another one to Azure.
fn resource(option: Option<&str>, vault: &VaultUrl) -> Result<String, Error> {
    let Some(resource) = option else {
        return vault
            .resource()
            .ok_or_else(|| Error::UnknownCloud(vault.host().to_owned()));
    };
    let rest = resource.strip_prefix("https://").unwrap_or_default();
    if rest.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "is not an https:// URL such as https://vault.azure.net";
        return Err(Error::Value {
            option: "--resource",
            problem,
        });
    }
    Ok(resource.to_owned())
}

fn api_version(text: &str) -> Result<String, Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if text.is_empty() || !text.bytes().all(allowed) {
        let problem = "is not a version such as 7.6 or 2025-07-01";
        return Err(Error::Value {
            option: "--api-version",
            problem,
        });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::arguments::MountArguments;

    const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    fn built_in(surroundings: &Surroundings, line: &str) -> Result<Config, Error> {
        let words = ["keyvaultfs", "myvault", "/"]
            .into_iter()
            .chain(line.split_whitespace());
        let arguments = MountArguments::try_parse_from(words).unwrap();
        let mountpoint = arguments.mountpoint;
        config(
            &arguments.vault,
            mountpoint,
            &arguments.settings,
            Vec::new(),
            surroundings,
        )
    }

    fn built(line: &str) -> Result<Config, Error> {
        built_in(
            &Surroundings {
                uid: 1000,
                gid: 1001,
                ..Surroundings::default()
            },
            line,
        )
    }

    fn refused(line: &str) -> String {
        built(line).unwrap_err().to_string()
    }

    #[test]
    fn the_environments_imds_serves_the_imds_kind_alone() {
        let surroundings = Surroundings {
            imds: Some("http://127.0.0.1:1".to_owned()),
            uid: 1000,
            ..Surroundings::default()
        };
        let endpoint = |line| {
            let endpoint = built_in(&surroundings, line).unwrap().identity.endpoint;
            endpoint.map(String::from)
        };
        assert_eq!(endpoint(""), None);
        assert_eq!(
            endpoint("--identity imds").as_deref(),
            Some("http://127.0.0.1:1/")
        );
        assert_eq!(endpoint("--identity vm-extension"), None);
        assert_eq!(
            endpoint("--identity-endpoint http://127.0.0.1:2/x").as_deref(),
            Some("http://127.0.0.1:2/x")
        );
    }

    #[test]
    fn at_most_one_identity_is_named() {
        let identity = |line: &str| built(line).unwrap().identity.selector;
        assert_eq!(identity(""), None);
        assert_eq!(
            identity(&format!("--object-id {ID}")),
            Some(IdentitySelector::ObjectId(ID.to_owned()))
        );
        assert_eq!(
            refused("--client-id c --identity-resource-id /r"),
            "--client-id and --identity-resource-id both say which identity is meant; give one of \
             them"
        );
        assert!(refused("--client-id=").starts_with("--client-id is empty"));
    }

    #[test]
    fn a_client_or_object_id_is_a_guid() {
        for option in ["--client-id", "--object-id"] {
            let upper = ID.to_ascii_uppercase();
            assert!(built(&format!("{option} {upper}")).is_ok());
            for bad in [&ID[1..], &format!("{ID}0"), &ID.replace('-', "0"), "myid"] {
                let text = refused(&format!("{option} {bad}"));
                assert!(text.starts_with(&format!("{option} \"{bad}\"")), "{text}");
            }
        }
    }

    #[test]
    fn the_later_of_two_values_counts() {
        let line = format!("--client-id a --client-id {ID}");
        let identity = built(&line).unwrap().identity;
        let expected = IdentitySelector::ClientId(ID.to_owned());
        assert_eq!(identity.selector, Some(expected));
        assert!(built("--read-only --read-only").unwrap().read_only);
    }

    #[test]
    fn what_is_put_on_every_set_is_what_was_said_last() {
        let on_set =
            built("--expires-in 24h --tag a=1 --tag b=2 --tag a=3 --content-type x").unwrap();
        assert_eq!(
            on_set.on_set,
            OnSet {
                expires_in: Some(std::time::Duration::from_secs(86_400)),
                content_type: Some("x".to_owned()),
                tags: [("a", "3"), ("b", "2")]
                    .map(|(a, b)| (a.into(), b.into()))
                    .into(),
            }
        );
        let many: String = (0..16).map(|tag| format!(" --tag t{tag}=")).collect();
        assert!(refused(&many).contains("--tag"));
    }

    #[test]
    fn no_token_goes_to_a_vault_of_no_known_cloud_on_a_guess() {
        let resource =
            |vault: &str, option: Option<&str>| resource(option, &VaultUrl::parse(vault).unwrap());
        assert_eq!(
            resource("myvault", None).unwrap(),
            "https://vault.azure.net"
        );
        assert!(matches!(
            resource("localhost:1", None),
            Err(Error::UnknownCloud(host)) if host == "localhost"
        ));
        let given = Some("https://vault.example/");
        assert_eq!(
            resource("localhost:1", given).unwrap(),
            "https://vault.example/"
        );
        for wrong in ["", "https://", "vault.azure.net", "https://a b", "http://x"] {
            assert!(resource("myvault", Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_vault_that_libmount_took_for_a_file_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().canonicalize().unwrap();
        let file = directory.join("myvault");
        let path = file.to_str().unwrap();
        assert_eq!(vault_as_written(path, &directory), path);
        std::fs::write(&file, "").unwrap();
        assert_eq!(vault_as_written(path, &directory), "myvault");
        assert_eq!(vault_as_written(path, Path::new("/")), path);
        assert_eq!(vault_as_written("myvault", &directory), "myvault");
    }

    #[test]
    fn the_mountpoint_is_absolute_and_without_links() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().canonicalize().unwrap();
        let link = directory.join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        assert_eq!(mountpoint(&link).unwrap(), directory);
        assert!(matches!(
            mountpoint(&directory.join("missing")),
            Err(MountError::MountpointMissing(_))
        ));
        let file = directory.join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(
            mountpoint(&file.join("below")),
            Err(MountError::NotADirectory(_))
        ));
    }
}
