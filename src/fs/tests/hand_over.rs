//! Files that an earlier worker opened. Its generation is 0, that of the mount here is 1.

use super::*;
use crate::link::NoteKey;

const FH: u64 = 5;

/// What an earlier worker noted of the open file `a`.
fn note(body: &serde_json::Value) -> Vec<u8> {
    let ino = NodeName::parse("a").map(|name| inodes::Inodes::default().passing(&name).ino);
    let note = serde_json::json!({"ino": ino, "name": {"Secret": "a"}, "opener": 7, "body": body});
    note.to_string().into_bytes()
}

#[tokio::test(start_paused = true)]
async fn a_reader_goes_on_with_its_version() {
    let mount = mount();
    mount.vault.put("a", b"old");
    let version = mount.vault.properties("a").version;
    mount.vault.put("a", b"new");
    let reader = note(&serde_json::json!({"Reader": version}));
    mount.fs.adopt(NoteKey::Handle(FH), &reader);
    assert_eq!(mount.read_all(FH).await, b"old");
    assert_eq!(mount.read_all(FH).await, b"old");
    assert_eq!(mount.gets(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_overtakes_its_handles_note_waits_for_it() {
    let mount = mount();
    mount.vault.put("a", b"1");
    let version = mount.vault.properties("a").version;
    let fs = Arc::clone(&mount.fs);
    let read = tokio::spawn(async move { fs.read(FH, 0, 0, 9, false).await });
    sleep(Duration::from_millis(20)).await;
    assert!(!read.is_finished());
    let reader = note(&serde_json::json!({"Reader": version}));
    mount.fs.adopt(NoteKey::Handle(FH), &reader);
    assert_eq!(read.await.unwrap().unwrap().expose(), b"1");
}

#[tokio::test(start_paused = true)]
async fn a_note_that_was_overtaken_does_not_undo_what_was_written() {
    let mount = mount();
    let writer = note(&serde_json::json!({"Writer": [7, "Emptied"]}));
    mount.fs.adopt(NoteKey::Handle(FH), &writer);
    mount.write(FH, b"v").await.unwrap();
    mount.fs.adopt(NoteKey::Handle(FH), &writer);
    assert_eq!(mount.fs.flush(FH, 7).await, Ok(()));
    assert_eq!(mount.vault.values("a"), [b"v"]);
}

#[tokio::test(start_paused = true)]
async fn a_writer_whose_bytes_died_with_its_worker_gets_to_know() {
    for lost_first in [true, false] {
        let mount = mount();
        let staged = note(&serde_json::json!({"Writer": [7, "Emptied"]}));
        let notes = [NoteKey::Staged(FH), NoteKey::Handle(FH)];
        let (first, second) = (
            notes[usize::from(!lost_first)],
            notes[usize::from(lost_first)],
        );
        mount.fs.adopt(first, &staged);
        mount.fs.adopt(second, &staged);
        assert_eq!(mount.write(FH, b"v").await, Err(Errno::EIO));
        assert_eq!(mount.fs.flush(FH, 7).await, Err(Errno::EIO));
        mount.fs.release(FH).await;
        assert_eq!(mount.sets(), 0);
    }
}
