//! Parts that few rules have: a null pointer where they have nothing to say.
//!
//! A ruleset may have hundreds of thousands of rules, and most say nothing about most things. A
//! [`Rare`] reads as its contents, and takes room for them only once they are written to. Copies
//! share it until one of them is written to: a list that expands to many rules says the rest once.

use core::fmt;
use core::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a [`Rare`] reads as when it has nothing.
pub trait Usual: Default + PartialEq + 'static {
    /// The default, for borrowing.
    fn usual() -> &'static Self;
}

/// A value that is mostly the usual one.
///
/// ```
/// use pfapi::ruleset::{Action, Rule};
///
/// let mut rule = Rule::new(Action::Pass);
/// assert!(rule.state_options.is_usual());
/// rule.state_options.max = Some(10);
/// assert_eq!(rule.state_options.max, Some(10));
/// ```
#[derive(Clone)]
pub struct Rare<T>(Option<Arc<T>>);

impl<T> Rare<T> {
    /// The usual value.
    #[must_use]
    pub const fn usual() -> Self {
        Self(None)
    }
}

impl<T: Usual> Rare<T> {
    /// Whether this is the usual value.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        self.0.as_ref().is_none_or(|value| **value == *T::usual())
    }
}

impl<T: Usual> Rare<T> {
    /// Takes the contents of `other` where they are equal, so that they are there once.
    pub fn join(&mut self, other: &Self) {
        if self == other {
            self.0.clone_from(&other.0);
        }
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Usual> From<T> for Rare<T> {
    fn from(value: T) -> Self {
        Self((value != *T::usual()).then(|| Arc::new(value)))
    }
}

impl<T: Usual> Deref for Rare<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::usual())
    }
}

impl<T: Usual + Clone> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl<T: Usual> PartialEq for Rare<T> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) if Arc::ptr_eq(one, other) => true,
            _ => **self == **other,
        }
    }
}

impl<T: Usual + Eq> Eq for Rare<T> {}

impl<T: Usual + fmt::Debug> fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Usual + Serialize> Serialize for Rare<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, T: Usual + Deserialize<'de>> Deserialize<'de> for Rare<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use crate::ruleset::StateOptions;

    use super::*;

    #[test]
    fn nothing_is_kept_of_the_usual_value() {
        let mut options = Rare::<StateOptions>::default();
        assert_eq!(options.max, None);
        assert!(options.is_usual() && options.0.is_none());
        options.max = Some(3);
        assert!(!options.is_usual());
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<Rare<StateOptions>>(&text).unwrap(), options);
        options.max = None;
        assert!(options.is_usual());
        assert_eq!(options, Rare::default());
        assert!(Rare::from(StateOptions::default()).0.is_none());
    }

    #[test]
    fn copies_share_what_they_have_until_one_is_written_to() {
        let options = Rare::from(StateOptions { max: Some(3), ..StateOptions::default() });
        let mut copy = options.clone();
        assert!(core::ptr::eq(&raw const *copy, &raw const *options));
        copy.max = Some(4);
        assert_eq!((options.max, copy.max), (Some(3), Some(4)));
    }
}
