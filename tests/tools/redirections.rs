//! "The right close sets": compound redirections, inherited descriptors, programs that outlive
//! who opened the file. Each makes one version, and that one whole.

use keyvaultfs::emulator::Fault;

use crate::harness::{Mount, wait_until};

/// One way to write `$M/f`, which opens it once.
struct Way {
    script: &'static str,
    /// What it leaves in the secret.
    leaves: &'static str,
    /// Whether the script fails if the set does. Most shells do not look at what close(2) says.
    told: bool,
}

const fn way(script: &'static str, leaves: &'static str) -> Way {
    Way {
        script,
        leaves,
        told: false,
    }
}

/// It ends in error if the set fails.
const fn told(script: &'static str, leaves: &'static str) -> Way {
    Way {
        told: true,
        ..way(script, leaves)
    }
}

#[rustfmt::skip]
const WAYS: &[Way] = &[
    way("{ echo a; echo b; } > $M/f", "a\nb\n"),
    way("{ /bin/echo a; /bin/echo b; } > $M/f", "a\nb\n"),
    way("{ /bin/echo a; echo b; } > $M/f", "a\nb\n"),
    way("{ echo a; /bin/echo b; } > $M/f", "a\nb\n"),
    told("(/bin/echo a; /bin/echo b) > $M/f", "a\nb\n"),
    way("dash -c '{ /bin/echo a; /bin/echo b; } > $M/f'", "a\nb\n"),
    way("for i in a b; do /bin/echo $i; done > $M/f", "a\nb\n"),
    way("printf 'a\\nb\\n' | while read -r line; do /bin/echo $line; done > $M/f", "a\nb\n"),
    way("f() { /bin/echo a; /bin/echo b; }; f > $M/f", "a\nb\n"),
    way("exec 3>$M/f; /bin/echo a >&3; /bin/echo b >&3; exec 3>&-", "a\nb\n"),
    way("exec 3>$M/f; echo a >&3; echo b >&3", "a\nb\n"),
    told("exec > $M/f; /bin/echo a; /bin/echo b", "a\nb\n"),
    way("exec 3>$M/f; sleep 1 & echo a >&3; exec 3>&-; wait", "a\n"),
    way("sh -c 'echo a > $M/f'", "a\n"),
    way("sh -c '/bin/echo a > $M/f'", "a\n"),
    way("sh -c '/bin/echo a; /bin/echo b' > $M/f", "a\nb\n"),
    told("cat > $M/f <<E\na\nb\nE", "a\nb\n"),
    told("(echo a; echo b) | cat > $M/f", "a\nb\n"),
    told("(echo a; echo b) | tee $M/f > out", "a\nb\n"),
    way("cat <(echo a) <(echo b) > >(cat > $M/f); sleep 0.5", "a\nb\n"),
    told("echo a | timeout 5 cat > $M/f", "a\n"),
    told("echo a | env nice stdbuf -oL cat > $M/f", "a\n"),
    told("echo a b | xargs -n 1 /bin/echo > $M/f", "a\nb\n"),
    told("find . -maxdepth 0 -exec /bin/echo a \\; -exec /bin/echo b \\; > $M/f", "a\nb\n"),
    told("setpriv --reuid 65534 /bin/echo a > $M/f", "a\n"),
    way("nohup sh -c 'sleep 0.3; /bin/echo a; /bin/echo b' > $M/f 2> err & wait", "a\nb\n"),
    way("setsid sh -c 'sleep 0.3; /bin/echo a' > $M/f & wait", "a\n"),
    way("( (sleep 0.3; /bin/echo a; /bin/echo b) & ) > $M/f; sleep 1", "a\nb\n"),
    way("(sleep 0.3; /bin/echo b) >> $M/g & (exec 3>$M/f; /bin/echo a >&3); wait", "a\n"),
    told("python3 -c '\nimport os, subprocess\nf = open(os.environ[\"M\"] + \"/f\", \"wb\")\np = subprocess.Popen([\"/bin/echo\", \"a\"], stdout=f)\np.wait()\nf.write(b\"b\\n\")\nf.close()'", "a\nb\n"),
    told("python3 -c '\nimport os, subprocess, sys\nf = open(os.environ[\"M\"] + \"/f\", \"wb\")\np = subprocess.Popen([\"sh\", \"-c\", \"sleep 0.3; exec /bin/echo a\"], stdout=f)\nf.close()\nsys.exit(p.wait())'", "a\n"),
    way("python3 -c '\nimport os\nf = os.open(os.environ[\"M\"] + \"/f\", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)\nif os.fork() == 0:\n    os.write(f, b\"a\\n\"); os._exit(0)\nos.wait()\nos.write(f, b\"b\\n\")'", "a\nb\n"),
    way("python3 -c '\nimport os, time\nf = os.open(os.environ[\"M\"] + \"/f\", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)\nif os.fork() == 0:\n    if os.fork() == 0:\n        os.setsid(); time.sleep(0.3); os.write(f, b\"a\\n\"); os.write(f, b\"b\\n\")\n    os._exit(0)\n'; sleep 1", "a\nb\n"),
    told("python3 -c '\nimport os, socket\na, b = socket.socketpair()\nif os.fork() == 0:\n    f = os.open(os.environ[\"M\"] + \"/f\", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)\n    socket.send_fds(a, [b\"x\"], [f]); os._exit(0)\n_, fds, _, _ = socket.recv_fds(b, 1, 1)\nos.wait()\nos.write(fds[0], b\"a\\n\")\nos.close(fds[0])'", "a\n"),
    way("python3 -c '\nimport os\nf = os.open(os.environ[\"M\"] + \"/f\", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)\ng = os.dup(f)\nos.write(f, b\"a\\n\"); os.close(f)'", "a\n"),
    way("python3 -c '\nimport os\nf = os.open(os.environ[\"M\"] + \"/f\", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)\ng = os.dup(f)\nos.write(f, b\"a\\n\")\nos.execv(\"/bin/true\", [\"true\"])'", "a\n"),
    told("perl -e 'open F, \">\", \"$ENV{M}/f\" or die; F->autoflush; print F \"a\\n\"; if (!fork) { print F \"b\\n\"; exit } wait; close F or die'", "a\nb\n"),
];

#[test]
fn each_redirection_makes_one_version_and_that_one_whole() {
    let mut wrong = Vec::new();
    for Way { script, leaves, .. } in WAYS {
        let mount = Mount::new();
        let first = mount.sh(script).code;
        mount.emulator.set_secret("f", "something longer");
        let second = mount.sh(script).code;
        let versions = mount.values("f");
        let expected = [leaves, "something longer", leaves];
        if (first, second) != (Some(0), Some(0)) || versions != expected {
            wrong.push(format!("{script}\n  {first:?} {second:?} {versions:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_redirection_whose_set_fails_sets_nothing_and_its_program_says_so_if_it_looks() {
    let mut wrong = Vec::new();
    for Way { script, told, .. } in WAYS {
        let mount = Mount::new();
        let locked = Fault::error(409, "ScopeLocked", None).method("PUT");
        mount.emulator.add_fault(locked);
        let outcome = mount.sh(script);
        let versions = mount.values("f");
        if (outcome.code != Some(0)) != *told || !versions.is_empty() {
            wrong.push(format!("{script}\n  {outcome:?} {versions:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_opener_that_closes_before_its_child_has_written_all_leaves_the_whole() {
    // The opener's close is an end: what it wrote itself is set then. The child's is one, too.
    let mount = Mount::new();
    mount
        .sh("python3 -c '\nimport os, subprocess\nf = open(os.environ[\"M\"] + \"/f\", \"wb\", 0)\nf.write(b\"a\\n\")\np = subprocess.Popen([\"sh\", \"-c\", \"sleep 0.3; exec /bin/echo b\"], stdout=f)\nf.close()\np.wait()'")
        .ok();
    assert_eq!(mount.values("f"), ["a\n", "a\nb\n"]);
}

#[test]
fn tee_sets_each_of_its_files_once() {
    let mount = Mount::new();
    mount.sh("echo a | tee $M/f $M/g $M/h > out").ok();
    for name in ["f", "g", "h"] {
        assert_eq!(mount.values(name), ["a\n"], "{name}");
    }
}

#[test]
fn two_programs_that_open_the_same_secret_each_make_a_version_of_their_own() {
    let mount = Mount::new();
    mount
        .sh("exec 3>$M/f 4>$M/f; echo a >&3; echo b >&4; exec 3>&-; exec 4>&-")
        .ok();
    assert_eq!(mount.values("f"), ["a\n", "b\n"]);
}

#[test]
fn a_background_writer_sets_when_it_ends_whoever_started_it() {
    let mount = Mount::new();
    mount
        .sh("(exec setsid sh -c 'sleep 0.5; /bin/echo a; /bin/echo b') > $M/f < /dev/null 2> err & disown")
        .ok();
    wait_until("it is set", || !mount.values("f").is_empty());
    assert_eq!(mount.values("f"), ["a\nb\n"]);
}
