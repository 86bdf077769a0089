//! The emulator's time: this machine's, and a skew that tests choose.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that may be wrong on purpose.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Seconds ahead of this machine's clock.
    pub(super) skew: i64,
}

impl Clock {
    /// Seconds since 1970, as Azure counts time.
    pub(super) fn now(&self) -> i64 {
        let elapsed = since_1970().as_secs();
        i64::try_from(elapsed).unwrap_or(i64::MAX) + self.skew
    }

    /// The time for an HTTP date.
    pub(super) fn system_time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(self.now()).unwrap_or(0))
    }
}

/// A time as Azure ML writes it on Linux: `06/20/2019 02:57:58 +00:00`.
pub(super) fn as_azure_ml_writes_it(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    // Thu, 20 Jun 2019 02:57:58 GMT
    let part = |range| date.get(range).unwrap_or_default();
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = MONTHS.find(part(8..11)).map_or(0, |at| at / 3 + 1);
    let (day, year, clock) = (part(5..7), part(12..16), part(17..25));
    format!("{month:02}/{day}/{year} {clock} +00:00")
}

/// The time that has passed since 1970 by this machine's clock, whole.
pub(super) fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
