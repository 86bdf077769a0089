//! When a token is served, when it is renewed, and when a failure is simply repeated.
//!
//! Pure: it is told the time. `cache` does what it says.

#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Token;
use crate::secrets::StoreError;

/// A token is treated as expired this long before it is, so that none expires on its way.
/// Source: MSAL.
const MARGIN: Duration = Duration::from_secs(300);

/// A token just handed out is served this long, whatever it says of itself: a service whose
/// clock is off would be asked anew for every request.
const LEAST: Duration = Duration::from_secs(30);

/// The least time between two attempts to renew a token that still serves. Source: azure-identity.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// For how long a failure to get a token is repeated to those who ask, and the least time
/// between two renewals that 401s demand: a busy mount must not storm the identity service.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// What is known of tokens at one moment.
#[derive(Debug, Default)]
pub(super) struct Held {
    token: Option<Arc<Token>>,
    failed: Option<(Instant, StoreError)>,
    renewal_tried: Option<Instant>,
    rejected: Rejected,
}

/// Whether the vault refused the token before the one to come.
#[derive(Debug, Default, Clone, Copy)]
enum Rejected {
    #[default]
    No,
    /// Yes, and its replacement is fetched at once.
    Once,
    /// Yes, and it was a replacement itself, which came at this time.
    Again(Instant),
}

/// What is to be done for one who asks for a token.
#[derive(Debug)]
pub(super) enum Step {
    /// This one will do.
    Serve(Arc<Token>),
    /// This one will do, and a new one is to be fetched meanwhile.
    ServeAndRenew(Arc<Token>),
    /// There is none: fetch one, not before this time, and wait for it.
    Fetch(Instant),
    /// There is none, and the last attempt failed just now.
    Fail(StoreError),
}

impl Held {
    /// Decides for one who asks now.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        let recent = |(at, _): &&(Instant, StoreError)| now < *at + FAILURE_PAUSE;
        let failure = self.failed.as_ref().filter(recent);
        match &self.token {
            Some(token) if now < usable_until(token) => {
                let due = token.received + (token.expires - token.received) / 2;
                let tried = self.renewal_tried;
                let paused = tried.is_some_and(|tried| now < tried + RENEWAL_PAUSE);
                if now < due || paused {
                    return Step::Serve(token.clone());
                }
                self.renewal_tried = Some(now);
                Step::ServeAndRenew(token.clone())
            }
            // Its margin has begun, but nothing better is to be had.
            Some(token) if now < token.expires && failure.is_some() => Step::Serve(token.clone()),
            _ => match failure {
                Some((_, error)) => Step::Fail(error.clone()),
                None => Step::Fetch(match self.rejected {
                    Rejected::Again(received) => now.max(received + FAILURE_PAUSE),
                    Rejected::No | Rejected::Once => now,
                }),
            },
        }
    }

    /// The vault refused `token`: it is not served again. Whoever comes later with the same
    /// token, or an older one, changes nothing.
    pub(super) fn reject(&mut self, token: &Token) {
        let current = self.token.as_ref();
        if current.is_some_and(|current| current.generation == token.generation) {
            self.token = None;
            self.rejected = if token.after_rejection {
                Rejected::Again(token.received)
            } else {
                Rejected::Once
            };
        }
    }

    /// Whether the token to be fetched now takes the place of a rejected one.
    pub(super) fn is_after_rejection(&self) -> bool {
        !matches!(self.rejected, Rejected::No)
    }

    /// A new token has come.
    pub(super) fn receive(&mut self, token: Arc<Token>) {
        *self = Self {
            token: Some(token),
            ..Self::default()
        };
    }

    /// None could be got.
    pub(super) fn fail(&mut self, error: StoreError, now: Instant) {
        self.failed = Some((now, error));
    }

    /// The token that is left although renewing failed, if it has not expired.
    pub(super) fn leftover(&self, now: Instant) -> Option<Arc<Token>> {
        self.token.clone().filter(|token| now < token.expires)
    }
}

fn usable_until(token: &Token) -> Instant {
    let lifetime = token.expires - token.received;
    token.received + lifetime.saturating_sub(MARGIN).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret_bytes::SecretBytes;
    use crate::secrets::Failure;

    const HOUR: u64 = 3600;

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }

        fn token(&self, generation: u64, received: u64, lifetime: u64) -> Arc<Token> {
            Arc::new(Token {
                value: SecretBytes::new(b"t".to_vec()),
                claims: crate::azure::Claims::default(),
                generation,
                received: self.at(received),
                expires: self.at(received + lifetime),
                after_rejection: false,
            })
        }
    }

    fn holding(token: &Arc<Token>) -> Held {
        let mut held = Held::default();
        held.receive(token.clone());
        held
    }

    fn refused() -> StoreError {
        StoreError::new(Failure::IdentityRefused, "token")
    }

    #[test]
    fn without_a_token_one_is_fetched_at_once() {
        let clock = Clock(Instant::now());
        let step = Held::default().step(clock.at(5));
        assert!(matches!(step, Step::Fetch(at) if at == clock.at(5)));
    }

    #[test]
    fn a_token_serves_until_half_life_and_is_then_renewed_in_the_background() {
        let clock = Clock(Instant::now());
        let mut held = holding(&clock.token(1, 0, HOUR));
        assert!(matches!(held.step(clock.at(1799)), Step::Serve(_)));
        assert!(matches!(held.step(clock.at(1800)), Step::ServeAndRenew(_)));
    }

    #[test]
    fn renewing_is_tried_every_30_seconds_while_the_old_token_serves() {
        let clock = Clock(Instant::now());
        let mut held = holding(&clock.token(1, 0, HOUR));
        assert!(matches!(held.step(clock.at(1800)), Step::ServeAndRenew(_)));
        held.fail(refused(), clock.at(1801));
        assert!(matches!(held.step(clock.at(1801)), Step::Serve(_)));
        assert!(matches!(held.step(clock.at(1829)), Step::Serve(_)));
        assert!(matches!(held.step(clock.at(1830)), Step::ServeAndRenew(_)));
    }

    #[test]
    fn a_token_counts_as_expired_five_minutes_early() {
        let clock = Clock(Instant::now());
        let mut held = holding(&clock.token(1, 0, HOUR));
        assert!(matches!(held.step(clock.at(3299)), Step::ServeAndRenew(_)));
        assert!(matches!(held.step(clock.at(3300)), Step::Fetch(_)));
    }

    #[test]
    fn in_its_last_minutes_a_token_serves_if_no_other_can_be_got() {
        let clock = Clock(Instant::now());
        let mut held = holding(&clock.token(1, 0, HOUR));
        held.fail(refused(), clock.at(3400));
        assert!(matches!(held.step(clock.at(3400)), Step::Serve(_)));
        assert!(held.leftover(clock.at(3599)).is_some());
        held.fail(refused(), clock.at(3600));
        assert!(matches!(held.step(clock.at(3600)), Step::Fail(_)));
        assert!(held.leftover(clock.at(3600)).is_none());
    }

    #[test]
    fn a_token_that_comes_expired_is_served_for_half_a_minute() {
        let clock = Clock(Instant::now());
        for lifetime in [0, 20, 200] {
            let mut held = holding(&clock.token(1, 0, lifetime));
            let step = held.step(clock.at(29));
            assert!(
                matches!(step, Step::Serve(_) | Step::ServeAndRenew(_)),
                "{lifetime}"
            );
            assert!(
                matches!(held.step(clock.at(30)), Step::Fetch(_)),
                "{lifetime}"
            );
        }
    }

    #[test]
    fn a_failure_is_repeated_for_a_second_and_then_tried_again() {
        let clock = Clock(Instant::now());
        let mut held = Held::default();
        held.fail(refused(), clock.at(10));
        assert!(matches!(held.step(clock.at(10)), Step::Fail(error) if error == refused()));
        assert!(matches!(held.step(clock.at(11)), Step::Fetch(_)));
    }

    #[test]
    fn many_rejections_of_one_token_cause_one_renewal() {
        let clock = Clock(Instant::now());
        let old = clock.token(1, 0, HOUR);
        let mut held = holding(&old);
        held.reject(&old);
        held.reject(&old);
        assert!(held.is_after_rejection());
        held.receive(clock.token(2, 1, HOUR));
        held.reject(&old);
        assert!(matches!(held.step(clock.at(2)), Step::Serve(token) if token.generation == 2));
    }

    #[test]
    fn a_rejected_token_is_replaced_at_once_and_its_replacement_after_a_second() {
        let clock = Clock(Instant::now());
        let first = clock.token(1, 0, HOUR);
        let mut held = holding(&first);
        held.reject(&first);
        assert!(matches!(held.step(clock.at(1)), Step::Fetch(at) if at == clock.at(1)));
        let mut second = clock.token(2, 1, HOUR);
        Arc::get_mut(&mut second).unwrap().after_rejection = true;
        held.receive(second.clone());
        held.reject(&second);
        assert!(matches!(held.step(clock.at(1)), Step::Fetch(at) if at == clock.at(2)));
    }
}
