//! Microsoft's own clients against the same vault as the mount: what one stores, the other shows,
//! byte by byte. The real az CLI, logged in with the machine's identity, and the libraries for
//! Python.
//!
//! `scripts/test` installs them into target/azure-clients; without them these tests are skipped.

use std::path::Path;

use keyvaultfs::emulator::KeyAccess;

use crate::harness::{Mount, Setup};

const ACCOUNT: &str = "/subscriptions/0f8fad5b-d9cb-469f-a165-70867728950e/resourceGroups/mygroup/\
                       providers/Microsoft.Storage/storageAccounts/acct01";

/// Makes values for which a conversion somewhere would show: every byte, text, one byte, text that
/// ends in no newline, and as much as fits.
const MAKE_FILES: &str = r#"
import os
every = bytes(range(256))
files = {"every": every * 3, "text": "grüße\r\n\n".encode(), "one": b"\xff", "bare": b"no newline",
         "much": every[::-1] * 74}
for name, content in files.items():
    open(os.path.join(os.environ["D"], name), "wb").write(content)
"#;

/// A client of Key Vault's library whose token is got from IMDS by hand.
const SECRET_CLIENT: &str = r#"
import base64, json, os, time, urllib.request
from azure.core.credentials import AccessToken
from azure.keyvault.secrets import SecretClient

class Static:
    def get_token(self, *scopes, **kwargs):
        assert scopes == ("https://vault.azure.net/.default",), scopes
        url = os.environ["IMDS"] + "?api-version=2018-02-01&resource=https://vault.azure.net"
        request = urllib.request.Request(url, headers={"Metadata": "true"})
        with urllib.request.urlopen(request) as answer:
            text = json.load(answer)["access_token"]
        return AccessToken(text, int(time.time()) + 3600)

client = SecretClient(os.environ["VAULT"], Static(), verify_challenge_resource=False)
D, M = os.environ["D"], os.environ["M"]
def contents(*path):
    with open(os.path.join(*path), "rb") as file:
        return file.read()
"#;

/// A mount, and a shell's beginning that makes Microsoft's clients speak to its emulator.
struct Clients {
    mount: Mount,
    environment: String,
}

impl Clients {
    /// `None`, said aloud, if they are not installed.
    fn new() -> Option<Self> {
        let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/azure-clients/bin");
        if !bin.join("az").exists() {
            eprintln!(
                "SKIPPED: Microsoft's clients are not in {}; scripts/test installs them",
                bin.display()
            );
            return None;
        }
        let mount = Setup::new()
            .argument(&format!("--storage-account={ACCOUNT}"))
            .argument("--arm-endpoint=RESOURCE_MANAGER")
            .mount();
        let environment = environment(&mount, &bin);
        let clients = Self { mount, environment };
        clients.python(MAKE_FILES);
        Some(clients)
    }

    /// Runs a script with the clients in its PATH; asserts that it succeeds.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        let script = format!("{}\nset -e\n{script}", self.environment);
        self.mount.sh(&script).ok().to_owned()
    }

    #[track_caller]
    fn python(&self, program: &str) -> String {
        let path = self.mount.scratch.join("program.py");
        std::fs::write(&path, program).expect("it can be written");
        self.sh("python -I $D/program.py")
    }

    /// Logs the az CLI in, as on a virtual machine.
    #[track_caller]
    fn log_in(&self) {
        self.sh("az login --identity --allow-no-subscriptions --output none");
    }
}

/// The az CLI speaks to a cloud of its own. It makes a vault's address of a name and the cloud's
/// suffix: here `local` and `host:PORT`.
fn environment(mount: &Mount, bin: &Path) -> String {
    let endpoints = mount.emulator.endpoints();
    let port = endpoints.vault.rsplit(':').next().expect("it has a port");
    let directory = mount.scratch.join("az");
    std::fs::create_dir(&directory).expect("a directory can be made");
    let cloud = format!(
        "[emulator]\nprofile = latest\n\
         endpoint_resource_manager = {arm}\nendpoint_management = {arm}/\n\
         endpoint_active_directory = {entra}\n\
         endpoint_active_directory_resource_id = https://management.core.windows.net/\n\
         suffix_keyvault_dns = host:{port}\n",
        arm = endpoints.resource_manager,
        entra = endpoints.entra.trim_end_matches('/'),
    );
    std::fs::write(directory.join("clouds.config"), cloud).expect("it can be written");
    std::fs::write(directory.join("config"), "[cloud]\nname = emulator\n")
        .expect("it can be written");
    let imds = endpoints
        .imds
        .replace("/metadata/identity/oauth2/token", "");
    format!(
        "export PATH={bin}:$PATH AZURE_CONFIG_DIR={directory} AZURE_CORE_COLLECT_TELEMETRY=no \
         REQUESTS_CA_BUNDLE={ca} AZURE_POD_IDENTITY_AUTHORITY_HOST={imds} NO_PROXY='*' \
         VAULT={vault} IMDS={token}",
        bin = bin.display(),
        directory = directory.display(),
        ca = endpoints.ca_cert.display(),
        vault = endpoints.vault,
        token = endpoints.imds,
    )
}

#[test]
fn what_az_stored_in_base64_or_hex_the_mount_shows_as_it_was() {
    let Some(clients) = Clients::new() else {
        return;
    };
    clients.log_in();
    for (file, encoding) in [("every", "base64"), ("much", "base64"), ("every", "hex")] {
        clients.sh(&format!(
            "az keyvault secret set --vault-name local --name {file}-{encoding} --file $D/{file} \
             --encoding {encoding} --output none; cmp $D/{file} $M/{file}-{encoding}"
        ));
    }
    clients.sh(
        "az keyvault secret set --vault-name local --name text --file $D/bare --output none; \
         cmp $D/bare $M/text",
    );
    let tag = "import os\nname = 'user.keyvault.tags.file-encoding'\n\
               print(os.getxattr(os.environ['M'] + '/every-hex', name).decode())";
    assert_eq!(clients.python(tag), "hex\n");
}

#[test]
fn what_the_mount_stored_az_downloads_as_it_was() {
    let Some(clients) = Clients::new() else {
        return;
    };
    clients.log_in();
    for file in ["every", "one", "much", "bare"] {
        clients.sh(&format!(
            "cp $D/{file} $M/{file}; az keyvault secret download --vault-name local --name {file} \
             --file $D/{file}.back; cmp $D/{file} $D/{file}.back; cmp $D/{file} $M/{file}"
        ));
    }
}

#[test]
fn the_library_for_python_and_the_mount_read_what_the_other_stored() {
    let Some(clients) = Clients::new() else {
        return;
    };
    clients.sh("for file in every text one bare much; do cp $D/$file $M/$file; done");
    let read = r#"
for name in ["every", "text", "one", "bare", "much"]:
    secret = client.get_secret(name)
    value = secret.value.encode()
    if (secret.properties.tags or {}).get("file-encoding") == "base64":
        value = base64.b64decode(value)
    assert value == contents(D, name), name

made = client.set_secret("text", "one\nline", content_type="text/plain", tags={"team": "db"})
assert contents(M, "text") == b"one\nline"
attribute = os.getxattr(os.path.join(M, "text"), "user.keyvault.tags.team")
assert attribute == b"db", attribute
with open(os.path.join(M, "text"), "wb") as file:
    file.write(b"two")
after = client.get_secret("text")
assert (after.value, after.properties.tags) == ("two", {"team": "db"}), after.properties.tags
assert after.properties.content_type == "text/plain"
assert contents(M, "text@" + made.properties.version) == b"one\nline"
print("read")
"#;
    assert_eq!(clients.python(&format!("{SECRET_CLIENT}{read}")), "read\n");
}

#[test]
fn the_blob_librarys_parser_takes_the_connection_string() {
    let Some(clients) = Clients::new() else {
        return;
    };
    let [key1, _] = clients
        .mount
        .emulator
        .set_storage_account(ACCOUNT, KeyAccess::Granted);
    let program = r#"
import os
from azure.storage.blob import BlobServiceClient
path = os.path.join(os.environ["M"], ".storage/acct01/connection-string")
service = BlobServiceClient.from_connection_string(open(path).read())
print(service.url, service.account_name, service.credential.account_key)
"#;
    let expected = format!("https://acct01.blob.core.windows.net/ acct01 {key1}\n");
    assert_eq!(clients.python(program), expected);
}
