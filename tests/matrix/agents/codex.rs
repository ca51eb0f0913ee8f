//! Codex: OpenAI's Responses API, by a provider in its config.toml; its state is where `CODEX_HOME` says.

use super::{File, Place, Setup};
use crate::model::{Call, Input, Tool};
use serde_json::json;

pub const FIRST: &[&str] = &["codex", "exec", "--skip-git-repo-check"];
pub const RESUMED: &[&str] = &["codex", "exec", "resume", "--last", "--skip-git-repo-check"];

pub fn setup(place: &Place) -> Setup {
    let model = &place.model;
    // A model that it knows has the tools that it knows.
    let config = format!(
        r#"model = "gpt-5.5"
model_provider = "scripted"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.scripted]
name = "Scripted"
base_url = "{model}/v1"
env_key = "SCRIPTED_KEY"
wire_api = "responses"
"#
    );
    let env = vec![("CODEX_HOME", format!("{}/codex", place.state)), ("SCRIPTED_KEY", "scripted".to_owned())];
    Setup { files: vec![File { path: "codex/config.toml", text: config }], env }
}

pub fn call(tool: &Tool) -> Call {
    match tool {
        Tool::Read { path } => run(&format!("cat {path}")),
        Tool::Run { command } => run(command),
        Tool::Write { path, text } => patch(&format!("*** Add File: {path}\n{}", lines('+', text))),
        Tool::Edit { path, old, new } => {
            patch(&format!("*** Update File: {path}\n@@\n{}{}", lines('-', old), lines('+', new)))
        }
    }
}

fn run(command: &str) -> Call {
    Call { name: "exec_command", input: Input::Json(json!({"cmd": command, "yield_time_ms": 30_000})) }
}

fn patch(hunk: &str) -> Call {
    Call { name: "apply_patch", input: Input::Text(format!("*** Begin Patch\n{hunk}*** End Patch\n")) }
}

fn lines(sign: char, text: &str) -> String {
    text.lines().map(|line| format!("{sign}{line}\n")).collect()
}
