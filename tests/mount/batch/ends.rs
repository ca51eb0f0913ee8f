//! How batches end: with their command, within each other, killed, without their daemon, and what is left behind.

use super::*;
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn the_commands_status_is_returned() {
    let world = World::with_relay("batch-status");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    for (script, code) in
        [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        end(start(batch(&mount, &marks, &[], script))).exits(code);
    }
    let run = |words: &[&str]| {
        let mut command = Command::new(binary());
        Ran::of(command.arg("batch").args(words).current_dir(mount.root()))
    };
    run(&["--", "no-such-program"]).exits(127).says(&["no-such-program"]).plainly();
    run(&["--", "/etc"]).exits(126).says(&["/etc:"]).plainly();
    run(&["--nonsense", "--", "true"]).exits(125).says(&["--nonsense"]);
    run(&["true"]).exits(125);
    run(&["--help"]).ok().says(&["114", "not everything is in the store"]);
    let ran = run(&["--", "sh", "-c", "echo said; echo wrong >&2; cat; pwd"]).ok();
    assert_eq!(
        (ran.out.as_str(), ran.err.as_str()),
        (&*format!("said\n{}\n", mount.root().display()), "wrong\n")
    );
    mount.unmount();
}

#[test]
fn nested_and_parallel_batches_each_wait_at_their_own_end() {
    let world = World::with_relay("batch-nested");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    mount.flush();
    world.relay().black_hole();
    let outer =
        "echo 1 > one; \"$CWDFS\" batch -- sh -c 'echo 2 > two; : > $MARKS/inner; exit 4' || [ $? = 4 ]
                 mark behind-inner; echo 3 > three; exit 5";
    let mut outer = start(batch(&mount, &marks, &[], outer));
    let mut beside = start(batch(&mount, &marks, &[], "echo 4 > four; mark beside; exit 6"));
    marks.wait("inner");
    marks.wait("beside");
    goes_on_waiting(&mut outer);
    goes_on_waiting(&mut beside);
    assert!(!marks.has("behind-inner"), "the inner one waits too");
    assert_eq!(mount.status()["batches"]["begun"], 3);
    world.relay().heal();
    end(outer).exits(5);
    end(beside).exits(6);
    let mount = elsewhere(&world, mount);
    for (name, text) in [("one", "1\n"), ("two", "2\n"), ("three", "3\n"), ("four", "4\n")] {
        holds(mount.root(), name, text);
    }
}

#[test]
fn after_its_wrapper_was_killed_descendants_wait_again_and_all_is_stored() {
    let world = World::with_relay("batch-killed");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&["--commit-interval", "30s"]);
    mount.flush();
    world.relay().black_hole();
    let script = "echo 1 > before; mark before; until_told go; echo 2 > after; mark after";
    // Its standard error is the script's too, which goes on.
    let mut command = batch(&mount, &marks, &[], script);
    let mut wrapper = start({
        command.stderr(Stdio::null());
        command
    });
    marks.wait("before");
    wrapper.kill().expect("kill");
    wrapper.wait().expect("reap");
    marks.give("go");
    std::thread::sleep(WHILE);
    assert!(!marks.has("after"), "nobody waits for it any more: it waits itself");
    world.relay().heal();
    marks.wait("after");
    let status = mount.wait_status("all is stored", LIMIT, |status| status["uncommitted"]["files"] == 0);
    assert_eq!(status["batches"]["running"], 0);
    let mount = elsewhere(&world, mount);
    holds(mount.root(), "before", "1\n");
    holds(mount.root(), "after", "2\n");
}

#[test]
fn a_daemon_that_died_and_a_session_that_was_taken_have_a_status_of_their_own() {
    let world = World::with_relay("batch-died");
    let marks = Marks::of(&world);
    let host = world.host("a");
    let mut mount = host.mount(&[]);
    let died = start(batch(&mount, &marks, &[], "echo 1 > died; mark died; until_told go"));
    marks.wait("died");
    mount.kill_only();
    marks.give("go");
    end(died).exits(113).says(&["cannot be told", "ended with status 0"]).plainly();
    let dead =
        Command::new(binary()).args(["batch", "--mount"]).arg(mount.root()).args(["--", "true"]).output();
    assert_eq!(dead.expect("it runs").status.code(), Some(125));
    mount.kill();

    let mount = host.mount(&[]);
    let taken = "echo 2 > a; mark taken; until_told on; echo 3 > b 2>/dev/null || true; mark tried; true";
    let taken = start(batch(&mount, &marks, &[], taken));
    marks.wait("taken");
    let other = world.host("b").mount(&["--takeover"]);
    marks.give("on");
    end(taken).exits(117).says(&["taken", "salvage"]).plainly();
    other.unmount();
}

#[test]
fn what_a_command_leaves_running_is_not_waited_for_and_waits_itself() {
    let world = World::with_relay("batch-left");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    // A daemon as daemons are: its parent has ended.
    let script = "(setsid sh -c ': > $MARKS/left; echo 1 > early; : > $MARKS/early
                    while ! [ -e $MARKS/go ]; do sleep 0.05; done; echo 2 > late; : > $MARKS/late' \
                    < /dev/null > /dev/null 2>&1 & )
                  until_told early; echo 3 > own";
    end(start(batch(&mount, &marks, &[], script))).ok();
    world.relay().black_hole();
    marks.give("go");
    std::thread::sleep(WHILE);
    assert!(!marks.has("late"), "its batch is over: it waits");
    world.relay().heal();
    marks.wait("late");
    let mount = elsewhere(&world, mount);
    for (name, text) in [("early", "1\n"), ("own", "3\n"), ("late", "2\n")] {
        holds(mount.root(), name, text);
    }
}

/// The shell that runs it has ended, and it is in the batch all the same.
#[test]
fn a_process_whose_parent_has_ended_stays_in_its_batch() {
    let world = World::with_relay("batch-orphan");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    mount.flush();
    world.relay().black_hole();
    let script =
        "(setsid sh -c 'while ! [ -e $MARKS/go ]; do sleep 0.05; done; echo 1 > orphan; : > $MARKS/orphan' &)
                  mark started; until_told orphan";
    let batched = start(batch(&mount, &marks, &[], script));
    marks.wait("started");
    marks.give("go");
    marks.wait("orphan");
    world.relay().heal();
    end(batched).ok();
    let mount = elsewhere(&world, mount);
    holds(mount.root(), "orphan", "1\n");
}

#[test]
fn signals_reach_the_command() {
    let world = World::with_relay("batch-signals");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    for (name, signal) in
        [("TERM", Signal::TERM), ("INT", Signal::INT), ("HUP", Signal::HUP), ("USR1", Signal::USR1)]
    {
        let script = format!(
            "trap 'echo {name} > got-{name}; exit 9' {name}; mark {name}; while :; do sleep 0.05; done"
        );
        let batched = start(batch(&mount, &marks, &[], &script));
        marks.wait(name);
        kill_process(Pid::from_child(&batched), signal).expect("signal");
        end(batched).exits(9);
        holds(mount.root(), &format!("got-{name}"), &format!("{name}\n"));
    }
    let batched = start(batch(&mount, &marks, &[], "mark sleeps; exec sleep 600"));
    marks.wait("sleeps");
    kill_process(Pid::from_child(&batched), Signal::TERM).expect("signal");
    end(batched).exits(143);
    mount.unmount();
}

/// The keys of a terminal signal its whole foreground group: the command gets it once, not twice.
#[test]
fn an_interrupt_from_a_terminal_reaches_the_command_once() {
    let world = World::with_relay("batch-terminal");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    let script = "n=0; trap 'n=$((n+1))' INT; : > $MARKS/ready
                  while ! [ -e $MARKS/enough ]; do sleep 0.05 || :; done; exit $((40 + n))";
    let terminal = r#"
import os, pty, sys, time
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], [sys.argv[1], "batch", "--", "sh", "-c", sys.argv[2]])
at = lambda name: os.path.join(os.environ["MARKS"], name)
while not os.path.exists(at("ready")): time.sleep(0.02)
os.write(terminal, b"\x03")
time.sleep(1)
open(at("enough"), "w").close()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;
    let mut command = Command::new("python3");
    command.args(["-c", terminal]).arg(binary()).arg(script);
    Ran::of(command.env("MARKS", &marks.0).current_dir(mount.root())).exits(41);
    mount.unmount();
}

/// A wait that nobody wants any more can be left.
#[test]
fn the_wait_at_the_end_can_be_interrupted() {
    let world = World::with_relay("batch-interrupted");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    mount.flush();
    world.relay().black_hole();
    let mut batched = start(batch(&mount, &marks, &[], "echo 1 > f; mark closed"));
    marks.wait("closed");
    goes_on_waiting(&mut batched);
    kill_process(Pid::from_child(&batched), Signal::INT).expect("signal");
    let code = end(batched).code;
    assert_eq!(code, None, "ended by the signal");
    world.relay().heal();
    mount.flush();
    let mount = elsewhere(&world, mount);
    holds(mount.root(), "f", "1\n");
}
