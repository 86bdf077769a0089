//! What a token endpoint answers, in every shape that Azure's have: numbers as texts, texts as
//! dates, one expiry or two.
//!
//! Pure functions over bytes. How long a token lives is worked out against the service's own
//! clock where it sends one, so that a machine whose clock is an hour off still works.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::{IdentitySelector, is_guid};
use crate::secret_bytes::SecretBytes;

/// The longest that a token is taken to live; the longest-lived of Azure's live 28 hours. What says
/// more has mistaken its units.
pub(in crate::azure) const LIFETIME_MAX: Duration = Duration::from_secs(7 * 86_400);

/// A token as it was handed out.
#[derive(Debug)]
pub(in crate::azure) struct Granted {
    /// The token itself.
    pub access_token: SecretBytes,
    /// How long it lives from now, at most [`LIFETIME_MAX`]; zero if it has expired by what the
    /// answer says.
    pub lifetime: Duration,
    /// Which identity the service says it is for.
    pub echo: Echo,
}

/// An identity as an answer names it, by whichever of its ids.
#[derive(Debug, Default)]
pub(in crate::azure) struct Echo {
    client_id: Option<String>,
    object_id: Option<String>,
    resource_id: Option<String>,
}

impl Echo {
    /// Whether it is the identity that was asked for. Ids compare without case.
    pub(in crate::azure) fn is(&self, selector: &IdentitySelector) -> bool {
        let (named, wanted) = match selector {
            IdentitySelector::ClientId(id) => (&self.client_id, id),
            IdentitySelector::ObjectId(id) => (&self.object_id, id),
            IdentitySelector::ResourceId(id) => (&self.resource_id, id),
        };
        named
            .as_ref()
            .is_some_and(|id| id.eq_ignore_ascii_case(wanted))
    }
}

/// The bytes hold no usable token. It says no more, since the parser's own words may quote one.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::azure) struct NotAToken;

impl Granted {
    /// Reads a 200's body. `service_clock` is the answer's `Date`, `now` is this machine's time.
    pub(in crate::azure) fn parse(
        body: &[u8],
        service_clock: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<Self, NotAToken> {
        let wire: Wire = serde_json::from_slice(body).map_err(|_| NotAToken)?;
        Self::from_wire(wire, service_clock, now)
    }

    /// Reads what `az account get-access-token` prints. `expiresOn` is in local time, which is
    /// made to be UTC.
    pub(in crate::azure) fn parse_az(body: &[u8], now: SystemTime) -> Result<Self, NotAToken> {
        let az: WireAz = serde_json::from_slice(body).map_err(|_| NotAToken)?;
        let wire = Wire {
            access_token: az.access_token,
            expires_on: az.expires_on.or(az.expires_on_local),
            ..Wire::default()
        };
        Self::from_wire(wire, None, now)
    }

    fn from_wire(
        wire: Wire,
        service_clock: Option<SystemTime>,
        now: SystemTime,
    ) -> Result<Self, NotAToken> {
        let mut token = wire.access_token;
        // What a header cannot carry is no token.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotAToken);
        }
        let expires_on = wire.expires_on.as_ref().and_then(Moment::absolute);
        let expires_in = wire.expires_in.as_ref().and_then(Moment::seconds);
        let expires_in = expires_in.map(|seconds| Duration::from_secs(seconds.unsigned_abs()));
        let lifetime = match (expires_on, service_clock, expires_in) {
            (Some(on), Some(clock), _) => since(on, clock),
            // Without the service's clock ours may be wrong; then the relative time is better.
            (Some(on), None, relative) => match since(on, now) {
                Duration::ZERO => relative.unwrap_or_default(),
                lifetime => lifetime,
            },
            (None, _, Some(relative)) => relative,
            (None, _, None) => return Err(NotAToken),
        };
        Ok(Self {
            access_token: SecretBytes::new(std::mem::take(&mut *token).into_bytes()),
            lifetime: lifetime.min(LIFETIME_MAX),
            echo: Echo {
                client_id: wire.client_id,
                object_id: wire.object_id,
                // Azure Arc writes the first, App Service the second.
                resource_id: wire.msi_res_id.or(wire.mi_res_id),
            },
        })
    }
}

/// What a token says of the identity it is for: not verified, for hints and diagnosis alone.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// The identity's object (principal) id.
    #[serde(rename = "oid")]
    pub object_id: Option<String>,
    /// Its client (application) id.
    #[serde(rename = "appid")]
    pub client_id: Option<String>,
    /// The Azure resource it belongs to: a virtual machine, a user-assigned identity.
    #[serde(rename = "xms_mirid")]
    pub resource_id: Option<String>,
    /// Its tenant.
    #[serde(rename = "tid")]
    pub tenant_id: Option<String>,
}

/// Reads the claims of `token`; what is not an id is left out, all of it if it is no JWT.
pub(in crate::azure) fn claims(token: &SecretBytes) -> Claims {
    let parse = || {
        let text = std::str::from_utf8(token.expose()).ok()?;
        let payload = text.split('.').nth(1)?.trim_end_matches('=');
        let payload = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        serde_json::from_slice(&payload).ok()
    };
    let Claims {
        object_id,
        client_id,
        resource_id,
        tenant_id,
    } = parse().unwrap_or_default();
    Claims {
        object_id: object_id.filter(|id| is_guid(id)),
        client_id: client_id.filter(|id| is_guid(id)),
        resource_id: resource_id.filter(|id| is_resource_id(id)),
        tenant_id: tenant_id.filter(|id| is_guid(id)),
    }
}

/// Whether `id` looks like an Azure resource id; what a shell would stumble over does not.
fn is_resource_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    id.starts_with('/') && id.len() <= 512 && id.bytes().all(plain)
}

/// The code in an identity service's `{"error":…,"error_description":…}`, and whether its words
/// say that there are several identities to choose from. The words choose a hint, nothing else.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::azure) struct Refusal {
    /// `error`, if it is fit to be quoted.
    pub code: Option<String>,
    /// There are several identities, and the request named none.
    pub ambiguous: bool,
    /// The identity named, or any at all, is not there.
    pub no_identity: bool,
    /// The directory's own code in front of its words, `AADSTS7000215`.
    pub directory_code: Option<String>,
}

impl Refusal {
    /// Reads a refusal's body; empty for what is none.
    pub(in crate::azure) fn parse(body: &[u8]) -> Self {
        let wire: WireRefusal = serde_json::from_slice(body).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let fits = |code: &String| code.len() <= 64 && code.bytes().all(plain) && !code.is_empty();
        let words = wire.error_description.unwrap_or_default();
        let directory_code = directory_code(&words);
        let words = words.to_ascii_lowercase();
        Self {
            directory_code,
            code: wire.error.and_then(ErrorCode::into_text).filter(fits),
            ambiguous: words.contains("multiple user assigned identities"),
            no_identity: words.contains("identity not found"),
        }
    }

    /// Both codes, `invalid_client/AADSTS7000215`, as far as they are there.
    pub(in crate::azure) fn label(&self) -> Option<String> {
        match (&self.code, &self.directory_code) {
            (Some(code), Some(inner)) => Some(format!("{code}/{inner}")),
            (code, inner) => code.clone().or_else(|| inner.clone()),
        }
    }
}

#[derive(Default, Deserialize)]
struct Wire {
    access_token: Zeroizing<String>,
    expires_on: Option<Moment>,
    expires_in: Option<Moment>,
    client_id: Option<String>,
    object_id: Option<String>,
    msi_res_id: Option<String>,
    mi_res_id: Option<String>,
}

#[derive(Deserialize)]
struct WireAz {
    #[serde(rename = "accessToken")]
    access_token: Zeroizing<String>,
    expires_on: Option<Moment>,
    #[serde(rename = "expiresOn")]
    expires_on_local: Option<Moment>,
}

/// The number in front of `AADSTS7000215: Invalid client secret provided.`
fn directory_code(words: &str) -> Option<String> {
    let digits = words.strip_prefix("AADSTS")?.bytes();
    let length = digits.take_while(u8::is_ascii_digit).count();
    (4..=8)
        .contains(&length)
        .then(|| words[.."AADSTS".len() + length].to_owned())
}

#[derive(Default, Deserialize)]
struct WireRefusal {
    error: Option<ErrorCode>,
    error_description: Option<String>,
}

/// A code as most services write it, or as Service Fabric does.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorCode {
    Plain(String),
    Nested { code: String },
    Other(serde::de::IgnoredAny),
}

impl ErrorCode {
    fn into_text(self) -> Option<String> {
        match self {
            Self::Plain(code) | Self::Nested { code } => Some(code),
            Self::Other(_) => None,
        }
    }
}

/// A time in any of the shapes the services use.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Whole(i64),
    Fraction(f64),
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Moment {
    /// A number of seconds, written as a number or a text.
    fn seconds(&self) -> Option<i64> {
        match self {
            Self::Whole(seconds) => Some(*seconds).filter(|seconds| *seconds >= 0),
            // Lossless up to 2^53; a float cast saturates.
            Self::Fraction(seconds) if *seconds >= 0.0 => Some(*seconds as i64),
            Self::Text(text) => text.trim().parse().ok().filter(|seconds| *seconds >= 0),
            Self::Fraction(_) | Self::Other(_) => None,
        }
    }

    /// A point in time: seconds since 1970, or a date as App Service and Azure ML write it.
    fn absolute(&self) -> Option<SystemTime> {
        let seconds = self.seconds().or_else(|| match self {
            Self::Text(text) => date(text.trim()),
            _ => None,
        })?;
        let seconds = u64::try_from(seconds).ok()?;
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }
}

fn since(then: SystemTime, now: SystemTime) -> Duration {
    then.duration_since(now).unwrap_or_default()
}

/// Seconds since 1970 of a date in UTC: `06/20/2019 02:57:58 +00:00`, `1/16/2020 5:24:12 AM
/// +00:00`, `2019-06-20 02:57:58`, `2019-06-20T02:57:58.1234567Z`, and the same with an offset.
fn date(text: &str) -> Option<i64> {
    let (day, rest) = text.split_once([' ', 'T', 't'])?;
    let (year, month, day) = if let Some((month, rest)) = day.split_once('/') {
        let (day, year) = rest.split_once('/')?;
        (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?)
    } else {
        let (year, rest) = day.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?)
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.'));
    let (clock, zone) = rest.split_at(end.unwrap_or(rest.len()));
    let mut clock = clock.splitn(3, ':');
    let hour = digits(clock.next()?, 2)?;
    let minute = digits(clock.next()?, 2)?;
    let seconds = clock.next()?;
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let second = digits(second, 2)?;
    digits(fraction, 9)?;
    let (hour, zone) = half_of_day(hour, zone.trim())?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    if !valid || minute >= 60 || second > 60 {
        return None;
    }
    let local = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(local - offset(zone)?)
}

/// The hour of 24, and what follows `AM` or `PM` if either is there.
fn half_of_day(hour: i64, rest: &str) -> Option<(i64, &str)> {
    let half = rest.get(..2).unwrap_or_default();
    let afternoon = match half.to_ascii_uppercase().as_str() {
        "AM" => false,
        "PM" => true,
        _ => return Some((hour, rest)),
    };
    if !(1..=12).contains(&hour) {
        return None;
    }
    Some((hour % 12 + if afternoon { 12 } else { 0 }, rest[2..].trim()))
}

/// Seconds east of Greenwich: nothing, `Z`, `+00:00`, `-0530`.
fn offset(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some(parts) => parts,
        None => rest.split_at_checked(2)?,
    };
    Some(sign * (digits(hours, 2)? * 3600 + digits(minutes, 2)? * 60))
}

/// A number of one to `most` decimal digits, no sign.
fn digits(text: &str, most: usize) -> Option<i64> {
    let good = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok()).flatten()
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, for years from 0 on. The year is
/// taken to begin in March, so that the leap day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between March 1st of year 0 and 1970-01-01.
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn lifetime(rest: &str, clock: Option<u64>, now: u64) -> Option<u64> {
        let body = format!(r#"{{"access_token":"t"{rest}}}"#);
        let granted = Granted::parse(body.as_bytes(), clock.map(at), at(now)).ok()?;
        Some(granted.lifetime.as_secs())
    }

    #[test]
    fn the_documented_answer_of_the_metadata_service_is_read() {
        let body = br#"{"access_token":"eyJ0.x.y","refresh_token":"","expires_in":"3599",
            "expires_on":"1506484173","not_before":"1506480273",
            "resource":"https://management.azure.com/","token_type":"Bearer"}"#;
        let granted = Granted::parse(body, None, at(1_506_480_574)).unwrap();
        assert_eq!(granted.access_token.expose(), b"eyJ0.x.y");
        assert_eq!(granted.lifetime, Duration::from_secs(3599));
    }

    #[test]
    fn an_expiry_is_a_number_a_text_or_a_date() {
        // `date -u -d '2019-06-20 02:57:58' +%s`, `date -u -d '2020-01-16 05:24:12' +%s`
        const A: u64 = 1_560_999_478;
        const B: u64 = 1_579_152_252;
        for (text, then) in [
            ("1560999478", A),
            ("\"1560999478\"", A),
            ("1560999478.0", A),
            ("\"06/20/2019 02:57:58 +00:00\"", A),
            ("\"06/20/2019 02:57:58\"", A),
            ("\"2019-06-20 02:57:58\"", A),
            ("\"2019-06-20T02:57:58Z\"", A),
            ("\"2019-06-20T02:57:58.1234567Z\"", A),
            ("\"2019-06-20T04:57:58+02:00\"", A),
            ("\"2019-06-19T21:27:58-0530\"", A),
            ("\"1/16/2020 5:24:12 AM +00:00\"", B),
            ("\"1/16/2020 5:24:12 PM +00:00\"", B + 12 * 3600),
            ("\"1/16/2020 12:24:12 AM +00:00\"", B - 5 * 3600),
            ("\"1/16/2020 12:24:12 PM +00:00\"", B + 7 * 3600),
        ] {
            let rest = format!(r#","expires_on":{text}"#);
            assert_eq!(lifetime(&rest, None, then - 100), Some(100), "{text}");
        }
    }

    #[test]
    fn an_empty_or_odd_expiry_falls_back_to_the_relative_one() {
        for odd in [
            "\"\"",
            "null",
            "\"soon\"",
            "true",
            "{}",
            "-5",
            "\"13/40/2019 1:2:3\"",
        ] {
            let rest = format!(r#","expires_on":{odd},"expires_in":"77""#);
            assert_eq!(lifetime(&rest, None, 1000), Some(77), "{odd}");
            let rest = format!(r#","expires_on":{odd}"#);
            assert_eq!(lifetime(&rest, None, 1000), None, "{odd}");
        }
        assert_eq!(lifetime(r#","expires_in":3600"#, None, 1), Some(3600));
    }

    #[test]
    fn a_machine_whose_clock_is_an_hour_off_reads_the_right_lifetime() {
        let rest = r#","expires_on":"10000","expires_in":"3000""#;
        // The service sends its clock.
        assert_eq!(lifetime(rest, Some(7000), 7000 + 3600), Some(3000));
        assert_eq!(lifetime(rest, Some(7000), 7000 - 3600), Some(3000));
        // It does not, and by our clock the token is dead on arrival.
        assert_eq!(lifetime(rest, None, 7000 + 3600), Some(3000));
    }

    #[test]
    fn what_holds_no_usable_token_is_none() {
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"access_token":"","expires_in":1}"#,
            r#"{"access_token":"a\r\nb","expires_in":1}"#,
            r#"{"access_token":"a b","expires_in":1}"#,
            r#"{"access_token":7,"expires_in":1}"#,
        ] {
            let parsed = Granted::parse(body.as_bytes(), None, at(0));
            assert_eq!(parsed.err(), Some(NotAToken), "{body}");
        }
    }

    #[test]
    fn a_token_says_whose_it_is_and_nothing_that_is_no_id() {
        let read = |payload: &str| {
            let payload = URL_SAFE_NO_PAD.encode(payload);
            claims(&SecretBytes::new(format!("e30.{payload}.sig").into_bytes()))
        };
        let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let machine =
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v";
        let all = format!(
            r#"{{"aud":"x","oid":"{id}","appid":"{id}","tid":"{id}","xms_mirid":"{machine}"}}"#
        );
        let expected = Claims {
            object_id: Some(id.to_owned()),
            client_id: Some(id.to_owned()),
            resource_id: Some(machine.to_owned()),
            tenant_id: Some(id.to_owned()),
        };
        assert_eq!(read(&all), expected);
        let odd = r#"{"oid":"$(rm -rf /)","xms_mirid":"/a b","tid":""}"#;
        assert_eq!(read(odd), Claims::default());
        assert_eq!(read("{}"), Claims::default());
        assert_eq!(
            claims(&SecretBytes::new(b"opaque".to_vec())),
            Claims::default()
        );
    }

    #[test]
    fn what_the_az_cli_prints_is_read_whatever_its_age() {
        let parse = |rest: &str| {
            let body = format!(r#"{{"accessToken":"t","tokenType":"Bearer"{rest}}}"#);
            let granted = Granted::parse_az(body.as_bytes(), at(1_560_999_478 - 60));
            granted.ok().map(|granted| granted.lifetime.as_secs())
        };
        let local = r#","expiresOn":"2019-06-20 02:57:58.000000""#;
        assert_eq!(parse(local), Some(60));
        assert_eq!(
            parse(&format!(r#"{local},"expires_on":1560999538"#)),
            Some(120)
        );
        assert_eq!(parse(""), None);
    }

    #[test]
    fn an_identity_echoed_is_compared_by_the_id_that_was_named() {
        let body = br#"{"access_token":"t","expires_in":1,"client_id":"AbC",
            "mi_res_id":"/subscriptions/X"}"#;
        let echo = Granted::parse(body, None, at(0)).unwrap().echo;
        assert!(echo.is(&IdentitySelector::ClientId("aBc".to_owned())));
        assert!(echo.is(&IdentitySelector::ResourceId("/Subscriptions/x".to_owned())));
        assert!(!echo.is(&IdentitySelector::ObjectId("abc".to_owned())));
        assert!(!Echo::default().is(&IdentitySelector::ClientId(String::new())));
    }

    #[test]
    fn refusals_say_which_hint_helps() {
        let refusal = |words: &str| {
            let body = format!(r#"{{"error":"invalid_request","error_description":"{words}"}}"#);
            Refusal::parse(body.as_bytes())
        };
        assert!(refusal("Identity not found").no_identity);
        let several = "Multiple user assigned identities exist, please specify the clientId";
        assert!(refusal(several).ambiguous);
        assert_eq!(refusal("x").code.as_deref(), Some("invalid_request"));
        assert_eq!(Refusal::parse(b"<html>"), Refusal::default());
        let fabric = br#"{"error":{"correlationId":"x","code":"ManagedIdentityNotFound"}}"#;
        let label = Refusal::parse(fabric).label();
        assert_eq!(label.as_deref(), Some("ManagedIdentityNotFound"));
        let directory = br#"{"error":"invalid_client","error_codes":[7000215],
            "error_description":"AADSTS7000215: Invalid client secret provided."}"#;
        let label = Refusal::parse(directory).label();
        assert_eq!(label.as_deref(), Some("invalid_client/AADSTS7000215"));
        let app_service = br#"{"statusCode":500,"message":"x"}"#;
        assert_eq!(Refusal::parse(app_service), Refusal::default());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Granted::parse(&bytes, None, at(0));
            let _ = Granted::parse_az(&bytes, at(0));
            let _ = Refusal::parse(&bytes);
            let _ = claims(&SecretBytes::new(bytes));
        }

        #[test]
        fn no_expiry_makes_the_parser_panic(
            on in "\\PC{0,30}", number in any::<f64>(), whole in any::<i64>(), now in 0..u64::MAX / 4
        ) {
            let now = UNIX_EPOCH.checked_add(Duration::from_secs(now)).unwrap_or(UNIX_EPOCH);
            let expiries = [on.into(), number.into(), whole.into()];
            let expiries: [serde_json::Value; 3] = expiries;
            for expires_on in expiries {
                let body = serde_json::json!({"access_token": "t", "expires_on": expires_on});
                let _ = Granted::parse(body.to_string().as_bytes(), None, now);
            }
        }

        #[test]
        fn no_date_makes_the_parser_panic(
            text in "[0-9]{1,5}[-/][0-9]{1,3}[-/][0-9]{1,5}[ T][0-9:.]{0,12} ?[APMZé+-]{0,3}[0-9:]{0,6}"
        ) {
            let _ = date(&text);
        }

        #[test]
        fn dates_agree_with_another_implementation(seconds in 0u64..253_402_300_799) {
            let text = httpdate::fmt_http_date(at(seconds));
            // Thu, 01 Jan 1970 00:00:00 GMT
            let part = |range| text.get(range).unwrap();
            const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
            let month = MONTHS.find(part(8..11)).unwrap() / 3 + 1;
            let iso = format!("{}-{month}-{}T{}Z", part(12..16), part(5..7), part(17..25));
            prop_assert_eq!(date(&iso), Some(seconds as i64));
        }
    }
}
