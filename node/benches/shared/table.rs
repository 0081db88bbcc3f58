//! The table that a benchmark prints. Each line has a measure, its value, and what the value is
//! compared with.

/// Rows of a Markdown table.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 3]>);

impl Table {
    /// Adds a measure whose value must be `bar` at most.
    pub(crate) fn held(&mut self, measure: &str, value: f64, unit: &str, bar: f64) {
        // Written so that NaN counts as missed.
        let verdict = if value <= bar { "held" } else { "MISSED" };
        self.said(
            measure,
            &with_unit(value, unit),
            &format!("{}: {verdict}", with_unit(bar, unit)),
        );
    }

    /// Adds a measure without a limit. `beside` is the machine's limit, or a remark.
    pub(crate) fn shown(&mut self, measure: &str, value: f64, unit: &str, beside: &str) {
        self.said(measure, &with_unit(value, unit), beside);
    }

    /// Adds a measure whose value is not a number.
    pub(crate) fn said(&mut self, measure: &str, value: &str, beside: &str) {
        eprintln!("  {measure}: {value} ({beside})");
        self.0.push([measure, value, beside].map(str::to_owned));
    }

    /// Prints the rows below `title`. `beside` is the heading of the last column.
    pub(crate) fn print(&self, title: &str, beside: &str) {
        println!("\n### {title}\n\n| measure | value | {beside} |\n| --- | --- | --- |");
        for [measure, value, beside] in &self.0 {
            println!("| {measure} | {value} | {beside} |");
        }
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    let gap = if unit.is_empty() || unit == "%" { "" } else { " " };
    match value.abs() {
        _ if value.is_nan() => "not seen".to_owned(),
        size if size >= 1_000.0 => format!("{value:.0}{gap}{unit}"),
        size if size >= 10.0 => format!("{value:.1}{gap}{unit}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}{gap}{unit}"),
        _ => format!("{value:.4}{gap}{unit}"),
    }
}
