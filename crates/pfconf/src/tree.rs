//! The parse tree of one statement.
//!
//! A tree is a [`Shape`], which says what nodes there are, and the places of the statement's words.
//! Statements that differ only in their names and numbers share a shape, so that the grammar has to
//! look at the first of them only. See [`crate::shape`].

use std::rc::Rc;

use pest::Token;

use crate::parser::Rule;

/// Nodes in the order of the text, each in front of its children.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    rule: Rule,
    /// Where it starts and ends, as indices into [`Tree::bounds`].
    start: u32,
    end: u32,
    /// The node behind its last child.
    next: u32,
}

impl Shape {
    /// Nodes of what the grammar gave; `bound` gives the index that stands for an offset.
    pub(crate) fn new(
        pairs: pest::iterators::Pairs<'_, Rule>,
        mut bound: impl FnMut(usize) -> Option<u32>,
    ) -> Option<Self> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for token in pairs.tokens() {
            match token {
                Token::Start { rule, pos } => {
                    open.push(nodes.len());
                    let start = bound(pos.pos())?;
                    nodes.push(Node { rule, start, end: start, next: 0 });
                }
                Token::End { pos, .. } => {
                    let next = u32::try_from(nodes.len()).ok()?;
                    let node = nodes.get_mut(open.pop()?)?;
                    node.end = bound(pos.pos())?;
                    node.next = next;
                }
            }
        }
        Some(Self { nodes })
    }
}

/// What the grammar found in a statement.
#[derive(Debug)]
pub(crate) struct Tree<'s> {
    text: &'s str,
    shape: Rc<Shape>,
    /// Offsets in the text.
    bounds: Vec<usize>,
}

impl<'s> Tree<'s> {
    pub(crate) const fn new(text: &'s str, shape: Rc<Shape>, bounds: Vec<usize>) -> Self {
        Self { text, shape, bounds }
    }

    /// A tree that shares its shape with no other.
    pub(crate) fn alone(text: &'s str, pairs: pest::iterators::Pairs<'_, Rule>) -> Self {
        let mut bounds = Vec::new();
        let shape = Shape::new(pairs, |offset| {
            bounds.push(offset);
            u32::try_from(bounds.len() - 1).ok()
        });
        Self { text, shape: Rc::new(shape.unwrap_or_default()), bounds }
    }

    /// The parts of the statement.
    pub(crate) fn parts(&self) -> Vec<Pair<'_>> {
        let end = self.shape.nodes.first().map_or(0, |root| root.next);
        Pairs { tree: self, at: 1, end }.collect()
    }

    /// The same nodes at the same places?
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let nodes = |tree: &Self| {
            let place = |node: &Node| (node.rule, tree.offset(node.start), tree.offset(node.end));
            tree.shape.nodes.iter().map(|node| (place(node), node.next)).collect::<Vec<_>>()
        };
        nodes(self) == nodes(other)
    }

    fn offset(&self, bound: u32) -> usize {
        self.bounds.get(bound as usize).copied().unwrap_or_default()
    }
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
        self.tree.shape.nodes[self.at as usize]
    }

    /// What it is.
    pub(crate) fn as_rule(&self) -> Rule {
        self.node().rule
    }

    /// Where it is in the statement's text.
    pub(crate) fn as_span(&self) -> Stretch {
        let node = self.node();
        Stretch { start: self.tree.offset(node.start), end: self.tree.offset(node.end) }
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
