//! Machines with networks of their own: a network namespace each, joined to the test's by a link that can be
//! taken down, and on which everything that runs can be killed at once.
//!
//! Invariant: what is made here carries the test program's process id, and goes when its owner is dropped; what
//! a program that was killed has left behind is removed by the next.

use super::ran::Ran;
use nix::sched::CloneFlags;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// An address of the test's that machines with networks of their own reach.
pub struct Network {
    /// The first three bytes of the addresses.
    net: [u8; 3],
    machines: AtomicU16,
}

/// One machine's piece of network.
#[derive(Clone)]
pub struct Segment(Arc<Inner>);

struct Inner {
    name: String,
    link: String,
    address: Ipv4Addr,
}

impl Network {
    /// A network without machines. Root only.
    pub fn new() -> Network {
        remove_left_behind();
        // Of the range for providers' own networks, so that no one else's is hidden.
        let net = [100, 64 + rand::random_range(0..64), rand::random_range(0..255)];
        let network = Network { net, machines: AtomicU16::new(0) };
        ip(&format!("addr add {}/32 dev lo", network.address()));
        network
    }

    /// Where machines reach the test.
    pub fn address(&self) -> Ipv4Addr {
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c, 1)
    }

    /// The address of machine `n`: of a thousand rounds each may have made one.
    fn machines_address(&self, n: u16) -> Ipv4Addr {
        const A_NET: u16 = 250;
        let [a, b, c] = self.net;
        Ipv4Addr::new(a, b, c.wrapping_add((n / A_NET) as u8), 2 + (n % A_NET) as u8)
    }

    /// A new machine's piece of network, with its link up.
    pub fn machine(&self) -> Segment {
        let address = self.machines_address(self.machines.fetch_add(1, Ordering::Relaxed));
        let pid = std::process::id();
        static LINKS: AtomicU16 = AtomicU16::new(0);
        let number = LINKS.fetch_add(1, Ordering::Relaxed);
        let (name, link) = (format!("cwdfs-{pid}-{number}"), format!("cw{pid}n{number}"));
        let inner = Inner { name, link, address };
        ip(&format!("netns add {}", inner.name));
        ip(&format!("-n {} link set lo up", inner.name));
        inner.join(self.address());
        Segment(Arc::new(inner))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Left over, it is in nobody's way.
        let _ =
            Command::new("ip").args(["addr", "del", &format!("{}/32", self.address()), "dev", "lo"]).status();
    }
}

impl Inner {
    /// A link between the machine and the test, over which they reach each other and nobody else.
    fn join(&self, test: Ipv4Addr) {
        let Inner { name, link, address } = self;
        ip(&format!("link add {link} type veth peer name eth0 netns {name}"));
        ip(&format!("link set {link} up"));
        ip(&format!("route add {address}/32 dev {link}"));
        ip(&format!("-n {name} addr add {address}/32 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {name} route add {test}/32 dev eth0"));
    }
}

impl Segment {
    /// What runs another program on this machine: its command line is to follow.
    pub fn runner(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", place(&self.0.name).display()));
        command
    }

    /// Listens at an address that only this machine has.
    pub fn listen(&self, address: Ipv4Addr, port: u16) -> TcpListener {
        ip(&format!("-n {} addr add {address}/32 dev lo", self.0.name));
        let place = place(&self.0.name);
        // A socket stays in the namespace in which it was made; a thread has one of its own.
        let listening = std::thread::spawn(move || {
            let space = fs::File::open(&place).expect("the network namespace");
            nix::sched::setns(space, CloneFlags::CLONE_NEWNET).expect("enter it: run as root");
            TcpListener::bind((address, port)).expect("listen there")
        });
        listening.join().expect("no panic")
    }

    /// Cuts the machine off: what is sent is lost, and nobody is told.
    pub fn unplug(&self) {
        ip(&format!("link set {} down", self.0.link));
    }

    /// Undoes [`Segment::unplug`].
    pub fn plug(&self) {
        let Inner { link, address, .. } = &*self.0;
        ip(&format!("link set {link} up"));
        // Routes go with a link that goes down.
        ip(&format!("route replace {address}/32 dev {link}"));
    }

    /// Kills everything that runs on the machine; says how many processes those were.
    pub fn kill_all(&self) -> usize {
        let pids = Ran::of(Command::new("ip").args(["netns", "pids", &self.0.name])).ok().out;
        let pids = pids.lines().filter_map(|line| rustix::process::Pid::from_raw(line.trim().parse().ok()?));
        // One that has ended meanwhile is what is wanted.
        pids.filter(|pid| rustix::process::kill_process(*pid, rustix::process::Signal::KILL).is_ok()).count()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Where the namespace of this name is kept.
fn place(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Its link goes with it.
fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).status();
}

/// Removes the namespaces of test programs that are gone.
fn remove_left_behind() {
    let Ok(names) = fs::read_dir("/run/netns") else { return };
    for entry in names.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("cwdfs-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

#[track_caller]
fn ip(args: &str) {
    Ran::of(Command::new("ip").args(args.split(' '))).ok();
}

#[test]
fn a_thousand_machines_have_an_address_each_and_none_the_tests() {
    let network = Network { net: [100, 64, 254], machines: AtomicU16::new(0) };
    let addresses: std::collections::BTreeSet<_> = (0..1000).map(|n| network.machines_address(n)).collect();
    assert_eq!(addresses.len(), 1000);
    assert!(!addresses.contains(&network.address()));
}
