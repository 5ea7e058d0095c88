//! A run killed at any moment and started again ends with the same bytes as one that never was.

use std::time::Duration;

use crate::jobs::run_and_kill_after;
use crate::project::{MANIFEST, Project};

#[test]
fn killed_anywhere_the_end_is_the_same() {
    let mut calm = Project::new(MANIFEST);
    calm.replace("{factor: \"${factor}\"}", "{factor: \"${factor}\", nap_ms: 3}");
    calm.run_well();
    let expected = calm.digests();
    for pause in [5, 12, 20, 28, 36, 45, 60] {
        let project = Project::new(&calm.manifest);
        for _ in 0..3 {
            run_and_kill_after(&project, Duration::from_millis(pause));
        }
        project.run_well();
        assert_eq!(project.digests(), expected, "killed after {pause} ms");
        assert_eq!(project.read("reports/table.txt"), calm.read("reports/table.txt"));
        assert!(project.cached("staging").is_empty());
    }
}
