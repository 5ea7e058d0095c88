//! Several runs on one cache at the same time.

use std::thread;

use crate::project::{MANIFEST, Project, counts};
use crate::toy::Toys;
use nerpipe_engine::{Cache, Graph, Manifest, RunOptions, run};
use std::sync::Arc;

#[test]
fn two_runs_do_not_do_the_same_work_twice() {
    let mut project = Project::new(MANIFEST);
    project.replace("{factor: \"${factor}\"}", "{factor: \"${factor}\", nap_ms: 20}");
    let (path, cache_path) = (project.path(), project.cache_path());
    let text = format!("name: toys\n{}", project.manifest);
    let toys: Arc<Toys> = Arc::default();
    let executed: usize = thread::scope(|scope| {
        let handles: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // A cache of its own, as another process would have: nothing is shared in memory.
                    let cache = Cache::open(&cache_path).unwrap();
                    let registry = toys.registry();
                    let manifest = Manifest::parse("toys.yaml", &text, &path, &[], &registry).expect("a manifest");
                    let graph = Graph::build(&manifest, &registry).expect("a graph");
                    let options = RunOptions {
                        jobs: 2,
                        ..RunOptions::default()
                    };
                    let summary = run(&graph, &registry, &cache, &path, &options, &mut |_| {}).unwrap();
                    assert!(summary.is_success(), "{:?}", summary.instances);
                    summary.executed
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).sum()
    });
    assert_eq!(executed, 5, "each instance in one of the runs");
    assert_eq!(toys.ran().len(), 5);
    assert_eq!(counts(&project.run_well()), (0, 5, 0, 0, 0));
    assert_eq!(project.read("reports/table.txt"), "factor=1 3\nfactor=2 6\n");
    assert!(project.cached("locks").is_empty());
}
