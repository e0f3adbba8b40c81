//! One measured number, and how it is printed.

/// A number, what it is compared with, and its limit.
pub(crate) struct Figure {
    pub(crate) name: String,
    value: f64,
    unit: &'static str,
    baseline: Option<f64>,
    limit: Option<Limit>,
}

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, baseline: None, limit: None }
    }

    pub(crate) fn against(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self
    }

    pub(crate) fn at_most(mut self, limit: f64) -> Self {
        self.limit = limit.is_finite().then_some(Limit::AtMost(limit));
        self
    }

    pub(crate) fn at_least(mut self, limit: f64) -> Self {
        self.limit = Some(Limit::AtLeast(limit));
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.map(|baseline| self.value / baseline)
    }
}

/// Prints a table, or a JSON object a line.
pub(crate) fn print(figures: impl Iterator<Item = Figure>, json: bool) {
    if !json {
        println!("{:<48} {:>12} {:>8} {:>10}  unit", "figure", "value", "ratio", "limit");
    }
    for figure in figures {
        let limit = figure.limit.map(|limit| match limit {
            Limit::AtMost(limit) | Limit::AtLeast(limit) => limit,
        });
        if json {
            let object = serde_json::json!({
                "name": figure.name,
                "value": figure.value,
                "unit": figure.unit,
                "baseline": figure.baseline,
                "ratio": figure.ratio(),
                "limit": limit,
            });
            println!("{object}");
            continue;
        }
        let ratio = figure.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let limit = figure.limit.map_or_else(String::new, |limit| match limit {
            Limit::AtMost(limit) => format!("<= {limit:.0}"),
            Limit::AtLeast(limit) => format!(">= {limit:.0}"),
        });
        println!("{:<48} {:>12.3} {ratio:>8} {limit:>10}  {}", figure.name, figure.value, figure.unit);
    }
}
