//! The proxy to the vault: the one that was named, or the environment's, read at launch: the
//! worker keeps only what is in `config::environment`.

#![forbid(unsafe_code)]

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use super::error::Error;
use crate::config::VaultUrl;

/// What the environment says about proxies.
#[derive(Debug, Default)]
pub(super) struct ProxyVariables {
    /// `HTTPS_PROXY`, or `https_proxy`.
    pub https_proxy: Option<String>,
    /// `NO_PROXY`, or `no_proxy`.
    pub no_proxy: Option<String>,
}

/// The proxy for `vault`: `option` if there is one, else the environment's, unless `NO_PROXY`
/// names the vault's host.
pub(super) fn proxy(
    option: Option<&str>,
    environment: &ProxyVariables,
    vault: &VaultUrl,
) -> Result<Option<Url>, Error> {
    if let Some(text) = option {
        return parse(text, "--proxy").map(Some);
    }
    let Some(text) = environment
        .https_proxy
        .as_deref()
        .filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    let proxy = parse(text, "HTTPS_PROXY")?;
    let no_proxy = environment.no_proxy.clone().unwrap_or_default();
    let matcher = Matcher::builder()
        .https(text.to_owned())
        .no(no_proxy)
        .build();
    let intercepted = vault
        .url()
        .as_str()
        .parse()
        .is_ok_and(|destination| matcher.intercept(&destination).is_some());
    Ok(intercepted.then_some(proxy))
}

fn parse(text: &str, origin: &'static str) -> Result<Url, Error> {
    let invalid = |reason| Error::Proxy { origin, reason };
    // curl and others take `host:port` for an http proxy.
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("http://{text}"))
    };
    let url = url.map_err(|_| invalid("is not a URL such as http://proxy:3128"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("is neither http:// nor https://"));
    }
    // A mount keeps no credential: its configuration may be printed and handed on.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("holds a user or password, which are not supported"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(option: Option<&str>, https_proxy: &str, no_proxy: &str) -> Option<String> {
        let environment = ProxyVariables {
            https_proxy: Some(https_proxy.to_owned()),
            no_proxy: Some(no_proxy.to_owned()),
        };
        let vault = VaultUrl::parse("myvault").unwrap();
        proxy(option, &environment, &vault)
            .unwrap()
            .map(String::from)
    }

    #[test]
    fn the_environments_proxy_serves_unless_another_is_named() {
        let named = Some("http://named:1");
        assert_eq!(
            chosen(named, "http://env:2", "*").as_deref(),
            Some("http://named:1/")
        );
        assert_eq!(
            chosen(None, "http://env:2", "").as_deref(),
            Some("http://env:2/")
        );
        assert_eq!(chosen(None, "env:2", "").as_deref(), Some("http://env:2/"));
        assert_eq!(chosen(None, "", ""), None);
    }

    #[test]
    fn no_proxy_names_hosts_domains_or_everything() {
        for no_proxy in [
            "*",
            "myvault.vault.azure.net",
            "a.b, .vault.azure.net",
            "azure.net",
        ] {
            assert_eq!(chosen(None, "http://env:2", no_proxy), None, "{no_proxy}");
        }
        for no_proxy in ["other.vault.azure.net", "10.0.0.0/8", "t"] {
            assert!(
                chosen(None, "http://env:2", no_proxy).is_some(),
                "{no_proxy}"
            );
        }
    }

    #[test]
    fn credentials_and_other_schemes_are_refused_without_being_repeated() {
        let vault = VaultUrl::parse("myvault").unwrap();
        for text in [
            "http://user:hunter2@proxy:1",
            "socks5://proxy:1",
            "http://",
            "",
        ] {
            let error = proxy(Some(text), &ProxyVariables::default(), &vault).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
