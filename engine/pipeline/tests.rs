use super::*;

/// A flow must not grow unnoticed: a million of them are in memory where there are so many.
#[test]
fn a_flow_takes_what_it_takes() {
    let flow_bytes = FlowTable::<FlowState>::FLOW_BYTES;
    assert!(flow_bytes <= 256, "{flow_bytes}");
}
