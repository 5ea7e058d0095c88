//! Kinds that do nothing but have settings, ports and parts.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::kind::{
    Field, InputParts, Kind, Port, Registry, Resolved, SettingError, StageError, Weight, parse_settings,
};

/// `make` (a thing from files), `bend` (a thing from one or two things), `weigh` (many things), `any` (whatever).
pub(super) fn registry() -> Registry {
    Registry::default()
        .with(Toy {
            name: "make",
            fields: const { &[Field::input("files"), Field::counted("text"), Field::counted("size")] },
            ports: &[],
            produces: "thing",
            resolve: |settings, _| {
                let settings: Make = parse_settings(settings)?;
                Ok(Resolved::new(&settings)?.makes(["left", "right"]))
            },
        })
        .with(Toy {
            name: "bend",
            fields: const { &[Field::counted("how"), Field::counted("rate"), Field::recorded("note")] },
            ports: &[
                Port {
                    name: "thing",
                    takes: "thing",
                    required: true,
                    collects: false,
                },
                Port {
                    name: "other",
                    takes: "thing",
                    required: false,
                    collects: false,
                },
            ],
            produces: "thing",
            resolve: |settings, inputs| {
                let settings: Bend = parse_settings(settings)?;
                if !(0.0..=1.0).contains(&settings.rate) {
                    return Err(SettingError::new("rate", "`rate` must lie between 0 and 1").help("try 0.1"));
                }
                if inputs.told("thing", "bent") == Some(&Value::from("stiff")) {
                    return Err(SettingError::new("inputs.thing", "what is stiff cannot be bent"));
                }
                let resolved = Resolved::new(&settings)?
                    .makes(["left"])
                    .reads("thing", ["left"])
                    .tells("bent", settings.how.clone());
                Ok(if settings.how == "both" {
                    resolved.reads("other", ["right"])
                } else {
                    resolved
                })
            },
        })
        .with(Toy {
            name: "weigh",
            fields: const { &[Field::counted("part")] },
            ports: &[Port {
                name: "things",
                takes: "thing",
                required: true,
                collects: true,
            }],
            produces: "weight",
            resolve: |settings, inputs| {
                let part = settings["part"].as_str().map(|part| vec![part.to_owned()]);
                let parts = part.unwrap_or_else(|| inputs.parts("things").to_vec());
                Ok(Resolved::default()
                    .makes(["table.md", "table.csv"])
                    .reads("things", parts))
            },
        })
        .with(Toy {
            name: "any",
            fields: const { &[Field::counted("run")] },
            ports: &[Port {
                name: "*",
                takes: "*",
                required: false,
                collects: true,
            }],
            produces: "folder",
            resolve: |_, inputs| {
                let resolved = Resolved::default().makes(["out"]);
                Ok(inputs
                    .ports
                    .iter()
                    .fold(resolved, |resolved, (port, parts)| resolved.reads(port, parts.clone())))
            },
        })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Make {
    #[serde(default)]
    files: Option<Value>,
    #[serde(default)]
    text: Option<Value>,
    #[serde(default = "three")]
    size: u32,
}

fn three() -> u32 {
    3
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bend {
    #[serde(default)]
    how: String,
    #[serde(default)]
    rate: f64,
    #[serde(default)]
    note: Option<Value>,
}

struct Toy {
    name: &'static str,
    fields: &'static [Field],
    ports: &'static [Port],
    produces: &'static str,
    resolve: fn(&Value, &InputParts) -> Result<Resolved, SettingError>,
}

impl Kind for Toy {
    fn name(&self) -> &'static str {
        self.name
    }
    fn version(&self) -> u32 {
        1
    }
    fn about(&self) -> &'static str {
        "a toy"
    }
    fn weight(&self) -> Weight {
        Weight::Light
    }
    fn fields(&self) -> &'static [Field] {
        self.fields
    }
    fn ports(&self) -> &'static [Port] {
        self.ports
    }
    fn produces(&self) -> &'static str {
        self.produces
    }
    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        (self.resolve)(settings, inputs)
    }
    fn run(&self, _: &Context) -> Result<(), StageError> {
        Ok(())
    }
}
