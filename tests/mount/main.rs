//! Tests on a real mount over a real S3 server, with a second S3 client as witness: where the promises are
//! made, they are tested. One program for all of them, so that it is linked once.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod barriers;
mod batch;
mod cache;
mod commands;
mod container;
mod credentials;
mod differs;
mod disk;
mod durability;
mod eject;
mod faults;
mod follower;
mod fsck;
mod fstab;
mod geesefs;
mod geesefs_real;
mod helper;
mod inspect;
mod integrity;
mod keeper;
mod limits;
mod locks;
mod logs;
mod metrics;
mod modes;
mod mountpoint;
mod odd;
mod orchestrator;
mod overtaken;
mod owners;
mod packages;
mod places;
mod posix;
mod progress;
mod promises;
mod random_io;
mod relay;
mod requests;
mod resume;
mod rig;
mod salvage;
mod ships_its_size;
mod soak;
mod succession;
mod suites;
mod systemd;
mod tools;
mod twin;
mod view;
mod watchdog;
mod work;
