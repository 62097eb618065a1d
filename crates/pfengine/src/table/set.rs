//! All tables: each belongs to a ruleset, the main one or an anchor.

use std::collections::BTreeMap;
use std::sync::Arc;

use pfapi::anchor::around;

use super::Table;

/// Tables by the path of their ruleset and by name; the main ruleset has the empty path.
#[derive(Clone, Debug, Default)]
pub struct Tables(BTreeMap<String, BTreeMap<String, Arc<Table>>>);

impl Tables {
    /// The table of this ruleset itself.
    pub fn get(&self, path: &str, name: &str) -> Option<&Arc<Table>> {
        self.0.get(path)?.get(name)
    }

    /// The table that a rule in the ruleset `path` means, and the path that has it: its own, else
    /// that of the nearest ruleset around it. OpenBSD asks the main ruleset alone behind the own
    /// one (sys/net/pf_table.c `pfr_attach_table`), so that a body without a name does not see the
    /// tables of the anchor that holds it.
    pub fn resolve<'a>(&self, path: &'a str, name: &str) -> Option<(&'a str, &Arc<Table>)> {
        around(path).find_map(|path| Some((path, self.get(path, name)?)))
    }

    /// Puts a table in its place.
    pub fn insert(&mut self, path: &str, name: &str, table: Arc<Table>) {
        self.0.entry(path.to_owned()).or_default().insert(name.to_owned(), table);
    }

    /// Keeps the tables for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Arc<Table>) -> bool) {
        self.0.retain(|path, tables| {
            tables.retain(|_, table| keep(path, table));
            !tables.is_empty()
        });
    }

    /// All tables with their paths, by path and name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<Table>)> {
        let tables = |(path, tables)| (path, tables);
        self.0.iter().map(tables).flat_map(|(path, tables): (&String, &BTreeMap<_, _>)| {
            tables.values().map(move |table| (path.as_str(), table))
        })
    }

    /// Rulesets that have tables.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How many tables there are.
    pub fn count(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Entries of all tables together.
    pub fn entries(&self) -> usize {
        self.iter().map(|(_, table)| table.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pfapi::units::Uptime;

    #[test]
    fn the_nearest_table_of_a_name_is_meant() {
        let mut tables = Tables::default();
        for path in ["", "a", "x"] {
            tables.insert(path, "t", Arc::new(Table::created("t", Uptime::ZERO)));
        }
        for (path, found) in [("", ""), ("a", "a"), ("a/_1", "a"), ("b/c", ""), ("x", "x")] {
            assert_eq!(tables.resolve(path, "t").map(|(path, _)| path), Some(found), "{path}");
        }
        assert!(tables.resolve("a", "u").is_none());
        assert_eq!(tables.count(), 3);
        tables.retain(|path, _| path != "a");
        assert_eq!(tables.resolve("a/_1", "t").map(|(path, _)| path), Some(""));
        assert_eq!(tables.paths().collect::<Vec<_>>(), ["", "x"]);
    }
}
