//! One cell of the matrix: an agent works in a sandbox, the sandbox ends, another one mounts the session, and the
//! agent goes on with its conversation. Each step is checked from the host.

use crate::agents::{Agent, Place};
use crate::model::Model;
use crate::providers::{Provider, Sandbox};
use crate::support::{Ran, Tree, World};
use crate::work::{NOTES, REPOSITORY, check, script};
use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

/// How a sandbox ends after the first turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teardown {
    /// `cwdfs unmount`.
    Clean,
    /// SIGKILL for everything, with the network gone from the moment the turn ended: what is not in the store by
    /// then is lost.
    Killed,
}

/// What is done to the session between the sandboxes; only the tests of the matrix itself do any.
pub type Meanwhile = fn(&World);

/// How much was compared.
pub struct Passed {
    /// Names in the session when its first sandbox ended.
    pub names: usize,
    /// Those of them in the agent's state.
    pub of_state: usize,
    /// Plain objects that the other S3 client compared.
    pub objects: usize,
}

/// How long a request is held at the end of a turn whose sandbox is killed: a close that does not wait for the store
/// returns before it has the data.
const HOLD: Duration = Duration::from_millis(300);

struct Cell<'w> {
    world: &'w World,
    provider: Provider,
    agent: Agent,
    model: Model,
    place: Place,
}

/// Runs a cell; panics with what does not hold.
pub fn run(provider: Provider, agent: Agent, teardown: Teardown, meanwhile: Meanwhile) -> Passed {
    let name = format!("matrix-{provider:?}-{agent:?}-{teardown:?}").to_lowercase();
    let world = World::with_relay(&name);
    world.witness.put(NOTES.0, NOTES.1);
    let model = Model::start(script(&world.prefix), agent.call()).expect("a port for the model");
    let place = Place { state: format!("{}/.agent", provider.cwd(&world)), model: model.url() };
    let cell = Cell { world: &world, provider, agent, model, place };
    let before = cell.first_turn(teardown);
    meanwhile(&world);
    let objects = cell.second_turn(&before, teardown);
    let of_state = before.0.keys().filter(|name| name.starts_with(".agent")).count();
    Passed { names: before.0.len(), of_state, objects }
}

impl Cell<'_> {
    /// The agent's first turn in a sandbox, and that sandbox's end; the tree as it was then.
    fn first_turn(&self, teardown: Teardown) -> Tree {
        let sandbox = self.provider.start(self.world, "first", &[]);
        let setup = self.agent.setup(&self.place);
        fs::create_dir_all(sandbox.path(".agent/home")).expect("the agent's directory");
        for file in &setup.files {
            let path = sandbox.path(".agent").join(file.path);
            fs::create_dir_all(path.parent().expect("it has a parent")).expect("a directory");
            fs::write(path, &file.text).expect("the agent's configuration");
        }
        let repository = ["bash", "-c", REPOSITORY].map(str::to_owned);
        sandbox.run(&setup, &repository).ok();
        self.turn(0, &*sandbox);
        if teardown == Teardown::Killed {
            self.world.relay().set_delay(HOLD);
        }
        self.note(&*sandbox);
        if teardown == Teardown::Killed {
            self.world.relay().cut();
        }
        check(&sandbox.path(""), 1);
        let before = sandbox.tree();
        match teardown {
            Teardown::Clean => sandbox.unmount(),
            Teardown::Killed => sandbox.kill(),
        }
        self.world.relay().heal();
        self.world.relay().set_delay(Duration::ZERO);
        if teardown == Teardown::Clean {
            self.in_the_bucket(&before);
        }
        before
    }

    /// The second turn in another sandbox, and what is there afterwards; how many objects were compared.
    fn second_turn(&self, before: &Tree, teardown: Teardown) -> usize {
        // A session that was given back needs no takeover, however long its lease is.
        let options: &[&str] = match teardown {
            Teardown::Clean => &["--require-session"],
            Teardown::Killed => &["--require-session", "--takeover"],
        };
        let sandbox = self.provider.start(self.world, "second", options);
        before.assert_same(&sandbox.tree(), "the session in the next sandbox");
        self.turn(1, &*sandbox);
        check(&sandbox.path(""), 2);
        sandbox.cwdfs("flush", &["--view"]).ok();
        let after = sandbox.tree();
        let objects = self.in_the_bucket(&after);
        sandbox.unmount();
        let host = self.world.host("the-host").mount(&["--read-only"]);
        after.assert_same(&Tree::of(host.root()), "the session on the host, at last");
        check(host.root(), 2);
        host.unmount();
        objects
    }

    /// Has the agent do a turn; it has to end with the script's words, and the model has to have seen all before it.
    fn turn(&self, turn: usize, sandbox: &dyn Sandbox) {
        let setup = self.agent.setup(&self.place);
        let script = script(&self.world.prefix);
        let (prompt, say) = (&script.0[turn].prompt, &script.0[turn].say);
        let agent = self.agent.command(turn > 0, prompt);
        let limit = ["timeout", "--kill-after=5", "600"].map(str::to_owned);
        let ran = sandbox.run(&setup, &[&limit[..], &agent].concat());
        let told = self.model.told();
        eprintln!("turn {turn} took {:.1?}", ran.took);
        let show = |ran: &Ran| format!("{ran}\n-- the model was asked:\n{}", told.log.join("\n"));
        assert!(told.wrong.is_empty(), "turn {turn}: {}\n{}", told.wrong.join("\n"), show(&ran));
        assert!(told.ended.contains(&turn), "turn {turn}: it did not come to its end\n{}", show(&ran));
        assert_eq!(ran.code, Some(0), "turn {turn}: the agent's exit code\n{}", show(&ran));
        assert!(ran.out.contains(say), "turn {turn}: the agent did not say {say:?}\n{}", show(&ran));
    }

    /// What a harness does after a turn: a line in a log of its own. It is the barrier that covers the turn's last
    /// renames and unlinks, which nobody waits for.
    fn note(&self, sandbox: &dyn Sandbox) {
        let mut log = File::create(sandbox.path(".agent/turns")).expect("the harness's log");
        log.write_all(b"turn 0 has ended\n").expect("a line in the harness's log");
        nix::unistd::close(log).expect("the close of the harness's log");
    }

    /// Another S3 client finds each file of the tree as a plain object with its bytes; says how many.
    fn in_the_bucket(&self, tree: &Tree) -> usize {
        let files = tree.0.iter().filter(|(_, entry)| entry.kind == "file");
        let compared = files.map(|(name, entry)| {
            let key = name.to_str().expect("names here are text");
            let object = self.world.witness.object(key);
            let object = object.unwrap_or_else(|| panic!("{key} is not in the bucket"));
            let hash = blake3::hash(&object.bytes).to_hex()[..16].to_owned();
            assert_eq!(Some(&hash), entry.content.as_ref(), "the object {key} has other bytes than the file");
        });
        compared.count()
    }
}

/// Nothing happens between the sandboxes.
pub fn nothing(_: &World) {}
