//! Parts that several rules have in common: one pointer in each of them.
//!
//! A list expands to rules that say the same about most things, and a rule is to be small: a
//! ruleset may have hundreds of thousands. A [`Shared`] reads as its contents, copies of it share
//! them, and the first write to a copy gives it contents of its own.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that copies of its owner share.
///
/// ```
/// use pfapi::shared::Shared;
///
/// let name: Shared<String> = "web".into();
/// let mut other = name.clone();
/// other.push_str("_in");
/// assert_eq!((name.as_str(), other.as_str()), ("web", "web_in"));
/// ```
#[derive(Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shared<T>(Arc<T>);

impl<T: PartialEq> Shared<T> {
    /// Takes the contents of `other` where they are equal, so that they are there once.
    pub fn join(&mut self, other: &Self) {
        if self == other {
            self.0 = Arc::clone(&other.0);
        }
    }
}

impl<T: Clone> Shared<T> {
    /// The contents, for an owner that shares them with nobody.
    #[must_use]
    pub fn into_inner(self) -> T {
        Arc::unwrap_or_clone(self.0)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Shared<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl From<&str> for Shared<String> {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_same(one: &Shared<String>, other: &Shared<String>) -> bool {
        core::ptr::eq(&raw const **one, &raw const **other)
    }

    #[test]
    fn copies_share_until_one_is_written_to() {
        let one = Shared::<String>::from("em0");
        let mut copy = one.clone();
        assert!(is_same(&one, &copy));
        copy.push('1');
        assert_eq!((one.as_str(), copy.as_str()), ("em0", "em01"));
    }

    #[test]
    fn equal_contents_are_joined_and_others_left_alone() {
        let one = Shared::<String>::from("em0");
        let [mut same, mut other] = ["em0", "em1"].map(Shared::<String>::from);
        same.join(&one);
        other.join(&one);
        assert!(is_same(&same, &one));
        assert_eq!(other.as_str(), "em1");
    }

    #[test]
    fn the_wire_sees_the_contents() {
        let pair: Shared<(i32, i32)> = (1, 2).into();
        let text = serde_json::to_string(&pair).unwrap();
        assert_eq!(text, "[1,2]");
        assert_eq!(serde_json::from_str::<Shared<(i32, i32)>>(&text).unwrap(), pair);
    }
}
