//! A script: what the user says in each turn, which tools the model has the agent call, what these must come to,
//! and what the model says at the end.

use super::item::Item;
use serde_json::Value;

/// Something an agent is made to do in its working directory. Paths are relative to it.
#[derive(Debug, Clone)]
pub enum Tool {
    /// Reads a file.
    Read { path: &'static str },
    /// Makes a file; the text ends with a newline.
    Write { path: &'static str, text: String },
    /// Replaces a whole line that is there once by other lines.
    Edit { path: &'static str, old: String, new: String },
    /// Runs a shell command.
    Run { command: String },
}

/// A tool call as an agent takes it.
pub struct Call {
    /// The tool's name with this agent.
    pub name: &'static str,
    /// What it is given.
    pub input: Input,
}

/// What a tool is given.
pub enum Input {
    /// An object.
    Json(Value),
    /// Text as it is.
    Text(String),
}

/// A tool call and what its result has to contain.
pub struct Step {
    /// What is to be done.
    pub tool: Tool,
    /// A part of the result.
    pub shows: String,
}

/// One turn of the conversation.
pub struct Turn {
    /// What the user says.
    pub prompt: String,
    /// What the model has the agent do, one after the other.
    pub steps: Vec<Step>,
    /// What the model says then.
    pub say: String,
}

/// A conversation.
pub struct Script(pub Vec<Turn>);

/// Where a conversation stands: what comes next.
pub enum Next {
    /// This step of this turn.
    Step { turn: usize, step: usize },
    /// The words that end this turn.
    Say { turn: usize },
}

/// The id of a step's tool call.
pub fn id(turn: usize, step: usize) -> String {
    format!("call_{turn}_{step}")
}

impl Script {
    /// What comes next in this conversation; the error says what of it is not as it should be: each turn so far
    /// has to be there, whole, in order, with the results that its steps must have.
    pub fn next(&self, items: &[Item]) -> Result<Next, String> {
        let spoken = |prompt: &str| items.iter().any(|i| matches!(i, Item::User(t) if t.contains(prompt)));
        let turn = self.0.iter().rposition(|turn| spoken(&turn.prompt)).ok_or("no prompt of the script")?;
        let mut rest = items.iter();
        for earlier in 0..turn {
            let done = self.walk(earlier, &mut rest)?;
            let steps = self.0[earlier].steps.len();
            if done != steps {
                return Err(format!("turn {earlier}: {done} of {steps} results are in the history"));
            }
            let say = &self.0[earlier].say;
            let said = rest.any(|item| matches!(item, Item::Said(text) if text.contains(say)));
            said.then_some(()).ok_or(format!("turn {earlier}: what the model said is not in the history"))?;
        }
        match self.walk(turn, &mut rest)? {
            step if step < self.0[turn].steps.len() => Ok(Next::Step { turn, step }),
            _ => Ok(Next::Say { turn }),
        }
    }

    /// Goes over a turn's prompt and its steps as far as they have results; says how many have.
    fn walk<'i>(&self, turn: usize, rest: &mut impl Iterator<Item = &'i Item>) -> Result<usize, String> {
        let script = &self.0[turn];
        let prompt = |item: &Item| matches!(item, Item::User(text) if text.contains(&script.prompt));
        rest.any(prompt).then_some(()).ok_or(format!("turn {turn}: its prompt is not in its place"))?;
        for (step, Step { shows, .. }) in script.steps.iter().enumerate() {
            if !rest.any(|item| matches!(item, Item::Call(call) if *call == id(turn, step))) {
                return Ok(step);
            }
            let result = rest.find_map(|item| match item {
                Item::Result { id: of, text } if *of == id(turn, step) => Some(text),
                _ => None,
            });
            let Some(result) = result else { return Err(format!("turn {turn}, step {step}: no result")) };
            if !result.contains(shows) {
                return Err(format!("turn {turn}, step {step}: expected {shows:?} in {result:?}"));
            }
        }
        Ok(script.steps.len())
    }
}

#[test]
fn a_conversation_that_lost_any_part_of_its_history_is_refused() {
    let turn = |prompt: &str, steps, say: &str| Turn { prompt: prompt.into(), steps, say: say.into() };
    let step = Step { tool: Tool::Run { command: String::new() }, shows: "ok".into() };
    let script = Script(vec![turn("one", vec![step], "done"), turn("two", Vec::new(), "end")]);
    let result = Item::Result { id: id(0, 0), text: "it is ok".into() };
    let said = Item::Said("done".into());
    let whole = [Item::User("one".into()), Item::Call(id(0, 0)), result, said, Item::User("two".into())];
    assert!(matches!(script.next(&whole), Ok(Next::Say { turn: 1 })));
    for lost in 0..4 {
        let mut items = whole.to_vec();
        items.remove(lost);
        assert!(script.next(&items).is_err(), "it lost {:?}", whole[lost]);
    }
}
