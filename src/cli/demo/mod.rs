//! `demo`: the promise, shown: a session is worked in, its machine is lost, and it is the same elsewhere.
//!
//! Invariants:
//! - nothing of the user's is touched: a store that is given has to be empty, everything else is in a
//!   temporary directory;
//! - whatever happens, no daemon, mount, file or object of the demo is left.

mod machine;
mod tree;
mod work;

use super::exit::{Exit, Failure};
use super::reach::{ReachArgs, Reached};
use crate::store::{Location, ObjectStore};
use machine::Machine;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tree::Tree;

/// The most objects and differences that are listed.
const SHOWN: usize = 25;
/// How long publishing may take.
const PUBLISHING: Duration = Duration::from_secs(60);

/// Show the promise: work, SIGKILL, a wiped cache, and the same directory elsewhere
///
/// Without STORE it uses a directory of its own. A STORE has to be empty, and is empty again afterwards.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs demo", "cwdfs demo --endpoint http://127.0.0.1:8333 demo:try-it"]))]
pub struct Args {
    #[command(flatten)]
    reach: ReachArgs,
    /// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`, empty
    #[arg(value_name = "STORE")]
    store: Option<Location>,
}

/// Runs the demo.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let local =
        |error: std::io::Error| Failure::new(Exit::CannotStart, format!("temporary directory: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(local)?;
    let dir = tempfile::Builder::new().prefix("cwdfs-demo-").tempdir().map_err(local)?;
    let root = dir.path().canonicalize().map_err(local)?;
    let store = match &args.store {
        Some(store) => store.clone(),
        None => Location::Dir { path: root.join("store") },
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    let demo = Demo {
        args,
        store,
        root,
        runtime: &runtime,
        started: Instant::now(),
        interrupted: Arc::clone(&interrupted),
    };
    let objects = demo.objects()?;
    let [first, second] = ["first", "second"].map(|name| Machine::new(&demo.root, name));
    let (first, second) = (first?, second?);
    runtime.spawn(machine::end_on_signal([first.daemon(), second.daemon()], Arc::clone(&interrupted)));
    let done = demo.play(&first, &second, objects.as_ref());
    first.clear();
    second.clear();
    let cleaned = demo.clean(objects.as_ref());
    // A signal has ended the daemons: what failed then failed because of it.
    runtime.shutdown_background();
    dir.close().map_err(local)?;
    if interrupted.load(Ordering::Acquire) {
        return Err(Failure::new(Exit::TryAgain, "interrupted; everything of the demo is cleaned away"));
    }
    let exit = done?;
    cleaned?;
    Ok(exit)
}

struct Demo<'a> {
    args: &'a Args,
    store: Location,
    root: std::path::PathBuf,
    runtime: &'a tokio::runtime::Runtime,
    started: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Demo<'_> {
    /// Says what is done, and when.
    fn step(&self, what: &str) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Acquire) {
            return Err(Failure::new(Exit::TryAgain, "interrupted"));
        }
        super::say(&format!("{:7.2} s  {what}\n", self.started.elapsed().as_secs_f64()))
    }

    fn note(&self, what: &str) -> Result<(), Failure> {
        super::say(&format!("           {what}\n"))
    }

    /// A client of our own for the store, which has to be empty.
    fn objects(&self) -> Result<Arc<dyn ObjectStore>, Failure> {
        let at = |failure: Failure| failure.context(&self.store);
        let reach = Reached::to_read(&self.store, &self.args.reach);
        let store = self.runtime.block_on(reach).map_err(at)?.store;
        let page = self.runtime.block_on(store.list("", None, 1)).map_err(|error| at(error.into()))?;
        match page.objects.first() {
            None => Ok(store),
            Some(object) => {
                let what = format!("not empty (it has {}); give the demo a store of its own", object.key);
                Err(at(Failure::new(Exit::CannotStart, what)))
            }
        }
    }

    fn play(&self, first: &Machine, second: &Machine, objects: &dyn ObjectStore) -> Result<Exit, Failure> {
        self.step(&format!("a session in {}", self.store))?;
        first.mount(&self.store, &self.args.reach, false)?;
        self.step(&format!("mounted at {}", first.mountpoint().display()))?;
        let before = self.work(first)?;
        first.kill()?;
        self.step("SIGKILL to the daemon, the moment that close had returned")?;
        first.wipe()?;
        self.step("its cache is deleted: this machine knows nothing any more")?;
        second.mount(&self.store, &self.args.reach, true)?;
        self.step(&format!("mounted elsewhere, at {}, with an empty cache", second.mountpoint().display()))?;
        let differences = self.compare(&before, second)?;
        self.show_objects(second, objects)?;
        second.unmount()?;
        self.step("unmounted")?;
        if differences == 0 {
            self.step("everything was equal")?;
            return Ok(Exit::Done);
        }
        Err(Failure::new(
            Exit::CheckFailed,
            format!("{differences} differences: the session is not what it was"),
        ))
    }

    /// Works in the session; returns what it then is.
    fn work(&self, machine: &Machine) -> Result<Tree, Failure> {
        let at = machine.mountpoint();
        for (what, make) in work::PARTS {
            if let Some(missing) = make(at).map_err(|error| failed(what, &error))? {
                self.note(missing)?;
                continue;
            }
            self.step(what)?;
        }
        let fsync = || std::fs::File::open(at)?.sync_all();
        fsync().map_err(|error| failed("fsync of the directory", &error.into()))?;
        self.step("fsync of the directory: renames, modes, links and times are in the store too")?;
        let mut before = Tree::of(at).map_err(|error| failed("reading the tree", &error))?;
        let line = work::last_words(at).map_err(|error| failed("the last line", &error))?;
        before.look_again(at, Path::new(work::NOTES)).map_err(|error| failed("reading the tree", &error))?;
        self.step(&format!("one more line in {}, and close(2): {line:?}", work::NOTES))?;
        Ok(before)
    }

    fn compare(&self, before: &Tree, machine: &Machine) -> Result<usize, Failure> {
        let after = Tree::of(machine.mountpoint()).map_err(|error| failed("reading the tree", &error))?;
        let mut differences = before.differences(&after);
        differences.extend(work::check(machine.mountpoint()));
        for line in differences.iter().take(SHOWN) {
            self.note(&format!("different: {line}"))?;
        }
        if differences.is_empty() {
            self.step(&format!(
                "equal: {} names, {} of content, modes, owners, links, times, xattrs, inode numbers",
                after.len(),
                super::values::human_size(after.bytes())
            ))?;
            self.note("git and SQLite find nothing wrong, the script runs")?;
        }
        Ok(differences.len())
    }

    /// The view, as a web page of the store would list it.
    fn show_objects(&self, machine: &Machine, objects: &dyn ObjectStore) -> Result<(), Failure> {
        let published = machine.publish(PUBLISHING)?;
        let keys = self.runtime.block_on(machine::keys(objects))?;
        let plain: Vec<_> = keys.iter().filter(|(key, _)| !key.starts_with(".cwdfs/")).collect();
        self.step(&format!("{} plain objects in the store, for any S3 tool:", plain.len()))?;
        for (key, size) in plain.iter().filter(|(key, _)| !key.starts_with("repo/.git/")).take(SHOWN) {
            self.note(&format!("{size:>9}  {key}"))?;
        }
        let hidden = plain.iter().filter(|(key, _)| key.starts_with("repo/.git/")).count();
        if hidden > 0 {
            self.note(&format!("           ... and {hidden} below repo/.git/"))?;
        }
        for note in published {
            self.note(&note)?;
        }
        Ok(())
    }

    /// Deletes the session.
    fn clean(&self, objects: &dyn ObjectStore) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let keys: Vec<String> = machine::keys(objects).await?.into_iter().map(|(key, _)| key).collect();
            match objects.delete_many(&keys).await?.into_iter().next() {
                None => Ok(()),
                Some((key, error)) => {
                    Err(Failure::from(error).context(format!("{key} of the demo is left in {}", self.store)))
                }
            }
        })
    }
}

fn failed(what: &str, error: &work::Error) -> Failure {
    Failure::new(Exit::CheckFailed, format!("{what}: {error}"))
}
