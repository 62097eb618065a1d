//! Tables as `pfctl -T` sees them.

use core::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pfapi::control::{AddressReport, TableReport};
use pfapi::limit::Limit;
use pfapi::ruleset::TableEntry;
use pfapi::units::Uptime;

use super::{Control, Engine, Snapshot, TableError, check_anchors};
use crate::rules::{LoadedRules, Parts, settle_anchors, settle_tables};
use crate::table::Table;

/// Path of a ruleset and name of a table in it.
pub type TableName<'a> = (&'a str, &'a str);

impl Engine {
    /// All tables by path and name.
    #[must_use]
    pub fn tables(&self, now: Uptime) -> Vec<TableReport> {
        self.post_to_tables();
        let snapshot = self.snapshot.load();
        let rules = &snapshot.rules;
        let references = rules.references();
        let defined = rules.tables.iter().filter(|(_, table)| table.is_defined());
        defined
            .map(|(path, table)| {
                let rules = references.get(&(path, table.name())).copied();
                table.report(path, rules.unwrap_or_default(), now)
            })
            .collect()
    }

    fn table(&self, (path, name): TableName<'_>) -> Result<Arc<Table>, TableError> {
        let snapshot = self.snapshot.load();
        let table = snapshot.rules.tables.get(path, name).filter(|table| table.is_defined());
        table.cloned().ok_or(TableError::NotFound)
    }

    /// Lets tables count what states have counted since they were last asked.
    fn post_to_tables(&self) {
        for slot in 0..self.store.slots() {
            if let Some(mut state) = self.store.lock(slot) {
                state.post_to_tables();
            }
        }
    }

    /// Entries of a table in address order.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_entries(&self, table: TableName<'_>) -> Result<Vec<TableEntry>, TableError> {
        Ok(self.table(table)?.entries())
    }

    /// Entries of a table in address order, with their counters.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_statistics(
        &self,
        table: TableName<'_>,
        now: Uptime,
    ) -> Result<Vec<AddressReport>, TableError> {
        let table = self.table(table)?;
        self.post_to_tables();
        Ok(table.statistics(now))
    }

    /// Zeroes the counters of these entries, or without any those of the table and of all its
    /// entries; gives the entries that are there.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_zero(
        &self,
        table: TableName<'_>,
        entries: &[TableEntry],
        now: Uptime,
    ) -> Result<Vec<TableEntry>, TableError> {
        let table = self.table(table)?;
        // What came before must not come up again.
        self.post_to_tables();
        Ok(table.zero(entries, now))
    }

    /// Deletes entries that were added, or whose counters were zeroed, more than so many seconds
    /// ago; gives them.
    ///
    /// # Errors
    /// [`TableError::NotFound`], [`TableError::Constant`].
    pub fn table_expire(
        &self,
        table: TableName<'_>,
        age_s: u64,
        now: Uptime,
    ) -> Result<Vec<TableEntry>, TableError> {
        let _control = self.control();
        let table = self.table(table)?;
        if table.is_constant() {
            return Err(TableError::Constant);
        }
        Ok(table.expire(age_s, now))
    }

    /// Adds entries, making the table when it is missing, and its anchor with it. Gives the
    /// entries that were new, and whether the table was made.
    ///
    /// # Errors
    /// [`TableError::Constant`], [`TableError::Limit`]; nothing changes then.
    pub fn table_add(
        &self,
        (path, name): TableName<'_>,
        entries: &[TableEntry],
        now: Uptime,
    ) -> Result<(Vec<TableEntry>, bool), TableError> {
        let mut control = self.control();
        let snapshot = self.snapshot.load_full();
        let limits = &snapshot.limits;
        let tables = &snapshot.rules.tables;
        let fits = |count: usize, limit| count as u64 <= u64::from(limits.get(limit));
        let held =
            usize::try_from(self.table_entries.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        if !fits(held.saturating_add(entries.len()), Limit::TableEntries) {
            return Err(TableError::Limit);
        }
        if let Some(table) = tables.get(path, name) {
            if table.is_constant() {
                return Err(TableError::Constant);
            }
            let created = !table.is_defined();
            if created {
                table.define(now);
            }
            return Ok((table.add(entries, now), created));
        }
        if !fits(tables.count() + 1, Limit::Tables) {
            return Err(TableError::Limit);
        }
        let table = Arc::new(Table::created(name, now));
        let added = table.add(entries, now);
        if path.is_empty() {
            // No rule can name it: it would be there.
            let mut tables = tables.clone();
            tables.insert(path, name, table);
            let rules = snapshot.rules.with_tables(tables);
            self.change(&control, |old| Snapshot { rules, ..old.share() });
            return Ok((added, true));
        }
        // Rules of the anchor may have used a table of a ruleset around it until now.
        let mut parts = snapshot.rules.parts();
        parts.tables.insert(path, name, table);
        settle_anchors(&mut parts.rulesets, &parts.tables);
        check_anchors(&parts.rulesets, limits.get(Limit::Anchors))
            .map_err(|_| TableError::Limit)?;
        self.replace_parts(&mut control, parts);
        Ok((added, true))
    }

    /// Puts other tables and anchors in force.
    fn replace_parts(&self, control: &mut Control, parts: Parts) {
        control.epoch += 1;
        let facts = Arc::clone(&self.snapshot.load().facts);
        let rules = LoadedRules::new(parts, &facts, control.epoch);
        self.change(control, |old| Snapshot { rules, ..old.share() });
    }

    /// Puts the address of an offender into the overload table of a rule in the ruleset `path`;
    /// whether it was added.
    pub(crate) fn add_offender(
        &self,
        path: &str,
        name: &str,
        entry: TableEntry,
        now: Uptime,
    ) -> bool {
        let snapshot = self.snapshot.load();
        let tables = &snapshot.rules.tables;
        let Some((_, table)) = tables.resolve(path, name) else { return false };
        // A place for the entry, until the table itself has counted it.
        let limit = u64::from(snapshot.limits.get(Limit::TableEntries));
        let room = |count| (count < limit).then_some(count + 1);
        let total = &self.table_entries;
        if total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return false;
        }
        if !table.is_defined() {
            table.define(now);
        }
        let is_new = !table.add(&[entry], now).is_empty();
        total.fetch_sub(1, Ordering::Relaxed);
        is_new
    }

    /// Deletes entries; gives those that were there.
    ///
    /// # Errors
    /// [`TableError::NotFound`], [`TableError::Constant`].
    pub fn table_delete(
        &self,
        table: TableName<'_>,
        entries: &[TableEntry],
    ) -> Result<Vec<TableEntry>, TableError> {
        let _control = self.control();
        let table = self.table(table)?;
        if table.is_constant() {
            return Err(TableError::Constant);
        }
        Ok(table.delete(entries))
    }

    /// Deletes a table. Rules that name it go on without one, or with that of a ruleset around
    /// theirs.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_kill(&self, (path, name): TableName<'_>) -> Result<(), TableError> {
        self.table((path, name))?;
        self.drop_tables(|there, table| there == path && table == name);
        Ok(())
    }

    /// Deletes the tables for which `which` says so, by path and name; gives how many.
    pub(super) fn drop_tables(&self, which: impl Fn(&str, &str) -> bool) -> u64 {
        let mut control = self.control();
        let mut parts = self.snapshot.load().rules.parts();
        let mut count = 0;
        parts.tables.retain(|path, table| {
            let gone = which(path, table.name());
            count += u64::from(gone && table.is_defined());
            !gone
        });
        settle_tables(&mut parts.tables, &parts.rulesets, &parts.limiters);
        settle_anchors(&mut parts.rulesets, &parts.tables);
        self.replace_parts(&mut control, parts);
        count
    }

    /// Longest match of each address, negated entries included.
    ///
    /// # Errors
    /// [`TableError::NotFound`].
    pub fn table_test(
        &self,
        table: TableName<'_>,
        addrs: &[IpAddr],
    ) -> Result<Vec<Option<TableEntry>>, TableError> {
        let table = self.table(table)?;
        Ok(addrs.iter().map(|&addr| table.test(addr)).collect())
    }
}
