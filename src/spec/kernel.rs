//! The `kernel` key: modules and parameters beside those that Kubernetes needs.
//!
//! This module must not write a file: `plan/kernel.rs` does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::spec::scalar::{ModuleName, SysctlName};
use crate::spec::value::{Scalar, visit};

/// Modules that Kubernetes needs.
const MODULES: [&str; 2] = ["overlay", "br_netfilter"];

/// Parameters that Kubernetes needs; each has the value 1.
const PARAMETERS: [&str; 3] =
    ["net.bridge.bridge-nf-call-ip6tables", "net.bridge.bridge-nf-call-iptables", "net.ipv4.ip_forward"];

/// Kernel modules and parameters of a node: the defaults, with what the spec adds and without what it takes away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kernel {
    /// Modules that are loaded at boot.
    pub modules: Modules,
    /// Parameters that are set at boot.
    pub sysctl: Parameters,
}

/// Modules that are loaded at boot, the defaults first.
#[derive(Debug, Clone)]
pub(crate) struct Modules {
    /// Their names, each once.
    pub names: Vec<ModuleName>,
    /// Names that the spec takes away and that are no defaults.
    pub absent: Vec<ModuleName>,
}

/// What a map of modules says of one.
enum Wish {
    /// The module is loaded.
    Load,
    /// The module is not loaded.
    TakeAway,
}

/// Parameters that are set at boot.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    /// Their names, each in one spelling, and values.
    pub values: BTreeMap<SysctlName, Scalar>,
    /// Names that the spec takes away and that are no defaults.
    pub absent: Vec<SysctlName>,
}

/// The keys of `kernel`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Kernel")]
struct Keys {
    /// Modules to load at boot beside overlay and br_netfilter: a list, or a map in which `null` takes one away; `null`
    /// alone takes all away
    modules: Modules,
    /// Parameters to set at boot beside the defaults, or in place of one; `null` takes one away, `null` alone all
    sysctl: Parameters,
}

impl Default for Modules {
    fn default() -> Self {
        Modules { names: MODULES.map(|name| ModuleName(name.to_owned())).to_vec(), absent: Vec::new() }
    }
}

impl Modules {
    /// Adds modules, each once.
    fn add(&mut self, names: impl IntoIterator<Item = ModuleName>) {
        let mut seen: BTreeSet<String> = self.names.iter().map(plain).collect();
        self.names.extend(names.into_iter().filter(|name| seen.insert(plain(name))));
    }

    /// Takes a module away that is a default.
    fn take_away(&mut self, name: ModuleName) {
        match self.names.iter().position(|other| plain(other) == plain(&name)) {
            Some(position) => drop(self.names.remove(position)),
            None => self.absent.push(name),
        }
    }
}

/// Returns a module's name in the one spelling of the kernel, which takes `-` and `_` for the same.
fn plain(name: &ModuleName) -> String {
    name.replace('-', "_")
}

impl Default for Parameters {
    fn default() -> Self {
        let values = PARAMETERS.into_iter().map(|name| (SysctlName(name.to_owned()), Scalar::one()));
        Parameters { values: values.collect(), absent: Vec::new() }
    }
}

impl Parameters {
    /// Sets a parameter, or takes a default away. A default may be there in another spelling.
    fn change(&mut self, name: SysctlName, value: Option<Scalar>) {
        let path = name.path();
        let default = PARAMETERS.into_iter().find(|default| path_of(default) == path);
        let found = default.and_then(|default| self.values.remove(default));
        match value {
            Some(value) => drop(self.values.insert(name, value)),
            None if found.is_none() => self.absent.push(name),
            None => {}
        }
    }
}

impl SysctlName {
    /// Returns the path of the parameter below /proc/sys, which is the same for all spellings.
    fn path(&self) -> String {
        path_of(self)
    }
}

/// Tells why the kernel refuses the value of a parameter that Kubernetes needs: these are numbers.
fn refused_value(name: &SysctlName, Scalar(value): &Scalar) -> Option<String> {
    let is_ours = PARAMETERS.iter().any(|ours| path_of(ours) == name.path());
    (is_ours && value.parse::<i32>().is_err()).then(|| {
        format!(
            "`{}` of {name} is no number, and the kernel refuses it; expected 0 or 1",
            value.escape_default()
        )
    })
}

/// Returns the path of a parameter. By sysctl.d(5), components are separated by the first of `.` and `/` in the name, and
/// the other stands for what it is in a component.
fn path_of(name: &str) -> String {
    let exchanged = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    match name.find(['.', '/']) {
        Some(first) if name[first..].starts_with('.') => name.chars().map(exchanged).collect(),
        _ => name.to_owned(),
    }
}

visit!(
    Kernel,
    "a map such as {sysctl: {vm.max_map_count: 262144}}",
    |generator| {
        let keys = generator.subschema_for::<Keys>();
        json_schema!({"anyOf": [{"type": "null"}, keys]})
    },
    {
        fn visit_unit<E: de::Error>(self) -> Result<Kernel, E> {
            Ok(Kernel {
                modules: Modules { names: Vec::new(), absent: Vec::new() },
                sysctl: Parameters { values: BTreeMap::new(), absent: Vec::new() },
            })
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Kernel, A::Error> {
            let Keys { modules, sysctl } = Keys::deserialize(MapAccessDeserializer::new(map))?;
            Ok(Kernel { modules, sysctl })
        }
    }
);

visit!(
    Modules,
    "a sequence of modules to add, or a map in which `null` takes one away",
    |generator| {
        let name = generator.subschema_for::<ModuleName>();
        json_schema!({
            "type": ["array", "object", "null"],
            "items": name,
            "additionalProperties": generator.subschema_for::<Wish>(),
            "examples": [["nf_conntrack"], {"br_netfilter": null}]
        })
    },
    {
        fn visit_unit<E: de::Error>(self) -> Result<Modules, E> {
            Ok(Modules { names: Vec::new(), absent: Vec::new() })
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Modules, A::Error> {
            let (mut modules, mut names) = (Modules::default(), Vec::new());
            while let Some(name) = sequence.next_element()? {
                names.push(name);
            }
            modules.add(names);
            Ok(modules)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Modules, A::Error> {
            let (mut modules, mut added) = (Modules::default(), Vec::new());
            while let Some((name, wish)) = map.next_entry::<ModuleName, Wish>()? {
                match wish {
                    Wish::Load => added.push(name),
                    Wish::TakeAway => modules.take_away(name),
                }
            }
            modules.add(added);
            Ok(modules)
        }
    }
);

visit!(
    Wish,
    "`true` to load the module, or `null` to take it away",
    |_| json_schema!({"type": ["boolean", "object", "null"], "maxProperties": 0}),
    {
        fn visit_bool<E: de::Error>(self, is_loaded: bool) -> Result<Wish, E> {
            Ok(if is_loaded { Wish::Load } else { Wish::TakeAway })
        }

        fn visit_unit<E: de::Error>(self) -> Result<Wish, E> {
            Ok(Wish::TakeAway)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wish, A::Error> {
            match map.next_key::<String>()? {
                Some(key) => {
                    Err(de::Error::custom(format_args!("unknown field `{key}`, a module has no keys")))
                }
                None => Ok(Wish::Load),
            }
        }
    }
);

visit!(
    Parameters,
    "a map of parameters and their values, in which `null` takes one away",
    |generator| {
        let value = generator.subschema_for::<Scalar>();
        json_schema!({
            "type": ["object", "null"],
            "additionalProperties": {"anyOf": [{"type": "null"}, value]},
            "examples": [{"vm.max_map_count": 262144}, {"net.ipv4.ip_forward": null}]
        })
    },
    {
        fn visit_unit<E: de::Error>(self) -> Result<Parameters, E> {
            Ok(Parameters { values: BTreeMap::new(), absent: Vec::new() })
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
            let (mut parameters, mut seen) = (Parameters::default(), BTreeMap::new());
            while let Some(name) = map.next_key::<SysctlName>()? {
                if let Some(other) = seen.insert(name.path(), name.clone()) {
                    let message = format_args!("duplicate key `{name}`: `{other}` is the same parameter");
                    return Err(de::Error::custom(message));
                }
                let value: Option<Scalar> = map.next_value()?;
                if let Some(why) = value.as_ref().and_then(|value| refused_value(&name, value)) {
                    return Err(de::Error::custom(why));
                }
                parameters.change(name, value);
            }
            Ok(parameters)
        }
    }
);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Kernel;
    use crate::spec::Spec;

    fn kernel(yaml: &str) -> Kernel {
        Spec::parse(&format!("kernel: {yaml}\n"), "nodebake.yaml", Path::new(".")).unwrap().kernel
    }

    fn modules(yaml: &str) -> String {
        let names: Vec<String> = kernel(yaml).modules.names.iter().map(ToString::to_string).collect();
        names.join(" ")
    }

    fn parameters(yaml: &str) -> String {
        let values = kernel(yaml).sysctl.values;
        let values: Vec<String> = values.iter().map(|(name, value)| format!("{name}={}", value.0)).collect();
        values.join(" ")
    }

    #[test]
    fn modules_are_added_to_the_defaults_and_null_takes_one_away() {
        for (yaml, expected) in [
            ("{}", "overlay br_netfilter"),
            ("{modules: []}", "overlay br_netfilter"),
            ("{modules: [nf_conntrack]}", "overlay br_netfilter nf_conntrack"),
            ("{modules: [br-netfilter, overlay, ip_vs, ip_vs]}", "overlay br_netfilter ip_vs"),
            ("{modules: {br_netfilter: null, ip_vs: true}}", "overlay ip_vs"),
            ("{modules: {br_netfilter: ~, ip_vs: {}}}", "overlay ip_vs"),
            ("{modules: {br-netfilter: false}}", "overlay"),
            ("{modules: null}", ""),
            ("null", ""),
        ] {
            assert_eq!(modules(yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn parameters_are_added_to_the_defaults_and_null_takes_one_away() {
        const BRIDGE: &str = "net.bridge.bridge-nf-call-ip6tables=1 net.bridge.bridge-nf-call-iptables=1";
        for (yaml, expected) in [
            ("{sysctl: {}}", format!("{BRIDGE} net.ipv4.ip_forward=1")),
            (
                "{sysctl: {vm.max_map_count: 262144}}",
                format!("{BRIDGE} net.ipv4.ip_forward=1 vm.max_map_count=262144"),
            ),
            ("{sysctl: {net.ipv4.ip_forward: 0}}", format!("{BRIDGE} net.ipv4.ip_forward=0")),
            ("{sysctl: {net/ipv4/ip_forward: 0}}", format!("{BRIDGE} net/ipv4/ip_forward=0")),
            ("{sysctl: {net.ipv4.ip_forward: null}}", BRIDGE.to_owned()),
            ("{sysctl: {net/ipv4/ip_forward: ~}}", BRIDGE.to_owned()),
            ("{sysctl: null}", String::new()),
            ("null", String::new()),
        ] {
            assert_eq!(parameters(yaml), expected, "{yaml}");
        }
    }

    #[test]
    fn a_name_that_is_no_default_is_remembered_when_it_is_taken_away() {
        let kernel = kernel("{modules: {ip_vs: null}, sysctl: {vm.swappiness: null}}");
        assert_eq!(kernel.modules.absent.first().map(|name| &**name), Some("ip_vs"));
        assert_eq!(kernel.sysctl.absent.first().map(|name| &**name), Some("vm.swappiness"));
    }

    #[test]
    fn two_spellings_of_a_parameter_are_refused() {
        let yaml = "kernel: {sysctl: {net.ipv4.ip_forward: 1, net/ipv4/ip_forward: 0}}\n";
        let refused = Spec::parse(yaml, "nodebake.yaml", Path::new(".")).unwrap_err();
        assert!(refused.to_string().contains("is the same parameter"), "{refused}");
    }
}
