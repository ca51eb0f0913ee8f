//! OpenCode: Chat Completions, by a provider in its opencode.json; its state is below the XDG directories.

use super::{File, Place, Setup};
use crate::model::{Call, Input, Tool};
use serde_json::json;

pub const FIRST: &[&str] = &["opencode", "run", "--auto"];
pub const RESUMED: &[&str] = &["opencode", "run", "--auto", "--continue"];

pub fn setup(place: &Place) -> Setup {
    let config = json!({
        "$schema": "https://opencode.ai/config.json",
        "autoupdate": false, "share": "disabled", "enabled_providers": ["scripted"],
        "model": "scripted/model", "small_model": "scripted/model",
        "provider": {"scripted": {
            "npm": "@ai-sdk/openai-compatible", "name": "Scripted",
            "options": {"baseURL": format!("{}/v1", place.model), "apiKey": "scripted"},
            "models": {"model": {"name": "Scripted"}},
        }},
    });
    let state = &place.state;
    let env = vec![
        ("OPENCODE_CONFIG", format!("{state}/opencode/opencode.json")),
        ("XDG_DATA_HOME", format!("{state}/opencode/data")),
        ("XDG_CONFIG_HOME", format!("{state}/opencode/config")),
        ("XDG_STATE_HOME", format!("{state}/opencode/state")),
        ("XDG_CACHE_HOME", format!("{state}/opencode/cache")),
        ("OPENCODE_DISABLE_MODELS_FETCH", "1".to_owned()),
        ("OPENCODE_DISABLE_AUTOUPDATE", "1".to_owned()),
        ("OPENCODE_DISABLE_LSP_DOWNLOAD", "1".to_owned()),
    ];
    Setup { files: vec![File { path: "opencode/opencode.json", text: config.to_string() }], env }
}

pub fn call(tool: &Tool) -> Call {
    let (name, input) = match tool {
        Tool::Read { path } => ("read", json!({"filePath": path})),
        Tool::Write { path, text } => ("write", json!({"filePath": path, "content": text})),
        Tool::Edit { path, old, new } => {
            ("edit", json!({"filePath": path, "oldString": old, "newString": new}))
        }
        Tool::Run { command } => ("bash", json!({"command": command})),
    };
    Call { name, input: Input::Json(input) }
}
