//! Large files: 256 MiB written and read, and small changes of one of 1 GiB.

use super::{Cell, Work, one_of};
use crate::raw::Raw;
use crate::sample::{Sample, Unit};
use crate::systems::{Kind, Mounted};
use crate::{shell, sources};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

/// Written and read whole.
pub const WHOLE: Work = Work {
    name: "large",
    title: "a file of 256 MiB: written and synced, read on another machine, read again",
    takes: |system, quick| match system.kind() {
        Kind::Limit => system.name() != "bare-checked",
        Kind::Raw => true,
        Kind::Ours => one_of(system, &["cwdfs-fsync", "cwdfs-fsync-daemon"]),
        Kind::Peer => !quick,
    },
    rounds: (1, 5),
    run: whole,
};

/// Changed in small places.
pub const EDIT: Work = Work {
    name: "edit",
    title: "a file of 1 GiB: a line appended and synced, 4 KiB written over and synced",
    takes: |system, quick| match system.kind() {
        Kind::Ours => system.name() == "cwdfs-fsync",
        Kind::Peer => !quick,
        _ => system.name() == "local",
    },
    rounds: (1, 5),
    run: edit,
};

/// Until fsync has returned, and the store has all.
pub const WRITE: &str = "write 256 MiB and fsync";
/// The same until all is in the store.
pub const WRITTEN: &str = "write 256 MiB, all in the store";
/// On another machine, the mount not counted.
pub const COLD: &str = "read 256 MiB, cold";
/// Again.
pub const WARM: &str = "read 256 MiB, warm";
/// A line at the end.
pub const APPEND: &str = "append a line and fsync";
/// 4 KiB in the middle.
pub const REWRITE: &str = "write 4 KiB over and fsync";
/// A PUT in turns with them.
pub const PUT: &str = "a PUT of 4 KiB";
/// What was sent for one.
pub const SHIPPED: &str = "bytes sent for each change";

const SIZE: usize = 256 << 20;
const GIB: u64 = 1 << 30;

fn whole(cell: &Cell<'_>, sample: &mut Sample) {
    let bytes = sources::noise(7, SIZE);
    if cell.system.kind() == Kind::Raw {
        let client = Raw::new(&cell.world);
        sample.add(WRITTEN, Unit::Seconds, client.multipart("large", &bytes).as_secs_f64());
        let (got, took) = client.get_parallel("large", SIZE);
        assert!(got == bytes, "not the bytes that were written");
        sample.add(COLD, Unit::Seconds, took.as_secs_f64());
        return;
    }
    let mounted = cell.mount("a", &["--no-publish"]);
    let meter = cell.meter(mounted.as_ref());
    let start = Instant::now();
    let mut file = File::create(mounted.root().join("large")).expect("create a file");
    bytes.chunks(1 << 20).for_each(|piece| file.write_all(piece).expect("write it"));
    file.sync_all().and_then(|()| Ok(nix::unistd::close(file)?)).expect("fsync and close it");
    sample.add(WRITE, Unit::Seconds, start.elapsed().as_secs_f64());
    let stored = mounted.settle() - start;
    sample.add_with(WRITTEN, Unit::Seconds, stored.as_secs_f64(), meter.read());
    cell.bytes_are_stored(sample, SIZE as u64);
    sample.sure(mounted.made_sure());
    if cell.is_bare() {
        shell::drop_caches();
        read(cell, mounted.as_ref(), &bytes, sample);
        mounted.unmount();
        return;
    }
    mounted.lose();
    let mounted = cell.mount("b", &["--no-publish", "--takeover"]);
    read(cell, mounted.as_ref(), &bytes, sample);
    mounted.unmount();
}

fn read(cell: &Cell<'_>, mounted: &dyn Mounted, bytes: &[u8], sample: &mut Sample) {
    let path = mounted.root().join("large");
    for measure in [COLD, WARM] {
        let meter = cell.meter(mounted);
        let start = Instant::now();
        let same = reads_as(&path, bytes);
        sample.add_with(measure, Unit::Seconds, start.elapsed().as_secs_f64(), meter.read());
        assert!(same, "not the bytes that were written");
    }
}

/// Reads a file, and whether it is what it shall be; comparing costs each system the same.
fn reads_as(path: &Path, bytes: &[u8]) -> bool {
    let mut file = File::open(path).expect("open it");
    let mut buffer = vec![0; 1 << 20];
    bytes.chunks(1 << 20).all(|piece| {
        file.read_exact(&mut buffer[..piece.len()]).expect("read it");
        buffer[..piece.len()] == *piece
    })
}

fn edit(cell: &Cell<'_>, sample: &mut Sample) {
    let mounted = cell.mount("a", &["--no-publish"]);
    let path = mounted.root().join("large");
    let piece = sources::noise(8, 64 << 20);
    let mut file = File::create(&path).expect("create a file");
    (0..GIB / piece.len() as u64).for_each(|_| file.write_all(&piece).expect("write it"));
    file.sync_all().and_then(|()| Ok(nix::unistd::close(file)?)).expect("fsync and close it");
    mounted.settle();
    let client = Raw::new(&cell.world);
    let file = OpenOptions::new().write(true).open(&path).expect("open it");
    let appending = OpenOptions::new().append(true).open(&path).expect("open it");
    let changes = 10;
    for measure in [APPEND, REWRITE] {
        let (mut took, mut puts, mut up) = (Vec::new(), Vec::new(), 0);
        for n in 0..changes {
            let body = sources::noise(100 + n, 4096);
            cell.world.relay().reset();
            let start = Instant::now();
            match measure {
                APPEND => (&appending).write_all(&body[..80]).and_then(|()| appending.sync_all()),
                _ => file.write_all_at(&body, n * 97 * 4096 + (GIB >> 1)).and_then(|()| file.sync_all()),
            }
            .expect("a change");
            took.push(start.elapsed().as_secs_f64() * 1e3);
            up = up.max(cell.world.relay().bytes().0);
            puts.push(client.put(&n.to_string(), body).as_secs_f64() * 1e3);
        }
        sample.add(measure, Unit::Millis, crate::sample::median(&took));
        sample.add(PUT, Unit::Millis, crate::sample::median(&puts));
        sample.add(format!("{SHIPPED}: {measure}"), Unit::Bytes, up as f64);
    }
    mounted.settle();
    sample.sure(mounted.made_sure());
    drop((file, appending));
    verify(mounted.root(), &piece, changes);
    mounted.unmount();
}

/// The file has its changes at the end and in the middle.
fn verify(root: &Path, piece: &[u8], changes: u64) {
    let file = File::open(root.join("large")).expect("open it");
    let mut buffer = vec![0; 4096];
    for n in 0..changes {
        let body = sources::noise(100 + n, 4096);
        file.read_exact_at(&mut buffer, n * 97 * 4096 + (GIB >> 1)).expect("read it");
        assert!(buffer == body, "what was written over is not there");
        file.read_exact_at(&mut buffer[..80], GIB + n * 80).expect("read it");
        assert!(buffer[..80] == body[..80], "what was appended is not there");
    }
    file.read_exact_at(&mut buffer, 12 * 4096).expect("read it");
    assert!(buffer == piece[12 * 4096..13 * 4096], "what was not changed is not there");
}
