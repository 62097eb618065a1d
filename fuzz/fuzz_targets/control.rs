//! Any lines on the control socket: what is a load by its form is checked, and what passes the
//! checks is put in force and meets packets.
#![no_main]

#[path = "../../crates/pfengine/tests/common/mod.rs"]
mod common;

use common::{Rig, Tcp, V4, V6};
use libfuzzer_sys::fuzz_target;
use pfapi::check::check;
use pfapi::control::Request;
use pfapi::ruleset::{Draft, Options};
use pfapi::units::{Direction, IfIndex};
use pfengine::Loader;
use pfengine::queue::{Charge, Egress, Leaving};

fuzz_target!(|input: &[u8]| {
    let mut draft: Draft<()> = Draft::default();
    for line in input.split(|&octet| octet == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Request::AddOptions { options, .. }) => draft.options = *options,
            Ok(Request::AddTables { tables, .. }) => {
                draft.tables.extend(tables.into_iter().map(|table| ((), table)));
            }
            Ok(Request::AddRules { rules, .. }) => {
                draft.rules.extend(rules);
            }
            Ok(Request::AddQueues { queues, altq, .. }) => {
                draft.queues.extend(queues);
                draft.altq.extend(altq);
            }
            _ => {}
        }
    }
    // The index grows with the limit; a large one is the operator's wish, not a fault.
    draft.options.limits = pfapi::limit::Limits::default();
    let Ok(ruleset) = check(draft) else { return };
    let mut rig = Rig::new(Options::default(), Vec::new());
    if rig.engine.load(&ruleset, Loader::default(), rig.now).is_err() {
        return;
    }
    for ends in [V4, V6] {
        let syn = Tcp::with_all().packet(ends);
        rig.send(Direction::In, &syn);
        rig.send(Direction::Out, &syn);
    }
    rig.engine.check_invariants().unwrap();
    let mut egress = Egress::new(rig.engine.worker().queues());
    for item in 0..64_u16 {
        let packet = Leaving {
            interface: IfIndex(item % 2),
            queue: None,
            prio: 3,
            delay_ms: item % 3,
            flow: u32::from(item),
            charge: Charge::one(1500),
            item,
        };
        egress.send(rig.now, packet);
        while egress.next(rig.now).is_some() {}
    }
});
