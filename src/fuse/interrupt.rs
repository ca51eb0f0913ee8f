//! Whether a caller that waits is being killed. The kernel cannot take it out of its wait, so we let it go.

use std::time::Duration;

/// Set in a task's flags once a signal is ending it.
const SIGNALED: u64 = 0x400;
/// The bit of SIGKILL in a mask of signals, which the kernel sets for others that end a process at once.
const KILL: u64 = 1 << (libc::SIGKILL - 1);
/// Signals that end a process with a dump of its memory, for which it sets none: unless they are blocked, ignored or
/// caught.
const DUMPS: [i32; 10] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];
/// The first look; most waits are over by then and cost nothing.
const FIRST: Duration = Duration::from_millis(50);
/// Between later looks.
const LATER: Duration = Duration::from_millis(100);

/// Returns once the task `pid` is being killed; never for one that cannot be seen (0).
pub async fn killed(pid: u32) {
    if pid == 0 {
        return std::future::pending().await;
    }
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        if is_being_killed(pid) {
            return;
        }
        pause = LATER;
    }
}

/// `stat` of a task inside exec(2) can be read only once that has ended, which closes files and so may wait for
/// us: it is looked at only when the task has given its memory up, so that no exec is under way.
fn is_being_killed(pid: u32) -> bool {
    // A task whose files are gone has ended: nobody waits for this answer.
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    if has_kill_pending(&status) || has_memory(&status) {
        return has_kill_pending(&status);
    }
    match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => flags(&stat).is_some_and(|f| f & SIGNALED != 0),
        Err(_) => true,
    }
}

/// An exiting task gives its memory up before its files.
fn has_memory(status: &str) -> bool {
    status.lines().any(|line| line.starts_with("VmSize:"))
}

/// The ninth field; the second, the name, may hold spaces and parentheses.
fn flags(stat: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(stat);
    let (_, behind_name) = text.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// Whether a signal that ends the task waits for it.
fn has_kill_pending(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    let pending = mask("SigPnd:") | mask("ShdPnd:");
    let dumps = DUMPS.iter().fold(0, |all, signal| all | 1 << (signal - 1));
    let deadly = dumps & !(mask("SigBlk:") | mask("SigIgn:") | mask("SigCgt:"));
    pending & (KILL | deadly) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_found_behind_any_name() {
        let stat = b"42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0";
        assert_eq!(flags(stat), Some(4_194_560));
        assert_eq!(flags(b"42"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(has_memory(&std::fs::read_to_string("/proc/self/status").expect("our status")));
        assert!(!has_memory("Name:\tx\nState:\tZ (zombie)\n"));
    }

    #[test]
    fn a_pending_kill_is_seen_and_other_signals_are_not() {
        assert!(has_kill_pending("Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n"));
        assert!(!has_kill_pending(
            "SigPnd:\t0000000000004000\nShdPnd:\t0000000000000001\nSigBlk:\t0000000000000100\n"
        ));
        let quit = |masks: &str| has_kill_pending(&format!("SigPnd:\t0000000000000004\n{masks}"));
        assert!(quit("SigBlk:\t0000000000000001\nSigCgt:\t0000000000000002\n"), "SIGQUIT ends it");
        for kept in ["SigBlk", "SigIgn", "SigCgt"] {
            assert!(!quit(&format!("{kept}:\t0000000000000004\n")), "{kept}");
        }
    }

    #[tokio::test]
    async fn one_that_lives_is_waited_for_and_one_that_is_gone_is_not() {
        let live = tokio::time::timeout(Duration::from_millis(200), killed(std::process::id())).await;
        assert!(live.is_err(), "this process is not being killed");
        let unseen = tokio::time::timeout(Duration::from_millis(200), killed(0)).await;
        assert!(unseen.is_err(), "a caller that cannot be seen is waited for");
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        child.wait().expect("it ends");
        tokio::time::timeout(Duration::from_secs(5), killed(child.id())).await.expect("it is gone");
    }
}
