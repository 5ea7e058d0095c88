//! `${…}`: what stands in a value, what it names, and what comes out.
//!
//! | written            | becomes                                                            |
//! |--------------------|--------------------------------------------------------------------|
//! | `${vars.steps}`    | the variable, with its type                                        |
//! | `${seed}`          | the axis's value with its type; of a named map, the value's name   |
//! | `${loss.fn}`       | a field of the axis's value; `${size.value}` is one that is no map |
//! | `run-${seed}`      | text with the value written out; a map or list here is an error    |
//! | `${env.HOME}`      | a variable of the environment, which only `vars` can name: as a    |
//! |                    | number, `true` or `false` if it is written so, else as text        |
//! | `$${HOME}`         | the text `${HOME}`                                                 |
//! | `$HOME`            | itself; it is the shell's                                          |
//!
//! An axis that is absent in a cell (its `when:` does not hold) leaves a setting out that is exactly `${axis}`, so the
//! setting has its default there; inside text it is an error.

use serde_json::{Map, Value};

use crate::suggest::did_you_mean;

/// Names that are no axis's.
pub(crate) const RESERVED: [&str; 2] = ["vars", "env"];

/// A string taken apart at its `${…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Reference(Reference),
}

/// What stands between `${` and `}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// As written, with `${` and `}`.
    text: String,
    /// `vars`, `env` or the name of an axis.
    head: String,
    /// The names behind the dots.
    fields: Vec<String>,
}

/// A reference that cannot be written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadReference {
    /// The path below the value that was given, to the string that holds it.
    pub(crate) path: Vec<String>,
    /// The part of the string that is wrong.
    pub(crate) text: String,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl BadReference {
    fn new(text: &str, message: String, help: Option<String>) -> Self {
        Self {
            path: Vec::new(),
            text: text.to_owned(),
            message,
            help,
        }
    }

    fn below(mut self, step: &str) -> Self {
        self.path.insert(0, step.to_owned());
        self
    }
}

/// What an axis is in a cell.
pub(crate) enum AxisPoint<'a> {
    /// There is no axis of this name.
    Unknown,
    /// The axis is absent in this cell.
    Absent,
    /// The value at hand. `named` is its name if the axis is a named map.
    Value { value: &'a Value, named: Option<&'a str> },
}

/// The names that `${…}` can use.
pub(crate) trait Scope {
    /// The variables.
    fn vars(&self) -> &Map<String, Value>;
    /// The axis called `name`.
    fn axis(&self, name: &str) -> AxisPoint<'_>;
    /// The names of all axes, to suggest one.
    fn axis_names(&self) -> Vec<&str>;
    /// The environment, where it can be named.
    fn environment(&self) -> Option<&Environment> {
        None
    }
}

/// The environment: the name of a variable → its text, if it is set.
pub(crate) type Environment = dyn Fn(&str) -> Option<String>;

/// The scope of the variables themselves, which can also name the environment.
struct OfVars<'a> {
    vars: &'a Map<String, Value>,
    environment: &'a Environment,
}

impl Scope for OfVars<'_> {
    fn vars(&self) -> &Map<String, Value> {
        self.vars
    }
    fn axis(&self, _: &str) -> AxisPoint<'_> {
        AxisPoint::Unknown
    }
    fn axis_names(&self) -> Vec<&str> {
        Vec::new()
    }
    fn environment(&self) -> Option<&Environment> {
        Some(self.environment)
    }
}

/// A scope of variables alone, where no axis can be named.
pub(crate) struct VarsOnly<'a>(pub(crate) &'a Map<String, Value>);

impl Scope for VarsOnly<'_> {
    fn vars(&self) -> &Map<String, Value> {
        self.0
    }
    fn axis(&self, _: &str) -> AxisPoint<'_> {
        AxisPoint::Unknown
    }
    fn axis_names(&self) -> Vec<&str> {
        Vec::new()
    }
}

impl From<Reference> for Template {
    fn from(reference: Reference) -> Self {
        Self(vec![Piece::Reference(reference)])
    }
}

impl Template {
    /// Takes `text` apart.
    pub(crate) fn parse(text: &str) -> Result<Self, BadReference> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("$${") {
                literal.push_str("${");
                rest = after;
            } else if rest.starts_with("${") {
                let Some(end) = rest.find('}') else {
                    let help = "close it, or write `$${` for a literal `${`".to_owned();
                    return Err(BadReference::new("${", "`${` without a `}`".to_owned(), Some(help)));
                };
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Reference(Reference::parse(&rest[..=end])?));
                rest = &rest[end + 1..];
            } else {
                literal.push('$');
                rest = &rest[1..];
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// The references in it.
    pub(crate) fn references(&self) -> impl Iterator<Item = &Reference> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Reference(reference) => Some(reference),
            Piece::Text(_) => None,
        })
    }

    /// What it becomes in `scope`; none if it is exactly one axis that is absent there.
    pub(crate) fn evaluate(&self, scope: &dyn Scope) -> Result<Option<Value>, BadReference> {
        if let [Piece::Reference(reference)] = self.0.as_slice() {
            return reference.evaluate(scope);
        }
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Reference(reference) => match reference.evaluate(scope)? {
                    Some(value) => match scalar_text(&value) {
                        Some(written) => text.push_str(&written),
                        None => {
                            let what = if value.is_array() { "a list" } else { "a map" };
                            return Err(BadReference::new(
                                &reference.text,
                                format!("`{}` is {what}, which cannot be written inside text", reference.text),
                                Some("name one of its fields, or make it the whole value".to_owned()),
                            ));
                        }
                    },
                    None => {
                        return Err(BadReference::new(
                            &reference.text,
                            format!(
                                "axis `{}` is absent in this cell, so its text is missing here",
                                reference.head
                            ),
                            Some("only a value that is exactly one `${…}` can be left out".to_owned()),
                        ));
                    }
                },
            }
        }
        Ok(Some(Value::String(text)))
    }
}

impl Reference {
    fn parse(text: &str) -> Result<Self, BadReference> {
        let inner = &text[2..text.len() - 1];
        let mut names = inner.split('.').map(str::trim);
        let head = names.next().unwrap_or_default().to_owned();
        let fields: Vec<String> = names.map(str::to_owned).collect();
        let name_is_fine =
            |name: &String| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
        if !name_is_fine(&head) || !fields.iter().all(name_is_fine) {
            return Err(BadReference::new(
                text,
                format!("`{text}` names neither a variable nor an axis"),
                Some("write `${vars.name}`, `${axis}` or `${axis.field}`; `$${` is a literal `${`".to_owned()),
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            head,
            fields,
        })
    }

    /// The axis it names; none for a variable.
    pub(crate) fn axis(&self) -> Option<&str> {
        (!RESERVED.contains(&self.head.as_str())).then_some(self.head.as_str())
    }

    /// The value of the environment's variable that it names.
    fn of_environment(&self, environment: Option<&Environment>) -> Result<Value, BadReference> {
        let bad = |message: String, help: String| Err(BadReference::new(&self.text, message, Some(help)));
        let [name] = self.fields.as_slice() else {
            return bad(
                format!("`{}` names no variable of the environment", self.text),
                "write `${env.NAME}`".to_owned(),
            );
        };
        let Some(environment) = environment else {
            return bad(
                "the environment can be named in `vars` alone".to_owned(),
                format!("add `vars: {{name: \"${{env.{name}}}\"}}` and write `${{vars.name}}` here"),
            );
        };
        let Some(text) = environment(name) else {
            return bad(
                format!("the environment has no variable `{name}`"),
                format!("set it, as in `{name}=… nerpipe run …`, or give the value itself: `--set vars.NAME=VALUE`"),
            );
        };
        let typed = serde_json::from_str(&text).ok();
        Ok(typed
            .filter(|value: &Value| value.is_number() || value.is_boolean())
            .unwrap_or(Value::String(text)))
    }

    fn evaluate(&self, scope: &dyn Scope) -> Result<Option<Value>, BadReference> {
        let bad = |message: String, help: Option<String>| Err(BadReference::new(&self.text, message, help));
        if self.head == "env" {
            return self.of_environment(scope.environment()).map(Some);
        }
        if self.head == "vars" {
            if self.fields.is_empty() {
                return bad(
                    "`${vars}` names no variable".to_owned(),
                    Some("write `${vars.name}`".to_owned()),
                );
            }
            return descend(scope.vars(), &self.fields, "the variables")
                .map(Some)
                .or_else(|step| {
                    bad(
                        format!("there is no variable `{}`", step.wrong),
                        did_you_mean(&step.wrong, step.known()),
                    )
                });
        }
        match scope.axis(&self.head) {
            AxisPoint::Unknown => {
                let mut known = scope.axis_names();
                let variable = format!("vars.{}", self.head);
                if scope.vars().contains_key(&self.head) {
                    known.push(&variable);
                }
                let help = if scope.vars().contains_key(&self.head) {
                    Some(format!("a variable is written `${{vars.{}}}`", self.head))
                } else {
                    did_you_mean(&self.head, known)
                };
                bad(format!("there is no axis `{}`", self.head), help)
            }
            AxisPoint::Absent => Ok(None),
            AxisPoint::Value { value, named: None } if self.fields.is_empty() => Ok(Some(value.clone())),
            AxisPoint::Value { named: None, .. } => bad(
                format!("the values of axis `{}` have no fields", self.head),
                Some(format!("they are single values: write `${{{}}}`", self.head)),
            ),
            AxisPoint::Value { named: Some(name), .. } if self.fields.is_empty() => {
                Ok(Some(Value::String(name.to_owned())))
            }
            AxisPoint::Value {
                value: Value::Object(map),
                named: Some(name),
            } => {
                let holder = format!("`{name}` of axis `{}`", self.head);
                descend(map, &self.fields, &holder).map(Some).or_else(|step| {
                    bad(
                        format!("{} has no field `{}`", step.holder, step.wrong),
                        did_you_mean(&step.wrong, step.known()),
                    )
                })
            }
            AxisPoint::Value { value, named: Some(_) } if self.fields == ["value"] => Ok(Some(value.clone())),
            AxisPoint::Value { named: Some(name), .. } => bad(
                format!(
                    "`{name}` of axis `{}` is not a map and has no field `{}`",
                    self.head,
                    self.fields.join(".")
                ),
                Some(format!("write `${{{}.value}}` for what it stands for", self.head)),
            ),
        }
    }
}

/// A name that was not found on the way down.
struct WrongStep<'a> {
    holder: String,
    wrong: String,
    map: Option<&'a Map<String, Value>>,
}

impl<'a> WrongStep<'a> {
    fn known(&self) -> impl Iterator<Item = &'a str> {
        self.map.into_iter().flat_map(|map| map.keys().map(String::as_str))
    }
}

fn descend<'a>(map: &'a Map<String, Value>, fields: &[String], holder: &str) -> Result<Value, WrongStep<'a>> {
    let mut map = Some(map);
    let mut found = &Value::Null;
    for (depth, field) in fields.iter().enumerate() {
        match map.and_then(|map| map.get(field)) {
            Some(value) => found = value,
            None => {
                let holder = if depth == 0 {
                    holder.to_owned()
                } else {
                    format!("`{}` of {holder}", fields[..depth].join("."))
                };
                return Err(WrongStep {
                    holder,
                    wrong: field.clone(),
                    map,
                });
            }
        }
        map = found.as_object();
    }
    Ok(found.clone())
}

/// A scalar as it is written inside text and in names; none for a map or list.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) | Value::Array(_) => None,
        scalar => Some(scalar.to_string()),
    }
}

/// Writes out every `${…}` in `value`. Items of lists and maps that are exactly one absent axis are left out.
///
/// # Errors
/// All references that are wrong, each with its path below `value`.
pub(crate) fn interpolate(value: &Value, scope: &dyn Scope) -> Result<Option<Value>, Vec<BadReference>> {
    let mut bad = Vec::new();
    let done = match value {
        Value::String(text) if text.contains("${") => {
            return Template::parse(text)
                .and_then(|template| template.evaluate(scope))
                .map_err(|error| vec![error]);
        }
        Value::Array(items) => {
            let mut done = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                match interpolate(item, scope) {
                    Ok(item) => done.extend(item),
                    Err(errors) => bad.extend(errors.into_iter().map(|error| error.below(&index.to_string()))),
                }
            }
            Value::Array(done)
        }
        Value::Object(map) => {
            let mut done = Map::new();
            for (key, item) in map {
                match interpolate(item, scope) {
                    Ok(Some(item)) => {
                        done.insert(key.clone(), item);
                    }
                    Ok(None) => {}
                    Err(errors) => bad.extend(errors.into_iter().map(|error| error.below(key))),
                }
            }
            Value::Object(done)
        }
        scalar => scalar.clone(),
    };
    if bad.is_empty() { Ok(Some(done)) } else { Err(bad) }
}

/// Takes the path of a string and the template it holds.
pub(crate) type TemplateVisitor<'a> = dyn FnMut(&[String], Result<Template, BadReference>) + 'a;

/// Calls `visit` with every template in `value` and its path; strings that are no templates are reported as errors.
pub(crate) fn visit_templates(value: &Value, path: &mut Vec<String>, visit: &mut TemplateVisitor<'_>) {
    match value {
        Value::String(text) if text.contains("${") => visit(path, Template::parse(text)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                visit_templates(item, path, visit);
                path.pop();
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                path.push(key.clone());
                visit_templates(item, path, visit);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Writes out what variables use of each other and of the environment.
///
/// # Errors
/// References that are wrong and variables that need themselves, with their paths below `vars`.
pub(crate) fn resolve_vars(
    vars: &Map<String, Value>,
    environment: &Environment,
) -> Result<Map<String, Value>, Vec<BadReference>> {
    let mut done = Map::new();
    let mut waiting: Vec<&String> = vars.keys().collect();
    // Each round resolves the variables that need only finished ones, so a round without progress is a cycle.
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut still = Vec::new();
        for name in waiting {
            let mut needs_waiting = false;
            visit_templates(&vars[name], &mut Vec::new(), &mut |_, template| {
                needs_waiting |= template.is_ok_and(|template| {
                    template.references().any(|reference| {
                        let needed = reference.fields.first();
                        reference.head == "vars"
                            && needed.is_some_and(|needed| vars.contains_key(needed) && !done.contains_key(needed))
                    })
                });
            });
            if needs_waiting {
                still.push(name);
                continue;
            }
            // Unknown names are judged against all variables, so that the nearest one is found.
            let mut known = vars.clone();
            known.extend(done.clone());
            let scope = OfVars {
                vars: &known,
                environment,
            };
            match interpolate(&vars[name], &scope) {
                Ok(value) => done.insert(name.clone(), value.unwrap_or(Value::Null)),
                Err(errors) => return Err(errors.into_iter().map(|error| error.below(name)).collect()),
            };
        }
        if still.len() == before {
            let errors = still.into_iter().map(|name| {
                BadReference::new("${", format!("variable `{name}` needs itself to be written out"), None).below(name)
            });
            return Err(errors.collect());
        }
        waiting = still;
    }
    // Back into the order of the manifest.
    Ok(vars
        .keys()
        .map(|name| (name.clone(), done.remove(name).unwrap_or(Value::Null)))
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Toy {
        vars: Map<String, Value>,
        loss: Value,
        seed: Value,
    }

    impl Scope for Toy {
        fn vars(&self) -> &Map<String, Value> {
            &self.vars
        }
        fn axis(&self, name: &str) -> AxisPoint<'_> {
            match name {
                "loss" => AxisPoint::Value {
                    value: &self.loss,
                    named: Some("bce"),
                },
                "size" => AxisPoint::Value {
                    value: &self.seed,
                    named: Some("small"),
                },
                "seed" => AxisPoint::Value {
                    value: &self.seed,
                    named: None,
                },
                "tau" => AxisPoint::Absent,
                _ => AxisPoint::Unknown,
            }
        }
        fn axis_names(&self) -> Vec<&str> {
            vec!["loss", "size", "seed", "tau"]
        }
    }

    fn toy() -> Toy {
        let Value::Object(vars) = json!({"steps": 300, "list": [1, 2], "deep": {"er": true}}) else {
            unreachable!()
        };
        Toy {
            vars,
            loss: json!({"fn": "bce", "weights": {"a": 0.5}}),
            seed: json!(42),
        }
    }

    fn one(text: &str) -> Result<Option<Value>, String> {
        interpolate(&json!(text), &toy()).map_err(|errors| {
            let help = errors[0].help.as_deref().unwrap_or("-");
            format!("{}: {} ({help})", errors[0].text, errors[0].message)
        })
    }

    #[test]
    fn exactly_one_reference_keeps_its_type() {
        for (text, value) in [
            ("${vars.steps}", json!(300)),
            ("${vars.list}", json!([1, 2])),
            ("${vars.deep.er}", json!(true)),
            ("${seed}", json!(42)),
            ("${loss}", json!("bce")),
            ("${loss.fn}", json!("bce")),
            ("${loss.weights}", json!({"a": 0.5})),
            ("${loss.weights.a}", json!(0.5)),
            ("${size}", json!("small")),
            ("${size.value}", json!(42)),
        ] {
            assert_eq!(one(text), Ok(Some(value)), "{text}");
        }
        assert_eq!(one("${tau}"), Ok(None));
    }

    #[test]
    fn inside_text_it_is_written_out() {
        for (text, value) in [
            ("models/${loss}-${seed}", "models/bce-42"),
            ("$${seed} costs $5, $HOME", "${seed} costs $5, $HOME"),
            ("${ seed }s", "42s"),
            ("plain", "plain"),
            ("$", "$"),
        ] {
            assert_eq!(one(text), Ok(Some(json!(value))), "{text}");
        }
    }

    #[test]
    fn wrong_references_say_what_is_near() {
        for (text, message) in [
            (
                "${vars.stpes}",
                "${vars.stpes}: there is no variable `stpes` (did you mean `steps`?)",
            ),
            ("${sed}", "${sed}: there is no axis `sed` (did you mean `seed`?)"),
            (
                "${steps}",
                "${steps}: there is no axis `steps` (a variable is written `${vars.steps}`)",
            ),
            (
                "${loss.fm}",
                "${loss.fm}: `bce` of axis `loss` has no field `fm` (did you mean `fn`?)",
            ),
            (
                "${loss.weights.b}",
                "${loss.weights.b}: `weights` of `bce` of axis `loss` has no field `b` (known here: a)",
            ),
            (
                "${seed.x}",
                "${seed.x}: the values of axis `seed` have no fields (they are single values: write `${seed}`)",
            ),
            (
                "x${vars.list}",
                "${vars.list}: `${vars.list}` is a list, which cannot be written inside text (name one of its fields, \
                 or make it the whole value)",
            ),
            (
                "${seed",
                "${: `${` without a `}` (close it, or write `$${` for a literal `${`)",
            ),
        ] {
            assert_eq!(one(text), Err(message.to_owned()));
        }
        assert!(one("${}").is_err() && one("${a b}").is_err() && one("x-${tau}").is_err());
    }

    #[test]
    fn absent_items_are_left_out_and_errors_have_paths() {
        let value = json!({"a": "${tau}", "b": ["${tau}", 1]});
        assert_eq!(interpolate(&value, &toy()), Ok(Some(json!({"b": [1]}))));
        let errors = interpolate(&json!({"a": {"b": [1, "${x}"]}}), &toy()).unwrap_err();
        assert_eq!(errors[0].path, ["a", "b", "1"]);
    }

    #[test]
    fn variables_may_use_each_other_but_not_themselves() {
        let Value::Object(vars) = json!({"train": "${vars.data}/x", "data": "d-${vars.n}", "n": 3}) else {
            unreachable!()
        };
        let resolved = resolve_vars(&vars, &|_| None).unwrap();
        assert_eq!(
            Value::Object(resolved),
            json!({"train": "d-3/x", "data": "d-3", "n": 3})
        );
        let Value::Object(vars) = json!({"a": "${vars.b}", "b": "${vars.a}"}) else {
            unreachable!()
        };
        assert_eq!(resolve_vars(&vars, &|_| None).unwrap_err().len(), 2);
    }

    #[test]
    fn variables_may_use_the_environment_and_nothing_else_may() {
        let environment = |name: &str| match name {
            "SCRATCH" => Some("/scratch/me".to_owned()),
            "STEPS" => Some("300".to_owned()),
            _ => None,
        };
        let Value::Object(vars) =
            json!({"data": "${env.SCRATCH}/ner", "steps": "${env.STEPS}", "half": "${vars.steps}"})
        else {
            unreachable!()
        };
        let resolved = resolve_vars(&vars, &environment).unwrap();
        assert_eq!(
            Value::Object(resolved),
            json!({"data": "/scratch/me/ner", "steps": 300, "half": 300})
        );
        for (text, message) in [
            ("${env.SCRACH}", "the environment has no variable `SCRACH`"),
            ("${env}", "`${env}` names no variable of the environment"),
        ] {
            let Value::Object(vars) = json!({"a": text}) else {
                unreachable!()
            };
            assert_eq!(resolve_vars(&vars, &environment).unwrap_err()[0].message, message);
        }
        let elsewhere = one("${env.SCRATCH}").unwrap_err();
        assert!(elsewhere.contains("in `vars` alone"), "{elsewhere}");
    }
}
