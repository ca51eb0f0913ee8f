//! Claude Code: Anthropic's Messages API; its state is where `CLAUDE_CONFIG_DIR` says.

use super::{Place, Setup};
use crate::model::{Call, Input, Tool};
use serde_json::json;

pub const FIRST: &[&str] =
    &["claude", "--print", "--dangerously-skip-permissions", "--model", "claude-sonnet-5"];
pub const RESUMED: &[&str] =
    &["claude", "--print", "--dangerously-skip-permissions", "--model", "claude-sonnet-5", "--continue"];

pub fn setup(place: &Place) -> Setup {
    let env = vec![
        ("ANTHROPIC_BASE_URL", place.model.clone()),
        ("ANTHROPIC_API_KEY", "scripted".to_owned()),
        ("CLAUDE_CONFIG_DIR", format!("{}/claude", place.state)),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
        ("DISABLE_AUTOUPDATER", "1".to_owned()),
        // It asks root for a word that this is a sandbox.
        ("IS_SANDBOX", "1".to_owned()),
    ];
    Setup { files: Vec::new(), env }
}

pub fn call(tool: &Tool) -> Call {
    let (name, input) = match tool {
        Tool::Read { path } => ("Read", json!({"file_path": path})),
        Tool::Write { path, text } => ("Write", json!({"file_path": path, "content": text})),
        Tool::Edit { path, old, new } => {
            ("Edit", json!({"file_path": path, "old_string": old, "new_string": new}))
        }
        Tool::Run { command } => ("Bash", json!({"command": command, "description": "Runs a command"})),
    };
    Call { name, input: Input::Json(input) }
}
