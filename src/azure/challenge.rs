//! The `WWW-Authenticate` challenge of a 401: is it about the resource our tokens are for?
//!
//! What it names is only ever compared, never obeyed: whoever can answer for the vault's host must
//! not be able to choose for what, or from whom, a token is got. Only the claims that continuous
//! access evaluation demands are passed on, to the directory that is asked anyway.

#![forbid(unsafe_code)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The longest claims that are passed on, in base64.
const CLAIMS_MAX: usize = 4096;

/// Whether any challenge in `headers` asks for a token for something other than `resource`. One
/// that names nothing (Entra's claims challenge, an empty header) asks for nothing else.
pub(super) fn names_another(headers: &HeaderMap, resource: &str) -> bool {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    let texts = challenges.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(parameters)
        .filter(|(name, _)| {
            name.eq_ignore_ascii_case("resource") || name.eq_ignore_ascii_case("scope")
        })
        .any(|(_, asked)| !audience(&asked).eq_ignore_ascii_case(audience(resource)))
}

/// The claims, in JSON, that a challenge of continuous access evaluation demands of the next token.
/// They choose neither whom it is asked of nor what it is for. Source: Azure/azure-sdk-for-js#31140.
pub(super) fn claims(headers: &HeaderMap) -> Option<String> {
    let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
    let texts = challenges.filter_map(|value| value.to_str().ok());
    texts.map(claims_in).find_map(|claims| claims)
}

fn claims_in(challenge: &str) -> Option<String> {
    let named = |wanted: &str| {
        let mut all = parameters(challenge);
        let found = all.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value)
    };
    if named("error")? != "insufficient_claims" {
        return None;
    }
    let encoded = named("claims").filter(|text| text.len() <= CLAIMS_MAX)?;
    // Either alphabet, padded or not, is met.
    let plain = encoded.trim_end_matches('=');
    let plain = plain.replace('+', "-").replace('/', "_");
    let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(plain).ok()?).ok()?;
    let object: serde_json::Value = serde_json::from_str(&claims).ok()?;
    object.is_object().then_some(claims)
}

/// The audience in a resource or a scope: `https://vault.azure.net/.default` is for
/// `https://vault.azure.net`.
fn audience(text: &str) -> &str {
    let text = text.strip_suffix("/.default").unwrap_or(text);
    text.trim_end_matches('/')
}

/// The parameters `name=value` and `name="value"` of a challenge, in order; the scheme in front
/// (`Bearer`) is skipped, and so is what is not understood.
fn parameters(challenge: &str) -> impl Iterator<Item = (&str, String)> {
    let mut rest = challenge;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            let end = rest.find(['=', ' ', '\t', ','])?;
            let (name, tail) = rest.split_at(end);
            let Some(value) = tail.strip_prefix('=') else {
                rest = tail;
                continue;
            };
            let (value, tail) = match value.strip_prefix('"') {
                Some(quoted) => unquote(quoted),
                None => {
                    let end = value.find([',', ' ', '\t']).unwrap_or(value.len());
                    (value[..end].to_owned(), &value[end..])
                }
            };
            rest = tail;
            return Some((name, value));
        }
    })
}

/// The text up to the closing quote, its backslashes resolved, and what follows the quote.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (text, &quoted[at + 1..]),
            '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => text.push(character),
        }
    }
    (text, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VAULT: &str = "https://vault.azure.net";

    fn refused(challenge: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        names_another(&headers, VAULT)
    }

    #[test]
    fn a_challenge_for_our_resource_is_in_order_however_it_is_written() {
        for challenge in [
            r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net""#,
            r#"Bearer authorization_uri="https://login.windows.net/t" , scope="https://vault.azure.net/.default""#,
            r#"bearer RESOURCE="HTTPS://Vault.Azure.Net/""#,
            "Bearer resource=https://vault.azure.net",
            r#"Bearer realm="", error="insufficient_claims", claims="eyJ9""#,
            "Bearer",
            "",
        ] {
            assert!(!refused(challenge), "{challenge}");
        }
    }

    #[test]
    fn a_challenge_for_another_resource_is_refused_wherever_it_stands() {
        for challenge in [
            r#"Bearer authorization="https://x/t", resource="https://evil.example""#,
            r#"Bearer resource="https://vault.azure.net.evil.example""#,
            r#"Bearer resource="https://vault.azure.net", scope="https://graph.microsoft.com/.default""#,
            "Bearer resource=https://management.azure.com/,x=y",
            r#"Bearer resource="https://vault.azure.net\"x""#,
            r#"Bearer resource="""#,
            r#"Basic realm="a", Bearer resource="https://evil.example""#,
            r#"Bearer resource="https://evil.example"#,
        ] {
            assert!(refused(challenge), "{challenge}");
        }
    }

    #[test]
    fn a_name_inside_a_quoted_text_is_not_a_parameter() {
        assert!(!refused(
            r#"Bearer realm="resource=https://evil.example, x", a=b"#
        ));
    }

    #[test]
    fn a_second_header_is_read_too() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=x".parse().unwrap());
        headers.append(
            WWW_AUTHENTICATE,
            "Bearer resource=https://e".parse().unwrap(),
        );
        assert!(names_another(&headers, VAULT));
    }

    #[test]
    fn claims_are_read_of_a_challenge_that_demands_them_and_of_no_other() {
        let json = r#"{"access_token":{"nbf":{"essential":true,"value":"1726258122"}}}"#;
        let read = |error: &str, claims: &str| {
            claims_in(&format!(
                r#"Bearer realm="", authorization_uri="https://x", error="{error}", claims="{claims}""#
            ))
        };
        let encoded = base64::engine::general_purpose::STANDARD.encode(json);
        let demanded = "insufficient_claims";
        assert_eq!(read(demanded, &encoded).as_deref(), Some(json));
        let unpadded = URL_SAFE_NO_PAD.encode(json);
        assert_eq!(read(demanded, &unpadded).as_deref(), Some(json));
        assert_eq!(read("invalid_token", &encoded), None);
        for odd in ["", "!", "bnVsbA==", "e30", &"A".repeat(5000)] {
            let expected = (odd == "e30").then(|| "{}".to_owned());
            assert_eq!(read(demanded, odd), expected, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_challenge_makes_the_parser_panic_or_run_forever(text in "[ -~é]{0,80}") {
            prop_assert!(parameters(&text).count() <= text.len());
        }

        #[test]
        fn parameters_come_back_as_they_were_written(
            pairs in proptest::collection::vec(("[a-z]{1,8}", "[ -~]{0,20}"), 0..5)
        ) {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let written: Vec<_> =
                pairs.iter().map(|(name, text)| format!("{name}=\"{}\"", quote(text))).collect();
            let challenge = format!("Bearer {}", written.join(", "));
            let read: Vec<_> =
                parameters(&challenge).map(|(name, text)| (name.to_owned(), text)).collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
