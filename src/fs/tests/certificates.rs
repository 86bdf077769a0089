//! `Name.pem` and `Name.pfx`: forms of a certificate's secret, read and never written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;

const PFX: &[u8] = include_bytes!("../../../tests/data/modern.pfx");
const PEM: &[u8] = include_bytes!("../../../tests/data/certificate.pem");

impl Mount {
    fn keep_certificate(&self, name: &str, value: &[u8]) {
        self.vault.put(name, value);
        let mut secrets = self.vault.secrets.lock();
        let versions = secrets.get_mut(&SecretName::parse(name).unwrap()).unwrap();
        let (_, properties) = versions.last_mut().unwrap();
        properties.managed = true;
        properties.content_type = Some("application/x-pkcs12".into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_read_in_either_form_for_one_request_each() {
    let mount = mount();
    mount.keep_certificate("web", STANDARD.encode(PFX).as_bytes());
    let entry = mount.lookup("web.pem").await.unwrap();
    assert_eq!((entry.size, entry.mode), (PEM.len() as u64, 0o400));
    let fh = mount.fs.open(entry.ino, READ, 7).await.unwrap().fh;
    assert!(mount.read_all(fh).await == PEM);
    assert_eq!(mount.gets(), 1);
    assert!(mount.cat("WEB.pfx").await.unwrap() == PFX);
    assert_eq!(
        mount.cat("web").await.unwrap(),
        STANDARD.encode(PFX).as_bytes()
    );
    assert_eq!(mount.gets(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_secret_and_its_forms_share_a_request_that_is_under_way() {
    let mount = mount();
    mount.keep_certificate("web", STANDARD.encode(PFX).as_bytes());
    *mount.vault.delay.lock() = Duration::from_millis(50);
    let (whole, pem, pfx) = tokio::join!(
        mount.lookup("web"),
        mount.lookup("web.pem"),
        mount.lookup("web.pfx")
    );
    assert_eq!(pem.unwrap().size, PEM.len() as u64);
    assert_eq!(pfx.unwrap().size, PFX.len() as u64);
    assert!(whole.unwrap().size > 0);
    assert_eq!(mount.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_no_certificates_has_no_forms() {
    let mount = mount();
    mount.vault.put("a", b"1");
    for name in ["a.pem", "a.pfx", "missing.pem"] {
        assert_eq!(mount.lookup(name).await.err(), Some(Errno::ENOENT));
    }
    for name in ["a.PEM", "a.crt", "a.pem.pem"] {
        assert_eq!(mount.lookup(name).await.err(), Some(Errno::ENOENT));
    }
    assert_eq!(mount.gets(), 3, "a name that cannot exist costs nothing");
}

#[tokio::test(start_paused = true)]
async fn a_certificates_secret_and_its_forms_are_never_written() {
    let mount = mount();
    mount.keep_certificate("web", STANDARD.encode(PFX).as_bytes());
    for name in ["web", "web.pem", "web.pfx"] {
        assert_eq!(mount.open(name, APPEND).await.err(), Some(Errno::EPERM));
        assert_eq!(mount.open(name, REPLACE).await.err(), Some(Errno::EPERM));
    }
    let created = mount
        .fs
        .create(ROOT, OsStr::new("new.pem"), 7, PLAINLY)
        .await;
    assert_eq!(created.err(), Some(Errno::EPERM));
    let swap = mount
        .fs
        .create(ROOT, OsStr::new(".web.pem.swp"), 7, PLAINLY)
        .await;
    assert!(swap.is_ok(), "or vim would put it on a disk");
    let to = (ROOT, OsStr::new("web.pem"));
    let renamed = mount
        .fs
        .rename((ROOT, OsStr::new(".web.pem.swp")), to, 7)
        .await;
    assert_eq!(renamed, Err(Errno::EPERM));
    assert_eq!(mount.sets(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pfx_that_cannot_be_opened_is_an_error_of_its_own() {
    let mount = mount();
    mount.keep_certificate("web", STANDARD.encode(&PFX[..2000]).as_bytes());
    assert_eq!(mount.cat("web.pem").await, Err(Errno::EIO));
    assert!(mount.cat("web.pfx").await.is_ok(), "the bytes are there");
    *mount.vault.get_denied.lock() = Some(Failure::Forbidden);
    assert_eq!(mount.cat("web.pem").await, Err(Errno::EACCES));
}
