//! All states: slots in a slab, found by an index.
//!
//! A state has one entry in the index for each of its keys, made and removed as one step.
//!
//! Lock order: index groups in the order of their numbers, then one slot; never two slots. A state is put into its slot before its index entry is
//! made, and its entry is removed before the slot is free again; a reader that comes between
//! finds a slot that is empty or has another key, and goes on.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use pfapi::units::{Direction, IfIndex};

use super::entry::{HalfOpenGauges, State};
use super::index::{Index, IndexWriter};
use super::key::{HashSecret, Hashed, Key, Side};
use crate::fault::{self, Fault};
use crate::packet::StateRef;
use crate::syncookie::Backlog;

/// Slots that are allocated together; small, so that growing never takes long.
const CHUNK: usize = 512;
/// States for which [`Store::prepare`] makes room at most: 16 MiB.
const PREPARED_MAX: u32 = 1 << 16;
/// Chunks behind one entry of the directory.
const DIRECTORY: usize = 4096;
/// Most slots: far above any limit that fits into memory.
const SLOTS_MAX: usize = CHUNK * DIRECTORY * DIRECTORY;

/// Begins a cache line; the order in a state counts on it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot(Mutex<Option<State>>);

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Chunk = Box<[Slot]>;
/// Chunks are made when their first slot is used.
type Chunks = Box<[OnceLock<Chunk>]>;

/// A locked slot that holds a state.
pub struct Held<'a> {
    guard: MutexGuard<'a, Option<State>>,
    /// Where it is.
    pub slot: u32,
}

impl core::ops::Deref for Held<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.guard.as_ref().expect("a held slot has a state")
    }
}

impl core::ops::DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.guard.as_mut().expect("a held slot has a state")
    }
}

impl Held<'_> {
    /// How others refer to this state.
    pub fn reference(&self) -> StateRef {
        StateRef::new(self.slot, self.id)
    }
}

/// Why a state could not be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// `set limit states` is reached.
    Limit,
    /// Another state has one of the keys.
    Collision,
}

/// All states.
#[derive(Debug)]
pub struct Store {
    index: RwLock<Index>,
    indexed_limit: AtomicU32,
    directory: Box<[OnceLock<Chunks>]>,
    free: Mutex<FreeSlots>,
    secret: HashSecret,
    limit: AtomicU32,
    count: AtomicU64,
    /// How many of the states are bound to an interface.
    bound: AtomicU64,
    next_id: AtomicU64,
    /// Half-open connections of the states in this store.
    pub half_open: HalfOpenGauges,
}

#[derive(Debug, Default)]
struct FreeSlots {
    /// Slots that were used and are free again.
    used: Vec<u32>,
    /// Slots from here on were never used.
    next: u32,
}

impl Store {
    /// An empty store for up to `limit` states. Ids count up from `first_id`.
    pub fn new(limit: u32, secret: HashSecret, first_id: u64) -> Self {
        // Another key for other hashes; neither is ever seen.
        let mut backlog_secret = secret.0;
        backlog_secret.reverse();
        Self {
            index: RwLock::new(Index::new(index_size(limit))),
            indexed_limit: AtomicU32::new(limit),
            directory: (0..DIRECTORY).map(|_| OnceLock::new()).collect(),
            free: Mutex::default(),
            secret,
            limit: AtomicU32::new(limit),
            count: AtomicU64::new(0),
            bound: AtomicU64::new(0),
            next_id: AtomicU64::new(first_id),
            half_open: HalfOpenGauges {
                backlog: Backlog::new(backlog_secret),
                ..Default::default()
            },
        }
    }

    /// States now.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Changes the limit. A larger index is built when the present one is too small; packets
    /// wait meanwhile, so this happens at a load that raises the limit, never on the way of a
    /// packet.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
        if index_size(limit) <= index_size(self.indexed_limit.load(Ordering::Relaxed)) {
            return;
        }
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let grown = Index::new(index_size(limit));
        for slot in 0..self.slots() {
            if let Some(state) = self.lock(slot) {
                let hashes = self.hashes(&state);
                let inserted = enter(&grown.claim(hashes), state.is_translated(), hashes, slot);
                debug_assert!(inserted, "the larger index holds what the smaller held");
            }
        }
        *index = grown;
        self.indexed_limit.store(limit, Ordering::Relaxed);
    }

    /// Hash of a key in this store.
    pub fn hash(&self, key: &Key) -> u64 {
        self.secret.hash(key)
    }

    /// Hashes of the keys of a state: wire, stack. They are not kept in it, since only its
    /// beginning and its end need them.
    fn hashes(&self, state: &State) -> [u64; 2] {
        let wire = self.hash(state.key(Side::Wire));
        [wire, if state.is_translated() { self.hash(state.key(Side::Stack)) } else { wire }]
    }

    /// The right to look states up. Hold it for one batch, never over I/O, and never take a
    /// second one meanwhile.
    pub fn open(&self) -> View<'_> {
        View { index: self.index.read().unwrap_or_else(PoisonError::into_inner), store: self }
    }

    /// Slots that were ever used: the end of a sweep.
    pub fn slots(&self) -> u32 {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).next
    }

    /// Locks a slot; `None` when it holds no state.
    pub fn lock(&self, slot: u32) -> Option<Held<'_>> {
        let guard = self.slot(slot)?.lock();
        guard.is_some().then_some(Held { guard, slot })
    }

    /// Locks the state that `reference` means; `None` when it has ended.
    pub fn follow(&self, reference: StateRef) -> Option<Held<'_>> {
        self.lock(reference.slot()).filter(|held| held.id == reference.id())
    }

    fn slot(&self, slot: u32) -> Option<&Slot> {
        let chunk = slot as usize / CHUNK;
        let chunks = self.directory.get(chunk / DIRECTORY)?.get()?;
        Some(&chunks[chunk % DIRECTORY].get()?[slot as usize % CHUNK])
    }

    /// A slot that is free; `None` at the limit.
    fn allocate(&self) -> Option<u32> {
        let limit = u64::from(self.limit.load(Ordering::Relaxed)).min(SLOTS_MAX as u64);
        let reserved = self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < limit || fault::is(Fault::LimitIgnored)).then_some(count + 1)
        });
        reserved.ok()?;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = free.used.pop() {
            return Some(slot);
        }
        let slot = free.next;
        self.make_chunk(slot as usize / CHUNK);
        free.next += 1;
        Some(slot)
    }

    fn make_chunk(&self, chunk: usize) {
        let chunks = self.directory[chunk / DIRECTORY]
            .get_or_init(|| (0..DIRECTORY).map(|_| OnceLock::new()).collect());
        chunks[chunk % DIRECTORY].get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect());
    }

    /// Makes room for the first `states`, at most [`PREPARED_MAX`]: whoever knows that they will come
    /// at once has the memory then, not in the middle of it.
    pub fn prepare(&self, states: u32) {
        let limit = self.limit.load(Ordering::Relaxed);
        let states = states.min(limit).min(PREPARED_MAX);
        (0..(states as usize).div_ceil(CHUNK)).for_each(|chunk| self.make_chunk(chunk));
    }

    fn release(&self, slot: u32) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).used.push(slot);
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Keys for which an index is built: two for each state, since all may be translated. Without
/// translation the index is half full at the limit.
///
/// The index of [`INDEXED_MAX`] states takes 256 MB; beyond that many a larger one would only take
/// memory ahead, as it has room for more than three times as many without translation.
fn index_size(limit: u32) -> usize {
    2 * limit.clamp(1_024, INDEXED_MAX) as usize
}

/// States for which an index is made ready: the slots of as many take 2 GB.
const INDEXED_MAX: u32 = 8 << 20;

/// The right to look states up in a [`Store`].
pub struct View<'a> {
    index: RwLockReadGuard<'a, Index>,
    /// The store itself.
    pub store: &'a Store,
}

impl<'a> View<'a> {
    /// Brings the index lines of `hash` near; see [`Index::touch`].
    pub fn touch(&self, hash: u64) -> u64 {
        self.index.touch(hash)
    }

    /// Finds and locks the state that a packet with this key meets when it crosses `interface` in
    /// `direction`. States bound to that interface come before floating ones.
    pub fn find(
        &self,
        (key, hash): &Hashed,
        direction: Direction,
        interface: IfIndex,
    ) -> Option<Held<'a>> {
        let store = self.store;
        let search = |bound: bool| {
            self.index.find(*hash, |slot| {
                store.lock(slot).filter(|held| {
                    let there = match held.interface {
                        Some(only) => only == interface,
                        None => !bound,
                    };
                    there && !held.purge && held.meets(direction, key)
                })
            })
        };
        let bound = (store.bound.load(Ordering::Relaxed) != 0).then(|| search(true)).flatten();
        bound.or_else(|| search(false))
    }

    /// Whether a living state has this key on this side.
    pub fn is_taken(&self, key: &Key, side: Side) -> bool {
        let found = self.index.find(self.store.hash(key), |slot| {
            let held = self.store.lock(slot)?;
            (!held.purge && held.key(side) == key).then_some(())
        });
        found.is_some()
    }

    /// Inserts a state, taking over the keys of those that are closed on both sides.
    ///
    /// Two states may share a key when their directions or the interfaces that they are bound to
    /// differ. Source: OpenBSD sys/net/pf.c `pf_state_key_attach`.
    ///
    /// # Errors
    /// At the limit, and when a living state has one of the keys. `hashes` are those of the wire
    /// key and the stack key. `closed` says whether a state
    /// that has a key may be replaced; `ended` gets each one that was replaced.
    pub fn insert(
        &self,
        mut state: State,
        hashes: [u64; 2],
        closed: impl Fn(&State) -> bool,
        mut ended: impl FnMut(State),
    ) -> Result<StateRef, InsertError> {
        debug_assert_eq!(hashes, self.store.hashes(&state));
        let writer = self.index.claim(hashes);
        let [first, second] = hashes;
        let both = [Some(first), state.is_translated().then_some(second)];
        for hash in both.into_iter().flatten() {
            while let Some((other, old)) = self.holder(hash, &state, &closed) {
                self.let_go(other, old.ok_or(InsertError::Collision)?, &mut ended);
            }
        }
        let slot = self.store.allocate().ok_or(InsertError::Limit)?;
        let id = self.store.next_id.fetch_add(1, Ordering::Relaxed);
        state.id = id;
        state.update_half_open(&self.store.half_open);
        state.begin();
        let bound = u64::from(state.interface.is_some());
        let place = self.store.slot(slot).expect("an allocated slot exists");
        let translated = state.is_translated();
        self.store.bound.fetch_add(bound, Ordering::Relaxed);
        *place.lock() = Some(state);
        if enter(&writer, translated, hashes, slot) {
            return Ok(StateRef::new(slot, id));
        }
        // Every bucket is full, which the size of the index rules out up to `INDEXED_MAX` states.
        if let Some(mut state) = self.store.lock(slot).and_then(|mut held| held.guard.take()) {
            state.leave_half_open(&self.store.half_open);
            state.retire();
        }
        self.store.bound.fetch_sub(bound, Ordering::Relaxed);
        self.store.release(slot);
        Err(InsertError::Limit)
    }

    /// The slot of a state that stands in the way of a new one, and the state itself when it may
    /// be replaced: it is taken out of its slot then.
    fn holder(
        &self,
        hash: u64,
        new: &State,
        closed: impl Fn(&State) -> bool,
    ) -> Option<(u32, Option<State>)> {
        self.index.find(hash, |other| {
            let mut held = self.store.lock(other).filter(|held| held.clashes_with(new))?;
            // Taken under the lock that was used for the question, so nobody else ends it too.
            let ends = held.purge || closed(&held);
            Some((other, ends.then(|| held.guard.take()).flatten()))
        })
    }

    /// Takes the traces of a state away that was taken out of its slot.
    fn let_go(&self, slot: u32, mut state: State, ended: &mut impl FnMut(State)) {
        state.leave_half_open(&self.store.half_open);
        let [wire, stack] = self.store.hashes(&state);
        let mut removed = self.index.remove(wire, slot);
        if state.is_translated() {
            removed &= self.index.remove(stack, slot);
        }
        debug_assert!(removed, "every state has its index entries");
        if state.interface.is_some() {
            self.store.bound.fetch_sub(1, Ordering::Relaxed);
        }
        self.store.release(slot);
        ended(state);
    }

    /// Removes the state in `slot` if `condition` holds for it, and gives it.
    pub fn remove_if(&self, slot: u32, condition: impl FnOnce(&State) -> bool) -> Option<State> {
        let mut held = self.store.lock(slot).filter(|held| condition(held))?;
        let state = held.guard.take()?;
        drop(held);
        let mut removed = None;
        self.let_go(slot, state, &mut |state| removed = Some(state));
        removed
    }
}

/// Makes the index entries of a state; false, and none made, when the index is full.
fn enter(writer: &IndexWriter<'_>, translated: bool, [wire, stack]: [u64; 2], slot: u32) -> bool {
    if !writer.insert(wire, slot) {
        return false;
    }
    if !translated || writer.insert(stack, slot) {
        return true;
    }
    writer.remove(wire, slot);
    false
}
