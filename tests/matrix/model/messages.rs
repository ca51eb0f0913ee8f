//! Anthropic's Messages API, as Claude Code speaks it.

use super::event;
use super::item::{Item, list, text};
use super::script::{Call, Input};
use serde_json::{Value, json};

/// The conversation in a request.
pub fn items(body: &Value) -> Vec<Item> {
    let messages = list(&body["messages"]).iter();
    messages.flat_map(|message| of_message(message["role"] == "assistant", &message["content"])).collect()
}

fn of_message(by_model: bool, content: &Value) -> Vec<Item> {
    let said = |words: String| if by_model { Item::Said(words) } else { Item::User(words) };
    let Value::Array(blocks) = content else { return vec![said(text(content))] };
    let items = blocks.iter().filter_map(|block| match block["type"].as_str() {
        Some("text") => Some(said(text(&block["text"]))),
        Some("tool_use") => Some(Item::Call(text(&block["id"]))),
        Some("tool_result") => Some(Item::result(&block["tool_use_id"], &block["content"])),
        _ => None,
    });
    items.collect()
}

/// An answer of text.
pub fn say(id: &str, text: &str) -> String {
    let delta = json!({"type": "text_delta", "text": text});
    stream(id, &json!({"type": "text", "text": ""}), &delta, "end_turn")
}

/// An answer that calls a tool.
pub fn call(id: &str, call: &Call) -> String {
    let Input::Json(input) = &call.input else { panic!("{} takes JSON here", call.name) };
    let delta = json!({"type": "input_json_delta", "partial_json": input.to_string()});
    stream(id, &json!({"type": "tool_use", "id": id, "name": call.name, "input": {}}), &delta, "tool_use")
}

fn stream(id: &str, block: &Value, delta: &Value, stop: &str) -> String {
    let message = json!({
        "id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": "scripted", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 1},
    });
    let stopped = json!({"stop_reason": stop, "stop_sequence": null});
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": stopped, "usage": {"output_tokens": 10}}),
        json!({"type": "message_stop"}),
    ];
    events.iter().map(event).collect()
}
