//! What a benchmark is asked for, and how its numbers are printed.

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
}

/// What a benchmark is asked for on its command line.
#[derive(Default)]
pub(crate) struct Options {
    json: bool,
    /// Part of the names of the figures wanted.
    filter: Option<String>,
    /// A workload to run and nothing else, and how many messages it moves.
    pub(crate) workload: Option<(String, u64)>,
}

impl Options {
    /// Reads the arguments, the program's name first.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Self {
        let mut args = args.skip(1).filter(|arg| arg != "--bench");
        let mut options = Self::default();
        let (mut workload, mut messages) = (None, 20_000);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => options.json = true,
                "--count-workload" => workload = args.next(),
                "--messages" => messages = args.next().and_then(|n| n.parse().ok()).expect("--messages N"),
                _ => options.filter = Some(arg),
            }
        }
        options.workload = workload.map(|workload| (workload, messages));
        options
    }
}

/// Prints a table, or a JSON object a line, of the figures that were asked for.
///
/// # Panics
///
/// When a figure is beyond its limit, after all have been printed.
pub(crate) fn print_and_check(figures: Vec<Figure>, options: &Options) {
    let wanted =
        |figure: &Figure| options.filter.as_ref().is_none_or(|filter| figure.name.contains(filter.as_str()));
    if !options.json {
        println!("{:<48} {:>12} {:>8} {:>10}  unit", "figure", "value", "ratio", "limit");
    }
    let mut beyond = Vec::new();
    for figure in figures.into_iter().filter(wanted) {
        println!("{}", if options.json { figure.to_json() } else { figure.to_row() });
        if figure.is_beyond() {
            beyond.push(figure.name);
        }
    }
    assert!(beyond.is_empty(), "beyond the limit: {}", beyond.join(", "));
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.baseline.map(|baseline| self.value / baseline)
    }

    fn is_beyond(&self) -> bool {
        match self.limit {
            Some(Limit::AtMost(limit)) => self.value > limit,
            Some(Limit::AtLeast(limit)) => self.value < limit,
            None => false,
        }
    }

    fn to_json(&self) -> String {
        let limit = self.limit.map(|(Limit::AtMost(limit) | Limit::AtLeast(limit))| limit);
        serde_json::json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "baseline": self.baseline,
            "ratio": self.ratio(),
            "limit": limit,
        })
        .to_string()
    }

    fn to_row(&self) -> String {
        let ratio = self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let limit = match self.limit {
            Some(Limit::AtMost(limit)) => format!("<= {limit:.0}"),
            Some(Limit::AtLeast(limit)) => format!(">= {limit:.0}"),
            None => String::new(),
        };
        format!("{:<48} {:>12.3} {ratio:>8} {limit:>10}  {}", self.name, self.value, self.unit)
    }
}
