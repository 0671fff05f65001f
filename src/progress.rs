//! Progress for people: a bar on a terminal, one plain line a step elsewhere, nothing when quiet.
//!
//! Everything goes to stderr; a line that can't be written is no reason to fail.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printable::printable;

/// Where progress goes.
#[derive(Clone)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
    quiet: bool,
    verbose: bool,
}

/// One thing in progress.
pub(crate) struct Bar {
    progress: Progress,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// As the terminal and the flags allow.
    pub(crate) fn new(quiet: bool, verbose: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Progress { bars, quiet, verbose }
    }

    /// Whether only errors are wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// A bar that shows nothing.
    pub(crate) fn quiet(&self) -> Bar {
        Bar { progress: Progress { bars: None, quiet: true, verbose: false }, bar: None }
    }

    /// Says what happens now, one line.
    pub(crate) fn step(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Says what only matters when looking closely.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose && !self.quiet {
            self.line(text);
        }
    }

    /// Says what the user should know even when quiet.
    pub(crate) fn warn(&self, text: &str) {
        self.line(&format!("warning: {text}"));
    }

    /// A bar for `label`; `length` in bytes if it is known.
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

    /// A spinner for `label`, where nobody knows how long it takes.
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
    /// Sets the length once the server has said it.
    pub(crate) fn length(&self, length: Option<u64>) {
        if let (Some(bar), Some(length)) = (&self.bar, length) {
            bar.set_length(length);
        }
    }

    /// Sets how far it is.
    pub(crate) fn position(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// Says something beside the bar.
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
