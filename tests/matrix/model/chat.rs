//! OpenAI's Chat Completions API, as OpenCode and pi speak it.

use super::event;
use super::item::{Item, list, text};
use super::script::{Call, Input};
use serde_json::{Value, json};

/// The conversation in a request.
pub fn items(body: &Value) -> Vec<Item> {
    list(&body["messages"]).iter().flat_map(of_message).collect()
}

fn of_message(message: &Value) -> Vec<Item> {
    match message["role"].as_str() {
        Some("user") => vec![Item::User(text(&message["content"]))],
        Some("tool") => vec![Item::result(&message["tool_call_id"], &message["content"])],
        Some("assistant") => {
            let said = Some(text(&message["content"])).filter(|text| !text.is_empty()).map(Item::Said);
            let calls = list(&message["tool_calls"]).iter().map(|call| Item::Call(text(&call["id"])));
            said.into_iter().chain(calls).collect()
        }
        _ => Vec::new(),
    }
}

/// An answer of text.
pub fn say(id: &str, text: &str) -> String {
    stream(id, &json!({"role": "assistant", "content": text}), "stop")
}

/// An answer that calls a tool.
pub fn call(id: &str, call: &Call) -> String {
    let Input::Json(input) = &call.input else { panic!("{} takes JSON here", call.name) };
    let function = json!({"name": call.name, "arguments": input.to_string()});
    let calls = json!([{"index": 0, "id": id, "type": "function", "function": function}]);
    stream(id, &json!({"role": "assistant", "content": null, "tool_calls": calls}), "tool_calls")
}

fn stream(id: &str, delta: &Value, finish: &str) -> String {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20});
    let chunk = |choices: Value| {
        event(&json!({"id": format!("chatcmpl_{id}"), "object": "chat.completion.chunk", "created": 1,
            "model": "scripted", "choices": choices, "usage": usage}))
    };
    let begun = chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]));
    let ended = chunk(json!([{"index": 0, "delta": {}, "finish_reason": finish}]));
    format!("{begun}{ended}data: [DONE]\n\n")
}
