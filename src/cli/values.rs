//! Values as they are written on the command line: durations and permission bits.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::secrets::ENCODING_TAG;

/// The longest duration that is taken: beyond a year it is a slip, and adding it to a point in
/// time must never overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Parses `500ms`, `5s`, `10m`, `1h` or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let malformed = || "write 500ms, 5s, 10m, 1h or 0".to_owned();
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| malformed())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "" if number == 0 => Some(0),
        _ => return Err(malformed()),
    };
    milliseconds
        .map(Duration::from_millis)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| "more than a year".to_owned())
}

/// Parses a duration that is not zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() {
        return Err("it must be more than 0".to_owned());
    }
    Ok(duration)
}

/// The longest content type, tag name and tag value, in characters. Source: Microsoft's
/// `about-secrets`.
const CONTENT_TYPE_MAX: usize = 255;
const TAG_MAX: usize = 512;

/// Parses a content type.
pub(super) fn content_type(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0 => Err("it is empty; leave the option out".to_owned()),
        length if length > CONTENT_TYPE_MAX => {
            Err(format!("it is longer than {CONTENT_TYPE_MAX} characters"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Parses `NAME=VALUE`.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write NAME=VALUE")?;
    if name == ENCODING_TAG {
        return Err("this tag follows from what is written".to_owned());
    }
    if [name, value]
        .iter()
        .any(|text| text.chars().count() > TAG_MAX)
    {
        return Err(format!(
            "its name or value is longer than {TAG_MAX} characters"
        ));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Parses octal permission bits, all of them within `ALLOWED`.
pub(super) fn permission_bits<const ALLOWED: u16>(text: &str) -> Result<u16, String> {
    let octal = !text.is_empty() && text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let bits = octal.then(|| u16::from_str_radix(text, 8).ok()).flatten();
    bits.filter(|bits| bits & !ALLOWED == 0)
        .ok_or_else(|| format!("write octal permissions out of {ALLOWED:04o}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit_or_zero() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1d",
            "5S",
            "9000h",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_timeout_of_nothing_is_refused() {
        assert!(positive_duration("0").is_err());
        assert!(positive_duration("0ms").is_err());
        assert_eq!(positive_duration("1ms"), Ok(Duration::from_millis(1)));
    }

    #[test]
    fn a_tag_is_a_name_and_a_value_that_a_vault_takes() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(tag("team=db=1"), pair("team", "db=1"));
        assert_eq!(tag("team="), pair("team", ""));
        for text in ["", "team", "=db", "file-encoding=hex", &"x=".repeat(300)] {
            assert!(tag(text).is_err(), "{text}");
        }
        assert!(content_type("").is_err() && content_type(&"x".repeat(256)).is_err());
        assert_eq!(content_type("text/plain"), Ok("text/plain".to_owned()));
    }

    #[test]
    fn permission_bits_are_octal_and_out_of_the_allowed_ones() {
        assert_eq!(permission_bits::<0o666>("0640"), Ok(0o640));
        assert_eq!(permission_bits::<0o666>("400"), Ok(0o400));
        assert_eq!(permission_bits::<0o333>("0311"), Ok(0o311));
        for text in ["", "0755", "u+r", "8", "+600", "4600", "7777777777"] {
            assert!(permission_bits::<0o666>(text).is_err(), "{text}");
        }
        assert!(permission_bits::<0o333>("0500").is_err());
    }
}
