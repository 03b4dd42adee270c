//! Logical lines: text put together from pieces of the source, which knows where each piece came from.

use std::ops::Range;

use crate::span::Span;

/// Part of a logical line (continuations joined, comments inside them dropped) with its origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    text: String,
    /// `(offset in text, offset in source)` of each piece, ascending, the first at 0 unless empty.
    pieces: Vec<(u32, u32)>,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    pub text: String,
    pub span: Span,
}

impl Text {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn push(&mut self, piece: &str, source: usize) {
        if !piece.is_empty() {
            self.pieces.push((self.text.len() as u32, source as u32));
            self.text.push_str(piece);
        }
    }

    fn source_of(&self, offset: usize) -> usize {
        let index = self.pieces.partition_point(|(at, _)| *at as usize <= offset);
        let Some((at, source)) = index.checked_sub(1).and_then(|i| self.pieces.get(i)) else { return 0 };
        *source as usize + (offset - *at as usize)
    }

    /// Where `range` of the text stands in the source.
    pub fn span_of(&self, range: Range<usize>) -> Span {
        let start = self.source_of(range.start.min(self.text.len()));
        if range.end <= range.start {
            return Span::new(start, start);
        }
        Span::new(start, self.source_of(range.end - 1) + 1)
    }

    pub fn span(&self) -> Span {
        self.span_of(0..self.text.len())
    }

    /// A part of this text.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Text {
        let mut part = Text { text: self.text[range.clone()].to_owned(), pieces: Vec::new() };
        if !part.text.is_empty() {
            part.pieces.push((0, self.source_of(range.start) as u32));
        }
        for (at, source) in &self.pieces {
            if *at as usize > range.start && (*at as usize) < range.end {
                part.pieces.push((*at - range.start as u32, *source));
            }
        }
        part
    }

    #[must_use]
    pub fn trimmed(&self) -> Text {
        let start = self.text.len() - self.text.trim_start().len();
        let end = self.text.trim_end().len().max(start);
        self.part(start..end)
    }

    pub fn word(&self) -> Word {
        Word { text: self.text.clone(), span: self.span() }
    }
}
