//! The JSON of an envelope, as Go's `encoding/json` writes it.

use base64::{Engine, prelude::BASE64_STANDARD};
use watermill_core::Message;

/// What the names of the fields, quotes and braces take.
const FRAME_BYTES: usize = 64;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Fields in Go's order, without spaces.
pub(super) fn json(destination: &str, message: &Message) -> Vec<u8> {
    let mut out = String::with_capacity(expected_len(destination, message));
    out.push_str(r#"{"destination_topic":"#);
    push_text(&mut out, destination);
    out.push_str(r#","uuid":"#);
    push_text(&mut out, message.id());
    if message.is_tombstone() {
        out.push_str(r#","payload":null,"metadata":{"#);
    } else {
        out.push_str(r#","payload":""#);
        BASE64_STANDARD.encode_string(message.payload(), &mut out);
        out.push_str(r#"","metadata":{"#);
    }
    // Metadata is sorted by the bytes of its names, the order in which Go's encoder writes a map.
    for (at, (name, value)) in message.metadata().iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_text(&mut out, name);
        out.push(':');
        push_text(&mut out, value);
    }
    out.push_str("}}");
    out.into_bytes()
}

/// Exact unless a text needs escapes; then the buffer grows.
fn expected_len(destination: &str, message: &Message) -> usize {
    let metadata: usize =
        message.metadata().iter().map(|(name, value)| name.len() + value.len() + r#""":"","#.len()).sum();
    FRAME_BYTES + destination.len() + message.id().len() + message.payload().len().div_ceil(3) * 4 + metadata
}

/// A JSON string. Beside what JSON asks for, Go escapes what could end a script in an HTML page
/// (`<`, `>`, `&`) and the two line separators that JavaScript does not allow in a string.
fn push_text(out: &mut String, text: &str) {
    out.push('"');
    // What needs no escape is copied in runs.
    let mut copied = 0;
    for (at, char) in text.char_indices() {
        let short = match char {
            '"' | '\\' => char,
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 'u',
            _ => continue,
        };
        out.push_str(&text[copied..at]);
        copied = at + char.len_utf8();
        out.push('\\');
        out.push(short);
        if short == 'u' {
            push_hex(out, char);
        }
    }
    out.push_str(&text[copied..]);
    out.push('"');
}

/// Four lower-case digits; every character that is escaped this way has at most four.
fn push_hex(out: &mut String, char: char) {
    for shift in [12, 8, 4, 0] {
        let digit = (u32::from(char) >> shift) & 0xf;
        out.push(char::from(HEX[digit as usize]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        let mut out = String::new();
        push_text(&mut out, text);
        out
    }

    #[test]
    fn texts_are_escaped_as_go_escapes_them() {
        assert_eq!(text("a<b>&c"), r#""a\u003cb\u003e\u0026c""#);
        assert_eq!(text("\u{2028}\u{2029}"), r#""\u2028\u2029""#);
        assert_eq!(text("\"\\/\n\r\t"), r#""\"\\/\n\r\t""#);
        assert_eq!(text("\u{8}\u{c}"), r#""\b\f""#, "as Go does since version 1.22");
        assert_eq!(text("\0\u{b}\u{1f}\u{7f}"), "\"\\u0000\\u000b\\u001f\u{7f}\"");
        assert_eq!(text("Zürich 🎲"), "\"Zürich 🎲\"");
    }

    #[test]
    fn the_buffer_is_large_enough_from_the_start() {
        let message = Message::with_id("u1", vec![7; 1000]).with_metadata("a", "1").with_metadata("b", "2");
        let out = json("destination", &message);
        let expected = expected_len("destination", &message);
        assert!(out.len() <= expected && expected <= out.len() + 16, "{} of {expected}", out.len());
    }
}
