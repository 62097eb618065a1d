//! Tables as `pfctl -T` sees them.

use core::net::IpAddr;
use std::sync::Arc;

use pfapi::control::TableReport;
use pfapi::limit::Limit;
use pfapi::ruleset::TableEntry;
use pfapi::units::Uptime;

use super::{Engine, Snapshot, TableError};
use crate::table::Table;

impl Engine {
    /// All tables by name.
    #[must_use]
    pub fn tables(&self, now: Uptime) -> Vec<TableReport> {
        let snapshot = self.snapshot.load();
        let rules = &snapshot.rules;
        rules
            .tables
            .iter()
            .filter(|(_, table)| table.is_defined())
            .map(|(name, table)| table.report(rules.references(name), now))
            .collect()
    }

    fn table(&self, name: &str) -> Result<Arc<Table>, TableError> {
        let snapshot = self.snapshot.load();
        let table = snapshot.rules.tables.get(name).filter(|table| table.is_defined());
        table.cloned().ok_or(TableError::NotFound)
    }

    /// Entries of a table in address order.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_entries(&self, table: &str) -> Result<Vec<TableEntry>, TableError> {
        Ok(self.table(table)?.entries())
    }

    /// Adds entries, making the table when it is missing. Gives the entries that were new, and
    /// whether the table was made.
    ///
    /// # Errors
    /// [`TableError::Constant`], [`TableError::Limit`]; nothing changes then.
    pub fn table_add(
        &self,
        name: &str,
        entries: &[TableEntry],
        now: Uptime,
    ) -> Result<(Vec<TableEntry>, bool), TableError> {
        let control = self.control();
        let snapshot = self.snapshot.load_full();
        let limits = &snapshot.limits;
        let tables = &snapshot.rules.tables;
        let held: usize = tables.values().map(|table| table.len()).sum();
        let fits = |count: usize, limit| count as u64 <= u64::from(limits.get(limit));
        if !fits(held + entries.len(), Limit::TableEntries) {
            return Err(TableError::Limit);
        }
        if let Some(table) = tables.get(name) {
            if table.is_constant() {
                return Err(TableError::Constant);
            }
            let created = !table.is_defined();
            if created {
                table.define(now);
            }
            return Ok((table.add(entries), created));
        }
        if !fits(tables.len() + 1, Limit::Tables) {
            return Err(TableError::Limit);
        }
        let table = Arc::new(Table::created(name, now));
        let added = table.add(entries);
        let mut tables = tables.clone();
        tables.insert(name.to_owned(), table);
        self.change(&control, |old| Snapshot {
            rules: old.rules.with_tables(tables),
            ..old.share()
        });
        Ok((added, true))
    }

    /// Puts the address of an offender into the overload table of a rule in the ruleset `path`;
    /// whether it was added.
    pub(crate) fn add_offender(
        &self,
        _path: &str,
        name: &str,
        entry: TableEntry,
        now: Uptime,
    ) -> bool {
        let snapshot = self.snapshot.load();
        let tables = &snapshot.rules.tables;
        let Some(table) = tables.get(name) else { return false };
        let held: usize = tables.values().map(|table| table.len()).sum();
        if held as u64 >= u64::from(snapshot.limits.get(Limit::TableEntries)) {
            return false;
        }
        if !table.is_defined() {
            table.define(now);
        }
        !table.add(&[entry]).is_empty()
    }

    /// Deletes entries; gives those that were there.
    ///
    /// # Errors
    /// [`TableError::NotFound`], [`TableError::Constant`].
    pub fn table_delete(
        &self,
        name: &str,
        entries: &[TableEntry],
    ) -> Result<Vec<TableEntry>, TableError> {
        let _control = self.control();
        let table = self.table(name)?;
        if table.is_constant() {
            return Err(TableError::Constant);
        }
        Ok(table.delete(entries))
    }

    /// Longest match of each address, negated entries included.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_test(
        &self,
        name: &str,
        addrs: &[IpAddr],
    ) -> Result<Vec<Option<TableEntry>>, TableError> {
        let table = self.table(name)?;
        Ok(addrs.iter().map(|&addr| table.test(addr)).collect())
    }
}
