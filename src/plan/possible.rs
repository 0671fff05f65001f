//! Says which paths a plan can have, and what can belong at each, whatever the spec.
//!
//! A plan is checked against it before it is used, and a receipt when it is read: a root's own receipt could name any
//! path. This module must not look at a root. To add a path: where its component has its paths, see [`shapes`].

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::catalog::{self, Component};
use crate::node::{EXECUTABLE, Node, Shape};
use crate::path::{ImagePath, LONGEST_COMPONENT};
use crate::plan::from_packages::REPOSITORY_FILES;
use crate::plan::{CRI, KERNEL, PACKAGES, REGISTRIES, crictl, kernel};
use crate::printable::printable;
use crate::reserved::{STATE, reserved, reserved_from_registries};
use crate::runtime::Runtime;
use crate::spec::package::PackageName;
use crate::spec::{CERTS, RegistryName};

/// Entry of a plan or a receipt that is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedNode<'a> {
    /// Path in the image.
    pub path: &'a ImagePath,
    /// Node that would belong there.
    pub node: &'a Node,
    /// Component that would put it there.
    pub component: &'a str,
    /// The node comes from an artifact.
    pub from_artifact: bool,
    /// Name of the node in the artifact.
    pub member: Option<&'a str>,
}

/// Field of a claim that no plan can have, and why; the path itself has no field.
pub(crate) type Impossible = (Option<&'static str>, String);

impl PlannedNode<'_> {
    /// Fails unless a plan can have this entry.
    pub(crate) fn check(&self) -> Result<(), Impossible> {
        let path = |why: String| Err((None, why));
        if let Some(why) = reserved(self.path) {
            return path(why);
        }
        if self.path.name().len() > LONGEST_COMPONENT {
            return path(format!("has a name of more than {LONGEST_COMPONENT} bytes"));
        }
        let shape = match (self.from_artifact, self.member) {
            (true, Some(member)) => return self.check_member(member),
            (true, None) => return Err((Some("member"), "is missing, and the artifact is named".to_owned())),
            (false, Some(_)) => {
                return Err((Some("artifact"), "is missing, and its member is named".to_owned()));
            }
            (false, None) => self.shape()?,
        };
        match shape.misfit(self.node) {
            Some((field, why)) => Err((Some(field), why)),
            None => self.check_package(),
        }
    }

    /// Fails unless the catalogue installs `member` of this component at this path.
    fn check_member(&self, member: &str) -> Result<(), Impossible> {
        let Some(builds) = builds(self.component) else {
            return Err((Some("component"), "is not in the catalogue".to_owned()));
        };
        let fits = |build: &&Component| build.rule(member).is_some_and(|(_, path)| path == *self.path);
        if !builds.iter().any(fits) {
            return Err(match owner_of_member(self.path) {
                _ if builds.iter().any(|build| installs_beside(build, self.path)) => {
                    (Some("member"), "is not installed at this path".to_owned())
                }
                Some(owner) => (Some("component"), format!("is not `{owner}`")),
                None => (None, "is not a path of the catalogue".to_owned()),
            });
        }
        Shape::File(&[EXECUTABLE]).misfit(self.node).map_or(Ok(()), |(field, why)| Err((Some(field), why)))
    }

    /// Returns the shape of what is not from an artifact at this path.
    fn shape(&self) -> Result<Shape, Impossible> {
        if let Some((component, shape)) = shapes().get(self.path) {
            return match *component == self.component {
                true => Ok(*shape),
                false => Err((Some("component"), format!("is not `{component}`"))),
            };
        }
        if owner_of_member(self.path).is_some() {
            return Err((Some("artifact"), "is missing, and the file is a member of one".to_owned()));
        }
        match registry_directory(self.path) {
            Ok(()) if self.component == REGISTRIES => Ok(Shape::TEXT),
            Ok(()) => Err((None, format!("is not a path of `{}`", printable(self.component)))),
            Err(why) => Err((None, why)),
        }
    }

    fn check_package(&self) -> Result<(), Impossible> {
        match self.node {
            Node::Present { package } => PackageName::try_from(package.clone())
                .map_or_else(|why| Err((Some("package"), why)), |_| Ok(())),
            _ => Ok(()),
        }
    }
}

/// Fails unless a bake can create the directory at `path` above the paths of a plan, or above its own state.
pub(crate) fn check_directory(path: &ImagePath) -> Result<(), String> {
    if let Some(why) = reserved(path) {
        return Err(why);
    }
    if directories().iter().any(|directory| directory == path || directory.is_below(path)) {
        return Ok(());
    }
    // Above the files of registries, whose directory is the spec's choice: a path below says whether it can be.
    let below = path.join("x").map_err(|failure| failure.to_string())?;
    reserved_from_registries(&below).map_or(Ok(()), Err)
}

/// Returns the directories in which every bake can create paths, whatever the spec, and that of the state.
pub(crate) fn directories() -> &'static [ImagePath] {
    static DIRECTORIES: OnceLock<Vec<ImagePath>> = OnceLock::new();
    DIRECTORIES.get_or_init(|| {
        let members = catalog::components().values().flat_map(|component| &component.members);
        let mut all: Vec<ImagePath> = members.map(|rule| rule.directory().clone()).collect();
        let written = shapes().iter().filter(|(_, (_, shape))| *shape != Shape::Present);
        all.extend(written.filter_map(|(path, _)| path.parent()));
        all.extend([CERTS, STATE].map(ImagePath::fixed));
        all.sort();
        all.dedup();
        all
    })
}

/// Shapes by path, each with its component.
type Shapes = BTreeMap<ImagePath, (&'static str, Shape)>;

/// Returns everything that is neither a member of an artifact nor a registry's file.
fn shapes() -> &'static Shapes {
    static SHAPES: OnceLock<Shapes> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let mut shapes = Shapes::new();
        let mut add = |path: &'static str, component: &'static str, shape: Shape| {
            shapes.insert(ImagePath::fixed(path), (component, shape));
        };
        for runtime in Runtime::ALL {
            let facts = runtime.facts();
            let packaged = facts.binary.packaged.iter().chain(facts.unit.packaged);
            packaged.for_each(|path| add(path, runtime.component(), Shape::Present));
            facts.places.iter().for_each(|(path, shape)| add(path, runtime.component(), *shape));
        }
        REPOSITORY_FILES.into_iter().for_each(|path| add(path, PACKAGES, Shape::TEXT));
        [kernel::MODULES, kernel::SYSCTL].into_iter().for_each(|path| add(path, KERNEL, Shape::TEXT));
        add(crictl::CLIENTS, CRI, Shape::TEXT);
        shapes
    })
}

/// Returns every build of a component; `None` if the catalogue has no component of this name.
fn builds(component: &str) -> Option<Vec<&'static Component>> {
    let is_of = |(name, build): &(&String, &Component)| {
        *name == component && build.build_of.is_none() || build.build_of.as_deref() == Some(component)
    };
    let builds: Vec<_> = catalog::components().iter().filter(is_of).map(|(_, build)| build).collect();
    (!builds.is_empty()).then_some(builds)
}

/// Returns a component that installs members in the directory of `path`, if it may install one by this name.
fn owner_of_member(path: &ImagePath) -> Option<&'static str> {
    let (name, build) = catalog::components().iter().find(|(_, build)| installs_beside(build, path))?;
    Some(build.build_of.as_deref().unwrap_or(name))
}

/// Returns whether a build of a component has members in the directory of `path`.
fn installs_beside(build: &Component, path: &ImagePath) -> bool {
    let parent = path.parent();
    build.members.iter().any(|rule| Some(rule.directory()) == parent.as_ref())
}

/// Fails unless `path` is that of a file in the directory of a registry.
fn registry_directory(path: &ImagePath) -> Result<(), String> {
    let registry = path.parent();
    let directory = registry.as_ref().and_then(ImagePath::parent);
    let (Some(registry), Some(directory)) = (registry, directory) else {
        return Err("is not a path of any component".to_owned());
    };
    match reserved_from_registries(&directory).or_else(|| reserved_from_registries(&registry)) {
        Some(_) => Err("is not a path of any component".to_owned()),
        None if !RegistryName::is_directory(registry.name()) => {
            Err("is not in the directory of a registry".to_owned())
        }
        None => Ok(()),
    }
}
