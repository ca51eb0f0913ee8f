//! A model server that follows a script instead of thinking: on loopback, in the three protocols that the agents
//! speak, each answer streamed.
//!
//! Invariants:
//! - it keeps no place in the script: where a conversation stands is read from each request, so a request that is
//!   sent twice is answered twice the same;
//! - a request is answered only if the conversation up to there is in it, whole and in order; anything else is an
//!   error that the agent ends with, and that [`Model::told`] keeps.

mod chat;
mod item;
mod messages;
mod responses;
mod script;
mod server;

pub use script::{Call, Input, Script, Step, Tool, Turn};
pub use server::Model;

use item::Item;
use serde_json::Value;

/// How an agent and its model talk to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic's Messages.
    Messages,
    /// OpenAI's Responses.
    Responses,
    /// OpenAI's Chat Completions.
    Chat,
}

impl Dialect {
    const ALL: [Dialect; 3] = [Dialect::Messages, Dialect::Responses, Dialect::Chat];

    /// The dialect whose requests go to this path.
    fn at(path: &str) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.path() == path)
    }

    fn path(self) -> &'static str {
        match self {
            Dialect::Messages => "/v1/messages",
            Dialect::Responses => "/v1/responses",
            Dialect::Chat => "/v1/chat/completions",
        }
    }

    /// The conversation in a request, oldest first.
    fn items(self, body: &Value) -> Vec<Item> {
        match self {
            Dialect::Messages => messages::items(body),
            Dialect::Responses => responses::items(body),
            Dialect::Chat => chat::items(body),
        }
    }

    /// The stream of the answer `id` that is text. No two answers may have one id: agents tell them apart by it.
    fn say(self, id: &str, text: &str) -> String {
        match self {
            Dialect::Messages => messages::say(id, text),
            Dialect::Responses => responses::say(id, text),
            Dialect::Chat => chat::say(id, text),
        }
    }

    /// The stream of the answer `id` that calls a tool, as the call of this id.
    fn call(self, id: &str, call: &Call) -> String {
        match self {
            Dialect::Messages => messages::call(id, call),
            Dialect::Responses => responses::call(id, call),
            Dialect::Chat => chat::call(id, call),
        }
    }
}

/// One event of a stream, named as its `type` says where it has one.
fn event(value: &Value) -> String {
    let name = value["type"].as_str().map(|name| format!("event: {name}\n")).unwrap_or_default();
    format!("{name}data: {value}\n\n")
}
