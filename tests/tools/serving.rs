//! Tools that load a key, a password or a page from a secret and serve it, or log in with it.

use crate::row::{KEY, Policy, Row, reads};

const OK: &str = "ok\n";
/// It asks, or tries, without a password.
const GOES_ON: &[Policy] = &[Policy::SetOnly];

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    reads("openssl", "pkey -check", "openssl pkey -in $S -check -noout").before(KEY).prints("Key is valid\n").costs("get get"),
    reads("openssl", "req -x509 -key", "openssl req -x509 -key $S -subj /CN=x | openssl x509 -noout -subject").before(KEY).prints("subject=CN = x\n").costs("get get"),
    reads("openssl", "s_server -key", "openssl req -x509 -key old -subj /CN=x -out cert && { openssl s_server -quiet -accept 4433 -key $S -cert cert -www & } && up 4433; curl -sSk https://127.0.0.1:4433/ | grep -o TLSv1.3 | sort -u").before(KEY).prints("TLSv1.3\n").costs("get get"),
    reads("nginx", "serve the file", "cat > c <<E\nuser root; daemon off; pid /mnt/work/p; events {} http { access_log off; client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t; sendfile on; server { listen unix:/mnt/work/s; root $M; } }\nE\nnginx -e stderr -p /mnt/work -c c & for i in $(seq 500); do [ -S s ] && break; sleep 0.02; done; curl -sS --fail --unix-socket s http://x/Db"),
    reads("nginx", "ssl_certificate_key", "openssl req -x509 -key old -subj /CN=x -out cert; cat > c <<E\nuser root; daemon off; pid /mnt/work/p; events {} http { access_log off; client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t; uwsgi_temp_path t; scgi_temp_path t; server { listen 4433 ssl; ssl_certificate cert; ssl_certificate_key $S; return 200 ok\\n; } }\nE\nnginx -e stderr -p /mnt/work -c /mnt/work/c & up 4433; curl -sSk --fail https://127.0.0.1:4433/").before(KEY).prints(OK),
    reads("python", "http.server", "python3 -m http.server -d $M -b 127.0.0.1 8000 2> log & up 8000; curl -sS --fail http://127.0.0.1:8000/Db").costs("get get"),
    reads("busybox", "httpd", "busybox httpd -h $M -p 127.0.0.1:8000; curl -sS --fail http://127.0.0.1:8000/Db").costs("get get"),
    reads("ssh-keygen", "-y", "ssh-keygen -y -f $S | diff - <(chmod 600 old; ssh-keygen -y -f old) && echo ok").before(KEY).prints(OK).costs("get get"),
    reads("ssh-add", "into an agent", "eval $(ssh-agent) > log && ssh-add -q $S && ssh-add -l | grep -c ECDSA").before(KEY).prints("1\n"),
    reads("ssh", "-i", "chmod 600 old; mkdir -p .k /run/sshd; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -y -f old > keys; /usr/sbin/sshd -f /dev/null -h /mnt/work/host -o ListenAddress=127.0.0.1:2222 -o AuthorizedKeysFile=/mnt/work/keys -o StrictModes=no -o PidFile=none -o PermitRootLogin=yes && up 2222; ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p 2222 -i $S root@127.0.0.1 echo ok").before(KEY).prints(OK).costs_at_most(10),
    reads("sshd", "HostKey", "mkdir -p /run/sshd; /usr/sbin/sshd -f /dev/null -h $S -o ListenAddress=127.0.0.1:2222 -o PidFile=none && up 2222; ssh-keyscan -p 2222 127.0.0.1 2> log | grep -c ecdsa").before(KEY).prints("1\n").costs_at_most(16),
    reads("psql", "PGPASSFILE", "cat > server.py <<'E'\nimport socket, struct\ns = socket.create_server((\"127.0.0.1\", 5432)); open(\"up\", \"w\"); c, _ = s.accept()\nc.recv(struct.unpack(\">I\", c.recv(4))[0] - 4)\nc.sendall(b\"R\" + struct.pack(\">II\", 8, 3))\nprint(c.recv(1000)[5:-1].decode())\nE\npython3 server.py & for i in $(seq 500); do [ -e up ] && break; sleep 0.02; done; PGPASSFILE=$S PGSSLMODE=disable PGGSSENCMODE=disable psql -h 127.0.0.1 -U app db; wait").before("127.0.0.1:5432:db:app:hunter2-old\n").prints("hunter2-old\n").costs("get get").silent(GOES_ON),
    reads("curl", "--netrc-file", "cat > server.py <<'E'\nimport base64, http.server\nclass H(http.server.BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200); self.end_headers()\n        self.wfile.write(base64.b64decode(self.headers[\"Authorization\"].split()[1]) + b\"\\n\")\nhttp.server.HTTPServer((\"127.0.0.1\", 8000), H).serve_forever()\nE\npython3 server.py 2> log & up 8000; curl -sS --fail --netrc-file $S http://127.0.0.1:8000/").before("machine 127.0.0.1 login app password hunter2-old\n").prints("app:hunter2-old\n").silent(GOES_ON),
];
