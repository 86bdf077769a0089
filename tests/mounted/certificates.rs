//! "so that `nginx`, `openssl s_server`, `curl --cert` can be pointed at it": certificates that
//! only the vault holds, used by programs that know files.

use keyvaultfs::emulator::CertificateFormat;

use crate::harness::Mount;

const FORMATS: [CertificateFormat; 2] = [CertificateFormat::Pkcs12, CertificateFormat::Pem];

/// A mount of a vault that keeps `web`, for `localhost`. In `$D/root.pem` is the last certificate of
/// its chain, for clients to trust and nothing else.
fn mount_with_certificate(format: CertificateFormat) -> Mount {
    let mount = Mount::new();
    let kept = mount.emulator.keep_certificate("web", "localhost", format);
    kept.expect("a certificate can be made");
    let last = r#"awk '/BEGIN CERT/ { text = "" } { text = text $0 "\n" }
        END { printf "%s", text }' $M/web.pem > $D/root.pem"#;
    mount.sh(last).ok();
    mount
}

#[test]
fn a_server_and_its_client_shake_hands_with_a_certificate_held_in_the_vault_alone() {
    for format in FORMATS {
        let mount = mount_with_certificate(format);
        let outcome = mount.sh(r#"
            mkfifo $D/ready
            openssl s_server -accept 127.0.0.1:0 -cert $M/web.pem -key $M/web.pem \
                -cert_chain $M/web.pem -www > $D/ready 2>$D/server.log &
            server=$!
            trap 'kill $server' EXIT
            exec 3< $D/ready
            while read -r line <&3; do case $line in ACCEPT*) break; esac; done
            port=${line##*:}
            curl --silent --show-error --noproxy '*' --max-time 10 --cacert $D/root.pem \
                --resolve localhost:$port:127.0.0.1 https://localhost:$port/ | grep -c 'Cipher'
        "#);
        assert!(outcome.ok().trim() != "0", "{format:?}: {outcome:?}");
    }
}

#[test]
fn nginx_serves_with_a_certificate_held_in_the_vault_alone() {
    let mount = mount_with_certificate(CertificateFormat::Pkcs12);
    let configuration = format!(
        "pid {d}/pid; error_log {d}/error.log; events {{}} user root;
         http {{ access_log off; server {{ listen unix:{d}/socket ssl;
             ssl_certificate {m}/web.pem; ssl_certificate_key {m}/web.pem;
             location / {{ return 200 \"served\\n\"; }} }} }}",
        d = mount.scratch.display(),
        m = mount.mountpoint.display(),
    );
    std::fs::write(mount.scratch.join("nginx.conf"), configuration).expect("it can be written");
    let outcome = mount.sh(r#"
        nginx -e $D/error.log -c $D/nginx.conf
        trap 'nginx -e $D/error.log -c $D/nginx.conf -s stop' EXIT
        curl --silent --show-error --unix-socket $D/socket --max-time 10 --cacert $D/root.pem \
            https://localhost/ || { cat $D/error.log >&2; exit 1; }
        "#);
    assert_eq!(outcome.ok(), "served\n");
}

#[test]
fn openssl_opens_the_pfx_and_finds_the_key_of_the_pem() {
    for format in FORMATS {
        let mount = mount_with_certificate(format);
        let script = "openssl pkcs12 -in $M/web.pfx -passin pass: -nodes -nocerts | \
                      openssl pkey -pubout > $D/a; \
                      openssl x509 -in $M/web.pem -noout -pubkey > $D/b; \
                      cmp $D/a $D/b && openssl pkcs12 -in $M/web.pfx -passin pass: -nokeys | \
                      grep -c BEGIN";
        assert_eq!(mount.sh(script).ok(), "3\n", "{format:?}");
    }
}

#[test]
fn a_certificates_files_are_read_only_and_no_other_secret_has_them() {
    let mount = mount_with_certificate(CertificateFormat::Pkcs12);
    mount.emulator.set_secret("plain", "1");
    let modes = mount.sh("stat -c '%a %n' $M/web.pem $M/web.pfx | sed \"s#$M/##\"");
    assert_eq!(modes.ok(), "400 web.pem\n400 web.pfx\n");
    for name in ["web", "web.pem", "web.pfx"] {
        mount
            .sh(&format!("echo x >> $M/{name}"))
            .fails_with("Operation not permitted");
    }
    mount
        .sh("cat $M/plain.pem")
        .fails_with("No such file or directory");
    assert_eq!(mount.values("web").len(), 1);
}

#[test]
fn a_pfx_that_cannot_be_opened_says_so_in_the_log() {
    let mount = mount_with_certificate(CertificateFormat::Pkcs12);
    let value = mount.values("web").remove(0);
    let damaged = keyvaultfs::emulator::Settings {
        content_type: Some("application/x-pkcs12".to_owned()),
        ..Default::default()
    };
    mount
        .emulator
        .set_secret_with("web", &value[..value.len() / 2], damaged);
    mount.sh("cat $M/web.pem").fails_with("Input/output error");
    let log = mount.log_text();
    assert!(log.contains("web as pem: the PFX"), "{log}");
    assert!(!log.contains(&value[..40]), "the log has a value in it");
}
