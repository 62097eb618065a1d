//! Lines and columns of stretches of text.

use pfconf::{Diagnostic, Input, Span};

/// Where something is. Lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Position {
    pub offset: usize,
    pub line: usize,
    pub column: usize,
}

/// The position of an offset; one behind the end is the end.
pub fn position(text: &str, offset: usize) -> Position {
    let offset = text.floor_char_boundary(offset.min(text.len()));
    let before = &text[..offset];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        offset,
        line: before.bytes().filter(|&byte| byte == b'\n').count() + 1,
        column: before[start..].chars().count() + 1,
    }
}

/// First position of a stretch, and the one behind it.
pub fn ends(text: &str, span: Span) -> (Position, Position) {
    let start = position(text, span.start);
    // From there on, so that it does not count all lines twice.
    let stretch =
        &text[start.offset..text.floor_char_boundary(span.end.min(text.len()).max(start.offset))];
    let newlines = stretch.bytes().filter(|&byte| byte == b'\n').count();
    let last = stretch.rsplit('\n').next().unwrap_or_default().chars().count();
    let end = Position {
        offset: start.offset + stretch.len(),
        line: start.line + newlines,
        column: if newlines == 0 { start.column + last } else { last + 1 },
    };
    (start, end)
}

/// The text that the places of a message are in.
pub fn text_of<'a>(diagnostic: &'a Diagnostic, input: &Input<'a>) -> &'a str {
    diagnostic.source().unwrap_or(input.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters() {
        assert_eq!(position("ü x", 3).column, 3);
        assert_eq!(position("a", 9).offset, 1);
        let (start, end) = ends("a\nüb\nc", Span::new(2, 6));
        assert_eq!((start.line, start.column, end.line, end.column), (2, 1, 3, 1));
        let (start, end) = ends("a\nüb\nc", Span::new(2, 5));
        assert_eq!((start.column, end.line, end.column), (1, 2, 3));
        assert_eq!(ends("a", Span::new(7, 9)).1.offset, 1);
    }
}
