//! What manifests expand to.

use std::path::PathBuf;

use serde_json::json;

use super::{build, build_with, names, partners};
use crate::graph::{Publish, Wire};

const SWEEP: &str = "
name: toys
vars: {size: 5}
sweep:
  axes:
    shape: [round, square]
    loss: {bce: {fn: b, rate: 0.5}, con: {fn: c, rate: 1}}
    seed: [1, 2]
stages:
  raw: {kind: make, with: {files: 'src/*.rs', size: '${vars.size}'}}
  cut: {kind: make, with: {text: '${shape}'}}
  bent:
    kind: bend
    inputs: {thing: raw, other: cut}
    with: {how: one, rate: '${loss.rate}', note: 's${seed}'}
    publish: 'out/${loss}-${seed}'
  twice: {kind: bend, inputs: {thing: bent, other: cut}, with: {how: both}}
  all: {kind: weigh, inputs: {things: {collect: twice}}, publish: {table.md: t.md}}
  by_seed: {kind: weigh, inputs: {things: {collect: twice, over: [seed]}}}
";

#[test]
fn axes_flow_along_the_data() {
    let graph = build(SWEEP);
    assert_eq!(graph.name, "toys");
    assert_eq!(names(&graph, "raw"), ["raw"]);
    assert_eq!(names(&graph, "cut"), ["cut@shape=round", "cut@shape=square"]);
    // `other` is not read with `how: one`, so it gives neither an edge nor its axis.
    let bent = [
        "bent@loss=bce,seed=1",
        "bent@loss=bce,seed=2",
        "bent@loss=con,seed=1",
        "bent@loss=con,seed=2",
    ];
    assert_eq!(names(&graph, "bent"), bent);
    assert_eq!(partners(&graph, "bent@loss=bce,seed=1", "other"), [""; 0]);
    assert_eq!(names(&graph, "twice").len(), 8);
    let name = "twice@shape=square,loss=con,seed=2";
    assert_eq!(partners(&graph, name, "thing"), ["bent@loss=con,seed=2"]);
    assert_eq!(partners(&graph, name, "other"), ["cut@shape=square"]);
}

#[test]
fn collect_gathers_all_axes_or_some() {
    let graph = build(SWEEP);
    assert_eq!(names(&graph, "all"), ["all"]);
    assert_eq!(partners(&graph, "all", "things"), names(&graph, "twice"));
    assert_eq!(names(&graph, "by_seed").len(), 4);
    assert_eq!(
        partners(&graph, "by_seed@shape=round,loss=con", "things"),
        ["twice@shape=round,loss=con,seed=1", "twice@shape=round,loss=con,seed=2"]
    );
}

#[test]
fn settings_keep_types_and_files_and_targets_are_written_out() {
    let graph = build(SWEEP);
    let find = |name: &str| graph.instances.iter().find(|instance| instance.name() == name).unwrap();
    assert_eq!(find("raw").resolved.settings["size"], json!(5));
    assert_eq!(find("raw").files["files"], ["src/*.rs"]);
    let bent = find("bent@loss=con,seed=2");
    assert_eq!(bent.resolved.settings["rate"], json!(1.0));
    assert_eq!(bent.resolved.settings["note"], json!("s2"));
    assert_eq!(
        bent.publish,
        [Publish {
            part: None,
            target: PathBuf::from("out/con-2")
        }]
    );
    assert_eq!(find("all").publish[0].part.as_deref(), Some("table.md"));
}

#[test]
fn upstream_comes_first_whatever_the_order_of_the_manifest() {
    let graph = build(
        "name: m\nstages:\n  c: {kind: bend, inputs: {thing: b}}\n  b: {kind: bend, inputs: {thing: a}}\n  a: {kind: make}\n",
    );
    let order: Vec<&str> = graph.instances.iter().map(|instance| instance.stage.as_str()).collect();
    assert_eq!(order, ["a", "b", "c"]);
}

#[test]
fn set_replaces_variables_and_settings() {
    let graph = build_with(SWEEP, &["vars.size=7", "twice.how=one", "raw.files=[Cargo.toml, src]"]).unwrap();
    let raw = &graph.instances[0];
    assert_eq!(raw.resolved.settings["size"], json!(7));
    assert_eq!(raw.files["files"], ["Cargo.toml", "src"]);
    assert_eq!(names(&graph, "twice").len(), 4);
    let text = "name: m\nvars: {seeds: [1]}\nsweep: {axes: {seed: '${vars.seeds}'}}\nstages:\n  a: {kind: make, with: {text: '${seed}'}}\n";
    assert_eq!(names(&build(text), "a"), ["a@seed=1"]);
    assert_eq!(
        names(&build_with(text, &["vars.seeds=[4, 5]"]).unwrap(), "a"),
        ["a@seed=4", "a@seed=5"]
    );
}

#[test]
fn cells_are_the_product_minus_exclude_plus_include() {
    let graph = build(
        "
name: m
sweep:
  axes: {a: [1, 2], b: {x: 0, y: 0}}
  exclude: [{a: 2, b: [y]}]
  include: [{a: 3, b: y}]
stages:
  s: {kind: make, with: {text: '${a}${b}'}}
",
    );
    assert_eq!(names(&graph, "s"), ["s@a=1,b=x", "s@a=1,b=y", "s@a=2,b=x", "s@a=3,b=y"]);
}

#[test]
fn an_axis_with_when_is_absent_elsewhere() {
    let graph = build(
        "
name: m
sweep:
  axes:
    loss: [bce, con]
    tau: {when: {loss: con}, values: [4, 5]}
stages:
  s: {kind: make, with: {text: '${loss}', size: '${tau}'}}
",
    );
    assert_eq!(
        names(&graph, "s"),
        ["s@loss=bce", "s@loss=con,tau=4", "s@loss=con,tau=5"]
    );
    // Where it is absent the setting is left out and has its default.
    assert_eq!(graph.instances[0].resolved.settings["size"], json!(3));
}

#[test]
fn overrides_apply_in_order_and_bring_their_axes() {
    let graph = build(
        "
name: m
sweep:
  axes: {a: [1, 2, 3]}
  override:
    - {when: {a: [2, 3]}, set: {s.size: 8}}
    - {when: {a: 3}, set: {s.size: 9, s.text: 'v${a}'}}
stages:
  s: {kind: make}
",
    );
    assert_eq!(names(&graph, "s"), ["s@a=1", "s@a=2", "s@a=3"]);
    let sizes: Vec<_> = graph
        .instances
        .iter()
        .map(|instance| instance.resolved.settings["size"].clone())
        .collect();
    assert_eq!(sizes, [json!(3), json!(8), json!(9)]);
    assert_eq!(graph.instances[2].resolved.settings["text"], json!("v3"));
}

#[test]
fn a_kind_may_take_inputs_of_any_name() {
    let graph = build(
        "
name: m
sweep: {axes: {a: [1, 2]}}
stages:
  s: {kind: make, with: {text: '${a}'}}
  t: {kind: any, inputs: {one: s, all: {collect: s}}}
",
    );
    assert_eq!(partners(&graph, "t@a=2", "one"), ["s@a=2"]);
    assert_eq!(partners(&graph, "t@a=2", "all"), ["s@a=1", "s@a=2"]);
}

#[test]
fn an_input_may_name_one_part() {
    let graph = build(
        "
name: m
sweep: {axes: {a: [1, 2]}}
stages:
  s: {kind: make, with: {text: '${a}'}}
  t: {kind: weigh, inputs: {things: {collect: s.right}}}
  u: {kind: any, inputs: {one: s.left, whole: s, table: t.table.md}}
",
    );
    let parts = |name: &str, port: &str| {
        let instance = graph.instances.iter().find(|instance| instance.name() == name).unwrap();
        match &instance.wires[port] {
            Wire::One { parts, .. } | Wire::Collect { parts, .. } => parts.clone(),
        }
    };
    assert_eq!(parts("t", "things"), ["right"]);
    assert_eq!(partners(&graph, "t", "things"), ["s@a=1", "s@a=2"]);
    assert_eq!(parts("u@a=1", "one"), ["left"]);
    assert_eq!(parts("u@a=1", "whole"), ["left", "right"]);
    assert_eq!(parts("u@a=1", "table"), ["table.md"]);
}

#[test]
fn selectors_choose_by_stage_axes_and_parts_of_names() {
    let graph = build(SWEEP);
    let chosen = |selectors: &[&str]| -> Vec<String> {
        let numbers = graph.select(selectors).unwrap();
        numbers
            .into_iter()
            .map(|number| graph.instances[number].name())
            .collect()
    };
    assert_eq!(chosen(&["raw"]), ["raw"]);
    assert_eq!(chosen(&["bent@seed=2,loss=con"]), ["bent@loss=con,seed=2"]);
    assert_eq!(
        chosen(&["bent@seed=1"]),
        ["bent@loss=bce,seed=1", "bent@loss=con,seed=1"]
    );
    assert_eq!(chosen(&["ut@shape=r"]), ["cut@shape=round"], "a part of one name only");
    assert_eq!(chosen(&["seed=2"]).len(), 6);
    assert_eq!(
        chosen(&["cut@shape=round", "raw", "cut"]).len(),
        chosen(&["raw", "cut"]).len()
    );
}

#[test]
fn pluses_reach_up_and_down() {
    let graph = build(
        "
name: m
sweep: {axes: {a: [1, 'c+']}}
stages:
  top: {kind: make, with: {text: x}}
  mid: {kind: bend, inputs: {thing: top}, with: {note: '${a}'}}
  low: {kind: bend, inputs: {thing: mid}}
  other: {kind: bend, inputs: {thing: top}}
",
    );
    let chosen = |selector: &str| -> Vec<String> {
        let numbers = graph.select(&[selector]).unwrap();
        numbers
            .into_iter()
            .map(|number| graph.instances[number].name())
            .collect()
    };
    assert_eq!(chosen("mid@a=1"), ["mid@a=1"]);
    assert_eq!(chosen("+mid@a=1"), ["top", "mid@a=1"]);
    assert_eq!(chosen("mid@a=1+"), ["mid@a=1", "low@a=1"]);
    assert_eq!(chosen("+mid@a=1+"), ["top", "mid@a=1", "low@a=1"]);
    assert_eq!(chosen("top+").len(), graph.instances.len());
    assert_eq!(chosen("mid@a=c+"), ["mid@a=c+"], "the whole name wins over the plus");
    assert_eq!(chosen("mid@a=c++"), ["mid@a=c+", "low@a=c+"]);
}

#[test]
fn a_selector_that_chooses_nothing_is_answered_with_the_nearest() {
    let graph = build(SWEEP);
    let told = |selector: &str| {
        let error = graph.select(&[selector]).unwrap_err();
        (error.message, error.help.unwrap_or_default())
    };
    let pair = |message: &str, help: &str| (message.to_owned(), help.to_owned());
    assert_eq!(told("rww"), pair("there is no stage `rww`", "did you mean `raw`?"));
    assert_eq!(
        told("+bnet@seed=1"),
        pair("there is no stage `bnet`", "did you mean `bent`?")
    );
    let (message, help) = told("bce");
    assert_eq!(message, "`bce` is a part of 8 names; say more of one");
    assert!(
        help.starts_with("such as `bent@loss=bce,seed=1`, `bent@loss=bce,seed=2`, "),
        "{help}"
    );
    assert_eq!(
        told("bent@sed=1"),
        pair("`bent` has no axis `sed`", "did you mean `seed`?")
    );
    assert_eq!(told("raw@seed=1"), pair("`raw` has no axis `seed`", "it has no axes"));
    assert_eq!(
        told("sed=1"),
        pair("no stage has an axis `sed`", "did you mean `seed`?")
    );
    assert_eq!(
        told("cut@shape=rond"),
        pair("no `shape` is `rond`", "did you mean `shape=round`?")
    );
    assert_eq!(
        told(""),
        pair(
            "there is no stage ``",
            "known here: raw, cut, bent, twice, all, by_seed"
        )
    );
}

#[test]
fn ten_thousand_cells_are_expanded() {
    let graph = build(
        "
name: m
sweep: {axes: {a: {$replicate: 100}, b: {$replicate: 100}}}
stages:
  s: {kind: make, with: {text: '${a}-${b}'}}
  t: {kind: bend, inputs: {thing: s}, with: {note: 'x${a}'}, publish: 'out/${a}/${b}'}
  u: {kind: weigh, inputs: {things: {collect: t}}}
",
    );
    assert_eq!(graph.instances.len(), 20_001);
}

#[test]
fn the_sweep_of_the_documentation_expands() {
    let page = include_str!("../../../docs/manifest.md");
    let sweep = page
        .split("```")
        .find_map(|block| block.strip_prefix("yaml\n").filter(|text| text.starts_with("sweep:")));
    let project = tempfile::tempdir().unwrap();
    std::fs::create_dir(project.path().join("data")).unwrap();
    std::fs::write(project.path().join("data/en.jsonl"), "").unwrap();
    let text = format!(
        "name: m\n{}stages:\n  model: {{kind: make, with: {{text: '${{seed}} ${{loss.fn}} ${{fold}} ${{floor}} ${{language.path}} ${{size.encoder.layers}}', \
         size: '${{tau}}'}}}}\n",
        sweep.unwrap().replace("model.learning_rate: 1e-3", "model.size: 7")
    );
    let registry = super::toy::registry();
    let manifest = crate::Manifest::parse("m.yaml", &text, project.path(), &[], &registry).unwrap();
    let graph = crate::Graph::build(&manifest, &registry).unwrap();
    // (bce: 1 seed + contrastive: 3 seeds × 2 tau) × 5 folds × 5 floors × 1 language × 2 sizes, and one cell of its own.
    assert_eq!(graph.instances.len(), (1 + 3 * 2) * 25 * 2 + 1);
    assert_eq!(
        graph.instances.last().unwrap().name(),
        "model@seed=4,loss=bce,fold=0,floor=0.1,language=en,size=small"
    );
}
