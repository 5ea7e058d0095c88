//! A run as another terminal sees it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nerpipe_engine::{Account, RunState};

use super::numbers;
use super::progress::describe;
use crate::terminal::Paint;

/// The run as text.
pub(crate) fn render(account: &Account, paint: Paint) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    render_at(account, now, paint)
}

fn render_at(account: &Account, now: u64, paint: Paint) -> String {
    let time = |from: u64, to: u64| numbers::duration(Duration::from_secs(to.saturating_sub(from)));
    let took = time(account.began, account.updated);
    let ago = time(account.updated, now);
    let state = match account.state {
        RunState::Running => paint.cyan(&format!("has been running for {}", time(account.began, now))),
        RunState::Done => paint.green(&format!("ended well {ago} ago, after {took}")),
        RunState::Failed => paint.red(&format!("failed {ago} ago, after {took}")),
        RunState::Stopped => paint.yellow(&format!("was stopped {ago} ago, after {took}")),
        RunState::Died => paint.red(&format!("died; the last that is known is from {ago} ago")),
    };
    let mut counts = Vec::new();
    for (number, word) in [
        (account.executed, "executed"),
        (account.restored, "restored"),
        (account.shared, "shared"),
        (account.failed.len(), "failed"),
        (account.blocked.len(), "skipped because of that"),
        (account.to_go(), "to go"),
    ] {
        if number > 0 {
            counts.push(format!("{} {word}", numbers::count(number as u64)));
        }
    }
    let counts = if counts.is_empty() {
        "nothing done".to_owned()
    } else {
        counts.join(", ")
    };
    let mut lines = vec![format!("{} {state}: {counts}", paint.bold(&account.manifest))];
    for one in &account.running {
        let mut line = format!("  {} ", one.instance);
        let far = match &one.position {
            Some(position) => describe(position, one.seconds_left.map(Duration::from_secs_f64)),
            None => format!("for {}", time(one.began, now)),
        };
        line.push_str(&paint.dim(&far));
        if one.attempt > 1 {
            line.push_str(&paint.yellow(&format!(" (attempt {})", one.attempt)));
        }
        lines.push(line);
    }
    for one in &account.failed {
        lines.push(format!("  {} {}: {}", paint.red("failed"), one.instance, one.message));
        if let Some(help) = &one.help {
            lines.push(format!("    {}: {help}", paint.cyan("help")));
        }
        if let Some(log) = &one.log {
            lines.push(format!("    log: {}", log.display()));
        }
    }
    lines.extend(
        account
            .error
            .iter()
            .map(|error| format!("  {}: {error}", paint.red("error"))),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_with_what_runs_and_what_failed() {
        let account = serde_json::json!({
            "id": "1", "manifest": "small", "state": "running", "began": 1000, "updated": 1060, "process": 7,
            "instances": 9, "executed": 2, "restored": 3, "shared": 0, "blocked": ["table"],
            "running": [
                {"instance": "model@seed=1", "kind": "train", "reason": "never ran", "began": 1020, "attempt": 2,
                 "position": {"done": 120, "total": 300, "unit": "steps", "figures": {"loss": 0.5}}, "seconds_left": 90.0},
                {"instance": "model@seed=2", "kind": "train", "reason": "never ran", "began": 1030, "attempt": 1,
                 "position": null, "seconds_left": null},
            ],
            "failed": [{"instance": "model@seed=3", "message": "broken", "help": "mend it", "log": "l.log"}],
            "finished": [], "error": null,
        });
        let account: Account = serde_json::from_value(account).expect("an account");
        assert_eq!(
            render_at(&account, 1065, Paint { on: false }),
            "small has been running for 1 min 5 s: 2 executed, 3 restored, 1 failed, 1 skipped because of that, 2 to go
  model@seed=1 120/300 steps, loss 0.5000, 1 min 30 s left (attempt 2)
  model@seed=2 for 35.0 s
  failed model@seed=3: broken
    help: mend it
    log: l.log"
        );
    }
}
