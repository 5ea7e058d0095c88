//! Properties of expansion that hold for every manifest.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use indexmap::IndexMap;
use proptest::prelude::*;

use super::build;
use crate::graph::{Graph, Wire};

/// A random pipeline: axes with their numbers of values, and a chain of stages, each naming some axes and taking the
/// artifact of an earlier stage (or of none).
#[derive(Clone, Debug)]
struct Pipeline {
    axes: Vec<usize>,
    stages: Vec<(BTreeSet<usize>, Option<usize>)>,
}

fn pipeline() -> impl Strategy<Value = Pipeline> {
    prop::collection::vec(1usize..4, 1..4).prop_flat_map(|axes| {
        let count = axes.len();
        let stage = (
            prop::collection::btree_set(0..count, 0..=count),
            any::<prop::sample::Index>(),
            any::<bool>(),
        );
        prop::collection::vec(stage, 1..6).prop_map(move |stages| Pipeline {
            axes: axes.clone(),
            stages: stages
                .into_iter()
                .enumerate()
                .map(|(index, (named, from, reads))| (named, (reads && index > 0).then(|| from.index(index.max(1)))))
                .collect(),
        })
    })
}

impl Pipeline {
    /// The axes that stage `index` must have.
    fn axes_of(&self, index: usize) -> BTreeSet<usize> {
        let (named, from) = &self.stages[index];
        named
            .iter()
            .copied()
            .chain(from.iter().flat_map(|from| self.axes_of(*from)))
            .collect()
    }

    fn manifest(&self) -> String {
        let mut text = "name: m\nsweep:\n  axes:\n".to_owned();
        for (axis, values) in self.axes.iter().enumerate() {
            let values: Vec<String> = (0..*values).map(|value| value.to_string()).collect();
            let _ = writeln!(text, "    a{axis}: [{}]", values.join(", "));
        }
        text.push_str("stages:\n");
        for (index, (named, from)) in self.stages.iter().enumerate() {
            let named: Vec<String> = named.iter().map(|axis| format!("${{a{axis}}}")).collect();
            let _ = match from {
                Some(from) => writeln!(
                    text,
                    "  s{index}: {{kind: bend, inputs: {{thing: s{from}}}, with: {{note: '{}'}}}}",
                    named.join("-")
                ),
                None => writeln!(
                    text,
                    "  s{index}: {{kind: make, with: {{text: '{}'}}}}",
                    named.join("-")
                ),
            };
        }
        // Every axis is used, so that no manifest is refused for it.
        let all: Vec<String> = (0..self.axes.len()).map(|axis| format!("${{a{axis}}}")).collect();
        let _ = writeln!(text, "  every: {{kind: make, with: {{text: '{}'}}}}", all.join("-"));
        let last = self.stages.len() - 1;
        let _ = writeln!(
            text,
            "  gather: {{kind: weigh, inputs: {{things: {{collect: s{last}}}}}}}"
        );
        let _ = writeln!(
            text,
            "  over: {{kind: weigh, inputs: {{things: {{collect: every, over: [a0]}}}}}}"
        );
        text
    }
}

fn of_stage<'a>(graph: &'a Graph, stage: &str) -> Vec<&'a IndexMap<String, String>> {
    graph
        .instances
        .iter()
        .filter(|instance| instance.stage == stage)
        .map(|instance| &instance.axes)
        .collect()
}

proptest! {
    #[test]
    fn expansion_is_exact(pipeline in pipeline()) {
        let graph = build(&pipeline.manifest());
        for index in 0..pipeline.stages.len() {
            let found = of_stage(&graph, &format!("s{index}"));
            let axes = pipeline.axes_of(index);
            // The right axes, in the manifest's order; as many instances as points; all different: so all points.
            let wanted: Vec<String> = axes.iter().map(|axis| format!("a{axis}")).collect();
            for point in &found {
                prop_assert_eq!(&point.keys().cloned().collect::<Vec<_>>(), &wanted);
            }
            let distinct: BTreeSet<Vec<&String>> = found.iter().map(|point| point.values().collect()).collect();
            prop_assert_eq!(distinct.len(), found.len());
            prop_assert_eq!(found.len(), axes.iter().map(|axis| pipeline.axes[*axis]).product::<usize>());
        }
    }

    #[test]
    fn every_join_finds_exactly_one_partner(pipeline in pipeline()) {
        let graph = build(&pipeline.manifest());
        for (number, instance) in graph.instances.iter().enumerate() {
            for wire in instance.wires.values() {
                if let Wire::One { from, .. } = wire {
                    prop_assert!(*from < number);
                    let partner = &graph.instances[*from];
                    // The partner agrees on all the axes it has, and no other instance of its stage does.
                    let agrees = |axes: &IndexMap<String, String>| {
                        axes.iter().all(|(axis, value)| instance.axes.get(axis) == Some(value))
                    };
                    prop_assert!(agrees(&partner.axes));
                    let matching = of_stage(&graph, &partner.stage).into_iter().filter(|axes| agrees(axes)).count();
                    prop_assert_eq!(matching, 1);
                }
            }
        }
    }

    #[test]
    fn gathering_partitions_what_is_gathered(pipeline in pipeline()) {
        let graph = build(&pipeline.manifest());
        for (stage, gathered) in [("gather", format!("s{}", pipeline.stages.len() - 1)), ("over", "every".to_owned())] {
            let mut seen = Vec::new();
            for instance in graph.instances.iter().filter(|instance| instance.stage == stage) {
                if let Some(Wire::Collect { from, .. }) = instance.wires.get("things") {
                    prop_assert!(from.is_sorted());
                    prop_assert!(!from.is_empty());
                    seen.extend(from.iter().copied());
                }
            }
            seen.sort_unstable();
            let all = graph.instances.iter().enumerate().filter(|(_, instance)| instance.stage == gathered);
            prop_assert_eq!(seen, all.map(|(number, _)| number).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_order_of_keys_changes_no_instance(pipeline in pipeline()) {
        let text = pipeline.manifest();
        let swapped = text.replace("kind: make, with: {text: ", "with: {text: ").replace("'}}\n", "'}, kind: make}\n");
        let swapped = swapped
            .lines()
            .map(|line| if line.contains("kind: bend") { line.replace(", kind: make", "") } else { line.to_owned() })
            .collect::<Vec<_>>()
            .join("\n");
        let names = |graph: Graph| graph.instances.iter().map(|instance| instance.name()).collect::<Vec<_>>();
        prop_assert_eq!(names(build(&text)), names(build(&swapped)));
    }
}
