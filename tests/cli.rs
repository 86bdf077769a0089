//! The command line as text: help, every error that needs no mount, and every exit code. The
//! sessions are in `tests/cmd`; `TRYCMD=overwrite cargo test --test cli` writes them anew.

use std::os::unix::fs::symlink;
use std::path::Path;

#[test]
fn the_command_line_says_what_the_sessions_say() {
    let program = Path::new(env!("CARGO_BIN_EXE_keyvaultfs"));
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("mount.keyvaultfs");
    symlink(program, &helper).unwrap();

    let cases = trycmd::TestCases::new();
    cases
        .register_bin("mount.keyvaultfs", helper.as_path())
        .env("HTTPS_PROXY", "")
        .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", "")
        .case("tests/cmd/*.md");
    if cfg!(not(feature = "emulator")) {
        // It lists the subcommands, which the feature adds.
        cases.skip("tests/cmd/help.md");
    }
}
