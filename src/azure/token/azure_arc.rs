//! Azure Arc's agent, on machines outside Azure: it hands out tokens to whoever can read the file
//! that its challenge names.
//!
//! The file must be a key in the agent's own directory, or the agent's port could be used to read
//! any file. Source: protocol of the agent as azure-identity and MSAL speak it.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use url::Url;
use zeroize::Zeroizing;

use super::exchange::{self, Refused, SelectorNames, form, identity_hint, metadata_request};
use super::response::Granted;
use super::wanted::Wanted;
use crate::azure::http::{Answer, Http};
use crate::azure::tls::SetupError;
use crate::config::{IdentityEndpoint, IdentitySelector};
use crate::secrets::StoreError;

/// The agent's program, whose being there shows that the machine is Arc's.
pub(super) const AGENT: &str = "/opt/azcmagent/bin/himds";

const HOST: &str = "http://127.0.0.1:40342";
const PATH: &str = "/metadata/identity/oauth2/token";
const API_VERSION: &str = "2020-06-01";

/// Where the agent puts its keys.
const KEYS: &str = "/var/opt/azcmagent/tokens";

/// The group that may read them.
pub(super) const GROUP: &str = "himds";

/// The longest key, in bytes.
const KEY_MAX: u64 = 4096;

const SELECTORS: SelectorNames = SelectorNames {
    client_id: "client_id",
    object_id: "object_id",
    resource_id: "msi_res_id",
};

/// The agent's address, with the question in its query.
pub(super) struct AzureArc {
    pub(super) url: Url,
    keys: PathBuf,
    selector: Option<IdentitySelector>,
}

impl AzureArc {
    /// Asks for what is wanted.
    pub(super) fn new(wanted: &Wanted<'_>) -> Result<Self, SetupError> {
        let endpoint = wanted.endpoint_in("IDENTITY_ENDPOINT")?;
        let mut url = endpoint
            .unwrap_or_else(|| IdentityEndpoint::parse(HOST).expect("a loopback address is one"))
            .with_default_path(PATH);
        let mut parameters = vec![
            ("api-version", API_VERSION.to_owned()),
            ("resource", wanted.resource.to_owned()),
        ];
        parameters.extend(SELECTORS.parameter(wanted.selector.as_ref()));
        url.set_query(Some(&form(&parameters)));
        Ok(Self {
            url,
            keys: wanted.surroundings.place(KEYS),
            selector: wanted.selector.clone(),
        })
    }

    /// Asks once: for a challenge, and with its key for the token.
    pub(super) async fn ask(&self, http: &Http, deadline: Instant) -> Result<Granted, Refused> {
        let knock = metadata_request(Method::GET, self.url.clone());
        let challenge = exchange::send(http, knock, deadline).await?;
        if challenge.status != 401 {
            let refused = exchange::refused(&self.url, &challenge, &[]);
            return Err(identity_hint(refused, self.selector.is_some()));
        }
        let key = self.key(&challenge)?;
        let mut request = metadata_request(Method::GET, self.url.clone());
        request.headers_mut().insert(AUTHORIZATION, key);
        let asked = exchange::ask(http, request, &[], deadline).await;
        let granted = asked.map_err(|refused| identity_hint(refused, self.selector.is_some()))?;
        // An old agent knows no other identity than the machine's, and does not say so.
        if let Some(selector) = &self.selector
            && !granted.echo.is(selector)
        {
            let reason = "the agent gave a token for another identity than the one named";
            let hint = "update the Azure Connected Machine agent, or leave the identity out to \
                        use the machine's own";
            return Err(exchange::own_refusal(&self.url, reason, hint).into());
        }
        Ok(granted)
    }

    /// The header that shows we can read the key of the challenge.
    fn key(&self, challenge: &Answer) -> Result<HeaderValue, StoreError> {
        let refuse = |reason: &str, hint: &str| exchange::own_refusal(&self.url, reason, hint);
        let suspicious = "the answer is not that of Azure Arc's agent: check the endpoint";
        let Some(path) = key_path(&challenge.headers, &self.keys) else {
            return Err(refuse(
                "the challenge names no key of the agent's",
                suspicious,
            ));
        };
        let key = read_key(&path).map_err(|error| {
            let reason = format!("the agent's key cannot be read: {error}");
            let hint = "who mounts must be in the group himds (usermod -aG himds USER, and log in \
                        anew) or be root, whose worker keeps that group";
            refuse(&reason, hint)
        })?;
        let mut text = Zeroizing::new(b"Basic ".to_vec());
        text.extend_from_slice(key.trim_ascii());
        let mut header = HeaderValue::from_bytes(&text)
            .map_err(|_| refuse("the agent's key is not text", suspicious))?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// The file that a challenge `Basic realm=PATH` names, if it is a key in `keys` itself.
pub(in crate::azure) fn key_path(headers: &HeaderMap, keys: &Path) -> Option<PathBuf> {
    let challenge = headers.get(WWW_AUTHENTICATE)?.to_str().ok()?;
    let (scheme, realm) = challenge.trim().split_once(' ')?;
    let (name, path) = realm.trim().split_once('=')?;
    if !scheme.eq_ignore_ascii_case("basic") || !name.eq_ignore_ascii_case("realm") {
        return None;
    }
    let path = path.trim_matches('"');
    let file = path.strip_prefix(keys.to_str()?)?.strip_prefix('/')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let named_well = file.len() > ".key".len() && file.bytes().all(plain);
    (named_well && file.ends_with(".key")).then(|| keys.join(file))
}

/// Reads a key; not through a symbolic link, and no more than a key can hold.
fn read_key(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let about = file.metadata()?;
    if !about.is_file() || about.len() > KEY_MAX {
        return Err(std::io::Error::other("it is no file of at most 4096 bytes"));
    }
    let mut key = Zeroizing::new(Vec::with_capacity(4096));
    file.take(KEY_MAX).read_to_end(&mut key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(challenge: &str) -> Option<PathBuf> {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().ok()?);
        key_path(&headers, Path::new(KEYS))
    }

    #[test]
    fn a_challenge_names_a_key_in_the_agents_directory() {
        let path = "/var/opt/azcmagent/tokens/12ab-cd.key";
        for challenge in [
            format!("Basic realm={path}"),
            format!("basic Realm=\"{path}\""),
            format!(" Basic  realm={path} "),
        ] {
            assert_eq!(named(&challenge), Some(PathBuf::from(path)), "{challenge}");
        }
    }

    #[test]
    fn a_challenge_that_names_anything_else_is_refused() {
        for realm in [
            "/etc/shadow",
            "/etc/shadow.key",
            "/var/opt/azcmagent/tokens/../../../../etc/ssl/private/a.key",
            "/var/opt/azcmagent/tokens/sub/a.key",
            "/var/opt/azcmagent/tokens//a.key",
            "/var/opt/azcmagent/tokens/a.txt",
            "/var/opt/azcmagent/tokens/.key",
            "/var/opt/azcmagent/tokens/",
            "/var/opt/azcmagent/tokens2/a.key",
            "var/opt/azcmagent/tokens/a.key",
            "",
        ] {
            assert_eq!(named(&format!("Basic realm={realm}")), None, "{realm}");
        }
        let key = "/var/opt/azcmagent/tokens/a.key";
        assert_eq!(named(&format!("Bearer realm={key}")), None);
        assert_eq!(named("Basic"), None);
    }

    #[test]
    fn a_key_is_read_only_if_it_is_a_short_regular_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("good"), "key").unwrap();
        std::fs::write(at("long"), vec![b'x'; 4097]).unwrap();
        std::os::unix::fs::symlink(at("good"), at("link")).unwrap();
        assert_eq!(**read_key(&at("good")).unwrap(), *b"key");
        for bad in ["long", "link", ".", "none"] {
            assert!(read_key(&at(bad)).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_challenge_says_the_file_is_directly_in_the_agents_directory(
            text in "(Basic realm=)?(/var/opt/azcmagent/tokens)?[ -~]{0,30}(\\.key)?"
        ) {
            if let Some(path) = named(&text) {
                prop_assert_eq!(path.parent(), Some(Path::new(KEYS)));
                prop_assert_eq!(path.extension().and_then(|text| text.to_str()), Some("key"));
            }
        }
    }
}
