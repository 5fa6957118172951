//! JSON objects, written from front to back into a text.

use core::fmt::{Display, Write};
use core::time::Duration;

/// An object that is being written; it is closed when dropped.
pub(super) struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, is_empty: true }
    }

    fn name(&mut self, name: &str) -> &mut String {
        if !self.is_empty {
            self.out.push(',');
        }
        self.is_empty = false;
        quote(self.out, name);
        self.out.push(':');
        self.out
    }

    pub(super) fn display(&mut self, name: &str, value: impl Display) -> &mut Self {
        let out = self.name(name);
        // A string takes everything.
        let _ = write!(out, "{value}");
        self
    }

    pub(super) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.display(name, value)
    }

    pub(super) fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.display(name, value)
    }

    /// Milliseconds with fractions.
    pub(super) fn millis(&mut self, name: &str, value: Duration) -> &mut Self {
        self.display(name, format_args!("{}.{:06}", value.as_millis(), value.subsec_nanos() % 1_000_000))
    }

    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        quote(self.name(name), value);
        self
    }

    pub(super) fn shown(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.text(name, &value.to_string())
    }

    /// Bytes in hexadecimal.
    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        let out = self.name(name);
        out.push('"');
        for byte in bytes {
            let _ = write!(out, "{byte:02x}");
        }
        out.push('"');
        self
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        fill(&mut Object::begin(self.name(name)));
        self
    }

    /// A list, whose elements `fill` writes.
    pub(super) fn list(&mut self, name: &str, fill: impl FnOnce(&mut List<'_>)) -> &mut Self {
        let out = self.name(name);
        out.push('[');
        fill(&mut List { out, is_empty: true });
        self.out.push(']');
        self
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.out.push('}');
    }
}

/// A list that is being written.
pub(super) struct List<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl List<'_> {
    fn next(&mut self) -> &mut String {
        if !self.is_empty {
            self.out.push(',');
        }
        self.is_empty = false;
        self.out
    }

    pub(super) fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        fill(&mut Object::begin(self.next()));
    }

    pub(super) fn text(&mut self, value: &str) {
        quote(self.next(), value);
    }

    pub(super) fn range(&mut self, first: u64, last: u64) {
        let _ = write!(self.next(), "[{first},{last}]");
    }
}

/// A string with what JSON wants escaped (RFC 8259 section 7).
fn quote(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_json() {
        let mut out = String::new();
        Object::begin(&mut out)
            .number("n", 7)
            .millis("t", Duration::from_nanos(1_000_042))
            .text("s", "a \"b\"\\\n\u{1e}")
            .hex("h", &[0, 255])
            .flag("f", true)
            .object("o", |o| {
                o.shown("x", 1);
            })
            .object("e", |_| ())
            .list("l", |l| {
                l.range(1, 2);
                l.text("y");
                l.object(|_| ());
            });
        assert_eq!(
            out,
            r#"{"n":7,"t":1.000042,"s":"a \"b\"\\\u000a\u001e","h":"00ff","f":true,"o":{"x":"1"},"e":{},"l":[[1,2],"y",{}]}"#
        );
    }
}
