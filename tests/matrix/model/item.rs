//! What a conversation is made of, whatever the protocol.

use serde_json::Value;

/// One part of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// What the user, or the agent in the user's name, said.
    User(String),
    /// What the model said.
    Said(String),
    /// The model called a tool, under this id.
    Call(String),
    /// What the call of this id came to.
    Result { id: String, text: String },
}

impl Item {
    /// What the tool call `id` came to, whose content is text or parts.
    pub fn result(id: &Value, content: &Value) -> Item {
        Item::Result { id: text(id), text: text(content) }
    }
}

/// Text as the protocols have it: a string, or parts that each have a `text`; anything else as its JSON.
pub fn text(content: &Value) -> String {
    match content {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| part["text"].as_str().unwrap_or_default());
            texts.collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// The elements of an array; none of anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
