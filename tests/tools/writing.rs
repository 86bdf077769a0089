//! Tools that put new bytes in place of a secret's, which they need not see.

use crate::row::{OLD, Policy, Row, idles, reads, refused, writes};

/// Errors of write(2) are told, errors of close(2) are not looked at.
const IGNORES_CLOSE: &[Policy] = &[Policy::FailingAtClose];

/// It writes when nobody listens any more: python as it ends, what looks like mkstemp 5 s later.
const NEVER_TOLD: &[Policy] = &[Policy::GetOnly, Policy::FailingAtClose];

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    writes("bash", "echo >", "echo \"$(cat new)\" > $S").silent(IGNORES_CLOSE),
    writes("bash", "printf >", "printf '%s\\n' \"$(cat new)\" > $S").silent(IGNORES_CLOSE),
    writes("dash", "echo >", "dash -c 'echo \"$(cat new)\" > $S'").silent(IGNORES_CLOSE),
    writes("echo", "the program, >", "/bin/echo \"$(cat new)\" > $S"),
    writes("cat", ">", "cat new > $S"),
    writes("cat", "> a new secret", "cat new > $S").new_secret(),
    writes("cat", "here-document", "cat > $S <<EOF\n$(cat new)\nEOF"),
    writes("tee", "pipe", "cat new | tee $S > out"),
    writes("tee", "a new secret", "cat new | tee $S > out").new_secret(),
    writes("cp", "overwrite", "cp new $S").costs("get get get check set"),
    writes("cp", "a new secret", "cp new $S").new_secret().costs("get get check set"),
    writes("cp", "-p of a file with the secret's mode", "chmod 600 new && cp -p new $S").costs("get get get check set"),
    writes("install", "-m 600, a new secret", "install -m 600 new $S").new_secret().goes_by_the_old().costs("get get get check set get"),
    writes("dd", "of=", "dd if=new of=$S status=none"),
    writes("dd", "of= conv=fsync", "dd if=new of=$S conv=fsync status=none"),
    writes("rsync", "--inplace", "touch -d 2001-01-01 new && rsync --inplace new $S").goes_by_the_old().costs("get get get get check set get"),
    writes("rsync", "over it", "touch -d 2001-01-01 new && rsync new $S").costs("get get get get set"),
    writes("rsync", "a new secret", "rsync new $S").new_secret().costs("get get get get get set"),
    writes("sort", "-o", "sort -r -o $S new"),
    writes("curl", "-o", "curl -sS -o $S file:///mnt/work/new"),
    writes("openssl", "-out", "openssl enc -base64 -d -in <(base64 new) -out $S").silent(IGNORES_CLOSE),
    writes("base64", "-d >", "base64 new | base64 -d > $S"),
    writes("xxd", "-r", "xxd new | xxd -r > $S"),
    writes("tar", "extract over it", "mkdir t && cp new t/Db && chmod 600 t/Db && tar -cf a -C t Db && tar -xf a --overwrite -C $M"),
    writes("busybox", "cp", "busybox cp new $S").costs("get get get check set"),
    writes("python", "open('w')", "python3 -c 'import os; f = open(os.environ[\"S\"], \"w\"); f.write(open(\"new\").read()); f.close()'"),
    writes("python", "open('w'), never closed", "python3 -c 'import os; f = open(os.environ[\"S\"], \"w\"); f.write(open(\"new\").read())'").silent(NEVER_TOLD),
    writes("python", "open('x+')", "umask 077; python3 -c 'import os; f = open(os.environ[\"S\"], \"x+\"); f.write(open(\"new\").read()); f.close()' && sleep 7").new_secret().goes_by_the_old().silent(NEVER_TOLD).costs("get get set"),
    // The random name may have an underscore, which no secret has, and is then not looked up.
    writes("python", "mkstemp and os.replace", "python3 -c '\nimport os, tempfile\nfd, name = tempfile.mkstemp(dir=os.environ[\"M\"])\nos.write(fd, open(\"new\", \"rb\").read())\nos.fsync(fd)\nos.close(fd)\nos.replace(name, os.environ[\"S\"])'").costs_at_most(3),
    writes("python", "NAME.tmp and os.replace", "python3 -c '\nimport os\nname = os.environ[\"S\"] + \".tmp\"\nwith open(name, \"x\") as f: f.write(open(\"new\").read())\nos.replace(name, os.environ[\"S\"])'").costs("get set"),
    writes("python", "shutil.copyfile", "python3 -c 'import os, shutil; shutil.copyfile(\"new\", os.environ[\"S\"])'").costs("get get get check set"),
    writes("python", "pathlib write_text", "python3 -c 'import os, pathlib; pathlib.Path(os.environ[\"S\"]).write_text(open(\"new\").read())'"),
    writes("perl", "open >", "perl -e 'open F, \">\", $ENV{S} or die; open N, \"new\"; print F <N>; close F or die'"),
    writes("java", "Files.write", "cat > W.java <<'E'\nclass W { public static void main(String[] a) throws Exception { java.nio.file.Files.write(java.nio.file.Path.of(a[0]), java.nio.file.Files.readAllBytes(java.nio.file.Path.of(\"new\"))); } }\nE\njava W.java $S"),
    writes("java", "Files.move onto it", "cat > W.java <<'E'\nimport java.nio.file.*;\nclass W { public static void main(String[] a) throws Exception { var t = Files.createTempFile(Path.of(a[0]).getParent(), \"w\", null); Files.copy(Path.of(\"new\"), t, StandardCopyOption.REPLACE_EXISTING); Files.move(t, Path.of(a[0]), StandardCopyOption.ATOMIC_MOVE); } }\nE\njava W.java $S").costs("get set"),
    idles("touch", "an existing one", "touch $S"),
    idles("touch", "a name that is not there", "touch $S").new_secret(),
    idles("truncate", "-s 0", "truncate -s 0 $S"),
    idles("bash", ": >", ": > $S"),
    idles("false", "a producer that fails, >", "false > $S; true"),
    idles("tee", "a producer that writes nothing", "(exit 1) | tee $S; true"),
    reads("chmod", "600, as it is", "chmod 600 $S").prints("").costs("get get"),
    writes("cat", "the same value", "cat old > $S").after(OLD),
    refused("mv", "from a disk", "mv new $S").costs("get get get"),
    refused("mv", "a secret to another name", "mv $S $M/Other").costs("get get get get get"),
    refused("install", "-m 600 over it", "install -m 600 new $S").costs("get get get"),
    refused("cp", "--remove-destination", "cp --remove-destination new $S").costs("get get get"),
    refused("cp", "25,601 bytes", "yes hunter2 | head -c 25601 > big; cp big $S").costs("get get get check"),
    refused("rm", "-f", "rm -f $S").costs("get get"),
    refused("ln", "a second name", "ln $S $M/Other").costs("get get get"),
    refused("chmod", "644", "chmod 644 $S").costs("get get"),
    refused("truncate", "-s 9 on a path nobody opened", "python3 -c 'import os; os.truncate(os.environ[\"S\"], 9)'"),
    refused("ls", "the directory", "ls $M").costs(""),
    refused("grep", "-r", "grep -r hunter2 $M").costs(""),
];
