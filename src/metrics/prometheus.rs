//! The numbers as Prometheus reads them. Source: its text exposition format, 0.0.4.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::{BUCKETS, Metrics, Subject, epoch};

impl Metrics {
    /// All numbers in Prometheus's text format.
    pub fn prometheus(&self, subject: &Subject) -> String {
        let mut page = Page::default();
        page.family("build_info", "gauge", "Which program this is.");
        page.sample("build_info", &[("version", subject.program)], 1);
        page.family("start_time_seconds", "gauge", "When this worker started.");
        page.sample("start_time_seconds", &[], epoch(subject.started));
        page.family(
            "worker_restarts_total",
            "counter",
            "How many workers this mount had before this one.",
        );
        page.sample("worker_restarts_total", &[], subject.restarts());

        let counted = self.counted.lock();
        page.family(
            "operations_total",
            "counter",
            "File operations, by kind and outcome.",
        );
        for ((kind, errno), count) in &counted.operations {
            let outcome = match errno {
                0 => "ok".to_owned(),
                errno => format!("{:?}", Errno::from_raw(*errno)),
            };
            page.sample(
                "operations_total",
                &[("operation", kind), ("outcome", &outcome)],
                count,
            );
        }
        page.family(
            "requests_total",
            "counter",
            "Requests sent, by service, method and HTTP status; `none` had no answer.",
        );
        for ((service, method, status), count) in &counted.requests {
            let status = status.map_or("none".to_owned(), |status| status.to_string());
            let labels = [
                ("service", service.label()),
                ("method", method),
                ("status", &status),
            ];
            page.sample("requests_total", &labels, count);
        }
        page.family(
            "request_duration_seconds",
            "histogram",
            "How long requests took to be answered, or to fail.",
        );
        for (service, histogram) in &counted.durations {
            let service = ("service", service.label());
            let mut cumulated = 0;
            for (index, count) in histogram.counts.iter().enumerate() {
                cumulated += count;
                let bound = BUCKETS.get(index).map(|bound| seconds(*bound));
                let bound = bound.unwrap_or_else(|| "+Inf".to_owned());
                let labels = [service, ("le", &bound)];
                page.sample("request_duration_seconds_bucket", &labels, cumulated);
            }
            let sum = histogram.sum.as_secs_f64();
            page.sample("request_duration_seconds_sum", &[service], sum);
            page.sample("request_duration_seconds_count", &[service], cumulated);
        }
        if let Some(token) = &counted.token {
            let help = "When the token for the vault expires.";
            page.family("token_expiry_timestamp_seconds", "gauge", help);
            page.sample("token_expiry_timestamp_seconds", &[], epoch(token.expires));
        }
        drop(counted);

        for (name, number, help) in [
            ("retries_total", &self.retries, "Requests sent once more."),
            (
                "cache_hits_total",
                &self.cache_hits,
                "Opens that a kept value served, with no request.",
            ),
            (
                "shared_pulls_total",
                &self.shared_pulls,
                "Readers that joined a request under way.",
            ),
        ] {
            page.family(name, "counter", help);
            page.sample(name, &[], number.load(Ordering::Relaxed));
        }
        page.0
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(
            self.0,
            "# HELP keyvaultfs_{name} {help}\n# TYPE keyvaultfs_{name} {kind}\n"
        );
    }

    /// One line. Labels are words of our own, with nothing in them to be escaped.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "keyvaultfs_{name}{labels} {value}");
    }
}

/// Milliseconds as seconds, without zeros at the end: `0.005`, `2.5`, `10`.
fn seconds(milliseconds: u64) -> String {
    let text = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Service;
    use super::*;

    fn subject() -> Subject {
        Subject {
            program: "1.2.3",
            vault: "https://myvault.vault.azure.net".to_owned(),
            identity: "imds".to_owned(),
            worker: 3,
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
        }
    }

    #[test]
    fn the_page_is_what_was_counted() {
        let metrics = Metrics::new();
        metrics.operation("open", Ok(()));
        metrics.operation("open", Err(Errno::EACCES));
        metrics.operation("open", Ok(()));
        metrics.request(Service::Vault, "GET", Some(200), Duration::from_millis(7));
        metrics.request(Service::Vault, "GET", None, Duration::from_secs(60));
        metrics.retry();
        let page = metrics.prometheus(&subject());
        for line in [
            "keyvaultfs_build_info{version=\"1.2.3\"} 1",
            "keyvaultfs_start_time_seconds 1000",
            "keyvaultfs_worker_restarts_total 2",
            "keyvaultfs_operations_total{operation=\"open\",outcome=\"ok\"} 2",
            "keyvaultfs_operations_total{operation=\"open\",outcome=\"EACCES\"} 1",
            "keyvaultfs_requests_total{service=\"vault\",method=\"GET\",status=\"200\"} 1",
            "keyvaultfs_requests_total{service=\"vault\",method=\"GET\",status=\"none\"} 1",
            "keyvaultfs_request_duration_seconds_bucket{service=\"vault\",le=\"0.005\"} 0",
            "keyvaultfs_request_duration_seconds_bucket{service=\"vault\",le=\"0.01\"} 1",
            "keyvaultfs_request_duration_seconds_bucket{service=\"vault\",le=\"10\"} 1",
            "keyvaultfs_request_duration_seconds_bucket{service=\"vault\",le=\"+Inf\"} 2",
            "keyvaultfs_request_duration_seconds_sum{service=\"vault\"} 60.007",
            "keyvaultfs_request_duration_seconds_count{service=\"vault\"} 2",
            "keyvaultfs_retries_total 1",
            "keyvaultfs_cache_hits_total 0",
        ] {
            assert!(page.lines().any(|one| one == line), "{line} in\n{page}");
        }
        assert!(!page.contains("token_expiry"), "there is no token yet");
    }

    #[test]
    fn bounds_are_written_without_needless_zeros() {
        let bounds = BUCKETS.map(seconds);
        let expected = [
            "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10",
        ];
        assert_eq!(bounds, expected);
    }
}
