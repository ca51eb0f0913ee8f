//! OpenAI's Responses API, as Codex speaks it.

use super::event;
use super::item::{Item, list, text};
use super::script::{Call, Input};
use serde_json::{Value, json};

/// The conversation in a request.
pub fn items(body: &Value) -> Vec<Item> {
    let items = list(&body["input"]).iter().filter_map(|item| match item["type"].as_str() {
        Some("message") | None if item["role"] == "user" => Some(Item::User(text(&item["content"]))),
        Some("message") | None if item["role"] == "assistant" => Some(Item::Said(text(&item["content"]))),
        Some("function_call" | "custom_tool_call") => Some(Item::Call(text(&item["call_id"]))),
        Some("function_call_output" | "custom_tool_call_output") => {
            Some(Item::result(&item["call_id"], &item["output"]))
        }
        _ => None,
    });
    items.collect()
}

/// An answer of text.
pub fn say(id: &str, text: &str) -> String {
    let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
    let item = |content: Value, status: &str| {
        json!({"type": "message", "id": format!("msg_{id}"), "role": "assistant", "status": status,
            "content": content})
    };
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0,
        "item_id": format!("msg_{id}"), "delta": text});
    stream(id, &item(json!([]), "in_progress"), Some(&delta), &item(content, "completed"))
}

/// An answer that calls a tool: a function with JSON, or a tool that takes text as it is.
pub fn call(id: &str, call: &Call) -> String {
    let item = match &call.input {
        Input::Json(input) => json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": id,
            "name": call.name, "arguments": input.to_string(), "status": "completed"}),
        Input::Text(input) => json!({"type": "custom_tool_call", "id": format!("ctc_{id}"), "call_id": id,
            "name": call.name, "input": input, "status": "completed"}),
    };
    stream(id, &item, None, &item)
}

fn stream(id: &str, begun: &Value, delta: Option<&Value>, done: &Value) -> String {
    let id = format!("resp_{id}");
    let usage = json!({
        "input_tokens": 10, "output_tokens": 10, "total_tokens": 20,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    });
    let completed = json!({"id": id, "status": "completed", "output": [done], "usage": usage});
    let begin = [
        json!({"type": "response.created", "response": {"id": id, "status": "in_progress"}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": begun}),
    ];
    let end = [
        json!({"type": "response.output_item.done", "output_index": 0, "item": done}),
        json!({"type": "response.completed", "response": completed}),
    ];
    begin.iter().chain(delta).chain(&end).map(event).collect()
}
