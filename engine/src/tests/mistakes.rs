//! Each mistake a manifest can hold, with exactly what is said about it.

use std::fmt::Write as _;

use super::build_with;

/// Checks what is said about `text`: `line:column marked-text | message | label and help` per mistake.
#[track_caller]
fn says(text: &str, expected: &[&str]) {
    says_with(text, &[], expected);
}

#[track_caller]
fn says_with(text: &str, overrides: &[&str], expected: &[&str]) {
    let found = match build_with(text, overrides) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().cloned().collect(),
    };
    let mut lines = Vec::new();
    for diagnostic in found {
        let mut line = String::new();
        if let Some(place) = &diagnostic.place {
            let marked = place.marked();
            let file = if place.file == "m.yaml" {
                ""
            } else {
                place.file.as_str()
            };
            let _ = write!(line, "{file}{}:{} {marked} | ", place.line, place.column);
        }
        line.push_str(&diagnostic.message);
        for more in [&diagnostic.label, &diagnostic.help].into_iter().flatten() {
            let _ = write!(line, " | {more}");
        }
        lines.push(line);
    }
    assert_eq!(lines, expected, "\nin\n{text}");
}

/// A manifest with these stages.
fn stages(lines: &str) -> String {
    format!("name: m\nstages:\n{lines}\n")
}

/// A manifest with this sweep and a stage that uses the axes `a` and `b`.
fn sweep(lines: &str) -> String {
    format!("name: m\nstages:\n  s: {{kind: make, with: {{text: '${{a}} ${{b}}'}}}}\nsweep:\n{lines}\n")
}

#[test]
fn a_right_manifest_is_not_talked_about() {
    says(&sweep("  axes: {a: [1], b: [2]}"), &[]);
}

#[test]
fn unknown_keys_at_every_level() {
    says(
        "name: m\nvar: {}\nstages:\n  s: {kind: make, wiht: {}}\nsweep: {axis: {}}\n",
        &[
            "2:1 var | unknown key `var` in a manifest | did you mean `vars`?",
            "4:19 wiht | unknown key `wiht` in a stage | did you mean `with`?",
            "5:9 axis | unknown key `axis` in `sweep` | did you mean `axes`?",
        ],
    );
}

#[test]
fn resources_that_do_not_fit() {
    says(
        "name: m\nvars: {t: 2h, size: 1}\nsweep: {axes: {a: [1]}}\nstages:\n  \
         s: {kind: make, with: {text: '${a}'}, resources: {thread: 2, memory: 4X, timeout: '${vars.t}', retries: -1}}\n  \
         t: {kind: make, resources: {threads: 0, memory: '${a}', timeout: 5}}\n  u: {kind: make, resources: 2}\n",
        &[
            "5:53 thread | unknown key `thread` in `resources` | did you mean `threads`?",
            "5:72 4X | `4X` is no size; give one such as `512M` or `4G`",
            "5:107 -1 | `retries` must be a number from 0, not -1",
            "6:40 0 | `threads` must be a number from 1, not 0",
            "6:52 ${a} | there is no axis `a`",
            "6:68 5 | `5` is no time; give one such as `90s`, `30m` or `1h30m`",
            "7:30 2 | `resources` must be a map, not a number",
        ],
    );
}

#[test]
fn limits_that_do_not_fit() {
    says(
        "name: m\nvars: {n: 2}\nstages:\n  s: {kind: make, resources: {limits: {disk: 1, a b: 1, net: 0}}}\n  \
         t: {kind: make, resources: {limits: {disk: '${vars.n}', gpu: 1}}}\n  u: {kind: make, resources: {limits: 3}}\n",
        &[
            "4:49 a b | `a b` cannot be the name of a limit | a name is letters, digits, `_` and `-`, and begins with a letter",
            "4:62 0 | `net` must be a number from 1, not 0",
            "5:46 '${vars.n}' | the limit `disk` is 2 here and 1 in `s` | give the same number, such as a variable, or another name",
            "6:39 3 | `limits` must be a map, not a number",
        ],
    );
}

#[test]
fn several_mistakes_are_shown_at_once() {
    says(
        &stages(
            "  s: {kind: mkae}\n  t: {kind: bend, inputs: {thign: s}, with: {raet: 1}}\n  u: {kind: make, with: {x: '${y}'}}",
        ),
        &[
            "3:13 mkae | unknown kind `mkae` | did you mean `make`?",
            "4:28 thign | `bend` has no input `thign` | did you mean `thing`?",
            "4:46 raet | `bend` has no setting `raet` | did you mean `rate`?",
            "5:26 x | `make` has no setting `x` | known here: files, text, size",
            "5:30 ${y} | there is no axis `y`",
        ],
    );
}

#[test]
fn shapes_that_do_not_fit() {
    says(
        "stages:\n  s: make\n  t: {}\n  u: {kind: make, inputs: [a], with: 3, publish: [x]}\n",
        &[
            "1:1 s | the manifest has no `name` | begin with `name: …`; the cache remembers earlier runs under it",
            "2:6 make | a stage must be a map, not text",
            "3:3 t | the stage has no `kind`",
            "4:19 inputs | `inputs` must be a map, not a list",
            "4:38 3 | `with` must be a map, not a number",
            "4:41 publish | `publish` cannot be a list | give one target for the whole artifact, or a map part → target",
        ],
    );
    says(
        "name: a/b\nstages: {}\n",
        &[
            "1:1 name | `a/b` cannot be the name of a manifest | a name is letters, digits, `_` and `-`, and begins with a letter",
            "2:1 stages | the manifest has no stage",
        ],
    );
}

#[test]
fn wrong_connections() {
    says(
        &stages(
            "  s: {kind: make}\n  w: {kind: weigh, inputs: {things: s}}\n  b: {kind: bend, inputs: {thing: x}}\n  \
             c: {kind: bend, inputs: {thing: w}}\n  d: {kind: bend, inputs: {thing: {collect: s}}}\n  \
             e: {kind: make, inputs: {thing: s}}\n  f: {kind: weigh, inputs: {things: {collect: s, over: [q]}}}",
        ),
        &[
            "4:37 s | input `things` takes many artifacts | write `things: {collect: s}`",
            "5:35 x | there is no stage `x` | known here: s, w, c, d, e, f",
            "6:35 w | input `thing` takes `thing`, but `w` makes `weight` | stages that make `thing`: `s`, `b`, `c`, `d`, `e`",
            "7:28 thing | input `thing` takes one artifact | write `thing: s`",
            "8:28 thing | `make` has no input `thing` | it takes no inputs",
            "9:57 q | there is no axis `q`",
        ],
    );
}

#[test]
fn cycles_are_walked() {
    says(
        &stages(
            "  a: {kind: bend, inputs: {thing: c}}\n  b: {kind: bend, inputs: {thing: a}}\n  c: {kind: bend, inputs: {thing: b}}",
        ),
        &["3:35 c | stages wait for each other: a needs c needs b needs a"],
    );
    says(
        &stages("  a: {kind: bend, inputs: {thing: a}}"),
        &["3:35 a | stage `a` takes its own artifact"],
    );
}

#[test]
fn settings_that_a_kind_refuses() {
    says(
        "name: m\nvars: {r: 3}\nsweep: {axes: {x: {p: {r: 0}, q: {r: 5}}}}\nstages:\n  s: {kind: make, with: {size: much}}\n  \
         t: {kind: make, with: {size: '${vars.r}'}}\n  u: {kind: bend, inputs: {thing: t}, with: {rate: '${x.r}'}}\n",
        &[
            "5:32 much | `size` must be a whole number from 0, not text",
            "7:52 '${x.r}' | `rate` must lie between 0 and 1 | here `5` in `u@x=q` | try 0.1",
        ],
    );
}

#[test]
fn the_place_of_an_override_is_shown_for_its_setting() {
    says(
        "name: m\nstages:\n  t: {kind: make}\n  u: {kind: bend, inputs: {thing: t}}\nsweep:\n  axes: {a: [1, 2]}\n  override:\n    \
         - {when: {a: 2}, set: {u.rate: 7, u.raet: 1, v.x: 1, u: 1}}\n",
        &[
            "8:39 u.raet | `bend` has no setting `raet` | did you mean `rate`?",
            "8:50 v.x | there is no stage `v` | known here: t, u",
            "8:58 u | `u` names no setting | write `stage.setting: value`",
        ],
    );
    says(
        "name: m\nstages:\n  t: {kind: make}\n  u: {kind: bend, inputs: {thing: t}}\nsweep:\n  axes: {a: [1, 2]}\n  override:\n    \
         - {when: {a: 2}, set: {u.rate: 7}}\n",
        &["8:36 7 | `rate` must lie between 0 and 1 | in `u@a=2` | try 0.1"],
    );
}

#[test]
fn several_settings_of_one_stage_are_shown_at_once() {
    says(
        &stages(
            "  s: {kind: make, with: {size: much}}\n  t: {kind: bend, inputs: {thing: s}, with: {rate: [7], how: 3}}",
        ),
        &["3:32 much | `size` must be a whole number from 0, not text"],
    );
    says(
        &stages("  s: {kind: make}\n  t: {kind: bend, inputs: {thing: s}, with: {rate: 7, how: 3}}"),
        &[
            "4:52 7 | `rate` must lie between 0 and 1 | try 0.1",
            "4:60 3 | `how` must be text, not 3",
        ],
    );
}

#[test]
fn settings_are_looked_into_beside_a_stage_with_other_mistakes() {
    says(
        &stages(
            "  s: {kind: mkae}\n  t: {kind: make, with: {size: much, files: nothing.txt}}\n  u: {kind: bend, inputs: {thing: s}, with: {rate: 7}}",
        ),
        &[
            "3:13 mkae | unknown kind `mkae` | did you mean `make`?",
            "4:32 much | `size` must be a whole number from 0, not text",
            "4:45 nothing.txt | `files`: nothing matches `nothing.txt` | the path is relative to the project, `.`",
        ],
    );
}

#[test]
fn parts_of_a_stage() {
    says(
        &stages(
            "  s: {kind: make}\n  t: {kind: bend, inputs: {thing: s.lefft}}\n  u: {kind: bend, inputs: {thing: s.right}}\n  \
             v: {kind: weigh, inputs: {things: {collect: s.middle}}}\n  w: {kind: bend, inputs: {thing: q.left}}\n  \
             x: {kind: weigh, inputs: {things: s.left}}\n  y: {kind: bend, inputs: {thing: s.}}",
        ),
        &[
            "4:37 lefft | `s` has no part `lefft` | did you mean `left`?",
            "5:35 s.right | `bend` reads the part `left`, which `s.right` does not have | known here: right",
            "6:49 middle | `s` has no part `middle` | known here: left, right",
            "7:35 q.left | there is no stage `q` | known here: s, t, u, v, x, y",
            "8:37 s.left | input `things` takes many artifacts | write `things: {collect: s.left}`",
            "9:35 s. | no part is named behind `s.` | known here: left, right",
        ],
    );
}

#[test]
fn missing_inputs_and_parts_that_only_settings_ask_for() {
    says(
        &stages(
            "  s: {kind: make}\n  t: {kind: bend, inputs: {thing: s}, with: {how: both}}\n  \
             u: {kind: weigh, inputs: {things: {collect: s}}, with: {part: lefft}}",
        ),
        &[
            "4:19 inputs | `bend` needs the input `other` with these settings | add `other: stage` to `inputs`",
            "5:29 things | `weigh` reads the part `lefft`, which `s` does not have | did you mean `left`?",
        ],
    );
}

#[test]
fn axes_that_are_wrong() {
    says(
        &sweep(
            "  axes:\n    a: 3\n    b: [[1], 2]\n    c: {$rnage: {}}\n    d: {$range: 1, x: 2}\n    vars: [1]\n    e: [1, '1']\n    f: ['x,y']\n    g: {when: {a: 1, q: 1}}\n    h: {$range: {from: 2, to: 1}}",
        ),
        &[
            "6:8 3 | axis `a` is a number | an axis is a list (`[3]`), a map name → value, or `{$range: …}`",
            "7:9 [ | a list in a list of scalars | make the axis a map name → value, so that each value has a name",
            "8:9 $rnage | unknown generator `$rnage` | did you mean `$range`?",
            "9:9 $range | `$range` must be the only key of its axis",
            "10:5 vars | `vars` cannot be the name of an axis | it names variables",
            "11:12 '1' | axis `e` has the value `1` twice",
            "12:9 'x,y' | `x,y` cannot stand in the name of an instance | give it a name: make the axis a map name → value",
            "13:22 q | there is no axis `q` | known here: vars, e, f",
            "14:9 $range | `$range` never gets from 2 to 1 by steps of 1",
        ],
    );
}

#[test]
fn cells_that_are_wrong() {
    says(
        &sweep("  axes: {a: [1, 2], b: {x: 1}}\n  exclude: [{a: 7}, {c: 1}]\n  include: [{a: 3, b: y}]"),
        &[
            "6:17 7 | axis `a` has no value `7` | known here: 1, 2, 3",
            "6:22 c | there is no axis `c` | known here: a, b",
            "7:23 y | axis `b` has no value `y` | known here: x",
        ],
    );
    says(
        &sweep("  axes: {a: [1, 2], b: {x: 1}}\n  exclude: [{a: 7}, {c: 1}]\n  include: [{a: 3}, {a: 1, b: x}]"),
        &[
            "6:17 7 | axis `a` has no value `7` | known here: 1, 2, 3",
            "6:22 c | there is no axis `c` | known here: a, b",
        ],
    );
    says(
        &sweep("  axes: {a: [1, 2], b: {x: 1}}\n  include: [{a: 3}, {a: 1, b: x}]"),
        &[
            "6:13 { | axis `b` is missing in this cell | `include` adds whole cells: name every axis that the cell has",
            "6:21 { | this cell is in the sweep already",
        ],
    );
    says(
        &sweep("  axes: {a: [1, 2], b: [1]}\n  exclude: [{a: [1, 2]}, {a: 1, b: 1}, {a: 1}]"),
        &["4:1 sweep | the sweep has no cell left | `exclude` takes all of them away"],
    );
}

#[test]
fn conditions_that_are_wrong() {
    says(
        &sweep("  axes:\n    a: {when: {b: 1}, values: [1]}\n    b: [1, 2]\n    c: []"),
        &[
            "6:16 b | the axis `b` comes later | the `when` of an axis names axes above it: change their order",
            "8:5 c | axis `c` has no values | give it values, or take it away",
        ],
    );
    // What holds nowhere was meant to hold somewhere.
    says(
        &sweep(
            "  axes: {a: [1, 2], b: [1, 2], c: {when: {a: 2, b: 2}, values: [1]}}\n  exclude: [{a: 2, b: 2}]\n  override:\n    \
             - {when: {a: [2], b: 2}, set: {s.size: 1}}",
        ),
        &[
            "5:32 c | no cell has the axis `c`",
            "8:8 when | this `when` fits no cell | the sweep has no such combination",
        ],
    );
}

#[test]
fn variables_stand_anywhere_in_a_sweep() {
    let text = "name: m
vars: {seeds: [1, 2], gone: [{a: 2, b: 2}], one: 1, count: 2, size: 7}
sweep:
  axes: {a: '${vars.seeds}', b: {$range: {from: 1, to: '${vars.count}'}}}
  exclude: '${vars.gone}'
  include: [{a: 3, b: '${vars.one}'}]
  override: [{when: {a: '${vars.one}'}, set: {s.size: '${vars.size}'}}]
stages:
  s: {kind: make, with: {text: '${a}${b}'}}
";
    let graph = build_with(text, &[]).unwrap();
    let sizes = graph
        .instances
        .iter()
        .map(|one| (one.name(), one.resolved.settings["size"].clone()));
    assert_eq!(
        sizes.collect::<Vec<_>>(),
        [("s@a=1,b=1", 7), ("s@a=1,b=2", 7), ("s@a=2,b=1", 3), ("s@a=3,b=1", 3)]
            .map(|(name, size)| (name.to_owned(), size.into()))
    );
    says(
        &text
            .replace("'${vars.gone}'", "'${vars.one}'")
            .replace("b: '${vars.one}'", "b: '${vars.oen}'"),
        &[
            "5:12 '${vars.one}' | `exclude` must be a list, not a number",
            "6:24 ${vars.oen} | there is no variable `oen` | did you mean `one`?",
        ],
    );
}

#[test]
fn a_sweep_beyond_the_limit_is_refused_with_its_count() {
    let axes: String = (0..6)
        .map(|axis| format!("    a{axis}: {{$replicate: 10}}\n"))
        .collect();
    let started = std::time::Instant::now();
    says(
        &format!("name: m\nsweep:\n  axes:\n{axes}stages:\n  s: {{kind: make}}\n"),
        &[
            "3:3 axes | the sweep has 1,000,000 cells; the limit is 100,000 | take values away, or tie axes together in one named map",
        ],
    );
    // Refused long before a million cells are made.
    assert!(started.elapsed().as_secs_f64() < 1.0, "{:?}", started.elapsed());
}

#[test]
fn axes_that_no_stage_uses() {
    says(
        &sweep("  axes: {a: [1], b: [2], c: [1, 2]}"),
        &["5:26 c | no stage uses the axis `c` | name it in a setting, `${c}`, or take it away"],
    );
    // An input that is not read brings no axis.
    says(
        "name: m\nsweep: {axes: {c: [1, 2]}}\nstages:\n  r: {kind: make}\n  s: {kind: bend, inputs: {thing: r}}\n",
        &["2:16 c | no stage uses the axis `c` | name it in a setting, `${c}`, or take it away"],
    );
}

#[test]
fn references_that_mean_nothing() {
    says(
        "name: m\nvars: {size: 1, l: [1], z: '${vars.zz}'}\nsweep: {axes: {loss: {b: {fn: 1}, c: {f: 1}}}}\nstages:\n  \
         s: {kind: make, with: {text: '${vars.szie} ${loss.fn}', size: '${siez'}}\n",
        &[
            "2:29 ${vars.zz} | there is no variable `zz` | known here: size, l, z",
            "5:33 ${vars.szie} | there is no variable `szie` | did you mean `size`?",
            "5:46 ${loss.fn} | `c` of axis `loss` has no field `fn` | known here: f",
            "5:66 ${ | `${` without a `}` | close it, or write `$${` for a literal `${`",
        ],
    );
    says(
        "name: m\nvars: {l: [1]}\nstages:\n  s: {kind: make, with: {text: 'x${vars.l}'}}\n",
        &[
            "4:34 ${vars.l} | `${vars.l}` is a list, which cannot be written inside text | name one of its fields, or make it the whole value",
        ],
    );
}

#[test]
fn publish_targets() {
    says(
        &stages(
            "  s: {kind: make, publish: ../x}\n  t: {kind: make, publish: /x}\n  \
             u: {kind: weigh, inputs: {things: {collect: s}}, publish: {table.mb: x}}\n  v: {kind: make, publish: .}",
        ),
        &[
            "3:28 ../x | cannot publish to `../x`: `..` may lead out of the project | targets are relative to the project and stay inside it",
            "4:28 /x | cannot publish to `/x`: it is absolute | targets are relative to the project and stay inside it",
            "6:28 . | cannot publish to `.`: it is the project itself | targets are relative to the project and stay inside it",
        ],
    );
    says(
        &stages("  s: {kind: make}\n  u: {kind: weigh, inputs: {things: {collect: s}}, publish: {table.mb: x}}"),
        &["4:62 table.mb | the artifact has no part `table.mb` | did you mean `table.md`?"],
    );
}

#[test]
fn two_instances_with_one_target() {
    says(
        "name: m\nsweep: {axes: {a: [1, 2, 3]}}\nstages:\n  s: {kind: make, with: {text: '${a}'}, publish: out}\n",
        &[
            "4:50 out | `s@a=1` and `s@a=2` both publish to `out` | name the axes that tell them apart in the target, such as `${axis}`",
        ],
    );
    says(
        &stages(
            "  s: {kind: make, publish: out}\n  t: {kind: make, publish: out/t}\n  u: {kind: make, publish: out-2}",
        ),
        &["4:28 out/t | `t` publishes to `out/t`, inside `out` of `s` | give each its own place"],
    );
}

#[test]
fn gathering_over_an_axis_that_is_not_there() {
    says(
        "name: m\nsweep: {axes: {a: [1], b: [1]}}\nstages:\n  s: {kind: make, with: {text: '${a}'}}\n  t: {kind: make, with: {text: '${b}'}}\n  \
         u: {kind: weigh, inputs: {things: {collect: s, over: [b]}}}\n",
        &["6:57 b | `s` does not have the axis `b` | gather axes that its instances have"],
    );
}

#[test]
fn set_shows_itself_as_the_place() {
    let text = "name: m\nvars: {steps: 1}\nstages:\n  model: {kind: make, with: {size: '${vars.steps}'}}\n";
    says_with(
        text,
        &[
            "vars.stpes=3",
            "modle.size=3",
            "model.szie=3",
            "steps",
            "model=3",
            "vars.steps=[1",
        ],
        &[
            "--set1:1 modle | there is no stage `modle` | did you mean `model`?",
            "--set1:1 steps | `steps` has no `=` | write `--set vars.NAME=VALUE` or `--set STAGE.SETTING=VALUE`",
            "--set1:1 model | `model` names no variable and no setting | write `--set vars.NAME=VALUE` or `--set STAGE.SETTING=VALUE`",
            "--set1:1 model.szie=3 | `make` has no setting `szie` | did you mean `size`?",
            "--set1:6 stpes | there is no variable `stpes` | did you mean `steps`?",
            "--set1:12 [1 | not valid YAML: did not find expected ',' or ']'",
        ],
    );
    says_with(
        text,
        &["model.size=big"],
        &["--set1:1 model.size=big | `size` must be a whole number from 0, not text"],
    );
}

#[test]
fn files_that_are_not_there() {
    says(
        &stages(
            "  s: {kind: make, with: {files: [Cargo.toml, nothing.txt, 'no/*.txt']}}\n  t: {kind: make, with: {files: {a: x}}}\n  u: {kind: make, with: {files: 3}}",
        ),
        &[
            "3:46 nothing.txt | `files`: nothing matches `nothing.txt` | the path is relative to the project, `.`",
            "3:59 'no/*.txt' | `files`: nothing matches `no/*.txt` | the path is relative to the project, `.`",
            "4:37 x | `files.a`: nothing matches `x` | the path is relative to the project, `.`",
            "5:33 3 | `files` must be a path or a pattern, a list of them, or a map of them",
        ],
    );
}

#[test]
fn what_is_told_of_an_artifact_is_known_before_it_is_made() {
    says(
        &stages(
            "  a: {kind: make}\n  b: {kind: bend, inputs: {thing: a}, with: {how: stiff}}\n  \
             c: {kind: bend, inputs: {thing: b}}",
        ),
        &["5:35 b | what is stiff cannot be bent"],
    );
}
