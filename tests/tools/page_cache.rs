//! "Values do not stay in the kernel's page cache": counted with cachestat(2) through a
//! descriptor that was open before, since opening the file would itself drop its pages.

use crate::harness::Mount;

/// Prints how many pages are cached after READER ran with the file NAME open, and whether there
/// are none soon after it was closed.
const COUNT: &str = r#"
import ctypes, mmap, os, socket, sys, time
path = os.environ["M"] + "/NAME"
watch = os.open(path, os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
def cached():
    whole = (ctypes.c_uint64 * 2)(0, 0)
    counts = (ctypes.c_uint64 * 5)()
    if libc.syscall(451, watch, whole, counts, 0) != 0:
        raise OSError(ctypes.get_errno(), "cachestat")
    return counts[0]
f = open(path, "rb", buffering=0)
READER
print(cached())
f.close()
until = time.monotonic() + 15
while cached() and time.monotonic() < until:
    time.sleep(0.01)
print(cached())
"#;

fn pages_with(reader: &str) -> String {
    let mount = Mount::new();
    mount.emulator.set_secret("f", &value());
    pages_of(&mount, "f", reader)
}

fn pages_of_temporary_with(reader: &str) -> String {
    let mount = Mount::new();
    let name = ".f.swp";
    std::fs::write(mount.path(name), value()).expect("it can be made");
    pages_of(&mount, name, reader)
}

fn value() -> String {
    "0123456789abcdef".repeat(600)
}

fn pages_of(mount: &Mount, name: &str, reader: &str) -> String {
    let script = COUNT.replace("READER", reader).replace("NAME", name);
    std::fs::write(mount.scratch.join("count.py"), script).expect("it can be written");
    mount.sh("python3 $D/count.py").ok().to_owned()
}

const MAP: &str =
    "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY); assert len(m[:]) == 9600; m.close()";
const SEND: &str =
    "a, b = socket.socketpair(); assert os.sendfile(a.fileno(), f.fileno(), 0, 9600) == 9600";

#[test]
fn pages_of_a_mapped_file_are_dropped_when_it_is_closed() {
    assert_eq!(pages_with(MAP), "3\n0\n");
}

#[test]
fn pages_of_a_sent_file_are_dropped_when_it_is_closed() {
    assert_eq!(pages_with(SEND), "3\n0\n");
}

#[test]
fn pages_of_a_temporary_file_are_dropped_when_it_is_closed() {
    assert_eq!(pages_of_temporary_with(MAP), "3\n0\n");
    assert_eq!(pages_of_temporary_with(SEND), "3\n0\n");
}

#[test]
fn read_leaves_no_page_at_all() {
    assert_eq!(pages_with("assert len(f.read()) == 9600"), "0\n0\n");
}
