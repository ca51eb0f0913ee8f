//! The matrix: each provider of sandboxes with each coding agent, and both ways a sandbox ends. The agents are those
//! that npm has; the model that each talks to follows a script. What counts is what the host sees.

#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

mod agents;
mod broken;
mod model;
mod providers;
mod story;
mod table;
mod work;

use agents::Agent;
use providers::Provider;
use story::Teardown;

fn cell(provider: Provider, agent: Agent, teardown: Teardown) {
    table::noted((provider, agent, teardown), || story::run(provider, agent, teardown, story::nothing));
}

/// A module for each provider, in it one for each agent, in it a test for each teardown.
macro_rules! matrix {
    ($($provider:ident $name:ident: $($agent:ident $module:ident),*;)*) => {$(
        mod $name {$(
            mod $module {
                use crate::{Agent, Provider, Teardown, cell};
                #[test]
                fn clean() {
                    cell(Provider::$provider, Agent::$agent, Teardown::Clean);
                }
                #[test]
                fn killed() {
                    cell(Provider::$provider, Agent::$agent, Teardown::Killed);
                }
            }
        )*}
    )*};
}

matrix! {
    Local local: Claude claude, Codex codex, OpenCode opencode, Pi pi;
    Container container: Claude claude, Codex codex, OpenCode opencode, Pi pi;
}
