//! What other processes are told of a run.

use nerpipe_engine::{Account, Event, RunState};

use crate::jobs::{heavy, run_command, wait_until};
use crate::project::{MANIFEST, Project};

#[test]
fn a_run_keeps_an_account_while_it_goes_on_and_afterwards() {
    let project = heavy(&["wait"]);
    let cache = project.cache();
    let cancel = std::sync::Arc::clone(&project.options.cancel);
    let mut seen = None;
    let summary = project.watch(&mut |event| {
        if matches!(event, Event::Progress { .. }) {
            let account = Account::all(&cache).unwrap().remove(0);
            // It is written now and then.
            if account.running.iter().any(|one| one.position.is_some()) {
                seen = Some(account);
                cancel.store(true, std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    assert_eq!(summary.stopped, 2);
    let account = seen.unwrap();
    assert_eq!((account.state, account.manifest.as_str()), (RunState::Running, "toys"));
    assert_eq!((account.instances, account.to_go()), (2, 2));
    let running = &account.running[0];
    assert_eq!(
        (running.instance.as_str(), running.reason.as_str()),
        ("wait", "never ran")
    );
    assert_eq!(running.position.as_ref().unwrap().unit, "naps");

    let account = Account::all(&cache).unwrap().remove(0);
    assert_eq!((account.state, account.running.len()), (RunState::Stopped, 0));
}

#[test]
fn failures_are_told_and_old_accounts_are_forgotten() {
    let mut project = Project::new(MANIFEST);
    project.toys.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    project.run();
    let account = Account::all(&project.cache()).unwrap().remove(0);
    assert_eq!(account.state, RunState::Failed);
    assert_eq!((account.executed, account.blocked.len(), account.to_go()), (1, 1, 0));
    let failed = &account.failed[0];
    assert_eq!(
        (failed.message.as_str(), failed.help.as_deref()),
        ("`lines` is broken", Some("mend it"))
    );

    project.manifest = "stages:\n  corpus: {kind: words, with: {left: data/*.txt}}\n".to_owned();
    for _ in 0..60 {
        project.run_well();
    }
    let accounts = Account::all(&project.cache()).unwrap();
    assert_eq!(accounts.len(), 50);
    assert!(accounts.iter().all(|account| account.state == RunState::Done));
    assert!(accounts.is_sorted_by(|newer, older| newer.id > older.id));
}

#[test]
fn a_run_that_was_killed_is_told_from_one_that_goes_on() {
    let project = heavy(&["wait"]);
    let mut run = run_command(&project).spawn().unwrap();
    wait_until("the child works", || !project.cached("unfinished").is_empty());
    let state = || Account::all(&project.cache()).unwrap()[0].state;
    assert_eq!(state(), RunState::Running);
    run.kill().unwrap();
    run.wait().unwrap();
    assert_eq!(state(), RunState::Died);
}
