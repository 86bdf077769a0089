//! `--ca-cert`: PEM files are read and checked at launch, when the user can still be told and the
//! files can still be reached; the worker, unprivileged and confined, gets the certificates.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::error::Error;

/// Columns of a PEM line (RFC 7468).
const COLUMNS: usize = 64;

/// The certificates in `files`, each as a PEM of its own; whatever else a file holds (a private
/// key, say) stays out.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<String>, Error> {
    let mut certificates = Vec::new();
    for file in files {
        certificates.extend(read_file(file)?);
    }
    Ok(certificates)
}

fn read_file(file: &Path) -> Result<Vec<String>, Error> {
    let text = fs::read(file).map_err(|source| Error::CaUnreadable {
        file: file.to_owned(),
        source,
    })?;
    let malformed = || Error::CaMalformed(file.to_owned());
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| malformed())?;
    if certificates.is_empty() {
        return Err(Error::CaEmpty(file.to_owned()));
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|_| malformed())?;
    }
    Ok(certificates.iter().map(|der| pem(der)).collect())
}

fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..base64.len()).step_by(COLUMNS) {
        pem.push_str(&base64[start..base64.len().min(start + COLUMNS)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A self-signed test certificate: ECDSA P-256, CN=keyvaultfs test CA, until 2126.
    const CERTIFICATE: &str = include_str!("../../tests/data/ca.pem");

    fn read_text(text: &str) -> Result<Vec<String>, Error> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(&[file.path().to_owned()])
    }

    #[test]
    fn every_certificate_is_taken_and_nothing_else() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let bundle = format!("# a comment\n{CERTIFICATE}{key}{CERTIFICATE}");
        assert_eq!(read_text(&bundle).unwrap(), [CERTIFICATE, CERTIFICATE]);
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        assert!(matches!(read_text("hello"), Err(Error::CaEmpty(_))));
        let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(read_text(not_der), Err(Error::CaMalformed(_))));
        let cut = &CERTIFICATE[..CERTIFICATE.len() / 2];
        assert!(matches!(read_text(cut), Err(Error::CaMalformed(_))));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = read(&["/nonexistent/ca.pem".into()]).unwrap_err();
        assert!(matches!(error, Error::CaUnreadable { .. }));
        assert!(error.to_string().contains("/nonexistent/ca.pem"), "{error}");
    }
}
