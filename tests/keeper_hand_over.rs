//! An upgrade without an unmount: SIGHUP hands over to the program that is on disk now.

#[path = "keeper/mod.rs"]
mod keeper;

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use keeper::{Mount, SetOnDrop, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn sighup_replaces_the_worker() {
    let mount = Mount::new();
    let before = mount.worker();
    kill(mount.keeper(), Signal::SIGHUP).unwrap();
    wait_for("the next worker", || mount.generation() == 2);
    wait_for("the end of the first", || {
        mount.processes().1 == [mount.worker()]
    });
    assert_ne!(mount.worker(), before);
}

#[test]
fn open_files_and_running_requests_outlive_a_hand_over() {
    let mount = Mount::new();
    let mut open = fs::File::open(mount.file("value")).unwrap();
    thread::scope(|scope| {
        let slow = scope.spawn(|| fs::read(mount.file("open-1000")).unwrap().len());
        thread::sleep(std::time::Duration::from_millis(200));
        kill(mount.keeper(), Signal::SIGHUP).unwrap();
        wait_for("the next worker", || mount.generation() == 2);
        assert_eq!(
            mount.processes().1.len(),
            2,
            "the first still has a request"
        );
        assert_eq!(slow.join().unwrap(), 64);
    });
    wait_for("the end of the first", || mount.processes().1.len() == 1);
    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    open.seek(SeekFrom::Start(0)).unwrap();
    assert_eq!(content.len(), 64);
}

#[test]
fn a_program_on_disk_that_fails_leaves_everything_as_it_was() {
    let mount = Mount::from_copy();
    let worker = mount.worker();
    let program = mount.program().to_owned();
    for (broken, mode) in [("#!/bin/sh\nexit 1\n", 0o755), ("", 0o755), ("", 0o644)] {
        fs::remove_file(&program).unwrap();
        fs::write(&program, broken).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        kill(mount.keeper(), Signal::SIGHUP).unwrap();
        for _ in 0..100 {
            assert_eq!(fs::read(mount.file("value")).unwrap().len(), 64);
            thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(mount.worker(), worker);
        wait_for("one worker", || mount.processes().1 == [worker]);
    }
    // Once it is whole again it is taken.
    mount.copy_program();
    kill(mount.keeper(), Signal::SIGHUP).unwrap();
    wait_for("the next worker", || mount.worker() != worker);
}

/// The device and inode of the file that a process executes.
fn executes(process: Pid) -> (u64, u64) {
    let file = fs::metadata(format!("/proc/{process}/exe")).unwrap();
    (file.dev(), file.ino())
}

#[test]
fn the_keeper_becomes_the_new_program_too() {
    let mount = Mount::from_copy();
    let mut open = fs::File::open(mount.file("value")).unwrap();
    for _ in 0..3 {
        mount.copy_program();
        let file = fs::metadata(mount.program()).unwrap();
        kill(mount.keeper(), Signal::SIGHUP).unwrap();
        wait_for("the new program", || {
            executes(mount.keeper()) == (file.dev(), file.ino())
        });
        assert_eq!(executes(mount.worker()), executes(mount.keeper()));
    }
    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    assert_eq!(content.len(), 64);
    // It still does what a keeper does.
    kill(mount.worker(), Signal::SIGKILL).unwrap();
    assert_eq!(fs::read(mount.file("value")).unwrap().len(), 64);
    kill(mount.keeper(), Signal::SIGTERM).unwrap();
    mount.assert_ends();
    assert!(!mount.is_mounted());
}

#[test]
fn being_told_to_end_just_before_the_keeper_is_replaced_is_not_forgotten() {
    for _ in 0..5 {
        let mount = Mount::new();
        let first = mount.worker();
        kill(mount.keeper(), Signal::SIGHUP).unwrap();
        // The new program is being tried out now; the next thing is to execute it.
        wait_for("the end of the first worker", || {
            let workers = mount.processes().1;
            workers.len() == 1 && workers != [first]
        });
        kill(mount.keeper(), Signal::SIGTERM).unwrap();
        mount.assert_ends();
        assert!(!mount.is_mounted());
    }
}

#[test]
fn requests_in_flight_outlive_the_old_keeper() {
    let mount = Mount::from_copy();
    kill(mount.keeper(), Signal::SIGHUP).unwrap();
    wait_for("the next worker", || mount.generation() == 2);
    thread::scope(|scope| {
        // The second worker has these when the keeper is replaced.
        let slow: Vec<_> = (0..4)
            .map(|number| {
                let path = mount.file(&format!("open-1500-{number}"));
                scope.spawn(move || fs::read(path).unwrap().len())
            })
            .collect();
        mount.copy_program();
        let file = fs::metadata(mount.program()).unwrap();
        thread::sleep(std::time::Duration::from_millis(100));
        kill(mount.keeper(), Signal::SIGHUP).unwrap();
        wait_for("the new program", || {
            executes(mount.keeper()) == (file.dev(), file.ino())
        });
        for reader in slow {
            assert_eq!(reader.join().unwrap(), 64);
        }
    });
}

#[test]
fn no_reader_notices_hand_overs() {
    let mount = Mount::from_copy();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|reader| {
                let (path, done) = (mount.file(&format!("value-{reader}")), &done);
                scope.spawn(move || {
                    let expected = format!("{:.<64}", format!("value-{reader}"));
                    while !done.load(Ordering::SeqCst) {
                        let content = fs::read_to_string(&path);
                        assert_eq!(content.as_deref().ok(), Some(&*expected), "{content:?}");
                    }
                })
            })
            .collect();
        let finished = SetOnDrop(&done);
        for _ in 0..20 {
            let before = mount.generation();
            mount.copy_program();
            kill(mount.keeper(), Signal::SIGHUP).unwrap();
            wait_for("the next worker", || mount.generation() > before);
            let file = fs::metadata(mount.program()).unwrap();
            wait_for("the next keeper", || {
                executes(mount.keeper()) == (file.dev(), file.ino())
            });
        }
        drop(finished);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    wait_for("one worker", || mount.processes().1.len() == 1);
}
