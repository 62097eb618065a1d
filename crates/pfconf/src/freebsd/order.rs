//! The order that FreeBSD wants statements in.
//!
//! Source: FreeBSD sbin/pfctl/parse.y `check_rulestate`; pf.conf(5) "set require-order".

use crate::diag::{Code, Diagnostic};
use crate::parser::Fallible;
use crate::scan::Statement;

/// Parts of a file in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    #[default]
    Start,
    Options,
    Ethernet,
    Normalization,
    Queueing,
    Translation,
    Filtering,
}

impl Section {
    const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Options => "options",
            Self::Ethernet => "ethernet",
            Self::Normalization => "normalization",
            Self::Queueing => "queueing",
            Self::Translation => "translation",
            Self::Filtering => "filtering",
        }
    }
}

/// How far a file has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    reached: Section,
    /// `set require-order no`
    pub(crate) is_free: bool,
}

impl Order {
    /// Notes a statement of a section.
    ///
    /// # Errors
    /// The message about one that comes too late.
    pub(crate) fn enter(&mut self, section: Section, statement: &Statement) -> Fallible<()> {
        if self.reached <= section || self.is_free {
            self.reached = section;
            return Ok(());
        }
        let text = "Rules must be in order: options, ethernet, normalization, queueing, \
                    translation, filtering";
        let start = statement.text.len() - statement.text.trim_start().len();
        let here = statement.locate(start, statement.text.trim_end().len());
        let label = format!("this is {}, and {} stands above", section.word(), self.reached.word());
        Err(Box::new(
            Diagnostic::error(Code::Order, text)
                .title("a statement comes too late")
                .at(&here, label)
                .line_at(statement.end)
                .help("move it up, or start the file with `set require-order no`"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_only_go_forward_unless_told_otherwise() {
        let statement = Statement::default();
        let mut order = Order::default();
        for section in [Section::Options, Section::Options, Section::Filtering] {
            assert!(order.enter(section, &statement).is_ok(), "{section:?}");
        }
        let error = order.enter(Section::Translation, &statement).unwrap_err();
        assert!(error.text().starts_with("Rules must be in order: options"));
        order.is_free = true;
        assert!(order.enter(Section::Translation, &statement).is_ok());
    }
}
