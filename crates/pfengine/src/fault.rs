//! Mistakes that tests plant into the engine on purpose, to see whether they notice.
//!
//! Without the feature `planted-faults` no fault can be planted and the questions vanish from the
//! code. With it, one thread at a time may plant one fault for itself.

/// A mistake that the engine can be made to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Data beyond the announced window passes.
    WindowHasNoEnd,
    /// Data from long ago passes.
    WindowHasNoStart,
    /// Any acknowledgement number passes.
    AnyAcknowledgement,
    /// A RST anywhere in the window ends a connection.
    AnyReset,
    /// A connection that has opened stays in the gauge of half-open ones.
    HalfOpenStays,
    /// Expired states are never collected.
    NothingExpires,
    /// Sequence numbers are translated, acknowledgements are not.
    AcknowledgementUntranslated,
    /// Translated packets keep their old checksum.
    ChecksumStays,
    /// A blocked packet passes now and then.
    BlockLeaks,
    /// The first rule that matches decides.
    FirstMatchDecides,
    /// Rules do not look at destination ports.
    PortsIgnored,
    /// Every table matches every address.
    TablesMatchAll,
    /// States that end are not counted.
    RemovalsUncounted,
    /// States that begin are not counted.
    InsertsUncounted,
    /// Dropped packets are not counted.
    DropsUncounted,
    /// More states than the limit allows.
    LimitIgnored,
    /// Any acknowledgement is taken for a cookie.
    AnyCookie,
    /// Killed states live on.
    KillSpares,
    /// A load ends all states.
    LoadFlushes,
    /// The wrong end of a state is taken for the sender.
    EndsSwapped,
    /// Windows are not scaled.
    ScaleIgnored,
    /// Cookies that come back are not counted for their destination.
    ReturnedUncounted,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 22] = [
        Self::WindowHasNoEnd,
        Self::WindowHasNoStart,
        Self::AnyAcknowledgement,
        Self::AnyReset,
        Self::HalfOpenStays,
        Self::NothingExpires,
        Self::AcknowledgementUntranslated,
        Self::ChecksumStays,
        Self::BlockLeaks,
        Self::FirstMatchDecides,
        Self::PortsIgnored,
        Self::TablesMatchAll,
        Self::RemovalsUncounted,
        Self::InsertsUncounted,
        Self::DropsUncounted,
        Self::LimitIgnored,
        Self::AnyCookie,
        Self::KillSpares,
        Self::LoadFlushes,
        Self::EndsSwapped,
        Self::ScaleIgnored,
        Self::ReturnedUncounted,
    ];
}

#[cfg(feature = "planted-faults")]
mod planted {
    use core::cell::Cell;

    use super::Fault;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Plants a fault into every engine of this thread, in place of the one before.
    pub fn plant(fault: Option<Fault>) {
        PLANTED.set(fault);
    }

    pub(crate) fn is(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }
}

#[cfg(feature = "planted-faults")]
pub(crate) use planted::is;
#[cfg(feature = "planted-faults")]
pub use planted::plant;

/// Whether this fault is planted: never, in a build for use.
#[cfg(not(feature = "planted-faults"))]
pub(crate) const fn is(_fault: Fault) -> bool {
    false
}
