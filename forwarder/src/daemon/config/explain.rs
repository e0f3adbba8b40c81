//! What every option is, and who has said so.

use std::fmt::Write as _;

use super::{
    layers::{Layers, PREFIX},
    options::OPTIONS,
    secret::is_secret_option,
};

/// Every option of every relay: its value, where that comes from, and what it is.
pub(crate) fn explain(layers: &Layers) -> String {
    let mut text = "# The command line (--set option=value) wins over the environment, that over the file, and that over the default.\n".to_owned();
    let _ = writeln!(
        text,
        "# A variable is named {PREFIX} and the option, in capitals, with __ for each dot: {PREFIX}LOG__LEVEL.\n"
    );
    let relays: Vec<&str> = layers.relays.iter().map(String::as_str).collect();
    let (of_relays, of_all): (Vec<_>, Vec<_>) =
        OPTIONS.iter().partition(|spec| spec.path.starts_with("relay."));
    for spec in of_all {
        line(&mut text, layers, spec.path, spec.help);
    }
    for relay in relays {
        text.push('\n');
        for spec in &of_relays {
            let path = spec.path.replacen('*', relay, 1);
            match path.strip_suffix('*') {
                None => line(&mut text, layers, &path, spec.help),
                Some(above) => {
                    for given in layers.given.keys().filter(|given| given.starts_with(above)) {
                        line(&mut text, layers, given, spec.help);
                    }
                }
            }
        }
    }
    text
}

fn line(text: &mut String, layers: &Layers, path: &str, help: &str) {
    let (value, origin) = match layers.get(path) {
        Some(given) if path.contains(".options.") && is_secret_option(path) => {
            ("***".to_owned(), given.origin.to_string())
        }
        Some(given) => (given.value.to_string(), given.origin.to_string()),
        None => ("(not set)".to_owned(), "default".to_owned()),
    };
    let _ = writeln!(text, "{path} = {value}  # {origin}; {help}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_an_option_is_told_with_who_has_set_it_and_no_secret() {
        let environment = [
            ("WATERMILL_FORWARDER__RELAY__SHOP__SOURCE__PASSWORD", "hunter2"),
            ("WATERMILL_FORWARDER__RELAY__SHOP__SOURCE__URL", "postgres://me:hunter2@h/d"),
            ("WATERMILL_FORWARDER__RELAY__SHOP__DESTINATION__OPTIONS__SASL_PASSWORD", "hunter2"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let layers = Layers::read(None, environment, &["log.level=warn".to_owned()]);
        let text = explain(&layers);
        assert!(text.contains("\nlog.level = warn  # --set; "), "{text}");
        assert!(text.contains("\nlog.format = auto  # default; "), "{text}");
        assert!(text.contains("relay.shop.source.url = postgres://me:***@h/d  # WATERMILL_FORWARDER__RELAY__SHOP__SOURCE__URL; "), "{text}");
        assert!(text.contains("relay.shop.destination.options.sasl.password = ***"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
