//! Whatever arrives: no panic, true gauges, answers that are packets, and the same outcome for
//! the same input.

mod common;

use common::session::{Edit, Op, Setup, decode, run};
use proptest::prelude::*;

fn edit() -> impl Strategy<Value = Edit> {
    // Headers are where the decisions are.
    let at = prop_oneof![4 => 0..80_u16, 1 => any::<u16>()];
    (0..6, at, any::<u8>()).prop_map(|(kind, at, value)| match kind {
        0 => Edit::Flip { at, bit: value },
        1 => Edit::Set { at, value },
        2 => Edit::Insert { at, value },
        3 => Edit::Delete { at },
        4 => Edit::Duplicate { at, len: value },
        _ => Edit::Cut { at },
    })
}

fn op() -> impl Strategy<Value = Op> {
    let edits = prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(edit(), 1..5)];
    let send = (any::<u8>(), any::<bool>(), edits, any::<bool>(), any::<u8>()).prop_map(
        |(template, outbound, edits, repair, offload)| Op::Send {
            template,
            outbound,
            edits,
            repair,
            offload,
        },
    );
    let raw = (prop::collection::vec(any::<u8>(), 0..200), any::<bool>(), 0..3_u8).prop_map(
        |(mut octets, outbound, version)| {
            if let (Some(first), 1..) = (octets.first_mut(), version) {
                *first = if version == 1 { 0x45 } else { 0x60 };
            }
            Op::Raw { octets, outbound }
        },
    );
    prop_oneof![
        12 => send,
        2 => raw,
        2 => Just(Op::ReturnCookie),
        2 => any::<bool>().prop_map(|refuse| Op::Accept { refuse }),
        2 => Just(Op::Forward),
        2 => (any::<u8>(), any::<bool>(), prop::collection::vec(edit(), 0..3))
            .prop_map(|(kind, outbound, edits)| Op::Error { kind, outbound, edits }),
        1 => any::<u16>().prop_map(|milliseconds| Op::Wait { milliseconds }),
    ]
}

fn setup() -> impl Strategy<Value = Setup> {
    (any::<[u8; 4]>(), any::<[u8; 4]>(), any::<u8>(), 1..=64_usize)
        .prop_map(|(rules, actions, syncookies, batch)| Setup { rules, actions, syncookies, batch })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_session_keeps_the_promises(
        setup in setup(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        run(setup, &ops);
    }

    #[test]
    fn same_inputs_same_outputs(setup in setup(), ops in prop::collection::vec(op(), 1..60)) {
        let (first, second) = (run(setup, &ops), run(setup, &ops));
        prop_assert_eq!(first.record, second.record);
        prop_assert_eq!(first.outputs, second.outputs);
    }

    #[test]
    fn octets_of_the_fuzzer_are_sessions(input in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Some((setup, ops)) = decode(&input) {
            run(setup, &ops);
        }
    }
}
