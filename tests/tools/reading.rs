//! Tools that read a secret.

use crate::row::{OLD, Policy, Row, reads};

const PRINTED_OK: &str = "ok\n";
const JSON: &str = "{\"user\":\"app\",\"password\":\"hunter2-old\"}";
const INI: &str = "[db]\n\tpassword = hunter2-old\n";
const SHELL: &str = "PASSWORD=hunter2-old\n";
/// It says so and goes on without.
const GOES_ON: &[Policy] = &[Policy::SetOnly];
/// Entries exist in a drop box, empty and unreadable: a tool that only looks at them ends well.
const LOOKS_ONLY: &[Policy] = &[Policy::SetOnly];

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    reads("cat", "print", "cat $S"),
    reads("cat", "another spelling of the name", "cat $M/dB"),
    reads("cat", "a here-document around it", "cat <<EOF\n$(cat $S)\nEOF").silent(GOES_ON),
    reads("head", "first line", "head -n 1 $S").prints("user=app\n"),
    reads("head", "first bytes", "head -c 4 $S").prints("user"),
    reads("tail", "last line", "tail -n 1 $S").prints("password=hunter2-old\n"),
    reads("tail", "from a byte on", "tail -c +10 $S").prints("password=hunter2-old\n"),
    reads("tac", "lines backwards", "tac $S | tac"),
    reads("grep", "print what matches", "grep password $S").prints("password=hunter2-old\n"),
    reads("grep", "does it match", "grep -q ^password= $S && echo ok").prints(PRINTED_OK),
    reads("sed", "print a line", "sed -n 1p $S").prints("user=app\n"),
    reads("awk", "print a field", "awk -F= '/^user/ { print $2 }' $S").prints("app\n"),
    reads("cut", "print a field", "cut -d= -f1 $S").prints("user\npassword\n"),
    reads("sort", "print", "sort -r $S").costs("get get get"),
    reads("wc", "count bytes", "wc -c < $S").prints("30\n"),
    reads("wc", "count lines", "wc -l < $S").prints("2\n"),
    reads("od", "dump", "[ \"$(od -c $S)\" = \"$(od -c old)\" ] && echo ok").prints(PRINTED_OK),
    reads("xxd", "dump", "xxd $S | xxd -r"),
    reads("base64", "encode", "base64 $S | base64 -d"),
    reads("sha256sum", "checksum", "sha256sum $S | cut -c1-64 | diff - <(sha256sum old | cut -c1-64) && echo ok").prints(PRINTED_OK),
    reads("cmp", "compare", "cmp $S old && echo ok").prints(PRINTED_OK),
    reads("diff", "compare", "diff $S old && echo ok").prints(PRINTED_OK).costs("get get"),
    reads("file", "what is it", "file -b $S").prints("ASCII text\n").silent(LOOKS_ONLY).costs("get get"),
    reads("less", "into a pipe", "less $S | cat").silent(GOES_ON).costs("get get get get get get"),
    reads("stat", "size", "stat -c %s $S").prints("30\n").silent(LOOKS_ONLY),
    reads("ls", "-l of the file", "ls -l $S | cut -d' ' -f1,3,4,5").prints("-rw------- root root 30\n").silent(LOOKS_ONLY).costs("get get get"),
    reads("[", "-s: is there something", "[ -s $S ] && echo ok").prints(PRINTED_OK),
    reads("bash", "source", "source $S && echo $PASSWORD").before(SHELL).prints("hunter2-old\n"),
    reads("dash", ".", "dash -c '. $S && echo $PASSWORD'").before(SHELL).prints("hunter2-old\n"),
    reads("bash", "$(< file)", "value=$(< $S) && echo \"$value\""),
    reads("bash", "read", "read -r line < $S && echo $line").prints("user=app\n"),
    reads("bash", "mapfile", "{ mapfile -t lines < $S; } && echo ${lines[1]}").prints("password=hunter2-old\n"),
    reads("dd", "copy", "dd if=$S status=none"),
    reads("dd", "a byte at a time", "dd if=$S bs=1 status=none"),
    reads("cp", "to a disk", "cp $S copy && cat copy").costs("get get"),
    reads("cp", "-p to a disk", "cp -p $S copy && [ copy -nt /proc/1/stat -o copy -ot /proc ] && cat copy").costs("get get"),
    reads("install", "-m 600 to a disk", "install -m 600 $S copy && cat copy").costs("get get"),
    reads("rsync", "to a disk", "rsync $S copy && cat copy").costs("get get get"),
    reads("tar", "archive", "tar -cPf - $S | tar -xPOf -").costs("get get"),
    reads("gzip", "compress", "gzip -c $S | gunzip"),
    reads("busybox", "cat", "busybox cat $S"),
    reads("busybox", "cp", "busybox cp $S copy && cat copy").costs("get get get"),
    reads("python", "read", "python3 -c 'import os; print(open(os.environ[\"S\"]).read(), end=\"\")'"),
    reads("python", "mmap", "python3 -c 'import os, mmap; f = open(os.environ[\"S\"], \"rb\"); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY); os.write(1, m[:])'"),
    reads("python", "os.sendfile", "python3 -c 'import os; f = open(os.environ[\"S\"], \"rb\"); os.sendfile(1, f.fileno(), 0, 100)' | cat"),
    reads("python", "shutil.copyfile", "python3 -c 'import os, shutil; shutil.copyfile(os.environ[\"S\"], \"copy\")' && cat copy").costs("get get get"),
    reads("python", "configparser", "python3 -c 'import os, configparser; c = configparser.ConfigParser(); c.read(os.environ[\"S\"]); print(c[\"db\"][\"password\"])'").before(INI).prints("hunter2-old\n"),
    reads("perl", "read", "perl -pe 1 $S").silent(GOES_ON),
    reads("java", "Files.readAllBytes", "cat > R.java <<'E'\nclass R { public static void main(String[] a) throws Exception { System.out.write(java.nio.file.Files.readAllBytes(java.nio.file.Path.of(a[0]))); System.out.flush(); } }\nE\njava R.java $S"),
    reads("java", "Files.copy", "cat > R.java <<'E'\nclass R { public static void main(String[] a) throws Exception { java.nio.file.Files.copy(java.nio.file.Path.of(a[0]), java.nio.file.Path.of(a[1])); } }\nE\njava R.java $S copy && cat copy").costs("get get"),
    reads("java", "FileChannel.transferTo", "cat > R.java <<'E'\nclass R { public static void main(String[] a) throws Exception { var in = java.nio.channels.FileChannel.open(java.nio.file.Path.of(a[0])); in.transferTo(0, in.size(), java.nio.channels.Channels.newChannel(System.out)); System.out.flush(); } }\nE\njava R.java $S"),
    reads("jq", "a field", "jq -r .password $S").before(JSON).prints("hunter2-old\n"),
    reads("git", "config --get", "git config -f $S --get db.password").before(INI).prints("hunter2-old\n"),
    reads("git", "hash-object", "[ $(git hash-object $S) = $(git hash-object old) ] && echo ok").prints(PRINTED_OK),
    reads("curl", "file://", "curl -sS file://$S"),
    reads("curl", "--config", "echo page > page; curl --config $S").before("silent\nurl = \"file:///mnt/work/page\"\n").prints("page\n"),
    reads("openssl", "enc -pass file:", "echo text | openssl enc -aes-256-cbc -pbkdf2 -pass file:$S | openssl enc -d -aes-256-cbc -pbkdf2 -pass file:old").prints("text\n"),
    reads("openssl", "dgst", "[ \"$(openssl dgst -r < $S)\" = \"$(openssl dgst -r < old)\" ] && echo ok").prints(PRINTED_OK),
    reads("xargs", "-a", "xargs -a $S -n 1 echo").prints(OLD),
    reads("getfattr", "-d", "getfattr -d --absolute-names $S | grep -c ^user.keyvault.version=").prints("1\n").costs("get get"),
];
