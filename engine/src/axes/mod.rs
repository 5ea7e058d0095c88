//! Axes, cells and the projections of cells that instances stand on.
//!
//! A sweep is a set of cells: the product of its axes, minus `exclude`, plus `include`. An axis is a list of scalars, a
//! map name → value, or a generator (a map with one key that begins with `$`, see [`generate`]). An axis with a `when:`
//! is absent in the cells where that does not hold; it is then written `{when: {…}, values: …}`.

mod generate;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::interpolate::{AxisPoint, RESERVED, Scope, VarsOnly, interpolate, scalar_text};
use crate::manifest::reader::{Reader, given, kind_of};
use crate::schema::{Key, any_map, anything, map_of, or_reference};
use crate::source::ValuePath;
use crate::suggest::did_you_mean;
use generate::Generated;

/// The most cells a sweep may have. More is a mistake in the manifest and would only use up memory.
pub const MAX_CELLS: usize = 100_000;

/// The keys of `sweep`.
pub(crate) const KEYS: [Key; 4] = [
    Key::new(
        "axes",
        "The axes: a list of values, a map name → value, or a generator each.",
        || json!({"type": "object", "additionalProperties": axis()}),
    ),
    Key::new("exclude", "Cells that are left out: all that fit one of these.", || {
        or_reference(json!({"type": "array", "items": or_reference(any_map())}))
    }),
    Key::new("include", "Whole cells that are there too.", || {
        or_reference(json!({"type": "array", "items": or_reference(any_map())}))
    }),
    Key::new(
        "override",
        "Settings that differ in some cells, in order.",
        || json!({"type": "array", "items": map_of(&OVERRIDE_KEYS)}),
    ),
];

/// The keys of an axis that is not there in every cell.
const AXIS_KEYS: [Key; 2] = [
    Key::required(
        "when",
        "The cells that have this axis: earlier axis → value or values.",
        || or_reference(any_map()),
    ),
    Key::required("values", "The values of the axis.", anything),
];

/// The keys of an override.
const OVERRIDE_KEYS: [Key; 2] = [
    Key::required("when", "The cells that it holds for: axis → value or values.", || {
        or_reference(any_map())
    }),
    Key::required("set", "What is set there: `stage.setting` → value.", any_map),
];

/// The schema of an axis. The names of a map's values are free, so its other keys are too.
fn axis() -> Value {
    let mut map = map_of(&generate::GENERATORS);
    if let (Some(all), Value::Object(when)) = (
        map["properties"].as_object_mut(),
        map_of(&AXIS_KEYS)["properties"].take(),
    ) {
        all.extend(when);
    }
    map["additionalProperties"] = json!(true);
    or_reference(json!({"anyOf": [{"type": "array", "minItems": 1}, map]}))
}

/// One dimension of a sweep.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) values: Vec<AxisValue>,
    /// Whether `${axis}` is the value's name (a named map) rather than the value (a list).
    pub(crate) named: bool,
    /// Holds in the cells that have this axis; over earlier axes only.
    when: Condition,
    /// Where its values come from, if they are files.
    pub(crate) glob: Option<Glob>,
}

/// A pattern of `$glob`, and the files and folders that it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    pub(crate) pattern: String,
    pub(crate) paths: Vec<PathBuf>,
}

/// One value of an axis.
#[derive(Clone, Debug)]
pub(crate) struct AxisValue {
    /// How it is written in the names of instances; unique in its axis.
    pub(crate) name: String,
    pub(crate) value: Value,
}

/// For each named axis the values (as indices) that fit. All axes must fit; an absent axis fits nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Condition(BTreeMap<usize, BTreeSet<usize>>);

impl Condition {
    pub(crate) fn holds(&self, cell: &[Option<usize>]) -> bool {
        self.0
            .iter()
            .all(|(axis, fits)| cell[*axis].is_some_and(|value| fits.contains(&value)))
    }

    /// The axes it asks for.
    pub(crate) fn axes(&self) -> impl Iterator<Item = usize> {
        self.0.keys().copied()
    }
}

/// One point of all axes: for each axis the index of its value, or none where the axis is absent.
pub(crate) type Cell = Vec<Option<usize>>;

/// Settings that differ in some cells.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    pub(crate) when: Condition,
    pub(crate) set: Vec<Assignment>,
    /// Where it is written.
    path: ValuePath,
}

/// `stage.setting: value` of an override.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) stage: String,
    /// The path below `with`.
    pub(crate) setting: Vec<String>,
    pub(crate) value: Value,
    /// Where it is written.
    pub(crate) path: ValuePath,
}

/// The axes, the cells and the overrides of a manifest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) axes: Vec<Axis>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) overrides: Vec<Override>,
    /// The names of all axes as written.
    declared: Vec<String>,
    /// Axes that could not be read; nobody should hear that they do not exist.
    broken: BTreeSet<String>,
}

impl Sweep {
    /// The sweep of a manifest that has none: a single cell without axes.
    pub(crate) fn none() -> Self {
        Self {
            cells: vec![Vec::new()],
            ..Self::default()
        }
    }

    pub(crate) fn axis(&self, name: &str) -> Option<usize> {
        self.axes.iter().position(|axis| axis.name == name)
    }

    /// Whether there is an axis of this name, readable or not.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.declared.iter().any(|declared| declared == name)
    }

    /// Reads `sweep:`; what is wrong goes to `reader`. `project` is where `$glob` looks.
    pub(crate) fn read(value: &Value, vars: &Map<String, Value>, project: &Path, reader: &mut Reader<'_>) -> Self {
        let path = ValuePath::from(["sweep"]);
        let mut sweep = Self::default();
        let Some(map) = reader.map(value, &path, "`sweep`") else {
            return Self::none();
        };
        reader.keys(map, &path, &KEYS, "`sweep`");
        let before = reader.found.len();

        let axes_path = path.child("axes");
        if let Some(axes) = given(map, "axes").and_then(|axes| reader.map(axes, &axes_path, "`axes`")) {
            sweep.declared = axes.keys().cloned().collect();
            for (name, value) in axes {
                let path = axes_path.child(name);
                reader.name(name, &path, "an axis");
                if RESERVED.contains(&name.as_str()) {
                    reader.bad_key(
                        &path,
                        format!("`{name}` cannot be the name of an axis"),
                        Some("it names variables".to_owned()),
                    );
                }
                let value = sweep.write_out(value, &path, vars, reader);
                match value.and_then(|value| sweep.read_axis(name, &value, &path, project, reader)) {
                    Some(axis) => sweep.axes.push(axis),
                    None => {
                        sweep.broken.insert(name.clone());
                    }
                }
            }
        }
        // Values that only `include` names become values of their axis first, so that conditions can name them too.
        let included = sweep.list("include", map, vars, reader);
        let included = sweep.read_included(&included, &path.child("include"), reader);
        let overrides_path = path.child("override");
        if let Some(list) = given(map, "override").and_then(|list| reader.list(list, &overrides_path, "`override`")) {
            sweep.overrides = sweep.read_overrides(list, &overrides_path, vars, reader);
        }
        let excluded = sweep.list("exclude", map, vars, reader);
        let excluded = sweep.read_excluded(&excluded, &path.child("exclude"), reader);
        // A sweep with mistakes has no cells worth expanding.
        if reader.found.len() > before {
            return sweep;
        }
        let from_include: BTreeSet<(usize, usize)> = included.iter().flat_map(|item| item.new_values.clone()).collect();
        if !sweep.expand(&from_include, &axes_path, reader) {
            return sweep;
        }
        sweep.exclude(excluded, reader);
        sweep.include(included, reader);
        if sweep.cells.is_empty() {
            let help = "`exclude` takes all of them away".to_owned();
            reader.bad_key(&path, "the sweep has no cell left", Some(help));
        } else {
            sweep.check_conditions(reader);
        }
        sweep
    }

    /// The items of `exclude` or `include` with variables written out, each with its place in the list; an item that
    /// cannot be written out is reported and left out.
    fn list(
        &self,
        key: &str,
        map: &Map<String, Value>,
        vars: &Map<String, Value>,
        reader: &mut Reader<'_>,
    ) -> Vec<(usize, Value)> {
        let path = ValuePath::from(["sweep", key]);
        let Some(value) = given(map, key) else {
            return Vec::new();
        };
        // The whole list may be a variable.
        let whole = match value {
            Value::String(_) => self.write_out(value, &path, vars, reader),
            list => Some(list.clone()),
        };
        let Some(whole) = whole else { return Vec::new() };
        let items = reader.list(&whole, &path, &format!("`{key}`")).unwrap_or_default();
        let items = items.iter().enumerate();
        items
            .filter_map(|(index, item)| Some((index, self.write_out(item, &path.child(index), vars, reader)?)))
            .collect()
    }

    /// Variables written out in a part of the sweep.
    fn write_out(
        &self,
        value: &Value,
        path: &ValuePath,
        vars: &Map<String, Value>,
        reader: &mut Reader<'_>,
    ) -> Option<Value> {
        match interpolate(value, &VarsOnly(vars)) {
            Ok(value) => value,
            Err(errors) => {
                reader.bad_references(path, errors);
                None
            }
        }
    }

    fn read_axis(
        &self,
        name: &str,
        value: &Value,
        path: &ValuePath,
        project: &Path,
        reader: &mut Reader<'_>,
    ) -> Option<Axis> {
        let mut when = Condition::default();
        let mut value = value;
        let mut values_path = path.clone();
        if let Some(map) = value.as_object().filter(|map| map.contains_key("when")) {
            reader.keys(map, path, &AXIS_KEYS, "an axis with `when`");
            when = self.condition(&map["when"], &path.child("when"), reader)?;
            values_path = path.child("values");
            let Some(values) = map.get("values") else {
                let help = "write `{when: {…}, values: …}`".to_owned();
                reader.bad_key(path, format!("axis `{name}` has `when` and no `values`"), Some(help));
                return None;
            };
            value = values;
        }
        let plain = |values, named| Generated {
            values,
            named,
            glob: None,
        };
        let Generated { values, named, glob } = match value {
            Value::Array(items) => plain(scalar_values(items, &values_path, reader)?, false),
            Value::Object(map) => match map.keys().find(|key| key.starts_with('$')) {
                Some(generator) if map.len() == 1 => {
                    generate::generate(generator, &map[generator], &values_path, project, reader)?
                }
                Some(generator) => {
                    let message = format!("`{generator}` must be the only key of its axis");
                    reader.bad_key(&values_path.child(generator), message, None);
                    return None;
                }
                None => {
                    let named = map.iter().map(|(name, value)| AxisValue {
                        name: name.clone(),
                        value: value.clone(),
                    });
                    plain(named.collect(), true)
                }
            },
            other => {
                let help = format!(
                    "an axis is a list (`[{}]`), a map name → value, or `{{$range: …}}`",
                    brief(other)
                );
                reader.bad_value(&values_path, format!("axis `{name}` is {}", kind_of(other)), Some(help));
                return None;
            }
        };
        if values.is_empty() {
            let help = "give it values, or take it away".to_owned();
            reader.bad_key(path, format!("axis `{name}` has no values"), Some(help));
        }
        let mut seen = BTreeSet::new();
        for (index, value) in values.iter().enumerate() {
            let place = values_path.child(if named { value.name.clone() } else { index.to_string() });
            if value.name.is_empty() || value.name.contains([',', '=', '\n']) {
                let help = "give it a name: make the axis a map name → value".to_owned();
                let message = format!("`{}` cannot stand in the name of an instance", value.name);
                reader.bad_value(&place, message, Some(help));
            }
            if !seen.insert(&value.name) {
                reader.bad_value(
                    &place,
                    format!("axis `{name}` has the value `{}` twice", value.name),
                    None,
                );
            }
        }
        Some(Axis {
            name: name.to_owned(),
            values,
            named,
            when,
            glob,
        })
    }

    /// Reads `{axis: value, axis: [value, value]}`.
    fn condition(&self, value: &Value, path: &ValuePath, reader: &mut Reader<'_>) -> Option<Condition> {
        let map = reader.map(value, path, "a condition")?;
        if map.is_empty() {
            reader.bad_value(path, "a condition without axes", None);
            return None;
        }
        let mut condition = Condition::default();
        let mut complete = true;
        for (name, wanted) in map {
            let place = path.child(name);
            let Some(axis) = self.axis(name) else {
                self.no_such_axis(name, &place, reader);
                complete = false;
                continue;
            };
            let wanted: Vec<(&Value, ValuePath)> = match wanted {
                Value::Array(list) => list
                    .iter()
                    .enumerate()
                    .map(|(index, value)| (value, place.child(index)))
                    .collect(),
                value => vec![(value, place.clone())],
            };
            let mut fits = BTreeSet::new();
            for (value, place) in wanted {
                match self.value_index(axis, value) {
                    Some(index) => {
                        fits.insert(index);
                    }
                    None => {
                        self.no_such_value(axis, value, &place, reader);
                        complete = false;
                    }
                }
            }
            condition.0.insert(axis, fits);
        }
        complete.then_some(condition)
    }

    fn no_such_axis(&self, name: &str, path: &ValuePath, reader: &mut Reader<'_>) {
        if !self.declares(name) {
            let help = did_you_mean(name, self.axes.iter().map(|axis| axis.name.as_str()));
            reader.bad_key(path, format!("there is no axis `{name}`"), help);
        } else if !self.broken.contains(name) {
            // Conditions of axes are read while axes are.
            let help = "the `when` of an axis names axes above it: change their order".to_owned();
            reader.bad_key(path, format!("the axis `{name}` comes later"), Some(help));
        }
    }

    fn value_index(&self, axis: usize, value: &Value) -> Option<usize> {
        let name = scalar_text(value)?;
        self.axes[axis].values.iter().position(|value| value.name == name)
    }

    fn no_such_value(&self, axis: usize, value: &Value, path: &ValuePath, reader: &mut Reader<'_>) {
        let axis = &self.axes[axis];
        let name = brief(value);
        let help = did_you_mean(&name, axis.values.iter().take(20).map(|value| value.name.as_str()));
        reader.bad_value(path, format!("axis `{}` has no value `{name}`", axis.name), help);
    }

    /// Makes the product of the axes; false if it is too large. Values that `include` brought along are not in it.
    fn expand(&mut self, from_include: &BTreeSet<(usize, usize)>, path: &ValuePath, reader: &mut Reader<'_>) -> bool {
        let own_values = |index: usize| -> Vec<usize> {
            (0..self.axes[index].values.len())
                .filter(|value| !from_include.contains(&(index, *value)))
                .collect()
        };
        let mut cells: Vec<Cell> = vec![vec![None; self.axes.len()]];
        for (index, axis) in self.axes.iter().enumerate() {
            let values = own_values(index);
            let mut next = Vec::new();
            for cell in &cells {
                if !axis.when.holds(cell) {
                    next.push(cell.clone());
                    continue;
                }
                next.extend(values.iter().map(|value| {
                    let mut cell = cell.clone();
                    cell[index] = Some(*value);
                    cell
                }));
                if next.len() > MAX_CELLS {
                    let all = (0..self.axes.len()).fold(1u128, |all, axis| {
                        let values = own_values(axis).len() as u128;
                        // Where an axis may be absent, absence is one more point of it.
                        all.saturating_mul(values + u128::from(!self.axes[axis].when.0.is_empty()))
                    });
                    let upto = if self.axes.iter().any(|axis| !axis.when.0.is_empty()) {
                        "up to "
                    } else {
                        ""
                    };
                    reader.bad_key(
                        path,
                        format!(
                            "the sweep has {upto}{} cells; the limit is {}",
                            grouped(all),
                            grouped(MAX_CELLS as u128)
                        ),
                        Some("take values away, or tie axes together in one named map".to_owned()),
                    );
                    return false;
                }
            }
            cells = next;
        }
        self.cells = cells;
        true
    }

    fn read_excluded(
        &self,
        list: &[(usize, Value)],
        path: &ValuePath,
        reader: &mut Reader<'_>,
    ) -> Vec<(Condition, ValuePath)> {
        let item = |(index, item): &(usize, Value)| {
            let path = path.child(index);
            Some((self.condition(item, &path, reader)?, path))
        };
        list.iter().filter_map(item).collect()
    }

    fn exclude(&mut self, excluded: Vec<(Condition, ValuePath)>, reader: &mut Reader<'_>) {
        let product = self.cells.clone();
        for (condition, path) in excluded {
            if !product.iter().any(|cell| condition.holds(cell)) {
                let help = "the sweep has no such combination".to_owned();
                reader.bad_value(&path, "excludes no cell", Some(help));
            }
            self.cells.retain(|cell| !condition.holds(cell));
        }
    }

    /// Refuses axes and overrides whose `when` holds nowhere.
    fn check_conditions(&self, reader: &mut Reader<'_>) {
        for (index, axis) in self.axes.iter().enumerate() {
            if !self.cells.iter().any(|cell| cell[index].is_some()) {
                let path = ValuePath::from(["sweep", "axes", &axis.name]);
                reader.bad_key(&path, format!("no cell has the axis `{}`", axis.name), None);
            }
        }
        for item in &self.overrides {
            if !self.cells.iter().any(|cell| item.when.holds(cell)) {
                let help = "the sweep has no such combination".to_owned();
                reader.bad_value(&item.path.child("when"), "this `when` fits no cell", Some(help));
            }
        }
    }

    /// Reads the cells of `include` and gives axes that are lists the values that only they name.
    fn read_included(&mut self, list: &[(usize, Value)], path: &ValuePath, reader: &mut Reader<'_>) -> Vec<Included> {
        let mut included = Vec::new();
        for (index, item) in list {
            let path = path.child(index);
            let Some(map) = reader.map(item, &path, "a cell of `include`") else {
                continue;
            };
            let names: Vec<String> = self.axes.iter().map(|axis| axis.name.clone()).collect();
            for name in map.keys().filter(|name| !self.declares(name)) {
                self.no_such_axis(name, &path.child(name), reader);
            }
            let mut cell = vec![None; self.axes.len()];
            let mut new_values = Vec::new();
            for (axis, name) in names.iter().enumerate() {
                let Some(value) = map.get(name) else { continue };
                cell[axis] = self.value_index(axis, value);
                if cell[axis].is_none() {
                    match scalar_text(value).filter(|_| !self.axes[axis].named) {
                        Some(text) => {
                            let values = &mut self.axes[axis].values;
                            cell[axis] = Some(values.len());
                            new_values.push((axis, values.len()));
                            values.push(AxisValue {
                                name: text,
                                value: value.clone(),
                            });
                        }
                        None => self.no_such_value(axis, value, &path.child(name), reader),
                    }
                }
            }
            included.push(Included { cell, new_values, path });
        }
        included
    }

    fn include(&mut self, included: Vec<Included>, reader: &mut Reader<'_>) {
        let mut seen: BTreeSet<Cell> = self.cells.iter().cloned().collect();
        for Included { cell, path, .. } in included {
            let mut whole = true;
            for (axis, value) in self.axes.iter().zip(&cell) {
                let problem = match (axis.when.holds(&cell), value) {
                    (true, None) => "is missing in this cell",
                    (false, Some(_)) => "is absent in this cell, because its `when` does not hold",
                    _ => continue,
                };
                whole = false;
                let help = "`include` adds whole cells: name every axis that the cell has".to_owned();
                reader.bad_value(&path, format!("axis `{}` {problem}", axis.name), Some(help));
            }
            if whole && !seen.insert(cell.clone()) {
                reader.bad_value(&path, "this cell is in the sweep already", None);
            } else if whole {
                self.cells.push(cell);
            }
        }
    }

    fn read_overrides(
        &self,
        list: &[Value],
        path: &ValuePath,
        vars: &Map<String, Value>,
        reader: &mut Reader<'_>,
    ) -> Vec<Override> {
        let mut overrides = Vec::new();
        for (index, item) in list.iter().enumerate() {
            let path = path.child(index);
            let Some(map) = reader.map(item, &path, "an override") else {
                continue;
            };
            reader.keys(map, &path, &OVERRIDE_KEYS, "an override");
            let (Some(when), Some(set)) = (map.get("when"), map.get("set")) else {
                let help = "write `{when: {axis: value}, set: {stage.setting: value}}`".to_owned();
                reader.bad_value(&path, "an override needs `when` and `set`", Some(help));
                continue;
            };
            let when_path = path.child("when");
            let when = self.write_out(when, &when_path, vars, reader);
            let when = when.and_then(|when| self.condition(&when, &when_path, reader));
            let set_path = path.child("set");
            let Some(set) = reader.map(set, &set_path, "`set`") else {
                continue;
            };
            let mut assignments = Vec::new();
            for (target, value) in set {
                let path = set_path.child(target);
                let mut steps = target.split('.').map(str::to_owned);
                let stage = steps.next().unwrap_or_default();
                let setting: Vec<String> = steps.collect();
                if setting.is_empty() {
                    let help = "write `stage.setting: value`".to_owned();
                    reader.bad_key(&path, format!("`{target}` names no setting"), Some(help));
                    continue;
                }
                assignments.push(Assignment {
                    stage,
                    setting,
                    value: value.clone(),
                    path,
                });
            }
            if let Some(when) = when {
                overrides.push(Override {
                    when,
                    set: assignments,
                    path,
                });
            }
        }
        overrides
    }
}

/// A cell of `include`.
struct Included {
    cell: Cell,
    /// The values (axis, index) that this cell named first.
    new_values: Vec<(usize, usize)>,
    path: ValuePath,
}

/// What `${…}` can name in one cell.
pub(crate) struct CellScope<'a> {
    pub(crate) sweep: &'a Sweep,
    pub(crate) vars: &'a Map<String, Value>,
    pub(crate) cell: &'a [Option<usize>],
}

impl Scope for CellScope<'_> {
    fn vars(&self) -> &Map<String, Value> {
        self.vars
    }

    fn axis(&self, name: &str) -> AxisPoint<'_> {
        let Some(index) = self.sweep.axis(name) else {
            return if self.sweep.declares(name) {
                AxisPoint::Absent
            } else {
                AxisPoint::Unknown
            };
        };
        let axis = &self.sweep.axes[index];
        match self.cell[index].map(|value| &axis.values[value]) {
            Some(AxisValue { name, value }) => AxisPoint::Value {
                value,
                named: axis.named.then_some(name.as_str()),
            },
            None => AxisPoint::Absent,
        }
    }

    fn axis_names(&self) -> Vec<&str> {
        self.sweep.axes.iter().map(|axis| axis.name.as_str()).collect()
    }
}

fn scalar_values(items: &[Value], path: &ValuePath, reader: &mut Reader<'_>) -> Option<Vec<AxisValue>> {
    let mut values = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match scalar_text(item) {
            Some(name) => values.push(AxisValue {
                name,
                value: item.clone(),
            }),
            None => {
                let help = "make the axis a map name → value, so that each value has a name".to_owned();
                reader.bad_value(
                    &path.child(index),
                    format!("{} in a list of scalars", kind_of(item)),
                    Some(help),
                );
            }
        }
    }
    (values.len() == items.len()).then_some(values)
}

/// A value for a message.
fn brief(value: &Value) -> String {
    scalar_text(value).unwrap_or_else(|| kind_of(value).to_owned())
}

/// `1234567` as `1,234,567`.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
