//! pi: Chat Completions, by a provider in its models.json; its state is where `PI_CODING_AGENT_DIR` says.

use super::{File, Place, Setup};
use crate::model::{Call, Input, Tool};
use serde_json::json;

pub const FIRST: &[&str] = &["pi", "--print", "--provider", "scripted", "--model", "model"];
pub const RESUMED: &[&str] = &["pi", "--print", "--provider", "scripted", "--model", "model", "--continue"];

pub fn setup(place: &Place) -> Setup {
    let models = json!({"providers": {"scripted": {
        "baseUrl": format!("{}/v1", place.model), "api": "openai-completions", "apiKey": "scripted",
        "models": [{"id": "model"}],
    }}});
    let env = vec![
        ("PI_CODING_AGENT_DIR", format!("{}/pi", place.state)),
        ("PI_OFFLINE", "1".to_owned()),
        ("PI_TELEMETRY", "0".to_owned()),
        ("PI_SKIP_VERSION_CHECK", "1".to_owned()),
    ];
    Setup { files: vec![File { path: "pi/models.json", text: models.to_string() }], env }
}

pub fn call(tool: &Tool) -> Call {
    let (name, input) = match tool {
        Tool::Read { path } => ("read", json!({"path": path})),
        Tool::Write { path, text } => ("write", json!({"path": path, "content": text})),
        Tool::Edit { path, old, new } => {
            ("edit", json!({"path": path, "edits": [{"oldText": old, "newText": new}]}))
        }
        Tool::Run { command } => ("bash", json!({"command": command})),
    };
    Call { name, input: Input::Json(input) }
}
