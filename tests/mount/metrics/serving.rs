//! Where metrics are served, and that nothing about it holds up the file system or a mount.

use super::exposition::Exposition;
use super::{ANYWHERE, address, ask, scrape};
use crate::support::World;
use crate::support::mount::is_mounted;
use crate::work::write_closed;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn a_unix_socket_is_its_users_alone_and_goes_with_the_daemon() {
    let world = World::new("metrics-unix");
    let path = world.local("run").join("m.sock");
    let option = format!("metrics=unix:{}", path.display());
    let mount = world.host("a").mount(&["-o", &option]);
    assert_eq!(fs::metadata(&path).expect("the socket").permissions().mode() & 0o777, 0o600);
    let (head, body) = ask(UnixStream::connect(&path).expect("connect"), GET);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert_eq!(Exposition::parse(&body).value("cwdfs_lease_state", &[("state", "held")]), 1.0);
    assert_eq!(mount.status()["metrics"], format!("unix:{}", path.display()));
    mount.unmount();
    assert!(!path.exists(), "the socket is left");
}

#[test]
fn nothing_is_served_unless_asked_for() {
    let world = World::new("metrics-none");
    let mount = world.host("a").mount(&[]);
    assert!(mount.status()["metrics"].is_null());
    mount.unmount();
}

#[test]
fn an_address_that_is_taken_or_none_is_refused_and_nothing_is_changed() {
    let world = World::new("metrics-refused");
    let host = world.host("a");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("it has one").to_string();
    host.run_mount(&["--metrics", &at]).exits(5).says(&["--metrics", &at, "in use"]);
    let file = world.local("run").join("precious");
    fs::write(&file, "kept").expect("a file");
    let unix = format!("unix:{}", file.display());
    host.run_mount(&["--metrics", &unix]).exits(5).says(&["--metrics", "no socket"]);
    assert_eq!(fs::read(&file).expect("it is there"), b"kept");
    let inside = format!("unix:{}", host.mountpoint.join("m.sock").display());
    host.run_mount(&["--metrics", &inside]).exits(5).says(&["metrics socket", "lies in the mount point"]);
    for wrong in ["9464", ":9464", "host:9464", "unix:", "127.0.0.1:x"] {
        let ran = host.run_mount(&["--metrics", wrong]).exits(2).says(&["127.0.0.1:9464"]);
        assert_eq!(ran.err.matches("error:").count(), 1, "{ran}");
    }
    host.run_mount(&["-o", "metrics"]).exits(2).says(&["metrics"]);
    assert!(!is_mounted(&host.mountpoint) && !host.cache.exists(), "something was changed");
    assert!(world.witness.keys().is_empty(), "something was written");
}

#[test]
fn scrapers_that_hang_hold_up_neither_the_files_nor_for_long_each_other() {
    let world = World::new("metrics-hang");
    let mount = world.host("a").mount(&ANYWHERE);
    let at = address(&mount);
    let silent: Vec<_> = (0..30).map(|_| TcpStream::connect(&at).expect("connect")).collect();
    for n in 0..20 {
        write_closed(&mount.path(format!("f{n}")), b"content").expect("files go on");
    }
    // Those that have a place lose it after a while, by themselves.
    let start = Instant::now();
    let answered = loop {
        let scraper = TcpStream::connect(&at).expect("connect");
        scraper.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let got = std::panic::catch_unwind(|| ask(&scraper, GET));
        match got {
            Ok(answer) => break answer,
            Err(_) => assert!(start.elapsed() < Duration::from_secs(60), "nobody is answered any more"),
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    assert!(answered.1.contains("cwdfs_build_info"), "{}", answered.1);
    drop(silent);
    // Many at once: each gets a whole page or is hung up on.
    for _ in 0..50 {
        scrape(&mount);
    }
    mount.unmount();
}

#[test]
fn figures_are_served_while_a_mount_that_was_taken_away_stores_what_it_owes() {
    let world = World::with_relay("metrics-draining");
    let options = ["--durability", "fsync", "--commit-interval", "60s", "--timeout", "60s"];
    let mut mount = world.host("a").mount(&[&ANYWHERE[..], &options].concat());
    let at = address(&mount);
    write_closed(&mount.path("f"), b"owed").expect("a file");
    world.relay().black_hole();
    mount.signal(rustix::process::Signal::TERM);
    let start = Instant::now();
    while is_mounted(mount.root()) {
        assert!(start.elapsed() < Duration::from_secs(60), "it is still mounted");
        std::thread::sleep(Duration::from_millis(50));
    }
    let page = Exposition::parse(&ask(TcpStream::connect(&at).expect("connect"), GET).1);
    assert!(page.value("cwdfs_commit_lag_seconds", &[]) > 0.0, "{:#?}", page.samples);
    world.relay().heal();
    assert_eq!(mount.wait_end(Duration::from_secs(90)).code(), Some(0), "{}", mount.log());
}
