//! Tools that make a new value of the old one.

use crate::row::{Policy, Row, edits};

const INI: &str = "[db]\n\tuser = app\n\tpassword = hunter2-old\n";
const INI_AFTER: &str = "[db]\n\tuser = app\n\tpassword = hunter2-new\n";
const JSON: &str = "{\"password\":\"hunter2-old\"}\n";
const JSON_AFTER: &str = "{\"password\":\"hunter2-new\"}\n";
const LINES: &str = "hunter2-b\nhunter2-a\n";
const LINES_AFTER: &str = "hunter2-a\nhunter2-b\n";
const APPENDED: &str = "user=app\npassword=hunter2-old\nport=5432\n";
const CUT: &str = "user=app\n";

/// perl goes on with the next file.
const CANNOT_OPEN: &[Policy] = &[Policy::SetOnly];

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    edits("vim", ":wq", "vim -u DEFAULTS -N -n -es -c '%s/-old/-new/' -c wq $S").costs_at_most(32),
    edits("vim", ":wq, with its swap file", "script -qec \"vim -u DEFAULTS -N -c 'silent! %s/-old/-new/' -c 'silent! wq' -c cq $S\" /dev/null > log").costs_at_most(32),
    edits("vim", "backup and writebackup", "script -qec \"vim -u DEFAULTS -N -c 'set backup writebackup' -c 'silent! %s/-old/-new/' -c 'silent! wq' -c cq $S\" /dev/null > log").costs_at_most(32),
    edits("vim", "backupcopy=no", "script -qec \"vim -u DEFAULTS -N -c 'set backupcopy=no' -c 'silent! %s/-old/-new/' -c 'silent! wq' -c cq $S\" /dev/null > log").costs_at_most(32),
    edits("nano", "search and replace", "cat > e <<'E'\nset timeout 10\nproc stop {} { exec kill -9 [exp_pid]; exit 1 }\nspawn -noecho nano $env(S)\nexpect_before \"Error\" stop \"denied\" stop \"not found\" stop timeout stop\nexpect \"password\"\nsend \"\\x1c\"\nexpect \"Search\"\nsend -- \"-old\\r\"\nexpect \"Replace with\"\nsend -- \"-new\\r\"\nexpect \"instance\"\nsend \"a\"\nexpect \"Replaced\"\nsend \"\\x13\"\nexpect \"Wrote\"\nsend \"\\x18\"\nexpect eof\nE\nexpect e > log").costs_at_most(32),
    edits("ed", "s and w", "printf '%s\\n' 's/-old/-new/' w q | ed -s $S").costs("get get check set"),
    edits("sed", "-i", "sed -i s/-old/-new/ $S").costs("get get get set"),
    edits("sed", "-i -E, nothing matches: the same bytes", "sed -i s/-new/-old/ $S").after("user=app\npassword=hunter2-old\n").costs("get get get set"),
    edits("perl", "-i -pe", "perl -i -pe s/-old/-new/ $S").silent(CANNOT_OPEN).costs("get get get set"),
    edits("perl", "-i -pe, from its directory", "cd $M && perl -i -pe s/-old/-new/ ${S##*/}").silent(CANNOT_OPEN).costs("get get get set"),
    edits("awk", "-i inplace", "gawk -i inplace '{ sub(/-old/, \"-new\"); print }' $S").costs("get get get set"),
    edits("sort", "-o itself", "sort -o $S $S").before(LINES).after(LINES_AFTER).costs("get get get get check set"),
    edits("jq", "into a file on a disk, cp", "jq -c '.password = \"hunter2-new\"' $S > n && cp n $S").before(JSON).after(JSON_AFTER).costs("get get get get check set"),
    edits("jq", "NAME.tmp beside it, mv", "(set -C; jq -c '.password = \"hunter2-new\"' $S > $S.tmp) && mv $S.tmp $S").before(JSON).after(JSON_AFTER).costs("get get get get get set"),
    edits("git", "config -f", "git config -f $S db.password hunter2-new").before(INI).after(INI_AFTER).costs("get get get get set"),
    edits("crudini", "--set", "crudini --set $S db password hunter2-new").before("[db]\nuser = app\npassword = hunter2-old\n").after("[db]\nuser = app\npassword = hunter2-new\n").costs("get get get get get get set"),
    edits("crudini", "--set --inplace", "crudini --inplace --set $S db password hunter2-new").before("[db]\nuser = app\npassword = hunter2-old\n").after("[db]\nuser = app\npassword = hunter2-new\n").costs("get get check set"),
    edits("python", "r+ in place", "python3 -c 'import os; f = open(os.environ[\"S\"], \"r+\"); t = f.read(); f.seek(0); f.truncate(); f.write(t.replace(\"-old\", \"-new\")); f.close()'"),
    edits("python", "NamedTemporaryFile and os.rename", "python3 -c '\nimport os, tempfile\np = os.environ[\"S\"]\nwith tempfile.NamedTemporaryFile(\"w\", dir=os.path.dirname(p), prefix=\".Db.\", delete=False) as t: t.write(open(p).read().replace(\"-old\", \"-new\"))\nos.rename(t.name, p)'").costs("get get set"),
    edits("bash", "echo >>", "echo port=5432 >> $S").after(APPENDED).silent(&[Policy::FailingAtClose]),
    edits("tee", "-a", "echo port=5432 | tee -a $S > log").after(APPENDED),
    edits("dd", "conv=notrunc seek=", "printf new | dd of=$S bs=1 seek=26 conv=notrunc status=none"),
    edits("truncate", "-s SIZE", "truncate -s 9 $S").after(CUT),
    edits("rsync", "--append", "(cat old; echo port=5432) > longer && rsync --append longer $S").after(APPENDED).costs("get get get get get check set get"),
    edits("patch", "in place", "diff -u old new > p; patch -s $S p").costs("get get get get get set"),
];
