//! What a benchmark prints: a measure a line, its value, and what it is held against.

/// Rows of a Markdown table.
#[derive(Default)]
pub(crate) struct Table(Vec<[String; 3]>);

impl Table {
    /// A measure that is to be `bar` at most.
    pub(crate) fn held(&mut self, measure: &str, value: f64, unit: &str, bar: f64) {
        // Written so that a value that is none misses.
        let verdict = if value <= bar { "held" } else { "MISSED" };
        self.row(measure, with_unit(value, unit), format!("{}: {verdict}", with_unit(bar, unit)));
    }

    /// A measure without a bar; `beside` is the machine's limit, or a remark.
    pub(crate) fn shown(&mut self, measure: &str, value: f64, unit: &str, beside: &str) {
        self.row(measure, with_unit(value, unit), beside.to_owned());
    }

    /// Something that is no number.
    pub(crate) fn said(&mut self, measure: &str, value: &str, beside: &str) {
        self.row(measure, value.to_owned(), beside.to_owned());
    }

    /// Prints the rows beneath `title`; `beside` heads the last column.
    pub(crate) fn print(&self, title: &str, beside: &str) {
        println!("\n### {title}\n\n| measure | value | {beside} |\n| --- | --- | --- |");
        for [measure, value, beside] in &self.0 {
            println!("| {measure} | {value} | {beside} |");
        }
    }

    fn row(&mut self, measure: &str, value: String, beside: String) {
        eprintln!("  {measure}: {value} ({beside})");
        self.0.push([measure.to_owned(), value, beside]);
    }
}

/// The value below which a share of `values` lies; none of no values.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * sorted.len().saturating_sub(1) as f64;
    sorted.get(place.round() as usize).copied().unwrap_or(f64::NAN)
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The largest value.
pub(crate) fn largest(values: &[f64]) -> f64 {
    quantile(values, 1.0)
}

/// The mean; none of no values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
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
