//! The container runtime that a node gets.
//!
//! This module must not know more of a runtime than its components: `runtime/` has the facts.

use crate::catalog;
use crate::spec::Spec;

/// Container runtime that serves the CRI; a node has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// containerd.
    #[default]
    Containerd,
}

impl Runtime {
    /// Every runtime.
    pub(crate) const ALL: [Runtime; 1] = [Runtime::Containerd];

    /// Returns the component whose version is the runtime's.
    pub(crate) fn component(self) -> &'static str {
        match self {
            Runtime::Containerd => "containerd",
        }
    }

    /// Returns the catalogue's static build of [`Runtime::component`].
    pub(crate) fn static_component(self) -> Option<&'static str> {
        let build = catalog::component(self.component()).static_build.as_ref()?;
        Some(build.build.as_str())
    }

    /// Returns the runtime whose component is called `name`.
    pub(crate) fn of_component(name: &str) -> Option<Runtime> {
        Runtime::ALL.into_iter().find(|runtime| runtime.component() == name)
    }
}

impl Spec {
    /// Returns the runtime that is to be installed, in whichever build.
    pub(crate) fn runtime(&self) -> Option<Runtime> {
        let wants = |runtime: &Runtime| {
            self.wants(runtime.component()) || runtime.static_component().is_some_and(|name| self.wants(name))
        };
        Runtime::ALL.into_iter().find(wants)
    }
}
