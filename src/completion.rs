//! Shell completion: words that complete the command line, the names of the manifest that stands on it among them.
//!
//! `nerpipe completions SHELL` prints a script for the shell; with it, the shell asks this program at each press of the tab
//! key, through the variable [`VARIABLE`], so that completions always belong to the version and the manifest at hand.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use clap::{CommandFactory, Parser};
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};
use indexmap::IndexSet;
use nerpipe_engine::Graph;

use crate::cli::{Cli, Pipeline};
use crate::commands::Expanded;

/// The variable through which a shell asks for completions.
pub(crate) const VARIABLE: &str = "NERPIPE_COMPLETE";

/// The shells whose scripts are known.
pub(crate) const SHELLS: Shells<'static> = Shells(&[&BashThatBreaksWords, &ZshThatGoesOn, &Fish]);

/// Answers a shell that asks for completions; does nothing otherwise.
pub(crate) fn answer() {
    CompleteEnv::with_factory(Cli::command)
        .var(VARIABLE)
        .shells(SHELLS)
        .complete();
}

/// What a selector may be completed to.
pub(crate) fn selectors(current: &OsStr) -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    let Some(current) = current.to_str() else {
        return Vec::new();
    };
    match graph(&words) {
        Some(graph) => selectors_of(&graph, current)
            .into_iter()
            .map(CompletionCandidate::new)
            .collect(),
        None => Vec::new(),
    }
}

/// What the words behind the verb say of the manifest, if they are read on their own.
#[derive(Parser)]
#[command(no_binary_name = true, ignore_errors = true)]
struct Words {
    #[command(flatten)]
    pipeline: Pipeline,
}

/// The options that change what a manifest says or where it looks.
const WITH_VALUES: [&str; 2] = ["--set", "--project"];

/// The graph of the manifest among `words`; none if there is none, or a wrong one: no time for complaints.
fn graph(words: &[OsString]) -> Option<Graph> {
    let words = words.get(2..)?;
    // The word that is being written is no manifest yet.
    let manifest = words
        .split_last()?
        .1
        .iter()
        .find(|word| Path::new(word).extension().is_some_and(is_manifest))?;
    // Options of the verb itself are unknown here, and stop the parser where they stand.
    let known = words.iter().enumerate().filter_map(|(at, word)| {
        let option = |word: &OsString| word.to_str().is_some_and(|word| WITH_VALUES.contains(&word));
        let with_its_value = word.to_str().and_then(|word| word.split_once('='));
        let counts = option(word)
            || at > 0 && option(&words[at - 1])
            || with_its_value.is_some_and(|(name, _)| WITH_VALUES.contains(&name));
        counts.then_some(word)
    });
    let known = std::iter::once(manifest).chain(known);
    let pipeline = Words::try_parse_from(known).ok()?.pipeline;
    Expanded::read_silently(&pipeline).ok().map(|expanded| expanded.graph)
}

fn is_manifest(extension: &OsStr) -> bool {
    ["yaml", "yml", "json"].into_iter().any(|known| extension == known)
}

/// Everything that `current` may be completed to.
fn selectors_of(graph: &Graph, current: &str) -> IndexSet<String> {
    let (plus, text) = current.strip_prefix('+').map_or(("", current), |rest| ("+", rest));
    let (stage, axes) = match text.split_once('@') {
        Some((stage, axes)) => (Some(stage), axes),
        None => (None, text),
    };
    let (before, last) = axes
        .rsplit_once(',')
        .map_or(("", axes), |(before, last)| (before, last));
    let given: Vec<(&str, &str)> = before.split(',').filter_map(|pair| pair.split_once('=')).collect();
    // What is written, but for the piece that is being written.
    let prefix = &current[..current.len() - last.len()];
    let fitting = graph.instances.iter().filter(|instance| {
        let has = |(axis, value): &(&str, &str)| instance.axes.get(*axis).is_some_and(|has| has == value);
        stage.is_none_or(|stage| instance.stage == stage) && given.iter().all(has)
    });
    let mut found = IndexSet::new();
    for instance in fitting {
        if stage.is_none() && given.is_empty() && !last.contains('=') {
            found.insert(format!("{plus}{}", instance.stage));
            if !instance.axes.is_empty() {
                found.insert(format!("{plus}{}@", instance.stage));
            }
        }
        for (axis, value) in &instance.axes {
            if given.iter().any(|(given, _)| given == axis) {
                continue;
            }
            match last.split_once('=') {
                Some((wanted, _)) if wanted == axis => found.insert(format!("{prefix}{axis}={value}")),
                Some(_) => false,
                None => found.insert(format!("{prefix}{axis}=")),
            };
        }
    }
    found.retain(|candidate| candidate.starts_with(current));
    found
}

/// A registration script with the names that clap gives.
fn filled_in(script: &str, variable: &str, completer: &str, program: &str) -> String {
    script
        .replace("VARIABLE", variable)
        .replace("COMPLETER", completer)
        .replace("PROGRAM", program)
}

/// Bash takes `@` and `=` for ends of words, and instances have both in their names: this script takes the line apart
/// itself.
struct BashThatBreaksWords;

impl EnvCompleter for BashThatBreaksWords {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        variable: &str,
        _name: &str,
        program: &str,
        completer: &str,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        let script = r#"_nerpipe() {
    local line="${COMP_LINE:0:COMP_POINT}" words word IFS=$' \t\n'
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    word="${words[-1]}"
    local done="${word%"$2"}"
    IFS=$'\n'
    COMPREPLY=($(VARIABLE=bash _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) "COMPLETER" -- "${words[@]}" 2> /dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$done"}")
    if [[ ${#COMPREPLY[@]} -gt 0 && "${COMPREPLY[0]}" =~ [=/@]$ ]]; then
        compopt -o nospace
    fi
}
complete -o bashdefault -o nosort -F _nerpipe PROGRAM
"#;
        let script = filled_in(script, variable, completer, program);
        out.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        Bash.write_complete(command, words, folder, out)
    }
}

/// Zsh puts a blank behind a word that it has completed; behind `model@`, `loss=` and a folder the word goes on.
struct ZshThatGoesOn;

impl EnvCompleter for ZshThatGoesOn {
    fn name(&self) -> &'static str {
        "zsh"
    }

    fn is(&self, name: &str) -> bool {
        name == "zsh"
    }

    fn write_registration(
        &self,
        variable: &str,
        _name: &str,
        program: &str,
        completer: &str,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        let script = r#"#compdef PROGRAM
_nerpipe() {
    local completed value
    local -a whole open
    # What stands behind the cursor is not looked at.
    for completed in "${(@f)$(VARIABLE=zsh _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) COMPLETER -- "${(@)words[1,CURRENT]}" 2> /dev/null)}"; do
        value="${completed%%:*}"
        case "$value" in
            '') ;;
            *[=@/]) open+=("$completed") ;;
            *) whole+=("$completed") ;;
        esac
    done
    [[ -n "$whole" ]] && _describe -V 'values' whole
    [[ -n "$open" ]] && _describe -V 'values' open -S ''
}
compdef _nerpipe PROGRAM
"#;
        let script = filled_in(script, variable, completer, program);
        out.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        Zsh.write_complete(command, words, folder, out)
    }
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::command::Command;
    use nerpipe_engine::{Manifest, Registry};

    use super::*;

    #[test]
    fn stages_then_axes_then_values_that_go_together() {
        let text = "
name: m
sweep: {axes: {loss: [bce, focal], seed: [1, 2]}, exclude: [{loss: focal, seed: 2}]}
stages:
  data: {kind: command, with: {run: 'true'}}
  model: {kind: command, inputs: {data: data}, with: {run: 'echo ${loss} ${seed}'}}
";
        let registry = Registry::default().with(Command);
        let manifest = Manifest::parse("m.yaml", text, ".".as_ref(), &[], &registry).expect("a manifest");
        let graph = Graph::build(&manifest, &registry).expect("a graph");
        let completed = |current: &str| selectors_of(&graph, current).into_iter().collect::<Vec<_>>();
        assert_eq!(completed(""), ["data", "model", "model@", "loss=", "seed="]);
        assert_eq!(completed("mo"), ["model", "model@"]);
        assert_eq!(completed("+mo"), ["+model", "+model@"]);
        assert_eq!(completed("model@"), ["model@loss=", "model@seed="]);
        assert_eq!(completed("model@loss=f"), ["model@loss=focal"]);
        assert_eq!(completed("model@loss=focal,"), ["model@loss=focal,seed="]);
        assert_eq!(completed("model@loss=focal,seed="), ["model@loss=focal,seed=1"]);
        assert_eq!(completed("seed=2,loss="), ["seed=2,loss=bce"]);
        assert_eq!(completed("x"), Vec::<String>::new());
    }
}
