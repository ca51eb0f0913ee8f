//! The coding agents, as they are on npm: how each is pointed at a model server on loopback, where it keeps its
//! state, how its tools are called, and how its last conversation is resumed.
//!
//! Invariant: everything an agent keeps is below [`Place::state`], which is in the session.

mod claude;
mod codex;
mod opencode;
mod pi;

use crate::model::{Call, Tool};
use std::path::{Path, PathBuf};

/// What an agent is told of where it works.
pub struct Place {
    /// Where it keeps what it knows, in the session.
    pub state: String,
    /// The model server: `http://127.0.0.1:PORT`.
    pub model: String,
}

/// A file of an agent's configuration.
pub struct File {
    /// Relative to its state.
    pub path: &'static str,
    /// What is in it.
    pub text: String,
}

/// What an agent needs before its first turn.
pub struct Setup {
    /// Its configuration.
    pub files: Vec<File>,
    /// Its environment.
    pub env: Vec<(&'static str, String)>,
}

/// A coding agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agent {
    /// Claude Code.
    Claude,
    /// Codex.
    Codex,
    /// OpenCode.
    OpenCode,
    /// pi.
    Pi,
}

impl Agent {
    /// All of them.
    pub const ALL: [Agent; 4] = [Agent::Claude, Agent::Codex, Agent::OpenCode, Agent::Pi];

    /// Its package on npm.
    pub fn package(self) -> &'static str {
        match self {
            Agent::Claude => "@anthropic-ai/claude-code",
            Agent::Codex => "@openai/codex",
            Agent::OpenCode => "opencode-ai",
            Agent::Pi => "@earendil-works/pi-coding-agent",
        }
    }

    /// Its name and version, as it is installed.
    pub fn name(self) -> String {
        let name = match self {
            Agent::Claude => "Claude Code",
            Agent::Codex => "Codex",
            Agent::OpenCode => "OpenCode",
            Agent::Pi => "pi",
        };
        let manifest = installed().join("node_modules").join(self.package()).join("package.json");
        let text = std::fs::read_to_string(&manifest)
            .unwrap_or_else(|e| panic!("{}: {e}; tests/install installs it", manifest.display()));
        let manifest: serde_json::Value = serde_json::from_str(&text).expect("a manifest is JSON");
        format!("{name} {}", manifest["version"].as_str().expect("a manifest has a version"))
    }

    /// What it needs to work here.
    pub fn setup(self, place: &Place) -> Setup {
        let mut setup = match self {
            Agent::Claude => claude::setup(place),
            Agent::Codex => codex::setup(place),
            Agent::OpenCode => opencode::setup(place),
            Agent::Pi => pi::setup(place),
        };
        // Nothing but loopback: a request to anywhere else fails at once, on every machine alike.
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            setup.env.push((name, "http://127.0.0.1:9".to_owned()));
        }
        for name in ["NO_PROXY", "no_proxy"] {
            setup.env.push((name, "127.0.0.1,localhost".to_owned()));
        }
        setup.env.push(("HOME", format!("{}/home", place.state)));
        setup
    }

    /// The command line of a turn; `resumed`: in the last conversation, as an agent that is started anew finds it.
    pub fn command(self, resumed: bool, prompt: &str) -> Vec<String> {
        let words = match (self, resumed) {
            (Agent::Claude, false) => claude::FIRST,
            (Agent::Claude, true) => claude::RESUMED,
            (Agent::Codex, false) => codex::FIRST,
            (Agent::Codex, true) => codex::RESUMED,
            (Agent::OpenCode, false) => opencode::FIRST,
            (Agent::OpenCode, true) => opencode::RESUMED,
            (Agent::Pi, false) => pi::FIRST,
            (Agent::Pi, true) => pi::RESUMED,
        };
        words.iter().copied().chain([prompt]).map(str::to_owned).collect()
    }

    /// How it is told to use a tool.
    pub fn call(self) -> fn(&Tool) -> Call {
        match self {
            Agent::Claude => claude::call,
            Agent::Codex => codex::call,
            Agent::OpenCode => opencode::call,
            Agent::Pi => pi::call,
        }
    }
}

/// Where tests/install puts the agents, and the Node that some of them need.
pub fn installed() -> PathBuf {
    match std::env::var_os("CWDFS_TEST_AGENTS") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/agents"),
    }
}
