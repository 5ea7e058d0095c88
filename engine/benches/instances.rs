//! What ten thousand trivial instances cost: planned, run, run again.
//!
//! `cargo bench -p nerpipe-engine --bench instances [INSTANCES]`, on a machine that does nothing else. Prints wall and CPU time.

#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::time::Instant;

use nerpipe_engine::{
    Cache, Context, Field, Graph, InputParts, Kind, Manifest, Port, Registry, Resolved, RunOptions, SettingError,
    StageError, Weight,
};
use serde_json::{Value, json};

/// Writes one small file.
struct Small;

impl Kind for Small {
    fn name(&self) -> &'static str {
        "small"
    }
    fn version(&self) -> u32 {
        1
    }
    fn about(&self) -> &'static str {
        "writes a small file"
    }
    fn weight(&self) -> Weight {
        Weight::Light
    }
    fn fields(&self) -> &'static [Field] {
        const { &[Field::counted("text")] }
    }
    fn ports(&self) -> &'static [Port] {
        const {
            &[Port {
                name: "before",
                takes: "small",
                required: false,
                collects: false,
            }]
        }
    }
    fn produces(&self) -> &'static str {
        "small"
    }
    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let resolved = Resolved::new(settings)?.makes(["small.txt"]);
        Ok(match inputs.connected("before") {
            true => resolved.reads("before", ["small.txt"]),
            false => resolved,
        })
    }
    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Value = ctx.settings()?;
        std::fs::write(ctx.out("small.txt")?, settings["text"].to_string())
            .map_err(|error| StageError::new(error.to_string()))
    }
}

fn main() {
    let instances: usize = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(10_000);
    let folder = tempfile::tempdir().expect("a folder");
    let cache_path = folder.path().join("cache");
    let text = format!(
        "name: many\nsweep: {{axes: {{n: {{$replicate: {half}}}}}}}\nstages:\n  one: {{kind: small, with: {{text: 'one ${{n}}'}}}}\n  \
         two: {{kind: small, inputs: {{before: one}}, with: {{text: 'two ${{n}}'}}}}\n",
        half = instances / 2
    );
    let registry = Registry::default().with(Small);
    let graph = || {
        let manifest = Manifest::parse("many.yaml", &text, folder.path(), &[], &registry).expect("a manifest");
        Graph::build(&manifest, &registry).expect("a graph")
    };
    let options = RunOptions {
        jobs: 2,
        threads: 2,
        ..RunOptions::default()
    };
    let run = |expected: usize| {
        let cache = Cache::open(&cache_path).expect("a cache");
        let summary = nerpipe_engine::run(&graph(), &registry, &cache, folder.path(), &options, &mut |_| {});
        assert_eq!(summary.expect("a summary").executed, expected);
    };
    let plan = || {
        let cache = Cache::open(&cache_path).expect("a cache");
        nerpipe_engine::plan(&graph(), &registry, &cache, folder.path(), None).expect("a plan")
    };
    let mut measured = Vec::new();
    let mut measure = |what: &str, work: &dyn Fn()| {
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        work();
        measured.push(json!({
            "what": what,
            "seconds": begun.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds() - cpu,
            "peak_mib": peak_memory() / (1024 * 1024),
        }));
    };
    measure("expand", &|| assert_eq!(graph().instances.len(), instances));
    measure("plan, nothing made", &|| assert_eq!(plan().counts.stale, instances / 2));
    measure("run", &|| run(instances));
    measure("plan, all fresh", &|| assert_eq!(plan().counts.fresh, instances));
    measure("run, nothing to do", &|| run(0));
    for one in measured {
        println!("{one}");
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which ends with the last bracket: state is the first word, utime and stime the 12th and 13th.
    let words: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

/// The most memory this process held so far, in bytes.
fn peak_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let kibibytes = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
