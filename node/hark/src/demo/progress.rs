//! What the person sees while the squad talks: a bar on a terminal, lines elsewhere. Everything is
//! written to standard error.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(super) fn start(talking: Duration) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(talking.as_millis() as u64);
            bar.set_style(style("  {spinner:.cyan} {msg}"));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self(bar)
    }

    /// Shows a finished step.
    pub(super) fn done(&self, line: &str) {
        match &self.0 {
            Some(bar) => bar.println(format!("  ✓ {line}")),
            None => print(line),
        }
    }

    /// Shows the step that is running, on a terminal only: a line would come too late to be of use.
    pub(super) fn doing(&self, line: &str) {
        if let Some(bar) = &self.0 {
            bar.set_style(style("  {spinner:.cyan} {msg}"));
            bar.set_message(line.to_owned());
        }
    }

    /// Shows how far the conversation has got, and who hears it now. Without a bar, `turn` is
    /// printed once for each turn.
    pub(super) fn talking(&self, elapsed: Duration, now: &str, turn: Option<&str>) {
        match &self.0 {
            Some(bar) => {
                bar.set_style(style("  {bar:24.cyan/dim} {msg}"));
                bar.set_position(elapsed.as_millis() as u64);
                bar.set_message(now.to_owned());
            }
            None => turn.into_iter().for_each(print),
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the template is one of ours")
        .progress_chars("━╸─")
}

fn print(line: &str) {
    // If standard error is closed, the result is still complete.
    let _ = writeln!(io::stderr(), "{line}");
}

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(100);
