use super::*;

/// The size of a flow must not grow unnoticed: memory may hold a million of them.
#[test]
fn a_flow_takes_what_it_takes() {
    let flow_bytes = FlowTable::<FlowState>::FLOW_BYTES;
    assert!(flow_bytes <= 256, "{flow_bytes}");
}
