//! [`Figures`]: what a benchmark measured, as a table or as JSON.

use std::fmt;

use serde_json::json;

/// One measured number, with what it is compared to.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    name: String,
    value: f64,
    unit: String,
    baseline: Option<f64>,
    limit: Option<Limit>,
}

/// The bound of a [`Figure`]: of its ratio to the baseline where there is one, of its value otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// It must not be smaller.
    AtLeast(f64),
    /// It must not be larger.
    AtMost(f64),
}

/// The figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    figures: Vec<Figure>,
    json: bool,
}

impl Figure {
    /// A number and its unit: `msg/s`, `allocs/msg`, `ms`.
    pub fn new(name: impl Into<String>, value: f64, unit: impl Into<String>) -> Self {
        Self { name: name.into(), value, unit: unit.into(), baseline: None, limit: None }
    }

    /// What the same measure is for the raw client, in the same run.
    #[must_use]
    pub fn baseline(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self
    }

    /// Sets the bound.
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The value divided by the baseline.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.value / self.baseline?)
    }

    /// Whether it keeps its limit; without one it does.
    pub fn is_within(&self) -> bool {
        let bounded = self.ratio().unwrap_or(self.value);
        match self.limit {
            None => true,
            // Written so that a ratio that is not a number does not pass.
            Some(Limit::AtLeast(limit)) => bounded >= limit,
            Some(Limit::AtMost(limit)) => bounded <= limit,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "ratio": self.ratio(),
            "limit": self.limit.map(|limit| limit.to_string()),
            "within": self.is_within(),
        })
    }
}

impl Figures {
    /// No figures yet. They are shown as JSON when the program was called with `--json`.
    pub fn from_args() -> Self {
        Self { figures: Vec::new(), json: std::env::args().any(|argument| argument == "--json") }
    }

    /// Whether to show JSON: one object on a line for each figure.
    #[must_use]
    pub fn json(mut self, json: bool) -> Self {
        self.json = json;
        self
    }

    /// Adds a figure.
    pub fn push(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Whether every figure keeps its limit.
    pub fn are_within(&self) -> bool {
        self.figures.iter().all(Figure::is_within)
    }

    /// Prints them to the standard output.
    pub fn print(&self) {
        print!("{self}");
    }

    fn rows(&self) -> Vec<[String; 6]> {
        let or_empty = |number: Option<f64>| number.map(shown).unwrap_or_default();
        let header = ["figure", "value", "unit", "baseline", "ratio", "limit"].map(str::to_owned);
        let figures = self.figures.iter().map(|figure| {
            let limit = figure.limit.map(|limit| {
                let mark = if figure.is_within() { "" } else { " missed" };
                format!("{limit}{mark}")
            });
            [
                figure.name.clone(),
                shown(figure.value),
                figure.unit.clone(),
                or_empty(figure.baseline),
                figure.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                limit.unwrap_or_default(),
            ]
        });
        std::iter::once(header).chain(figures).collect()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.json {
            return self.figures.iter().try_for_each(|figure| writeln!(f, "{}", figure.json()));
        }
        let rows = self.rows();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Numbers are read from the right.
                let is_number = matches!(column, 1 | 3 | 4);
                line += &if is_number { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, ">= {limit}"),
            Self::AtMost(limit) => write!(f, "<= {limit}"),
        }
    }
}

/// Three digits that matter, and no more than there are.
fn shown(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let mut figures = Figures::default();
        figures.push(Figure::new("read", 150_000.0, "msg/s").baseline(120_000.0).limit(Limit::AtLeast(1.0)));
        figures.push(Figure::new("allocations", 4.5, "allocs/msg").limit(Limit::AtMost(4.0)));
        figures
    }

    #[test]
    fn a_table_shows_ratios_and_missed_limits() {
        let expected = "\
figure        value  unit        baseline  ratio  limit
read         150000  msg/s         120000   1.25  >= 1
allocations    4.50  allocs/msg                   <= 4 missed
";
        assert_eq!(figures().to_string(), expected);
        assert!(!figures().are_within());
    }

    #[test]
    fn json_is_one_object_on_a_line() {
        let text = figures().json(true).to_string();
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0]["ratio"], 1.25);
        assert_eq!(objects[1]["within"], false);
        assert!(objects[1]["baseline"].is_null());
    }

    #[test]
    fn a_ratio_to_nothing_keeps_no_limit() {
        let figure = Figure::new("x", 0.0, "").baseline(0.0).limit(Limit::AtLeast(1.0));
        assert!(!figure.is_within());
    }
}
