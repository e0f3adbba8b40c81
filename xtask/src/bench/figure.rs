//! [`Figure`]: one measured number, beside what it is compared with.

use serde_json::json;

use crate::Result;

/// One number of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// The value of what it is compared with, from the same run.
    pub(super) baseline: Option<f64>,
    /// More than this is a failure.
    pub(super) limit: Option<f64>,
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.baseline.filter(|baseline| *baseline > 0.0).map(|baseline| self.value / baseline)
    }

    fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.value > limit)
    }

    /// One line for programs.
    pub(super) fn to_json(&self) -> String {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "ratio": self.ratio(),
            "limit": self.limit,
        })
        .to_string()
    }
}

/// The figures for people, one on a line, in the columns of the benchmarks' own tables.
pub(super) fn rows(figures: &[Figure]) -> String {
    let mut text = String::new();
    for figure in figures {
        let ratio = figure.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let limit = figure.limit.map_or_else(String::new, |limit| format!("<= {limit:.0}"));
        let over = if figure.is_over() { "  OVER" } else { "" };
        text.push_str(&format!(
            "{:<56} {:>12.1} {ratio:>8} {limit:>10}  {}{over}\n",
            figure.name, figure.value, figure.unit
        ));
    }
    text
}

/// An error that names every figure above its limit.
pub(super) fn check(figures: &[Figure]) -> Result {
    let over: Vec<String> = figures
        .iter()
        .filter(|figure| figure.is_over())
        .map(|figure| format!("{} is {:.0}, above its limit", figure.name, figure.value))
        .collect();
    if over.is_empty() { Ok(()) } else { Err(over.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, baseline: Option<f64>, limit: Option<f64>) -> Figure {
        Figure {
            name: "instructions/it".to_owned(),
            value,
            unit: "instructions per message",
            baseline,
            limit,
        }
    }

    #[test]
    fn a_line_of_json_has_every_field() {
        let line = figure(300.0, Some(200.0), None).to_json();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = json!({
            "name": "instructions/it", "value": 300.0, "unit": "instructions per message",
            "baseline": 200.0, "ratio": 1.5, "limit": null,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_figure_above_its_limit_is_marked_and_is_an_error() {
        let figures = [figure(99.0, None, Some(100.0)), figure(101.0, Some(0.0), Some(100.0))];
        assert_eq!(rows(&figures).matches("OVER").count(), 1);
        assert_eq!(check(&figures).unwrap_err(), "instructions/it is 101, above its limit");
        assert_eq!(check(&figures[..1]), Ok(()));
    }
}
