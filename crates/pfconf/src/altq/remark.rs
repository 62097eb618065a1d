//! Where ALTQ's words mean less here than on FreeBSD.
//!
//! The router has one scheduler for all of them (`pfengine::queue`); what that cannot do is told
//! when the file is read, and the file is loaded. Source: FreeBSD pf.conf(5) "QUEUEING".

use pfapi::ruleset::{ALTQ_PRIORITY_DEFAULT, QueueFlag, Scheduler};

use super::given::{AltqSpec, Given, QueueSpec};

/// What an `altq` line asks for in vain.
pub(crate) fn of_interface(spec: &AltqSpec) -> Vec<String> {
    let mut remarks = Vec::new();
    if spec.scheduler == Scheduler::Fairq {
        remarks.push(
            "altq fairq: its queues share by bandwidth, each with fair flows; priority and hogs \
             are not used"
                .to_owned(),
        );
    }
    remarks.extend(dropping("altq", spec.scheduler, &spec.given));
    remarks
}

/// What a `queue` line below this scheduler asks for in vain.
pub(crate) fn of_queue(spec: &QueueSpec, scheduler: Scheduler) -> Vec<String> {
    let mut remarks = Vec::new();
    let name = &spec.name;
    if scheduler == Scheduler::Cbq && spec.given.priority != ALTQ_PRIORITY_DEFAULT {
        remarks.push(format!("queue {name}: cbq shares by bandwidth; priority is not used"));
    }
    remarks.extend(dropping(&format!("queue {name}:"), scheduler, &spec.given));
    remarks
}

/// Ways of dropping that are not there.
fn dropping(what: &str, scheduler: Scheduler, given: &Given) -> Option<String> {
    let flags = &given.options.flags;
    let missing = [QueueFlag::Red, QueueFlag::Ecn, QueueFlag::Rio];
    let words: Vec<&str> =
        missing.iter().filter(|flag| flags.contains(flag)).map(|flag| flag.word()).collect();
    let how = if scheduler == Scheduler::Codel || flags.contains(&QueueFlag::Codel) {
        "packets that waited too long are dropped, not marked"
    } else {
        "packets beyond qlimit are dropped"
    };
    let word = scheduler.word();
    (!words.is_empty()).then(|| format!("{what} {word}({}) is not used: {how}", words.join(" ")))
}
