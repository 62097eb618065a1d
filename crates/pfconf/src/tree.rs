//! The parse tree of one statement.

use pest::Token;

use crate::parser::Rule;

/// A node; those below it stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    rule: Rule,
    /// Octets of the text, up to 4 GiB.
    start: u32,
    end: u32,
    /// The node behind the last of those below it.
    next: u32,
}

impl Node {
    pub(crate) const fn new(rule: Rule, start: u32) -> Self {
        Self { rule, start, end: start, next: 0 }
    }

    /// Says where it ends, and which node is the first that is not below it.
    pub(crate) fn close(&mut self, end: u32, next: usize) {
        self.end = end;
        // There are fewer nodes than four thousand millions, or the text would be too long.
        self.next = u32::try_from(next).unwrap_or(u32::MAX);
    }
}

/// What the grammar found in a statement.
#[derive(Debug)]
pub(crate) struct Tree<'s> {
    text: &'s str,
    /// In the order of the text, each in front of its children.
    nodes: Vec<Node>,
}

impl<'s> Tree<'s> {
    pub(crate) const fn new(text: &'s str, nodes: Vec<Node>) -> Self {
        Self { text, nodes }
    }

    /// What pest found in a text; without any nodes for one of more than 4 GiB.
    pub(crate) fn of_pest(text: &'s str, pairs: pest::iterators::Pairs<'_, Rule>) -> Self {
        Self { text, nodes: nodes(pairs).unwrap_or_default() }
    }

    /// The parts of the statement.
    pub(crate) fn parts(&self) -> Vec<Pair<'_>> {
        let end = self.nodes.first().map_or(0, |root| root.next);
        Pairs { tree: self, at: 1, end }.collect()
    }

    /// The same nodes at the same places?
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.nodes == other.nodes
    }
}

fn nodes(pairs: pest::iterators::Pairs<'_, Rule>) -> Option<Vec<Node>> {
    let mut nodes: Vec<Node> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for token in pairs.tokens() {
        match token {
            Token::Start { rule, pos } => {
                open.push(nodes.len());
                nodes.push(Node::new(rule, u32::try_from(pos.pos()).ok()?));
            }
            Token::End { pos, .. } => {
                let next = nodes.len();
                nodes.get_mut(open.pop()?)?.close(u32::try_from(pos.pos()).ok()?, next);
            }
        }
    }
    Some(nodes)
}

/// Where a node is in the statement's text, in octets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stretch {
    start: usize,
    end: usize,
}

impl Stretch {
    pub(crate) const fn start(self) -> usize {
        self.start
    }

    /// One behind the last octet; blanks behind the last word may be in front of it.
    pub(crate) const fn end(self) -> usize {
        self.end
    }
}

/// A node of the tree.
#[derive(Clone)]
pub(crate) struct Pair<'s> {
    tree: &'s Tree<'s>,
    at: u32,
}

impl<'s> Pair<'s> {
    fn node(&self) -> Node {
        self.tree.nodes[self.at as usize]
    }

    /// What it is.
    pub(crate) fn as_rule(&self) -> Rule {
        self.node().rule
    }

    /// Where it is in the statement's text.
    pub(crate) fn as_span(&self) -> Stretch {
        let node = self.node();
        Stretch { start: node.start as usize, end: node.end as usize }
    }

    /// Its text.
    pub(crate) fn as_str(&self) -> &'s str {
        let Stretch { start, end } = self.as_span();
        self.tree.text.get(start..end).unwrap_or_default()
    }

    /// Its children.
    pub(crate) fn into_inner(self) -> Pairs<'s> {
        Pairs { tree: self.tree, at: self.at + 1, end: self.node().next }
    }
}

/// Nodes next to each other.
#[derive(Clone)]
pub(crate) struct Pairs<'s> {
    tree: &'s Tree<'s>,
    at: u32,
    end: u32,
}

impl<'s> Pairs<'s> {
    /// The nodes and all those below them, in the order of the text.
    pub(crate) fn flatten(self) -> impl Iterator<Item = Pair<'s>> {
        (self.at..self.end).map(move |at| Pair { tree: self.tree, at })
    }
}

impl<'s> Iterator for Pairs<'s> {
    type Item = Pair<'s>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let found = Pair { tree: self.tree, at: self.at };
        self.at = found.node().next;
        Some(found)
    }
}
