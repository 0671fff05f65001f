//! Progress for people: a bar on a terminal, one plain line for each step elsewhere, nothing with `--quiet`.
//!
//! This module must not write to stdout, and must not fail: a line that can't be written is dropped.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printable::printable;

/// Reporter of progress, as the terminal and the flags allow.
#[derive(Clone)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
    quiet: bool,
    verbose: bool,
}

/// One step in progress, with its bar if there is a terminal.
pub(crate) struct Bar {
    progress: Progress,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Makes a reporter for this terminal.
    pub(crate) fn new(quiet: bool, verbose: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Progress { bars, quiet, verbose }
    }

    /// Returns whether only warnings and errors are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Makes a bar that shows nothing.
    pub(crate) fn hidden(&self) -> Bar {
        Bar { progress: Progress { bars: None, quiet: true, verbose: false }, bar: None }
    }

    /// Writes one line about what happens now.
    pub(crate) fn step(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Writes one line that only `--verbose` asks for.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose && !self.quiet {
            self.line(text);
        }
    }

    /// Writes a warning, also with `--quiet`.
    pub(crate) fn warn(&self, text: &str) {
        self.line(&format!("warning: {text}"));
    }

    /// Makes a bar for `label`; `length` in bytes if it is known.
    pub(crate) fn bar(&self, label: &str, length: Option<u64>) -> Bar {
        let bar = self.bars.as_ref().map(|bars| {
            let template = "{prefix:32} {bytes:>10}/{total_bytes:<10} [{bar:24}] {bytes_per_sec:>12} {eta}";
            let style =
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = bars.add(ProgressBar::new(length.unwrap_or(0)).with_style(style.progress_chars("=> ")));
            bar.set_prefix(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Bar { progress: self.clone(), bar }
    }

    /// Makes a spinner for `label`, whose length nobody knows.
    pub(crate) fn spinner(&self, label: &str) -> Bar {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_message(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if bar.is_none() {
            self.step(label);
        }
        Bar { progress: self.clone(), bar }
    }

    fn line(&self, text: &str) {
        let line = format!("nodebake: {}", printable(text));
        match &self.bars {
            Some(bars) => drop(bars.println(line)),
            None => drop(writeln!(std::io::stderr(), "{line}")),
        }
    }
}

impl Bar {
    /// Sets the length, once the server has told it.
    pub(crate) fn length(&self, length: Option<u64>) {
        if let (Some(bar), Some(length)) = (&self.bar, length) {
            bar.set_length(length);
        }
    }

    /// Sets how many bytes are done.
    pub(crate) fn position(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// Writes one line beside the bar.
    pub(crate) fn note(&self, text: &str) {
        self.progress.step(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
