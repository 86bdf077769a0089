//! The secret bundle: the JSON by which Key Vault says what a secret is, and takes a new one.
//!
//! Pure functions over bytes. A bundle that is not about the secret asked for is malformed: it
//! must never be shown under another's name, whatever stands between us and the vault.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;
use crate::secrets::{ENCODING_TAG, NewSecret, Properties, SecretName, SecretVersion, Stored};

/// A bundle as it came, its value still as stored.
#[derive(Debug)]
pub(super) struct Bundle {
    /// The value as stored; `None` if the answer had none.
    pub stored: Option<SecretBytes>,
    /// Everything but the value.
    pub properties: Properties,
}

/// The bytes are no bundle, or not one of the secret asked for. It says no more, since the
/// parser's own words may quote the value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotABundle;

impl Bundle {
    /// Reads the answer to a request for `name`, and for `version` if one was asked for.
    pub(super) fn parse(
        body: &[u8],
        name: &SecretName,
        version: Option<&SecretVersion>,
    ) -> Result<Self, NotABundle> {
        let wire: Wire = serde_json::from_slice(body).map_err(|_| NotABundle)?;
        let found = identify(&wire.id, name).ok_or(NotABundle)?;
        if version.is_some_and(|version| *version != found) {
            return Err(NotABundle);
        }
        let attributes = wire.attributes.unwrap_or_default();
        let tags = wire.tags.unwrap_or_default().into_iter();
        Ok(Self {
            stored: wire
                .value
                .map(|mut value| SecretBytes::new(std::mem::take(&mut *value).into_bytes())),
            properties: Properties {
                version: found,
                enabled: attributes.enabled.unwrap_or(true),
                created: attributes.created,
                updated: attributes.updated,
                not_before: attributes.nbf,
                expires: attributes.exp,
                content_type: wire.content_type,
                tags: tags
                    .map(|(tag, text)| (tag, text.unwrap_or_default()))
                    .collect(),
                managed: wire.managed.unwrap_or(false) || wire.kid.is_some(),
            },
        })
    }

    /// What the tag `file-encoding` says.
    pub(super) fn encoding(&self) -> Option<&str> {
        self.properties.tags.get(ENCODING_TAG).map(String::as_str)
    }
}

/// The body that sets `new`, whose value is `stored`.
pub(super) fn body_to_set(new: &NewSecret, stored: &Stored) -> Zeroizing<Vec<u8>> {
    let own = new.tags.iter().filter(|(tag, _)| *tag != ENCODING_TAG);
    let mut tags: BTreeMap<&str, &str> = own.map(|(tag, text)| (&**tag, &**text)).collect();
    if let Some(encoding) = stored.encoding {
        tags.insert(ENCODING_TAG, encoding);
    }
    let body = WireNew {
        value: &stored.text,
        content_type: new.content_type.as_deref(),
        attributes: new.expires.map(|exp| WireNewAttributes { exp }),
        tags,
    };
    // Room for the value with every character escaped, so that the buffer is not copied about.
    let mut bytes = Zeroizing::new(Vec::with_capacity(stored.text.len() * 6 + 16_384));
    serde_json::to_writer(&mut *bytes, &body)
        .expect("texts and maps of texts are JSON, and a vector takes all bytes");
    bytes
}

/// The version in an identifier `https://HOST/secrets/NAME/VERSION`, if it is one of `name`. The
/// host is not compared: a vault answers under several.
fn identify(id: &str, name: &SecretName) -> Option<SecretVersion> {
    let mut parts = id.rsplit('/');
    let version = SecretVersion::parse(parts.next()?)?;
    let named = SecretName::parse(parts.next()?).ok()?;
    (named == *name && parts.next()? == "secrets").then_some(version)
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    value: Option<Zeroizing<String>>,
    #[serde(rename = "contentType")]
    content_type: Option<String>,
    attributes: Option<Attributes>,
    tags: Option<BTreeMap<String, Option<String>>>,
    kid: Option<String>,
    managed: Option<bool>,
}

#[derive(Default, Deserialize)]
struct Attributes {
    enabled: Option<bool>,
    nbf: Option<i64>,
    exp: Option<i64>,
    created: Option<i64>,
    updated: Option<i64>,
}

#[derive(Serialize)]
struct WireNew<'a> {
    value: &'a str,
    #[serde(rename = "contentType", skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<WireNewAttributes>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct WireNewAttributes {
    exp: i64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secrets;

    /// From the service's documentation, its fields in full.
    const DOCUMENTED: &str = r#"{"value":"mysecretvalue",
        "id":"https://myvault.vault.azure.net/secrets/crpsecret/03bcccc7c8cf4546a0e3e21e52560441",
        "contentType":"text/plain",
        "attributes":{"enabled":true,"nbf":1,"exp":2,"created":1493938459,"updated":1493938460,
            "recoveryLevel":"Recoverable+Purgeable","recoverableDays":90},
        "tags":{"purpose":"test","odd":null},"kid":"https://k","managed":true,
        "previousVersion":"x"}"#;

    const VERSION: &str = "03bcccc7c8cf4546a0e3e21e52560441";

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    fn bundle_with(id: &str, rest: &str) -> String {
        format!(r#"{{"id":"{id}"{rest}}}"#)
    }

    fn new_secret(value: &[u8], tags: &[(&str, &str)]) -> NewSecret {
        let pair = |(tag, text): &(&str, &str)| ((*tag).to_owned(), (*text).to_owned());
        NewSecret {
            value: SecretBytes::new(value.to_vec()),
            content_type: None,
            tags: tags.iter().map(pair).collect(),
            expires: None,
            previous: None,
        }
    }

    #[test]
    fn every_field_of_a_documented_bundle_is_read() {
        let bundle = Bundle::parse(DOCUMENTED.as_bytes(), &name("CRPsecret"), None).unwrap();
        assert_eq!(bundle.stored.as_ref().unwrap().expose(), b"mysecretvalue");
        assert_eq!(bundle.encoding(), None);
        let tags = [("odd", ""), ("purpose", "test")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(
            bundle.properties,
            Properties {
                version: SecretVersion::parse(VERSION).unwrap(),
                enabled: true,
                created: Some(1_493_938_459),
                updated: Some(1_493_938_460),
                not_before: Some(1),
                expires: Some(2),
                content_type: Some("text/plain".to_owned()),
                tags: tags.into(),
                managed: true,
            }
        );
    }

    #[test]
    fn only_the_identifier_is_indispensable() {
        let text = bundle_with(&format!("https://v/secrets/a/{VERSION}"), "");
        let bundle = Bundle::parse(text.as_bytes(), &name("a"), None).unwrap();
        assert!(bundle.stored.is_none());
        assert!(bundle.properties.enabled);
        assert!(!bundle.properties.managed);
        assert_eq!(
            Bundle::parse(b"{}", &name("a"), None).err(),
            Some(NotABundle)
        );
    }

    #[test]
    fn a_bundle_of_another_secret_or_version_is_malformed() {
        let other = "13bcccc7c8cf4546a0e3e21e52560441";
        let asked = SecretVersion::parse(VERSION).unwrap();
        for (id, good) in [
            (format!("https://v/secrets/a/{VERSION}"), true),
            (format!("https://v:8443/secrets/A/{VERSION}"), true),
            (format!("https://v/secrets/a/{other}"), false),
            (format!("https://v/secrets/b/{VERSION}"), false),
            (format!("https://v/keys/a/{VERSION}"), false),
            ("https://v/secrets/a".to_owned(), false),
            ("https://v/secrets/a/".to_owned(), false),
            (VERSION.to_owned(), false),
        ] {
            let text = bundle_with(&id, r#","value":"v""#);
            let parsed = Bundle::parse(text.as_bytes(), &name("a"), Some(&asked));
            assert_eq!(parsed.is_ok(), good, "{id}");
        }
    }

    #[test]
    fn a_bundle_prints_without_its_value() {
        let bundle = Bundle::parse(DOCUMENTED.as_bytes(), &name("crpsecret"), None).unwrap();
        assert!(!format!("{bundle:?}").contains("mysecretvalue"));
    }

    #[test]
    fn a_plain_set_says_the_value_and_nothing_else() {
        let new = new_secret(b"Helloworld", &[]);
        let body = body_to_set(&new, &secrets::encode(new.value.expose()));
        assert_eq!(&body[..], br#"{"value":"Helloworld"}"#);
    }

    #[test]
    fn an_expiry_is_an_attribute_in_seconds() {
        let mut new = new_secret(b"a", &[]);
        new.expires = Some(1_800_000_000);
        let body = body_to_set(&new, &secrets::encode(new.value.expose()));
        assert_eq!(
            &body[..],
            br#"{"value":"a","attributes":{"exp":1800000000}}"#
        );
    }

    #[test]
    fn the_encoding_tag_follows_from_the_value_alone() {
        let tags = [(ENCODING_TAG, "hex"), ("team", "blue")];
        let text = new_secret(b"text", &tags);
        let body = body_to_set(&text, &secrets::encode(text.value.expose()));
        assert_eq!(&body[..], br#"{"value":"text","tags":{"team":"blue"}}"#);

        let mut binary = new_secret(&[0xff], &tags);
        binary.content_type = Some("application/x".to_owned());
        let body = body_to_set(&binary, &secrets::encode(binary.value.expose()));
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"value":"/w==\n","contentType":"application/x","tags":{"file-encoding":"base64","team":"blue"}}"#
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Bundle::parse(&bytes, &name("a"), None);
        }

        #[test]
        fn a_documented_bundle_cut_or_changed_anywhere_does_not_panic(
            at in 0..DOCUMENTED.len(), byte in any::<u8>()
        ) {
            let mut bytes = DOCUMENTED.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = Bundle::parse(&bytes, &name("crpsecret"), None);
            prop_assert!(Bundle::parse(&DOCUMENTED.as_bytes()[..at], &name("crpsecret"), None).is_err());
        }

        #[test]
        fn what_is_set_is_what_a_bundle_gives_back(value in proptest::collection::vec(any::<u8>(), 0..300)) {
            let new = new_secret(&value, &[]);
            let body = body_to_set(&new, &secrets::encode(&value));
            let mut json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            json["id"] = format!("https://v/secrets/a/{VERSION}").into();
            let bundle = Bundle::parse(json.to_string().as_bytes(), &name("a"), None).unwrap();
            let encoding = bundle.encoding().map(str::to_owned);
            let back = secrets::decode(bundle.stored.unwrap(), encoding.as_deref()).unwrap();
            prop_assert_eq!(back.expose(), &value[..]);
        }
    }
}
